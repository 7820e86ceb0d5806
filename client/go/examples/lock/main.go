// A lock with a fence: what was done under the lock is written only while it is held.
package main

import (
	"context"
	"fmt"
	"log"

	"stmd.dev/client/go/stm"
)

var client *stm.Client

// build is the work, which should end when ctx is done.
func build(ctx context.Context) string {
	if ctx.Err() != nil {
		return "cut short"
	}
	return "the report"
}

func nightly(ctx context.Context, last *stm.Ref[string]) error {
	held, err := client.Lock(ctx, "/nightly") // waits its turn, until ctx is done
	if err != nil {
		return err
	}
	defer held.Release()
	report := build(held.Context()) // cancelled when the lease is gone
	return client.Transact(ctx, func(ctx context.Context, tx *stm.Tx) error {
		tx.Fence(held) // commits only while this grant, held.Token, stands
		last.Set(tx, report)
		return nil
	}) // errors.Is(err, stm.ErrLockLost) instead of overwriting
}

func run(ctx context.Context) (err error) {
	if client, err = stm.Connect(ctx); err != nil {
		return err
	}
	defer client.Close()
	last := stm.NewRef(client, "/nightly/last", "")
	if err := nightly(ctx, last); err != nil {
		return err
	}
	report, err := last.Load(ctx)
	if err != nil {
		return err
	}
	fmt.Println(report)
	return nil
}

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}
