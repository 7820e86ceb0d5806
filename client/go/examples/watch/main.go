// A watch loop: it prints what is under /config/, then each change, until it is interrupted.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"

	"stmd.dev/client/go/stm"
)

var client *stm.Client

func follow(ctx context.Context) error {
	for commit, err := range client.Watch(ctx, "/config/", stm.Initial()) { // all as it is, then each commit once
		if err != nil {
			return err // ctx done, or denied; reconnects are not errors
		}
		for _, c := range commit.Changes { // one commit's changes together
			fmt.Println(commit.Version, c.Name, c.Before, "->", c.After) // nil: nil; stm.Absent: absent
		}
	}
	return nil
}

func run(ctx context.Context) (err error) {
	if client, err = stm.Connect(ctx); err != nil {
		return err
	}
	defer client.Close()
	colour := stm.NewRef(client, "/config/colour", "red")
	err = client.Transact(ctx, func(ctx context.Context, tx *stm.Tx) error {
		colour.Set(tx, "blue")
		return nil
	})
	if err != nil {
		return err
	}
	return follow(ctx)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		log.Fatal(err)
	}
}
