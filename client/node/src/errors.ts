// What can go wrong, as classes: each is of one reason, and its fields come from the daemon's ErrorDetail, never
// from text. Deadlines and cancellation stay JavaScript's own: a DOMException named TimeoutError, and the
// signal's reason (an AbortError).
import type { Value } from "./values.js";

/** The words that every language has for what went wrong. */
export type Reason =
  | "conflict"
  | "rejected"
  | "fence-lost"
  | "session-expired"
  | "commit-unknown"
  | "snapshot-too-old"
  | "limit-exceeded"
  | "unavailable"
  | "store-changed"
  | "no-space"
  | "unsupported"
  | "value-lost"
  | "absent"
  | "wrong-kind"
  | "bad-value"
  | "denied"
  | "transaction-closed"
  | "in-transaction"
  | "rerun-differs"
  | "lock-busy"
  | "upgrade-refused"
  | "deadlock"
  | "other";

/** Who committed, and why: kept in the log, and told by watches, histories and causes of conflicts. */
export interface Meta {
  readonly label: string;
  /** The client's name. */
  readonly client: string;
  /** W3C trace context; "": none. */
  readonly traceparent: string;
  /** As the daemon knows the caller. */
  readonly principal: string;
}

/** An entry, or a listed prefix, that was changed meanwhile. */
export interface ConflictCause {
  readonly name: string;
  readonly version: bigint;
  readonly by: Meta;
}

export interface ErrorInfo {
  /** The entry, lock or option at fault. */
  name?: string | undefined;
  found?: string | undefined;
  expected?: string | undefined;
  /** The bound that was reached, by the name of its setting, and its value. */
  limit?: string | undefined;
  limitValue?: bigint | undefined;
  /** Milliseconds; undefined: the daemon does not say that it may be tried again. */
  retryAfterMs?: number | undefined;
  /** Of Conflict. */
  causes?: readonly ConflictCause[] | undefined;
  /** Of Rejected: "validator", "type", "compare", "overflow". */
  rejectedBecause?: string | undefined;
  /** Of Rejected by a validator: the rule that said no. */
  rule?: Value | undefined;
  /** Of CommitUnknown: what client.outcome and `stmctl outcome` take. */
  word?: string | undefined;
}

/** All errors of this package. `retryable`: the same call may succeed later as it is. */
export class StmError extends Error {
  readonly reason: Reason = "other";
  readonly retryable: boolean = false;
  /** What is at fault: an entry's name, as in all languages; where there is none, the class's, as JavaScript has it. */
  override readonly name: string;
  readonly found: string;
  readonly expected: string;
  readonly limit: string;
  readonly limitValue: bigint;
  readonly retryAfterMs: number | undefined;
  readonly causes: readonly ConflictCause[];
  readonly rejectedBecause: string;
  readonly rule: Value | undefined;
  readonly word: string;

  constructor(message: string, info: ErrorInfo = {}, options?: ErrorOptions) {
    super(message, options);
    this.name = info.name === undefined || info.name === "" ? new.target.name : info.name;
    this.found = info.found ?? "";
    this.expected = info.expected ?? "";
    this.limit = info.limit ?? "";
    this.limitValue = info.limitValue ?? 0n;
    this.retryAfterMs = info.retryAfterMs;
    this.causes = info.causes ?? [];
    this.rejectedBecause = info.rejectedBecause ?? "";
    this.rule = info.rule;
    this.word = info.word ?? "";
  }
}

/** Others changed what the transaction read, and its runs or its time are spent. Nothing was changed. */
export class Conflict extends StmError {
  override readonly reason = "conflict";
  override readonly retryable = true;
}
/** A validator or an operation said no. Nothing was changed, and the same would be rejected again. */
export class Rejected extends StmError {
  override readonly reason = "rejected";
}
/** A grant is gone. Of a transaction that was fenced by it: nothing was changed. */
export class LockLost extends StmError {
  override readonly reason = "fence-lost";
}
/** The session is over, with its locks and ephemeral entries. */
export class SessionExpired extends StmError {
  override readonly reason = "session-expired";
}
/** A commit was sent, and whether it took effect is not known: ask by client.outcome(error.word). */
export class CommitUnknown extends StmError {
  override readonly reason = "commit-unknown";
}
/** The past that was asked for is not kept any more. */
export class SnapshotTooOld extends StmError {
  override readonly reason = "snapshot-too-old";
}
/** A bound was reached: `limit` names it, `limitValue` is it. */
export class LimitExceeded extends StmError {
  override readonly reason = "limit-exceeded";
}
/** No daemon answered, or a container is away. */
export class Unavailable extends StmError {
  override readonly reason = "unavailable";
  override readonly retryable = true;
}
/** The daemon has another store: wiped, restored, or another daemon. */
export class StoreChanged extends StmError {
  override readonly reason = "store-changed";
  override readonly retryable = true;
}
/** The daemon's disk is full. */
export class NoSpace extends StmError {
  override readonly reason = "no-space";
}
/** The daemon lacks the call, rule or operation. */
export class Unsupported extends StmError {
  override readonly reason = "unsupported";
}
/** A container lost a value that was committed. */
export class ValueLost extends StmError {
  override readonly reason = "value-lost";
}
/** There is no such entry. */
export class Absent extends StmError {
  override readonly reason = "absent";
}
/** A ref was used as an atom, or an atom as a ref. */
export class WrongKind extends StmError {
  override readonly reason = "wrong-kind";
}
/** A value, name or option that is none. */
export class BadValue extends StmError {
  override readonly reason = "bad-value";
}
/** The daemon does not allow it. */
export class Denied extends StmError {
  override readonly reason = "denied";
}
/** A Tx was used outside its body's run. */
export class TransactionClosed extends StmError {
  override readonly reason = "transaction-closed";
}
/** I/O inside a transaction's body, which may run several times. */
export class InTransaction extends StmError {
  override readonly reason = "in-transaction";
}
/** With rerunCheck: two runs of a body on one snapshot differed. */
export class RerunDiffers extends StmError {
  override readonly reason = "rerun-differs";
}
/** Others hold the lock. */
export class LockBusy extends StmError {
  override readonly reason = "lock-busy";
  override readonly retryable = true;
}
/** A shared hold cannot become exclusive while others read. */
export class UpgradeRefused extends StmError {
  override readonly reason = "upgrade-refused";
}
/** To wait would be to wait for oneself. */
export class Deadlock extends StmError {
  override readonly reason = "deadlock";
}
