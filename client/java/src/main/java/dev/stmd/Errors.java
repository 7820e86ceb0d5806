package dev.stmd;

import dev.stmd.StmException.Details;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.Status.Code;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import stmd.v1.ErrorDetail;
import stmd.v1.ErrorReason;
import stmd.v1.Rejected;

/** Makes the exceptions: from the wire, and of the client's own. */
final class Errors {
  private Errors() {}

  static StmException make(Reason reason, String message, Details details) {
    return switch (reason) {
      case CONFLICT -> new ConflictException(message, details);
      case REJECTED -> new RejectedException(message, details);
      case FENCE_LOST -> new LockLostException(message, details);
      case SESSION_EXPIRED -> new SessionExpiredException(message, details);
      case COMMIT_UNKNOWN -> new CommitUnknownException(message, details);
      case SNAPSHOT_TOO_OLD -> new SnapshotTooOldException(message, details);
      case LIMIT_EXCEEDED -> new LimitExceededException(message, details);
      case UNAVAILABLE -> new UnavailableException(message, details);
      case STORE_CHANGED -> new StoreChangedException(message, details);
      case NO_SPACE -> new NoSpaceException(message, details);
      case UNSUPPORTED -> new UnsupportedException(message, details);
      case VALUE_LOST -> new ValueLostException(message, details);
      case ABSENT -> new AbsentException(message, details);
      case WRONG_KIND -> new WrongKindException(message, details);
      case BAD_VALUE -> new BadValueException(message, details);
      case DENIED -> new DeniedException(message, details);
      case TRANSACTION_CLOSED -> new TransactionClosedException(message, details);
      case IN_TRANSACTION -> new InTransactionException(message, details);
      case RERUN_DIFFERS -> new RerunDiffersException(message, details);
      case LOCK_BUSY -> new LockBusyException(message, details);
      case UPGRADE_REFUSED -> new UpgradeRefusedException(message, details);
      case DEADLOCK -> new DeadlockException(message, details);
      case DEADLINE -> new DeadlineException(message, details);
      case CANCELLED -> new CancelledException(message, details);
      case OTHER -> new StmException(reason, message, details);
    };
  }

  static StmException make(Reason reason, Code code, String name, String message) {
    return make(reason, message, new Details().code(code).name(name));
  }

  static StmException badValue(String name, String message) {
    return make(Reason.BAD_VALUE, Code.INVALID_ARGUMENT, name, message);
  }

  static StmException unavailable(String message) {
    return make(Reason.UNAVAILABLE, Code.UNAVAILABLE, "", message);
  }

  static StmException internal(String message) {
    return make(Reason.OTHER, Code.INTERNAL, "", message);
  }

  static StmException asUnavailable(StmException failure) {
    return failure.isTransient() ? failure : unavailable(failure.getMessage());
  }

  static StmException deadline(StmException cause) {
    String why = cause == null ? "" : ": " + cause.getMessage();
    return make(Reason.DEADLINE, Code.DEADLINE_EXCEEDED, "",
        "the deadline passed; nothing was changed" + why + ": allow more time");
  }

  static StmException watchOver() {
    return make(Reason.DEADLINE, Code.DEADLINE_EXCEEDED, "", "the watch's time is up: allow more time");
  }

  static StmException cancelled() {
    return make(Reason.CANCELLED, Code.CANCELLED, "", "the thread was interrupted; nothing was changed");
  }

  static StmException closed() {
    return make(Reason.CANCELLED, Code.CANCELLED, "", "the client is closed: connect another");
  }

  static StmException storeChanged() {
    return make(Reason.STORE_CHANGED, Code.OUT_OF_RANGE, "",
        "the daemon has another store (wiped, restored, or another daemon): read again");
  }

  static StmException lockLost(String name, String what) {
    return make(Reason.FENCE_LOST, Code.FAILED_PRECONDITION, name,
        "the grant of " + name + " " + what + ": acquire the lock again");
  }

  static StmException commitUnknown(stmd.v1.CommitId id, String why) {
    Details details = new Details().code(Code.UNKNOWN);
    details.outcomeWord = OutcomeWord.print(id);
    return make(Reason.COMMIT_UNKNOWN, "a commit was sent and its outcome is not known: " + why + ": ask by `stmctl outcome "
        + details.outcomeWord + "`, or Stm.outcome", details);
  }

  static StmException absent(String name) {
    return make(Reason.ABSENT, Code.NOT_FOUND, name,
        name + " is absent: set it first, give its handle an init, or use find");
  }

  static StmException wrongKind(String name, boolean isAtom) {
    return make(Reason.WRONG_KIND, Code.FAILED_PRECONDITION, name, name + " is " + (isAtom ? "an atom" : "a ref")
        + " and was used as " + (isAtom ? "a ref: use client.atom" : "an atom: use client.ref"));
  }

  static StmException inTransaction(String what, String remedy) {
    return make(Reason.IN_TRANSACTION, Code.FAILED_PRECONDITION, what,
        what + " inside a transaction's body, which may run several times: " + remedy);
  }

  static StmException noOutcome(String what) {
    return internal(what + ": the daemon answered with no outcome that is known here: use a client as new as the daemon");
  }

  // ---- From the wire

  static ErrorDetail detailOf(Status status, Metadata trailers) {
    com.google.rpc.Status message = StatusProto.fromStatusAndTrailers(status, trailers);
    if (message == null) return null;
    for (com.google.protobuf.Any any : message.getDetailsList()) {
      if (!any.is(ErrorDetail.class)) continue;
      try {
        return any.unpack(ErrorDetail.class);
      } catch (com.google.protobuf.InvalidProtocolBufferException broken) {
        return null;
      }
    }
    return null;
  }

  static StmException fromGrpc(Status status, Metadata trailers, Names names) {
    ErrorDetail detail = detailOf(status, trailers);
    String message = status.getDescription() == null ? status.getCode().toString() : status.getDescription();
    if (status.getCause() != null && status.getCause().getMessage() != null) {
      message += ": " + status.getCause().getMessage();
    }
    if (status.getCode() == Code.UNIMPLEMENTED && detail == null) {
      message = "the daemon is older than this client and lacks the call (" + message + "): run a newer stmd";
    }
    return fromWire(status.getCode(), message, detail, names);
  }

  static StmException fromWire(Code code, String said, ErrorDetail detail, Names names) {
    Details details = new Details().code(code);
    Reason reason = reasonOf(code);
    String message = said;
    if (detail != null) {
      Reason told = reasonOf(detail.getReason());
      if (told != Reason.OTHER) reason = told;
      details.wireReason = detail.getReason();
      details.name = names.shorten(detail.getName());
      message = withShortName(message, detail.getName(), details.name);
      details.found = detail.getFound();
      details.expected = detail.getExpected();
      details.limit = detail.getLimit();
      details.limitValue = detail.getLimitValue();
      if (detail.hasRetryAfter()) details.retryAfter = Wire.duration(detail.getRetryAfter());
      if (detail.hasHeader()) details.header = detail.getHeader();
    }
    return make(reason, message, details);
  }

  private static Reason reasonOf(ErrorReason reason) {
    return switch (reason) {
      case ERROR_REASON_SNAPSHOT_TOO_OLD -> Reason.SNAPSHOT_TOO_OLD;
      case ERROR_REASON_LIMIT, ERROR_REASON_SLOW_READER -> Reason.LIMIT_EXCEEDED;
      case ERROR_REASON_WRONG_KIND -> Reason.WRONG_KIND;
      case ERROR_REASON_SESSION_EXPIRED -> Reason.SESSION_EXPIRED;
      case ERROR_REASON_CONTAINER_DOWN, ERROR_REASON_NOT_READY -> Reason.UNAVAILABLE;
      case ERROR_REASON_DENIED -> Reason.DENIED;
      case ERROR_REASON_BAD_VALUE -> Reason.BAD_VALUE;
      case ERROR_REASON_NO_SPACE -> Reason.NO_SPACE;
      case ERROR_REASON_ABSENT -> Reason.ABSENT;
      case ERROR_REASON_STORE_CHANGED -> Reason.STORE_CHANGED;
      case ERROR_REASON_UNSUPPORTED -> Reason.UNSUPPORTED;
      case ERROR_REASON_VALUE_LOST -> Reason.VALUE_LOST;
      default -> Reason.OTHER;
    };
  }

  private static Reason reasonOf(Code code) {
    return switch (code) {
      case UNAVAILABLE -> Reason.UNAVAILABLE;
      case UNIMPLEMENTED -> Reason.UNSUPPORTED;
      case RESOURCE_EXHAUSTED -> Reason.LIMIT_EXCEEDED;
      case INVALID_ARGUMENT -> Reason.BAD_VALUE;
      case NOT_FOUND -> Reason.ABSENT;
      case PERMISSION_DENIED, UNAUTHENTICATED -> Reason.DENIED;
      case DATA_LOSS -> Reason.VALUE_LOST;
      case DEADLINE_EXCEEDED -> Reason.DEADLINE;
      case CANCELLED -> Reason.CANCELLED;
      default -> Reason.OTHER;
    };
  }

  /** The daemon's words, with the entry's name as the client knows it. */
  private static String withShortName(String message, String full, String name) {
    return full.equals(name) ? message : message.replace(full, name);
  }

  static StmException rejected(Rejected rejected, Names names, ValueMapper mapper) {
    Details details = new Details().code(Code.FAILED_PRECONDITION).name(names.shorten(rejected.getName()));
    details.found = rejected.getFound();
    Reason reason = Reason.REJECTED;
    String remedy = "nothing was changed; the same write would be rejected again";
    switch (rejected.getCause()) {
      case REJECT_CAUSE_VALIDATOR -> {
        details.rejectCause = "validator";
        remedy = "nothing was changed; write a value that the rule takes, or change the rule";
      }
      case REJECT_CAUSE_TYPE -> {
        details.rejectCause = "type";
        remedy = "nothing was changed; use an operation of the value's type";
      }
      case REJECT_CAUSE_COMPARE -> {
        details.rejectCause = "compare";
        remedy = "nothing was changed; read it again and decide anew";
      }
      case REJECT_CAUSE_OVERFLOW -> {
        details.rejectCause = "overflow";
        remedy = "nothing was changed; keep larger numbers as BigInteger";
      }
      case REJECT_CAUSE_ABSENT -> {
        details.rejectCause = "absent";
        details.code = Code.NOT_FOUND;
        reason = Reason.ABSENT;
        remedy = "set it first, or give its handle an init";
      }
      case REJECT_CAUSE_KIND -> {
        details.rejectCause = "kind";
        reason = Reason.WRONG_KIND;
        remedy = "use client.ref for a ref and client.atom for an atom";
      }
      default -> {}
    }
    if (rejected.hasRule()) details.rule = mapper.decode(rejected.getRule(), Object.class);
    String said = withShortName(rejected.getMessage(), rejected.getName(), details.name);
    if (said.isEmpty()) said = "found " + rejected.getFound();
    String name = details.name + ": ";
    // Of some causes the daemon's words begin with the name.
    if (said.startsWith(name)) said = said.substring(name.length());
    return make(reason, "rejected: " + name + said + ": " + remedy, details);
  }

  static List<ConflictCause> causesOf(stmd.v1.Conflict conflict, Names names) {
    List<ConflictCause> causes = new ArrayList<>(conflict.getCausesCount());
    for (stmd.v1.ConflictCause cause : conflict.getCausesList()) {
      causes.add(new ConflictCause(names.shorten(cause.getName()), cause.getVersion(), Wire.meta(cause.getBy())));
    }
    return List.copyOf(causes);
  }

  static String describe(List<ConflictCause> causes) {
    if (causes.isEmpty()) return "what was read";
    ConflictCause first = causes.get(0);
    StringBuilder text = new StringBuilder(first.name());
    if (!first.by().client().isEmpty()) text.append(" by ").append(first.by().client());
    if (!first.by().label().isEmpty()) text.append(" (").append(first.by().label()).append(')');
    text.append(" at version ").append(first.version());
    if (causes.size() > 1) text.append(", and ").append(causes.size() - 1).append(" more");
    return text.toString();
  }

  static String shown(Duration duration) {
    return duration.toMillis() % 1000 == 0 ? duration.toSeconds() + " s" : duration.toMillis() + " ms";
  }
}
