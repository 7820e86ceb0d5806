package dev.stmd;

import dev.stmd.Wire.Found;
import io.grpc.Status.Code;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.function.Consumer;
import stmd.v1.AwaitChangeRequest;
import stmd.v1.CommitRequest;
import stmd.v1.GetRefsRequest;
import stmd.v1.GetRefsResponse;
import stmd.v1.Header;
import stmd.v1.ListRefsRequest;
import stmd.v1.ListRefsResponse;
import stmd.v1.Operation;
import stmd.v1.PipelineAnswer;
import stmd.v1.ReadPoint;
import stmd.v1.Value;
import stmd.v1.Write;

/**
 * One run of a transaction's body: the snapshot, what was read of it, and what is to be written. It knows the daemon
 * through ask alone; the loop of runs and the commit are Transaction's. One thread, the body's. Once a signal is raised
 * every call raises it again, and the run is abandoned.
 */
final class TxCore {
  enum Signal {
    NONE,
    RETRY, // sleep until something read changes
    RERUN, // the snapshot is of no use any more: the failure says why
    FAIL
  }

  /** What a run leaves to the next: entries known to be so at `snapshot`; 0: nothing is known. */
  static final class Carried {
    long snapshot;
    long store;
    final Map<String, Found> fresh = new HashMap<>();
    List<String> wanted = List.of(); // what the last run read: fetched together with the first that is missing
  }

  private enum Base { NONE, SET, DELETE }

  private static final class Written {
    boolean isAtom;
    Value create; // first of all, if the entry is absent
    Base base = Base.NONE;
    Value value; // of SET
    List<Operation> ops = new ArrayList<>(); // on top
    List<CommuteResult> results = new ArrayList<>(); // one an op
    Definition definition; // of a new entry
    Definition define;
    boolean hasSeen;
    Value seen; // as the daemon says it is after all this; null: absent
    Handle<?> handle; // told of existence

    Written copy() {
      Written w = new Written();
      w.isAtom = isAtom;
      w.create = create;
      w.base = base;
      w.value = value;
      w.ops = new ArrayList<>(ops);
      w.results = new ArrayList<>(results);
      w.definition = definition;
      w.define = define;
      w.hasSeen = hasSeen;
      w.seen = seen;
      w.handle = handle;
      return w;
    }
  }

  private record Mark(Map<String, Written> writes, int records, int onCommit) {}

  private static final ThreadLocal<TxCore> CURRENT = new ThreadLocal<>();
  /** UTF-8's order, as the daemon lists: past U+FFFF comes after all of the rest. */
  private static final Comparator<String> BYTE_ORDER = (a, b) -> {
    int n = Math.min(a.length(), b.length());
    for (int i = 0; i < n; ++i) {
      char x = a.charAt(i);
      char y = b.charAt(i);
      if (x == y) continue;
      boolean xs = Character.isSurrogate(x);
      boolean ys = Character.isSurrogate(y);
      if (xs != ys) return xs ? 1 : -1;
      return Character.compare(x, y);
    }
    return Integer.compare(a.length(), b.length());
  };

  private final Stm stm;
  private final ClientCore client;
  private final TransactOptions options;
  private final Call call;
  private final int run;
  private final Tx tx = new Tx(this);
  private final Thread thread = Thread.currentThread();
  private boolean open;
  private Signal signal = Signal.NONE;
  private StmException failure;

  private long snapshot; // 0: nothing was read yet
  private long store;
  private final Map<String, Found> cache; // at snapshot
  private List<String> wanted;
  private final Set<String> reads = new LinkedHashSet<>();
  private final Set<String> lists = new LinkedHashSet<>();
  private final Set<String> ensures = new TreeSet<>();
  private final Map<String, List<Found>> listed = new HashMap<>();
  private final Map<String, List<Found>> listedNames = new HashMap<>();
  private Map<String, Written> writes = new LinkedHashMap<>(); // in order
  private final List<Value> records = new ArrayList<>();
  private final Set<Grant> fences = new LinkedHashSet<>();
  private final List<stmd.v1.Fence> handedOn = new ArrayList<>(); // of others' grants
  private final List<Consumer<Committed>> onCommit = new ArrayList<>();
  private final List<Mark> marks = new ArrayList<>();
  private final UnknownFields unknown = new UnknownFields();

  TxCore(Stm stm, TransactOptions options, Call call, int run, Carried carried) {
    this.stm = stm;
    this.client = stm.core();
    this.options = options;
    this.call = call;
    this.run = run;
    this.snapshot = carried.snapshot;
    this.store = carried.snapshot == 0 ? 0 : carried.store;
    this.cache = carried.snapshot == 0 ? new HashMap<>() : new HashMap<>(carried.fresh);
    this.wanted = new ArrayList<>(carried.wanted);
  }

  static TxCore current() {
    return CURRENT.get();
  }

  Tx tx() {
    return tx;
  }

  Stm stm() {
    return stm;
  }

  TransactOptions options() {
    return options;
  }

  int run() {
    return run;
  }

  Signal signal() {
    return signal;
  }

  StmException failure() {
    return failure;
  }

  /** Calls the body with this run on the thread's stack, then closes it. */
  <R, X extends Exception> R runBody(TxFunction<R, X> body) throws X {
    TxCore before = CURRENT.get();
    CURRENT.set(this);
    open = true;
    try {
      return body.apply(tx);
    } catch (TransactionAbandoned abandoned) {
      if (signal == Signal.NONE) throw abandoned;
      return null;
    } catch (Throwable thrown) {
      // What the body made of an abandoned run, its exceptions included, counts for nothing.
      if (signal == Signal.NONE) throw thrown;
      return null;
    } finally {
      open = false;
      if (before == null) {
        CURRENT.remove();
      } else {
        CURRENT.set(before);
      }
    }
  }

  /** Throws outside the body, raises a pending signal again. */
  void enter() {
    if (!open) {
      throw misuse(Reason.TRANSACTION_CLOSED, "", "a Tx was used after its body had ended: use it inside the body alone");
    }
    if (thread != Thread.currentThread()) {
      throw misuse(Reason.TRANSACTION_CLOSED, "",
          "a Tx was used by another thread than its body's: use it in the body's thread");
    }
    checkSignal();
  }

  void checkSignal() {
    if (signal != Signal.NONE) throw new TransactionAbandoned();
  }

  private TransactionAbandoned raise(Signal raised, StmException why) {
    signal = raised;
    failure = why;
    return new TransactionAbandoned();
  }

  /** The transaction ends by this error. */
  TransactionAbandoned fail(StmException why) {
    enter();
    return raise(Signal.FAIL, why);
  }

  private TransactionAbandoned raiseFor(StmException why) {
    boolean rerun = why.reason() == Reason.SNAPSHOT_TOO_OLD || why.reason() == Reason.STORE_CHANGED;
    return raise(rerun ? Signal.RERUN : Signal.FAIL, why);
  }

  private static StmException misuse(Reason reason, String name, String message) {
    return Errors.make(reason, reason == Reason.BAD_VALUE ? Code.INVALID_ARGUMENT : Code.FAILED_PRECONDITION, name, message);
  }

  // ---- Reads

  private PipelineAnswer ask(Consumer<stmd.v1.PipelineCall.Builder> fill) {
    try {
      return client.ask(fill, call);
    } catch (StmException failed) {
      throw raiseFor(failed);
    }
  }

  private ReadPoint readPoint() {
    ReadPoint.Builder at = ReadPoint.newBuilder();
    if (snapshot != 0) {
      at.setVersion(snapshot).setSeen(client.position().seenOf(store));
    } else {
      if (options.staleOk()) at.setStale(true);
      at.setSeen(client.position().seen());
    }
    return at.build();
  }

  private void takeSnapshot(Header header, long of) {
    if (snapshot != 0) return;
    snapshot = of;
    store = header.getStore();
  }

  private Found fetch(String name) {
    Found cached = cache.get(name);
    if (cached != null) return cached;
    checkName(name);
    List<String> names = new ArrayList<>();
    names.add(name);
    for (String one : wanted) {
      if (!one.equals(name) && !cache.containsKey(one)) names.add(one);
    }
    wanted = List.of();
    GetRefsRequest.Builder get = GetRefsRequest.newBuilder();
    for (String one : names) get.addNames(client.names().full(one));
    GetRefsResponse response = ask(out -> out.setGet(get.setAt(readPoint()))).getGet();
    takeSnapshot(response.getHeader(), response.getSnapshot());
    for (int i = 0; i < response.getEntriesCount() && i < names.size(); ++i) {
      cache.put(names.get(i), Wire.entry(response.getEntries(i), client.names()));
    }
    Found found = cache.get(name);
    if (found == null) throw raise(Signal.FAIL, lacks(name));
    return found;
  }

  private static StmException lacks(String name) {
    return Errors.internal(name + ": the daemon's answer lacks it: report this");
  }

  private void checkName(String name) {
    try {
      Names.checkName(name);
    } catch (StmException bad) {
      throw raise(Signal.FAIL, bad);
    }
  }

  private void checkPrefix(String prefix) {
    try {
      Names.checkPrefix(prefix);
    } catch (StmException bad) {
      throw raise(Signal.FAIL, bad);
    }
  }

  private void checkClient(Handle<?> handle) {
    if (handle.core != client) {
      throw raise(Signal.FAIL, misuse(Reason.BAD_VALUE, handle.name,
          handle.name + " is of another client than the transaction: make its handle by this one"));
    }
  }

  private Found fetchOf(Handle<?> handle) {
    Found found = fetch(handle.name);
    reads.add(handle.name);
    if (found.value() != null) {
      if (found.isAtom() != handle.isAtom) throw raise(Signal.FAIL, Errors.wrongKind(handle.name, found.isAtom()));
      handle.exists = true;
    }
    return found;
  }

  /** Null: absent. */
  Value read(Handle<?> handle) {
    enter();
    checkClient(handle);
    Written w = writes.get(handle.name);
    if (w == null) return fetchOf(handle).value();
    if (!w.ops.isEmpty()) return readAfterWrites(handle, w);
    if (w.base == Base.SET) return w.value;
    if (w.base == Base.DELETE) return null;
    Value there = fetchOf(handle).value();
    return there != null ? there : w.create;
  }

  private Value initOf(Handle<?> handle) {
    if (handle.badInit != null) throw raise(Signal.FAIL, handle.badInit);
    return handle.init;
  }

  private Value readOrInit(Handle<?> handle) {
    Value value = read(handle);
    if (value != null) return value;
    Value init = initOf(handle);
    if (init == null) throw raise(Signal.FAIL, Errors.absent(handle.name));
    // A deleted entry is made again by its init; an atom is not written in transactions, and left absent.
    if (!handle.isAtom) {
      Written written = writeTo(handle);
      if (written.base == Base.DELETE) {
        written.base = Base.SET;
        written.value = init;
      } else {
        written.create = init;
        written.handle = handle;
      }
    }
    return init;
  }

  private Value readAfterWrites(Handle<?> handle, Written written) {
    if (written.hasSeen) return written.seen;
    // Whether the entry exists is the daemon's to know: with the create, the answer is right in both cases.
    if (written.base == Base.NONE && initOf(handle) != null) written.create = initOf(handle);
    GetRefsRequest.Builder get = GetRefsRequest.newBuilder().addNames(client.names().full(handle.name));
    addWrites(handle.name, written, "", get::addPending);
    GetRefsResponse response = ask(out -> out.setGet(get.setAt(readPoint()))).getGet();
    takeSnapshot(response.getHeader(), response.getSnapshot());
    reads.add(handle.name);
    if (response.getEntriesCount() != 1) throw raise(Signal.FAIL, lacks(handle.name));
    written.seen = Wire.entry(response.getEntries(0), client.names()).value();
    written.hasSeen = true;
    return written.seen;
  }

  private <T> T take(Handle<T> handle, Value value) {
    UnknownFields.take();
    T decoded;
    Value known = null;
    try {
      @SuppressWarnings("unchecked")
      T typed = (T) Wire.decode(client.mapper(), value, handle.type, handle.name);
      decoded = typed;
      if (UnknownFields.take()) known = Wire.encode(client.mapper(), decoded, handle.name);
    } catch (BadValueException bad) {
      throw raise(Signal.FAIL, bad);
    }
    if (known != null) unknown.keep(handle.name, value, known);
    return decoded;
  }

  <T> T get(Handle<T> handle) {
    return take(handle, readOrInit(handle));
  }

  <T> Optional<T> find(Handle<T> handle) {
    Value value = read(handle);
    if (value == null) return Optional.empty();
    T found = take(handle, value);
    try {
      return Optional.of(handle.notNil(found));
    } catch (StmException nil) {
      throw raise(Signal.FAIL, nil);
    }
  }

  <T> T getOr(Handle<T> handle, T otherwise) {
    Value value = read(handle);
    return value == null ? otherwise : take(handle, value);
  }

  // ---- Writes

  private Written writeTo(Handle<?> handle) {
    Written there = writes.get(handle.name);
    if (there != null) return there;
    checkClient(handle);
    checkName(handle.name);
    Written written = new Written();
    written.isAtom = handle.isAtom;
    written.definition = handle.definition;
    writes.put(handle.name, written);
    return written;
  }

  void checkAlter(Handle<?> handle) {
    enter();
    Written written = writes.get(handle.name);
    if (written != null && !written.ops.isEmpty()) {
      throw raise(Signal.FAIL, misuse(Reason.BAD_VALUE, handle.name, handle.name
          + ": set or alter after commute in one transaction: the commute would be lost or pinned; alter it alone, or "
          + "commute it alone"));
    }
  }

  void write(Handle<?> handle, Object value) {
    checkAlter(handle);
    Value encoded;
    try {
      encoded = Wire.encode(client.mapper(), value, handle.name);
    } catch (BadValueException bad) {
      throw raise(Signal.FAIL, bad);
    }
    Written written = writeTo(handle);
    written.base = Base.SET;
    written.create = null;
    written.value = unknown.restore(handle.name, encoded);
    written.hasSeen = false;
  }

  CommuteResult apply(Handle<?> handle, Op op) {
    enter();
    Operation message;
    try {
      message = op.message(client.mapper(), handle.name);
    } catch (BadValueException bad) {
      throw raise(Signal.FAIL, bad);
    }
    Written written = writeTo(handle);
    if (written.base == Base.NONE && written.create == null && initOf(handle) != null) {
      written.handle = handle;
      if (!handle.exists) written.create = initOf(handle);
    }
    CommuteResult result = new CommuteResult(client.mapper(), handle.name);
    written.ops.add(message);
    written.results.add(result);
    written.hasSeen = false;
    return result;
  }

  void ensure(Handle<?> handle) {
    enter();
    checkClient(handle);
    fetchOf(handle);
    ensures.add(handle.name);
  }

  void erase(Handle<?> handle) {
    enter();
    Written written = writeTo(handle);
    Written erased = new Written();
    erased.isAtom = written.isAtom;
    erased.definition = written.definition;
    erased.base = Base.DELETE;
    writes.put(handle.name, erased);
  }

  void define(Handle<?> handle, Definition definition) {
    enter();
    Definition encoded;
    try {
      encoded = definition.encoded(client.mapper(), handle.name);
    } catch (BadValueException bad) {
      throw raise(Signal.FAIL, bad);
    }
    writeTo(handle).define = encoded;
  }

  // ---- Lists

  private List<Found> listPages(String prefix, boolean namesOnly) {
    List<Found> entries = new ArrayList<>();
    String token = "";
    do {
      ListRefsRequest.Builder list = ListRefsRequest.newBuilder().setPrefix(client.names().full(prefix))
          .setNamesOnly(namesOnly).setPageToken(token);
      ListRefsResponse page = ask(out -> out.setList(list.setAt(readPoint()))).getList();
      takeSnapshot(page.getHeader(), page.getSnapshot());
      for (stmd.v1.Entry message : page.getEntriesList()) entries.add(Wire.entry(message, client.names()));
      token = page.getNextPageToken();
    } while (!token.isEmpty());
    return entries;
  }

  List<Entry> list(String prefix) {
    enter();
    checkPrefix(prefix);
    List<Found> there = listed.get(prefix);
    if (there == null) {
      there = listPages(prefix, false);
      listed.put(prefix, there);
      lists.add(prefix);
      for (Found entry : there) {
        cache.put(entry.name(), entry);
        reads.add(entry.name());
      }
    }
    // What this body wrote lies over what is there.
    Map<String, Found> entries = new TreeMap<>(BYTE_ORDER);
    for (Found entry : there) entries.put(entry.name(), entry);
    for (Map.Entry<String, Written> write : new ArrayList<>(writes.entrySet())) {
      String name = write.getKey();
      if (!isUnder(name, prefix)) continue;
      Value value = readWritten(name, write.getValue());
      if (value == null) {
        entries.remove(name);
      } else {
        Found before = entries.get(name);
        entries.put(name, new Found(name, value, before == null ? 0 : before.version(), write.getValue().isAtom));
      }
    }
    List<Entry> result = new ArrayList<>(entries.size());
    for (Found found : entries.values()) {
      try {
        result.add(new Entry(found.name(), Wire.decode(client.mapper(), found.value(), Object.class, found.name()),
            found.version(), found.isAtom()));
      } catch (BadValueException bad) {
        throw raise(Signal.FAIL, bad);
      }
    }
    UnknownFields.take();
    return List.copyOf(result);
  }

  private Value readWritten(String name, Written written) {
    Handle<?> handle = written.isAtom ? new Atom<>(stm, name, Object.class, false, null, null)
        : new Ref<>(stm, name, Object.class, false, null, null);
    return read(handle);
  }

  private static boolean isUnder(String name, String prefix) {
    return name.startsWith(prefix) && (!Names.isSystem(name) || Names.isSystem(prefix));
  }

  List<String> listNames(String prefix) {
    enter();
    checkPrefix(prefix);
    List<Found> there = listedNames.get(prefix);
    if (there == null) {
      there = listPages(prefix, true);
      listedNames.put(prefix, there);
      lists.add(prefix);
    }
    Set<String> names = new TreeSet<>(BYTE_ORDER);
    for (Found entry : there) names.add(entry.name());
    for (Map.Entry<String, Written> write : writes.entrySet()) {
      if (!isUnder(write.getKey(), prefix)) continue;
      Written written = write.getValue();
      if (written.base == Base.DELETE && written.ops.isEmpty()) {
        names.remove(write.getKey());
      } else if (written.base == Base.SET || written.create != null) {
        names.add(write.getKey());
      }
    }
    return List.copyOf(names);
  }

  // ---- What goes with the commit

  void record(Object record) {
    enter();
    Value value;
    try {
      value = Wire.encode(client.mapper(), record, "");
    } catch (BadValueException bad) {
      throw raise(Signal.FAIL, bad);
    }
    if (!value.hasTagged()) {
      throw raise(Signal.FAIL, misuse(Reason.BAD_VALUE, "", "a record is a tagged value, not "
          + value.getKindCase().name().toLowerCase(java.util.Locale.ROOT)
          + ": give its type a tag by @Tag and Stm.register, or record a Tagged"));
    }
    records.add(value);
  }

  void fence(Grant grant) {
    enter();
    if (grant.over()) throw raise(Signal.FAIL, Errors.lockLost(grant.name(), "is gone"));
    fences.add(grant);
  }

  void fence(String lock, long token) {
    enter();
    checkName(lock);
    if (token <= 0) {
      throw raise(Signal.FAIL, misuse(Reason.BAD_VALUE, lock, lock + ": " + token
          + " is no token of a lock, which are above 0: give the one that its holder has"));
    }
    handedOn.add(stmd.v1.Fence.newBuilder().setLock(client.names().full(lock)).setToken(token).build());
  }

  TransactionAbandoned retry() {
    enter();
    if (!hasReads()) {
      return raise(Signal.FAIL, misuse(Reason.BAD_VALUE, "",
          "retry with nothing read would sleep for ever: read what it waits for first"));
    }
    return raise(Signal.RETRY, null);
  }

  void onCommit(Consumer<Committed> f) {
    enter();
    onCommit.add(Objects.requireNonNull(f));
  }

  // ---- Marks: what was written since is dropped, what was read stays.

  int setMark() {
    enter();
    Map<String, Written> copy = new LinkedHashMap<>();
    writes.forEach((name, written) -> copy.put(name, written.copy()));
    marks.add(new Mark(copy, records.size(), onCommit.size()));
    return marks.size() - 1;
  }

  void dropMark(int mark) {
    while (marks.size() > mark) marks.remove(marks.size() - 1);
  }

  void returnTo(int at) {
    Mark mark = marks.get(at);
    writes = mark.writes();
    records.subList(Math.min(mark.records(), records.size()), records.size()).clear();
    onCommit.subList(Math.min(mark.onCommit(), onCommit.size()), onCommit.size()).clear();
    dropMark(at);
  }

  /** A retry is taken back; false: it was another signal. */
  boolean takeRetry(int mark) {
    if (signal != Signal.RETRY) return false;
    signal = Signal.NONE;
    returnTo(mark);
    return true;
  }

  // ---- For Transaction

  /** /.once/KEY, read like any entry of this snapshot; null: absent, or a signal was raised. */
  Found readOnce(String name) {
    TxCore before = CURRENT.get();
    CURRENT.set(this);
    open = true;
    try {
      Found found = fetch(name);
      reads.add(name);
      return found.value() == null ? null : found;
    } catch (TransactionAbandoned abandoned) {
      return null;
    } finally {
      open = false;
      if (before == null) {
        CURRENT.remove();
      } else {
        CURRENT.set(before);
      }
    }
  }

  void writeOnce(String name, Value result, java.time.Duration ttl) {
    Written written = new Written();
    written.base = Base.SET;
    written.value = result;
    written.definition = Definition.NONE.ttl(ttl);
    writes.put(name, written);
  }

  boolean hasReads() {
    return !reads.isEmpty() || !lists.isEmpty();
  }

  boolean needsCommit() {
    return !writes.isEmpty() || !records.isEmpty() || !fences.isEmpty() || !handedOn.isEmpty()
        || (options.staleOk() && hasReads());
  }

  /** Does it make an entry that is bound to the client's session? */
  boolean needsSession() {
    return writes.values().stream().anyMatch(written -> (written.definition != null && written.definition.ephemeral())
        || (written.define != null && written.define.ephemeral()));
  }

  void checkFences() {
    for (Grant grant : fences) {
      if (grant.over()) throw Errors.lockLost(grant.name(), "is gone");
    }
  }

  long store() {
    return store;
  }

  private void addWrites(String name, Written written, String session, Consumer<Write> add) {
    Write.Builder plain = Write.newBuilder().setName(client.names().full(name)).setKind(Wire.kind(written.isAtom));
    Write.Builder making = plain.clone();
    if (written.definition != null) making.setDefinition(Wire.definition(written.definition, session));
    if (written.base == Base.NONE && written.create != null) add.accept(making.clone().setCreate(written.create).build());
    if (written.base == Base.SET) add.accept(making.clone().setSet(written.value).build());
    if (written.base == Base.DELETE) add.accept(plain.clone().setDeleteEntry(true).build());
    for (Operation op : written.ops) add.accept(making.clone().setApply(op).build());
    if (written.define != null) add.accept(plain.clone().setDefine(Wire.definition(written.define, session)).build());
  }

  /** All but id, meta and age. `session`: of ephemeral entries. */
  CommitRequest.Builder commitRequest(String session) {
    Names names = client.names();
    CommitRequest.Builder request = CommitRequest.newBuilder();
    if (hasReads()) request.setSnapshot(snapshot);
    boolean si = options.isolation() == Isolation.SNAPSHOT;
    request.setIsolation(si ? stmd.v1.Isolation.ISOLATION_SNAPSHOT : stmd.v1.Isolation.ISOLATION_SERIALIZABLE);
    for (String name : reads) request.addReads(names.full(name));
    for (String prefix : lists) request.addLists(names.full(prefix));
    if (si) {
      for (String name : ensures) request.addEnsures(names.full(name));
    }
    writes.forEach((name, written) -> addWrites(name, written, session, request::addWrites));
    request.addAllRecords(records);
    for (Grant grant : fences) {
      request.addFences(stmd.v1.Fence.newBuilder().setLock(grant.lock()).setToken(grant.token()));
    }
    request.addAllFences(handedOn);
    return request;
  }

  AwaitChangeRequest.Builder awaitRequest() {
    AwaitChangeRequest.Builder request = AwaitChangeRequest.newBuilder().setSeen(client.position().seenOf(store))
        .setSnapshot(snapshot);
    for (String name : reads) request.addReads(client.names().full(name));
    for (String prefix : lists) request.addLists(client.names().full(prefix));
    return request;
  }

  Carried carry() {
    Carried carried = new Carried();
    carried.wanted = List.copyOf(reads);
    return carried;
  }

  /** The same snapshot and values, for a second run of the body on them. */
  Carried carrySame() {
    Carried carried = new Carried();
    carried.snapshot = snapshot;
    carried.store = store;
    carried.fresh.putAll(cache);
    return carried;
  }

  /** Results reach their commutes, hints their handles. */
  void committed(stmd.v1.Committed committed) {
    // Results go by the writes as they were sent; none at all when there are only sets, deletes and defines.
    int at = 0;
    for (Written written : writes.values()) {
      if (written.base == Base.NONE && written.create != null) ++at;
      if (written.base != Base.NONE) ++at;
      for (CommuteResult result : written.results) {
        if (at < committed.getResultsCount()
            && committed.getResults(at).getKindCase() != Value.KindCase.KIND_NOT_SET) {
          result.set(committed.getResults(at));
        }
        ++at;
      }
      if (written.define != null) ++at;
      if (written.handle != null) written.handle.exists = true;
    }
  }

  void callOnCommit(Committed committed) {
    RuntimeException first = null;
    for (Consumer<Committed> f : onCommit) {
      try {
        f.accept(committed);
      } catch (RuntimeException thrown) {
        if (first == null) {
          first = thrown;
        } else {
          first.addSuppressed(thrown);
        }
      }
    }
    if (first != null) throw first;
  }

  /** An operation met an absent entry that was thought to exist: true if a rerun that creates it may help. */
  boolean forgetExistence(String name) {
    Written written = writes.get(name);
    if (written == null || written.handle == null || written.create != null) return false;
    written.handle.exists = false;
    return true;
  }

  /** What was read, written and recorded, a line each, for rerunCheck. */
  List<String> lines() {
    List<String> lines = new ArrayList<>();
    new TreeSet<>(reads).forEach(name -> lines.add("read " + name));
    lists.forEach(prefix -> lines.add("list " + prefix));
    ensures.forEach(name -> lines.add("ensure " + name));
    writes.forEach((name, written) -> {
      if (written.create != null) lines.add("create " + name + " " + shown(written.create));
      if (written.base == Base.SET) lines.add("set " + name + " " + shown(written.value));
      if (written.base == Base.DELETE) lines.add("delete " + name);
      for (Operation op : written.ops) lines.add("commute " + name + " " + shown(op));
      if (written.define != null) {
        lines.add("define " + name + " " + shown(Wire.definition(written.define, written.define.ephemeral() ? "ours" : "")));
      }
    });
    for (Value record : records) lines.add("record " + shown(record));
    for (Grant grant : fences) lines.add("fence " + grant.name() + " " + grant.token());
    for (stmd.v1.Fence fence : handedOn) lines.add("fence " + fence.getLock() + " " + fence.getToken());
    if (signal == Signal.RETRY) lines.add("retry");
    if (signal == Signal.FAIL) lines.add("fail: " + failure.getMessage());
    return lines;
  }

  private static String shown(com.google.protobuf.MessageOrBuilder message) {
    return com.google.protobuf.TextFormat.printer().emittingSingleLine(true).printToString(message);
  }
}
