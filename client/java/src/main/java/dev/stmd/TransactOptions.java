package dev.stmd;

import java.time.Duration;
import java.util.Objects;
import java.util.function.Consumer;

/** How a transaction runs. Immutable: each method that sets something gives another. */
public final class TransactOptions {
  /** The defaults: no timeout, serializable, no limit of runs. */
  public static final TransactOptions DEFAULT = new TransactOptions();

  private Duration timeout;
  private Isolation isolation = Isolation.SERIALIZABLE;
  private String label = "";
  private String traceparent = "";
  private String once = "";
  private Duration onceTtl = Duration.ofHours(24);
  private int runsMax;
  private boolean staleOk;
  private boolean rerunCheck;
  private Consumer<Rerun> onRerun;
  private Consumer<Committed> onCommitted;

  /** The defaults. */
  public TransactOptions() {}

  private TransactOptions copy() {
    TransactOptions o = new TransactOptions();
    o.timeout = timeout;
    o.isolation = isolation;
    o.label = label;
    o.traceparent = traceparent;
    o.once = once;
    o.onceTtl = onceTtl;
    o.runsMax = runsMax;
    o.staleOk = staleOk;
    o.rerunCheck = rerunCheck;
    o.onRerun = onRerun;
    o.onCommitted = onCommitted;
    return o;
  }

  /**
   * Of the whole transaction, all runs together: then DeadlineException, ConflictException after conflicts, or
   * CommitUnknownException when a commit was sent and its outcome can't be found out within 1 s.
   *
   * @param timeout null: without an end
   * @return with it
   */
  public TransactOptions timeout(Duration timeout) {
    TransactOptions o = copy();
    o.timeout = timeout;
    return o;
  }

  /**
   * What of the reads is checked.
   *
   * @param isolation serializable unless it is set
   * @return with it
   */
  public TransactOptions isolation(Isolation isolation) {
    TransactOptions o = copy();
    o.isolation = Objects.requireNonNull(isolation);
    return o;
  }

  /**
   * Why: it comes back in the log, in watches and in conflict causes.
   *
   * @param label "": nothing
   * @return with it
   */
  public TransactOptions label(String label) {
    TransactOptions o = copy();
    o.label = Objects.requireNonNull(label);
    return o;
  }

  /**
   * W3C trace context.
   *
   * @param traceparent "": that of OpenTelemetry's current span, if its API is there
   * @return with it
   */
  public TransactOptions traceparent(String traceparent) {
    TransactOptions o = copy();
    o.traceparent = Objects.requireNonNull(traceparent);
    return o;
  }

  /**
   * A second transaction of this key, from any process, within the TTL, runs nothing and returns the first one's
   * version and result. Kept as the entry /.once/KEY, in the same commit.
   *
   * @param key "": none
   * @return with it
   */
  public TransactOptions once(String key) {
    TransactOptions o = copy();
    o.once = Objects.requireNonNull(key);
    return o;
  }

  /**
   * How long a key of {@link #once} is remembered.
   *
   * @param ttl 24 h unless it is set
   * @return with it
   */
  public TransactOptions onceTtl(Duration ttl) {
    TransactOptions o = copy();
    o.onceTtl = Objects.requireNonNull(ttl);
    return o;
  }

  /**
   * ConflictException after so many runs.
   *
   * @param runs 0: no limit
   * @return with it
   */
  public TransactOptions runsMax(int runs) {
    TransactOptions o = copy();
    o.runsMax = runs;
    return o;
  }

  /**
   * The first read may be of what the daemon has in memory; then even a transaction that only reads is committed, to
   * check that.
   *
   * @param staleOk false unless it is set
   * @return with it
   */
  public TransactOptions staleOk(boolean staleOk) {
    TransactOptions o = copy();
    o.staleOk = staleOk;
    return o;
  }

  /**
   * For tests: each body runs twice on one snapshot and must read and write the same, else RerunDiffersException.
   *
   * @param rerunCheck false unless it is set
   * @return with it
   */
  public TransactOptions rerunCheck(boolean rerunCheck) {
    TransactOptions o = copy();
    o.rerunCheck = rerunCheck;
    return o;
  }

  /**
   * Hears of each re-run before it begins.
   *
   * @param onRerun null: nobody
   * @return with it
   */
  public TransactOptions onRerun(Consumer<Rerun> onRerun) {
    TransactOptions o = copy();
    o.onRerun = onRerun;
    return o;
  }

  /**
   * Hears once, when it succeeded, what the transaction was; before {@link Tx#onCommit}.
   *
   * @param onCommitted null: nobody
   * @return with it
   */
  public TransactOptions onCommitted(Consumer<Committed> onCommitted) {
    TransactOptions o = copy();
    o.onCommitted = onCommitted;
    return o;
  }

  Duration timeout() {
    return timeout;
  }

  Isolation isolation() {
    return isolation;
  }

  String label() {
    return label;
  }

  String traceparent() {
    return traceparent;
  }

  String once() {
    return once;
  }

  Duration onceTtl() {
    return onceTtl;
  }

  int runsMax() {
    return runsMax;
  }

  boolean staleOk() {
    return staleOk;
  }

  boolean rerunCheck() {
    return rerunCheck;
  }

  Consumer<Rerun> onRerun() {
    return onRerun;
  }

  Consumer<Committed> onCommitted() {
    return onCommitted;
  }

  boolean sameAs(TransactOptions o) {
    return Objects.equals(timeout, o.timeout) && isolation == o.isolation && label.equals(o.label)
        && traceparent.equals(o.traceparent) && once.equals(o.once) && onceTtl.equals(o.onceTtl) && runsMax == o.runsMax
        && staleOk == o.staleOk && rerunCheck == o.rerunCheck && onRerun == o.onRerun && onCommitted == o.onCommitted;
  }
}
