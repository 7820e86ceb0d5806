package dev.stmd;

import io.grpc.Status.Code;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import stmd.v1.AcquireLockRequest;
import stmd.v1.AcquireLockResponse;
import stmd.v1.AwaitConditionRequest;
import stmd.v1.AwaitConditionResponse;
import stmd.v1.BreakLockRequest;
import stmd.v1.BreakLockResponse;
import stmd.v1.CommitId;
import stmd.v1.ExpireSessionRequest;
import stmd.v1.ExpireSessionResponse;
import stmd.v1.Fence;
import stmd.v1.GetLockRequest;
import stmd.v1.GetLockResponse;
import stmd.v1.ListLocksRequest;
import stmd.v1.ListLocksResponse;
import stmd.v1.ListSessionsRequest;
import stmd.v1.ListSessionsResponse;
import stmd.v1.LockServiceGrpc;
import stmd.v1.ReleaseLockRequest;
import stmd.v1.ReleaseLockResponse;
import stmd.v1.SessionServiceGrpc;
import stmd.v1.SignalConditionRequest;
import stmd.v1.SignalConditionResponse;

/** Lock calls, each a commit of its own, exactly once. */
final class Locks {
  /** Of giving back, in the background, what nobody waits for any more; then its session's end does it. */
  static final Duration GIVE_UP_MAX = Duration.ofSeconds(10);
  private static final int PAGE_MAX = 1000;

  private Locks() {}

  private static stmd.v1.Meta meta(ClientCore core, String label) {
    return stmd.v1.Meta.newBuilder().setLabel(label).setClient(core.clientName()).build();
  }

  // ---- Acquire and release

  static Grant acquire(ClientCore core, String name, AcquireOptions options, boolean interruptible) {
    Transaction.checkOutside("acquire of " + name);
    Names.checkName(name);
    boolean semaphore = options.permitsMax() > 0;
    if ((options.shared() && semaphore) || (options.permits() > 0 && !semaphore)) {
      throw Errors.badValue(name, name + (semaphore ? ": a semaphore is not shared: leave out shared, or permits"
          : ": permits are a semaphore's: say how many there are, too"));
    }
    Call call = new Call(Deadline.in(options.timeout()), interruptible);
    Deadline wait = Deadline.in(options.waitTime());
    String lock = core.names().full(name);
    Outage sessions = new Outage(core.options().unavailableTimeout());
    try {
      for (;;) {
        Lease lease = core.session().get(call);
        ClientCore.OnceId id = new ClientCore.OnceId();
        sessions.begin();
        AcquireLockResponse answer;
        try {
          answer = sendAcquire(core, lease, lock, options, call, wait, id);
          if (lease.over()) throw Errors.unavailable("its session is over");
        } catch (StmException failure) {
          boolean expired = failure.reason() == Reason.SESSION_EXPIRED;
          if (!expired && !lease.over()) {
            if (id.sent) giveUp(core, lease, lock, options.owner(), id.id);
            throw failure;
          }
          if (core.closed()) throw Errors.closed();
          // Its place went with the session: it begins again, at the queue's end, with another.
          core.session().drop(lease, expired);
          if (call.cancelled() || call.deadline.passed()) throw failure;
          sessions.fail(failure);
          if (sessions.over()) throw failure;
          core.sleep(Math.min(sessions.pause(), call.deadline.left()), call);
          continue;
        }
        switch (answer.getOutcome()) {
          case LOCK_OUTCOME_GRANTED -> {
            Grant grant = new Grant(lease, lock, name, options.owner(), answer.getToken());
            core.session().add(grant);
            return grant;
          }
          case LOCK_OUTCOME_BUSY -> throw busy(name, answer);
          case LOCK_OUTCOME_UPGRADE_REFUSED -> throw upgradeRefused(name, answer);
          case LOCK_OUTCOME_DEADLOCK -> throw deadlock(core.names(), name, answer);
          case LOCK_OUTCOME_LEFT ->
              throw Errors.lockLost(name, "came and was taken, or its place in the queue was given up by another");
          default -> throw Errors.noOutcome(name);
        }
      }
    } finally {
      call.end();
    }
  }

  private static AcquireLockResponse sendAcquire(ClientCore core, Lease lease, String lock, AcquireOptions options, Call call,
      Deadline wait, ClientCore.OnceId id) {
    return core.once(LockServiceGrpc.getAcquireLockMethod(), commit -> {
      AcquireLockRequest.Builder request = AcquireLockRequest.newBuilder().setId(commit).setName(lock)
          .setSessionId(lease.id()).setOwner(options.owner()).setMeta(meta(core, options.label()));
      if (options.permitsMax() > 0) {
        request.setMode(stmd.v1.LockMode.LOCK_MODE_PERMITS).setPermits(options.permits()).setPermitsMax(options.permitsMax());
      } else {
        request.setMode(options.shared() ? stmd.v1.LockMode.LOCK_MODE_SHARED : stmd.v1.LockMode.LOCK_MODE_EXCLUSIVE);
      }
      if (!wait.never()) request.setWait(Wire.duration(wait.left()));
      return request.build();
    }, AcquireLockResponse::getHeader, id, call, core.options().unavailableTimeout(), lease::over);
  }

  /** Nobody waits for this acquire any more: it is to leave no place behind, and no hold. */
  private static void giveUp(ClientCore core, Lease lease, String lock, String owner, CommitId acquire) {
    ReleaseLockRequest what = ReleaseLockRequest.newBuilder().setName(lock).setSessionId(lease.id()).setOwner(owner)
        .setAcquireId(acquire.toBuilder().setResend(true)).setMeta(meta(core, "")).build();
    core.inBackground(() -> {
      try {
        core.once(LockServiceGrpc.getReleaseLockMethod(), commit -> what.toBuilder().setId(commit).build(),
            ReleaseLockResponse::getHeader, new ClientCore.OnceId(), Call.until(GIVE_UP_MAX), null, lease::over);
      } catch (StmException unanswered) {
        // The session's end gives it up.
      }
    });
  }

  static void release(ClientCore core, Grant grant, Call call) {
    grant.releasing.lock();
    try {
      if (grant.released()) throw Errors.lockLost(grant.name(), "was released before");
      if (grant.over()) {
        core.session().remove(grant);
        grant.release();
        throw Errors.lockLost(grant.name(), "is gone");
      }
      ReleaseLockResponse response;
      try {
        response = core.once(LockServiceGrpc.getReleaseLockMethod(),
            commit -> ReleaseLockRequest.newBuilder().setId(commit).setName(grant.lock()).setSessionId(grant.lease().id())
                .setOwner(grant.owner()).setToken(grant.token()).setMeta(meta(core, "")).build(),
            ReleaseLockResponse::getHeader, grant.release, call, core.options().unavailableTimeout(), grant.lease()::over);
      } catch (StmException failure) {
        // No verdict: it may be asked for again.
        if (!grant.lease().over() && failure.reason() != Reason.SESSION_EXPIRED) throw failure;
        core.session().remove(grant);
        grant.release();
        throw Errors.lockLost(grant.name(), "is gone");
      }
      core.session().remove(grant);
      grant.release();
      switch (response.getOutcome()) {
        case LOCK_OUTCOME_RELEASED, LOCK_OUTCOME_STILL_HELD -> {}
        default -> throw Errors.lockLost(grant.name(), "is gone");
      }
    } finally {
      grant.releasing.unlock();
      call.end();
    }
  }

  // ---- Conditions

  /**
   * Gives the lock up, awaits a signal, has it again: for as long as its session lives, since whoever gave up would leave
   * a place that nobody takes the lock from. An interruption only ends the wait for the signal.
   */
  static boolean await(ClientCore core, Grant grant, String condition, Duration timeout, boolean interruptible)
      throws InterruptedException {
    Transaction.checkOutside("await of " + grant.name());
    if (grant.over()) throw Errors.lockLost(grant.name(), "is gone");
    Deadline wait = Deadline.in(timeout);
    ClientCore.OnceId id = new ClientCore.OnceId();
    Call call = new Call(Deadline.NEVER, interruptible);
    AwaitConditionResponse answer;
    boolean interrupted = false;
    if (interruptible && Thread.interrupted()) throw new InterruptedException();
    try {
      answer = sendAwait(core, grant, condition, wait, id, call);
    } catch (CancelledException cancelled) {
      if (core.closed() || !id.sent && !Thread.currentThread().isInterrupted()) throw cancelled;
      interrupted = Thread.interrupted();
      // It may have been sent: the lock is had again first, by the same id, with no time left to wait.
      Call again = Call.uninterruptible(Deadline.NEVER);
      try {
        answer = sendAwait(core, grant, condition, Deadline.inNanos(0), id, again);
      } finally {
        again.end();
      }
    } finally {
      call.end();
    }
    if (answer.getOutcome() != stmd.v1.LockOutcome.LOCK_OUTCOME_GRANTED) {
      core.session().lose(grant.lock(), grant.token());
      if (interrupted) Thread.currentThread().interrupt();
      throw Errors.lockLost(grant.name(), "is gone");
    }
    core.session().retoken(grant.lock(), grant.token(), answer.getToken());
    if (interrupted) {
      if (!answer.getSignalled()) throw new InterruptedException();
      Thread.currentThread().interrupt(); // the signal came first, and is not lost
    }
    return answer.getSignalled();
  }

  private static AwaitConditionResponse sendAwait(ClientCore core, Grant grant, String condition, Deadline wait,
      ClientCore.OnceId id, Call call) {
    try {
      return core.once(LockServiceGrpc.getAwaitConditionMethod(), commit -> {
        AwaitConditionRequest.Builder request = AwaitConditionRequest.newBuilder().setId(commit).setLock(fence(grant))
            .setCondition(condition).setSessionId(grant.lease().id()).setOwner(grant.owner()).setMeta(meta(core, ""));
        if (!wait.never()) request.setWait(Wire.duration(wait.left()));
        return request.build();
      }, AwaitConditionResponse::getHeader, id, call, null, grant.lease()::over);
    } catch (StmException failure) {
      if (failure.reason() == Reason.SESSION_EXPIRED || grant.lease().over()) {
        if (!core.closed()) throw Errors.lockLost(grant.name(), "is gone with its session");
      }
      throw failure;
    }
  }

  private static Fence fence(Grant grant) {
    return Fence.newBuilder().setLock(grant.lock()).setToken(grant.token()).build();
  }

  static int signal(ClientCore core, Grant grant, String condition, boolean all) {
    Transaction.checkOutside("signal of " + grant.name());
    if (grant.over()) throw Errors.lockLost(grant.name(), "is gone");
    Call call = Call.uninterruptible(Deadline.NEVER);
    try {
      SignalConditionResponse answer = core.once(LockServiceGrpc.getSignalConditionMethod(),
          commit -> SignalConditionRequest.newBuilder().setId(commit).setLock(fence(grant)).setCondition(condition)
              .setAll(all).setMeta(meta(core, "")).build(),
          SignalConditionResponse::getHeader, new ClientCore.OnceId(), call, core.options().unavailableTimeout(),
          grant.lease()::over);
      if (answer.getOutcome() != stmd.v1.LockOutcome.LOCK_OUTCOME_SIGNALLED) throw Errors.lockLost(grant.name(), "is gone");
      return answer.getWoken();
    } finally {
      call.end();
    }
  }

  // ---- What operators ask

  static LockInfo info(ClientCore core, String name) {
    Transaction.checkOutside("info of " + name);
    Names.checkName(name);
    GetLockResponse answer = core.unary(LockServiceGrpc.getGetLockMethod(),
        () -> GetLockRequest.newBuilder().setName(core.names().full(name)).setSeen(core.position().seen()).build(),
        Call.until(null));
    core.position().observe(answer.getHeader());
    return infoOf(answer.getLock(), core.names());
  }

  static List<LockInfo> list(ClientCore core, String prefix) {
    Transaction.checkOutside("locks of " + prefix);
    Names.checkPrefix(prefix);
    List<LockInfo> locks = new ArrayList<>();
    String token = "";
    do {
      String from = token;
      ListLocksResponse page = core.unary(LockServiceGrpc.getListLocksMethod(),
          () -> ListLocksRequest.newBuilder().setPrefix(core.names().full(prefix)).setPageSize(PAGE_MAX).setPageToken(from)
              .setSeen(core.position().seen()).build(), Call.until(null));
      core.position().observe(page.getHeader());
      for (stmd.v1.Lock lock : page.getLocksList()) locks.add(infoOf(lock, core.names()));
      token = page.getNextPageToken();
    } while (!token.isEmpty());
    return List.copyOf(locks);
  }

  static boolean breakLock(ClientCore core, String name, String label) {
    Transaction.checkOutside("breaking " + name);
    Names.checkName(name);
    BreakLockResponse answer = core.once(LockServiceGrpc.getBreakLockMethod(),
        commit -> BreakLockRequest.newBuilder().setId(commit).setName(core.names().full(name)).setMeta(meta(core, label)).build(),
        BreakLockResponse::getHeader, new ClientCore.OnceId(), Call.until(null), core.options().unavailableTimeout(), null);
    return answer.getOutcome() == stmd.v1.LockOutcome.LOCK_OUTCOME_RELEASED;
  }

  static List<SessionInfo> sessions(ClientCore core) {
    Transaction.checkOutside("sessions");
    List<SessionInfo> sessions = new ArrayList<>();
    String token = "";
    do {
      String from = token;
      ListSessionsResponse page = core.unary(SessionServiceGrpc.getListSessionsMethod(),
          () -> ListSessionsRequest.newBuilder().setPageSize(PAGE_MAX).setPageToken(from).setSeen(core.position().seen()).build(),
          Call.until(null));
      core.position().observe(page.getHeader());
      for (stmd.v1.Session s : page.getSessionsList()) {
        sessions.add(new SessionInfo(s.getSessionId(), s.getClient(), Wire.duration(s.getTtl()),
            s.hasLeft() ? Optional.of(Wire.duration(s.getLeft())) : Optional.empty(), s.getDaemon(), Wire.instant(s.getSince()),
            s.getLocksList().stream().map(core.names()::shorten).toList(),
            s.getEntriesList().stream().map(core.names()::shorten).toList()));
      }
      token = page.getNextPageToken();
    } while (!token.isEmpty());
    return List.copyOf(sessions);
  }

  static void expire(ClientCore core, String sessionId, String label) {
    Transaction.checkOutside("expiring a session");
    core.once(SessionServiceGrpc.getExpireSessionMethod(),
        commit -> ExpireSessionRequest.newBuilder().setId(commit).setSessionId(sessionId).setMeta(meta(core, label)).build(),
        ExpireSessionResponse::getHeader, new ClientCore.OnceId(), Call.until(null), core.options().unavailableTimeout(), null);
  }

  private static LockInfo infoOf(stmd.v1.Lock lock, Names names) {
    return new LockInfo(names.shorten(lock.getName()), lock.getHoldersList().stream().map(Locks::holdOf).toList(),
        lock.getQueueList().stream().map(Locks::holdOf).toList(), lock.getPermitsMax(), lock.getLastToken());
  }

  private static LockHold holdOf(stmd.v1.LockHold hold) {
    LockMode mode = switch (hold.getMode()) {
      case LOCK_MODE_SHARED -> LockMode.SHARED;
      case LOCK_MODE_PERMITS -> LockMode.PERMITS;
      default -> LockMode.EXCLUSIVE;
    };
    return new LockHold(hold.getSessionId(), hold.getOwner(), mode, hold.getToken(), hold.getHolds(), hold.getPermits(),
        Wire.instant(hold.getSince()));
  }

  // ---- Errors

  private static String who(stmd.v1.LockHold hold) {
    return hold.getOwner().isEmpty() ? "session " + hold.getSessionId()
        : hold.getOwner() + " (session " + hold.getSessionId() + ")";
  }

  private static String holders(AcquireLockResponse answer) {
    if (answer.getInTheWayCount() == 0) return "others";
    return who(answer.getInTheWay(0)) + (answer.getInTheWayCount() > 1 ? " and others" : "");
  }

  private static StmException error(Reason reason, Code code, String name, String found, String message) {
    StmException.Details details = new StmException.Details().code(code).name(name);
    details.found = found;
    return Errors.make(reason, message, details);
  }

  private static StmException busy(String name, AcquireLockResponse answer) {
    String holders = holders(answer);
    return error(Reason.LOCK_BUSY, Code.ABORTED, name, holders,
        name + " is held by " + holders + ": wait longer, or try again later");
  }

  private static StmException upgradeRefused(String name, AcquireLockResponse answer) {
    String holders = holders(answer);
    return error(Reason.UPGRADE_REFUSED, Code.FAILED_PRECONDITION, name, holders, name
        + " is held shared by this owner and not alone (" + holders
        + "), and cannot become exclusive: release the shared hold first");
  }

  private static StmException deadlock(Names names, String name, AcquireLockResponse answer) {
    StringBuilder cycle = new StringBuilder();
    for (stmd.v1.LockHold step : answer.getInTheWayList()) {
      if (cycle.length() > 0) cycle.append(", ");
      cycle.append(who(step)).append(" holds ").append(names.shorten(step.getLock())).append(" and waits for ")
          .append(names.shorten(step.getWaitsFor()));
    }
    return error(Reason.DEADLOCK, Code.FAILED_PRECONDITION, name, cycle.toString(), "waiting for " + name
        + " would be a deadlock: " + cycle + ": release what you hold, and acquire locks in one order everywhere");
  }
}
