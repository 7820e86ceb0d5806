// A database of users as tagged records: what happened is in the log, what is there is in a ref, and either makes the
// other.
package main

import (
	"context"
	"fmt"
	"log"
	"slices"
	"time"

	"stmd.dev/client/go/stm"
)

var client *stm.Client

type CreateUser struct {
	Name, Email string
	StartDate   time.Time
}

type DeleteUser struct {
	Email      string
	RemoveDate time.Time
}

type Event interface {
	Update([]CreateUser) []CreateUser
}

func (e CreateUser) Update(us []CreateUser) []CreateUser { return append(us, e) }

func (e DeleteUser) Update(us []CreateUser) []CreateUser {
	return slices.DeleteFunc(us, func(u CreateUser) bool { return u.Email == e.Email })
}

func init() {
	stm.Register[CreateUser]("blog.CreateUser")
	stm.Register[DeleteUser]("blog.DeleteUser")
}

func record(ctx context.Context, users *stm.Ref[[]CreateUser], e Event) error { // users: /blog/users
	return client.Transact(ctx, func(ctx context.Context, tx *stm.Tx) error {
		users.Alter(tx, e.Update)
		tx.Record(e)
		return nil
	})
} // durable when nil is returned

func rebuild(ctx context.Context) (us []CreateUser, err error) { // after a restart; or just read users
	for r, err := range client.Records(ctx, CreateUser{}, DeleteUser{}) {
		if err != nil {
			return nil, err
		}
		us = r.Value.(Event).Update(us)
	}
	return us, nil
}

func run(ctx context.Context) (err error) {
	if client, err = stm.Connect(ctx); err != nil {
		return err
	}
	defer client.Close()
	users := stm.NewRef(client, "/blog/users", []CreateUser{})
	now := time.Now()
	for _, e := range []Event{CreateUser{"Bob", "bob@example.com", now}, CreateUser{"Ann", "ann@example.com", now},
		DeleteUser{"bob@example.com", now}} {
		if err := record(ctx, users, e); err != nil {
			return err
		}
	}
	there, err := users.Load(ctx)
	if err != nil {
		return err
	}
	again, err := rebuild(ctx)
	if err != nil {
		return err
	}
	fmt.Println(len(there), there[0].Name, slices.Equal(there, again))
	return nil
}

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}
