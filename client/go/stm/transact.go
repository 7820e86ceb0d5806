package stm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"stmd.dev/client/go/internal/stmv1"
)

const (
	runsAtOnce = 3 // the first and two reruns; later ones back off
	rerunMin   = time.Millisecond
	rerunMax   = 100 * time.Millisecond
	warnAtRun  = 10
)

// Transact runs body as a transaction, again and again until it commits on a snapshot that still stands. A body that
// returns an error, or panics, changes nothing, and the error or panic comes out unchanged. Inside a body, whose ctx it
// is given, it joins that transaction. ctx bounds it: its own error says that nothing was changed, ErrConflict that
// conflicts took all the time, ErrCommitUnknown that a commit was sent and its outcome could not be found out within 1
// s more.
func (c *Client) Transact(
	ctx context.Context,
	body func(ctx context.Context, tx *Tx) error,
	options ...TransactOption,
) error {
	config := transactConfigOf(options)
	if body == nil {
		return errNoTx
	}
	if outer := bodyOf(ctx); outer != nil {
		return outer.join(ctx, c, config, body)
	}
	t := &transaction{client: c, config: config, ctx: ctx, body: body}
	if config.once != "" {
		t.once = "/.once/" + config.once
	}
	if c.options.onTransacted == nil {
		return t.do()
	}
	began := time.Now()
	err := t.do()
	c.options.onTransacted(ctx, Transacted{Label: config.label, Runs: t.run, Took: time.Since(began), Err: err})
	return err
}

// join is of a transaction inside a body. An inner body that fails leaves nothing of what it wrote.
func (tx *Tx) join(
	ctx context.Context,
	client *Client,
	config *transactConfig,
	body func(context.Context, *Tx) error,
) (err error) {
	if tx.client != client {
		return inTransaction(
			"a transaction of another client",
			"one transaction is of one daemon: use the outer one's client",
		)
	}
	if !config.same(transactConfigOf(nil)) && !config.same(tx.config) {
		wrong := badValue("a transaction inside a transaction joins it, and its options differ from the outer one's: give them to the " +
			"outer one").(*Error)
		wrong.Name = "options"
		return wrong
	}
	at := tx.setMark()
	ended := false
	defer func() {
		if ended || tx.signal != signalNone {
			return
		}
		tx.returnTo(at) // a panic of the body's own
	}()
	err = body(ctx, tx)
	ended = true
	tx.checkSignal()
	if err != nil {
		tx.returnTo(at)
	} else {
		tx.dropMark(at)
	}
	return err
}

// transaction is the runs of one.
type transaction struct {
	client *Client
	config *transactConfig
	ctx    context.Context
	body   func(context.Context, *Tx) error
	once   string

	tx             *Tx
	carried        carried
	run            int
	runsSinceSleep int
	firstRun       time.Time
	reservation    uint64
	sent           sent
	causes         []ConflictCause
	why            string
}

func (t *transaction) do() error {
	for {
		if t.ctx.Err() != nil {
			return t.timeIsUp(contextError(t.ctx, nil))
		}
		t.run++
		t.runsSinceSleep++
		if t.runsSinceSleep == 1 {
			t.firstRun = time.Now()
		}
		t.tx = newTx(t.ctx, t.client, t.config, t.run, t.carried)
		t.carried = carried{}
		again, err := t.runOnce()
		if !again {
			return err
		}
	}
}

func (t *transaction) runOnce() (again bool, err error) {
	if t.once != "" {
		spent := t.tx.readOnce(t.once)
		if t.tx.signal != signalNone {
			return t.afterSignal()
		}
		if spent != nil {
			return false, t.takeSpent(spent)
		}
	}
	if t.config.rerunCheck {
		var differs error
		if err, differs = t.runTwice(); differs != nil {
			return false, differs
		}
	} else {
		err = t.tx.runBody(t.body)
	}
	if t.tx.signal != signalNone {
		return t.afterSignal()
	}
	if err != nil {
		return false, err
	}
	if t.once != "" {
		result := wireNil()
		if t.config.onceResult != nil {
			if result, err = t.client.codec.encode(t.config.onceResult()); err != nil {
				return false, ofEntry(t.once, err)
			}
		}
		t.tx.writeOnce(t.once, result, t.config.onceTTL)
	}
	return t.commit()
}

func (t *transaction) runTwice() (err, differs error) {
	first := t.tx.runBody(t.body)
	if t.tx.signal == signalRerun {
		return first, nil
	}
	before := t.tx
	t.tx = newTx(t.ctx, t.client, t.config, t.run, before.carrySame())
	if t.once != "" {
		t.tx.readOnce(t.once)
	}
	second := t.tx.runBody(t.body)
	if t.tx.signal == signalRerun {
		return second, nil
	}
	a, b := before.lines(), t.tx.lines()
	if first != nil {
		a = append(a, "error: "+first.Error())
	}
	if second != nil {
		b = append(b, "error: "+second.Error())
	}
	if slices.Equal(a, b) {
		return second, nil
	}
	at := 0
	for at < len(a) && at < len(b) && a[at] == b[at] {
		at++
	}
	line := func(lines []string) string {
		if at < len(lines) {
			return lines[at]
		}
		return "nothing more"
	}
	return nil, &Error{Reason: ReasonRerunDiffers, Expected: line(a), Found: line(b), code: codes.FailedPrecondition,
		Message: fmt.Sprintf(
			"RerunCheck: on one snapshot the first run did %q and the second %q: a body must depend on nothing but what "+
				"it reads; take time, chance and input before the transaction",
			line(a),
			line(b),
		)}
}

func (t *transaction) takeSpent(entry *stmv1.Entry) error {
	if t.config.onceAdopt != nil {
		if err := t.config.onceAdopt(t.client.codec, keptResult{t.once, entry.GetValue()}); err != nil {
			return err
		}
	}
	if t.config.report != nil {
		*t.config.report = Committed{Version: entry.GetVersion(), Repeated: true}
	}
	return nil
}

func (t *transaction) afterSignal() (again bool, err error) {
	switch t.tx.signal {
	case signalFail:
		return false, t.timeIsUp(t.tx.signalErr)
	case signalRerun:
		return t.again(nil, string(reasonOf(t.tx.signalErr)), false)
	default:
		return t.sleepUntilChange()
	}
}

func (t *transaction) sleepUntilChange() (again bool, err error) {
	answer, err := t.client.ask(t.ctx, func(call *stmv1.PipelineCall) {
		call.Request = &stmv1.PipelineCall_Await{Await: t.tx.awaitRequest(t.reservation)}
	})
	if err != nil {
		if reason := reasonOf(err); reason != ReasonSnapshotTooOld && reason != ReasonStoreChanged {
			return false, err
		}
		t.carried = t.tx.carry()
	} else {
		changed := answer.GetAwait()
		t.takeFresh(changed.GetHeader().GetStore(), changed.GetSnapshot(), changed.GetFresh())
	}
	// It waited for a change, not for its turn: its age begins anew.
	t.runsSinceSleep, t.reservation = 0, 0
	return true, nil
}

func (t *transaction) takeFresh(store uint64, snapshot int64, fresh []*stmv1.Entry) {
	t.carried = t.tx.carry()
	if snapshot == 0 {
		return
	}
	t.carried.snapshot, t.carried.store = snapshot, store
	t.carried.fresh = make(map[string]*stmv1.Entry, len(fresh))
	for _, entry := range fresh {
		t.carried.fresh[t.client.names.short(entry.GetName())] = entry
	}
}

func (t *transaction) commit() (again bool, err error) {
	committed := Committed{}
	if t.tx.needsCommit() {
		if err := t.tx.checkFences(); err != nil {
			return false, err
		}
		session := ""
		var bound *lease
		if t.tx.needsSession() {
			if bound, err = t.client.session.get(t.ctx); err != nil {
				return false, t.timeIsUp(err)
			}
			session = bound.id
		}
		traceparent := ""
		if t.client.options.traceparent != nil {
			traceparent = t.client.options.traceparent(t.ctx)
		}
		response, err := t.client.commit(t.ctx, func() *stmv1.CommitRequest {
			request := t.tx.commitRequest(session)
			request.Meta = &stmv1.Meta{
				Label:       t.config.label,
				Client:      t.client.options.clientName,
				Traceparent: traceparent,
			}
			if t.runsSinceSleep > 1 {
				request.Age = &stmv1.Age{
					SinceFirstRun: durationpb.New(time.Since(t.firstRun)),
					Runs:          uint32(t.runsSinceSleep),
					Reservation:   t.reservation,
				}
			}
			return request
		}, t.tx.store, &t.sent)
		if err != nil {
			switch reason := reasonOf(err); {
			case reason == ReasonSnapshotTooOld || reason == ReasonStoreChanged:
				return t.again(nil, string(reason), false)
			case reason == ReasonSessionExpired && bound != nil:
				t.client.session.drop(bound, true)
				return t.again(nil, string(reason), false)
			}
			return false, t.timeIsUp(err)
		}
		switch outcome := response.GetOutcome().(type) {
		case *stmv1.CommitResponse_Committed:
			committed = Committed{Version: outcome.Committed.GetVersion(), At: outcome.Committed.GetAt().AsTime(),
				TransactionID: t.sent.transactionID, Resends: t.sent.resends}
			t.client.position.observeVersion(response.GetHeader().GetStore(), committed.Version)
			t.tx.committed(outcome.Committed)
		case *stmv1.CommitResponse_Conflict:
			conflict := outcome.Conflict
			t.reservation = conflict.GetReservation()
			causes := t.client.causesOf(conflict)
			t.takeFresh(response.GetHeader().GetStore(), conflict.GetSnapshot(), conflict.GetFresh())
			return t.again(causes, "", conflict.GetReservedFor() != nil)
		case *stmv1.CommitResponse_Rejected:
			rejected := outcome.Rejected
			if rejected.GetCause() == stmv1.RejectCause_REJECT_CAUSE_ABSENT &&
				t.tx.forgetExistence(t.client.names.short(rejected.GetName())) {
				t.carried = t.tx.carry()
				return true, nil
			}
			return false, t.client.rejectedError(rejected)
		case *stmv1.CommitResponse_FenceLost:
			fence := outcome.FenceLost.GetFence()
			t.client.session.lose(fence.GetLock(), fence.GetToken())
			return false, lockLostError(t.client.names.short(fence.GetLock()), "is gone; nothing was changed")
		default:
			return false, internalError("the daemon answered a commit with no outcome: use a client as new as the daemon")
		}
	}
	if t.config.report != nil {
		*t.config.report = committed
	}
	callAll(t.tx.onCommit, committed)
	return false, nil
}

// again is before another run: the caller's bounds, its hook, and the pause.
func (t *transaction) again(causes []ConflictCause, why string, atOnce bool) (bool, error) {
	if why != "" {
		t.carried = t.tx.carry()
	}
	t.causes, t.why = causes, why
	if t.config.runsMax > 0 && t.run >= t.config.runsMax {
		return false, t.conflictError(fmt.Sprintf("%d runs are spent", t.run), nil)
	}
	if errors.Is(t.ctx.Err(), context.DeadlineExceeded) {
		return false, t.conflictError("the time is up", t.ctx.Err())
	}
	if t.config.onRerun != nil {
		t.config.onRerun(Rerun{Run: t.run + 1, Causes: causes, Why: why})
	}
	// Who sleeps nine times is in nobody's way.
	if t.runsSinceSleep+1 == warnAtRun {
		label := ""
		if t.config.label != "" {
			label = fmt.Sprintf("%q ", t.config.label)
		}
		t.client.options.warn(
			fmt.Sprintf("transaction %sis at its %dth run: %s: make its body shorter, or commute what it only adds to",
				label, warnAtRun, t.blame()),
		)
	}
	if atOnce || t.runsSinceSleep+1 <= runsAtOnce {
		return true, nil
	}
	doublings := min(t.runsSinceSleep-runsAtOnce, 7)
	if !t.client.transport.sleep(t.ctx, between(rerunMin, min(rerunMax, rerunMin*(2<<doublings)))) {
		if t.client.ctx.Err() != nil {
			return false, ErrClosed
		}
		return false, t.timeIsUp(contextError(t.ctx, nil))
	}
	return true, nil
}

func (t *transaction) blame() string {
	if t.why != "" {
		return t.why
	}
	return "changed meanwhile: " + describe(t.causes)
}

func describe(causes []ConflictCause) string {
	if len(causes) == 0 {
		return "what was read"
	}
	first := causes[0]
	text := first.Name
	if first.By.Client != "" {
		text += " by " + first.By.Client
	}
	if first.By.Label != "" {
		text += " (" + first.By.Label + ")"
	}
	text += fmt.Sprintf(" at version %d", first.Version)
	if len(causes) > 1 {
		text += fmt.Sprintf(", and %d more", len(causes)-1)
	}
	return text
}

func (t *transaction) conflictError(spent string, ends error) error {
	name := ""
	if len(t.causes) > 0 {
		name = t.causes[0].Name
	}
	return &Error{
		Reason: ReasonConflict,
		Name:   name,
		Causes: t.causes,
		code:   codes.Aborted,
		ends:   ends,
		Message: fmt.Sprintf(
			"conflict: %s, and %s; nothing was changed: allow more, or make the body shorter", t.blame(), spent),
	}
}

// timeIsUp is of the caller's deadline: after conflicts, they are the reason.
func (t *transaction) timeIsUp(err error) error {
	if t.runsSinceSleep > 1 && isContextError(err) && errors.Is(t.ctx.Err(), context.DeadlineExceeded) {
		return t.conflictError("the time is up", t.ctx.Err())
	}
	return err
}

func metaOf(meta *stmv1.Meta) Meta {
	return Meta{
		Label:       meta.GetLabel(),
		Client:      meta.GetClient(),
		Traceparent: meta.GetTraceparent(),
		Principal:   meta.GetPrincipal(),
	}
}

func (c *Client) causesOf(conflict *stmv1.Conflict) []ConflictCause {
	var causes []ConflictCause
	for _, cause := range conflict.GetCauses() {
		causes = append(
			causes,
			ConflictCause{Name: c.names.short(cause.GetName()), Version: cause.GetVersion(), By: metaOf(cause.GetBy())},
		)
	}
	return causes
}

func (c *Client) rejectedError(rejected *stmv1.Rejected) error {
	made := &Error{Reason: ReasonRejected, Name: c.names.short(rejected.GetName()), Found: rejected.GetFound(),
		code: codes.FailedPrecondition}
	remedy := "nothing was changed; the same write would be rejected again"
	switch rejected.GetCause() {
	case stmv1.RejectCause_REJECT_CAUSE_VALIDATOR:
		made.Cause, remedy = "validator", "nothing was changed; write a value that the rule takes, or change the rule"
	case stmv1.RejectCause_REJECT_CAUSE_TYPE:
		made.Cause, remedy = "type", "nothing was changed; use an operation of the value's type"
	case stmv1.RejectCause_REJECT_CAUSE_COMPARE:
		made.Cause, remedy = "compare", "nothing was changed; read it again and decide anew"
	case stmv1.RejectCause_REJECT_CAUSE_OVERFLOW:
		made.Cause, remedy = "overflow", "nothing was changed; keep larger numbers as *big.Int"
	case stmv1.RejectCause_REJECT_CAUSE_ABSENT:
		made.Cause, made.Reason, made.code = "absent", ReasonAbsent, codes.NotFound
		remedy = "set it first, or give its handle an init"
	case stmv1.RejectCause_REJECT_CAUSE_KIND:
		made.Cause, made.Reason = "kind", ReasonWrongKind
		remedy = "use stm.NewRef for a ref and stm.NewAtom for an atom"
	}
	if rejected.GetRule() != nil {
		made.Rule, _ = c.codec.decodeUntyped(
			made.Name,
			rejected.GetRule(),
		) // one that can't be read is left out: the message has it
	}
	// The daemon's message has the entry's whole name, if any.
	what := strings.ReplaceAll(rejected.GetMessage(), rejected.GetName(), made.Name)
	if what == "" {
		what = "found " + rejected.GetFound()
	}
	if !strings.HasPrefix(what, made.Name+":") {
		what = made.Name + ": " + what
	}
	made.Message = fmt.Sprintf("rejected: %s: %s", what, remedy)
	return made
}
