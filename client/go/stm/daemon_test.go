package stm

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"regexp"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

var addressInEDN = regexp.MustCompile(`:stmd/address "([^"]+)"`)

// startDaemon runs the stmd that STMD names, in memory, until the test ends.
func startDaemon(t *testing.T) (context.Context, *grpc.ClientConn) {
	t.Helper()
	program := os.Getenv("STMD")
	if program == "" {
		t.Fatal("STMD is not set: give it the path of a built stmd, or run client/go/test PATH")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	daemon := exec.CommandContext(ctx, program, "--ephemeral")
	input, err := daemon.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := daemon.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := input.Close(); err != nil {
			t.Error(err)
		}
		if err := daemon.Wait(); err != nil {
			t.Errorf("stmd ended with %v", err)
		}
		cancel()
	})
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	found := addressInEDN.FindStringSubmatch(line)
	if found == nil {
		t.Fatalf("no address in %q", line)
	}
	connection, err := grpc.NewClient(found[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := connection.Close(); err != nil {
			t.Error(err)
		}
	})
	return ctx, connection
}
