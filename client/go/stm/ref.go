package stm

import (
	"context"
	"fmt"
	"iter"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"stmd.dev/client/go/internal/stmv1"
)

// handle is what a Ref or an Atom is, without its type.
type handle struct {
	client     *Client
	name       string
	atom       bool
	init       *stmv1.Value // nil: none
	definition *Definition
	wrong      error // of its init or definition: told when it is used
	// Seen to exist: an operation needs no create before it. A hint; cleared when the daemon finds the entry absent.
	exists atomic.Bool
}

func newHandle[T any](client *Client, name string, atom bool, init []T) *handle {
	h := &handle{client: client, name: name, atom: atom}
	switch len(init) {
	case 0:
	case 1:
		wire, err := client.codec.encode(init[0])
		if err != nil {
			h.wrong = ofEntry(name, err)
		}
		h.init = wire
	default:
		h.wrong = ofEntry(name, badValue(fmt.Sprintf("a handle has one init, not %d: give it one", len(init))))
	}
	return h
}

func (h *handle) with(definition Definition) *handle {
	made := &handle{client: h.client, name: h.name, atom: h.atom, init: h.init, wrong: h.wrong, definition: &definition}
	if _, err := definition.wire(h.client.codec, ""); err != nil && made.wrong == nil {
		made.wrong = ofEntry(h.name, err)
	}
	return made
}

// check is of each call outside transactions.
func (h *handle) check(ctx context.Context, what string) error {
	if err := checkOutside(ctx, what+" of "+h.name); err != nil {
		return err
	}
	if h.wrong != nil {
		return h.wrong
	}
	return checkName(h.name)
}

// load is the newest value, linearizable; nil: absent.
func (h *handle) load(ctx context.Context) (*stmv1.Value, error) {
	if err := h.check(ctx, "Load"); err != nil {
		return nil, err
	}
	for {
		answer, err := h.client.ask(ctx, func(call *stmv1.PipelineCall) {
			call.Request = &stmv1.PipelineCall_Get{
				Get: &stmv1.GetRefsRequest{Names: []string{h.client.names.full(h.name)},
					At: &stmv1.ReadPoint{Seen: h.client.position.seen()}},
			}
		})
		if reasonOf(err) == ReasonStoreChanged {
			continue // the new store is taken; nothing hangs on the old
		}
		if err != nil {
			return nil, err
		}
		entries := answer.GetGet().GetEntries()
		if len(entries) != 1 {
			return nil, internalError(h.name + ": the daemon's answer lacks it: report this")
		}
		value := present(entries[0].GetValue())
		if value != nil && isAtom(entries[0]) != h.atom {
			return nil, wrongKind(h.name, isAtom(entries[0]))
		}
		return value, nil
	}
}

func load[T any](ctx context.Context, h *handle) (T, error) {
	var none T
	value, err := h.load(ctx)
	if err != nil {
		return none, err
	}
	if value == nil {
		value = h.init
	}
	made, _, err := decodeAs[T](h.client.codec, h.name, value)
	return made, err
}

func lookup[T any](ctx context.Context, h *handle) (T, bool, error) {
	var none T
	value, err := h.load(ctx)
	if err != nil || value == nil {
		return none, false, err
	}
	made, _, err := decodeAs[T](h.client.codec, h.name, value)
	return made, err == nil, err
}

func loadAt[T any](ctx context.Context, view *View, h *handle) (T, error) {
	made, present, err := lookupAt[T](ctx, view, h)
	if err == nil && !present {
		err = absentError(h.name)
	}
	return made, err
}

func lookupAt[T any](ctx context.Context, view *View, h *handle) (T, bool, error) {
	var none T
	value, err := view.read(ctx, h)
	if err != nil || value == nil {
		return none, false, err
	}
	made, _, err := decodeAs[T](h.client.codec, h.name, value)
	return made, err == nil, err
}

func (h *handle) definitionOf(ctx context.Context) (Definition, bool, error) {
	if err := h.check(ctx, "Definition"); err != nil {
		return Definition{}, false, err
	}
	answer, err := h.client.ask(ctx, func(call *stmv1.PipelineCall) {
		call.Request = &stmv1.PipelineCall_Get{Get: &stmv1.GetRefsRequest{Names: []string{h.client.names.full(h.name)},
			WithDefinition: true, At: &stmv1.ReadPoint{Seen: h.client.position.seen()}}}
	})
	if err != nil {
		return Definition{}, false, err
	}
	entries := answer.GetGet().GetEntries()
	if len(entries) != 1 || !exists(entries[0].GetValue()) {
		return Definition{}, false, nil
	}
	wire := entries[0].GetDefinition()
	made := Definition{
		TTL:       wire.GetTtl().AsDuration(),
		Ephemeral: wire.GetSessionId() != "",
		Container: wire.GetContainer(),
	}
	if wire.GetValidator() != nil {
		if made.Validator, err = h.client.codec.decodeUntyped(h.name, wire.GetValidator()); err != nil {
			return Definition{}, false, err
		}
	}
	return made, true, nil
}

// HistoryOption changes what History gives.
type HistoryOption func(*stmv1.GetHistoryRequest)

// Before gives only commits before that version.
func Before(version int64) HistoryOption {
	return func(r *stmv1.GetHistoryRequest) { r.BeforeVersion = version }
}

// Limit gives at most so many: 1 to 1000. Without it: 100.
func Limit(commits int) HistoryOption {
	return func(r *stmv1.GetHistoryRequest) { r.Limit = uint32(min(max(commits, 1), 1000)) }
}

func (h *handle) history(ctx context.Context, options []HistoryOption) ([]Commit, error) {
	if err := h.check(ctx, "History"); err != nil {
		return nil, err
	}
	c := h.client
	answer, err := unary(ctx, c, func(ctx context.Context, conn *grpc.ClientConn) (*stmv1.GetHistoryResponse, error) {
		request := &stmv1.GetHistoryRequest{Name: c.names.full(h.name), Limit: 100, Seen: c.position.seen()}
		for _, option := range options {
			option(request)
		}
		return stmv1.NewRefServiceClient(conn).GetHistory(ctx, request)
	})
	if err != nil {
		return nil, err
	}
	c.position.observe(answer.GetHeader())
	var commits []Commit
	for _, event := range answer.GetCommits() {
		commit := Commit{}
		if err := c.addToCommit(event, &commit); err != nil {
			return nil, err
		}
		commits = append(commits, commit)
	}
	return commits, nil
}

// Maybe is a value, or that there is none.
type Maybe[T any] struct {
	Value   T
	Present bool // false: the entry is absent
}

func follow[T any](ctx context.Context, h *handle, options []WatchOption) iter.Seq2[Maybe[T], error] {
	return func(yield func(Maybe[T], error) bool) {
		if err := h.check(ctx, "Follow"); err != nil {
			yield(Maybe[T]{}, err)
			return
		}
		told := func(value *stmv1.Value) bool {
			if !exists(value) {
				return yield(Maybe[T]{}, nil)
			}
			made, _, err := decodeAs[T](h.client.codec, h.name, value)
			if err != nil {
				yield(Maybe[T]{}, err)
				return false
			}
			return yield(Maybe[T]{Value: made, Present: true}, nil)
		}
		config := watchConfigOf(options)
		config.initial, config.after, config.conflate = true, 0, true
		err := h.client.watch(ctx, []string{h.name}, config, func(events *watched) (bool, error) {
			if events.initial && len(events.changes) == 0 {
				return told(nil), nil
			}
			for _, change := range events.changes {
				if change.GetKind() != stmv1.ChangeKind_CHANGE_KIND_DEFINED && !told(change.GetAfter()) {
					return false, nil
				}
			}
			return true, nil
		})
		if err != nil {
			yield(Maybe[T]{}, err)
		}
	}
}

// Ref is a typed name of an entry that changes inside transactions only: a handle that does no I/O when made, for any
// goroutine. Methods that take a Tx are for its body; those that take a ctx are I/O, and ErrInTransaction inside a
// body.
type Ref[T any] struct{ h *handle }

// NewRef makes a handle. init, one or none: the entry is made with it if it is absent, by the first transaction that
// touches it, and never reset. Without it: stm.NewRef[int](client, "/r0").
func NewRef[T any](client *Client, name string, init ...T) *Ref[T] {
	return &Ref[T]{newHandle(client, name, false, init)}
}

// With is the ref with a definition for who creates the entry; an existing one keeps its own.
func (r *Ref[T]) With(definition Definition) *Ref[T] { return &Ref[T]{r.h.with(definition)} }

// Name is the entry's, without the client's prefix.
func (r *Ref[T]) Name() string { return r.h.name }

// Get is the value at the transaction's snapshot, or as the body wrote it. Absent: the ref's init, which is created by
// this commit, else the transaction ends with ErrAbsent.
func (r *Ref[T]) Get(tx *Tx) T { return take[T](tx, r.h, tx.readOrInit(r.h)) }

// Find is Get, and false for an absent entry.
func (r *Ref[T]) Find(tx *Tx) (T, bool) {
	value := tx.read(r.h)
	if value == nil {
		var none T
		return none, false
	}
	return take[T](tx, r.h, value), true
}

// Set writes, whatever is there.
func (r *Ref[T]) Set(tx *Tx, value T) {
	tx.enterHandle(r.h)
	tx.write(r.h, tx.encode(r.h, value))
}

// Alter writes what f makes of the value, and returns it.
func (r *Ref[T]) Alter(tx *Tx, f func(T) T) T {
	tx.checkAlter(r.h)
	after := f(r.Get(tx))
	tx.write(r.h, tx.encode(r.h, after))
	return after
}

// Commute has the daemon apply op to the value of the commit: never a conflict. Set or Alter of the same ref after it
// is an error; Get asks the daemon, and counts as a read.
func (r *Ref[T]) Commute(tx *Tx, op Op) *CommuteResult { return tx.apply(r.h, op) }

// Ensure fails the commit, also under SnapshotIsolation, if the ref has changed since.
func (r *Ref[T]) Ensure(tx *Tx) { tx.ensure(r.h) }

// Delete makes the entry absent.
func (r *Ref[T]) Delete(tx *Tx) { tx.erase(r.h) }

// Define replaces validator, TTL and binding of an entry that is there by then, whole. Who sets a ref and defines it as
// ephemeral has bound it to this client's session, whoever made it.
func (r *Ref[T]) Define(tx *Tx, definition Definition) { tx.define(r.h, definition) }

// Load is the newest value, linearizable. Absent: the ref's init, else ErrAbsent.
func (r *Ref[T]) Load(ctx context.Context) (T, error) { return load[T](ctx, r.h) }

// Lookup is Load, and false for an absent entry.
func (r *Ref[T]) Lookup(ctx context.Context) (T, bool, error) { return lookup[T](ctx, r.h) }

// LoadAt is the value in a View. Absent: ErrAbsent.
func (r *Ref[T]) LoadAt(ctx context.Context, view *View) (T, error) { return loadAt[T](ctx, view, r.h) }

// LookupAt is LoadAt, and false for an absent entry.
func (r *Ref[T]) LookupAt(ctx context.Context, view *View) (T, bool, error) {
	return lookupAt[T](ctx, view, r.h)
}

// Definition is the entry's, and false if it is absent.
func (r *Ref[T]) Definition(ctx context.Context) (Definition, bool, error) {
	return r.h.definitionOf(ctx)
}

// History is who changed it, when and why, newest first, as far as the log goes.
func (r *Ref[T]) History(ctx context.Context, options ...HistoryOption) ([]Commit, error) {
	return r.h.history(ctx, options)
}

// Follow gives the present value, then the newest after each change, until ctx is done, whose error is the last. Values
// that come faster than they are taken are left out.
func (r *Ref[T]) Follow(ctx context.Context, options ...WatchOption) iter.Seq2[Maybe[T], error] {
	return follow[T](ctx, r.h, options)
}

// Atom is a typed name of an entry that changes alone, by its own methods: a handle that does no I/O when made, for any
// goroutine.
type Atom[T any] struct{ h *handle }

// NewAtom makes a handle. init, one or none: as NewRef's.
func NewAtom[T any](client *Client, name string, init ...T) *Atom[T] {
	return &Atom[T]{newHandle(client, name, true, init)}
}

// With is the atom with a definition for who creates the entry; an existing one keeps its own.
func (a *Atom[T]) With(definition Definition) *Atom[T] { return &Atom[T]{a.h.with(definition)} }

// Name is the entry's, without the client's prefix.
func (a *Atom[T]) Name() string { return a.h.name }

// Get reads it in a transaction. Absent: the atom's init, else the transaction ends with ErrAbsent.
func (a *Atom[T]) Get(tx *Tx) T { return take[T](tx, a.h, tx.readOrInit(a.h)) }

// Find is Get, and false for an absent entry.
func (a *Atom[T]) Find(tx *Tx) (T, bool) {
	value := tx.read(a.h)
	if value == nil {
		var none T
		return none, false
	}
	return take[T](tx, a.h, value), true
}

// Ensure fails the commit, also under SnapshotIsolation, if the atom has changed since.
func (a *Atom[T]) Ensure(tx *Tx) { tx.ensure(a.h) }

// Load is the newest value, linearizable. Absent: the atom's init, else ErrAbsent.
func (a *Atom[T]) Load(ctx context.Context) (T, error) { return load[T](ctx, a.h) }

// Lookup is Load, and false for an absent entry.
func (a *Atom[T]) Lookup(ctx context.Context) (T, bool, error) { return lookup[T](ctx, a.h) }

// LoadAt is the value in a View. Absent: ErrAbsent.
func (a *Atom[T]) LoadAt(ctx context.Context, view *View) (T, error) {
	return loadAt[T](ctx, view, a.h)
}

// LookupAt is LoadAt, and false for an absent entry.
func (a *Atom[T]) LookupAt(ctx context.Context, view *View) (T, bool, error) {
	return lookupAt[T](ctx, view, a.h)
}

// Definition is the entry's, and false if it is absent.
func (a *Atom[T]) Definition(ctx context.Context) (Definition, bool, error) {
	return a.h.definitionOf(ctx)
}

// History is who changed it, when and why, newest first, as far as the log goes.
func (a *Atom[T]) History(ctx context.Context, options ...HistoryOption) ([]Commit, error) {
	return a.h.history(ctx, options)
}

// Follow gives the present value, then the newest after each change, as Ref.Follow does.
func (a *Atom[T]) Follow(ctx context.Context, options ...WatchOption) iter.Seq2[Maybe[T], error] {
	return follow[T](ctx, a.h, options)
}

// alone is a transaction of this entry. what: for who calls it inside a body.
func (a *Atom[T]) alone(ctx context.Context, what string, options []TransactOption, body func(tx *Tx)) error {
	if err := a.h.check(ctx, what); err != nil {
		return err
	}
	return a.h.client.Transact(ctx, func(_ context.Context, tx *Tx) error {
		body(tx)
		return nil
	}, options...)
}

// Reset writes, whatever is there.
func (a *Atom[T]) Reset(ctx context.Context, value T, options ...TransactOption) error {
	return a.alone(ctx, "Reset", options, func(tx *Tx) { tx.write(a.h, tx.encode(a.h, value)) })
}

// Swap writes what f makes of the value, and returns it. f may run several times. Absent: f gets the init, else
// ErrAbsent.
func (a *Atom[T]) Swap(ctx context.Context, f func(T) T, options ...TransactOption) (T, error) {
	var after T
	err := a.alone(ctx, "Swap", options, func(tx *Tx) {
		value := tx.read(a.h)
		if value == nil {
			value = a.h.init
		}
		if value == nil {
			tx.fail(absentError(a.h.name))
		}
		after = f(take[T](tx, a.h, value))
		tx.write(a.h, tx.encode(a.h, after))
	})
	if err != nil {
		var none T
		return none, err
	}
	return after, nil
}

// CompareAndSet writes value if expected is there. False: it was another value, or absent.
func (a *Atom[T]) CompareAndSet(ctx context.Context, expected, value T, options ...TransactOption) (bool, error) {
	return a.compareAndSet(ctx, expected, value, options)
}

// SetIfAbsent writes value if there is none. False: there was one.
func (a *Atom[T]) SetIfAbsent(ctx context.Context, value T, options ...TransactOption) (bool, error) {
	return a.compareAndSet(ctx, Absent, value, options)
}

func (a *Atom[T]) compareAndSet(ctx context.Context, expected any, value T, options []TransactOption) (bool, error) {
	_, err := a.apply(ctx, CompareAndSet(expected, value), options)
	if cause := causeOf(err); cause == "compare" {
		return false, nil
	}
	return err == nil || reasonOf(err) == ReasonValueLost, ignoreLostResult(err)
}

// ignoreLostResult is for who needs no result: the operation was applied.
func ignoreLostResult(err error) error {
	if reasonOf(err) == ReasonValueLost {
		return nil
	}
	return err
}

// Apply has the daemon apply op, and gives its result: the new value, but what was removed for Pop and Shift, for which
// ApplyAs has another type.
func (a *Atom[T]) Apply(ctx context.Context, op Op, options ...TransactOption) (T, error) {
	return ApplyAs[T](ctx, a, op, options...)
}

// ApplyAs is Apply of an operation whose result is no T.
func ApplyAs[R, T any](ctx context.Context, a *Atom[T], op Op, options ...TransactOption) (R, error) {
	var none R
	value, err := a.apply(ctx, op, options)
	if err != nil {
		return none, err
	}
	made, _, err := decodeAs[R](a.h.client.codec, a.h.name, value)
	return made, err
}

func (a *Atom[T]) apply(ctx context.Context, op Op, options []TransactOption) (*stmv1.Value, error) {
	var result *CommuteResult
	if err := a.alone(ctx, "Apply", options, func(tx *Tx) { result = tx.apply(a.h, op) }); err != nil {
		return nil, err
	}
	if result == nil || !exists(result.wire) {
		return nil, &Error{Reason: ReasonValueLost, Name: a.h.name, code: codes.DataLoss, Message: a.h.name +
			": the operation was applied, and its result was lost with the connection: read the entry"}
	}
	return result.wire, nil
}

// Delete makes the entry absent.
func (a *Atom[T]) Delete(ctx context.Context, options ...TransactOption) error {
	return a.alone(ctx, "Delete", options, func(tx *Tx) { tx.erase(a.h) })
}

// Define replaces validator, TTL and binding of an entry that is there, whole.
func (a *Atom[T]) Define(ctx context.Context, definition Definition, options ...TransactOption) error {
	return a.alone(ctx, "Define", options, func(tx *Tx) { tx.define(a.h, definition) })
}

func causeOf(err error) string {
	if whole, is := asError(err); is {
		return whole.Cause
	}
	return ""
}
