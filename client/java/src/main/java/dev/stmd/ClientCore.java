package dev.stmd;

import io.grpc.MethodDescriptor;
import java.lang.System.Logger.Level;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.SynchronousQueue;
import java.util.concurrent.ThreadFactory;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.BooleanSupplier;
import java.util.function.Consumer;
import java.util.function.Function;
import stmd.v1.CommitId;
import stmd.v1.CommitRequest;
import stmd.v1.CommitResponse;
import stmd.v1.GetOutcomeRequest;
import stmd.v1.GetOutcomeResponse;
import stmd.v1.Header;
import stmd.v1.PipelineAnswer;
import stmd.v1.PipelineCall;
import stmd.v1.TransactionServiceGrpc;

/**
 * A client without types: the transport, the position, and the calls that outlive a broken connection. A commit is
 * exactly-once: one id until there is a verdict, the same in every resend; a new one only when the daemon says that the
 * old was not committed. Any thread.
 */
final class ClientCore {
  private static final System.Logger LOG = System.getLogger("dev.stmd");
  private static final String DEFAULT_ADDRESS = "127.0.0.1:7440";
  /** How long a commit whose caller's time is up is asked after. */
  private static final Duration SETTLE_MAX = Duration.ofSeconds(1);
  private static final long SETTLE_PAUSE_NANOS = 20_000_000;
  /** How often a call that waits looks whether its link is still there. */
  private static final long LINK_LOOK_NANOS = 1_000_000_000;

  private final ConnectOptions options;
  private final Names names;
  private final String clientName;
  private final ValueMapper mapper;
  private final Position position = new Position();
  private final Transport transport;
  private final SessionKeeper session;
  private final ExecutorService pool;
  private final ExecutorService background;
  private final CountDownLatch closed = new CountDownLatch(1);
  private final CountDownLatch closing = new CountDownLatch(1);

  ClientCore(ConnectOptions options) {
    this.options = options;
    this.mapper = options.mapper();
    String prefix = options.prefix();
    while (prefix.endsWith("/")) prefix = prefix.substring(0, prefix.length() - 1);
    if (!prefix.isEmpty()) {
      Names.checkName(prefix);
      if (prefix.contains("/.")) {
        throw Errors.badValue("prefix", "prefix " + prefix + " has a segment that begins with \".\": choose another");
      }
    }
    this.names = new Names(prefix);
    this.clientName = options.clientName().isEmpty() ? programName() : options.clientName();
    this.transport = new Transport(this, addressesOf(options.address()), position);
    this.session = new SessionKeeper(this);
    ThreadFactory threads = daemonThreads();
    ThreadPoolExecutor bounded = new ThreadPoolExecutor(options.asyncThreadsMax(), options.asyncThreadsMax(), 10, TimeUnit.SECONDS,
        new LinkedBlockingQueue<>(), threads);
    bounded.allowCoreThreadTimeOut(true);
    this.pool = bounded;
    // What nobody waits for (giving back, telling of losses): never behind a transaction that sleeps.
    this.background = new ThreadPoolExecutor(0, Integer.MAX_VALUE, 10, TimeUnit.SECONDS, new SynchronousQueue<>(), threads);
    Call call = Call.until(null);
    try {
      transport.get(Deadline.in(options.unavailableTimeout()), call);
    } catch (RuntimeException failed) {
      close();
      throw failed;
    }
  }

  private static ThreadFactory daemonThreads() {
    AtomicInteger number = new AtomicInteger();
    return work -> {
      Thread thread = new Thread(work, "stmd-" + number.incrementAndGet());
      thread.setDaemon(true);
      return thread;
    };
  }

  private static String programName() {
    String command = System.getProperty("sun.java.command", "java").strip();
    String program = command.split("\\s+", 2)[0];
    int from = Math.max(program.lastIndexOf('/'), program.lastIndexOf('.') > 0 && !program.endsWith(".jar")
        ? program.lastIndexOf('.') : -1);
    return program.isEmpty() ? "java" : program.substring(from + 1);
  }

  private static List<String> addressesOf(String given) {
    String address = given;
    if (address.isEmpty()) {
      String variable = System.getenv("STM_ADDRESS");
      address = variable == null || variable.isEmpty() ? DEFAULT_ADDRESS : variable;
    }
    List<String> addresses = new ArrayList<>();
    for (String part : address.split(",", -1)) {
      String one = part.strip();
      if (one.isEmpty()) continue;
      if (!one.startsWith("unix:") && one.indexOf(':') < 0) {
        throw Errors.badValue("address", "address \"" + one + "\" has no port: write host:port, as " + DEFAULT_ADDRESS
            + ", or unix:/path");
      }
      if (!one.startsWith("unix:") && !one.matches(".+:[0-9]{1,5}")) {
        throw Errors.badValue("address", "address \"" + one + "\" is none: write host:port, as " + DEFAULT_ADDRESS
            + ", or unix:/path");
      }
      addresses.add(one);
    }
    if (addresses.isEmpty()) throw Errors.badValue("address", "no address: write host:port, or several by comma");
    return List.copyOf(addresses);
  }

  ConnectOptions options() {
    return options;
  }

  Names names() {
    return names;
  }

  String clientName() {
    return clientName;
  }

  ValueMapper mapper() {
    return mapper;
  }

  Position position() {
    return position;
  }

  Transport transport() {
    return transport;
  }

  SessionKeeper session() {
    return session;
  }

  ExecutorService pool() {
    return pool;
  }

  /** Runs what nobody waits for; dropped once the client is closed. */
  void inBackground(Runnable work) {
    try {
      background.execute(work);
    } catch (java.util.concurrent.RejectedExecutionException over) {
      LOG.log(Level.DEBUG, "the client is closed: background work is dropped");
    }
  }

  boolean closed() {
    return closed.getCount() == 0;
  }

  /** Close has begun: only the end of the session is still sent. */
  boolean closing() {
    return closing.getCount() == 0;
  }

  /** Throws if the client is closed or the call's thread interrupted meanwhile. */
  void sleep(long nanos, Call call) {
    if (!sleeps(nanos, call)) throw closed() ? Errors.closed() : Errors.cancelled();
  }

  /** False: cancelled, or closed. */
  boolean sleeps(long nanos, Call call) {
    if (call.cancelled()) return false;
    Deadline until = Deadline.inNanos(Math.min(nanos, Long.MAX_VALUE / 4));
    while (!until.passed()) {
      try {
        if (closed.await(until.left(), TimeUnit.NANOSECONDS)) return false;
      } catch (InterruptedException interrupted) {
        call.caught();
        if (call.cancelled()) return false;
      }
    }
    return !closed();
  }

  void warn(String message) {
    if (options.warn() != null) {
      options.warn().accept(message);
    } else {
      LOG.log(Level.WARNING, message);
    }
  }

  void close() {
    closing.countDown();
    session.close();
    closed.countDown();
    transport.close();
    pool.shutdown();
    background.shutdown();
  }

  // ---- The Pipeline

  private Link linkFor(Outage outage, Call call) {
    try {
      return transport.get(Deadline.earlier(call.deadline, outage.until()), call);
    } catch (UnavailableException failed) {
      if (call.deadline.passed()) throw Errors.deadline(failed);
      throw failed;
    }
  }

  /** Adopts the store of a STORE_CHANGED. */
  private StmException failureOf(PipelineAnswer answer) {
    StmException failure = Errors.fromWire(io.grpc.Status.fromCodeValue(answer.getCode()).getCode(), answer.getMessage(),
        answer.hasError() ? answer.getError() : null, names);
    adopt(failure);
    return failure;
  }

  private void adopt(StmException failure) {
    Header header = failure.header();
    if (header == null) return;
    if (failure.reason() == Reason.STORE_CHANGED) {
      position.adopt(header);
    } else {
      position.observe(header);
    }
  }

  private static long pauseOf(Outage outage, StmException failure, Deadline deadline) {
    long pause = Math.max(outage.pause(), failure.retryAfterOrZero().toNanos());
    return Math.min(Math.min(pause, deadline.left()), outage.until().left());
  }

  /** A call that may be repeated, until it is answered: gets, lists, awaits. `fill` is called for each try. */
  PipelineAnswer ask(Consumer<PipelineCall.Builder> fill, Call call) {
    Outage outage = new Outage(options.unavailableTimeout());
    for (;;) {
      if (call.deadline.passed()) throw Errors.deadline(outage.cause());
      Link link = linkFor(outage, call);
      outage.begin();
      Link.Result result = link.call(this, fill, call);
      StmException failure;
      switch (result.end()) {
        case ANSWERED -> {
          if (result.answer().getCode() == 0) return result.answer();
          failure = failureOf(result.answer());
          if (!failure.isTransient()) throw failure;
        }
        case BROKEN -> failure = result.cause();
        case TIMEOUT -> throw Errors.deadline(outage.cause());
        default -> throw Errors.cancelled();
      }
      if (closed()) throw Errors.closed();
      outage.fail(failure);
      if (outage.over()) throw Errors.asUnavailable(failure);
      sleep(pauseOf(outage, failure, call.deadline), call);
    }
  }

  /** What became known of a commit beside its verdict. */
  static final class Sent {
    String transactionId = "";
    long resends;
  }

  private CommitId newId() {
    return CommitId.newBuilder().setTransactionId(newUuid()).build();
  }

  static String newUuid() {
    ThreadLocalRandom random = ThreadLocalRandom.current();
    long most = (random.nextLong() & ~0xf000L) | 0x4000L;
    long least = (random.nextLong() & 0x3fffffffffffffffL) | 0x8000000000000000L;
    return new UUID(most, least).toString();
  }

  private CommitId known(CommitId id) {
    // Named by what is known now: the writer this id is first sent to alone may ever execute it.
    Position.Known now = position.get();
    return id.toBuilder().setWriter(now.writer())
        .setSeen(stmd.v1.Seen.newBuilder().setVersion(now.seen()).setStore(now.store())).build();
  }

  /**
   * `content` is of all but the id, the same each time. `store`: whose snapshot it names; 0: none. The answer is a
   * verdict: committed, conflict, rejected or fence_lost.
   */
  CommitResponse commit(CommitRequest content, long store, Call call, Sent told) {
    Outage outage = new Outage(options.unavailableTimeout());
    CommitId id = newId();
    boolean sent = false; // this id may have reached a daemon
    for (;;) {
      if (call.deadline.passed()) return settle(id, sent, Errors.deadline(outage.cause()));
      Link link;
      try {
        link = transport.get(Deadline.earlier(call.deadline, outage.until()), call);
      } catch (StmException failed) {
        if (failed.reason() == Reason.CANCELLED) return settle(id, sent, failed);
        if (call.deadline.passed()) return settle(id, sent, Errors.deadline(failed));
        if (sent) throw Errors.commitUnknown(id, failed.getMessage());
        throw failed;
      }
      if (!sent) {
        if (store != 0 && position.get().store() != store) throw Errors.storeChanged();
        id = known(id);
      }
      if (id.getResend()) ++told.resends;
      outage.begin();
      CommitRequest request = content.toBuilder().setId(id).build();
      Link.Result result = link.call(this, out -> out.setCommit(request), call);
      sent = sent || result.sent();
      StmException failure;
      switch (result.end()) {
        case ANSWERED -> {
          PipelineAnswer answer = result.answer();
          if (answer.getCode() != 0) {
            failure = failureOf(answer);
            // A failure is a verdict on what was sent just now: nothing was changed. On what was sent before only if the
            // daemon got as far as looking the id up, or would have refused it then, too.
            boolean certain = !id.getResend() || failure.code() == io.grpc.Status.Code.RESOURCE_EXHAUSTED
                || failure.code() == io.grpc.Status.Code.INVALID_ARGUMENT;
            if (failure.reason() == Reason.STORE_CHANGED) {
              if (id.getResend()) throw Errors.commitUnknown(id, "the store was changed (wiped or restored) meanwhile");
              throw failure;
            }
            if (!failure.isTransient()) {
              if (!certain) throw Errors.commitUnknown(id, failure.getMessage());
              throw failure;
            }
            if (certain) {
              id = newId();
              sent = false;
            }
          } else {
            CommitResponse response = answer.getCommit();
            switch (response.getOutcomeCase()) {
              case NOT_COMMITTED -> {
                failure = Errors.unavailable("the daemon that the commit was sent to is gone");
                id = newId();
                sent = false;
              }
              case ID_TOO_OLD -> {
                if (id.getResend()) throw Errors.commitUnknown(id, "it was sent too long ago for the daemon to tell");
                failure = Errors.unavailable("the commit's id was too old when it came");
                id = newId();
                sent = false;
              }
              default -> {
                told.transactionId = id.getTransactionId();
                return response;
              }
            }
          }
        }
        case BROKEN -> failure = result.cause();
        case TIMEOUT -> {
          return settle(id, sent, Errors.deadline(outage.cause()));
        }
        default -> {
          return settle(id, sent, Errors.cancelled());
        }
      }
      if (sent) id = id.toBuilder().setResend(true).build();
      if (closed()) {
        if (sent) throw Errors.commitUnknown(id, "the client was closed");
        throw Errors.closed();
      }
      outage.fail(failure);
      if (outage.over()) {
        if (sent) throw Errors.commitUnknown(id, failure.getMessage());
        throw Errors.asUnavailable(failure);
      }
      if (!sleeps(pauseOf(outage, failure, call.deadline), call)) {
        return settle(id, sent, closed() ? Errors.closed() : Errors.cancelled());
      }
    }
  }

  /** Gives up on this id: a verdict that comes in time after all, else `otherwise` if it was never sent. */
  private CommitResponse settle(CommitId id, boolean sent, StmException otherwise) {
    if (!sent) throw otherwise;
    if (closed()) throw Errors.commitUnknown(id, "the client was closed");
    Call call = Call.uninterruptible(Deadline.in(SETTLE_MAX));
    StmException cause = Errors.deadline(null);
    try {
      while (!call.deadline.passed()) {
        try {
          CommitResponse outcome = outcome(id.toBuilder().setResend(true).build(), call);
          switch (outcome.getOutcomeCase()) {
            case COMMITTED, REJECTED, FENCE_LOST -> {
              return outcome;
            }
            case CONFLICT, NOT_COMMITTED -> throw otherwise;
            default -> throw Errors.commitUnknown(id, "the daemon cannot tell any more");
          }
        } catch (StmException failure) {
          if (failure == otherwise || failure.reason() == Reason.COMMIT_UNKNOWN) throw failure;
          cause = failure;
          if (!failure.isTransient()) break;
          if (!sleeps(Math.min(SETTLE_PAUSE_NANOS, call.deadline.left()), call)) break;
        }
      }
    } finally {
      call.end();
    }
    throw Errors.commitUnknown(id, cause.getMessage());
  }

  CommitResponse outcome(CommitId id, Call call) {
    GetOutcomeResponse response = unary(TransactionServiceGrpc.getGetOutcomeMethod(),
        () -> GetOutcomeRequest.newBuilder().setId(id).build(), call);
    position.observe(response.getOutcome().getHeader());
    return response.getOutcome();
  }

  // ---- Calls beside the Pipeline: each ends with its link, and is sent again on the next until it is answered.

  private record UnaryEnd<R>(Link.End end, UnaryCall<R> call, StmException cause) {}

  /** One send. `over`, if not null: what the call is for is over, and it ends as broken. */
  private <Q, R> UnaryEnd<R> sendOn(Link link, MethodDescriptor<Q, R> method, Q request, Call bounds, BooleanSupplier over) {
    UnaryCall<R> call = UnaryCall.start(link.channel, method, request, bounds.deadline);
    Runnable wake = call::wake;
    link.onBreak(wake);
    try {
      for (;;) {
        if (call.await(bounds, Math.min(bounds.deadline.left(), LINK_LOOK_NANOS))) {
          link.heard();
          return new UnaryEnd<>(Link.End.ANSWERED, call, null);
        }
        if (bounds.cancelled()) return new UnaryEnd<>(Link.End.CANCELLED, call, null);
        if (bounds.deadline.passed()) return new UnaryEnd<>(Link.End.TIMEOUT, call, null);
        if (over != null && over.getAsBoolean()) {
          return new UnaryEnd<>(Link.End.BROKEN, call, Errors.unavailable("its session is over"));
        }
        if (!link.alive()) {
          return new UnaryEnd<>(Link.End.BROKEN, call, Errors.unavailable("the connection to " + link.address + " is lost"));
        }
        if (!link.probe(this)) {
          StmException cause = Errors.unavailable(link.address + " does not answer");
          link.breakUp(cause);
          return new UnaryEnd<>(Link.End.BROKEN, call, cause);
        }
      }
    } finally {
      link.offBreak(wake);
      call.cancel();
    }
  }

  /** Until it is answered: what may be repeated. */
  <Q, R> R unary(MethodDescriptor<Q, R> method, java.util.function.Supplier<Q> request, Call call) {
    Outage outage = new Outage(options.unavailableTimeout());
    for (;;) {
      if (call.deadline.passed()) throw Errors.deadline(outage.cause());
      Link link = linkFor(outage, call);
      outage.begin();
      UnaryEnd<R> sent = sendOn(link, method, request.get(), call, null);
      StmException failure = sent.cause();
      switch (sent.end()) {
        case ANSWERED -> {
          if (sent.call().status().isOk()) return sent.call().response();
          failure = Errors.fromGrpc(sent.call().status(), sent.call().trailers(), names);
          if (failure.reason() == Reason.DEADLINE) throw Errors.deadline(outage.cause());
          adopt(failure);
          if (!failure.isTransient() && link.alive()) throw failure;
          if (!failure.isTransient()) failure = Errors.unavailable(failure.getMessage());
        }
        case TIMEOUT -> throw Errors.deadline(outage.cause());
        case CANCELLED -> throw Errors.cancelled();
        default -> {}
      }
      if (closed()) throw Errors.closed();
      outage.fail(failure);
      if (outage.over()) throw failure;
      sleep(pauseOf(outage, failure, call.deadline), call);
    }
  }

  /** The id of a call, over all its sends. */
  static final class OnceId {
    CommitId id = CommitId.getDefaultInstance();
    boolean sent; // it may have reached a daemon, and no verdict came
  }

  /**
   * Until there is a verdict: what changes something. `id` goes on where an earlier call left it. Unavailable, deadline
   * and cancelled leave id.sent as it is: the same call may be made again. Whatever else comes is a verdict on the last
   * send. `outageMax` null: without an end.
   */
  <Q, R> R once(MethodDescriptor<Q, R> method, Function<CommitId, Q> request, Function<R, Header> header, OnceId id, Call call,
      Duration outageMax, BooleanSupplier over) {
    Outage outage = new Outage(outageMax);
    for (;;) {
      if (call.deadline.passed()) throw Errors.deadline(outage.cause());
      Link link = linkFor(outage, call);
      id.id = id.sent ? id.id.toBuilder().setResend(true).build() : known(newId());
      id.sent = true;
      outage.begin();
      UnaryEnd<R> sent = sendOn(link, method, request.apply(id.id), call, over);
      StmException failure = sent.cause();
      switch (sent.end()) {
        case ANSWERED -> {
          if (sent.call().status().isOk()) {
            id.sent = false;
            position.observe(header.apply(sent.call().response()));
            return sent.call().response();
          }
          failure = Errors.fromGrpc(sent.call().status(), sent.call().trailers(), names);
          if (failure.reason() == Reason.DEADLINE) throw Errors.deadline(outage.cause());
          adopt(failure);
          switch (failure.wireReason()) {
            case ERROR_REASON_NOT_COMMITTED -> {
              failure = Errors.unavailable("the daemon that the call was sent to is gone");
              id.sent = false;
            }
            case ERROR_REASON_ID_TOO_OLD -> {
              id.sent = false;
              if (id.id.getResend()) throw Errors.commitUnknown(id.id, "it was sent too long ago for the daemon to tell");
              failure = Errors.unavailable("the call's id was too old when it came");
            }
            default -> {
              if (!failure.isTransient() && (link.alive() || failure.wireReason() != stmd.v1.ErrorReason.ERROR_REASON_UNSPECIFIED)) {
                id.sent = false;
                throw failure;
              }
              // The link's end, by gRPC's own word: no verdict.
              if (!failure.isTransient()) failure = Errors.unavailable(failure.getMessage());
            }
          }
        }
        case TIMEOUT -> throw Errors.deadline(outage.cause());
        case CANCELLED -> throw Errors.cancelled();
        default -> {}
      }
      if (closed()) throw Errors.closed();
      // Unavailable may be the network's word: whether the daemon did it is found out by the same id.
      if (over != null && over.getAsBoolean()) throw failure;
      outage.fail(failure);
      if (outage.over()) throw Errors.asUnavailable(failure);
      sleep(pauseOf(outage, failure, call.deadline), call);
    }
  }
}
