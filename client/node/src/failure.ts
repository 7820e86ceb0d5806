// What came of a call that did not succeed: its status code, which says what to do next, and the error for the caller.
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { status, type Metadata } from "@grpc/grpc-js";

import * as errors from "./errors.js";
import type { Names } from "./names.js";
import { ErrorDetail, ErrorReason, type CommitId, type Header } from "./proto/stm/v1/common.js";
import type { Duration } from "./proto/google/protobuf/duration.js";
import { printOutcomeWord } from "./outcome.js";

export interface Failure {
  /** A gRPC status code. */
  readonly code: status;
  readonly error: Error;
  readonly reason: errors.Reason | "deadline" | "cancelled";
  /** The daemon's word; undefined: the client's own failure, or the network's. */
  readonly detail?: ErrorDetail | undefined;
}

export function isTransient(failure: Failure): boolean {
  if (failure.code === status.UNAVAILABLE) return true;
  return failure.code === status.RESOURCE_EXHAUSTED && retryAfterMs(failure) !== undefined;
}

export function retryAfterMs(failure: Failure): number | undefined {
  return failure.error instanceof errors.StmError ? failure.error.retryAfterMs : undefined;
}

export function unavailable(message: string): Failure {
  return { code: status.UNAVAILABLE, reason: "unavailable", error: new errors.Unavailable(message) };
}

/** As the last word to the caller: a broken connection is UNAVAILABLE, whatever its status was. */
export function asUnavailable(failure: Failure): Failure {
  return isTransient(failure) ? failure : unavailable(failure.error.message);
}

export function deadlineFailure(cause: Failure | undefined): Failure {
  const why = cause === undefined ? "" : `: ${cause.error.message}`;
  const error = new DOMException(`the deadline passed; nothing was changed${why}: allow more time`, "TimeoutError");
  return { code: status.DEADLINE_EXCEEDED, reason: "deadline", error };
}

export function cancelledFailure(signal: AbortSignal | undefined): Failure {
  const reason: unknown = signal?.reason;
  const timed = reason instanceof DOMException && reason.name === "TimeoutError";
  const error = reason instanceof Error ? reason : new DOMException("aborted; nothing was changed", "AbortError");
  return timed
    ? { code: status.DEADLINE_EXCEEDED, reason: "deadline", error }
    : { code: status.CANCELLED, reason: "cancelled", error };
}

export function closedFailure(): Failure {
  const error = new DOMException("the client is closed: connect again", "AbortError");
  return { code: status.CANCELLED, reason: "cancelled", error };
}

export function storeChangedFailure(): Failure {
  const error = new errors.StoreChanged(
    "the daemon has another store (wiped, restored, or another daemon): read again",
  );
  return { code: status.OUT_OF_RANGE, reason: "store-changed", error };
}

export function lockLost(name: string, what: string): errors.LockLost {
  return new errors.LockLost(`the grant of ${name} ${what}: acquire the lock again`, { name });
}

export function commitUnknownFailure(id: CommitId, why: string): Failure {
  const word = printOutcomeWord(id);
  const error = new errors.CommitUnknown(
    `a commit was sent and its outcome is not known: ${why}: ask by \`stmctl outcome ${word}\`, or client.outcome`,
    { word },
  );
  return { code: status.UNKNOWN, reason: "commit-unknown", error };
}

export function internalFailure(message: string): Failure {
  return { code: status.INTERNAL, reason: "other", error: new errors.StmError(message) };
}

const BY_DETAIL = new Map<number, errors.Reason>([
  [ErrorReason.ERROR_REASON_SNAPSHOT_TOO_OLD, "snapshot-too-old"],
  [ErrorReason.ERROR_REASON_LIMIT, "limit-exceeded"],
  [ErrorReason.ERROR_REASON_WRONG_KIND, "wrong-kind"],
  [ErrorReason.ERROR_REASON_SESSION_EXPIRED, "session-expired"],
  [ErrorReason.ERROR_REASON_CONTAINER_DOWN, "unavailable"],
  [ErrorReason.ERROR_REASON_DENIED, "denied"],
  [ErrorReason.ERROR_REASON_BAD_VALUE, "bad-value"],
  [ErrorReason.ERROR_REASON_NO_SPACE, "no-space"],
  [ErrorReason.ERROR_REASON_ABSENT, "absent"],
  [ErrorReason.ERROR_REASON_STORE_CHANGED, "store-changed"],
  [ErrorReason.ERROR_REASON_UNSUPPORTED, "unsupported"],
  [ErrorReason.ERROR_REASON_SLOW_READER, "limit-exceeded"],
  [ErrorReason.ERROR_REASON_NOT_READY, "unavailable"],
  [ErrorReason.ERROR_REASON_VALUE_LOST, "value-lost"],
]);

const BY_CODE = new Map<status, errors.Reason>([
  [status.UNAVAILABLE, "unavailable"],
  [status.UNIMPLEMENTED, "unsupported"],
  [status.RESOURCE_EXHAUSTED, "limit-exceeded"],
  [status.INVALID_ARGUMENT, "bad-value"],
  [status.NOT_FOUND, "absent"],
  [status.PERMISSION_DENIED, "denied"],
  [status.UNAUTHENTICATED, "denied"],
  [status.DATA_LOSS, "value-lost"],
]);

const CLASSES = new Map<errors.Reason, new (message: string, info: errors.ErrorInfo) => errors.StmError>([
  ["snapshot-too-old", errors.SnapshotTooOld],
  ["limit-exceeded", errors.LimitExceeded],
  ["wrong-kind", errors.WrongKind],
  ["session-expired", errors.SessionExpired],
  ["unavailable", errors.Unavailable],
  ["denied", errors.Denied],
  ["bad-value", errors.BadValue],
  ["no-space", errors.NoSpace],
  ["absent", errors.Absent],
  ["store-changed", errors.StoreChanged],
  ["unsupported", errors.Unsupported],
  ["value-lost", errors.ValueLost],
]);

export function durationMs(duration: Duration): number {
  return Number(duration.seconds) * 1000 + duration.nanos / 1e6;
}
export function toDuration(ms: number): Duration {
  const whole = Math.max(0, Math.ceil(ms * 1e6));
  return { seconds: BigInt(Math.floor(whole / 1e9)), nanos: whole % 1e9 };
}

/** What the daemon said of a call, with the client's own names in it. */
export function fromWire(code: number, message: string, detail: ErrorDetail | undefined, names: Names): Failure {
  // eslint-disable-next-line @typescript-eslint/no-unsafe-enum-assignment -- of the wire; one that gRPC has not matches none
  const known = code as status;
  const reason = (detail && BY_DETAIL.get(detail.reason)) ?? BY_CODE.get(known) ?? "other";
  const info: errors.ErrorInfo = {};
  if (detail !== undefined) {
    const name = names.short(detail.name);
    if (name !== detail.name) message = message.replaceAll(detail.name, name);
    info.name = name;
    info.found = detail.found;
    info.expected = detail.expected;
    info.limit = detail.limit;
    info.limitValue = detail.limitValue;
    if (detail.retryAfter !== undefined) info.retryAfterMs = durationMs(detail.retryAfter);
  }
  const made = new (CLASSES.get(reason) ?? errors.StmError)(message, info);
  return { code: known, reason, error: made, detail };
}

/** Of a call of grpc-js. */
export function fromGrpc(
  error: { code: status; details: string; metadata?: Metadata | undefined },
  names: Names,
): Failure {
  const detail = detailOf(error.metadata);
  let message = error.details;
  // gRPC's own answer for a call that the daemon does not have.
  if (error.code === status.UNIMPLEMENTED && detail === undefined) {
    message = `the daemon is older than this client and lacks the call (${message}): run a newer stmd`;
  }
  if (error.code === status.DEADLINE_EXCEEDED) return deadlineFailure(undefined);
  return fromWire(error.code, message, detail, names);
}

/** The ErrorDetail among the details of a google.rpc.Status in grpc-status-details-bin. */
function detailOf(metadata: Metadata | undefined): ErrorDetail | undefined {
  const bytes = metadata?.get("grpc-status-details-bin")[0];
  if (!(bytes instanceof Uint8Array)) return undefined;
  try {
    for (const any of fieldsOf(bytes, 3)) {
      const url = fieldsOf(any, 1)[0];
      const value = fieldsOf(any, 2)[0];
      if (url === undefined || !Buffer.from(url).toString().endsWith("/stm.v1.ErrorDetail")) continue;
      return ErrorDetail.decode(value ?? new Uint8Array());
    }
  } catch {
    // Not what the daemon writes: the code and the message are left.
  }
  return undefined;
}

function fieldsOf(bytes: Uint8Array, field: number): Uint8Array[] {
  const reader = new BinaryReader(bytes);
  const found: Uint8Array[] = [];
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag();
    if (number === field && wireType === WireType.LengthDelimited) found.push(reader.bytes());
    else reader.skip(wireType, number);
  }
  return found;
}

export function headerOf(failure: Failure): Header | undefined {
  return failure.detail?.header;
}
