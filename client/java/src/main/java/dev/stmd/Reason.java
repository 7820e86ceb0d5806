package dev.stmd;

import java.util.Locale;

/** Why a call failed. The word of a reason ({@link #word}) is the same in every language. */
public enum Reason {
  /** Not stmd's to name: an internal error, of the daemon or the client. */
  OTHER,
  /** Runs or time are spent: {@link StmException#causes} says which entries changed, and by whom. */
  CONFLICT,
  /** A validator or an operation said no; nothing was changed. */
  REJECTED,
  /** A grant is gone, or a place in a lock's queue. */
  FENCE_LOST,
  /** The session that held locks and ephemeral entries is over. */
  SESSION_EXPIRED,
  /** A commit was sent and no answer came: {@link StmException#outcomeWord} asks later. */
  COMMIT_UNKNOWN,
  /** Older than the history that is kept. */
  SNAPSHOT_TOO_OLD,
  /** A bound was reached: {@link StmException#limit} names it. */
  LIMIT_EXCEEDED,
  /** No daemon answered within the client's unavailable timeout. */
  UNAVAILABLE,
  /** The store was wiped or restored. */
  STORE_CHANGED,
  /** The daemon's disk is full. */
  NO_SPACE,
  /** The daemon is older than this client. */
  UNSUPPORTED,
  /** One entry's external value is lost. */
  VALUE_LOST,
  /** There is no such entry. */
  ABSENT,
  /** A ref was used as an atom, or an atom as a ref. */
  WRONG_KIND,
  /** Not what the type, the call, or the daemon takes. */
  BAD_VALUE,
  /** The daemon does not allow it. */
  DENIED,
  /** A {@link Tx} was used outside its body. */
  TRANSACTION_CLOSED,
  /** I/O inside a transaction's body. */
  IN_TRANSACTION,
  /** {@link TransactOptions#rerunCheck}: a body is no function of what it reads. */
  RERUN_DIFFERS,
  /** Others have the lock, and had it for all of the wait. */
  LOCK_BUSY,
  /** Others read: the shared hold is to be released before the exclusive one is acquired. */
  UPGRADE_REFUSED,
  /** It would wait for itself; the message tells the cycle. */
  DEADLOCK,
  /** The caller's own timeout. */
  DEADLINE,
  /** The caller's thread was interrupted, or the client closed. */
  CANCELLED;

  private final String word = name().toLowerCase(Locale.ROOT).replace('_', '-');

  /** {@return as "commit-unknown"} */
  public String word() {
    return word;
  }
}
