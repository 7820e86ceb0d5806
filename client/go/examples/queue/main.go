// Two queues: take from the urgent one, else from the normal one, else sleep until there is something.
package main

import (
	"context"
	"fmt"
	"log"

	"stmd.dev/client/go/stm"
)

var client *stm.Client

func take(tx *stm.Tx, queue *stm.Ref[[]string]) string {
	jobs := queue.Get(tx)
	if len(jobs) == 0 {
		tx.Retry() // sleep until queue changes, then run again
	}
	queue.Set(tx, jobs[1:])
	return jobs[0]
}

func next(ctx context.Context, urgent, normal *stm.Ref[[]string]) (job string, err error) {
	err = client.Transact(ctx, func(ctx context.Context, tx *stm.Tx) error {
		tx.OrElse(func() { job = take(tx, urgent) }, func() { job = take(tx, normal) })
		return nil
	})
	return job, err
}

func run(ctx context.Context) (err error) {
	if client, err = stm.Connect(ctx); err != nil {
		return err
	}
	defer client.Close()
	urgent := stm.NewRef(client, "/jobs/urgent", []string{})
	normal := stm.NewRef(client, "/jobs/normal", []string{})
	putting := make(chan error, 1)
	go func() { // while next sleeps, or before it
		putting <- client.Transact(ctx, func(ctx context.Context, tx *stm.Tx) error {
			urgent.Commute(tx, stm.Conj("put out the fire"))
			normal.Commute(tx, stm.Conj("water the plants"))
			return nil
		})
	}()
	for range 2 {
		job, err := next(ctx, urgent, normal)
		if err != nil {
			return err
		}
		fmt.Println(job)
	}
	return <-putting
}

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}
