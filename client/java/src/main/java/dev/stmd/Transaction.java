package dev.stmd;

import dev.stmd.TxCore.Carried;
import dev.stmd.Wire.Found;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.concurrent.ThreadLocalRandom;
import java.util.function.Consumer;
import stmd.v1.Age;
import stmd.v1.AwaitChangeResponse;
import stmd.v1.CommitRequest;
import stmd.v1.CommitResponse;

/**
 * The runs of one transaction: body, commit, and again until a snapshot still stands.
 *
 * @param <R> what the body returns
 * @param <X> what it throws
 */
final class Transaction<R, X extends Exception> {
  private static final int RUNS_AT_ONCE = 3; // the first and two re-runs; later ones back off
  private static final long RERUN_MIN_NANOS = 1_000_000;
  private static final long RERUN_MAX_NANOS = 100_000_000;
  private static final int WARN_AT_RUN = 10;

  private final Stm stm;
  private final ClientCore client;
  private final TransactOptions options;
  private final TxFunction<R, X> body;
  private final Call call;
  private final String once;
  private final boolean hasResult;
  private TxCore core;
  private Carried carried = new Carried();
  private int run;
  private int runsSinceSleep;
  private long firstRun;
  private long reservation;
  private final ClientCore.Sent sent = new ClientCore.Sent();
  private List<ConflictCause> causes = List.of();
  private String why = "";
  private R result;

  private Transaction(Stm stm, TransactOptions options, TxFunction<R, X> body, boolean hasResult) {
    this.stm = stm;
    this.client = stm.core();
    this.options = options;
    this.body = body;
    this.hasResult = hasResult;
    this.call = Call.until(options.timeout());
    this.once = options.once().isEmpty() ? "" : "/.once/" + options.once();
  }

  /** hasResult: what it returns is kept with a once key. */
  static <R, X extends Exception> R run(Stm stm, TransactOptions options, TxFunction<R, X> body, boolean hasResult) throws X {
    TxCore outer = TxCore.current();
    if (outer != null) return join(outer, stm, options, body);
    Transaction<R, X> transaction = new Transaction<>(stm, options, body, hasResult);
    Consumer<Transacted> onTransaction = stm.core().options().onTransaction();
    if (onTransaction == null) return transaction.run();
    long began = System.nanoTime();
    Throwable error = null;
    try {
      return transaction.run();
    } catch (Throwable thrown) {
      error = thrown;
      throw thrown;
    } finally {
      onTransaction.accept(
          new Transacted(options.label(), transaction.run, Duration.ofNanos(System.nanoTime() - began), error));
    }
  }

  /** Joins the transaction that is under way on this thread. A body that fails leaves nothing of what it wrote. */
  private static <R, X extends Exception> R join(TxCore outer, Stm stm, TransactOptions options, TxFunction<R, X> body)
      throws X {
    if (outer.stm() != stm) {
      throw Errors.inTransaction("a transaction of another client",
          "one transaction is of one daemon: use the outer one's client");
    }
    if (!options.sameAs(TransactOptions.DEFAULT) && !options.sameAs(outer.options())) {
      throw Errors.badValue("options", "a transaction inside a transaction joins it, and its options differ from the outer "
          + "one's: give them to the outer one");
    }
    int mark = outer.setMark();
    try {
      R result = body.apply(outer.tx());
      outer.checkSignal();
      outer.dropMark(mark);
      return result;
    } catch (TransactionAbandoned abandoned) {
      throw abandoned;
    } catch (Throwable thrown) {
      if (outer.signal() == TxCore.Signal.NONE) outer.returnTo(mark);
      throw thrown;
    }
  }

  private R run() throws X {
    if (client.closed()) throw Errors.closed();
    for (;;) {
      if (call.cancelled()) throw Errors.cancelled();
      ++run;
      ++runsSinceSleep;
      if (runsSinceSleep == 1) firstRun = System.nanoTime();
      core = new TxCore(stm, options, call, run, carried);
      carried = new Carried();
      if (runOnce()) return result;
    }
  }

  /** False: run again. */
  private boolean runOnce() throws X {
    if (!once.isEmpty()) {
      Found spent = core.readOnce(once);
      if (core.signal() != TxCore.Signal.NONE) return afterSignal();
      if (spent != null) return takeSpent(spent);
    }
    if (options.rerunCheck()) {
      runTwice();
    } else {
      result = core.runBody(body);
    }
    if (core.signal() != TxCore.Signal.NONE) return afterSignal();
    if (!once.isEmpty()) {
      core.writeOnce(once, hasResult ? Wire.encode(client.mapper(), result, "the result") : Wire.NIL, options.onceTtl());
    }
    return commit();
  }

  private void runTwice() throws X {
    Exception first = null;
    Exception second = null;
    try {
      result = core.runBody(body);
    } catch (Exception thrown) {
      first = thrown;
    }
    if (core.signal() == TxCore.Signal.RERUN) return;
    TxCore before = core;
    core = new TxCore(stm, options, call, run, before.carrySame());
    if (!once.isEmpty()) core.readOnce(once);
    try {
      result = core.runBody(body);
    } catch (Exception thrown) {
      second = thrown;
    }
    if (core.signal() == TxCore.Signal.RERUN) return;
    List<String> a = before.lines();
    List<String> b = core.lines();
    if (first != null) a.add("error: " + first.getMessage());
    if (second != null) b.add("error: " + second.getMessage());
    if (a.equals(b)) {
      if (second != null) throw Transaction.<X>same(second);
      return;
    }
    int at = 0;
    while (at < a.size() && at < b.size() && a.get(at).equals(b.get(at))) ++at;
    StmException.Details details = new StmException.Details().code(io.grpc.Status.Code.FAILED_PRECONDITION);
    details.expected = at < a.size() ? a.get(at) : "nothing more";
    details.found = at < b.size() ? b.get(at) : "nothing more";
    throw Errors.make(Reason.RERUN_DIFFERS, "rerunCheck: on one snapshot the first run did \"" + details.expected
        + "\" and the second \"" + details.found + "\": a body must depend on nothing but what it reads; take time, chance and "
        + "input before the transaction", details);
  }

  /** What the body threw: an X, or unchecked. */
  @SuppressWarnings("unchecked")
  private static <X extends Exception> X same(Exception thrown) throws X {
    throw (X) thrown;
  }

  @SuppressWarnings("unchecked")
  private boolean takeSpent(Found entry) {
    result = hasResult ? (R) Wire.decode(client.mapper(), entry.value(), Object.class, once) : null;
    if (options.onCommitted() != null) {
      options.onCommitted().accept(new Committed(entry.version(), Instant.EPOCH, "", true, 0));
    }
    return true;
  }

  private boolean afterSignal() {
    switch (core.signal()) {
      case FAIL -> throw core.failure().reason() == Reason.DEADLINE ? timeIsUp(core.failure()) : core.failure();
      case RERUN -> again(List.of(), core.failure().reason().word(), false);
      case RETRY -> sleepUntilChange();
      case NONE -> throw Errors.internal("a run ended without a signal: report this");
    }
    return false;
  }

  private void sleepUntilChange() {
    try {
      AwaitChangeResponse changed = client.ask(
          out -> out.setAwait(core.awaitRequest().setReservation(reservation)), call).getAwait();
      takeFresh(changed.getHeader().getStore(), changed.getSnapshot(), changed.getFreshList());
    } catch (SnapshotTooOldException | StoreChangedException gone) {
      carried = core.carry();
    }
    // It waited for a change, not for its turn: its age begins anew.
    runsSinceSleep = 0;
    reservation = 0;
  }

  private void takeFresh(long store, long snapshot, List<stmd.v1.Entry> entries) {
    carried = core.carry();
    if (snapshot == 0) return;
    carried.snapshot = snapshot;
    carried.store = store;
    for (stmd.v1.Entry message : entries) {
      Found entry = Wire.entry(message, client.names());
      carried.fresh.put(entry.name(), entry);
    }
  }

  private CommitRequest request(Lease lease) {
    CommitRequest.Builder request = core.commitRequest(lease == null ? "" : lease.id());
    request.setMeta(stmd.v1.Meta.newBuilder().setLabel(options.label()).setClient(client.clientName())
        .setTraceparent(options.traceparent().isEmpty() ? Traces.current() : options.traceparent()));
    if (runsSinceSleep > 1) {
      request.setAge(Age.newBuilder().setSinceFirstRun(Wire.duration(System.nanoTime() - firstRun)).setRuns(runsSinceSleep)
          .setReservation(reservation));
    }
    return request.build();
  }

  /** True: it is over. */
  private boolean commit() {
    Committed committed = new Committed(0, Instant.EPOCH, "", false, 0);
    if (core.needsCommit()) {
      core.checkFences();
      Lease lease = core.needsSession() ? client.session().get(call) : null;
      CommitResponse response;
      try {
        response = client.commit(request(lease), core.store(), call, sent);
      } catch (SnapshotTooOldException | StoreChangedException gone) {
        again(List.of(), gone.reason().word(), false);
        return false;
      } catch (SessionExpiredException expired) {
        if (lease == null) throw expired;
        client.session().drop(lease, true);
        again(List.of(), expired.reason().word(), false);
        return false;
      } catch (DeadlineException over) {
        throw timeIsUp(over);
      }
      switch (response.getOutcomeCase()) {
        case COMMITTED -> {
          stmd.v1.Committed told = response.getCommitted();
          committed = new Committed(told.getVersion(), Wire.instant(told.getAt()), sent.transactionId, false, sent.resends);
          client.position().observe(response.getHeader().getStore(), told.getVersion());
          core.committed(told);
        }
        case CONFLICT -> {
          stmd.v1.Conflict conflict = response.getConflict();
          reservation = conflict.getReservation();
          List<ConflictCause> told = Errors.causesOf(conflict, client.names());
          takeFresh(response.getHeader().getStore(), conflict.getSnapshot(), conflict.getFreshList());
          again(told, "", conflict.hasReservedFor());
          return false;
        }
        case REJECTED -> {
          stmd.v1.Rejected rejected = response.getRejected();
          if (rejected.getCause() == stmd.v1.RejectCause.REJECT_CAUSE_ABSENT
              && core.forgetExistence(client.names().shorten(rejected.getName()))) {
            carried = core.carry();
            return false;
          }
          throw Errors.rejected(rejected, client.names(), client.mapper());
        }
        case FENCE_LOST -> {
          stmd.v1.Fence fence = response.getFenceLost().getFence();
          client.session().lose(fence.getLock(), fence.getToken());
          throw Errors.lockLost(client.names().shorten(fence.getLock()), "is gone; nothing was changed");
        }
        default -> throw Errors.noOutcome("a commit");
      }
    }
    if (options.onCommitted() != null) options.onCommitted().accept(committed);
    core.callOnCommit(committed);
    return true;
  }

  /** Before another run: the caller's bounds, its hook, and the pause. */
  private void again(List<ConflictCause> told, String reason, boolean atOnce) {
    if (!reason.isEmpty()) carried = core.carry();
    causes = told;
    why = reason;
    if (options.runsMax() > 0 && run >= options.runsMax()) throw conflict(run + " runs are spent");
    if (call.deadline.passed()) throw conflict("the time is up");
    if (options.onRerun() != null) options.onRerun().accept(new Rerun(run + 1, causes, why));
    // Who sleeps nine times is in nobody's way.
    if (runsSinceSleep + 1 == WARN_AT_RUN) {
      client.warn("transaction " + (options.label().isEmpty() ? "" : "\"" + options.label() + "\" ") + "is at its "
          + WARN_AT_RUN + "th run: " + blame() + ": make its body shorter, or commute what it only adds to");
    }
    if (atOnce || runsSinceSleep + 1 <= RUNS_AT_ONCE) return;
    int doublings = Math.min(runsSinceSleep - RUNS_AT_ONCE, 7);
    long most = Math.min(RERUN_MAX_NANOS, RERUN_MIN_NANOS * (2L << doublings));
    long pause = ThreadLocalRandom.current().nextLong(RERUN_MIN_NANOS, most + 1);
    client.sleep(Math.min(pause, call.deadline.left()), call);
    if (call.deadline.passed()) throw conflict("the time is up");
  }

  private String blame() {
    return why.isEmpty() ? "changed meanwhile: " + Errors.describe(causes) : why;
  }

  private StmException conflict(String spent) {
    StmException.Details details = new StmException.Details().code(io.grpc.Status.Code.ABORTED);
    details.causes = causes;
    if (!causes.isEmpty()) details.name = causes.get(0).name();
    return Errors.make(Reason.CONFLICT, "conflict: " + blame() + ", and " + spent
        + "; nothing was changed: allow more, or make the body shorter", details);
  }

  /** The caller's deadline: after conflicts, they are the reason. */
  private StmException timeIsUp(StmException deadline) {
    return runsSinceSleep > 1 ? conflict("the time is up") : deadline;
  }

  static void checkOutside(String what) {
    if (TxCore.current() != null) {
      throw Errors.inTransaction(what, "do it before or after, or by tx.onCommit; a body reads and writes by its tx");
    }
  }
}
