package dev.stmd;

import java.net.InetAddress;
import java.net.UnknownHostException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.Iterator;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;
import stmd.v1.CloseSessionRequest;
import stmd.v1.CloseSessionResponse;
import stmd.v1.Fence;
import stmd.v1.KeepAliveRequest;
import stmd.v1.KeepAliveResponse;
import stmd.v1.OpenSessionRequest;
import stmd.v1.OpenSessionResponse;
import stmd.v1.SessionServiceGrpc;

/**
 * What a client holds locks and ephemeral entries by: one lease at a time, opened when it is first needed and kept by
 * beats on a stream of its own; then it is over for good, with every grant of it, and the next need opens another. Any
 * thread; one of its own beats.
 */
final class SessionKeeper {
  private static final Duration CLOSE_MAX = Duration.ofSeconds(1);
  /** Of closing, in the background, a session that this client believes in no more. */
  private static final Duration CLOSE_DROPPED_MAX = Duration.ofSeconds(10);
  private static final int BEATS_IN_TTL = 3;
  /** A beat that is not answered for so long, or for the time between beats if that is longer, broke its connection. */
  private static final long ANSWER_MIN_NANOS = 1_000_000_000;
  /** Streams in a row that ended by the daemon's own word before another daemon is tried. */
  private static final int REFUSALS_MAX = 2;
  private static final int LOST_EARLY_MAX = 1024;
  private static final int CLIENT_BYTES_MAX = 256; // the daemon's bound

  private record Token(String lock, long token) {}

  private final ClientCore core;
  private final ReentrantLock lock = new ReentrantLock();
  private final Condition changed = lock.newCondition();
  private boolean opening;
  private volatile boolean closed;
  private Lease lease;
  private final Map<Token, List<Grant>> grants = new HashMap<>();
  /** Losses that were told before the grant was known here: its answer may still be on its way. */
  private final LinkedHashSet<Token> lostEarly = new LinkedHashSet<>();
  private Thread thread;
  private volatile StreamCall<KeepAliveRequest, KeepAliveResponse> beats;

  SessionKeeper(ClientCore core) {
    this.core = core;
  }

  /** A lease that is believed in, opened if there is none. */
  Lease get(Call call) {
    for (;;) {
      Lease dead = null;
      lock.lock();
      try {
        if (closed) throw Errors.closed();
        if (!opening) {
          if (lease == null) {
            opening = true;
            break;
          }
          if (!lease.over()) return lease;
          dead = lease;
        } else {
          changed.await(Math.min(call.deadline.left(), Lease.SLEEP_MAX_NANOS), TimeUnit.NANOSECONDS);
        }
      } catch (InterruptedException interrupted) {
        call.caught();
      } finally {
        lock.unlock();
      }
      if (call.cancelled()) throw Errors.cancelled();
      if (call.deadline.passed()) throw Errors.deadline(null);
      if (dead != null) drop(dead, false);
    }
    Lease opened = null;
    try {
      opened = open(call);
      return opened;
    } finally {
      lock.lock();
      try {
        opening = false;
        changed.signalAll();
        if (opened != null) {
          lease = opened;
          if (thread == null && !closed) {
            thread = new Thread(this::keep, "stmd-session");
            thread.setDaemon(true);
            thread.start();
          }
        }
      } finally {
        lock.unlock();
      }
    }
  }

  private Lease open(Call call) {
    String[] id = {""};
    long[] sent = {0};
    OpenSessionResponse response = core.once(SessionServiceGrpc.getOpenSessionMethod(), commit -> {
      OpenSessionRequest.Builder request = OpenSessionRequest.newBuilder().setId(commit).setClient(clientText());
      if (!core.options().sessionTtl().isZero()) request.setTtl(Wire.duration(core.options().sessionTtl()));
      // Its lease began no earlier than the first send of its id.
      if (!id[0].equals(commit.getTransactionId())) {
        id[0] = commit.getTransactionId();
        sent[0] = Lease.bootTime();
      }
      return request.build();
    }, OpenSessionResponse::getHeader, new ClientCore.OnceId(), call, core.options().unavailableTimeout(), null);
    return new Lease(response.getSessionId(), Wire.duration(response.getTtl()).toNanos(), sent[0]);
  }

  private String clientText() {
    String host;
    try {
      host = InetAddress.getLocalHost().getHostName();
    } catch (UnknownHostException unknown) {
      host = "localhost";
    }
    String text = host + "/" + core.clientName() + "/" + ProcessHandle.current().pid();
    while (text.getBytes(StandardCharsets.UTF_8).length > CLIENT_BYTES_MAX) text = text.substring(0, text.length() - 1);
    return text;
  }

  /** It is over, with all that it had. `known`: the daemon said so; else it is closed there too, in the background. */
  void drop(Lease over, boolean known) {
    over.end();
    List<Grant> lost = new ArrayList<>();
    boolean tell = !known;
    lock.lock();
    try {
      for (Iterator<List<Grant>> all = grants.values().iterator(); all.hasNext(); ) {
        List<Grant> same = all.next();
        same.removeIf(grant -> grant.lease() == over && lost.add(grant));
        if (same.isEmpty()) all.remove();
      }
      if (lease == over) {
        lease = null;
      } else {
        tell = false; // whoever dropped it first saw to that
      }
    } finally {
      lock.unlock();
    }
    lost.forEach(this::tell);
    if (!tell) return;
    core.inBackground(() -> {
      try {
        closeAtDaemon(over.id(), Call.until(CLOSE_DROPPED_MAX));
      } catch (StmException dropped) {
        // Its TTL ends it there.
      }
    });
  }

  private void tell(Grant grant) {
    if (grant.lose()) core.inBackground(() -> grant.lostFuture().complete(null));
  }

  /** From now on the session may lose it, or has already. */
  void add(Grant grant) {
    Token token = new Token(grant.lock(), grant.token());
    lock.lock();
    try {
      // Its lease may have been dropped meanwhile.
      if (!lostEarly.contains(token) && lease == grant.lease()) {
        grants.computeIfAbsent(token, any -> new ArrayList<>()).add(grant);
        return;
      }
    } finally {
      lock.unlock();
    }
    tell(grant);
  }

  void remove(Grant grant) {
    Token token = new Token(grant.lock(), grant.token());
    lock.lock();
    try {
      List<Grant> same = grants.get(token);
      if (same == null) return;
      same.remove(grant);
      if (same.isEmpty()) grants.remove(token);
    } finally {
      lock.unlock();
    }
  }

  /** After a condition: the grant has another token now, for all who have a hold of it. */
  void retoken(String name, long from, long to) {
    List<Grant> moved;
    lock.lock();
    try {
      moved = grants.remove(new Token(name, from));
    } finally {
      lock.unlock();
    }
    if (moved == null) return;
    for (Grant grant : moved) {
      grant.setToken(to);
      add(grant);
    }
  }

  /** Every grant of this lock and token that is here. */
  void lose(String name, long value) {
    Token token = new Token(name, value);
    List<Grant> lost;
    lock.lock();
    try {
      lost = grants.remove(token);
      if (lost == null && lostEarly.add(token) && lostEarly.size() > LOST_EARLY_MAX) {
        Iterator<Token> oldest = lostEarly.iterator();
        oldest.next();
        oldest.remove();
      }
    } finally {
      lock.unlock();
    }
    if (lost != null) lost.forEach(this::tell);
  }

  private void closeAtDaemon(String id, Call call) {
    try {
      core.once(SessionServiceGrpc.getCloseSessionMethod(),
          commit -> CloseSessionRequest.newBuilder().setId(commit).setSessionId(id).build(), CloseSessionResponse::getHeader,
          new ClientCore.OnceId(), call, null, null);
    } finally {
      call.end();
    }
  }

  /** Ends the session at the daemon, {@link #CLOSE_MAX} at most. Nothing works afterwards. */
  void close() {
    Thread keeper;
    Lease last;
    List<Grant> lost = new ArrayList<>();
    lock.lock();
    try {
      if (closed) return;
      closed = true;
      changed.signalAll();
      keeper = thread;
      last = lease;
      lease = null;
      grants.values().forEach(lost::addAll);
      grants.clear();
    } finally {
      lock.unlock();
    }
    StreamCall<?, ?> stream = beats;
    if (stream != null) stream.wake();
    if (keeper != null) keeper.interrupt();
    if (last == null) return;
    last.end();
    lost.forEach(this::tell);
    try {
      closeAtDaemon(last.id(), Call.uninterruptible(Deadline.in(CLOSE_MAX)));
    } catch (StmException unanswered) {
      // Its TTL ends it there.
    }
  }

  // ---- Beats

  private void keep() {
    while (!closed) {
      Lease kept;
      lock.lock();
      try {
        while (lease == null && !closed) changed.await();
        if (closed) return;
        kept = lease;
      } catch (InterruptedException interrupted) {
        continue; // by close
      } finally {
        lock.unlock();
      }
      keepLease(kept);
    }
  }

  private void keepLease(Lease kept) {
    Outage outage = new Outage(null);
    int refusals = 0;
    while (!closed && !kept.over()) {
      StmException failure;
      try {
        Link link = core.transport().get(Deadline.inNanos(kept.left()), Call.until(null));
        long before = kept.until();
        failure = beatOn(link, kept);
        if (kept.until() > before) {
          outage.end();
          refusals = 0;
        }
        if (failure.reason() == Reason.SESSION_EXPIRED) {
          drop(kept, true);
          return;
        }
        if (++refusals >= REFUSALS_MAX && link.alive()) {
          core.transport().leave(link, failure);
          refusals = 0;
        }
      } catch (StmException failed) {
        failure = failed;
      }
      outage.fail(failure);
      if (!closed) core.sleeps(Math.min(outage.pause(), kept.left()), Call.until(null));
    }
    if (!closed) drop(kept, false);
  }

  private static StmException overAtDaemon() {
    return Errors.make(Reason.SESSION_EXPIRED, io.grpc.Status.Code.NOT_FOUND, "",
        "the daemon says that the session is over: acquire again");
  }

  /** Until the stream breaks or the lease is over. SESSION_EXPIRED: the daemon says that it is. */
  private StmException beatOn(Link link, Lease kept) {
    StreamCall<KeepAliveRequest, KeepAliveResponse> stream =
        new StreamCall<>(link.channel, SessionServiceGrpc.getKeepAliveMethod());
    beats = stream;
    stream.start();
    try {
      long every = kept.ttl() / BEATS_IN_TTL;
      long patience = Math.max(every, ANSWER_MIN_NANOS);
      TreeMap<Long, Long> sent = new TreeMap<>(); // unanswered
      long beat = 0;
      long next = Lease.bootTime();
      Call call = Call.until(null);
      for (;;) {
        long now = Lease.bootTime();
        if (closed) return Errors.closed();
        if (kept.over()) return Errors.unavailable("no beat was answered for the session's TTL");
        if (!sent.isEmpty() && now - sent.firstEntry().getValue() >= patience) {
          StmException failure = Errors.unavailable(
              link.address + " did not answer a beat for " + Errors.shown(Duration.ofNanos(patience)));
          link.breakUp(failure);
          return failure;
        }
        if (now >= next) {
          sent.put(++beat, now);
          stream.send(KeepAliveRequest.newBuilder().setSessionId(kept.id()).setBeat(beat)
              .setSeen(core.position().seen()).build());
          next = now + every;
        }
        long wait = Math.min(Math.min(next - now, kept.left()), Lease.SLEEP_MAX_NANOS);
        if (!sent.isEmpty()) wait = Math.min(wait, sent.firstEntry().getValue() + patience - now);
        switch (stream.take(call, wait)) {
          case MESSAGE -> {
            KeepAliveResponse message = stream.message();
            link.heard();
            core.position().observe(message.getHeader());
            if (!message.getSessionId().equals(kept.id())) continue;
            if (message.getExpired()) return overAtDaemon();
            Long answered = sent.get(message.getBeat());
            if (answered != null) {
              kept.answered(answered);
              sent.headMap(message.getBeat(), true).clear();
            }
            for (Fence fence : message.getLostList()) lose(fence.getLock(), fence.getToken());
          }
          case TIMEOUT -> {}
          case WOKEN -> {
            if (closed) return Errors.closed();
            Thread.interrupted(); // not ours: go on
          }
          case ENDED -> {
            if (stream.status().isOk()) return Errors.unavailable("the daemon ended the stream of beats");
            StmException failure = Errors.fromGrpc(stream.status(), stream.trailers(), core.names());
            boolean over = failure.reason() == Reason.SESSION_EXPIRED || failure.reason() == Reason.STORE_CHANGED;
            return over ? overAtDaemon() : Errors.unavailable(failure.getMessage());
          }
        }
      }
    } finally {
      beats = null;
      stream.cancel();
    }
  }
}
