package stm_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"stmd.dev/client/go/stm"
	"stmd.dev/client/go/stmtest"
)

// start is a daemon with a client of it, and a ctx that ends a test which hangs.
func start(t *testing.T, options ...stm.ConnectOption) (context.Context, *stmtest.Daemon, *stm.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	daemon := stmtest.Start(t)
	return ctx, daemon, daemon.Client(options...)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wants(t *testing.T, err, want error) *stm.Error {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%v, want %v", err, want)
	}
	whole := &stm.Error{}
	errors.As(err, &whole)
	return whole
}

func set[T any](ctx context.Context, t *testing.T, client *stm.Client, ref *stm.Ref[T], value T) {
	t.Helper()
	must(t, client.Transact(ctx, func(_ context.Context, tx *stm.Tx) error {
		ref.Set(tx, value)
		return nil
	}))
}

func TestAPanicOfABodyComesOutUnchangedAndChangesNothing(t *testing.T) {
	ctx, _, client := start(t)
	ref := stm.NewRef(client, "/a", 1)
	func() {
		defer func() {
			if why := recover(); why != "mine" {
				t.Error(why)
			}
		}()
		_ = client.Transact(ctx, func(_ context.Context, tx *stm.Tx) error {
			ref.Set(tx, 2)
			panic("mine")
		})
		t.Error("no panic")
	}()
	if _, there, err := ref.Lookup(ctx); there || err != nil {
		t.Error(there, err)
	}
}

func TestABodyThatRecoversARetryIsAbandonedAllTheSame(t *testing.T) {
	ctx, _, client := start(t)
	ref := stm.NewRef(client, "/a", 0)
	ended, stop := context.WithCancel(ctx)
	err := client.Transact(ended, func(_ context.Context, tx *stm.Tx) error {
		defer func() {
			_ = recover()
			stop() // while it sleeps
		}()
		ref.Get(tx)
		ref.Set(tx, 5)
		tx.Retry()
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if value, err := ref.Load(ctx); value != 0 || err != nil {
		t.Error(value, err)
	}
}

func TestAPanicInTheFirstWayOfOrElseIsNoRetry(t *testing.T) {
	ctx, _, client := start(t)
	ref := stm.NewRef(client, "/a", 0)
	must(t, client.Transact(ctx, func(_ context.Context, tx *stm.Tx) error {
		func() {
			defer func() {
				if recover() != "mine" {
					t.Error("another panic")
				}
			}()
			tx.OrElse(func() { panic("mine") }, func() { t.Error("the second way ran") })
		}()
		ref.Set(tx, 1)
		return nil
	}))
	if value, err := ref.Load(ctx); value != 1 || err != nil {
		t.Error(value, err)
	}
}

func TestAPanicInAJoinedBodyDropsWhatThatBodyWrote(t *testing.T) {
	ctx, _, client := start(t)
	inner, outer := stm.NewRef(client, "/inner", 0), stm.NewRef(client, "/outer", 0)
	must(t, client.Transact(ctx, func(ctx context.Context, tx *stm.Tx) error {
		outer.Set(tx, 1)
		func() {
			defer func() { _ = recover() }()
			_ = client.Transact(ctx, func(_ context.Context, tx *stm.Tx) error {
				inner.Set(tx, 1)
				panic("mine")
			})
		}()
		return nil
	}))
	if value, err := outer.Load(ctx); value != 1 || err != nil {
		t.Error(value, err)
	}
	if _, there, err := inner.Lookup(ctx); there || err != nil {
		t.Error(there, err)
	}
}

func TestIOInsideABodyIsRefused(t *testing.T) {
	ctx, daemon, client := start(t)
	other := daemon.Client()
	atom := stm.NewAtom(client, "/atom", 0)
	calls := map[string]func(context.Context) error{
		"Load":    func(ctx context.Context) error { _, err := atom.Load(ctx); return err },
		"Reset":   func(ctx context.Context) error { return atom.Reset(ctx, 1) },
		"Lock":    func(ctx context.Context) error { _, err := client.Lock(ctx, "/l"); return err },
		"List":    func(ctx context.Context) error { _, err := client.List(ctx, "/"); return err },
		"View":    func(ctx context.Context) error { _, err := client.At(1).List(ctx, "/"); return err },
		"History": func(ctx context.Context) error { _, err := atom.History(ctx); return err },
		"Watch":   func(ctx context.Context) error { return firstError(client.Watch(ctx, "/")) },
		"Records": func(ctx context.Context) error { return firstError(client.Records(ctx)) },
		"Outcome": func(ctx context.Context) error { _, _, err := client.Outcome(ctx, "x"); return err },
		"Offer":   func(ctx context.Context) error { _, err := client.Offer(ctx, "x"); return err },
		"other": func(ctx context.Context) error {
			return other.Transact(ctx, func(context.Context, *stm.Tx) error { return nil })
		},
	}
	must(t, client.Transact(ctx, func(ctx context.Context, _ *stm.Tx) error {
		for name, call := range calls {
			if err := call(ctx); !errors.Is(err, stm.ErrInTransaction) {
				t.Errorf("%s: %v", name, err)
			}
		}
		return nil
	}))
	err := client.Transact(ctx, func(ctx context.Context, _ *stm.Tx) error {
		stm.IO(ctx)
		return nil
	})
	wants(t, err, stm.ErrInTransaction)
	stm.IO(ctx) // outside it is nothing
}

func firstError[T any](all func(func(T, error) bool)) (first error) {
	all(func(_ T, err error) bool {
		first = err
		return false
	})
	return first
}

func TestACtxThatOutlivesItsBodyIsOutside(t *testing.T) {
	ctx, _, client := start(t)
	var leaked context.Context
	must(t, client.Transact(ctx, func(ctx context.Context, _ *stm.Tx) error {
		leaked = ctx
		return nil
	}))
	if value, err := stm.NewRef(client, "/a", 7).Load(leaked); value != 7 || err != nil {
		t.Error(value, err)
	}
}

func TestRerunCheckShowsWhereABodyDiffers(t *testing.T) {
	ctx, _, client := start(t)
	ref, n := stm.NewRef(client, "/a", 0), 0
	err := client.Transact(ctx, func(_ context.Context, tx *stm.Tx) error {
		n++
		ref.Set(tx, n)
		return nil
	}, stm.RerunCheck())
	whole := wants(t, err, stm.ErrRerunDiffers)
	if whole.Expected != "set /a 1" || whole.Found != "set /a 2" {
		t.Errorf("%+v", whole)
	}
	must(t, client.Transact(ctx, func(_ context.Context, tx *stm.Tx) error {
		stm.NewRef(client, "/m", map[string]int{}).Set(tx, map[string]int{"a": 1, "b": 2, "c": 3, "d": 4})
		return nil
	}, stm.RerunCheck()))
}

func TestASecondTransactionOfAOnceKeyHasTheFirstOnesResult(t *testing.T) {
	ctx, daemon, client := start(t)
	type order struct{ Number, Cents int }
	place := func(client *stm.Client, cents int) (result order, committed stm.Committed) {
		must(t, client.Transact(ctx, func(_ context.Context, tx *stm.Tx) error {
			number := stm.NewRef(client, "/orders", 0).Alter(tx, func(n int) int { return n + 1 })
			result = order{number, cents}
			return nil
		}, stm.OnceResult("order-123", &result), stm.Report(&committed)))
		return result, committed
	}
	first, committed := place(client, 5)
	again, repeated := place(daemon.Client(), 7)
	if first != (order{1, 5}) || again != first || !repeated.Repeated || repeated.Version != committed.Version ||
		committed.Repeated {
		t.Error(first, again, committed, repeated)
	}
}

func TestADeadlineIsTheContextsOwnAlsoAsAConflict(t *testing.T) {
	ctx, daemon, client := start(t)
	other := daemon.Client()
	ref := stm.NewRef(client, "/a", 0)
	short, stop := context.WithTimeout(ctx, 200*time.Millisecond)
	defer stop()
	err := client.Transact(short, func(_ context.Context, tx *stm.Tx) error {
		n := ref.Get(tx)
		set(ctx, t, other, stm.NewRef[int](other, "/a"), n+1)
		ref.Set(tx, -1)
		return nil
	}, stm.Label("loser"))
	whole := wants(t, err, stm.ErrConflict)
	wants(t, err, context.DeadlineExceeded)
	if len(whole.Causes) == 0 || whole.Causes[0].Name != "/a" || whole.Causes[0].By.Client != t.Name() {
		t.Errorf("%+v", whole)
	}
	asleep, stop := context.WithTimeout(ctx, 50*time.Millisecond)
	defer stop()
	err = client.Transact(asleep, func(_ context.Context, tx *stm.Tx) error {
		ref.Get(tx)
		tx.Retry()
		return nil
	})
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, stm.ErrConflict) {
		t.Error(err)
	}
}

func TestACancelsCauseIsTold(t *testing.T) {
	ctx, _, client := start(t)
	mine := errors.New("the user left")
	ended, cancel := context.WithCancelCause(ctx)
	cancel(mine)
	_, err := stm.NewRef(client, "/a", 0).Load(ended)
	wants(t, err, context.Canceled)
	wants(t, err, mine)
}

func TestAfterCloseEveryCallSaysSoAndWhatWaitsIsWoken(t *testing.T) {
	ctx, _, client := start(t)
	ref := stm.NewRef(client, "/a", 0)
	held, err := client.Lock(ctx, "/l")
	must(t, err)
	waiting := map[string]func() error{
		"retry": func() error {
			return client.Transact(ctx, func(_ context.Context, tx *stm.Tx) error {
				ref.Get(tx)
				tx.Retry()
				return nil
			})
		},
		"watch": func() error { return firstError(client.Watch(ctx, "/")) },
		"lock":  func() error { _, err := client.Lock(ctx, "/l", stm.Owner("other")); return err },
		"log":   func() error { return firstError(client.Records(ctx, stm.Following())) },
	}
	ended := make(chan error)
	for name, wait := range waiting {
		go func() {
			if err := wait(); !errors.Is(err, stm.ErrClosed) {
				ended <- fmt.Errorf("%s: %w", name, err)
				return
			}
			ended <- nil
		}()
	}
	must(t, client.Close())
	for range waiting {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	<-held.Context().Done()
	if cause := context.Cause(held.Context()); !errors.Is(cause, stm.ErrLockLost) {
		t.Error(cause)
	}
	_, err = ref.Load(ctx)
	wants(t, err, stm.ErrClosed)
	must(t, client.Close())
}

func TestAnOnCommitThatPanicsKeepsNoOtherFromBeingCalled(t *testing.T) {
	ctx, _, client := start(t)
	called := 0
	func() {
		defer func() {
			if recover() != "mine" {
				t.Error("another panic")
			}
		}()
		_ = client.Transact(ctx, func(_ context.Context, tx *stm.Tx) error {
			stm.NewRef(client, "/a", 0).Set(tx, 1)
			tx.OnCommit(func(stm.Committed) { panic("mine") })
			tx.OnCommit(func(committed stm.Committed) {
				if committed.Version > 0 {
					called++
				}
			})
			return nil
		})
	}()
	if called != 1 {
		t.Error(called)
	}
}

func TestMetaComesBackInHistoryWithTheTraceparent(t *testing.T) {
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	var told []stm.Transacted
	ctx, _, client := start(t, stm.Traceparent(func(context.Context) string { return parent }),
		stm.OnTransacted(func(_ context.Context, one stm.Transacted) { told = append(told, one) }))
	ref := stm.NewRef(client, "/a", 0)
	must(t, client.Transact(ctx, func(_ context.Context, tx *stm.Tx) error {
		ref.Set(tx, 1)
		return nil
	}, stm.Label("signup")))
	history, err := ref.History(ctx, stm.Limit(1))
	must(t, err)
	meta := history[0].Meta
	if meta.Label != "signup" || meta.Client != t.Name() || meta.Traceparent != parent {
		t.Errorf("%+v", meta)
	}
	if len(told) != 1 || told[0].Label != "signup" || told[0].Runs != 1 || told[0].Err != nil {
		t.Errorf("%+v", told)
	}
}

func TestTheResultsOfOperationsComeWithTheCommit(t *testing.T) {
	ctx, _, client := start(t)
	ref := stm.NewRef(client, "/v", []int{1, 2, 3})
	var popped, added *stm.CommuteResult
	must(t, client.Transact(ctx, func(_ context.Context, tx *stm.Tx) error {
		stm.NewRef(client, "/other", 0).Set(tx, 9)
		popped = ref.Commute(tx, stm.Shift(1))
		added = stm.NewRef(client, "/n", 40).Commute(tx, stm.Add(2))
		if _, known := added.Value(); known {
			t.Error("a result before the commit")
		}
		return nil
	}))
	if value, known := popped.Value(); !known || value != int64(1) {
		t.Error(value, known)
	}
	if value, known := added.Value(); !known || value != int64(42) {
		t.Error(value, known)
	}
	atom := stm.NewAtom(client, "/queue", []string{"a", "b"})
	first, err := stm.ApplyAs[string](ctx, atom, stm.Shift(1))
	if first != "a" || err != nil {
		t.Error(first, err)
	}
	left, err := atom.Apply(ctx, stm.Append([]string{"c"}))
	if err != nil || !reflect.DeepEqual(left, []string{"b", "c"}) {
		t.Error(left, err)
	}
}

func TestAnOperationAtAPathChangesThatAlone(t *testing.T) {
	ctx, _, client := start(t)
	atom := stm.NewAtom(client, "/m", map[string]any{"visits": []int{1, 2}, "open": true})
	after, err := atom.Apply(ctx, stm.Add(5).At("visits", 1))
	if err != nil || !reflect.DeepEqual(after["visits"], []any{int64(1), int64(7)}) || after["open"] != true {
		t.Error(after, err)
	}
}

func TestAnOperationCreatesAgainWhatWasDeletedSinceTheHandleSawIt(t *testing.T) {
	ctx, daemon, client := start(t)
	ref := stm.NewRef(client, "/n", 10)
	add := func() error {
		return client.Transact(ctx, func(_ context.Context, tx *stm.Tx) error {
			ref.Commute(tx, stm.Add(1))
			return nil
		})
	}
	must(t, add())
	other := daemon.Client()
	must(t, other.Transact(ctx, func(_ context.Context, tx *stm.Tx) error {
		stm.NewRef[int](other, "/n").Delete(tx)
		return nil
	}))
	must(t, add())
	if value, err := ref.Load(ctx); value != 11 || err != nil {
		t.Error(value, err)
	}
}

func TestAValidatorIsEDNOrValuesAndARejectionShowsIt(t *testing.T) {
	ctx, _, client := start(t)
	for name, rule := range map[string]any{"/edn": stm.EDN("[:and :int [:min 0]]"),
		"/values": []any{stm.Keyword("and"), stm.Keyword("int"), []any{stm.Keyword("min"), 0}}} {
		atom := stm.NewAtom(client, name, 0).With(stm.Definition{Validator: rule, TTL: time.Hour})
		must(t, atom.Reset(ctx, 1))
		whole := wants(t, atom.Reset(ctx, -1), stm.ErrRejected)
		if whole.Cause != "validator" || whole.Name != name || whole.Rule == nil || whole.Found != "-1" {
			t.Errorf("%+v", whole)
		}
		definition, there, err := atom.Definition(ctx)
		if err != nil || !there || definition.TTL != time.Hour || definition.Ephemeral ||
			!reflect.DeepEqual(definition.Validator,
				[]any{stm.Keyword("and"), stm.Keyword("int"), []any{stm.Keyword("min"), int64(0)}}) {
			t.Errorf("%+v %v %v", definition, there, err)
		}
		must(t, atom.Define(ctx, stm.Definition{}))
		must(t, atom.Reset(ctx, -1))
	}
}

func TestAHandleWhoseInitIsNoValueSaysSoWhenItIsUsed(t *testing.T) {
	ctx, _, client := start(t)
	ref := stm.NewRef(client, "/bad", make(chan int))
	_, err := ref.Load(ctx)
	if whole := wants(t, err, stm.ErrBadValue); whole.Name != "/bad" {
		t.Errorf("%+v", whole)
	}
	wants(t, client.Transact(ctx, func(_ context.Context, tx *stm.Tx) error {
		ref.Get(tx)
		return nil
	}), stm.ErrBadValue)
	_, err = stm.NewRef(client, "/two", 1, 2).Load(ctx)
	wants(t, err, stm.ErrBadValue)
}

func TestAViewStaysWhereItIs(t *testing.T) {
	ctx, _, client := start(t)
	ref := stm.NewRef(client, "/a", 0)
	set(ctx, t, client, ref, 1)
	at := client.At(client.SeenVersion())
	now := client.AtTime(time.Now())
	if value, err := ref.LoadAt(ctx, now); value != 1 || err != nil || now.Version() == 0 {
		t.Error(value, err, now.Version())
	}
	set(ctx, t, client, ref, 2)
	for _, view := range []*stm.View{at, now} {
		value, there, err := ref.LookupAt(ctx, view)
		if value != 1 || !there || err != nil {
			t.Error(value, there, err)
		}
		entries, err := view.List(ctx, "/")
		if err != nil || len(entries) != 1 || entries[0].Value != int64(1) {
			t.Error(entries, err)
		}
		all, err := view.Names(ctx, "/")
		if err != nil || !reflect.DeepEqual(all, []string{"/a"}) {
			t.Error(all, err)
		}
	}
	_, err := ref.LoadAt(ctx, client.At(0))
	wants(t, err, stm.ErrAbsent)
}

func TestNamesOfATransactionAreWithWhatItWrote(t *testing.T) {
	ctx, _, client := start(t)
	a, b, c := stm.NewRef(client, "/d/a", 1), stm.NewRef(client, "/d/b", 1), stm.NewRef(client, "/d/c", 1)
	must(t, client.Transact(ctx, func(_ context.Context, tx *stm.Tx) error {
		a.Set(tx, 1)
		b.Set(tx, 2)
		return nil
	}))
	must(t, client.Transact(ctx, func(_ context.Context, tx *stm.Tx) error {
		a.Delete(tx)
		c.Set(tx, 3)
		if all := tx.Names("/d/"); !reflect.DeepEqual(all, []string{"/d/b", "/d/c"}) {
			t.Error(all)
		}
		if all := tx.List("/d/"); len(all) != 2 || all[0].Value != int64(2) || all[1].Value != int64(3) {
			t.Error(all)
		}
		return nil
	}))
}

func TestARangeThatIsLeftEndsItsWatch(t *testing.T) {
	ctx, _, client := start(t)
	ref := stm.NewRef(client, "/a", 0)
	set(ctx, t, client, ref, 1)
	for commit, err := range client.Watch(ctx, "/a", stm.Initial(), stm.Also("/b/")) {
		must(t, err)
		if !commit.Initial || len(commit.Changes) != 1 || commit.Changes[0].After != int64(1) ||
			commit.Changes[0].Before != stm.Absent {
			t.Errorf("%+v", commit)
		}
		break
	}
	for value, err := range ref.Follow(ctx) {
		must(t, err)
		if !value.Present || value.Value != 1 {
			t.Error(value)
		}
		break
	}
	must(t, client.Close()) // waits for whatever is left
}

func TestRecordsAreOfTheTypesThatWereAskedFor(t *testing.T) {
	type made struct{ Name string }
	type gone struct{ Name string }
	stm.Register[made]("records.Made")
	stm.Register[gone]("records.Gone")
	ctx, _, client := start(t)
	for _, record := range []any{made{"a"}, gone{"a"}, stm.Tagged{Tag: "records.Other", Value: int64(1)}, made{"b"}} {
		must(t, client.Transact(ctx, func(_ context.Context, tx *stm.Tx) error {
			tx.Record(record)
			return nil
		}))
	}
	read := func(of ...any) (values []any, last int64) {
		for record, err := range client.Records(ctx, of...) {
			must(t, err)
			values, last = append(values, record.Value), record.Version
		}
		return values, last
	}
	if values, _ := read(made{}); !reflect.DeepEqual(values, []any{made{"a"}, made{"b"}}) {
		t.Error(values)
	}
	all, last := read()
	if len(all) != 4 {
		t.Error(all)
	}
	if values, _ := read(stm.Tags("records.*"), stm.From(last)); !reflect.DeepEqual(values, []any{made{"b"}}) {
		t.Error(values)
	}
	if values, _ := read(stm.To(last - 1)); len(values) != 3 {
		t.Error(values)
	}
	wants(t, firstError(client.Records(ctx, 5)), stm.ErrBadValue)
}

func TestWhoAwaitsAConditionHasTheLockAgainWhenItIsSignalled(t *testing.T) {
	ctx, daemon, client := start(t)
	waits, err := client.Lock(ctx, "/l")
	must(t, err)
	before := waits.Token()
	signalled := make(chan error, 1)
	go func() {
		woken, err := waits.Await(ctx, "full", 0)
		if err == nil && !woken {
			err = errors.New("its time was over")
		}
		signalled <- err
	}()
	other := daemon.Client()
	held, err := other.Lock(ctx, "/l")
	must(t, err)
	for woken := 0; woken == 0; {
		woken, err = held.Signal(ctx, "full")
		must(t, err)
	}
	must(t, held.Release())
	must(t, <-signalled)
	if waits.Token() <= before || waits.Lost() {
		t.Error(before, waits.Token(), waits.Lost())
	}
	if woken, err := waits.SignalAll(ctx, "full"); woken != 0 || err != nil {
		t.Error(woken, err)
	}
	if woken, err := waits.Await(ctx, "full", time.Millisecond); woken || err != nil {
		t.Error(woken, err)
	}
	must(t, waits.Release())
	wants(t, waits.Release(), stm.ErrLockLost)
	if cause := context.Cause(waits.Context()); cause == nil || errors.Is(cause, stm.ErrLockLost) {
		t.Error(cause)
	}
}

func TestOperatorsSeeLocksAndSessionsAndTakeThem(t *testing.T) {
	ctx, daemon, client := start(t)
	held, err := client.Lock(ctx, "/ops/l", stm.Owner("me"), stm.Because("testing"))
	must(t, err)
	session, err := client.Session(ctx)
	must(t, err)
	operator := daemon.Client()
	info, err := operator.LockInfo(ctx, "/ops/l")
	must(t, err)
	if len(info.Holders) != 1 || info.Holders[0].Owner != "me" || info.Holders[0].Token != held.Token() ||
		info.Holders[0].SessionID != session.ID() || info.Holders[0].Mode != stm.ModeExclusive {
		t.Errorf("%+v", info)
	}
	locks, err := operator.Locks(ctx, "/ops/")
	if err != nil || len(locks) != 1 || locks[0].Name != "/ops/l" {
		t.Error(locks, err)
	}
	sessions, err := operator.Sessions(ctx)
	if err != nil || len(sessions) != 1 || sessions[0].SessionID != session.ID() ||
		!reflect.DeepEqual(sessions[0].Locks, []string{"/ops/l"}) {
		t.Errorf("%+v %v", sessions, err)
	}
	broken, err := operator.BreakLock(ctx, "/ops/l", "an operator's test")
	if !broken || err != nil {
		t.Error(broken, err)
	}
	<-held.Context().Done()
	wants(t, client.Transact(ctx, func(_ context.Context, tx *stm.Tx) error {
		tx.Fence(held)
		return nil
	}), stm.ErrLockLost)
	wants(t, operator.Transact(ctx, func(_ context.Context, tx *stm.Tx) error {
		tx.FenceToken("/ops/l", held.Token())
		return nil
	}), stm.ErrLockLost)
	must(t, operator.ExpireSession(ctx, session.ID(), "an operator's test"))
	<-session.Context().Done()
	again, err := client.Session(ctx)
	if err != nil || again.ID() == session.ID() {
		t.Error(again, err)
	}
}

func TestALockThatWouldWaitForItselfIsADeadlock(t *testing.T) {
	ctx, daemon, client := start(t)
	other := daemon.Client()
	_, err := client.Lock(ctx, "/a", stm.Owner("one"))
	must(t, err)
	_, err = other.Lock(ctx, "/b", stm.Owner("two"))
	must(t, err)
	waits, stop := context.WithCancel(ctx)
	waiting := make(chan error, 1)
	go func() {
		_, err := client.Lock(waits, "/b", stm.Owner("one"))
		waiting <- err
	}()
	for queued := 0; queued == 0; {
		info, err := other.LockInfo(ctx, "/b")
		must(t, err)
		queued = len(info.Queue)
	}
	_, err = other.Lock(ctx, "/a", stm.Owner("two"))
	whole := wants(t, err, stm.ErrDeadlock)
	if !strings.Contains(whole.Message, "/b") {
		t.Error(whole.Message)
	}
	stop()
	wants(t, <-waiting, context.Canceled)
}

func TestAnUnreachableDaemonIsUnavailableAndNamed(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err := stm.Connect(ctx, stm.Address("127.0.0.1:1"), stm.UnavailableTimeout(50*time.Millisecond))
	if whole := wants(t, err, stm.ErrUnavailable); whole.Name != "127.0.0.1:1" || !whole.Retryable {
		t.Errorf("%+v", whole)
	}
	_, err = stm.Connect(ctx, stm.Address("localhost"))
	wants(t, err, stm.ErrBadValue)
	_, err = stm.Connect(ctx, stm.Prefix("/.system"))
	wants(t, err, stm.ErrBadValue)
}

// shelf keeps refs in memory.
type shelf struct {
	mu     sync.Mutex
	values map[string]any
	full   bool
}

func (s *shelf) Init(context.Context, string) error    { return nil }
func (s *shelf) Destroy(context.Context, string) error { return nil }
func (s *shelf) GetStateAt(_ context.Context, name, stamp string) (any, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	value, there := s.values[name+"@"+stamp]
	return value, there, nil
}
func (s *shelf) SetStateAt(_ context.Context, name, stamp string, value any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full {
		return status.Error(codes.ResourceExhausted, "the shelf is full: take something down")
	}
	s.values[name+"@"+stamp] = value
	return nil
}
func (s *shelf) DeleteStateAt(_ context.Context, name, stamp string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.values, name+"@"+stamp)
	return nil
}

// copies keeps atoms in memory.
type copies struct {
	mu     sync.Mutex
	values map[string]any
	told   chan struct{}
}

func (c *copies) Init(context.Context, string) error           { return nil }
func (c *copies) Destroy(context.Context, string, int64) error { return nil }
func (c *copies) GetState(_ context.Context, name string) (any, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	value, there := c.values[name]
	return value, there, nil
}
func (c *copies) SetState(_ context.Context, name string, value any, _ int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.values[name] = value
	select {
	case c.told <- struct{}{}:
	default:
	}
	return nil
}

func TestAContainerInThisProcessKeepsTheValues(t *testing.T) {
	ctx, daemon, client := start(t)
	refs := &shelf{values: map[string]any{}}
	atoms := &copies{values: map[string]any{}, told: make(chan struct{}, 1)}
	offer, err := client.Offer(ctx, "shelf", stm.Refs(refs), stm.Atoms(atoms))
	must(t, err)
	_, err = daemon.Client().Offer(ctx, "shelf", stm.Refs(refs))
	if err == nil || !strings.Contains(err.Error(), "shelf") {
		t.Error("another took the name:", err)
	}
	here := stm.Definition{Container: offer.Container()}
	ref := stm.NewRef(client, "/kept", "").With(here)
	set(ctx, t, client, ref, "there")
	refs.mu.Lock()
	kept := len(refs.values)
	refs.mu.Unlock()
	if kept == 0 {
		t.Error("nothing was kept")
	}
	if value, err := stm.NewRef[string](daemon.Client(), "/kept").Load(ctx); value != "there" || err != nil {
		t.Error(value, err)
	}
	refs.mu.Lock()
	refs.full = true
	refs.mu.Unlock()
	err = client.Transact(ctx, func(_ context.Context, tx *stm.Tx) error {
		ref.Set(tx, "more")
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "full") {
		t.Error(err)
	}
	must(t, stm.NewAtom(client, "/copied", 0).With(here).Reset(ctx, 7))
	<-atoms.told
	if value, there, _ := atoms.GetState(ctx, "/copied"); !there || value != int64(7) {
		t.Error(value, there)
	}
	if standing, why := offer.Standing(); !standing || why != nil {
		t.Error(standing, why)
	}
	must(t, offer.AwaitStanding(ctx))
	offer.Close()
	wants(t, offer.AwaitStanding(ctx), stm.ErrClosed)
}

func TestAnEphemeralEntryGoesWithItsClient(t *testing.T) {
	ctx, daemon, client := start(t)
	watching := daemon.Client()
	ref := stm.NewRef(client, "/here", "").With(stm.Definition{Ephemeral: true})
	set(ctx, t, client, ref, "me")
	for value, err := range stm.NewRef[string](watching, "/here").Follow(ctx) {
		must(t, err)
		if value.Present {
			must(t, client.Close())
			continue
		}
		break
	}
}

func TestCallersAtOnceLoseNothing(t *testing.T) {
	ctx, daemon, client := start(t)
	ref := stm.NewRef(client, "/n", 0)
	other := daemon.Client()
	var all sync.WaitGroup
	for i := range 8 {
		all.Add(1)
		go func() {
			defer all.Done()
			by := client
			if i%2 == 1 {
				by = other
			}
			mine := stm.NewRef(by, "/n", 0)
			for range 25 {
				if err := by.Transact(ctx, func(_ context.Context, tx *stm.Tx) error {
					mine.Alter(tx, func(n int) int { return n + 1 })
					return nil
				}); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	all.Wait()
	if value, err := ref.Load(ctx); value != 200 || err != nil {
		t.Error(value, err)
	}
}

func TestCloseLeavesNothingRunning(t *testing.T) {
	ctx, daemon, _ := start(t)
	before := runtime.NumGoroutine()
	client, err := stm.Connect(ctx, stm.Address(daemon.Address()))
	must(t, err)
	_, err = client.Lock(ctx, "/l")
	must(t, err)
	_, err = client.Offer(ctx, "here", stm.Refs(&shelf{values: map[string]any{}}))
	must(t, err)
	for range client.Watch(ctx, "/", stm.Initial()) {
		break
	}
	must(t, client.Close())
	// gRPC's own end a moment after their connection.
	for runtime.NumGoroutine() > before {
		if ctx.Err() != nil {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%s", stacks[:runtime.Stack(stacks, true)])
		}
		runtime.Gosched()
	}
}

func TestARejectionHasTheNameOnceAndWithoutThePrefix(t *testing.T) {
	ctx, _, client := start(t, stm.Prefix("/team-a"))
	atom := stm.NewAtom(client, "/count", 0).With(stm.Definition{Validator: stm.EDN("[:min 0]")})
	whole := wants(t, atom.Reset(ctx, -1), stm.ErrRejected)
	if strings.Contains(whole.Message, "team-a") || strings.Count(whole.Message, "/count") != 1 {
		t.Error(whole.Message)
	}
}

func TestADaemonOnAUnixSocketIsReachedByItsPath(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	address := "unix:" + filepath.Join(t.TempDir(), "stmd")
	client := stmtest.Start(t, stmtest.Flags("--listen", address)).Client()
	ref := stm.NewRef(client, "/a", 0)
	set(ctx, t, client, ref, 1)
	if value, err := ref.Load(ctx); value != 1 || err != nil || client.DaemonAddress() != address {
		t.Error(value, err, client.DaemonAddress())
	}
}
