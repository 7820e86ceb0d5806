package dev.stmd;

import io.grpc.Status;
import java.time.Duration;
import java.util.List;
import java.util.Optional;

/**
 * What stmd's calls throw: {@link #reason} says what happened, the message ends with what to do. Reasons come from the
 * daemon's ErrorDetail or from the client itself, never from text.
 */
public class StmException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  /** Why. */
  private final Reason reason;
  private final transient Details details;

  StmException(Reason reason, String message, Details details) {
    super(message, details.thrown);
    this.reason = reason;
    this.details = details;
  }

  /** {@return why} */
  public Reason reason() {
    return reason;
  }

  /** {@return the entry or the field at fault; "" if there is none} */
  public String name() {
    return details().name;
  }

  /** {@return whether the same call may succeed later, with nothing else done} */
  public boolean retryable() {
    return switch (reason) {
      case CONFLICT, SNAPSHOT_TOO_OLD, UNAVAILABLE, STORE_CHANGED, LOCK_BUSY, SESSION_EXPIRED, DEADLINE -> true;
      case LIMIT_EXCEEDED, NO_SPACE -> details().retryAfter != null;
      default -> false;
    };
  }

  /** {@return what was found, if the error is about that; else ""} */
  public String found() {
    return details().found;
  }

  /** {@return what was expected, if the error is about that; else ""} */
  public String expected() {
    return details().expected;
  }

  /** {@return the bound that was reached, by its setting's name; "" if none was} */
  public String limit() {
    return details().limit;
  }

  /** {@return the value of {@link #limit}; 0 without one} */
  public long limitValue() {
    return details().limitValue;
  }

  /** {@return when to try again at the earliest; empty: do not} */
  public Optional<Duration> retryAfter() {
    return Optional.ofNullable(details().retryAfter);
  }

  /** {@return of a conflict: what changed meanwhile, and by whom} */
  public List<ConflictCause> causes() {
    return details().causes;
  }

  /** {@return of an unknown commit: what {@link Stm#outcome} and {@code stmctl outcome} take; else ""} */
  public String outcomeWord() {
    return details().outcomeWord;
  }

  /** {@return of a rejection: "validator", "type", "compare", "overflow", "absent" or "kind"; else ""} */
  public String rejectCause() {
    return details().rejectCause;
  }

  /** {@return the validator's rule that said no, as a value; null if it was none} */
  public Object rule() {
    return details().rule;
  }

  private Details details() {
    return details == null ? Details.NONE : details;
  }

  Status.Code code() {
    return details().code;
  }

  /** May the same call be sent again after this answer? */
  boolean isTransient() {
    Details d = details();
    return d.code == Status.Code.UNAVAILABLE || (d.code == Status.Code.RESOURCE_EXHAUSTED && d.retryAfter != null);
  }

  Duration retryAfterOrZero() {
    Duration after = details().retryAfter;
    return after == null ? Duration.ZERO : after;
  }

  /** The same error with other words and another name: of a place that knows more. */
  StmException about(String name, String message) {
    Details copy = details().copy();
    copy.name = name;
    copy.thrown = this;
    return Errors.make(reason, message, copy);
  }

  /** What an error says beside its reason and message. */
  static final class Details {
    static final Details NONE = new Details();

    Status.Code code = Status.Code.INTERNAL;
    String name = "";
    String found = "";
    String expected = "";
    String limit = "";
    long limitValue;
    Duration retryAfter;
    List<ConflictCause> causes = List.of();
    String outcomeWord = "";
    String rejectCause = "";
    Object rule;
    Throwable thrown;
    stmd.v1.Header header;
    stmd.v1.ErrorReason wireReason = stmd.v1.ErrorReason.ERROR_REASON_UNSPECIFIED;

    Details code(Status.Code code) {
      this.code = code;
      return this;
    }

    Details name(String name) {
      this.name = name;
      return this;
    }

    Details copy() {
      Details d = new Details();
      d.code = code;
      d.name = name;
      d.found = found;
      d.expected = expected;
      d.limit = limit;
      d.limitValue = limitValue;
      d.retryAfter = retryAfter;
      d.causes = causes;
      d.outcomeWord = outcomeWord;
      d.rejectCause = rejectCause;
      d.rule = rule;
      d.header = header;
      d.wireReason = wireReason;
      return d;
    }
  }

  stmd.v1.Header header() {
    return details().header;
  }

  stmd.v1.ErrorReason wireReason() {
    return details().wireReason;
  }
}
