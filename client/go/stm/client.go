package stm

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"stmd.dev/client/go/internal/stmv1"
)

const (
	addressDefault            = "127.0.0.1:7440"
	unavailableTimeoutDefault = 10 * time.Second
)

// Client is a connection to stmd: one stream that carries every read and commit, pinned to one daemon, mended unseen
// when it breaks. For any goroutine.
type Client struct {
	options   connectConfig
	names     names
	codec     codec
	position  *position
	transport *transport
	session   *sessions
	ctx       context.Context // done: it is closed
	cancel    context.CancelCauseFunc
	running   goroutines // what goes on behind its calls
	closing   sync.Once
}

// Connect waits for a daemon that is ready, UnavailableTimeout at most, or until ctx is done.
func Connect(ctx context.Context, options ...ConnectOption) (*Client, error) {
	config := connectConfig{unavailableTimeout: unavailableTimeoutDefault}
	for _, option := range options {
		option(&config)
	}
	if config.address == "" {
		config.address = os.Getenv("STM_ADDRESS")
	}
	if config.address == "" {
		config.address = addressDefault
	}
	if config.clientName == "" {
		config.clientName = filepath.Base(os.Args[0])
	}
	if config.warn == nil {
		config.warn = warnBySlog
	}
	config.prefix = strings.TrimRight(config.prefix, "/")
	if config.prefix != "" {
		if err := checkName(config.prefix); err != nil {
			return nil, err
		}
		if strings.Contains(config.prefix, "/.") {
			return nil, badAddress("prefix " + config.prefix + ` has a segment that begins with ".": choose another`)
		}
	}
	var addresses []string
	for _, part := range strings.Split(config.address, ",") {
		address := strings.TrimSpace(part)
		if address == "" {
			continue
		}
		if !strings.HasPrefix(address, "unix:") && !strings.Contains(address, ":") {
			return nil, badAddress(
				`address "` + address + `" has no port: write host:port, as ` + addressDefault + ", or unix:/path",
			)
		}
		addresses = append(addresses, address)
	}
	if len(addresses) == 0 {
		return nil, badAddress("no address: write host:port, or several by comma")
	}
	c := &Client{
		options:  config,
		names:    names{config.prefix},
		codec:    codec{keywordKeys: config.keywordKeys},
		position: &position{},
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.transport = &transport{
		addresses: addresses,
		position:  c.position,
		names:     c.names,
		dial:      config.dial,
		ctx:       c.ctx,
		running:   &c.running,
	}
	c.session = newSessions(c)
	if _, err := c.link(ctx, time.Now().Add(config.unavailableTimeout), nil); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// goroutines are those that outlive the call that began them, until Close waits for them.
type goroutines struct {
	mu    sync.Mutex
	ended bool
	all   sync.WaitGroup
}

// begin starts all or, once they are to end, none.
func (g *goroutines) begin(all ...func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		return false
	}
	g.all.Add(len(all))
	for _, one := range all {
		go func() {
			defer g.all.Done()
			one()
		}()
	}
	return true
}

// end waits for all, which are to end by themselves, and lets no other begin.
func (g *goroutines) end() {
	g.mu.Lock()
	g.ended = true
	g.mu.Unlock()
	g.all.Wait()
}

func badAddress(message string) error {
	wrong := badValue(message).(*Error)
	wrong.Name = "address"
	return wrong
}

// Close gives up the session, with its locks and ephemeral entries, and ends what waits: with ErrClosed. It returns
// when nothing is left running, at most about 1 s later, and always nil.
func (c *Client) Close() error {
	c.closing.Do(func() {
		c.session.close()
		c.cancel(ErrClosed)
		c.running.end()
	})
	return nil
}

// SeenVersion is the newest version that this client knows.
func (c *Client) SeenVersion() int64 { return c.position.get().seen }

// DaemonAddress is of the daemon that it is pinned to.
func (c *Client) DaemonAddress() string { return c.transport.address() }

// Outcome tells what became of a commit whose outcome was unknown, by the OutcomeWord of its error: committed, as which
// version; or that it never was and never will be. ErrCommitUnknown: too long ago to tell.
func (c *Client) Outcome(ctx context.Context, word string) (version int64, committed bool, err error) {
	if err := checkOutside(ctx, "Client.Outcome"); err != nil {
		return 0, false, err
	}
	id, err := parseOutcomeWord(word)
	if err != nil {
		return 0, false, err
	}
	outcome, err := c.getOutcome(ctx, id)
	if err != nil {
		return 0, false, err
	}
	switch outcome.GetOutcome().(type) {
	case *stmv1.CommitResponse_Committed:
		return outcome.GetCommitted().GetVersion(), true, nil
	case *stmv1.CommitResponse_Conflict, *stmv1.CommitResponse_Rejected, *stmv1.CommitResponse_FenceLost,
		*stmv1.CommitResponse_NotCommitted:
		return 0, false, nil
	}
	return 0, false, commitUnknown(id, "it was sent too long ago for the daemon to tell", nil)
}

// List is what is there under a prefix ("/jobs/"), by name, all of one snapshot.
func (c *Client) List(ctx context.Context, prefix string) ([]Entry, error) {
	if err := checkOutside(ctx, "Client.List"); err != nil {
		return nil, err
	}
	if err := checkPrefix(prefix); err != nil {
		return nil, err
	}
	for {
		entries, err := pagesOf(func(token string) (*stmv1.ListRefsResponse, error) {
			answer, err := c.ask(ctx, func(call *stmv1.PipelineCall) {
				call.Request = &stmv1.PipelineCall_List{
					List: &stmv1.ListRefsRequest{Prefix: c.names.full(prefix), PageToken: token,
						At: &stmv1.ReadPoint{Seen: c.position.seen()}},
				}
			})
			return answer.GetList(), err
		})
		// Begun again where the pages' snapshot was trimmed, or the store changed, meanwhile.
		if reason := reasonOf(err); reason == ReasonSnapshotTooOld || reason == ReasonStoreChanged {
			continue
		}
		if err != nil {
			return nil, err
		}
		return c.entriesOf(entries)
	}
}

func (c *Client) entriesOf(wire []*stmv1.Entry) ([]Entry, error) {
	entries := make([]Entry, 0, len(wire))
	for _, one := range wire {
		name := c.names.short(one.GetName())
		value, err := c.codec.decodeUntyped(name, one.GetValue())
		if err != nil {
			return nil, err
		}
		entries = append(entries, Entry{Name: name, Value: value, Version: one.GetVersion(), IsAtom: isAtom(one)})
	}
	return entries, nil
}

// View reads the past: all its reads are of one version. ErrSnapshotTooOld: that is no longer kept. For any goroutine.
type View struct {
	client  *Client
	store   uint64 // the versions are of this one
	instant *timestamppb.Timestamp

	asking  sync.Mutex // held while an instant becomes a version
	mu      sync.Mutex
	version int64
	known   bool
}

// At is the store at a version; 0: before the first commit.
func (c *Client) At(version int64) *View {
	return &View{client: c, store: c.position.get().store, version: version, known: true}
}

// AtTime is the store at the newest version at or before a moment, which its first read finds out.
func (c *Client) AtTime(moment time.Time) *View {
	return &View{client: c, store: c.position.get().store, instant: timestamppb.New(moment)}
}

// Version is what it reads at; 0: not known before the first read.
func (v *View) Version() int64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.version
}

// ask makes a request by fill, which says when to read.
func (v *View) ask(
	ctx context.Context,
	fill func(*stmv1.PipelineCall, *stmv1.ReadPoint),
	snapshot func(*stmv1.PipelineAnswer) int64,
) (*stmv1.PipelineAnswer, error) {
	if err := checkOutside(ctx, "reading a View"); err != nil {
		return nil, err
	}
	seen := func() *stmv1.Seen {
		seen := v.client.position.seen()
		seen.Store = v.store
		return seen
	}
	v.mu.Lock()
	known := v.known
	v.mu.Unlock()
	if !known {
		v.asking.Lock()
		defer v.asking.Unlock()
	}
	v.mu.Lock()
	known, version := v.known, v.version
	v.mu.Unlock()
	answer, err := v.client.ask(ctx, func(call *stmv1.PipelineCall) {
		at := &stmv1.ReadPoint{Seen: seen()}
		if known {
			at.At = &stmv1.ReadPoint_Version{Version: version}
		} else {
			at.At = &stmv1.ReadPoint_Instant{Instant: v.instant}
		}
		fill(call, at)
	})
	if err == nil && !known {
		v.mu.Lock()
		v.version, v.known = snapshot(answer), true
		v.mu.Unlock()
	}
	return answer, err
}

func (v *View) read(ctx context.Context, h *handle) (*stmv1.Value, error) {
	if err := h.check(ctx, "reading a View"); err != nil {
		return nil, err
	}
	answer, err := v.ask(ctx, func(call *stmv1.PipelineCall, at *stmv1.ReadPoint) {
		call.Request = &stmv1.PipelineCall_Get{
			Get: &stmv1.GetRefsRequest{Names: []string{v.client.names.full(h.name)}, At: at},
		}
	}, func(answer *stmv1.PipelineAnswer) int64 { return answer.GetGet().GetSnapshot() })
	if err != nil {
		return nil, err
	}
	if len(answer.GetGet().GetEntries()) != 1 {
		return nil, internalError(h.name + ": the daemon's answer lacks it: report this")
	}
	return present(answer.GetGet().GetEntries()[0].GetValue()), nil
}

// List is what was there under a prefix, by name.
func (v *View) List(ctx context.Context, prefix string) ([]Entry, error) {
	entries, err := v.pages(ctx, prefix, false)
	if err != nil {
		return nil, err
	}
	return v.client.entriesOf(entries)
}

// Names is List without values.
func (v *View) Names(ctx context.Context, prefix string) ([]string, error) {
	entries, err := v.pages(ctx, prefix, true)
	if err != nil {
		return nil, err
	}
	all := make([]string, 0, len(entries))
	for _, entry := range entries {
		all = append(all, v.client.names.short(entry.GetName()))
	}
	slices.Sort(all)
	return all, nil
}

func (v *View) pages(ctx context.Context, prefix string, namesOnly bool) ([]*stmv1.Entry, error) {
	if err := checkPrefix(prefix); err != nil {
		return nil, err
	}
	return pagesOf(func(token string) (*stmv1.ListRefsResponse, error) {
		answer, err := v.ask(ctx, func(call *stmv1.PipelineCall, at *stmv1.ReadPoint) {
			call.Request = &stmv1.PipelineCall_List{
				List: &stmv1.ListRefsRequest{Prefix: v.client.names.full(prefix), PageToken: token,
					NamesOnly: namesOnly, At: at},
			}
		}, func(answer *stmv1.PipelineAnswer) int64 { return answer.GetList().GetSnapshot() })
		return answer.GetList(), err
	})
}
