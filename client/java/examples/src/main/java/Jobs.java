import dev.stmd.Ref;
import dev.stmd.Stm;
import dev.stmd.Tx;
import java.util.List;

/** (e) A queue's take, by retry and orElse. */
public final class Jobs {
  final Stm client = Stm.connect();

  static String take(Tx tx, Ref<List<String>> queue) {
    List<String> jobs = tx.get(queue);
    if (jobs.isEmpty()) return tx.retry();             // sleep until queue changes, then run again
    tx.set(queue, jobs.subList(1, jobs.size()));
    return jobs.get(0);
  }
  String next(Ref<List<String>> urgent, Ref<List<String>> normal) {
    return client.transactResult(tx -> tx.orElse(() -> take(tx, urgent), () -> take(tx, normal)));
  }

  public static void main(String[] arguments) {
    Jobs jobs = new Jobs();
    try (Stm client = jobs.client) {
      Ref<List<String>> urgent = client.ref("/jobs/urgent", List.of());
      Ref<List<String>> normal = client.ref("/jobs/normal", List.of());
      client.transact(tx -> {
        tx.set(normal, List.of("sweep"));
      });
      System.out.println(jobs.next(urgent, normal));
    }
  }
}
