package stm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"stmd.dev/client/go/internal/stmv1"
)

const (
	closeMax = time.Second
	// Of closing, in the background, a session that this client believes in no more.
	closeDroppedMax = 10 * time.Second
	// The client stops believing so much of the TTL before the daemon does: for clocks that do not run alike.
	marginPart = 10
	marginMax  = time.Second
	beatsInTTL = 3
	// A beat that is not answered for so long, or for the time between beats if that is longer, broke its connection.
	answerMin = time.Second
	// The longest sleep that a clock which stood still in suspend may prolong.
	sleepMax = time.Second
	// Streams in a row that ended by the daemon's own word before another daemon is tried.
	refusalsMax  = 2
	lostEarlyMax = 1024
	clientMax    = 256 // bytes of what people are shown: the daemon's bound
)

// lease is one session of the daemon's, as this client believes in it: until the sending of the newest answered beat,
// and the TTL less a margin. Then it is over for good.
type lease struct {
	id     string
	ttl    time.Duration
	margin time.Duration
	ctx    context.Context // done: it is over
	cancel context.CancelCauseFunc

	mu    sync.Mutex
	until time.Duration // by bootTime
}

func newLease(id string, ttl, sent time.Duration) *lease {
	made := &lease{id: id, ttl: ttl, margin: min(ttl/marginPart, marginMax)}
	made.until = sent + ttl - made.margin
	made.ctx, made.cancel = context.WithCancelCause(context.Background())
	return made
}

// over, once true, stays so, whatever is answered later.
func (l *lease) over() bool {
	l.mu.Lock()
	passed := bootTime() >= l.until
	l.mu.Unlock()
	if passed {
		l.end()
	}
	return l.ctx.Err() != nil
}

func (l *lease) left() time.Duration {
	if l.over() {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(l.until-bootTime(), 0)
}

// answered is of a beat that was sent then. Whoever asked meanwhile may have been told that it is over.
func (l *lease) answered(sent time.Duration) {
	if l.over() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.until = max(l.until, sent+l.ttl-l.margin)
}

func (l *lease) end() {
	l.cancel(&Error{Reason: ReasonSessionExpired, code: codes.FailedPrecondition,
		Message: "the session is over: the next lock or ephemeral entry opens another"})
}

// grant is what a Held shares with the session that may lose it.
type grant struct {
	lease  *lease
	lock   string // as the daemon names it
	name   string // as the client does
	owner  string
	ctx    context.Context // done: it was lost or released
	cancel context.CancelCauseFunc

	releasing sync.Mutex
	release   callID // guarded by releasing

	mu       sync.Mutex
	token    int64
	released bool
}

func (g *grant) tokenNow() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.token
}

func (g *grant) setToken(token int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.token = token
}

func (g *grant) over() bool { return g.lease.over() || g.ctx.Err() != nil }

func (g *grant) lose() { g.cancel(lockLostError(g.name, "is gone")) }

var errReleased = errors.New("stm: the lock was released")

func (g *grant) markReleased() {
	g.mu.Lock()
	g.released = true
	g.mu.Unlock()
	g.cancel(errReleased)
}

func (g *grant) wasReleased() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.released
}

type token struct {
	lock  string
	token int64
}

// sessions is what a client holds locks and ephemeral entries by: one lease at a time, opened when it is first needed
// and kept by beats on a stream of its own. When one is over, every grant of it is, and the next need opens another.
// What a commit may do is decided by fences, whatever is believed here.
type sessions struct {
	client *Client
	ctx    context.Context // done: the client is closing
	cancel context.CancelFunc

	mu        sync.Mutex
	changed   chan struct{} // closed and made anew when lease, opening or keeping changes
	lease     *lease
	opening   bool
	keeping   bool
	grants    map[token][]*grant
	lostEarly map[token]bool
	lostOrder []token
	keeper    sync.WaitGroup
}

func newSessions(c *Client) *sessions {
	made := &sessions{
		client:    c,
		changed:   make(chan struct{}),
		grants:    map[token][]*grant{},
		lostEarly: map[token]bool{},
	}
	made.ctx, made.cancel = context.WithCancel(c.ctx)
	return made
}

// tell wakes who waits; mu is held.
func (s *sessions) tell() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// get is the lease, opened if there is none.
func (s *sessions) get(ctx context.Context) (*lease, error) {
	for {
		if s.ctx.Err() != nil {
			return nil, ErrClosed
		}
		if ctx.Err() != nil {
			return nil, contextError(ctx, nil)
		}
		s.mu.Lock()
		changed, now, opening := s.changed, s.lease, s.opening
		if !opening && now == nil {
			s.opening = true
			s.mu.Unlock()
			break
		}
		s.mu.Unlock()
		if !opening {
			if !now.over() {
				return now, nil
			}
			s.drop(now, false)
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
		case <-s.ctx.Done():
		}
	}
	made, err := s.open(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opening = false
	s.tell()
	if err != nil {
		return nil, err
	}
	s.lease = made
	if !s.keeping && s.ctx.Err() == nil {
		s.keeping = true
		s.keeper.Add(1)
		go s.keep()
	}
	return made, nil
}

func (s *sessions) open(ctx context.Context) (*lease, error) {
	host, _ := os.Hostname() // "" is shown then
	text := fmt.Sprintf("%s/%s/%d", host, s.client.options.clientName, os.Getpid())
	id, first, call := "", time.Duration(0), callID{}
	answer, err := sendOnce(ctx, s.client, s.client.options.unavailableTimeout, nil, &call,
		func(ctx context.Context, conn *grpc.ClientConn, commit *stmv1.CommitId) (*stmv1.OpenSessionResponse, error) {
			request := &stmv1.OpenSessionRequest{Id: commit, Client: text[:min(len(text), clientMax)]}
			if s.client.options.sessionTTL != 0 {
				request.Ttl = durationpb.New(s.client.options.sessionTTL)
			}
			// Its lease began no earlier than the first send of its id.
			if id != commit.GetTransactionId() {
				id, first = commit.GetTransactionId(), bootTime()
			}
			return stmv1.NewSessionServiceClient(conn).OpenSession(ctx, request)
		})
	if err != nil {
		return nil, err
	}
	return newLease(answer.GetSessionId(), answer.GetTtl().AsDuration(), first), nil
}

// drop is of a lease that this client believes in no more. known: the daemon says so itself.
func (s *sessions) drop(of *lease, known bool) {
	of.end()
	s.mu.Lock()
	var lost []*grant
	for key, grants := range s.grants {
		for _, one := range grants {
			if one.lease == of {
				lost = append(lost, one)
			}
		}
		if len(grants) > 0 && grants[0].lease == of {
			delete(s.grants, key)
		}
	}
	if s.lease == of {
		s.lease = nil
		s.tell()
	} else {
		known = true // whoever dropped it first saw to that
	}
	s.mu.Unlock()
	for _, one := range lost {
		one.lose()
	}
	if known {
		return
	}
	_ = s.client.running.begin(func() { // after Close the session is over
		ctx, cancel := context.WithTimeout(s.ctx, closeDroppedMax)
		defer cancel()
		s.closeAtDaemon(ctx, of.id)
	})
}

func (s *sessions) add(one *grant) {
	key := token{one.lock, one.tokenNow()}
	s.mu.Lock()
	// Its lease may have been dropped meanwhile.
	lost := s.lostEarly[key] || s.lease != one.lease
	if !lost {
		s.grants[key] = append(s.grants[key], one)
	}
	s.mu.Unlock()
	if lost {
		one.lose()
	}
}

func (s *sessions) remove(one *grant) {
	key := token{one.lock, one.tokenNow()}
	s.mu.Lock()
	defer s.mu.Unlock()
	grants := s.grants[key]
	for i := range grants {
		if grants[i] == one {
			if grants = append(grants[:i:i], grants[i+1:]...); len(grants) == 0 {
				delete(s.grants, key)
			} else {
				s.grants[key] = grants
			}
			return
		}
	}
}

func (s *sessions) retoken(lock string, from, to int64) {
	s.mu.Lock()
	grants := s.grants[token{lock, from}]
	delete(s.grants, token{lock, from})
	s.mu.Unlock()
	for _, one := range grants {
		one.setToken(to)
		s.add(one)
	}
}

// lose is of a grant that the daemon says is gone.
func (s *sessions) lose(lock string, number int64) {
	key := token{lock, number}
	s.mu.Lock()
	lost := s.grants[key]
	delete(s.grants, key)
	if len(lost) == 0 && !s.lostEarly[key] {
		s.lostEarly[key] = true
		s.lostOrder = append(s.lostOrder, key)
		if len(s.lostOrder) > lostEarlyMax {
			delete(s.lostEarly, s.lostOrder[0])
			s.lostOrder = s.lostOrder[1:]
		}
	}
	s.mu.Unlock()
	for _, one := range lost {
		one.lose()
	}
}

// closeAtDaemon is tried once in the time of ctx: else the session's TTL ends it.
func (s *sessions) closeAtDaemon(ctx context.Context, id string) {
	call := callID{}
	_, _ = sendOnce(ctx, s.client, -1, nil, &call,
		func(ctx context.Context, conn *grpc.ClientConn, commit *stmv1.CommitId) (*stmv1.CloseSessionResponse, error) {
			return stmv1.NewSessionServiceClient(conn).
				CloseSession(ctx, &stmv1.CloseSessionRequest{Id: commit, SessionId: id})
		})
}

func (s *sessions) close() {
	s.cancel()
	s.mu.Lock()
	s.tell()
	s.mu.Unlock()
	s.keeper.Wait()
	s.mu.Lock()
	last := s.lease
	var held []*grant
	for _, grants := range s.grants {
		held = append(held, grants...)
	}
	s.lease, s.grants = nil, map[token][]*grant{}
	s.mu.Unlock()
	if last == nil {
		return
	}
	last.end()
	for _, one := range held {
		one.lose()
	}
	ctx, cancel := context.WithTimeout(s.client.ctx, closeMax)
	defer cancel()
	s.closeAtDaemon(ctx, last.id)
}

// ---- Beats

func (s *sessions) keep() {
	defer s.keeper.Done()
	for s.ctx.Err() == nil {
		s.mu.Lock()
		now, changed := s.lease, s.changed
		s.mu.Unlock()
		if now != nil {
			s.keepLease(now)
			continue
		}
		select {
		case <-changed:
		case <-s.ctx.Done():
		}
	}
}

func (s *sessions) keepLease(of *lease) {
	out := outage{limit: -1}
	refusals := 0
	for s.ctx.Err() == nil && !of.over() {
		l, err := s.client.transport.get(s.ctx, time.Now().Add(of.left()))
		failed := err
		if err == nil {
			answered := false
			answered, failed = s.beatOn(l, of)
			if answered {
				out.end()
				refusals = 0
			}
			if reasonOf(failed) == ReasonSessionExpired {
				s.drop(of, true)
				return
			}
			if refusals++; refusals >= refusalsMax && l.alive() {
				s.client.transport.leave(l, failed)
				refusals = 0
			}
		}
		out.fail(failed)
		s.client.transport.sleep(s.ctx, min(out.pause(nil), of.left()))
	}
	if s.ctx.Err() == nil {
		s.drop(of, false)
	}
}

func overAtDaemon() error {
	return &Error{
		Reason:  ReasonSessionExpired,
		Message: "the daemon says that the session is over",
		code:    codes.NotFound,
	}
}

// beatOn keeps the lease on one stream until that ends. answered: a beat was.
func (s *sessions) beatOn(l *link, of *lease) (answered bool, failed error) {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	defer context.AfterFunc(l.ctx, cancel)()
	stream, err := stmv1.NewSessionServiceClient(l.conn).KeepAlive(ctx)
	if err != nil {
		return false, errorFromStatus(err, s.client.names)
	}
	beats := make(chan *stmv1.KeepAliveRequest, 1)
	answers := make(chan *stmv1.KeepAliveResponse)
	ended := make(chan error, 1)
	var both sync.WaitGroup
	both.Add(2)
	defer both.Wait()
	defer cancel()
	go func() {
		defer both.Done()
		for {
			select {
			case beat := <-beats:
				if stream.Send(beat) != nil {
					return // Recv tells why
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	go func() {
		defer both.Done()
		for {
			answer, err := stream.Recv()
			if err != nil {
				ended <- err
				return
			}
			select {
			case answers <- answer:
			case <-ctx.Done():
				ended <- ctx.Err()
				return
			}
		}
	}()
	every := of.ttl / beatsInTTL
	patience := max(every, answerMin)
	type sentBeat struct {
		number uint64
		at     time.Duration
	}
	var unanswered []sentBeat
	number, next := uint64(0), bootTime()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := bootTime()
		if of.over() {
			return answered, unavailable("no beat was answered for the session's TTL")
		}
		if len(unanswered) > 0 && now-unanswered[0].at >= patience {
			failed = unavailable(fmt.Sprintf("%s did not answer a beat for %v", l.address, patience))
			l.fail(failed)
			return answered, failed
		}
		if now >= next {
			number++
			unanswered = append(unanswered, sentBeat{number, now})
			select {
			case beats <- &stmv1.KeepAliveRequest{SessionId: of.id, Beat: number, Seen: s.client.position.seen()}:
			default: // one that could not be sent counts as one that is not answered
			}
			next = now + every
		}
		wait := min(next-now, of.left(), sleepMax)
		if len(unanswered) > 0 {
			wait = min(wait, unanswered[0].at+patience-now)
		}
		timer.Reset(max(wait, 0))
		select {
		case <-timer.C:
			continue
		case <-s.ctx.Done():
			return answered, ErrClosed
		case err := <-ended:
			return answered, s.streamEnd(l, err)
		case answer := <-answers:
			l.hear()
			s.client.position.observe(answer.GetHeader())
			if answer.GetSessionId() != of.id {
				continue
			}
			if answer.GetExpired() {
				return answered, overAtDaemon()
			}
			for i, beat := range unanswered {
				if beat.number == answer.GetBeat() {
					of.answered(beat.at)
					answered = true
					unanswered = unanswered[i+1:]
					break
				}
			}
			for _, fence := range answer.GetLost() {
				s.lose(fence.GetLock(), fence.GetToken())
			}
		}
	}
}

func (s *sessions) streamEnd(l *link, err error) error {
	if !l.alive() {
		return unavailable("the connection to " + l.address + " is lost")
	}
	if errors.Is(err, io.EOF) {
		return unavailable("the daemon ended the stream of beats")
	}
	failed := errorFromStatus(err, s.client.names)
	if reason := reasonOf(failed); reason == ReasonSessionExpired || reason == ReasonStoreChanged {
		return overAtDaemon()
	}
	if status.Code(err) == codes.NotFound {
		return unavailable(messageOf(failed))
	}
	return failed
}

// Session is what a client holds locks and ephemeral entries by, as far as it believes in it. It is of one session: the
// next need of one after its end opens another.
type Session struct{ lease *lease }

// Session is the client's, opened if there is none.
func (c *Client) Session(ctx context.Context) (*Session, error) {
	if err := checkOutside(ctx, "Client.Session"); err != nil {
		return nil, err
	}
	now, err := c.session.get(ctx)
	if err != nil {
		return nil, err
	}
	return &Session{now}, nil
}

// ID is as operators see it.
func (s *Session) ID() string { return s.lease.id }

// Context is done when the session is over: by the daemon's word, or not heard of for its TTL by this client's own
// clock.
func (s *Session) Context() context.Context { return s.lease.ctx }
