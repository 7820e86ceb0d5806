package stmtest_test

import (
	"context"
	"testing"
	"time"

	"stmd.dev/client/go/stm"
	"stmd.dev/client/go/stmtest"
)

func TestADurableDaemonThatIsKilledHasWhatWasCommitted(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	daemon := stmtest.Start(t, stmtest.DataDir(t.TempDir()))
	client := daemon.Client()
	ref := stm.NewRef(client, "/kept", 0)
	for want := 1; want <= 3; want++ {
		if err := client.Transact(ctx, func(_ context.Context, tx *stm.Tx) error {
			ref.Alter(tx, func(n int) int { return n + 1 })
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		daemon.Kill()
		daemon.Restart()
		if found, err := ref.Load(ctx); err != nil || found != want {
			t.Fatal(found, err)
		}
	}
}
