// Package recipes is what programs build from refs again and again, on the public API alone. What is made here is a
// handle, for any goroutine, but Fold. (Once is a transaction's option: stm.Once, stm.OnceResult.)
package recipes

import (
	"context"
	"iter"

	"stmd.dev/client/go/stm"
)

// Queue is one ref that holds a vector: first in, first out, whole within a transaction with whatever else it changes.
// A value is bounded (value_bytes_max), and so is the queue: it is for work to be done, not for storage.
type Queue[T any] struct {
	client *stm.Client
	ref    *stm.Ref[[]T]
}

// NewQueue makes a handle.
func NewQueue[T any](client *stm.Client, name string) *Queue[T] {
	return &Queue[T]{client, stm.NewRef(client, name, []T{})}
}

// Put never conflicts with others that put.
func (q *Queue[T]) Put(tx *stm.Tx, item T) { q.ref.Commute(tx, stm.Conj(item)) }

// Add is Put by itself.
func (q *Queue[T]) Add(ctx context.Context, item T) error {
	return q.client.Transact(ctx, func(_ context.Context, tx *stm.Tx) error {
		q.Put(tx, item)
		return nil
	})
}

// Take sleeps until there is one.
func (q *Queue[T]) Take(tx *stm.Tx) T {
	items := q.ref.Get(tx)
	if len(items) == 0 {
		tx.Retry()
	}
	q.ref.Set(tx, items[1:])
	return items[0]
}

// Next is Take by itself, until ctx is done.
func (q *Queue[T]) Next(ctx context.Context) (item T, err error) {
	err = q.client.Transact(ctx, func(_ context.Context, tx *stm.Tx) error {
		item = q.Take(tx)
		return nil
	})
	return item, err
}

// TryNext is Next, and false where it would sleep.
func (q *Queue[T]) TryNext(ctx context.Context) (item T, taken bool, err error) {
	err = q.client.Transact(ctx, func(_ context.Context, tx *stm.Tx) error {
		tx.OrElse(func() { item, taken = q.Take(tx), true }, func() { taken = false })
		return nil
	})
	return item, taken, err
}

// Barrier holds parties callers back until all of them have come, and then is as new.
type Barrier struct {
	client  *stm.Client
	parties int64
	ref     *stm.Ref[[]int64] // those who came, and the round
}

// NewBarrier makes a handle; all parties give the same number.
func NewBarrier(client *stm.Client, name string, parties int64) *Barrier {
	return &Barrier{client, parties, stm.NewRef(client, name, []int64{0, 0})}
}

// Await returns when all have come. A caller whose time is up has come all the same: it is counted once, and does not
// come again.
func (b *Barrier) Await(ctx context.Context) error {
	var mine int64
	err := b.client.Transact(ctx, func(_ context.Context, tx *stm.Tx) error {
		b.ref.Alter(tx, func(state []int64) []int64 {
			mine = state[1]
			if state[0]+1 < b.parties {
				return []int64{state[0] + 1, mine}
			}
			return []int64{0, mine + 1}
		})
		return nil
	})
	if err != nil {
		return err
	}
	return b.client.Transact(ctx, func(_ context.Context, tx *stm.Tx) error {
		if b.ref.Get(tx)[1] == mine {
			tx.Retry()
		}
		return nil
	})
}

// Election has one leader at a time: who holds the lock name, and says so in the ref name, written under its fence and
// bound to its session, so that it goes with it. What a leader does for others it fences by its Held.
type Election struct {
	client *stm.Client
	leader *stm.Ref[string]
}

// NewElection makes a handle.
func NewElection(client *stm.Client, name string) *Election {
	return &Election{client, stm.NewRef[string](client, name)}
}

// Campaign waits its turn and proclaims id, as which the lock is held, too. It leads until it resigns or the Held is
// lost.
func (e *Election) Campaign(ctx context.Context, id string, options ...stm.LockOption) (*stm.Held, error) {
	held, err := e.client.Lock(ctx, e.leader.Name(), append(options, stm.Owner(id))...)
	if err != nil {
		return nil, err
	}
	if err := e.Proclaim(ctx, held, id); err != nil {
		_ = held.Release() // the first error is what happened
		return nil, err
	}
	return held, nil
}

// Proclaim is what observers see, anew. stm.ErrLockLost: it leads no more, and nothing was changed.
func (e *Election) Proclaim(ctx context.Context, held *stm.Held, value string) error {
	return e.client.Transact(ctx, func(_ context.Context, tx *stm.Tx) error {
		tx.Fence(held)
		e.leader.Set(tx, value)
		e.leader.Define(tx, stm.Definition{Ephemeral: true})
		return nil
	})
}

// Resign says that nobody leads, and gives the lock up.
func (e *Election) Resign(ctx context.Context, held *stm.Held) error {
	err := e.client.Transact(ctx, func(_ context.Context, tx *stm.Tx) error {
		tx.Fence(held)
		e.leader.Delete(tx)
		return nil
	})
	if err != nil {
		return err
	}
	return held.Release()
}

// Observe gives who leads now, or that nobody does, then each change. Whose lock an operator broke is seen until the
// next leads, or its session ends.
func (e *Election) Observe(ctx context.Context) iter.Seq2[stm.Maybe[string], error] {
	return e.leader.Follow(ctx)
}

// Fold follows records into a state of this process's own: an index, a read model, a triple store. For one goroutine.
type Fold[S any] struct {
	client  *stm.Client
	step    func(S, stm.Record) S
	of      []any
	state   S
	version int64
}

// NewFold begins at state. step makes the next state and leaves the one before as it is; of is as that of
// Client.Records.
func NewFold[S any](client *stm.Client, state S, step func(S, stm.Record) S, of ...any) *Fold[S] {
	return &Fold[S]{client: client, state: state, step: step, of: of}
}

// Update takes in what was recorded since. After an error the state is as it was before the call.
func (f *Fold[S]) Update(ctx context.Context) error {
	state, version, of := f.state, f.version, f.of
	if version > 0 {
		of = append(append([]any{}, of...), stm.From(version+1))
	}
	for record, err := range f.client.Records(ctx, of...) {
		if err != nil {
			return err
		}
		state, version = f.step(state, record), record.Version
	}
	f.state, f.version = state, version
	return nil
}

// State is of the newest record taken in.
func (f *Fold[S]) State() S { return f.state }

// Version is of the newest record taken in; 0: none was.
func (f *Fold[S]) Version() int64 { return f.version }
