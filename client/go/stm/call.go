package stm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"stmd.dev/client/go/internal/stmv1"
)

const (
	// A call that was under way for so long before it broke was no part of an outage.
	wasWellAfter = time.Second
	// How long a commit whose caller's time is up is asked after.
	settleMax   = time.Second
	settleEvery = 20 * time.Millisecond
)

// outage counts how long calls have failed, and when it is enough.
type outage struct {
	limit    time.Duration // below 0: never
	until    time.Time     // zero: nothing failed yet
	began    time.Time     // the call under way
	failures int
	cause    error
}

// giveUpAt is when to give up: limit after the first failure; without one, limit from now. Zero: never.
func (o *outage) giveUpAt() time.Time {
	if o.limit < 0 || !o.until.IsZero() {
		return o.until
	}
	return time.Now().Add(o.limit)
}

// begin is of each call: one that fails after wasWellAfter or more was in no outage.
func (o *outage) begin() { o.began = time.Now() }

func (o *outage) fail(cause error) {
	if !o.began.IsZero() && time.Since(o.began) >= wasWellAfter {
		o.end()
	}
	o.began = time.Time{}
	if o.until.IsZero() && o.limit >= 0 {
		o.until = time.Now().Add(o.limit)
	}
	o.failures++
	o.cause = cause
}

func (o *outage) end() { o.until, o.failures = time.Time{}, 0 }

func (o *outage) over() bool { return !o.until.IsZero() && !time.Now().Before(o.until) }

// pause is none after the first failure, then 10 ms to 1 s, and never less than the daemon asked for.
func (o *outage) pause(failure error) time.Duration {
	pause := time.Duration(0)
	if o.failures > 1 {
		backoff := min(backoffMin<<min(o.failures-2, 7), backoffMax)
		pause = between(backoff/2, backoff)
	}
	pause = max(pause, retryAfter(failure))
	if !o.until.IsZero() {
		pause = min(pause, time.Until(o.until))
	}
	return pause
}

// contextError is ctx's own error, for a call that changed nothing. cause: what was in the way meanwhile; or nil.
func contextError(ctx context.Context, cause error) error {
	because := ""
	if cause != nil {
		because = messageOf(cause) + ": "
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("stm: the deadline passed; nothing was changed: %sallow more time: %w", because, ctx.Err())
	}
	if why := context.Cause(ctx); why != nil && !errors.Is(why, ctx.Err()) {
		return fmt.Errorf("stm: cancelled; nothing was changed: %w: %w", ctx.Err(), why)
	}
	return fmt.Errorf("stm: cancelled; nothing was changed: %w", ctx.Err())
}

func storeChangedError() error {
	return &Error{Reason: ReasonStoreChanged, code: codes.OutOfRange,
		Message: "the daemon has another store (wiped, restored, or another daemon): read again"}
}

func lockLostError(name, what string) error {
	return &Error{Reason: ReasonLockLost, Name: name, code: codes.FailedPrecondition,
		Message: fmt.Sprintf("the grant of %s %s: acquire the lock again", name, what)}
}

// commitUnknown carries the outcome word. ends: the context's error, if that ended it.
func commitUnknown(id *stmv1.CommitId, why string, ends error) error {
	word := printOutcomeWord(id)
	return &Error{Reason: ReasonCommitUnknown, OutcomeWord: word, code: codes.Unknown, ends: ends, Message: fmt.Sprintf(
		"a commit was sent and its outcome is not known: %s: ask by `stmctl outcome %s`, or Client.Outcome", why, word)}
}

func newTransactionID() string {
	var id UUID
	_, _ = rand.Read(id[:]) // never fails
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id.String()
}

// link is transport.get, with a failure as its caller is told it.
func (c *Client) link(ctx context.Context, until time.Time, cause error) (*link, error) {
	l, err := c.transport.get(ctx, until)
	if err == nil {
		return l, nil
	}
	if c.ctx.Err() != nil {
		return nil, ErrClosed
	}
	if ctx.Err() != nil {
		return nil, contextError(ctx, cause)
	}
	return nil, err
}

// stopped is what a call that was to sleep ends with.
func (c *Client) stopped(ctx context.Context, cause error) error {
	if c.ctx.Err() != nil {
		return ErrClosed
	}
	return contextError(ctx, cause)
}

// ask makes a call that may be repeated, until it is answered: gets, lists, awaits. fill is called for each try.
func (c *Client) ask(ctx context.Context, fill func(*stmv1.PipelineCall)) (*stmv1.PipelineAnswer, error) {
	out := outage{limit: c.options.unavailableTimeout}
	for {
		if ctx.Err() != nil {
			return nil, c.stopped(ctx, out.cause)
		}
		l, err := c.link(ctx, out.giveUpAt(), out.cause)
		if err != nil {
			return nil, err
		}
		out.begin()
		call := &stmv1.PipelineCall{}
		fill(call)
		result := l.call(ctx, call)
		var failed error
		switch result.end {
		case endAnswered:
			if result.answer.GetCode() == 0 {
				return result.answer, nil
			}
			failed = c.failureOf(result.answer)
			if !isTransient(failed) {
				return nil, failed
			}
		case endBroken:
			failed = result.cause
		case endContext:
			return nil, c.stopped(ctx, out.cause)
		}
		if err := c.pause(ctx, &out, failed); err != nil {
			return nil, err
		}
	}
}

// pause is before the same call is sent again; an error: it is not.
func (c *Client) pause(ctx context.Context, out *outage, failed error) error {
	if c.ctx.Err() != nil {
		return ErrClosed
	}
	out.fail(failed)
	if out.over() {
		return asUnavailable(failed)
	}
	if !c.transport.sleep(ctx, out.pause(failed)) {
		return c.stopped(ctx, out.cause)
	}
	return nil
}

// failureOf is of an answer with a code. Another store is taken.
func (c *Client) failureOf(answer *stmv1.PipelineAnswer) error {
	err := failure(codes.Code(answer.GetCode()), answer.GetMessage(), answer.GetError(), c.names)
	if reasonOf(err) == ReasonStoreChanged && answer.GetError().GetHeader() != nil {
		c.position.adopt(answer.GetError().GetHeader())
	}
	return err
}

// sent is what became known of a commit beside its verdict.
type sent struct {
	transactionID string // that the verdict is of
	resends       int    // counted up, whatever came of it
}

// commit sends what fill makes, all but the id and the same content each time, exactly once: under one id until there
// is a verdict. store: whose snapshot it names; 0: none. The answer is committed, conflict, rejected or fence_lost.
func (c *Client) commit(
	ctx context.Context,
	fill func() *stmv1.CommitRequest,
	store uint64,
	told *sent,
) (*stmv1.CommitResponse, error) {
	out := outage{limit: c.options.unavailableTimeout}
	var id *stmv1.CommitId
	wasSent := false // this id may have reached a daemon
	newID := func() {
		wasSent = false
		id = &stmv1.CommitId{TransactionId: newTransactionID()}
	}
	newID()
	// giveUp is of this id: a verdict that comes in time after all, else otherwise if it was never sent.
	giveUp := func(otherwise error) (*stmv1.CommitResponse, error) {
		if !wasSent {
			return nil, otherwise
		}
		if c.ctx.Err() != nil {
			return nil, commitUnknown(id, "the client is closed", nil)
		}
		return c.settle(ctx, id)
	}
	for {
		if ctx.Err() != nil {
			return giveUp(c.stopped(ctx, out.cause))
		}
		l, err := c.link(ctx, out.giveUpAt(), out.cause)
		if err != nil {
			if wasSent && ctx.Err() == nil {
				return nil, commitUnknown(id, messageOf(err), nil)
			}
			return giveUp(err)
		}
		if !wasSent {
			// Named by what is known now: the writer this id is first sent to alone may ever execute it.
			now := c.position.get()
			if store != 0 && now.store != store {
				return nil, storeChangedError()
			}
			id.Writer, id.Seen = now.writer, &stmv1.Seen{Version: now.seen, Store: now.store}
		}
		if id.GetResend() {
			told.resends++
		}
		out.begin()
		request := fill()
		request.Id = proto.Clone(id).(*stmv1.CommitId)
		result := l.call(ctx, &stmv1.PipelineCall{Request: &stmv1.PipelineCall_Commit{Commit: request}})
		wasSent = wasSent || result.sent
		var failed error
		switch result.end {
		case endAnswered:
			if result.answer.GetCode() != 0 {
				failed = c.failureOf(result.answer)
				code := codes.Code(result.answer.GetCode())
				// A failure is a verdict on what was sent just now: nothing was changed. On what was sent before only
				// if the daemon got as far as looking the id up, or would have refused it then, too.
				certain := !id.GetResend() || code == codes.ResourceExhausted || code == codes.InvalidArgument
				if reasonOf(failed) == ReasonStoreChanged {
					if id.GetResend() {
						return nil, commitUnknown(id, "the store was changed (wiped or restored) meanwhile", nil)
					}
					return nil, failed
				}
				if !isTransient(failed) {
					if !certain {
						return nil, commitUnknown(id, messageOf(failed), nil)
					}
					return nil, failed
				}
				if certain {
					newID()
				}
				break
			}
			response := result.answer.GetCommit()
			switch response.GetOutcome().(type) {
			case *stmv1.CommitResponse_NotCommitted:
				failed = unavailable("the daemon that the commit was sent to is gone")
				newID()
			case *stmv1.CommitResponse_IdTooOld:
				if id.GetResend() {
					return nil, commitUnknown(id, "it was sent too long ago for the daemon to tell", nil)
				}
				failed = unavailable("the commit's id was too old when it came")
				newID()
			default:
				told.transactionID = id.GetTransactionId()
				return response, nil
			}
		case endBroken:
			failed = result.cause
		case endContext:
			return giveUp(c.stopped(ctx, out.cause))
		}
		if wasSent {
			id.Resend = true
		}
		if err := c.pause(ctx, &out, failed); err != nil {
			if wasSent && ctx.Err() == nil {
				return nil, commitUnknown(id, messageOf(failed), nil)
			}
			return giveUp(err)
		}
	}
}

// settle asks after a commit that was sent and whose caller's time is up.
func (c *Client) settle(ctx context.Context, id *stmv1.CommitId) (*stmv1.CommitResponse, error) {
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleMax)
	defer cancel()
	asked := proto.Clone(id).(*stmv1.CommitId)
	asked.Resend = true
	why := "no answer in time"
	for asking.Err() == nil {
		outcome, err := c.getOutcome(asking, asked)
		if err == nil {
			switch outcome.GetOutcome().(type) {
			case *stmv1.CommitResponse_Committed, *stmv1.CommitResponse_Rejected, *stmv1.CommitResponse_FenceLost:
				return outcome, nil
			case *stmv1.CommitResponse_Conflict, *stmv1.CommitResponse_NotCommitted:
				return nil, contextError(ctx, errors.New("the commit came to nothing"))
			}
			return nil, commitUnknown(id, "the daemon cannot tell any more", ctx.Err())
		}
		why = messageOf(err)
		if !isTransient(err) || !c.transport.sleep(asking, settleEvery) {
			break
		}
	}
	return nil, commitUnknown(id, why, ctx.Err())
}

func (c *Client) getOutcome(ctx context.Context, id *stmv1.CommitId) (*stmv1.CommitResponse, error) {
	answer, err := unary(ctx, c, func(ctx context.Context, conn *grpc.ClientConn) (*stmv1.GetOutcomeResponse, error) {
		return stmv1.NewTransactionServiceClient(conn).GetOutcome(ctx, &stmv1.GetOutcomeRequest{Id: id})
	})
	if err != nil {
		return nil, err
	}
	c.position.observe(answer.GetOutcome().GetHeader())
	return answer.GetOutcome(), nil
}

// unaryEnd is how one call beside the stream ended.
type unaryEnd[R any] struct {
	end      callEnd
	response R
	err      error // endAnswered: the call's; endBroken: why
}

// sendOn makes one call on a link. over: what the call is for is over when it is done; or nil.
func sendOn[R any](
	ctx context.Context,
	l *link,
	over context.Context,
	call func(context.Context, *grpc.ClientConn) (R, error),
) unaryEnd[R] {
	calling, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.ctx, cancel)()
	if over != nil {
		defer context.AfterFunc(over, cancel)()
	}
	l.waiters.Add(1)
	defer l.waiters.Add(-1)
	response, err := call(calling, l.conn)
	switch {
	case err == nil:
		l.hear()
		return unaryEnd[R]{end: endAnswered, response: response}
	case ctx.Err() != nil:
		return unaryEnd[R]{end: endContext}
	case over != nil && over.Err() != nil:
		return unaryEnd[R]{end: endBroken, err: unavailable("its session is over")}
	case !l.alive():
		return unaryEnd[R]{
			end: endBroken,
			err: unavailable(fmt.Sprintf("the connection to %s is lost: %s", l.address, messageOf(l.cause()))),
		}
	}
	return unaryEnd[R]{end: endAnswered, err: err}
}

// unary makes a call that may be repeated, until it is answered.
func unary[R any](ctx context.Context, c *Client, call func(context.Context, *grpc.ClientConn) (R, error)) (R, error) {
	var none R
	out := outage{limit: c.options.unavailableTimeout}
	for {
		if ctx.Err() != nil {
			return none, c.stopped(ctx, out.cause)
		}
		l, err := c.link(ctx, out.giveUpAt(), out.cause)
		if err != nil {
			return none, err
		}
		out.begin()
		made := sendOn(ctx, l, nil, call)
		failed := made.err
		switch made.end {
		case endAnswered:
			if made.err == nil {
				return made.response, nil
			}
			failed = errorFromStatus(made.err, c.names)
			if header := detailOf(made.err).GetHeader(); header != nil && reasonOf(failed) == ReasonStoreChanged {
				c.position.adopt(header)
			}
			if !isTransient(failed) {
				return none, failed
			}
		case endContext:
			return none, c.stopped(ctx, out.cause)
		}
		if err := c.pause(ctx, &out, failed); err != nil {
			return none, err
		}
	}
}

// callID is the id of a call, over all its sends.
type callID struct {
	id   *stmv1.CommitId
	sent bool // it may have reached a daemon, and no verdict came
}

type withHeader interface{ GetHeader() *stmv1.Header }

// sendOnce makes a call that changes something, until there is a verdict. id goes on where an earlier sendOnce left it.
// What is UNAVAILABLE, or the context's, leaves id.sent as it is: the same call may be made again. outageMax below 0:
// no bound. over: what the call is for is over when it is done; or nil.
func sendOnce[R withHeader](ctx context.Context, c *Client, outageMax time.Duration, over context.Context, id *callID,
	call func(context.Context, *grpc.ClientConn, *stmv1.CommitId) (R, error)) (R, error) {
	var none R
	out := outage{limit: outageMax}
	for {
		if ctx.Err() != nil {
			return none, c.stopped(ctx, out.cause)
		}
		l, err := c.link(ctx, out.giveUpAt(), out.cause)
		if err != nil {
			return none, err
		}
		if id.sent {
			id.id.Resend = true
		} else {
			// Named by what is known now: the writer this id is first sent to alone may ever execute it.
			now := c.position.get()
			id.id = &stmv1.CommitId{TransactionId: newTransactionID(), Writer: now.writer,
				Seen: &stmv1.Seen{Version: now.seen, Store: now.store}}
		}
		id.sent = true
		out.begin()
		this := proto.Clone(id.id).(*stmv1.CommitId)
		made := sendOn(
			ctx,
			l,
			over,
			func(ctx context.Context, conn *grpc.ClientConn) (R, error) { return call(ctx, conn, this) },
		)
		failed := made.err
		switch made.end {
		case endAnswered:
			if made.err == nil {
				id.sent = false
				c.position.observe(made.response.GetHeader())
				return made.response, nil
			}
			failed = errorFromStatus(made.err, c.names)
			if isContextError(failed) {
				return none, failed
			}
			detail := detailOf(made.err)
			if detail.GetHeader() != nil {
				if reasonOf(failed) == ReasonStoreChanged {
					c.position.adopt(detail.GetHeader())
				} else {
					c.position.observe(detail.GetHeader())
				}
			}
			switch {
			case detail.GetReason() == stmv1.ErrorReason_ERROR_REASON_NOT_COMMITTED:
				failed = unavailable("the daemon that the call was sent to is gone")
				id.sent = false
			case detail.GetReason() == stmv1.ErrorReason_ERROR_REASON_ID_TOO_OLD:
				id.sent = false
				if id.id.GetResend() {
					return none, commitUnknown(id.id, "it was sent too long ago for the daemon to tell", nil)
				}
				failed = unavailable("the call's id was too old when it came")
			case !isTransient(failed):
				id.sent = false
				return none, failed
			}
		case endContext:
			return none, c.stopped(ctx, out.cause)
		}
		// UNAVAILABLE may be the network's word: whether the daemon did it is found out by the same id.
		if over != nil && over.Err() != nil {
			return none, failed
		}
		if err := c.pause(ctx, &out, failed); err != nil {
			return none, err
		}
	}
}

func isContextError(err error) bool {
	var whole *Error
	return !errors.As(err, &whole) && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled))
}
