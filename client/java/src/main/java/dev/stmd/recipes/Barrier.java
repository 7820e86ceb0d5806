package dev.stmd.recipes;

import dev.stmd.Ref;
import dev.stmd.Stm;
import dev.stmd.TransactOptions;
import java.util.List;

/** Holds so many callers back until all of them have come, and then is as new. Any thread. */
public final class Barrier {
  private final Stm client;
  private final long parties;
  private final Ref<List<Long>> ref;

  /**
   * By name; does no I/O.
   *
   * @param client whose
   * @param name of the ref
   * @param parties how many, the same for all who use it
   */
  public Barrier(Stm client, String name, long parties) {
    this.client = client;
    this.parties = parties;
    this.ref = client.ref(name, List.of(0L, 0L));
  }

  /**
   * Comes, and waits for the others. One whose time is up has come all the same: it is counted once, and does not come again.
   *
   * @param options of the wait: timeout
   */
  public void await(TransactOptions options) {
    long round = client.transactResult(tx -> {
      List<Long> state = tx.get(ref); // those who came, and the round
      long mine = state.get(1);
      tx.set(ref, state.get(0) + 1 < parties ? List.of(state.get(0) + 1, mine) : List.of(0L, mine + 1));
      return mine;
    });
    client.transact(options, tx -> {
      if (tx.get(ref).get(1) == round) tx.retry();
    });
  }
}
