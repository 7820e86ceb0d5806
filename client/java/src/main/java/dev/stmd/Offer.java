package dev.stmd;

import java.time.Duration;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;
import stmd.v1.DeleteStateAtResponse;
import stmd.v1.DestroyAtomResponse;
import stmd.v1.DestroyResponse;
import stmd.v1.GetStateAtResponse;
import stmd.v1.GetStateResponse;
import stmd.v1.InitAtomResponse;
import stmd.v1.InitResponse;
import stmd.v1.OfferContainerRequest;
import stmd.v1.OfferContainerResponse;
import stmd.v1.OfferServiceGrpc;
import stmd.v1.SetStateAtResponse;
import stmd.v1.SetStateResponse;

/**
 * A container in this process, while it is offered: values of entries whose container is "offered:NAME" are kept here. Closing
 * it withdraws it; a lost connection or a restarted daemon only interrupts it, and meanwhile those entries alone are
 * unavailable. An offer is to the client's daemon: another daemon of the same store asks its own clients, so what is kept
 * should be a store that all of them share. Made by {@link Stm#offer}. Any thread but those of the container's methods.
 */
public final class Offer implements AutoCloseable {
  private static final long LOOK_NANOS = 1_000_000_000;
  private static final Duration CLOSE_MAX = Duration.ofSeconds(10);

  private final ClientCore core;
  private final String name;
  private final VersionedStateContainer refs;
  private final StateContainer atoms;
  private final ExecutorService workers;
  private final Thread keeper;
  private final ReentrantLock lock = new ReentrantLock();
  private final Condition changed = lock.newCondition();
  private boolean standing;
  private boolean stoodOnce;
  private boolean over;
  private StmException failure;
  private volatile boolean closed;
  private volatile StreamCall<OfferContainerRequest, OfferContainerResponse> stream;

  Offer(ClientCore core, String name, VersionedStateContainer refs, StateContainer atoms, int threadsMax) {
    this.core = core;
    this.name = name;
    this.refs = refs;
    this.atoms = atoms;
    ThreadPoolExecutor pool = new ThreadPoolExecutor(threadsMax, threadsMax, 10, TimeUnit.SECONDS, new LinkedBlockingQueue<>(),
        work -> {
          Thread thread = new Thread(work, "stmd-offer-" + name);
          thread.setDaemon(true);
          return thread;
        });
    pool.allowCoreThreadTimeOut(true);
    this.workers = pool;
    this.keeper = new Thread(this::keep, "stmd-offer");
    keeper.setDaemon(true);
  }

  void begin(Duration timeout) {
    keeper.start();
    boolean stands = false;
    try {
      stands = awaitStanding(timeout);
    } finally {
      StmException why = status();
      if (!stands) close();
      if (!stands && why != null) throw why;
    }
    if (!stands) throw Errors.unavailable("the offer of " + name + " did not stand in time: is stmd running?");
  }

  /** {@return "offered:NAME": what refs and atoms give as their container} */
  public String container() {
    return "offered:" + name;
  }

  /** {@return whether the daemon asks here now} */
  public boolean isStanding() {
    lock.lock();
    try {
      return standing;
    } finally {
      lock.unlock();
    }
  }

  /**
   * Waits until it stands.
   *
   * @param timeout null: without an end
   * @return false: not within the timeout, or refused for good
   */
  public boolean awaitStanding(Duration timeout) {
    Call call = Call.until(timeout);
    lock.lock();
    try {
      while (!standing) {
        if (over || call.deadline.passed()) return false;
        if (call.cancelled()) throw Errors.cancelled();
        try {
          changed.await(Math.min(call.deadline.left(), LOOK_NANOS), TimeUnit.NANOSECONDS);
        } catch (InterruptedException interrupted) {
          call.caught();
        }
      }
      return true;
    } finally {
      lock.unlock();
    }
  }

  /** {@return why it does not stand; null: it does, or was never interrupted} */
  public StmException status() {
    lock.lock();
    try {
      return standing ? null : failure;
    } finally {
      lock.unlock();
    }
  }

  /** Withdraws it; calls under way are waited for, 10 s at most. */
  @Override
  public void close() {
    closed = true;
    StreamCall<?, ?> last = stream;
    if (last != null) last.wake();
    workers.shutdown();
    keeper.interrupt();
    Call call = Call.uninterruptible(Deadline.in(CLOSE_MAX));
    try {
      for (boolean ended = false; !ended && !call.deadline.passed(); ) {
        try {
          keeper.join(Math.max(1, TimeUnit.NANOSECONDS.toMillis(call.deadline.left())));
          ended = workers.awaitTermination(call.deadline.left(), TimeUnit.NANOSECONDS);
        } catch (InterruptedException interrupted) {
          call.caught();
        }
      }
    } finally {
      call.end();
    }
  }

  private void say(boolean stands, StmException why, boolean forGood) {
    lock.lock();
    try {
      standing = stands;
      stoodOnce |= stands;
      over |= forGood;
      if (!stands) failure = why;
      changed.signalAll();
    } finally {
      lock.unlock();
    }
  }

  private void keep() {
    Outage outage = new Outage(null);
    while (!closed && !core.closed()) {
      StmException why;
      try {
        Link link = core.transport().get(Deadline.in(core.options().unavailableTimeout()), Call.until(null));
        why = serve(link, outage);
        // Before it stood a refusal is final; later the name is this offer's, and is asked for until it is had again.
        if (!stoodOnce && !why.isTransient() && link.alive()) {
          say(false, why, true);
          return;
        }
      } catch (StmException failed) {
        why = failed;
      }
      if (closed || core.closed()) break;
      say(false, why, false);
      outage.fail(why);
      core.sleeps(outage.pause(), Call.until(null));
    }
    say(false, Errors.closed(), true);
  }

  /** Until the stream ends: why. */
  private StmException serve(Link link, Outage outage) {
    StreamCall<OfferContainerRequest, OfferContainerResponse> call =
        new StreamCall<>(link.channel, OfferServiceGrpc.getOfferContainerMethod());
    call.start();
    stream = call;
    try {
      call.send(OfferContainerRequest.newBuilder().setOffer(name).build());
      Call bounds = Call.until(null);
      for (;;) {
        if (closed) return Errors.closed();
        switch (call.take(bounds, LOOK_NANOS)) {
          case MESSAGE -> {
            link.heard();
            OfferContainerResponse question = call.message();
            outage.end();
            if (question.getCall() == 0) {
              say(true, null, false);
            } else {
              workers.execute(() -> call.send(answer(question)));
            }
          }
          case TIMEOUT -> {
            // The client has another daemon by now.
            if (!link.alive()) return Errors.unavailable("the connection to " + link.address + " is lost");
          }
          case WOKEN -> {
            if (closed || core.closed()) return Errors.closed();
            Thread.interrupted(); // not ours: go on
          }
          case ENDED -> {
            return call.status().isOk() ? Errors.unavailable("the daemon ended the offer")
                : Errors.fromGrpc(call.status(), call.trailers(), core.names());
          }
        }
      }
    } catch (java.util.concurrent.RejectedExecutionException withdrawn) {
      return Errors.closed();
    } finally {
      stream = null;
      call.cancel();
    }
  }

  private OfferContainerRequest answer(OfferContainerResponse question) {
    OfferContainerRequest.Builder answer = OfferContainerRequest.newBuilder().setCall(question.getCall());
    try {
      ask(question, answer);
      return answer.build();
    } catch (ContainerException refused) {
      return failed(question, refused.code().value(), refused.getMessage());
    } catch (Exception | LinkageError | AssertionError | StackOverflowError thrown) {
      // What an author wrote may throw, and is no reason to end his program.
      return failed(question, io.grpc.Status.Code.INTERNAL.value(), "it threw " + thrown);
    }
  }

  private static OfferContainerRequest failed(OfferContainerResponse question, int code, String message) {
    return OfferContainerRequest.newBuilder().setCall(question.getCall()).setCode(code)
        .setMessage(message == null ? "it failed" : message).build();
  }

  private void ask(OfferContainerResponse q, OfferContainerRequest.Builder answer) throws Exception {
    boolean ofRefs = switch (q.getQuestionCase()) {
      case INIT, DESTROY, GET_STATE_AT, SET_STATE_AT, DELETE_STATE_AT -> true;
      case INIT_ATOM, DESTROY_ATOM, GET_STATE, SET_STATE -> false;
      case QUESTION_NOT_SET -> throw new ContainerException(io.grpc.Status.Code.UNIMPLEMENTED,
          "the daemon asks what this client does not know: use a client as new as the daemon");
    };
    if (ofRefs ? refs == null : atoms == null) {
      throw new ContainerException(io.grpc.Status.Code.UNIMPLEMENTED,
          container() + " keeps no " + (ofRefs ? "refs" : "atoms"));
    }
    switch (q.getQuestionCase()) {
      case INIT -> {
        refs.init(q.getInit().getName());
        answer.setInit(InitResponse.getDefaultInstance());
      }
      case DESTROY -> {
        refs.destroy(q.getDestroy().getName());
        answer.setDestroy(DestroyResponse.getDefaultInstance());
      }
      case GET_STATE_AT -> {
        GetStateAtResponse.Builder got = GetStateAtResponse.newBuilder();
        refs.getStateAt(q.getGetStateAt().getName(), q.getGetStateAt().getStamp()).ifPresent(got::setValue);
        answer.setGetStateAt(got);
      }
      case SET_STATE_AT -> {
        refs.setStateAt(q.getSetStateAt().getName(), q.getSetStateAt().getStamp(), q.getSetStateAt().getValue());
        answer.setSetStateAt(SetStateAtResponse.getDefaultInstance());
      }
      case DELETE_STATE_AT -> {
        refs.deleteStateAt(q.getDeleteStateAt().getName(), q.getDeleteStateAt().getStamp());
        answer.setDeleteStateAt(DeleteStateAtResponse.getDefaultInstance());
      }
      case INIT_ATOM -> {
        atoms.init(q.getInitAtom().getName());
        answer.setInitAtom(InitAtomResponse.getDefaultInstance());
      }
      case DESTROY_ATOM -> {
        atoms.destroy(q.getDestroyAtom().getName(), q.getDestroyAtom().getVersion());
        answer.setDestroyAtom(DestroyAtomResponse.getDefaultInstance());
      }
      case GET_STATE -> {
        GetStateResponse.Builder got = GetStateResponse.newBuilder();
        atoms.getState(q.getGetState().getName()).ifPresent(got::setValue);
        answer.setGetState(got);
      }
      case SET_STATE -> {
        atoms.setState(q.getSetState().getName(), q.getSetState().getValue(), q.getSetState().getVersion());
        answer.setSetState(SetStateResponse.getDefaultInstance());
      }
      case QUESTION_NOT_SET -> {}
    }
  }
}
