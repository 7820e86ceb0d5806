// Hello World: two refs and a transaction. It prints "1 [1]", and "2 [1 2]" the next time.
package main

import (
	"context"
	"fmt"
	"log"

	"stmd.dev/client/go/stm"
)

func hello(ctx context.Context) error {
	client, err := stm.Connect(ctx) // STM_ADDRESS, else 127.0.0.1:7440
	if err != nil {
		return err
	}
	defer client.Close()
	r0 := stm.NewRef(client, "/r0", 0) // made with 0 if absent; never reset
	r1 := stm.NewRef(client, "/r1", []int{})
	return client.Transact(ctx, func(ctx context.Context, tx *stm.Tx) error {
		n := r0.Alter(tx, func(n int) int { return n + 1 })
		r1.Alter(tx, func(v []int) []int { return append(v, n) })
		return nil // an error abandons the transaction and comes back unchanged
	})
}

func show(ctx context.Context) error {
	client, err := stm.Connect(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	n, err := stm.NewRef[int](client, "/r0").Load(ctx)
	if err != nil {
		return err
	}
	all, err := stm.NewRef[[]int](client, "/r1").Load(ctx)
	if err != nil {
		return err
	}
	fmt.Println(n, all)
	return nil
}

func main() {
	ctx := context.Background()
	if err := hello(ctx); err != nil {
		log.Fatal(err)
	}
	if err := show(ctx); err != nil {
		log.Fatal(err)
	}
}
