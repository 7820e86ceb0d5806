package dev.stmd;

import java.lang.reflect.Type;
import java.time.Duration;
import java.time.Instant;
import java.util.AbstractList;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.Map;
import java.util.OptionalLong;
import java.util.RandomAccess;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Function;
import stmd.v1.CommitResponse;
import stmd.v1.ListRefsRequest;
import stmd.v1.ListRefsResponse;
import stmd.v1.Selector;

/**
 * A client of stmd. Refs, atoms and locks are handles that do no I/O when made; what a body does to a ref goes through its
 * {@link Tx}. Calls block, and those named {@code ..Async} run on the client's pool; a blocking call whose thread is
 * interrupted throws {@link CancelledException}, with the thread still interrupted. Any thread. Closing it ends its session
 * at once, wakes what waits, and leaves nothing running.
 */
public final class Stm implements AutoCloseable {
  /** What {@link Change#before} and after are where there is no entry; never the same as nil, which is null. */
  public static final Object ABSENT = new Object() {
    @Override
    public String toString() {
      return "absent";
    }
  };

  private final ClientCore core;

  private Stm(ConnectOptions options) {
    core = new ClientCore(options);
  }

  ClientCore core() {
    return core;
  }

  // ---- Connecting

  /**
   * Connects to STM_ADDRESS, else 127.0.0.1:7440.
   *
   * @return the client, once a daemon is ready
   * @throws UnavailableException if none is within 10 s
   */
  public static Stm connect() {
    return connect(new ConnectOptions());
  }

  /**
   * As {@link #connect()}, to an address.
   *
   * @param address "host:port" or "unix:/path", several by comma; "": as {@link #connect()}
   * @return the client
   */
  public static Stm connect(String address) {
    return connect(new ConnectOptions().address(address));
  }

  /**
   * As {@link #connect()}.
   *
   * @param options where, and how
   * @return the client
   */
  public static Stm connect(ConnectOptions options) {
    Transaction.checkOutside("connect");
    return new Stm(options);
  }

  @Override
  public void close() {
    core.close();
  }

  /** {@return the daemon it is pinned to} */
  public String address() {
    return core.transport().address();
  }

  /** {@return the newest version that this client knows} */
  public long seenVersion() {
    return core.position().get().seen();
  }

  /** {@return how values become native ones} */
  public ValueMapper mapper() {
    return core.mapper();
  }

  // ---- Handles

  /**
   * A ref without an init, of whatever values are there.
   *
   * @param <T> what the program takes them for; a value that is none fails where it is used
   * @param name as "/accounts/7"
   * @return the handle
   */
  public <T> Ref<T> ref(String name) {
    return new Ref<>(this, name, Object.class, false, null, null);
  }

  /**
   * A ref that is made with the init if it is absent, in the first transaction that touches it, and never overwritten.
   *
   * @param <T> what its values are; of an init that is a scalar or a registered record, others are BadValue when read
   * @param name as "/accounts/7"
   * @param init null: nil
   * @return the handle
   */
  public <T> Ref<T> ref(String name, T init) {
    return new Ref<>(this, name, typeOf(init), true, init, null);
  }

  /**
   * As {@link #ref(String, Object)}, and with a definition.
   *
   * @param <T> what its values are
   * @param name as "/accounts/7"
   * @param init null: nil
   * @param definition of the entry, if this creates it
   * @return the handle
   */
  public <T> Ref<T> ref(String name, T init, Definition definition) {
    return new Ref<>(this, name, typeOf(init), true, init, definition);
  }

  /**
   * A ref without an init, whose values are checked when they are read.
   *
   * @param <T> what its values are
   * @param name as "/accounts/7"
   * @param type others are BadValue; Object.class takes all
   * @return the handle
   */
  public <T> Ref<T> ref(String name, Class<T> type) {
    return new Ref<>(this, name, type, false, null, null);
  }

  /**
   * As {@link #ref(String, Class)}, of a type with arguments.
   *
   * @param <T> what its values are
   * @param name as "/accounts/7"
   * @param type as {@code new TypeRef<List<Long>>() {}}
   * @return the handle
   */
  public <T> Ref<T> ref(String name, TypeRef<T> type) {
    return new Ref<>(this, name, type.type(), false, null, null);
  }

  /**
   * A ref with all that may be said of it.
   *
   * @param <T> what its values are
   * @param name as "/accounts/7"
   * @param type a class or a {@link TypeRef#type}; Object.class takes all
   * @param init {@link #ABSENT}: none; null: nil
   * @param definition of the entry, if this creates it; null: none
   * @return the handle
   */
  @SuppressWarnings("unchecked")
  public <T> Ref<T> refOf(String name, Type type, Object init, Definition definition) {
    boolean has = init != ABSENT;
    return new Ref<>(this, name, type, has, has ? (T) init : null, definition);
  }

  /**
   * An atom without an init.
   *
   * @param <T> what the program takes its values for
   * @param name as "/counters/visits"
   * @return the handle
   */
  public <T> Atom<T> atom(String name) {
    return new Atom<>(this, name, Object.class, false, null, null);
  }

  /**
   * An atom that is made with the init if it is absent, by the first that changes it.
   *
   * @param <T> what its values are
   * @param name as "/counters/visits"
   * @param init null: nil
   * @return the handle
   */
  public <T> Atom<T> atom(String name, T init) {
    return new Atom<>(this, name, typeOf(init), true, init, null);
  }

  /**
   * As {@link #atom(String, Object)}, and with a definition.
   *
   * @param <T> what its values are
   * @param name as "/counters/visits"
   * @param init null: nil
   * @param definition of the entry, if this creates it
   * @return the handle
   */
  public <T> Atom<T> atom(String name, T init, Definition definition) {
    return new Atom<>(this, name, typeOf(init), true, init, definition);
  }

  /**
   * An atom without an init, whose values are checked when they are read.
   *
   * @param <T> what its values are
   * @param name as "/counters/visits"
   * @param type others are BadValue; Object.class takes all
   * @return the handle
   */
  public <T> Atom<T> atom(String name, Class<T> type) {
    return new Atom<>(this, name, type, false, null, null);
  }

  /**
   * An atom with all that may be said of it.
   *
   * @param <T> what its values are
   * @param name as "/counters/visits"
   * @param type a class or a {@link TypeRef#type}; Object.class takes all
   * @param init {@link #ABSENT}: none; null: nil
   * @param definition of the entry, if this creates it; null: none
   * @return the handle
   */
  @SuppressWarnings("unchecked")
  public <T> Atom<T> atomOf(String name, Type type, Object init, Definition definition) {
    boolean has = init != ABSENT;
    return new Atom<>(this, name, type, has, has ? (T) init : null, definition);
  }

  /** Scalars and the program's own types are what later values are to be, too; of composites an init tells too little. */
  private Type typeOf(Object init) {
    if (init == null || !(core.mapper() instanceof JavaValues)) return Object.class;
    Class<?> type = init.getClass();
    if (init instanceof Collection || init instanceof Map || type.isArray() && type != byte[].class
        || init instanceof java.util.Optional || init instanceof stmd.v1.Value) {
      if (init instanceof java.util.List) return java.util.List.class;
      if (init instanceof Set) return Set.class;
      if (init instanceof Map) return Map.class;
      return Object.class;
    }
    Types.Registered registered = Types.ofClass(type);
    return registered != null ? registered.type() : type;
  }

  /**
   * A lock, read-write lock or semaphore.
   *
   * @param name as "/nightly"
   * @return the handle
   */
  public Lock lock(String name) {
    return new Lock(this, name);
  }

  // ---- Transactions

  /**
   * Runs a body and commits what it did, all or nothing; again, as long as others commit first what it read. Inside another
   * transaction of this thread it joins that one.
   *
   * @param <X> the checked exception of the body
   * @param body a function of what it reads: it may run several times
   * @throws X what the body throws ends the transaction, and changes nothing
   * @throws RejectedException if a validator or an operation said no
   * @throws CommitUnknownException if a commit was sent and its outcome can't be found out
   */
  public <X extends Exception> void transact(TxBody<X> body) throws X {
    transact(TransactOptions.DEFAULT, body);
  }

  /**
   * As {@link #transact(TxBody)}.
   *
   * @param <X> the checked exception of the body
   * @param options timeout, label, and so on
   * @param body a function of what it reads
   * @throws X what the body throws
   */
  public <X extends Exception> void transact(TransactOptions options, TxBody<X> body) throws X {
    Transaction.<Void, X>run(this, options, tx -> {
      body.run(tx);
      return null;
    }, false);
  }

  /**
   * As {@link #transact(TxBody)}, and returns what the committed run returned.
   *
   * @param <R> what the body returns
   * @param <X> the checked exception of the body
   * @param body a function of what it reads
   * @return of the run that was committed
   * @throws X what the body throws
   */
  public <R, X extends Exception> R transactResult(TxFunction<R, X> body) throws X {
    return transactResult(TransactOptions.DEFAULT, body);
  }

  /**
   * As {@link #transactResult(TxFunction)}. With {@code once}, the result is kept as a value, and a later call returns what
   * that value is by itself.
   *
   * @param <R> what the body returns
   * @param <X> the checked exception of the body
   * @param options timeout, label, and so on
   * @param body a function of what it reads
   * @return of the run that was committed
   * @throws X what the body throws
   */
  public <R, X extends Exception> R transactResult(TransactOptions options, TxFunction<R, X> body) throws X {
    return Transaction.run(this, options, body, true);
  }

  /**
   * As {@link #transactResult(TxFunction)}, on the client's pool.
   *
   * @param <R> what the body returns
   * @param body a function of what it reads
   * @return of the run that was committed; cancelling it interrupts the transaction
   */
  public <R> CompletableFuture<R> transactAsync(TxFunction<R, ? extends Exception> body) {
    return transactAsync(TransactOptions.DEFAULT, body);
  }

  /**
   * As {@link #transactAsync(TxFunction)}.
   *
   * @param <R> what the body returns
   * @param options timeout, label, and so on
   * @param body a function of what it reads
   * @return of the run that was committed; cancelling it interrupts the transaction
   */
  public <R> CompletableFuture<R> transactAsync(TransactOptions options, TxFunction<R, ? extends Exception> body) {
    return async(() -> transactResult(options, body));
  }

  /**
   * Marks code that must not run in a transaction, because a re-run would repeat it.
   *
   * @throws InTransactionException inside a body, whose transaction ends by it
   */
  public static void io() {
    TxCore core = TxCore.current();
    if (core != null) {
      throw core.fail(Errors.inTransaction("Stm.io()", "do it before or after, or by tx.onCommit; a body reads and writes by its tx"));
    }
  }

  interface Work<R> {
    R run() throws Exception;
  }

  /** On the client's pool; cancelling it interrupts the work. */
  <R> CompletableFuture<R> async(Work<R> work) {
    return async(work, result -> {});
  }

  /** `unwanted`: takes a result that came after the future was cancelled. */
  <R> CompletableFuture<R> async(Work<R> work, java.util.function.Consumer<R> unwanted) {
    AtomicReference<Thread> runner = new AtomicReference<>();
    Object gate = new Object();
    CompletableFuture<R> future = new CompletableFuture<>() {
      @Override
      public boolean cancel(boolean mayInterrupt) {
        boolean cancelled = super.cancel(mayInterrupt);
        synchronized (gate) {
          Thread thread = runner.get();
          if (cancelled && thread != null) thread.interrupt();
        }
        return cancelled;
      }
    };
    try {
      core.pool().execute(() -> {
        synchronized (gate) {
          if (future.isDone()) return;
          runner.set(Thread.currentThread());
        }
        R result = null;
        Throwable thrown = null;
        try {
          result = work.run();
        } catch (Throwable any) {
          thrown = any;
        }
        synchronized (gate) {
          runner.set(null);
          Thread.interrupted(); // ours alone, of a thread that goes on to other work
        }
        if (thrown != null) {
          future.completeExceptionally(thrown);
        } else if (!future.complete(result)) {
          unwanted.accept(result);
        }
      });
    } catch (java.util.concurrent.RejectedExecutionException closed) {
      future.completeExceptionally(Errors.closed());
    }
    return future;
  }

  // ---- Reading

  /**
   * Entries under a prefix, all of one snapshot.
   *
   * @param prefix ends in "/"
   * @return in byte order of names, without the system's
   */
  public java.util.List<Entry> list(String prefix) {
    Transaction.checkOutside("list of " + prefix);
    Names.checkPrefix(prefix);
    for (;;) {
      try {
        java.util.List<Entry> entries = new ArrayList<>();
        String token = "";
        do {
          String page = token;
          ListRefsResponse response = core.ask(out -> out.setList(
              ListRefsRequest.newBuilder().setPrefix(core.names().full(prefix)).setPageToken(page)
                  .setAt(stmd.v1.ReadPoint.newBuilder().setSeen(core.position().seen()))), Call.until(null)).getList();
          for (stmd.v1.Entry message : response.getEntriesList()) {
            Wire.Found found = Wire.entry(message, core.names());
            entries.add(new Entry(found.name(), Wire.decode(core.mapper(), found.value(), Object.class, found.name()),
                found.version(), found.isAtom()));
          }
          token = response.getNextPageToken();
        } while (!token.isEmpty());
        UnknownFields.take();
        return Collections.unmodifiableList(entries);
      } catch (SnapshotTooOldException | StoreChangedException gone) {
        // Begun again where the pages' snapshot was trimmed, or the store changed, meanwhile.
        if (Thread.currentThread().isInterrupted()) throw Errors.cancelled();
      }
    }
  }

  /**
   * Commits that change what is selected, in order, each once.
   *
   * @param selectors names, and prefixes that end in "/"; none: all entries
   * @return not begun yet; to be closed
   */
  public Watch watch(String... selectors) {
    Selector.Builder selector = Selector.newBuilder();
    for (String one : selectors) {
      if (one.endsWith("/")) {
        Names.checkPrefix(one);
        selector.addPrefixes(core.names().full(one));
      } else {
        Names.checkName(one);
        selector.addNames(core.names().full(one));
      }
    }
    // Nothing named is all; below a prefix that is all of the prefix.
    if (selectors.length == 0 && !core.names().prefix().isEmpty()) selector.addPrefixes(core.names().full("/"));
    return new Watch(core, selector.build());
  }

  /**
   * Records of these types, in commit order.
   *
   * @param <T> what they have in common
   * @param types with a tag; none: all records, also those of no type here ({@link Tagged})
   * @return not begun yet; may be closed
   */
  @SafeVarargs
  public final <T> Records<T> records(Class<? extends T>... types) {
    Map<String, Class<?>> byTag = new LinkedHashMap<>();
    for (Class<? extends T> type : types) byTag.put(Types.tagOf(type), type);
    return new Records<>(core, java.util.List.copyOf(byTag.keySet()), byTag);
  }

  /**
   * Records by tag.
   *
   * @param tags as "blog.CreateUser"; "blog.*" is every tag that begins with "blog."; none: all
   * @return not begun yet; may be closed
   */
  public Records<Object> recordsTagged(String... tags) {
    return new Records<>(core, java.util.List.of(tags), Map.of());
  }

  /**
   * The past at a version.
   *
   * @param version 0: before the first commit
   * @return reads what was there then
   */
  public View at(long version) {
    return new View(core, version, null);
  }

  /**
   * The past at the newest version at or before a moment.
   *
   * @param instant of the daemon's clock
   * @return reads what was there then
   */
  public View at(Instant instant) {
    return new View(core, 0, instant);
  }

  /**
   * What became of a commit whose outcome was unknown.
   *
   * @param word of {@link StmException#outcomeWord}
   * @return its version; empty: it never was committed and never will be
   * @throws CommitUnknownException if it was too long ago to tell
   */
  public OptionalLong outcome(String word) {
    Transaction.checkOutside("outcome");
    stmd.v1.CommitId id = OutcomeWord.parse(word);
    CommitResponse outcome = core.outcome(id, Call.until(Duration.ofSeconds(10)));
    return switch (outcome.getOutcomeCase()) {
      case COMMITTED -> OptionalLong.of(outcome.getCommitted().getVersion());
      case CONFLICT, REJECTED, FENCE_LOST, NOT_COMMITTED -> OptionalLong.empty();
      default -> throw Errors.commitUnknown(id, "it was sent too long ago for the daemon to tell");
    };
  }

  // ---- Sessions and locks

  /** {@return the session that locks and ephemeral entries are held by, opened if there is none} */
  public Session session() {
    Transaction.checkOutside("session");
    return new Session(core.session().get(Call.until(null)));
  }

  /**
   * Locks under a prefix that are held, or were of late.
   *
   * @param prefix ends in "/"
   * @return without their queues
   */
  public java.util.List<LockInfo> locks(String prefix) {
    return Locks.list(core, prefix);
  }

  /** {@return all sessions of the store} */
  public java.util.List<SessionInfo> sessions() {
    return Locks.sessions(core);
  }

  /**
   * Ends a session, with all that it has; fine too if it is over.
   *
   * @param sessionId of {@link SessionInfo}
   * @param label why
   */
  public void expireSession(String sessionId, String label) {
    Locks.expire(core, sessionId, label);
  }

  // ---- Containers

  /**
   * Keeps values in this process: of refs and atoms whose {@link Definition#container} is "offered:NAME".
   *
   * @param name lower-case letters, digits, "-" and "_", at most 64
   * @param refs null: it keeps no refs
   * @param atoms null: it keeps no atoms
   * @return it stands, by then; closing it withdraws it
   * @throws StmException if another offers that name to this daemon, or it did not stand within 10 s
   */
  public Offer offer(String name, VersionedStateContainer refs, StateContainer atoms) {
    return offer(name, refs, atoms, 8, Duration.ofSeconds(10));
  }

  /**
   * As {@link #offer(String, VersionedStateContainer, StateContainer)}.
   *
   * @param name lower-case letters, digits, "-" and "_", at most 64
   * @param refs null: it keeps no refs
   * @param atoms null: it keeps no atoms
   * @param threadsMax calls at once, at least 1
   * @param timeout until it stands for the first time; null: without an end
   * @return it stands, by then
   */
  public Offer offer(String name, VersionedStateContainer refs, StateContainer atoms, int threadsMax, Duration timeout) {
    Transaction.checkOutside("offer of " + name);
    Offer offer = new Offer(core, name, refs, atoms, Math.max(1, threadsMax));
    offer.begin(timeout);
    return offer;
  }

  // ---- The program's own types

  /**
   * Makes record classes with {@link Tag} known, process-wide: as {@code #tag{:field ..}} with fields in kebab case.
   *
   * @param types record classes
   * @throws BadValueException of a class that is no record or has no tag, or two of whose fields are the same keyword
   */
  public static void register(Class<?>... types) {
    for (Class<?> type : types) {
      Tag tag = type.getAnnotation(Tag.class);
      if (tag == null) throw Errors.badValue(type.getName(), type.getName() + " has no tag: write @Tag(\"..\") on it");
      Types.registerRecord(type, tag.value());
    }
  }

  /**
   * Makes a record class known, process-wide, without an annotation.
   *
   * @param tag without the '#'
   * @param type a record class
   */
  public static void register(String tag, Class<?> type) {
    Types.registerRecord(type, tag);
  }

  /**
   * Makes a type known that is no record, process-wide: its value may be any EDN.
   *
   * @param <T> the type
   * @param tag without the '#'
   * @param type also for its subclasses
   * @param encode to a native value
   * @param decode from a native value
   */
  @SuppressWarnings("unchecked")
  public static <T> void register(String tag, Class<T> type, Function<? super T, ?> encode, Function<Object, ? extends T> decode) {
    Types.register(tag, type, value -> encode.apply((T) value), decode::apply);
  }

  // ---- Values

  /**
   * A list with one item more: decoded lists are immutable.
   *
   * @param <E> items
   * @param list is left as it is
   * @param item goes to the end
   * @return a new list
   */
  public static <E> java.util.List<E> conj(java.util.List<E> list, E item) {
    ArrayList<E> longer = new ArrayList<>(list.size() + 1);
    longer.addAll(list);
    longer.add(item);
    return Collections.unmodifiableList(longer);
  }

  /**
   * A set with one item more.
   *
   * @param <E> items
   * @param set is left as it is
   * @param item is in the new one
   * @return a new set
   */
  public static <E> Set<E> conj(Set<E> set, E item) {
    LinkedHashSet<E> larger = new LinkedHashSet<>(set);
    larger.add(item);
    return Collections.unmodifiableSet(larger);
  }

  /**
   * A map with one entry more, or another value.
   *
   * @param <K> keys
   * @param <V> values
   * @param map is left as it is
   * @param key which
   * @param value what
   * @return a new map
   */
  public static <K, V> Map<K, V> assoc(Map<K, V> map, K key, V value) {
    LinkedHashMap<K, V> larger = new LinkedHashMap<>(map);
    larger.put(key, value);
    return Collections.unmodifiableMap(larger);
  }

  /**
   * A map without an entry.
   *
   * @param <K> keys
   * @param <V> values
   * @param map is left as it is
   * @param key which
   * @return a new map
   */
  public static <K, V> Map<K, V> dissoc(Map<K, V> map, K key) {
    LinkedHashMap<K, V> smaller = new LinkedHashMap<>(map);
    smaller.remove(key);
    return Collections.unmodifiableMap(smaller);
  }

  /**
   * An EDN list, {@code (1 2)}: a Java List that is written back as a list, where other Lists are vectors. Immutable.
   * Equal to another EDN list with equal items and, other than Java's own lists, to no vector: else a set that has both
   * would lose one of them.
   *
   * @param <E> items
   */
  public static final class List<E> extends AbstractList<E> implements RandomAccess {
    private final Object[] items;

    private List(Object[] items) {
      this.items = items;
    }

    /**
     * A list of these.
     *
     * @param <E> items
     * @param items null among them allowed
     * @return the list
     */
    @SafeVarargs
    public static <E> List<E> of(E... items) {
      return new List<>(Arrays.copyOf(items, items.length, Object[].class));
    }

    /**
     * A list of what another has.
     *
     * @param <E> items
     * @param items copied
     * @return the list
     */
    public static <E> List<E> copyOf(Collection<? extends E> items) {
      return new List<>(items.toArray());
    }

    @Override
    @SuppressWarnings("unchecked")
    public E get(int index) {
      return (E) items[index];
    }

    @Override
    public int size() {
      return items.length;
    }

    @Override
    public boolean equals(Object other) {
      return other instanceof List<?> list && Arrays.equals(items, list.items);
    }

    @Override
    public int hashCode() {
      return ~Arrays.hashCode(items); // a vector's is another
    }
  }
}
