import dev.stmd.Ref;
import dev.stmd.Stm;
import java.util.List;

/** (a) Hello World. */
public final class Hello {
  static void hello() {
    try (Stm client = Stm.connect()) {                 // STM_ADDRESS, else 127.0.0.1:7440
      Ref<Long> r0 = client.ref("/r0", 0L);            // made with 0 if absent; never reset
      Ref<List<Long>> r1 = client.ref("/r1", List.of());
      client.transact(tx -> {
        long n = tx.alter(r0, x -> x + 1);
        tx.alter(r1, v -> Stm.conj(v, n));
      });                                              // transactResult returns; transactAsync: CompletableFuture
      System.out.println(r0.get() + " " + r1.get());   // 1 [1]
    }
  }

  public static void main(String[] arguments) {
    hello();
  }
}
