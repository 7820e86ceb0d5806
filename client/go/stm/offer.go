package stm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"stmd.dev/client/go/internal/stmv1"
)

const (
	offerCallsMaxDefault = 8
	offerTimeoutDefault  = 10 * time.Second
)

// VersionedStateContainer keeps values of refs, each under a stamp that is used once. Methods are called by several
// goroutines at once, and may be called again with the same arguments, also late. The daemon gives a call up after its
// container-timeout (10 s), which ends ctx no earlier than the offer ends. Names are the daemon's: with the client's
// prefix. Errors reach the caller of the transaction: a gRPC status error (status.Error) as its code: Unavailable: ask
// again; PermissionDenied; ResourceExhausted: it is full; DataLoss: what is kept can't be read. Any other error is
// Internal.
type VersionedStateContainer interface {
	// Init: a ref of this name is about to be kept here. May come again for one that is.
	Init(ctx context.Context, name string) error
	// Destroy: the ref was deleted: what is kept for the name itself may go, but nothing under a stamp.
	Destroy(ctx context.Context, name string) error
	// GetStateAt is false if there is no such stamp.
	GetStateAt(ctx context.Context, name, stamp string) (value any, present bool, err error)
	// SetStateAt: as durable as its owner wants committed values to be, once it is nil. The same stamp comes with the
	// same value.
	SetStateAt(ctx context.Context, name, stamp string, value any) error
	// DeleteStateAt is nil also when there is no such stamp.
	DeleteStateAt(ctx context.Context, name, stamp string) error
}

// StateContainer keeps copies of atoms: the commits have the values themselves. Errors and calls are as
// VersionedStateContainer's.
type StateContainer interface {
	Init(ctx context.Context, name string) error
	// Destroy: the atom was deleted by the commit version: a state of an older version goes, a newer one stays.
	Destroy(ctx context.Context, name string, version int64) error
	// GetState is false if it has none.
	GetState(ctx context.Context, name string) (value any, present bool, err error)
	// SetState: version grows; one below what is there already changes nothing and is nil.
	SetState(ctx context.Context, name string, value any, version int64) error
}

type offerConfig struct {
	refs     VersionedStateContainer
	atoms    StateContainer
	callsMax int
	timeout  time.Duration
}

// OfferOption says what an offer keeps, and how.
type OfferOption func(*offerConfig)

// Refs has the offer keep refs.
func Refs(container VersionedStateContainer) OfferOption {
	return func(c *offerConfig) { c.refs = container }
}

// Atoms has the offer keep atoms.
func Atoms(container StateContainer) OfferOption {
	return func(c *offerConfig) { c.atoms = container }
}

// CallsMax bounds the calls at once. Without it: 8.
func CallsMax(calls int) OfferOption { return func(c *offerConfig) { c.callsMax = max(calls, 1) } }

// OfferTimeout is until it stands for the first time. Without it: 10 s.
func OfferTimeout(limit time.Duration) OfferOption {
	return func(c *offerConfig) { c.timeout = max(limit, 0) }
}

// Offer is a container in this process: values of refs and atoms whose Definition has its Container are kept here,
// while it stands. A lost connection or a restarted daemon only interrupts it; meanwhile those entries alone are
// ErrUnavailable. It is to the client's daemon: another daemon of the same store asks its own clients, so what is kept
// should be a store that all of them share. For any goroutine but those of the container's methods.
type Offer struct {
	client *Client
	name   string
	config offerConfig
	ctx    context.Context // done: it is withdrawn
	cancel context.CancelFunc
	slots  chan struct{}
	done   chan struct{} // closed when nothing is left running

	mu       sync.Mutex
	changed  chan struct{} // closed and made anew when standing or failed changes
	standing bool
	failed   error
}

// Offer keeps values in this process, under the container "offered:NAME". It returns when it stands. Another offers
// that name to this daemon: an *Error without a reason, which says so.
func (c *Client) Offer(ctx context.Context, name string, options ...OfferOption) (*Offer, error) {
	config := offerConfig{callsMax: offerCallsMaxDefault, timeout: offerTimeoutDefault}
	for _, option := range options {
		option(&config)
	}
	if err := checkOutside(ctx, "Client.Offer"); err != nil {
		return nil, err
	}
	if config.refs == nil && config.atoms == nil {
		wrong := badValue("an offer that keeps neither refs nor atoms: give stm.Refs or stm.Atoms").(*Error)
		wrong.Name = name
		return nil, wrong
	}
	o := &Offer{
		client:  c,
		name:    name,
		config:  config,
		slots:   make(chan struct{}, config.callsMax),
		done:    make(chan struct{}),
		changed: make(chan struct{}),
	}
	o.ctx, o.cancel = context.WithCancel(c.ctx)
	if !c.running.begin(o.keep) {
		o.cancel()
		return nil, ErrClosed
	}
	if err := o.awaitFirst(ctx); err != nil {
		o.Close()
		return nil, err
	}
	return o, nil
}

// awaitFirst tells at once what the daemon refuses for good.
func (o *Offer) awaitFirst(ctx context.Context) error {
	timer := time.NewTimer(o.config.timeout)
	defer timer.Stop()
	for {
		o.mu.Lock()
		standing, failed, changed := o.standing, o.failed, o.changed
		o.mu.Unlock()
		if standing {
			return nil
		}
		if failed != nil && !isTransient(failed) {
			return failed
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return contextError(ctx, failed)
		case <-o.client.ctx.Done():
			return ErrClosed
		case <-timer.C:
			if failed == nil {
				failed = unavailable(o.Container() + ": no daemon took it")
			}
			return failed
		}
	}
}

// Container is "offered:NAME": what refs and atoms give as their container.
func (o *Offer) Container() string { return "offered:" + o.name }

// Close withdraws it; calls under way are waited for.
func (o *Offer) Close() {
	o.cancel()
	<-o.done
}

// Standing says whether the daemon asks here now; if not, why.
func (o *Offer) Standing() (bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.standing {
		return true, nil
	}
	return false, o.failed
}

// AwaitStanding is nil as soon as it stands. It is withdrawn, or the client closed: ErrClosed.
func (o *Offer) AwaitStanding(ctx context.Context) error {
	for {
		o.mu.Lock()
		standing, failed, changed := o.standing, o.failed, o.changed
		o.mu.Unlock()
		if standing {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return contextError(ctx, failed)
		case <-o.ctx.Done():
			return ErrClosed
		}
	}
}

func (o *Offer) set(standing bool, failed error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.standing, o.failed = standing, failed
	close(o.changed)
	o.changed = make(chan struct{})
}

// keep renews it on one stream after another.
func (o *Offer) keep() {
	defer close(o.done)
	out := outage{limit: -1}
	for o.ctx.Err() == nil {
		l, err := o.client.transport.get(o.ctx, time.Time{})
		if err != nil {
			continue // it is withdrawn
		}
		failed := o.serveOn(l)
		if standing, _ := o.Standing(); standing {
			out.end()
		}
		o.set(false, failed)
		out.fail(failed)
		o.client.transport.sleep(o.ctx, out.pause(nil))
	}
}

func (o *Offer) serveOn(l *link) error {
	// What is asked is answered until the offer is withdrawn, and then waited for.
	ctx, cancel := context.WithCancel(o.ctx)
	var calls sync.WaitGroup
	defer calls.Wait()
	defer cancel()
	defer context.AfterFunc(l.ctx, cancel)()
	stream, err := stmv1.NewOfferServiceClient(l.conn).OfferContainer(ctx)
	if err != nil {
		return errorFromStatus(err, o.client.names)
	}
	var sending sync.Mutex
	send := func(answer *stmv1.OfferContainerRequest) {
		sending.Lock()
		defer sending.Unlock()
		_ = stream.Send(answer) // Recv tells why
	}
	send(&stmv1.OfferContainerRequest{Offer: o.name})
	for {
		question, err := stream.Recv()
		if err != nil {
			switch {
			case !l.alive():
				return unavailable("the connection to " + l.address + " is lost")
			case errors.Is(err, io.EOF):
				return unavailable("the daemon ended the offer")
			}
			return errorFromStatus(err, o.client.names)
		}
		l.hear()
		if question.GetQuestion() == nil {
			o.set(true, nil)
			continue
		}
		calls.Add(1)
		go func() {
			defer calls.Done()
			select {
			case o.slots <- struct{}{}:
			case <-ctx.Done():
				return
			}
			defer func() { <-o.slots }()
			send(o.answer(ctx, question))
		}()
	}
}

func (o *Offer) answer(
	ctx context.Context,
	question *stmv1.OfferContainerResponse,
) (answer *stmv1.OfferContainerRequest) {
	failed := func(err error) *stmv1.OfferContainerRequest {
		told := status.Convert(err)
		code := told.Code()
		if code == codes.Unknown {
			code = codes.Internal
		}
		return &stmv1.OfferContainerRequest{Call: question.GetCall(), Code: int32(code), Message: told.Message()}
	}
	// What an author wrote may panic, and is no reason to end his program.
	defer func() {
		if why := recover(); why != nil {
			answer = failed(status.Error(codes.Internal, fmt.Sprint("it panicked: ", why)))
		}
	}()
	answer = &stmv1.OfferContainerRequest{Call: question.GetCall()}
	if err := o.ask(ctx, question, answer); err != nil {
		return failed(err)
	}
	return answer
}

// ask sets the answer, also if it has nothing to say.
func (o *Offer) ask(
	ctx context.Context,
	question *stmv1.OfferContainerResponse,
	answer *stmv1.OfferContainerRequest,
) error {
	refs, atoms := o.config.refs, o.config.atoms
	wire := func(value any, present bool, err error) (*stmv1.Value, error) {
		if err != nil || !present {
			return nil, err
		}
		return o.client.codec.encode(value)
	}
	none := func(what string) error { return status.Error(codes.Unimplemented, o.Container()+" keeps no "+what) }
	switch question.GetQuestion().(type) {
	case *stmv1.OfferContainerResponse_Init, *stmv1.OfferContainerResponse_Destroy, *stmv1.OfferContainerResponse_GetStateAt,
		*stmv1.OfferContainerResponse_SetStateAt, *stmv1.OfferContainerResponse_DeleteStateAt:
		if refs == nil {
			return none("refs")
		}
	default:
		if atoms == nil {
			return none("atoms")
		}
	}
	switch ask := question.GetQuestion().(type) {
	case *stmv1.OfferContainerResponse_Init:
		answer.Answer = &stmv1.OfferContainerRequest_Init{Init: &stmv1.InitResponse{}}
		return refs.Init(ctx, ask.Init.GetName())
	case *stmv1.OfferContainerResponse_Destroy:
		answer.Answer = &stmv1.OfferContainerRequest_Destroy{Destroy: &stmv1.DestroyResponse{}}
		return refs.Destroy(ctx, ask.Destroy.GetName())
	case *stmv1.OfferContainerResponse_GetStateAt:
		value, err := wire(refs.GetStateAt(ctx, ask.GetStateAt.GetName(), ask.GetStateAt.GetStamp()))
		answer.Answer = &stmv1.OfferContainerRequest_GetStateAt{GetStateAt: &stmv1.GetStateAtResponse{Value: value}}
		return err
	case *stmv1.OfferContainerResponse_SetStateAt:
		value, err := o.client.codec.decodeUntyped(ask.SetStateAt.GetName(), ask.SetStateAt.GetValue())
		if err != nil {
			return err
		}
		answer.Answer = &stmv1.OfferContainerRequest_SetStateAt{SetStateAt: &stmv1.SetStateAtResponse{}}
		return refs.SetStateAt(ctx, ask.SetStateAt.GetName(), ask.SetStateAt.GetStamp(), value)
	case *stmv1.OfferContainerResponse_DeleteStateAt:
		answer.Answer = &stmv1.OfferContainerRequest_DeleteStateAt{DeleteStateAt: &stmv1.DeleteStateAtResponse{}}
		return refs.DeleteStateAt(ctx, ask.DeleteStateAt.GetName(), ask.DeleteStateAt.GetStamp())
	case *stmv1.OfferContainerResponse_InitAtom:
		answer.Answer = &stmv1.OfferContainerRequest_InitAtom{InitAtom: &stmv1.InitAtomResponse{}}
		return atoms.Init(ctx, ask.InitAtom.GetName())
	case *stmv1.OfferContainerResponse_DestroyAtom:
		answer.Answer = &stmv1.OfferContainerRequest_DestroyAtom{DestroyAtom: &stmv1.DestroyAtomResponse{}}
		return atoms.Destroy(ctx, ask.DestroyAtom.GetName(), ask.DestroyAtom.GetVersion())
	case *stmv1.OfferContainerResponse_GetState:
		value, err := wire(atoms.GetState(ctx, ask.GetState.GetName()))
		answer.Answer = &stmv1.OfferContainerRequest_GetState{GetState: &stmv1.GetStateResponse{Value: value}}
		return err
	case *stmv1.OfferContainerResponse_SetState:
		value, err := o.client.codec.decodeUntyped(ask.SetState.GetName(), ask.SetState.GetValue())
		if err != nil {
			return err
		}
		answer.Answer = &stmv1.OfferContainerRequest_SetState{SetState: &stmv1.SetStateResponse{}}
		return atoms.SetState(ctx, ask.SetState.GetName(), value, ask.SetState.GetVersion())
	}
	return status.Error(
		codes.Unimplemented,
		"the daemon asks what this client does not know: use a client as new as the daemon",
	)
}
