package stm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"stmd.dev/client/go/internal/stmv1"
)

const (
	backoffMin        = 10 * time.Millisecond
	backoffMax        = time.Second
	connectAttemptMax = 3 * time.Second
	probeAfter        = 5 * time.Second
	probeTimeout      = 5 * time.Second
	probeLookEvery    = time.Second
	// The daemon refuses more calls in a message.
	messageCallsMax = 1024
	// Calls are gathered up to this; one that is larger goes alone.
	messageBytesMax = 1 << 20
	// An answer is at most what one transaction may read: the daemon bounds it, and tells its own limits by name.
	receiveBytesMax = 256 << 20
)

// callEnd is how one call on the stream ended.
type callEnd int

const (
	endBroken callEnd = iota
	endAnswered
	endContext // the caller's time is up, or it was cancelled
)

type callResult struct {
	end    callEnd
	sent   bool                  // it may have reached the daemon
	answer *stmv1.PipelineAnswer // of endAnswered
	cause  error                 // of endBroken
}

// pending is a call on its way: queued, sent, ended.
type pending struct {
	call   *stmv1.PipelineCall
	bytes  int
	done   chan struct{} // closed once result is there
	result callResult
}

func (p *pending) end(result callResult) {
	p.result = result
	close(p.done)
}

// link is one connection, from its making to its break: a channel, and on it the stream that carries gets, lists,
// commits and awaits. Everything that is ready goes into the next message. One that broke never works again.
type link struct {
	address  string
	conn     *grpc.ClientConn
	stream   stmv1.TransactionService_PipelineClient
	position *position
	ctx      context.Context // done: it is broken; its cause says why
	cancel   context.CancelCauseFunc
	heard    atomic.Int64 // when the daemon said something last, in nanoseconds of the wall clock
	waiters  atomic.Int64 // calls that wait for an answer
	wake     chan struct{}

	mu    sync.Mutex
	dead  bool
	next  uint64
	queue []*pending
	sent  map[uint64]*pending
}

func (l *link) alive() bool { return l.ctx.Err() == nil }

func (l *link) fail(cause error) { l.cancel(cause) }

func (l *link) cause() error { return context.Cause(l.ctx) }

func (l *link) hear() { l.heard.Store(time.Now().UnixNano()) }

func (l *link) silence() time.Duration { return time.Duration(time.Now().UnixNano() - l.heard.Load()) }

// call blocks until it is answered, or the link breaks, or ctx is done.
func (l *link) call(ctx context.Context, call *stmv1.PipelineCall) callResult {
	p := &pending{call: call, bytes: proto.Size(call), done: make(chan struct{})}
	if !l.enqueue(p) {
		return callResult{end: endBroken, cause: l.cause()}
	}
	l.waiters.Add(1)
	defer l.waiters.Add(-1)
	select {
	case <-p.done:
		return p.result
	case <-ctx.Done():
	}
	sent := l.giveUp(p)
	select {
	case <-p.done: // it came after all
		return p.result
	default:
		return callResult{end: endContext, sent: sent}
	}
}

// enqueue is false if the link is broken, and nothing was sent.
func (l *link) enqueue(p *pending) bool {
	l.mu.Lock()
	if l.dead || !l.alive() {
		l.mu.Unlock()
		return false
	}
	l.next++
	p.call.Call = l.next
	l.queue = append(l.queue, p)
	l.mu.Unlock()
	l.poke()
	return true
}

func (l *link) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// giveUp is of a call whose caller waits no longer. False: it was never sent, and never will be.
func (l *link) giveUp(p *pending) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at := slices.Index(l.queue, p); at >= 0 {
		l.queue = slices.Delete(l.queue, at, at+1)
		return false
	}
	number := p.call.GetCall()
	if l.sent[number] != p {
		return true
	}
	delete(l.sent, number)
	if p.call.GetCommit() == nil && !l.dead {
		l.next++
		cancel := &stmv1.PipelineCall{Call: l.next, Request: &stmv1.PipelineCall_Cancel{Cancel: number}}
		l.queue = append(l.queue, &pending{call: cancel, bytes: proto.Size(cancel)})
		l.poke()
	}
	return true
}

// gather moves what is ready into one message.
func (l *link) gather() *stmv1.PipelineRequest {
	l.mu.Lock()
	defer l.mu.Unlock()
	request := &stmv1.PipelineRequest{}
	bytes, taken := 0, 0
	for _, p := range l.queue {
		if taken == messageCallsMax || taken > 0 && bytes+p.bytes > messageBytesMax {
			break
		}
		taken++
		bytes += p.bytes
		request.Calls = append(request.Calls, p.call)
		if p.done != nil {
			l.sent[p.call.GetCall()] = p
		}
	}
	l.queue = slices.Delete(l.queue, 0, taken)
	return request
}

func (l *link) send() {
	for {
		select {
		case <-l.wake:
		case <-l.ctx.Done():
			return
		}
		for {
			request := l.gather()
			if len(request.GetCalls()) == 0 {
				break
			}
			// An error here is told by Recv.
			if l.stream.Send(request) != nil {
				return
			}
		}
	}
}

func (l *link) receive(names names) {
	for {
		response, err := l.stream.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = status.Error(codes.Unavailable, "the daemon ended the stream")
			}
			l.fail(errorFromStatus(err, names))
			break
		}
		l.hear()
		// One look at the position for the message: its newest header counts.
		var newest *stmv1.Header
		for _, answer := range response.GetAnswers() {
			if header := headerOf(answer); header != nil &&
				(newest == nil || header.GetInstalledVersion() >= newest.GetInstalledVersion()) {
				newest = header
			}
		}
		if newest != nil {
			l.position.observe(newest)
		}
		l.mu.Lock()
		for _, answer := range response.GetAnswers() {
			if p := l.sent[answer.GetCall()]; p != nil {
				delete(l.sent, answer.GetCall())
				p.end(callResult{end: endAnswered, sent: true, answer: answer})
			}
		}
		l.mu.Unlock()
	}
	l.mu.Lock()
	l.dead = true
	queue, sent := l.queue, l.sent
	l.queue, l.sent = nil, nil
	l.mu.Unlock()
	for _, p := range queue {
		if p.done != nil {
			p.end(callResult{end: endBroken, cause: l.cause()})
		}
	}
	for _, p := range sent {
		p.end(callResult{end: endBroken, sent: true, cause: l.cause()})
	}
	_ = l.conn.Close() // what it could say, the stream has said
}

func headerOf(answer *stmv1.PipelineAnswer) *stmv1.Header {
	if header := answer.GetError().GetHeader(); header != nil {
		return header
	}
	switch response := answer.GetResponse().(type) {
	case *stmv1.PipelineAnswer_Get:
		return response.Get.GetHeader()
	case *stmv1.PipelineAnswer_List:
		return response.List.GetHeader()
	case *stmv1.PipelineAnswer_Commit:
		return response.Commit.GetHeader()
	case *stmv1.PipelineAnswer_Await:
		return response.Await.GetHeader()
	}
	return nil
}

// watchSilence asks a daemon that is silent while somebody waits for its status; without an answer the link is broken.
func (l *link) watchSilence() {
	ticker := time.NewTicker(probeLookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-l.ctx.Done():
			return
		}
		if l.waiters.Load() > 0 && !l.probe() {
			l.fail(unavailable(fmt.Sprintf("%s did not answer for %v", l.address, probeAfter+probeTimeout)))
			return
		}
	}
}

// probe is false if a daemon that was silent for probeAfter does not answer within probeTimeout.
func (l *link) probe() bool {
	if l.silence() < probeAfter {
		return true
	}
	l.hear() // one asks for all who wait
	ctx, cancel := context.WithTimeout(l.ctx, probeTimeout)
	defer cancel()
	_, err := stmv1.NewAdminServiceClient(l.conn).GetStatus(ctx, &stmv1.GetStatusRequest{})
	return err == nil
}

// transport is the connection to one daemon out of several. One link is in use at a time.
type transport struct {
	addresses []string
	position  *position
	names     names
	dial      []grpc.DialOption
	ctx       context.Context // of the client
	running   *goroutines     // of the client
	current   atomic.Pointer[link]

	mu         sync.Mutex
	connecting chan struct{} // closed when the one who connects is done; nil: nobody does
	pinned     int
	last       error
}

// address is the one that is in use, or was last.
func (t *transport) address() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.addresses[t.pinned]
}

// leave breaks the link, if there is another daemon to go to: get tries that one first.
func (t *transport) leave(l *link, cause error) {
	if len(t.addresses) == 1 {
		return
	}
	t.mu.Lock()
	if t.current.Load() == l {
		t.pinned = (t.pinned + 1) % len(t.addresses)
	}
	t.mu.Unlock()
	l.fail(cause)
}

// get gives a link that works, connecting if need be; it waits for a daemon that is ready, until then (zero: for ever).
// A failure names the addresses and the last cause, or is ctx's own, or ErrClosed.
func (t *transport) get(ctx context.Context, until time.Time) (*link, error) {
	for {
		if l := t.current.Load(); l != nil && l.alive() {
			return l, nil
		}
		if err := t.over(ctx); err != nil {
			return nil, err
		}
		t.mu.Lock()
		if l := t.current.Load(); l != nil && l.alive() {
			t.mu.Unlock()
			return l, nil
		}
		other := t.connecting
		mine := make(chan struct{})
		if other == nil {
			t.connecting = mine
		}
		t.mu.Unlock()
		if other == nil {
			l, err := t.connect(ctx, until)
			t.mu.Lock()
			t.connecting = nil
			if err == nil {
				t.current.Store(l)
			} else {
				t.last = err
			}
			t.mu.Unlock()
			close(mine)
			return l, err
		}
		timeout, stop := timerUntil(until)
		select {
		case <-other:
		case <-ctx.Done():
		case <-t.ctx.Done():
		case <-timeout:
			stop()
			t.mu.Lock()
			last := t.last
			t.mu.Unlock()
			if last == nil || !isTransient(last) {
				last = unavailable("connecting took too long: is stmd running?")
			}
			return nil, last
		}
		stop()
	}
}

// over is ErrClosed, or that ctx is done.
func (t *transport) over(ctx context.Context) error {
	if t.ctx.Err() != nil {
		return ErrClosed
	}
	return ctx.Err()
}

func timerUntil(until time.Time) (<-chan time.Time, func()) {
	if until.IsZero() {
		return nil, func() {}
	}
	timer := time.NewTimer(time.Until(until))
	return timer.C, func() { timer.Stop() }
}

func (t *transport) connect(ctx context.Context, until time.Time) (*link, error) {
	began, backoff := time.Now(), backoffMin
	passed := func() bool { return !until.IsZero() && !time.Now().Before(until) }
	t.mu.Lock()
	first := t.pinned
	t.mu.Unlock()
	for {
		var last error
		for i := range t.addresses {
			if err := t.over(ctx); err != nil {
				return nil, err
			}
			at := (first + i) % len(t.addresses)
			l, err := t.try(ctx, t.addresses[at], until)
			if err == nil {
				t.mu.Lock()
				t.pinned = at
				t.mu.Unlock()
				return l, nil
			}
			last = err
			if passed() {
				break
			}
		}
		if err := t.over(ctx); err != nil {
			return nil, err
		}
		pause := between(backoff/2, backoff)
		if !until.IsZero() && pause >= time.Until(until) {
			all := strings.Join(t.addresses, ",")
			return nil, &Error{
				Reason:    ReasonUnavailable,
				Name:      all,
				Found:     last.Error(),
				Retryable: true,
				code:      codes.Unavailable,
				Message: fmt.Sprintf(
					"no stmd at %s for %v: %v: start stmd there, or set STM_ADDRESS to where it runs",
					all,
					time.Since(began).Truncate(time.Millisecond),
					last,
				),
			}
		}
		if !t.sleep(ctx, pause) {
			continue
		}
		backoff = min(2*backoff, backoffMax)
	}
}

// sleep is false if ctx was done, or the client closed, meanwhile.
func (t *transport) sleep(ctx context.Context, duration time.Duration) bool {
	if duration <= 0 {
		return t.over(ctx) == nil
	}
	timer := time.NewTimer(duration)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-t.ctx.Done():
	}
	return false
}

// between is a duration by chance.
func between(low, high time.Duration) time.Duration {
	if high <= low {
		return low
	}
	return low + rand.N(high-low)
}

// try is one connection of its own: the backing off is ours.
func (t *transport) try(ctx context.Context, address string, until time.Time) (*link, error) {
	target := address
	if !strings.HasPrefix(address, "unix:") {
		target = "passthrough:///" + address
	}
	options := append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(receiveBytesMax),
			grpc.MaxCallSendMsgSize(math.MaxInt32)), // the daemon names the bound that is passed
	}, t.dial...)
	conn, err := grpc.NewClient(target, options...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", address, err)
	}
	attempt := connectAttemptMax
	if !until.IsZero() {
		attempt = min(attempt, time.Until(until))
	}
	asking, stop := context.WithTimeout(ctx, attempt)
	defer stop()
	defer context.AfterFunc(t.ctx, stop)()
	answer, err := stmv1.NewAdminServiceClient(conn).GetStatus(asking, &stmv1.GetStatusRequest{})
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("%s: %s", address, status.Convert(err).Message())
	}
	if !answer.GetReady() {
		_ = conn.Close()
		return nil, fmt.Errorf("%s is not ready: %s", address, answer.GetNotReadyBecause())
	}
	made := &link{
		address:  address,
		conn:     conn,
		position: t.position,
		wake:     make(chan struct{}, 1),
		sent:     map[uint64]*pending{},
	}
	made.ctx, made.cancel = context.WithCancelCause(t.ctx)
	made.stream, err = stmv1.NewTransactionServiceClient(conn).Pipeline(made.ctx)
	if err != nil {
		made.cancel(err)
		_ = conn.Close()
		return nil, fmt.Errorf("%s: %s", address, status.Convert(err).Message())
	}
	t.position.adopt(answer.GetHeader())
	made.hear()
	if !t.running.begin(made.send, func() { made.receive(t.names) }, made.watchSilence) {
		made.cancel(ErrClosed)
		_ = conn.Close()
		return nil, ErrClosed
	}
	return made, nil
}
