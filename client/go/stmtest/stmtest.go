// Package stmtest runs stmd for tests: in memory on a port of its own, until the test ends.
//
//	func TestHello(t *testing.T) {
//		client := stmtest.Start(t).Client()
//		...
//	}
package stmtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"stmd.dev/client/go/stm"
)

// How long a daemon may take to say where it listens, and to end.
const patience = 30 * time.Second

var addressInEDN = regexp.MustCompile(`:stmd/address "([^"]+)"`)

type config struct {
	program string
	flags   []string
	dataDir string
}

// Option changes how Start runs the daemon.
type Option func(*config)

// Program is that of the daemon. Without it: the environment's STMD, else stmd on PATH.
func Program(path string) Option { return func(c *config) { c.program = path } }

// Flags are more of stmd's, as "--id-table-bytes=65536".
func Flags(flags ...string) Option { return func(c *config) { c.flags = append(c.flags, flags...) } }

// DataDir keeps a durable store there, which a Restart finds again at the same address. Without it: in memory.
func DataDir(path string) Option { return func(c *config) { c.dataDir = path } }

// Daemon is an stmd for tests. It ends with the test, or with the test's process, whatever becomes of that. For the
// test's goroutine.
type Daemon struct {
	t       testing.TB
	config  config
	address string
	process *exec.Cmd
	input   io.Closer // its end is the daemon's
	ended   chan error
}

// Start waits until the daemon says where it listens, and fails the test if it does not. It is stopped when the test
// ends, after clients that Client made.
func Start(t testing.TB, options ...Option) *Daemon {
	t.Helper()
	d := &Daemon{t: t}
	for _, option := range options {
		option(&d.config)
	}
	if d.config.program == "" {
		d.config.program = os.Getenv("STMD")
	}
	if d.config.program == "" {
		d.config.program = "stmd"
	}
	if err := d.launch(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if d.process == nil {
			return
		}
		if err := d.Stop(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// Address is where it listens: what stm.Address takes.
func (d *Daemon) Address() string { return d.address }

// Client is a new client of this daemon, closed when the test ends.
func (d *Daemon) Client(options ...stm.ConnectOption) *stm.Client {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client, err := stm.Connect(
		ctx,
		append([]stm.ConnectOption{stm.Address(d.address), stm.ClientName(d.t.Name())}, options...)...)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = client.Close() }) // which never fails
	return client
}

// lastLines keeps the end of what a daemon says, for who asks why it ended.
type lastLines struct {
	mu   sync.Mutex
	text []byte
}

const saidMax = 4096 // bytes

func (l *lastLines) Write(more []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, more...)
	l.text = l.text[max(len(l.text)-saidMax, 0):]
	return len(more), nil
}

func (l *lastLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.TrimSpace(string(l.text))
}

func (d *Daemon) launch() error {
	durable := d.config.dataDir != ""
	listen, where := d.address, []string{"--ephemeral"}
	if durable {
		where = []string{"--data-dir", d.config.dataDir}
	}
	if listen == "" && durable {
		// It says nothing on standard output, so the port is chosen here.
		free, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("stmtest: %w", err)
		}
		listen = free.Addr().String()
		if err := free.Close(); err != nil {
			return fmt.Errorf("stmtest: %w", err)
		}
	}
	if listen != "" {
		where = append(where, "--listen", listen)
	}
	process := exec.Command(d.config.program, append(append(where, "--http", "off"), d.config.flags...)...)
	dieWithUs(process)
	said := &lastLines{}
	process.Stderr = said
	input, err := process.StdinPipe()
	if err != nil {
		return fmt.Errorf("stmtest: %w", err)
	}
	output, err := process.StdoutPipe()
	if err != nil {
		return fmt.Errorf("stmtest: %w", err)
	}
	found, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		// Its thread lives as long as the daemon does, which is ended with it.
		runtime.LockOSThread()
		if err := process.Start(); err != nil {
			ended <- fmt.Errorf("%w: set STMD to a built stmd, or put one on PATH", err)
			return
		}
		if durable {
			found <- listen // who connects waits until it is ready
		}
		for lines := bufio.NewScanner(output); lines.Scan(); {
			if address := addressInEDN.FindStringSubmatch(lines.Text()); address != nil && len(found) == 0 {
				found <- address[1]
			}
		}
		ended <- process.Wait()
	}()
	select {
	case d.address = <-found:
		d.process, d.input, d.ended = process, input, ended
		return nil
	case err := <-ended:
		return fmt.Errorf("stmtest: %s ended before it said where it listens (%w): %s", d.config.program, err, said)
	case <-time.After(patience):
		_ = input.Close() // which ends it
		return fmt.Errorf("stmtest: %s did not say in %v where it listens: %s", d.config.program, patience, said)
	}
}

// Stop ends it in order, and waits for it.
func (d *Daemon) Stop() error {
	if d.process == nil {
		return errors.New("stmtest: the daemon does not run: Restart starts it again")
	}
	process := d.process
	d.process = nil
	if d.config.dataDir != "" {
		_ = process.Process.Signal(syscall.SIGTERM) // it may have ended
	}
	_ = d.input.Close()
	select {
	case err := <-d.ended:
		if err != nil {
			return fmt.Errorf("stmtest: stmd ended with %w", err)
		}
		return nil
	case <-time.After(patience):
		_ = process.Process.Kill()
		<-d.ended
		return fmt.Errorf("stmtest: stmd did not end in %v", patience)
	}
}

// Kill is kill -9, and waits for it.
func (d *Daemon) Kill() {
	d.t.Helper()
	if d.process == nil {
		d.t.Fatal("stmtest: the daemon does not run: Restart starts it again")
	}
	_ = d.process.Process.Kill() // it may have ended
	<-d.ended
	d.process = nil
}

// Restart is after Stop or Kill: the same flags, data directory and address.
func (d *Daemon) Restart() {
	d.t.Helper()
	if d.process != nil {
		d.t.Fatal("stmtest: the daemon runs: Stop or Kill it first")
	}
	if err := d.launch(); err != nil {
		d.t.Fatal(err)
	}
}
