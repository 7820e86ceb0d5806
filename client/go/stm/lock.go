package stm

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"stmd.dev/client/go/internal/stmv1"
)

const (
	// Of giving back, in the background, what nobody waits for any more; then its session's end does it.
	giveUpMax = 10 * time.Second
	pageMax   = 1000
)

type lockConfig struct {
	shared     bool
	permits    int
	permitsMax int
	wait       time.Duration // below 0: until it is granted
	owner      string
	label      string
}

// LockOption changes how a lock is acquired.
type LockOption func(*lockConfig)

// Shared holds it with others who read; else alone. Whoever holds it alone may have it shared too, and then release the
// first (downgrade); the other way round it is ErrUpgradeRefused while others read.
func Shared() LockOption { return func(c *lockConfig) { c.shared = true } }

// Permits makes it a semaphore of so many in all, the same for all who use it, of which n are taken.
func Permits(n, inAll int) LockOption {
	return func(c *lockConfig) { c.permits, c.permitsMax = n, inAll }
}

// Wait is how long it waits its turn: then ErrLockBusy, which says who holds it. 0: at once, past those who wait.
// Without it: until it is granted, or ctx is done.
func Wait(limit time.Duration) LockOption { return func(c *lockConfig) { c.wait = max(limit, 0) } }

// Owner makes it reentrant for the same owner of this client: each Lock is a hold, each Held releases one. Without it:
// the client itself, so goroutines that are to exclude one another name themselves. At most 256 bytes.
func Owner(owner string) LockOption { return func(c *lockConfig) { c.owner = owner } }

// Because says why; it is kept with the commit.
func Because(label string) LockOption { return func(c *lockConfig) { c.label = label } }

// Held is one hold of a lock. It is this client's belief: what a commit may do under the lock is decided by Tx.Fence
// alone. For any goroutine.
type Held struct {
	client *Client
	grant  *grant
}

// Lock waits its turn for a lock, first come, first served, and holds it until Release. The client's session is opened
// by the first. A ctx that is done gives the place in the queue up. ErrLockBusy, ErrUpgradeRefused, ErrDeadlock;
// ErrLockLost: its place was taken from it.
func (c *Client) Lock(ctx context.Context, name string, options ...LockOption) (*Held, error) {
	config := lockConfig{wait: -1}
	for _, option := range options {
		option(&config)
	}
	if err := checkOutside(ctx, "Lock of "+name); err != nil {
		return nil, err
	}
	if err := checkName(name); err != nil {
		return nil, err
	}
	if config.permits < 0 || config.permitsMax < 0 {
		return nil, ofEntry(name, badValue("permits below 0: take at least 1"))
	}
	if config.shared && config.permitsMax > 0 {
		return nil, ofEntry(name, badValue("a semaphore is not shared: leave out Shared, or Permits"))
	}
	if config.permits > 0 && config.permitsMax == 0 {
		return nil, ofEntry(name, badValue("permits are of a semaphore: say how many it has in all, too"))
	}
	until := time.Time{}
	if config.wait >= 0 {
		until = time.Now().Add(config.wait)
	}
	out := outage{limit: c.options.unavailableTimeout}
	for {
		of, err := c.session.get(ctx)
		if err != nil {
			return nil, err
		}
		id := callID{}
		out.begin()
		answer, err := c.sendAcquire(ctx, of, name, config, until, &id)
		if err == nil && of.over() {
			err = unavailable("its session is over")
		}
		if err != nil {
			expired := reasonOf(err) == ReasonSessionExpired
			if !expired && !of.over() {
				if id.sent {
					c.giveUpAcquire(of, name, config.owner, id.id)
				}
				return nil, err
			}
			// Its place went with the session: it begins again, at the queue's end, with another.
			c.session.drop(of, expired)
			if err := c.pause(ctx, &out, err); err != nil {
				return nil, err
			}
			continue
		}
		return c.acquired(ctx, of, name, config.owner, answer)
	}
}

func (c *Client) acquired(
	ctx context.Context,
	of *lease,
	name, owner string,
	answer *stmv1.AcquireLockResponse,
) (*Held, error) {
	holders := holdersOf(answer.GetInTheWay())
	refused := func(reason Reason, code codes.Code, found, message string) (*Held, error) {
		return nil, &Error{Reason: reason, Name: name, Found: found, Message: message, code: code}
	}
	switch answer.GetOutcome() {
	case stmv1.LockOutcome_LOCK_OUTCOME_GRANTED:
		made := &grant{lease: of, lock: c.names.full(name), name: name, owner: owner, token: answer.GetToken()}
		made.ctx, made.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
		c.session.add(made)
		return &Held{client: c, grant: made}, nil
	case stmv1.LockOutcome_LOCK_OUTCOME_BUSY:
		return refused(ReasonLockBusy, codes.Aborted, holders,
			fmt.Sprintf("%s is held by %s: wait longer, or try again later", name, holders))
	case stmv1.LockOutcome_LOCK_OUTCOME_UPGRADE_REFUSED:
		return refused(
			ReasonUpgradeRefused,
			codes.FailedPrecondition,
			holders,
			fmt.Sprintf("%s is held shared by this owner and not "+
				"alone (%s), and cannot become exclusive: release the shared hold first", name, holders),
		)
	case stmv1.LockOutcome_LOCK_OUTCOME_DEADLOCK:
		cycle := ""
		for _, step := range answer.GetInTheWay() {
			if cycle != "" {
				cycle += ", "
			}
			cycle += fmt.Sprintf(
				"%s holds %s and waits for %s",
				who(step),
				c.names.short(step.GetLock()),
				c.names.short(step.GetWaitsFor()),
			)
		}
		return refused(
			ReasonDeadlock,
			codes.FailedPrecondition,
			cycle,
			fmt.Sprintf("waiting for %s would be a deadlock: %s: release "+
				"what you hold, and acquire locks in one order everywhere", name, cycle),
		)
	case stmv1.LockOutcome_LOCK_OUTCOME_LEFT:
		return nil, lockLostError(name, "came and was taken, or its place in the queue was given up by another")
	}
	return nil, internalError(
		name + ": the daemon answered with no outcome that is known here: use a client as new as the daemon",
	)
}

func who(hold *stmv1.LockHold) string {
	if hold.GetOwner() == "" {
		return "session " + hold.GetSessionId()
	}
	return fmt.Sprintf("%s (session %s)", hold.GetOwner(), hold.GetSessionId())
}

func holdersOf(holds []*stmv1.LockHold) string {
	switch len(holds) {
	case 0:
		return "others"
	case 1:
		return who(holds[0])
	}
	return who(holds[0]) + " and others"
}

func (c *Client) meta(label string) *stmv1.Meta {
	return &stmv1.Meta{Label: label, Client: c.options.clientName}
}

func (c *Client) sendAcquire(
	ctx context.Context,
	of *lease,
	name string,
	config lockConfig,
	until time.Time,
	id *callID,
) (*stmv1.AcquireLockResponse, error) {
	return sendOnce(ctx, c, c.options.unavailableTimeout, of.ctx, id,
		func(ctx context.Context, conn *grpc.ClientConn, commit *stmv1.CommitId) (*stmv1.AcquireLockResponse, error) {
			request := &stmv1.AcquireLockRequest{
				Id:        commit,
				Name:      c.names.full(name),
				SessionId: of.id,
				Owner:     config.owner,
				Mode:      stmv1.LockMode_LOCK_MODE_EXCLUSIVE,
				Meta:      c.meta(config.label),
			}
			switch {
			case config.permitsMax > 0:
				request.Mode = stmv1.LockMode_LOCK_MODE_PERMITS
				request.Permits, request.PermitsMax = uint32(config.permits), uint32(config.permitsMax)
			case config.shared:
				request.Mode = stmv1.LockMode_LOCK_MODE_SHARED
			}
			if !until.IsZero() {
				request.Wait = durationpb.New(max(time.Until(until), 0))
			}
			return stmv1.NewLockServiceClient(conn).AcquireLock(ctx, request)
		})
}

func (c *Client) sendRelease(
	ctx context.Context,
	outageMax time.Duration,
	of *lease,
	id *callID,
	request *stmv1.ReleaseLockRequest,
) (*stmv1.ReleaseLockResponse, error) {
	return sendOnce(ctx, c, outageMax, of.ctx, id,
		func(ctx context.Context, conn *grpc.ClientConn, commit *stmv1.CommitId) (*stmv1.ReleaseLockResponse, error) {
			return stmv1.NewLockServiceClient(conn).
				ReleaseLock(ctx, &stmv1.ReleaseLockRequest{Id: commit, Name: request.GetName(),
					SessionId: of.id, Owner: request.GetOwner(), Token: request.GetToken(), AcquireId: request.GetAcquireId(), Meta: c.meta("")})
		})
}

// giveUpAcquire is of an acquire that nobody waits for any more: it is to leave no place behind, and no hold.
func (c *Client) giveUpAcquire(of *lease, name, owner string, acquire *stmv1.CommitId) {
	acquire.Resend = true
	_ = c.running.begin(func() { // after Close the session is over
		ctx, cancel := context.WithTimeout(c.session.ctx, giveUpMax)
		defer cancel()
		// What comes of it nobody asks: the session's end gives it up too.
		_, _ = c.sendRelease(
			ctx,
			-1,
			of,
			&callID{},
			&stmv1.ReleaseLockRequest{Name: c.names.full(name), Owner: owner, AcquireId: acquire},
		)
	})
}

// Token is what fences name; it grows with each grant of the lock. Await changes it.
func (h *Held) Token() int64 { return h.grant.tokenNow() }

// Name is the lock's.
func (h *Held) Name() string { return h.grant.name }

// Context is done when the grant is gone: by the daemon's word, by this client's own clock, or by Release. It has the
// values of the ctx that Lock was given, and not its end; context.Cause tells why: ErrLockLost, but for a Release.
func (h *Held) Context() context.Context { return h.grant.ctx }

// Lost says whether the grant is gone, or was released.
func (h *Held) Lost() bool { return h.grant.over() }

// Release ends the hold. ErrLockLost: it was lost before. ErrUnavailable: no daemon answered, and it may be called
// again.
func (h *Held) Release() error {
	g, c := h.grant, h.client
	g.releasing.Lock()
	defer g.releasing.Unlock()
	if g.wasReleased() {
		return lockLostError(g.name, "was released before")
	}
	if g.over() {
		c.session.remove(g)
		g.lose()
		g.markReleased()
		return lockLostError(g.name, "is gone")
	}
	answer, err := c.sendRelease(context.WithoutCancel(g.ctx), c.options.unavailableTimeout, g.lease, &g.release,
		&stmv1.ReleaseLockRequest{Name: g.lock, Owner: g.owner, Token: g.tokenNow()})
	if err != nil && !g.lease.over() && reasonOf(err) != ReasonSessionExpired {
		return err // no verdict: it may be asked for again
	}
	c.session.remove(g)
	if err != nil || (answer.GetOutcome() != stmv1.LockOutcome_LOCK_OUTCOME_RELEASED &&
		answer.GetOutcome() != stmv1.LockOutcome_LOCK_OUTCOME_STILL_HELD) {
		g.lose()
		g.markReleased()
		return lockLostError(g.name, "is gone")
	}
	g.markReleased()
	return nil
}

// Await is of an exclusive hold. It gives the lock up with all its holds, awaits a signal, and has the lock again,
// however long that takes: for as long as its session lives, since whoever gave up would leave a place that nobody
// takes the lock from. False: wait, if it is above 0, was over before a signal came. ErrLockLost: it is not held any
// more.
func (h *Held) Await(ctx context.Context, condition string, wait time.Duration) (signalled bool, err error) {
	g, c := h.grant, h.client
	if err := checkOutside(ctx, "Await of "+g.name); err != nil {
		return false, err
	}
	if g.over() {
		return false, lockLostError(g.name, "is gone")
	}
	until := time.Time{}
	if wait > 0 {
		until = time.Now().Add(wait)
	}
	answer, err := sendOnce(
		context.WithoutCancel(ctx),
		c,
		-1,
		g.lease.ctx,
		&callID{},
		func(ctx context.Context, conn *grpc.ClientConn, commit *stmv1.CommitId) (*stmv1.AwaitConditionResponse, error) {
			request := &stmv1.AwaitConditionRequest{
				Id:        commit,
				Lock:      &stmv1.Fence{Lock: g.lock, Token: g.tokenNow()},
				Condition: condition,
				SessionId: g.lease.id,
				Owner:     g.owner,
				Meta:      c.meta(""),
			}
			if !until.IsZero() {
				request.Wait = durationpb.New(max(time.Until(until), 0))
			}
			return stmv1.NewLockServiceClient(conn).AwaitCondition(ctx, request)
		},
	)
	if err != nil {
		if !g.lease.over() && reasonOf(err) != ReasonSessionExpired {
			return false, err
		}
		return false, lockLostError(g.name, "is gone with its session")
	}
	if answer.GetOutcome() != stmv1.LockOutcome_LOCK_OUTCOME_GRANTED {
		c.session.lose(g.lock, g.tokenNow())
		return false, lockLostError(g.name, "is gone")
	}
	c.session.retoken(g.lock, g.tokenNow(), answer.GetToken())
	return answer.GetSignalled(), nil
}

// Signal wakes the first who awaits the condition. It gives how many were woken: 0 or 1.
func (h *Held) Signal(ctx context.Context, condition string) (woken int, err error) {
	return h.wake(ctx, condition, false)
}

// SignalAll wakes all who await the condition, and gives how many.
func (h *Held) SignalAll(ctx context.Context, condition string) (woken int, err error) {
	return h.wake(ctx, condition, true)
}

func (h *Held) wake(ctx context.Context, condition string, all bool) (int, error) {
	g, c := h.grant, h.client
	if err := checkOutside(ctx, "Signal of "+g.name); err != nil {
		return 0, err
	}
	if g.over() {
		return 0, lockLostError(g.name, "is gone")
	}
	answer, err := sendOnce(
		ctx,
		c,
		c.options.unavailableTimeout,
		g.lease.ctx,
		&callID{},
		func(ctx context.Context, conn *grpc.ClientConn, commit *stmv1.CommitId) (*stmv1.SignalConditionResponse, error) {
			return stmv1.NewLockServiceClient(conn).SignalCondition(ctx, &stmv1.SignalConditionRequest{Id: commit,
				Lock: &stmv1.Fence{
					Lock:  g.lock,
					Token: g.tokenNow(),
				}, Condition: condition, All: all, Meta: c.meta("")})
		},
	)
	if err != nil {
		return 0, err
	}
	if answer.GetOutcome() != stmv1.LockOutcome_LOCK_OUTCOME_SIGNALLED {
		return 0, lockLostError(g.name, "is gone")
	}
	return int(answer.GetWoken()), nil
}

// ---- What operators ask

// LockMode is how a lock is held.
type LockMode string

// The modes.
const (
	ModeExclusive LockMode = "exclusive"
	ModeShared    LockMode = "shared"
	ModePermits   LockMode = "permits"
)

// LockHold is one who holds a lock, or waits for it.
type LockHold struct {
	SessionID string
	Owner     string
	Mode      LockMode
	Token     int64 // 0: it waits
	Holds     int
	Permits   int
	Since     time.Time // when it was granted, or began to wait
}

// LockInfo is a lock as an operator sees it.
type LockInfo struct {
	Name       string
	Holders    []LockHold
	Queue      []LockHold // in order; the first 1000, and none in a listing
	PermitsMax int        // 0: it is no semaphore
	LastToken  int64
}

// SessionInfo is a session as an operator sees it.
type SessionInfo struct {
	SessionID string
	Client    string // "host/program/pid"
	TTL       time.Duration
	Left      time.Duration // until it expires if nothing is heard; below 0: another daemon knows
	Daemon    uint64        // that has its lease
	Since     time.Time
	Locks     []string // that it holds, waits for, or awaits a condition of
	Entries   []string // bound to it
}

func holdOf(hold *stmv1.LockHold) LockHold {
	made := LockHold{
		SessionID: hold.GetSessionId(),
		Owner:     hold.GetOwner(),
		Mode:      ModeExclusive,
		Token:     hold.GetToken(),
		Holds:     int(hold.GetHolds()),
		Permits:   int(hold.GetPermits()),
		Since:     hold.GetSince().AsTime(),
	}
	switch hold.GetMode() {
	case stmv1.LockMode_LOCK_MODE_SHARED:
		made.Mode = ModeShared
	case stmv1.LockMode_LOCK_MODE_PERMITS:
		made.Mode = ModePermits
	}
	return made
}

func (c *Client) lockOf(lock *stmv1.Lock) LockInfo {
	made := LockInfo{
		Name:       c.names.short(lock.GetName()),
		PermitsMax: int(lock.GetPermitsMax()),
		LastToken:  lock.GetLastToken(),
	}
	for _, hold := range lock.GetHolders() {
		made.Holders = append(made.Holders, holdOf(hold))
	}
	for _, hold := range lock.GetQueue() {
		made.Queue = append(made.Queue, holdOf(hold))
	}
	return made
}

// LockInfo tells who holds a lock and who waits.
func (c *Client) LockInfo(ctx context.Context, name string) (LockInfo, error) {
	if err := checkOutside(ctx, "Client.LockInfo"); err != nil {
		return LockInfo{}, err
	}
	if err := checkName(name); err != nil {
		return LockInfo{}, err
	}
	answer, err := unary(ctx, c, func(ctx context.Context, conn *grpc.ClientConn) (*stmv1.GetLockResponse, error) {
		return stmv1.NewLockServiceClient(conn).
			GetLock(ctx, &stmv1.GetLockRequest{Name: c.names.full(name), Seen: c.position.seen()})
	})
	if err != nil {
		return LockInfo{}, err
	}
	c.position.observe(answer.GetHeader())
	return c.lockOf(answer.GetLock()), nil
}

// Locks are all under a prefix that are held, or were of late, without queues.
func (c *Client) Locks(ctx context.Context, prefix string) ([]LockInfo, error) {
	if err := checkOutside(ctx, "Client.Locks"); err != nil {
		return nil, err
	}
	if err := checkPrefix(prefix); err != nil {
		return nil, err
	}
	var locks []LockInfo
	for page := ""; ; {
		answer, err := unary(
			ctx,
			c,
			func(ctx context.Context, conn *grpc.ClientConn) (*stmv1.ListLocksResponse, error) {
				return stmv1.NewLockServiceClient(conn).
					ListLocks(ctx, &stmv1.ListLocksRequest{Prefix: c.names.full(prefix), PageSize: pageMax,
						PageToken: page, Seen: c.position.seen()})
			},
		)
		if err != nil {
			return nil, err
		}
		c.position.observe(answer.GetHeader())
		for _, lock := range answer.GetLocks() {
			locks = append(locks, c.lockOf(lock))
		}
		if page = answer.GetNextPageToken(); page == "" {
			return locks, nil
		}
	}
}

// BreakLock takes a lock from all who hold it, by a commit that says who and, as label, why. False: nobody did.
func (c *Client) BreakLock(ctx context.Context, name, label string) (bool, error) {
	if err := checkOutside(ctx, "BreakLock of "+name); err != nil {
		return false, err
	}
	if err := checkName(name); err != nil {
		return false, err
	}
	answer, err := sendOnce(ctx, c, c.options.unavailableTimeout, nil, &callID{},
		func(ctx context.Context, conn *grpc.ClientConn, commit *stmv1.CommitId) (*stmv1.BreakLockResponse, error) {
			return stmv1.NewLockServiceClient(conn).
				BreakLock(ctx, &stmv1.BreakLockRequest{Id: commit, Name: c.names.full(name), Meta: c.meta(label)})
		})
	return answer.GetOutcome() == stmv1.LockOutcome_LOCK_OUTCOME_RELEASED, err
}

// Sessions are all of the store.
func (c *Client) Sessions(ctx context.Context) ([]SessionInfo, error) {
	if err := checkOutside(ctx, "Client.Sessions"); err != nil {
		return nil, err
	}
	var sessions []SessionInfo
	for page := ""; ; {
		answer, err := unary(
			ctx,
			c,
			func(ctx context.Context, conn *grpc.ClientConn) (*stmv1.ListSessionsResponse, error) {
				return stmv1.NewSessionServiceClient(conn).
					ListSessions(ctx, &stmv1.ListSessionsRequest{PageSize: pageMax, PageToken: page,
						Seen: c.position.seen()})
			},
		)
		if err != nil {
			return nil, err
		}
		c.position.observe(answer.GetHeader())
		for _, one := range answer.GetSessions() {
			made := SessionInfo{
				SessionID: one.GetSessionId(),
				Client:    one.GetClient(),
				TTL:       one.GetTtl().AsDuration(),
				Left:      -1,
				Daemon:    one.GetDaemon(),
				Since:     one.GetSince().AsTime(),
			}
			if one.GetLeft() != nil {
				made.Left = one.GetLeft().AsDuration()
			}
			for _, name := range one.GetLocks() {
				made.Locks = append(made.Locks, c.names.short(name))
			}
			for _, name := range one.GetEntries() {
				made.Entries = append(made.Entries, c.names.short(name))
			}
			sessions = append(sessions, made)
		}
		if page = answer.GetNextPageToken(); page == "" {
			return sessions, nil
		}
	}
}

// ExpireSession ends a session with all that it has. Nil too if it is over.
func (c *Client) ExpireSession(ctx context.Context, sessionID, label string) error {
	if err := checkOutside(ctx, "Client.ExpireSession"); err != nil {
		return err
	}
	_, err := sendOnce(ctx, c, c.options.unavailableTimeout, nil, &callID{},
		func(ctx context.Context, conn *grpc.ClientConn, commit *stmv1.CommitId) (*stmv1.ExpireSessionResponse, error) {
			return stmv1.NewSessionServiceClient(conn).
				ExpireSession(ctx, &stmv1.ExpireSessionRequest{Id: commit, SessionId: sessionID,
					Meta: c.meta(label)})
		})
	return err
}
