package dev.stmd;

import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.function.LongConsumer;
import stmd.v1.Selector;
import stmd.v1.WatchRequest;
import stmd.v1.WatchResponse;
import stmd.v1.WatchServiceGrpc;

/**
 * Commits that change what was selected, in order, each once. It begins with the first {@link #next} or iteration; options
 * are set before. Reconnects are unseen; what was lost for good is mended by a commit marked initial. {@link #close} ends
 * it, from any thread; else one thread.
 */
public final class Watch implements Iterable<Commit>, AutoCloseable {
  private static final Duration SILENCE_BEYOND = Duration.ofSeconds(5);

  private final ClientCore core;
  private final Selector selector;
  private boolean initial;
  private long after;
  private boolean conflate;
  private Duration progressEvery = Duration.ofSeconds(10);
  private Duration timeout;
  private LongConsumer onSynced;
  private LongConsumer onProgress;

  private boolean begun;
  private Call call;
  private Outage outage;
  private boolean synced;
  private long store;
  private Link link;
  private StreamCall<WatchRequest, WatchResponse> stream;
  private List<Change> state = new java.util.ArrayList<>(); // with initial, until it is whole
  private Wire.Gathered partial; // a commit of several messages
  private final ArrayDeque<Commit> ready = new ArrayDeque<>();
  private final Object closing = new Object();
  private volatile boolean closed;
  private StreamCall<?, ?> toWake; // guarded by closing

  Watch(ClientCore core, Selector selector) {
    this.core = core;
    this.selector = selector;
  }

  /**
   * First all as it is, as one commit marked initial; then each commit after it.
   *
   * @return this
   */
  public Watch initial() {
    initial = true;
    return this;
  }

  /**
   * Commits after this version.
   *
   * @param version 0: from now. Not with {@link #initial}
   * @return this
   */
  public Watch after(long version) {
    after = version;
    return this;
  }

  /**
   * For a slow reader: commits not yet sent are merged.
   *
   * @return this
   */
  public Watch conflate() {
    conflate = true;
    return this;
  }

  /**
   * How often the daemon says that nothing happened.
   *
   * @param every at least 100 ms; 10 s unless it is set. One that is silent for three times so long and 5 s is given up
   * @return this
   */
  public Watch progressEvery(Duration every) {
    progressEvery = every;
    return this;
  }

  /**
   * Of the whole watch; then DeadlineException.
   *
   * @param most null: without an end
   * @return this
   */
  public Watch timeout(Duration most) {
    timeout = most;
    return this;
  }

  /**
   * Called once the watch is set: every commit after the version will be told.
   *
   * @param f on the reading thread
   * @return this
   */
  public Watch onSynced(LongConsumer f) {
    onSynced = f;
    return this;
  }

  /**
   * Called while nothing selected changes: the version to resume after.
   *
   * @param f on the reading thread
   * @return this
   */
  public Watch onProgress(LongConsumer f) {
    onProgress = f;
    return this;
  }

  /**
   * The next commit; waits for it.
   *
   * @return null: it was closed
   * @throws DeadlineException if its time is up
   * @throws CancelledException if the thread was interrupted, or the client closed
   */
  public Commit next() {
    begin();
    while (ready.isEmpty()) {
      if (closed) return null;
      if (core.closed()) throw Errors.closed();
      if (call.deadline.passed()) throw Errors.watchOver();
      if (call.cancelled()) throw Errors.cancelled();
      pull();
    }
    return ready.remove();
  }

  /** The commits from now on, until it is closed. */
  @Override
  public Iterator<Commit> iterator() {
    return new Iterator<>() {
      private Commit next;

      @Override
      public boolean hasNext() {
        if (next == null) next = Watch.this.next();
        return next != null;
      }

      @Override
      public Commit next() {
        if (!hasNext()) throw new NoSuchElementException("the watch is closed");
        Commit commit = next;
        next = null;
        return commit;
      }
    };
  }

  @Override
  public void close() {
    synchronized (closing) {
      closed = true;
      if (toWake != null) toWake.wake();
    }
  }

  private void begin() {
    if (begun) return;
    Transaction.checkOutside("a watch");
    if (initial && after != 0) {
      throw Errors.badValue("after", "a watch begins with the present state or after a version, not both: leave out one");
    }
    begun = true;
    call = Call.until(timeout);
    outage = new Outage(core.options().unavailableTimeout());
    store = core.position().get().store();
  }

  private void pull() {
    if (stream == null) {
      open();
      return;
    }
    Deadline silence = Deadline.in(progressEvery.multipliedBy(3).plus(SILENCE_BEYOND));
    switch (stream.take(call, silence.left())) {
      case MESSAGE -> {
        outage.end();
        take(stream.message());
      }
      case WOKEN -> {
        if (closed) end();
      }
      case TIMEOUT -> {
        if (call.deadline.passed()) return;
        StmException silent = Errors.unavailable(link.address + " sent no progress mark in time");
        link.breakUp(silent);
        end();
        outage.fail(silent);
        pause();
      }
      case ENDED -> afterEnd();
    }
  }

  private void open() {
    Link on;
    try {
      on = core.transport().get(Deadline.earlier(call.deadline, outage.until()), call);
    } catch (UnavailableException failed) {
      if (call.deadline.passed()) throw Errors.watchOver();
      throw failed;
    }
    link = on;
    // Versions of another store mean nothing; and without any, what came meanwhile is only in the present state.
    long now = core.position().get().store();
    if (now != store || (synced && after == 0)) initial = true;
    store = now;
    WatchRequest.Builder request = WatchRequest.newBuilder().setSelector(selector).setConflate(conflate)
        .setProgressEvery(Wire.duration(progressEvery)).setSeen(core.position().seen());
    if (initial) {
      request.setInitial(true);
    } else {
      request.setAfterVersion(after);
    }
    state = new java.util.ArrayList<>();
    partial = null;
    StreamCall<WatchRequest, WatchResponse> opened = new StreamCall<>(link.channel, WatchServiceGrpc.getWatchMethod());
    opened.start(request.build());
    stream = opened;
    synchronized (closing) {
      toWake = opened;
      if (closed) opened.wake();
    }
  }

  private void take(WatchResponse event) {
    switch (event.getEventCase()) {
      case OPENED -> core.position().observe(event.getOpened());
      case INITIAL -> {
        Wire.Found found = Wire.entry(event.getInitial(), core.names());
        state.add(new Change(found.name(), ChangeKind.SET, Stm.ABSENT,
            found.value() == null ? Stm.ABSENT : Wire.decode(core.mapper(), found.value(), Object.class, found.name()), false,
            found.isAtom()));
      }
      case SYNCED -> {
        after = event.getSynced();
        core.position().observe(store, after);
        if (!synced && onSynced != null) onSynced.accept(after);
        synced = true;
        if (initial) {
          initial = false;
          ready.add(new Commit(after, java.time.Instant.EPOCH, "", new Meta("", "", "", ""), List.copyOf(state), List.of(), true));
          state = new java.util.ArrayList<>();
        }
      }
      case COMMIT -> {
        if (partial == null) partial = new Wire.Gathered();
        if (!partial.add(event.getCommit(), core.names(), core.mapper(), true)) return;
        after = partial.version();
        core.position().observe(store, after);
        ready.add(partial.commit());
        partial = null;
      }
      case PROGRESS -> {
        after = event.getProgress();
        core.position().observe(store, after);
        if (onProgress != null) onProgress.accept(after);
      }
      case GAP -> {
        if (event.getGap().getStore() != 0) {
          core.position().adopt(stmd.v1.Header.newBuilder().setStore(event.getGap().getStore())
              .setInstalledVersion(event.getGap().getResumeVersion()).build());
        }
        initial = true;
        end();
      }
      case EVENT_NOT_SET -> {} // of a newer daemon, and not asked for
    }
    UnknownFields.take();
  }

  private void end() {
    synchronized (closing) {
      toWake = null;
    }
    if (stream != null) stream.cancel();
    stream = null;
  }

  private void pause() {
    core.sleep(Math.min(outage.pause(), call.deadline.left()), call);
  }

  private void afterEnd() {
    StreamCall<WatchRequest, WatchResponse> ended = stream;
    end();
    if (core.closed()) throw Errors.closed();
    StmException failure;
    if (ended.status().isOk()) {
      failure = Errors.unavailable("the daemon ended the watch");
    } else {
      failure = Errors.fromGrpc(ended.status(), ended.trailers(), core.names());
      if (failure.reason() == Reason.STORE_CHANGED) {
        if (failure.header() != null) core.position().adopt(failure.header());
        initial = true;
      } else if (failure.reason() == Reason.SNAPSHOT_TOO_OLD) {
        initial = true;
      } else if (failure.wireReason() != stmd.v1.ErrorReason.ERROR_REASON_SLOW_READER && !failure.isTransient()) {
        // The link's end, by gRPC's own word, is no verdict.
        if (link.alive() || failure.wireReason() != stmd.v1.ErrorReason.ERROR_REASON_UNSPECIFIED) throw failure;
        failure = Errors.unavailable(failure.getMessage());
      }
    }
    outage.fail(failure);
    if (outage.over()) throw failure;
    pause();
  }
}
