import dev.stmd.Change;
import dev.stmd.Commit;
import dev.stmd.Stm;
import dev.stmd.Watch;

/** (d) A watch loop; ends with its thread's interruption. */
public final class Follow {
  final Stm client = Stm.connect();

  void follow() {
    try (Watch watch = client.watch("/config/").initial()) {   // all as it is, then each commit once
      for (Commit commit : watch)
        for (Change c : commit.changes())              // one commit's changes together
          System.out.println(commit.version() + " " + c.name() + " " + c.before() + " -> " + c.after());
    }                                                  // null: nil; Stm.ABSENT: absent
  }

  public static void main(String[] arguments) throws InterruptedException {
    Follow follow = new Follow();
    try (Stm client = follow.client) {
      client.transact(tx -> tx.set(client.ref("/config/a"), "red"));
      Thread thread = new Thread(() -> {
        try {
          follow.follow();
        } catch (dev.stmd.CancelledException ended) {
          System.out.println("ended");
        }
      });
      thread.start();
      client.transact(tx -> tx.set(client.ref("/config/b"), "blue"));
      // Long enough where it is read by people; a test waits for what it prints.
      thread.join(1000);
      thread.interrupt();
      thread.join();
    }
  }
}
