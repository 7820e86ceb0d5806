package dev.stmd;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.stmd.recipes.Barrier;
import dev.stmd.recipes.Election;
import dev.stmd.recipes.Fold;
import dev.stmd.recipes.Queue;
import dev.stmd.testing.StmDaemon;
import dev.stmd.testing.StmExtension;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.time.Duration;
import java.time.Instant;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.Condition;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.extension.ExtendWith;

@ExtendWith(StmExtension.class)
@Timeout(60)
class StmTest {
  @Tag("test.User")
  record User(String name, Optional<Long> age, List<String> mails) {}

  @Tag("test.Other")
  record Other(long n) {}

  record Twice(long startDate, long start_date) {}

  @Test
  void everyValueComesBackAsItWas(Stm client) {
    List<Object> values = Arrays.asList(null, true, 1L, Long.MIN_VALUE, 1.0, -0.0, Double.NaN, new BigInteger("12345678901234567890"),
        new BigDecimal("1.50"), "text", 'a', new CodePoint(0x1F600), Keyword.of("k/n"), Symbol.of("s"),
        Instant.parse("1969-12-31T23:59:59.000000001Z"), UUID.randomUUID(), List.of(1L, "a"), Stm.List.of(1L, 2L), Set.of(1L, 1.0),
        Map.of("a", List.of(), 1L, Map.of()),
        new java.util.HashSet<>(List.of(List.of(), Stm.List.of(), List.of(1L), Stm.List.of(1L))), new Tagged("no.Type", Map.of(Keyword.of("a"), 1L)));
    for (Object value : values) {
      Ref<Object> ref = client.ref("/value", Object.class);
      client.transact(tx -> tx.set(ref, value));
      Object found = ref.get();
      assertEquals(value, found);
      assertEquals(value == null ? null : value instanceof Stm.List, found == null ? null : found instanceof Stm.List);
    }
    Ref<byte[]> bytes = client.ref("/bytes", byte[].class);
    client.transact(tx -> tx.set(bytes, new byte[] {0, -1}));
    assertArrayEquals(new byte[] {0, -1}, bytes.get());
  }

  @Test
  void nilIsNoAbsence(Stm client) {
    Ref<Object> ref = client.ref("/nil", Object.class);
    assertSame(Stm.ABSENT, ref.getOr(Stm.ABSENT));
    assertFalse(ref.find().isPresent());
    client.transact(tx -> tx.set(ref, null));
    assertNull(ref.get());
    assertTrue(ref.exists());
    assertThrows(BadValueException.class, ref::find);
  }

  @Test
  void whatWasReadIsImmutable(Stm client) {
    Ref<List<Long>> ref = client.ref("/list", List.of());
    assertThrows(UnsupportedOperationException.class, () -> client.transact(tx -> {
      tx.get(ref).add(1L);
    }));
    assertEquals(List.of(), ref.get());
  }

  @Test
  void whatIsNoEdnIsBadValueAndNamesTheEntry(Stm client) {
    Ref<Object> ref = client.ref("/bad", Object.class);
    for (Object bad : new Object[] {new Object(), "\ud800", Instant.MAX, List.of(Thread.currentThread())}) {
      BadValueException thrown = assertThrows(BadValueException.class, () -> client.transact(tx -> tx.set(ref, bad)));
      assertEquals("/bad", thrown.name());
    }
    assertFalse(ref.exists());
  }

  @Test
  void anInitSaysWhatValuesAreTaken(Stm client) {
    client.transact(tx -> tx.set(client.ref("/typed", Object.class), "text"));
    BadValueException thrown = assertThrows(BadValueException.class, () -> client.ref("/typed", 0L).get());
    assertEquals("/typed", thrown.name());
    assertEquals("Long", thrown.expected());
    client.transact(tx -> tx.set(client.ref("/typed", Object.class), List.of("x")));
    assertThrows(BadValueException.class, () -> client.ref("/typed", new TypeRef<List<Long>>() {}).get());
  }

  @Test
  void recordsAreTheirTypesAndKeepWhatTheyDoNotKnow(Stm client) {
    Stm.register(User.class, Other.class);
    Ref<Object> raw = client.ref("/user", Object.class);
    stmd.v1.Value.Builder newer = client.mapper().encode(new User("Bob", Optional.empty(), List.of("b@example.com"))).toBuilder();
    newer.getTaggedBuilder().getValueBuilder().getMapBuilder().addEntriesBuilder()
        .setKey(stmd.v1.Value.newBuilder().setKeyword("colour")).setValue(stmd.v1.Value.newBuilder().setText("red"));
    client.transact(tx -> tx.set(raw, newer.build()));
    Ref<User> user = client.ref("/user", User.class);
    client.transact(tx -> {
      tx.alter(user, u -> new User("Rob", Optional.of(7L), u.mails()));
    });
    assertEquals(new User("Rob", Optional.of(7L), List.of("b@example.com")), user.get());
    Ref<stmd.v1.Value> whole = client.ref("/user", stmd.v1.Value.class);
    assertTrue(whole.get().toString().contains("red"));
    client.transact(tx -> tx.record(new Other(1)));
    client.transact(tx -> tx.record(new User("x", Optional.empty(), List.of())));
    List<Object> read = new java.util.ArrayList<>();
    for (Recorded<Record> record : client.<Record>records(User.class, Other.class)) read.add(record.value());
    assertTrue(read.contains(new Other(1)));
    assertThrows(BadValueException.class, () -> Stm.register("test.Twice", Twice.class));
  }

  @Test
  void aTypeWithFunctionsOfItsOwnIsTaggedWithAnyEdn(Stm client) {
    Stm.register("test.Path", java.nio.file.Path.class, java.nio.file.Path::toString,
        value -> java.nio.file.Path.of((String) value));
    Ref<java.nio.file.Path> ref = client.ref("/path", java.nio.file.Path.class);
    Stm.register("test.UnixPath", java.nio.file.Path.of("/").getClass().asSubclass(java.nio.file.Path.class),
        java.nio.file.Path::toString, value -> java.nio.file.Path.of((String) value));
    client.transact(tx -> tx.set(ref, java.nio.file.Path.of("/a/b")));
    assertEquals(java.nio.file.Path.of("/a/b"), ref.get());
  }

  static final class OwnFailure extends Exception {
    private static final long serialVersionUID = 1L;
  }

  @Test
  void aBodysOwnExceptionIsTheTransactions(Stm client) {
    Ref<Long> ref = client.ref("/own", 0L);
    assertThrows(OwnFailure.class, () -> client.transact(tx -> {
      tx.set(ref, 1L);
      throw new OwnFailure();
    }));
    assertEquals(0L, ref.get());
  }

  @Test
  void aBodyThatCatchesExceptionsDoesNotSwallowRetry(Stm client) {
    Ref<Long> ref = client.ref("/swallow", 0L);
    CompletableFuture<Long> woken = client.transactAsync(tx -> {
      long n = tx.get(ref);
      try {
        if (n == 0) tx.retry();
      } catch (Exception swallowed) {
        return -1L;
      }
      return n;
    });
    client.transact(tx -> tx.set(ref, 5L));
    assertEquals(5L, woken.join());
  }

  @Test
  void aCancelledFutureInterruptsItsTransaction(Stm client) throws InterruptedException {
    Ref<Long> ref = client.ref("/cancel", 0L);
    CountDownLatch running = new CountDownLatch(1);
    CountDownLatch ended = new CountDownLatch(1);
    CompletableFuture<Long> sleeping = client.transactAsync(tx -> {
      tx.get(ref);
      running.countDown();
      try {
        return tx.retry();
      } finally {
        ended.countDown();
      }
    });
    running.await();
    sleeping.cancel(true);
    assertThrows(CancellationException.class, sleeping::join);
    ended.await();
    client.transact(tx -> tx.set(ref, 1L));
  }

  @Test
  void anInterruptedThreadStaysInterrupted(Stm client) {
    Thread.currentThread().interrupt();
    assertThrows(CancelledException.class, () -> client.ref("/interrupted", 0L).get());
    assertTrue(Thread.interrupted());
    assertEquals(0L, client.ref("/interrupted", 0L).get());
  }

  @Test
  void theTransactionOfAThreadCanBeAskedFor(Stm client) {
    assertNull(Tx.current());
    client.transact(tx -> assertSame(tx, Tx.current()));
    assertNull(Tx.current());
    assertThrows(InTransactionException.class, () -> client.transact(tx -> Stm.io()));
  }

  @Test
  void anotherLanguagesValuesAreItsMappers(StmDaemon daemon) {
    ValueMapper words = new ValueMapper() {
      @Override
      public stmd.v1.Value encode(Object value) {
        return stmd.v1.Value.newBuilder().setKeyword((String) value).build();
      }

      @Override
      public Object decode(stmd.v1.Value value, java.lang.reflect.Type type) {
        return value.getKeyword();
      }
    };
    try (Stm client = Stm.connect(new ConnectOptions().address(daemon.address()).mapper(words).prefix("/mapper"))) {
      Ref<Object> ref = client.ref("/word", "init");
      client.transact(tx -> {
        tx.alter(ref, word -> word + "-more");
      });
      assertEquals("init-more", ref.get());
      assertEquals("init-more", client.list("/").get(0).value());
    }
  }

  @Test
  void everyCallAfterCloseSaysSo(StmDaemon daemon) {
    Stm client = Stm.connect(daemon.address());
    Ref<Long> ref = client.ref("/closed", 0L);
    CompletableFuture<Long> sleeping = client.transactAsync(tx -> {
      tx.get(ref);
      return tx.retry();
    });
    client.close();
    assertThrows(Exception.class, sleeping::join);
    for (Runnable call : List.<Runnable>of(ref::get, () -> client.transact(tx -> tx.set(ref, 1L)), () -> client.lock("/l").acquire(),
        () -> client.watch("/").next(), () -> client.list("/"))) {
      assertTrue(assertThrows(CancelledException.class, call::run).getMessage().contains("closed"));
    }
  }

  @Test
  void onCommitIsCalledOnceAndOnceKeysKeepResults(Stm client) {
    AtomicReference<Committed> told = new AtomicReference<>();
    TransactOptions once = TransactOptions.DEFAULT.once("order-1").onCommitted(told::set);
    Ref<Long> ref = client.ref("/once", 0L);
    for (int i = 0; i < 2; ++i) {
      Long result = client.transactResult(once, tx -> tx.alter(ref, n -> n + 1));
      assertEquals(1L, result);
    }
    assertTrue(told.get().repeated());
    assertEquals(1L, ref.get());
  }

  // ---- Locks

  @Test
  void aJavaLockIsReentrantAndExcludesThreads(Stm client) throws Exception {
    JavaLock lock = client.lock("/lock").asJavaLock();
    lock.lock();
    lock.lock();
    assertEquals(2, lock.getHoldCount());
    assertSame(Thread.currentThread(), lock.getOwner());
    assertFalse(CompletableFuture.supplyAsync(lock::tryLock).get());
    lock.unlock();
    assertTrue(lock.isHeldByCurrentThread());
    client.transact(tx -> tx.fence(lock.held()));
    lock.unlock();
    assertEquals(0, lock.getHoldCount());
    assertThrows(IllegalMonitorStateException.class, lock::unlock);
    assertTrue(CompletableFuture.supplyAsync(() -> {
      boolean had = lock.tryLock();
      lock.unlock();
      return had;
    }).get());
  }

  @Test
  void aWaitForALockCanBeInterrupted(Stm client) throws Exception {
    JavaLock lock = client.lock("/interruptible").asJavaLock();
    lock.lock();
    CompletableFuture<String> ended = new CompletableFuture<>();
    Thread waiter = new Thread(() -> {
      try {
        lock.lockInterruptibly();
        ended.complete("locked");
      } catch (InterruptedException interrupted) {
        ended.complete("interrupted");
      }
    });
    waiter.start();
    while (lock.getQueueLength() == 0) Thread.onSpinWait();
    waiter.interrupt();
    assertEquals("interrupted", ended.get());
    lock.unlock();
    assertTrue(lock.tryLock(10, TimeUnit.SECONDS));
    lock.unlock();
  }

  @Test
  void conditionsAwaitASignalATimeOrAnInterruption(Stm client) throws Exception {
    JavaLock lock = client.lock("/conditions").asJavaLock();
    Condition ready = lock.newCondition();
    CompletableFuture<String> ended = new CompletableFuture<>();
    Thread waiter = new Thread(() -> {
      lock.lock();
      try {
        ready.await();
        ended.complete("signalled");
      } catch (InterruptedException interrupted) {
        ended.complete("interrupted holding " + lock.getHoldCount());
      } finally {
        lock.unlock();
      }
    });
    lock.lock();
    waiter.start();
    while (lock.getQueueLength() == 0) Thread.onSpinWait();
    assertFalse(ready.await(1, TimeUnit.MILLISECONDS));
    assertTrue(ready.awaitNanos(1) <= 0);
    ready.signalAll();
    lock.unlock();
    assertEquals("signalled", ended.get());
    waiter.join();

    CompletableFuture<String> second = new CompletableFuture<>();
    CountDownLatch locked = new CountDownLatch(1);
    Thread interrupted = new Thread(() -> {
      lock.lock();
      locked.countDown();
      try {
        ready.await();
        second.complete("signalled");
      } catch (InterruptedException stopped) {
        second.complete("interrupted holding " + lock.getHoldCount());
      } finally {
        lock.unlock();
      }
    });
    interrupted.start();
    locked.await();
    interrupted.interrupt();
    assertEquals("interrupted holding 1", second.get());
    interrupted.join();
    assertThrows(IllegalMonitorStateException.class, ready::signal);
  }

  @Test
  void aWriterMayDowngradeAndReadersShare(Stm client) throws Exception {
    JavaReadWriteLock lock = client.lock("/rw").asJavaReadWriteLock();
    lock.writeLock().lock();
    lock.readLock().lock();
    lock.writeLock().unlock();
    assertEquals(1, lock.getReadHoldCount());
    assertTrue(CompletableFuture.supplyAsync(() -> {
      boolean reads = lock.readLock().tryLock();
      boolean writes = lock.writeLock().tryLock(); // others read: refused
      lock.readLock().unlock();
      return reads && !writes;
    }).exceptionally(thrown -> thrown.getCause() instanceof UpgradeRefusedException).get());
    lock.readLock().unlock();
    assertThrows(UnsupportedOperationException.class, () -> lock.readLock().newCondition());
  }

  @Test
  void aBrokenLockIsLost(Stm client) throws Exception {
    try (Held held = client.lock("/broken").acquire()) {
      assertFalse(held.lost().isDone());
      assertTrue(client.lock("/broken").breakIt("test"));
      held.lost().get(30, TimeUnit.SECONDS);
      assertThrows(LockLostException.class, () -> client.transact(tx -> tx.fence(held)));
    }
  }

  // ---- Containers, recipes

  @Test
  void anOfferedContainerKeepsValuesHere(Stm client) {
    Map<String, stmd.v1.Value> kept = new ConcurrentHashMap<>();
    VersionedStateContainer refs = new VersionedStateContainer() {
      @Override
      public void init(String name) {}

      @Override
      public void destroy(String name) {}

      @Override
      public Optional<stmd.v1.Value> getStateAt(String name, String stamp) {
        return Optional.ofNullable(kept.get(name + "@" + stamp));
      }

      @Override
      public void setStateAt(String name, String stamp, stmd.v1.Value value) {
        kept.put(name + "@" + stamp, value);
      }

      @Override
      public void deleteStateAt(String name, String stamp) {
        kept.remove(name + "@" + stamp);
      }
    };
    try (Offer offer = client.offer("mine", refs, null)) {
      Ref<String> ref = client.ref("/offered", "init", Definition.NONE.container(offer.container()));
      client.transact(tx -> tx.set(ref, "kept here"));
      assertEquals("kept here", ref.get());
      assertTrue(kept.values().stream().anyMatch(value -> value.getText().equals("kept here")));
      assertThrows(StmException.class, () -> client.offer("mine", refs, null));
    }
  }

  @Test
  void recipesDoWhatTheySay(Stm client) {
    Queue<String> queue = new Queue<>(client, "/queue");
    assertEquals(Optional.empty(), queue.tryTake());
    CompletableFuture<String> taken = CompletableFuture.supplyAsync(() -> queue.take(TransactOptions.DEFAULT));
    queue.put("job");
    assertEquals("job", taken.join());

    Barrier barrier = new Barrier(client, "/barrier", 2);
    CompletableFuture<Void> other = CompletableFuture.runAsync(() -> barrier.await(TransactOptions.DEFAULT));
    barrier.await(TransactOptions.DEFAULT);
    other.join();

    Election election = new Election(client, "/leader");
    Held held = election.campaign("a", AcquireOptions.DEFAULT);
    try (Follow<String> follow = election.observe()) {
      assertEquals("a", follow.next().value());
    }
    election.resign(held);

    Stm.register(Other.class);
    Fold<Long, Other> sum = new Fold<>(client, 0L, (state, other1) -> state + other1.n(), Other.class);
    sum.update();
    long before = sum.state();
    client.transact(tx -> tx.record(new Other(5)));
    sum.update();
    assertEquals(before + 5, sum.state());
  }

  @Test
  void aWatchIsClosedFromAnotherThread(Stm client) {
    Watch watch = client.watch("/w/").initial();
    assertInstanceOf(Commit.class, watch.next());
    CompletableFuture<Commit> next = CompletableFuture.supplyAsync(watch::next);
    client.transact(tx -> tx.set(client.ref("/w/1"), 1L));
    assertEquals("/w/1", next.join().changes().get(0).name());
    CompletableFuture<Commit> last = CompletableFuture.supplyAsync(watch::next);
    watch.close();
    assertNull(last.join());
  }

  @Test
  void timesAreTheCallers(Stm client) {
    Ref<Long> ref = client.ref("/time", 0L);
    assertThrows(DeadlineException.class, () -> client.transact(TransactOptions.DEFAULT.timeout(Duration.ofMillis(20)), tx -> {
      tx.get(ref);
      tx.retry();
    }));
  }

  @Test
  void aRejectionHasItsEntrysNameOnceAndWithoutThePrefix(StmDaemon daemon) {
    try (Stm client = Stm.connect(new ConnectOptions().address(daemon.address()).prefix("/team-a"))) {
      Object rule = List.of(Keyword.of("min"), 0L);
      Ref<Long> ref = client.refOf("/x", Long.class, Stm.ABSENT, Definition.NONE.validator(rule));
      client.transact(tx -> tx.set(ref, 1L));
      RejectedException refused = assertThrows(RejectedException.class, () -> client.transact(tx -> tx.set(ref, -5L)));
      assertEquals("/x", refused.name());
      assertEquals(refused.getMessage().indexOf("/x: "), refused.getMessage().lastIndexOf("/x: "));
      assertFalse(refused.getMessage().contains("/team-a"), refused.getMessage());
    }
  }

  @Test
  void aHookHearsHowEachTransactionWent(StmDaemon daemon) {
    List<Transacted> heard = new java.util.concurrent.CopyOnWriteArrayList<>();
    try (Stm client = Stm.connect(new ConnectOptions().address(daemon.address()).onTransaction(heard::add))) {
      Ref<Long> ref = client.ref("/hook", 0L);
      client.transact(new TransactOptions().label("why"), tx -> {
        client.transact(inner -> inner.alter(ref, n -> n + 1));
      });
      assertThrows(IllegalStateException.class, () -> client.transact(tx -> {
        throw new IllegalStateException("no");
      }));
    }
    assertEquals(2, heard.size());
    assertEquals("why", heard.get(0).label());
    assertEquals(1, heard.get(0).runs());
    assertNull(heard.get(0).error());
    assertInstanceOf(IllegalStateException.class, heard.get(1).error());
  }
}
