import dev.stmd.Held;
import dev.stmd.Ref;
import dev.stmd.Stm;
import java.util.concurrent.CompletableFuture;

/** (c) A lock with a fence. */
public final class Nightly {
  final Stm client = Stm.connect();

  static String build(CompletableFuture<Void> stop) {
    return stop.isDone() ? "nothing" : "report";
  }

  void nightly(Ref<String> last) {
    try (Held held = client.lock("/nightly").acquire()) {   // waits its turn; asJavaLock() for j.u.c.locks.Lock
      String report = build(held.lost());              // CompletableFuture: done when the lease is gone
      client.transact(tx -> {
        tx.fence(held);                                // commits only while this grant, held.token(), stands
        tx.set(last, report);
      });                                              // throws LockLostException instead of overwriting
    }
  }

  public static void main(String[] arguments) {
    Nightly nightly = new Nightly();
    try (Stm client = nightly.client) {
      Ref<String> last = client.ref("/nightly/last", "");
      nightly.nightly(last);
      System.out.println(last.get());
    }
  }
}
