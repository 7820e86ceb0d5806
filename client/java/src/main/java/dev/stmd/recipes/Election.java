package dev.stmd.recipes;

import dev.stmd.AcquireOptions;
import dev.stmd.Definition;
import dev.stmd.Follow;
import dev.stmd.Held;
import dev.stmd.Ref;
import dev.stmd.Stm;

/**
 * One leader at a time: who holds the lock NAME, and says so in the ref NAME, written under its fence and bound to its session,
 * so that it goes with it. What a leader does for others it fences by its Held. Any thread.
 */
public final class Election {
  private final Stm client;
  private final Ref<String> leader;

  /**
   * By name; does no I/O.
   *
   * @param client whose
   * @param name of the lock and of the ref
   */
  public Election(Stm client, String name) {
    this.client = client;
    this.leader = client.ref(name, String.class);
  }

  /**
   * Waits its turn and proclaims itself.
   *
   * @param id as which the lock is held, too
   * @param options how long it waits
   * @return it leads until it resigns, or this is lost
   */
  public Held campaign(String id, AcquireOptions options) {
    Held held = client.lock(leader.name()).acquire(options.owner(id));
    try {
      proclaim(held, id);
      return held;
    } catch (RuntimeException | Error failed) {
      held.close();
      throw failed;
    }
  }

  /**
   * What observers see, anew.
   *
   * @param held of the campaign
   * @param value instead of the id
   */
  public void proclaim(Held held, String value) {
    client.transact(tx -> {
      tx.fence(held);
      tx.set(leader, value);
      tx.define(leader, Definition.NONE.ephemeral(true));
    });
  }

  /**
   * Leads no more.
   *
   * @param held of the campaign
   */
  public void resign(Held held) {
    client.transact(tx -> {
      tx.fence(held);
      tx.delete(leader);
    });
    held.release();
  }

  /** {@return who leads now, and each change; to be closed} */
  public Follow<String> observe() {
    return leader.follow();
  }
}
