package dev.stmd;

import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;
import stmd.v1.AdminServiceGrpc;
import stmd.v1.GetStatusRequest;
import stmd.v1.GetStatusResponse;

/** The connection to one daemon out of several: one Link is in use until it breaks. Any thread. */
final class Transport {
  private static final long BACKOFF_MIN_NANOS = 10_000_000;
  private static final long BACKOFF_MAX_NANOS = 1_000_000_000;
  private static final Duration CONNECT_ATTEMPT_MAX = Duration.ofSeconds(3);
  /** An answer is at most what one transaction may read: the daemon bounds it, and tells its own limits by name. */
  private static final int RECEIVE_BYTES_MAX = 256 << 20;

  /** gRPC tells at INFO, once a process, that it found epoll: of no use to anybody. Held, since levels go with loggers. */
  private static final java.util.logging.Logger QUIET =
      java.util.logging.Logger.getLogger("io.grpc.netty.shaded.io.grpc.netty.TcpMetrics");

  /** Netty warns that a Unix socket knows no SO_KEEPALIVE, which gRPC sets on all. */
  private static final java.util.logging.Logger QUIET_OPTIONS =
      java.util.logging.Logger.getLogger("io.grpc.netty.shaded.io.netty.bootstrap.AbstractBootstrap");

  static {
    if (QUIET.getLevel() == null) QUIET.setLevel(java.util.logging.Level.WARNING);
  }

  private final List<String> addresses;
  private final Position position;
  private final ClientCore core;
  private final ReentrantLock lock = new ReentrantLock();
  private final Condition changed = lock.newCondition();
  private volatile Link link;
  private boolean connecting;
  private boolean closed;
  private volatile int pinned;
  private StmException lastError;

  Transport(ClientCore core, List<String> addresses, Position position) {
    this.core = core;
    this.addresses = addresses;
    this.position = position;
  }

  String address() {
    return addresses.get(pinned);
  }

  /** Breaks `left`, if there is another daemon to go to: {@link #get} tries that one first. */
  void leave(Link left, StmException cause) {
    if (addresses.size() == 1) return;
    lock.lock();
    try {
      if (link == left) pinned = (pinned + 1) % addresses.size();
    } finally {
      lock.unlock();
    }
    left.breakUp(cause);
  }

  /** A link that works, connecting if need be; waits for a daemon that is ready. Unavailable at the deadline. */
  Link get(Deadline deadline, Call call) {
    Link now = link;
    if (now != null && now.alive()) return now;
    lock.lock();
    try {
      for (;;) {
        if (closed || core.closed()) throw Errors.closed();
        if (link != null && link.alive()) return link;
        if (!connecting) break;
        if (deadline.passed()) {
          throw lastError != null ? lastError : Errors.unavailable("connecting took too long: is stmd running?");
        }
        if (call.cancelled()) throw Errors.cancelled();
        try {
          changed.awaitNanos(Math.min(deadline.left(), BACKOFF_MAX_NANOS));
        } catch (InterruptedException interrupted) {
          call.caught();
        }
      }
      connecting = true;
      link = null;
    } finally {
      lock.unlock();
    }
    Link made = null;
    StmException failed = null;
    try {
      made = connect(deadline, call);
    } catch (StmException failure) {
      failed = failure;
      throw failure;
    } finally {
      lock.lock();
      try {
        connecting = false;
        if (made != null) link = made;
        if (failed != null && failed.reason() == Reason.UNAVAILABLE) lastError = failed;
        changed.signalAll();
        if (made != null && closed) made.breakUp(Errors.closed());
      } finally {
        lock.unlock();
      }
    }
    return made;
  }

  private Link connect(Deadline deadline, Call call) {
    long backoff = BACKOFF_MIN_NANOS;
    int first = pinned;
    long began = System.nanoTime();
    String last = "no time left to connect";
    for (;;) {
      for (int i = 0; i < addresses.size(); ++i) {
        if (call.cancelled()) throw Errors.cancelled();
        if (core.closed()) throw Errors.closed();
        int at = (first + i) % addresses.size();
        try {
          Link made = attempt(addresses.get(at), deadline, call);
          pinned = at;
          return made;
        } catch (StmException failure) {
          if (failure.reason() == Reason.CANCELLED) throw failure;
          last = failure.getMessage();
        }
        if (deadline.passed()) break;
      }
      long pause = ThreadLocalRandom.current().nextLong(backoff / 2, backoff + 1);
      if (deadline.passed() || pause >= deadline.left()) {
        String all = String.join(",", addresses);
        StmException.Details details = new StmException.Details().code(io.grpc.Status.Code.UNAVAILABLE).name(all);
        details.found = last;
        throw Errors.make(Reason.UNAVAILABLE, "no stmd at " + all + " for "
            + Errors.shown(Duration.ofMillis((System.nanoTime() - began) / 1_000_000)) + ": " + last
            + ": start stmd there, or set STM_ADDRESS to where it runs", details);
      }
      core.sleep(pause, call);
      backoff = Math.min(backoff * 2, BACKOFF_MAX_NANOS);
    }
  }

  private Link attempt(String address, Deadline deadline, Call call) {
    if (address.startsWith("unix:") && QUIET_OPTIONS.getLevel() == null) QUIET_OPTIONS.setLevel(java.util.logging.Level.SEVERE);
    String target = address.startsWith("unix:") ? "unix://" + address.substring(5).replaceFirst("^//", "") : "dns:///" + address;
    ManagedChannel channel = Grpc.newChannelBuilder(target, InsecureChannelCredentials.create())
        .directExecutor().disableRetry().disableServiceConfigLookUp().proxyDetector(there -> null)
        .maxInboundMessageSize(RECEIVE_BYTES_MAX).build();
    boolean kept = false;
    try {
      Deadline most = Deadline.earlier(deadline, Deadline.in(CONNECT_ATTEMPT_MAX));
      UnaryCall<GetStatusResponse> status = UnaryCall.start(channel, AdminServiceGrpc.getGetStatusMethod(),
          GetStatusRequest.getDefaultInstance(), most);
      while (!status.await(call, Math.min(most.left() + 1_000_000, TimeUnit.MILLISECONDS.toNanos(200)))) {
        if (call.cancelled()) {
          status.cancel();
          throw Errors.cancelled();
        }
        if (core.closed()) {
          status.cancel();
          throw Errors.closed();
        }
      }
      if (!status.status().isOk()) {
        StmException failure = Errors.fromGrpc(status.status(), status.trailers(), core.names());
        throw Errors.unavailable(address + ": " + failure.getMessage());
      }
      GetStatusResponse response = status.response();
      if (!response.getReady()) throw Errors.unavailable(address + " is not ready: " + response.getNotReadyBecause());
      position.adopt(response.getHeader());
      Link made = new Link(address, channel, position);
      kept = true;
      return made;
    } finally {
      if (!kept) channel.shutdownNow();
    }
  }

  void close() {
    Link last;
    lock.lock();
    try {
      closed = true;
      last = link;
      changed.signalAll();
    } finally {
      lock.unlock();
    }
    if (last != null) last.close();
  }
}
