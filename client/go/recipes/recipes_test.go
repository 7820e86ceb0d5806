package recipes_test

import (
	"context"
	"reflect"
	"testing"
	"time"

	"stmd.dev/client/go/recipes"
	"stmd.dev/client/go/stm"
	"stmd.dev/client/go/stmtest"
)

func start(t *testing.T) (context.Context, *stmtest.Daemon, *stm.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	daemon := stmtest.Start(t)
	return ctx, daemon, daemon.Client()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestAQueueGivesWhatWasPutFirst(t *testing.T) {
	ctx, daemon, client := start(t)
	queue := recipes.NewQueue[string](client, "/queue")
	if _, taken, err := queue.TryNext(ctx); taken || err != nil {
		t.Fatal(taken, err)
	}
	slept := make(chan error, 1)
	go func() {
		item, err := recipes.NewQueue[string](daemon.Client(), "/queue").Next(ctx)
		if err == nil && item != "one" {
			t.Error(item)
		}
		slept <- err
	}()
	must(t, queue.Add(ctx, "one"))
	must(t, <-slept)
	must(t, queue.Add(ctx, "two"))
	must(t, queue.Add(ctx, "three"))
	for _, want := range []string{"two", "three"} {
		if item, taken, err := queue.TryNext(ctx); item != want || !taken || err != nil {
			t.Error(item, taken, err)
		}
	}
}

func TestABarrierOpensWhenAllHaveComeAndIsAsNew(t *testing.T) {
	ctx, _, client := start(t)
	barrier := recipes.NewBarrier(client, "/barrier", 3)
	for range 2 {
		through := make(chan error)
		for range 3 {
			go func() { through <- barrier.Await(ctx) }()
		}
		for range 3 {
			must(t, <-through)
		}
	}
}

func TestAnElectionHasOneLeaderAtATime(t *testing.T) {
	ctx, daemon, client := start(t)
	other := daemon.Client()
	first := recipes.NewElection(client, "/leader")
	held, err := first.Campaign(ctx, "one")
	must(t, err)
	next := make(chan *stm.Held, 1)
	go func() {
		held, err := recipes.NewElection(other, "/leader").Campaign(ctx, "two")
		if err != nil {
			t.Error(err)
		}
		next <- held
	}()
	seen := []string{}
	for leader, err := range first.Observe(ctx) {
		must(t, err)
		if !leader.Present {
			continue
		}
		seen = append(seen, leader.Value)
		if leader.Value == "two" {
			break
		}
		must(t, first.Resign(ctx, held))
	}
	if !reflect.DeepEqual(seen, []string{"one", "two"}) {
		t.Error(seen)
	}
	if second := <-next; second.Lost() {
		t.Error("the leader has lost its lock")
	}
	if err := first.Proclaim(ctx, held, "one again"); err == nil {
		t.Error("who resigned still leads")
	}
}

func TestAFoldTakesInEachRecordOnce(t *testing.T) {
	type added struct{ N int }
	stm.Register[added]("fold.Added")
	ctx, _, client := start(t)
	fold := recipes.NewFold(
		client,
		0,
		func(sum int, record stm.Record) int { return sum + record.Value.(added).N },
		added{},
	)
	for n := 1; n <= 3; n++ {
		must(t, client.Transact(ctx, func(_ context.Context, tx *stm.Tx) error {
			tx.Record(added{n})
			return nil
		}))
		must(t, fold.Update(ctx))
		must(t, fold.Update(ctx))
	}
	if fold.State() != 6 || fold.Version() == 0 {
		t.Error(fold.State(), fold.Version())
	}
}
