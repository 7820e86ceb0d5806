package dev.stmd;

import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.NoSuchElementException;
import stmd.v1.LogServiceGrpc;
import stmd.v1.ReadLogRequest;
import stmd.v1.ReadLogResponse;
import stmd.v1.Value;

/**
 * Records in commit order, each once, from the oldest kept. It begins with the first {@link #next} or iteration; options are
 * set before. A lost connection is mended unseen; what ends is whole. {@link #close} ends it, from any thread; else one
 * thread.
 *
 * @param <T> what they are here
 */
public final class Records<T> implements Iterable<Recorded<T>>, AutoCloseable {
  /** A follower of the log is told nothing while nothing happens: after this much silence the daemon is asked. */
  private static final Duration SILENCE_MAX = Duration.ofSeconds(15);

  private final ClientCore core;
  private final List<String> tags;
  private final Map<String, Class<?>> types; // of those that are read as a class
  private long from;
  private long to;
  private boolean follow;
  private Duration timeout;

  private boolean begun;
  private Call call;
  private Outage outage;
  private long store;
  private boolean over;
  private long firstVersion;
  private Link link;
  private StreamCall<ReadLogRequest, ReadLogResponse> stream;
  private Wire.Gathered partial;
  private final ArrayDeque<Recorded<T>> ready = new ArrayDeque<>();
  private final Object closing = new Object();
  private volatile boolean closed;
  private StreamCall<?, ?> toWake; // guarded by closing

  Records(ClientCore core, List<String> tags, Map<String, Class<?>> types) {
    this.core = core;
    this.tags = tags;
    this.types = types;
  }

  /**
   * From this version on.
   *
   * @param version at it, not after; 0: the oldest kept. Less than is kept: SnapshotTooOldException
   * @return this
   */
  public Records<T> from(long version) {
    from = version;
    return this;
  }

  /**
   * Up to this version.
   *
   * @param version the last; 0: the newest
   * @return this
   */
  public Records<T> to(long version) {
    to = version;
    return this;
  }

  /**
   * After the newest, it goes on as commits come.
   *
   * @return this
   */
  public Records<T> follow() {
    follow = true;
    return this;
  }

  /**
   * Of the whole; then DeadlineException.
   *
   * @param most null: without an end
   * @return this
   */
  public Records<T> timeout(Duration most) {
    timeout = most;
    return this;
  }

  /** {@return the oldest version that the log keeps, known once something was read; 0 before} */
  public long firstVersion() {
    return firstVersion;
  }

  /**
   * The next record; waits for it if it follows.
   *
   * @return null: there are no more, or it was closed
   */
  public Recorded<T> next() {
    if (!begun) {
      Transaction.checkOutside("reading records");
      begun = true;
      call = Call.until(timeout);
      outage = new Outage(core.options().unavailableTimeout());
    }
    while (ready.isEmpty()) {
      if (over || closed) return null;
      if (core.closed()) throw Errors.closed();
      if (call.deadline.passed()) {
        throw Errors.make(Reason.DEADLINE, io.grpc.Status.Code.DEADLINE_EXCEEDED, "",
            "reading records took too long: allow more time");
      }
      if (call.cancelled()) throw Errors.cancelled();
      try {
        pull();
      } catch (StmException failed) {
        over = true;
        end();
        throw failed;
      }
    }
    return ready.remove();
  }

  @Override
  public Iterator<Recorded<T>> iterator() {
    return new Iterator<>() {
      private Recorded<T> next;

      @Override
      public boolean hasNext() {
        if (next == null) next = Records.this.next();
        return next != null;
      }

      @Override
      public Recorded<T> next() {
        if (!hasNext()) throw new NoSuchElementException("there are no more records");
        Recorded<T> record = next;
        next = null;
        return record;
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

  private void pull() {
    if (stream == null) {
      open();
      return;
    }
    switch (stream.take(call, SILENCE_MAX.toNanos())) {
      case MESSAGE -> {
        outage.end();
        take(stream.message());
      }
      case WOKEN -> {
        if (closed) end();
      }
      case TIMEOUT -> {
        if (!call.deadline.passed() && !link.probe(core)) {
          link.breakUp(Errors.unavailable(link.address + " does not answer"));
          end();
        }
      }
      case ENDED -> afterEnd();
    }
  }

  private void open() {
    if (to != 0 && from > to) {
      over = true;
      return;
    }
    link = core.transport().get(Deadline.earlier(call.deadline, outage.until()), call);
    ReadLogRequest request = ReadLogRequest.newBuilder().setFromVersion(from).setToVersion(to).addAllTags(tags)
        .setFollow(follow).setRecordsOnly(true)
        .setSeen(store == 0 ? core.position().seen() : core.position().seenOf(store)).build();
    partial = null;
    StreamCall<ReadLogRequest, ReadLogResponse> opened = new StreamCall<>(link.channel, LogServiceGrpc.getReadLogMethod());
    opened.start(request);
    stream = opened;
    synchronized (closing) {
      toWake = opened;
      if (closed) opened.wake();
    }
  }

  private void take(ReadLogResponse event) {
    if (event.hasOpened()) {
      core.position().observe(event.getOpened().getHeader());
      firstVersion = event.getOpened().getFirstVersion();
      if (store != 0 && event.getOpened().getHeader().getStore() != store) throw Errors.storeChanged();
      store = event.getOpened().getHeader().getStore();
      return;
    }
    if (!event.hasCommit()) return;
    if (partial == null) partial = new Wire.Gathered();
    if (!partial.add(event.getCommit(), core.names(), core.mapper(), false)) return;
    from = partial.version() + 1;
    core.position().observe(store, partial.version());
    Commit commit = partial.commit();
    for (Value record : partial.rawRecords()) {
      if (!selected(record)) continue;
      Class<?> type = record.hasTagged() ? types.getOrDefault(record.getTagged().getTag(), Object.class) : Object.class;
      @SuppressWarnings("unchecked")
      T value = (T) Wire.decode(core.mapper(), record, type, "a record of version " + commit.version());
      ready.add(new Recorded<>(commit.version(), commit.at(), commit.transactionId(), commit.by(), value));
    }
    UnknownFields.take();
    partial = null;
  }

  private void end() {
    synchronized (closing) {
      toWake = null;
    }
    if (stream != null) stream.cancel();
    stream = null;
  }

  private void afterEnd() {
    StreamCall<ReadLogRequest, ReadLogResponse> ended = stream;
    end();
    if (core.closed()) throw Errors.closed();
    if (ended.status().isOk() && !follow) {
      over = true;
      return;
    }
    StmException failure = ended.status().isOk() ? Errors.unavailable("the daemon ended the log")
        : Errors.fromGrpc(ended.status(), ended.trailers(), core.names());
    boolean slow = failure.wireReason() == stmd.v1.ErrorReason.ERROR_REASON_SLOW_READER;
    if (!slow && !failure.isTransient()) {
      // The link's end, by gRPC's own word, is no verdict.
      if (link.alive() || failure.wireReason() != stmd.v1.ErrorReason.ERROR_REASON_UNSPECIFIED) throw failure;
      failure = Errors.unavailable(failure.getMessage());
    }
    outage.fail(failure);
    if (outage.over()) throw failure;
    core.sleep(Math.min(outage.pause(), call.deadline.left()), call);
  }

  /** A commit has all its records, also those that were not asked for. */
  private boolean selected(Value record) {
    if (tags.isEmpty()) return true;
    if (!record.hasTagged()) return false;
    String tag = record.getTagged().getTag();
    for (String asked : tags) {
      if (asked.equals(tag)) return true;
      if (asked.endsWith(".*") && tag.startsWith(asked.substring(0, asked.length() - 1))) return true;
    }
    return false;
  }
}
