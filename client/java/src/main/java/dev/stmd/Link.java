package dev.stmd;

import io.grpc.CallOptions;
import io.grpc.ClientCall;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import java.util.function.Consumer;
import stmd.v1.AdminServiceGrpc;
import stmd.v1.GetStatusRequest;
import stmd.v1.Header;
import stmd.v1.PipelineAnswer;
import stmd.v1.PipelineCall;
import stmd.v1.PipelineRequest;
import stmd.v1.PipelineResponse;
import stmd.v1.TransactionServiceGrpc;

/**
 * One connection, from its making to its break: a channel, and on it the Pipeline stream that carries gets, lists,
 * commits and awaits. What is ready goes into the next message. Any thread. A Link that broke never works again; a call
 * is told whether it may have been sent, for on that hangs what its caller may do.
 */
final class Link {
  enum End { ANSWERED, BROKEN, TIMEOUT, CANCELLED }

  /** How a call ended; sent: it may have reached the daemon. */
  record Result(End end, boolean sent, PipelineAnswer answer, StmException cause) {}

  private static final Duration PROBE_AFTER = Duration.ofSeconds(5);
  private static final Duration PROBE_TIMEOUT = Duration.ofSeconds(5);
  /** The daemon refuses more calls in a message. */
  private static final int MESSAGE_CALLS_MAX = 1024;
  /** Calls are gathered up to this; one that is larger goes alone. */
  private static final int MESSAGE_BYTES_MAX = 1 << 20;

  final String address;
  final ManagedChannel channel;
  private final Position position;
  private final ClientCall<PipelineRequest, PipelineResponse> stream;
  private volatile long heard = System.nanoTime();
  private volatile boolean dead;

  // Guarded by this.
  private long nextCall = 1;
  private final ArrayDeque<Pending> queue = new ArrayDeque<>();
  private final Map<Long, Pending> sent = new HashMap<>();
  private boolean writing;
  private StmException cause;
  private final List<Runnable> onBreak = new ArrayList<>();

  private static final class Pending {
    final Thread waiter = Thread.currentThread();
    PipelineCall call;
    long number;
    boolean commit;
    volatile Result result;

    void end(Result r) {
      result = r;
      LockSupport.unpark(waiter);
    }
  }

  Link(String address, ManagedChannel channel, Position position) {
    this.address = address;
    this.channel = channel;
    this.position = position;
    this.stream = channel.newCall(TransactionServiceGrpc.getPipelineMethod(), CallOptions.DEFAULT);
    stream.start(new Listener(), new Metadata());
    stream.request(1);
  }

  boolean alive() {
    return !dead;
  }

  /** The daemon answered something beside the stream: it need not be asked for a while. */
  void heard() {
    heard = System.nanoTime();
  }

  /** Calls under way end as broken. */
  void breakUp(StmException why) {
    die(why);
    stream.cancel(why.getMessage(), null);
    channel.shutdownNow();
  }

  /** Called once, on any thread, when it is broken; at once if it is already. Not to block. */
  void onBreak(Runnable f) {
    synchronized (this) {
      if (!dead) {
        onBreak.add(f);
        return;
      }
    }
    f.run();
  }

  synchronized void offBreak(Runnable f) {
    onBreak.remove(f);
  }

  /** False after {@link #PROBE_TIMEOUT} without an answer. */
  boolean probe(ClientCore core) {
    // One asks for all who wait.
    if (System.nanoTime() - heard < PROBE_AFTER.toNanos()) return true;
    heard();
    Call call = Call.uninterruptible(Deadline.in(PROBE_TIMEOUT));
    try {
      UnaryCall<?> status = UnaryCall.start(channel, AdminServiceGrpc.getGetStatusMethod(), GetStatusRequest.getDefaultInstance(),
          call.deadline);
      while (!status.await(call, PROBE_TIMEOUT.toNanos())) {
        if (dead || core.closed()) {
          status.cancel();
          return true;
        }
        if (call.deadline.passed()) break;
      }
      status.cancel();
      return status.done() && status.status().isOk();
    } finally {
      call.end();
    }
  }

  Result call(ClientCore core, Consumer<PipelineCall.Builder> fill, Call bounds) {
    PipelineCall.Builder builder = PipelineCall.newBuilder();
    fill.accept(builder);
    Pending pending = new Pending();
    pending.commit = builder.getRequestCase() == PipelineCall.RequestCase.COMMIT;
    if (!send(pending, builder)) return new Result(End.BROKEN, false, null, Errors.unavailable("the connection is lost"));
    Deadline probe = Deadline.in(PROBE_AFTER);
    for (;;) {
      if (pending.result != null) return pending.result;
      boolean cancelled = bounds.cancelled();
      if (cancelled || bounds.deadline.passed()) {
        boolean wasSent = giveUp(pending);
        if (pending.result != null) return pending.result; // it came after all
        return new Result(cancelled ? End.CANCELLED : End.TIMEOUT, wasSent, null, null);
      }
      if (probe.passed()) {
        if (!probe(core)) {
          breakUp(Errors.unavailable(address + " did not answer for " + Errors.shown(PROBE_AFTER.plus(PROBE_TIMEOUT))));
        }
        probe = Deadline.in(PROBE_AFTER);
        continue;
      }
      LockSupport.parkNanos(pending, Math.min(bounds.deadline.left(), probe.left()));
    }
  }

  private boolean send(Pending pending, PipelineCall.Builder builder) {
    synchronized (this) {
      if (dead) return false;
      pending.number = nextCall++;
    }
    pending.call = builder.setCall(pending.number).build();
    synchronized (this) {
      if (dead) return false;
      queue.add(pending);
      if (writing || !stream.isReady() && !sent.isEmpty()) return true;
      writing = true;
    }
    write();
    return true;
  }

  /** Whoever has set `writing` writes until nothing is ready. */
  private void write() {
    for (;;) {
      PipelineRequest.Builder request = PipelineRequest.newBuilder();
      synchronized (this) {
        int bytes = 0;
        while (!dead && !queue.isEmpty() && request.getCallsCount() < MESSAGE_CALLS_MAX) {
          Pending pending = queue.peek();
          int size = pending.call.getSerializedSize();
          if (request.getCallsCount() > 0 && bytes + size > MESSAGE_BYTES_MAX) break;
          bytes += size;
          queue.remove();
          request.addCalls(pending.call);
          if (pending.call.getRequestCase() != PipelineCall.RequestCase.CANCEL) sent.put(pending.number, pending);
          pending.call = null;
        }
        if (request.getCallsCount() == 0) {
          writing = false;
          return;
        }
      }
      try {
        stream.sendMessage(request.build());
      } catch (RuntimeException broken) {
        breakUp(Errors.unavailable("the connection is lost: " + broken.getMessage()));
      }
      synchronized (this) {
        if (!stream.isReady() && !dead) { // onReady goes on
          writing = false;
          if (!stream.isReady()) return;
          writing = true;
        }
      }
    }
  }

  /** The caller waits no longer. False: it was never sent, and never will be. */
  private boolean giveUp(Pending pending) {
    synchronized (this) {
      if (queue.remove(pending)) return false;
      if (sent.remove(pending.number) == null) return true;
    }
    if (!pending.commit) {
      Pending cancel = new Pending();
      send(cancel, PipelineCall.newBuilder().setCancel(pending.number));
    }
    return true;
  }

  private void die(StmException why) {
    List<Pending> unsent;
    List<Pending> broken;
    List<Runnable> callbacks;
    synchronized (this) {
      if (dead) return;
      dead = true;
      cause = why;
      unsent = new ArrayList<>(queue);
      broken = new ArrayList<>(sent.values());
      callbacks = new ArrayList<>(onBreak);
      queue.clear();
      sent.clear();
      onBreak.clear();
    }
    for (Pending pending : unsent) pending.end(new Result(End.BROKEN, false, null, cause));
    for (Pending pending : broken) pending.end(new Result(End.BROKEN, true, null, cause));
    callbacks.forEach(Runnable::run);
  }

  private final class Listener extends ClientCall.Listener<PipelineResponse> {
    @Override
    public void onMessage(PipelineResponse response) {
      heard();
      for (PipelineAnswer answer : response.getAnswersList()) {
        Header header = headerOf(answer);
        if (header != null) position.observe(header);
        Pending pending;
        synchronized (Link.this) {
          pending = sent.remove(answer.getCall());
        }
        if (pending != null) pending.end(new Result(End.ANSWERED, true, answer, null));
      }
      stream.request(1);
    }

    @Override
    public void onReady() {
      synchronized (Link.this) {
        if (writing || queue.isEmpty()) return;
        writing = true;
      }
      write();
    }

    @Override
    public void onClose(Status status, Metadata trailers) {
      String why = status.isOk() ? "the daemon ended the stream"
          : status.getDescription() == null ? status.getCode().toString() : status.getDescription();
      if (status.getCause() != null && status.getCause().getMessage() != null) why += ": " + status.getCause().getMessage();
      die(Errors.unavailable(why));
      channel.shutdownNow();
    }
  }

  private static Header headerOf(PipelineAnswer answer) {
    if (answer.hasError() && answer.getError().hasHeader()) return answer.getError().getHeader();
    return switch (answer.getResponseCase()) {
      case GET -> answer.getGet().getHeader();
      case LIST -> answer.getList().getHeader();
      case COMMIT -> answer.getCommit().getHeader();
      case AWAIT -> answer.getAwait().getHeader();
      case RESPONSE_NOT_SET -> null;
    };
  }

  /** For channels that end with their link. */
  void close() {
    breakUp(Errors.closed());
    try {
      channel.awaitTermination(1, TimeUnit.SECONDS);
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
    }
  }
}
