// The loop of runs: body, commit, and again until a snapshot still stands.
import type { Core, Sent } from "./core.js";
import { type Committed, Known, NO_META } from "./entries.js";
import {
  Absent,
  BadValue,
  Conflict,
  type ConflictCause,
  type ErrorInfo,
  Rejected,
  RerunDiffers,
  StmError,
  WrongKind,
} from "./errors.js";
import { cancelledFailure, type Failure, internalFailure, lockLost, toDuration } from "./failure.js";
import { decode, ofEntry } from "./codec.js";
import type { Names } from "./names.js";
import { type CommitId, type Entry as WireEntry } from "./proto/stm/v1/common.js";
import {
  RejectCause,
  type Age,
  type CommitRequest,
  type Conflict as WireConflict,
  type Rejected as WireRejected,
} from "./proto/stm/v1/transaction_service.js";
import { Lease, type Session } from "./session.js";
import { after, between, type Call, left, now, passed, sleep } from "./time.js";
import { type Carried, frames, inTransaction, nothingCarried, TxCore } from "./tx.js";
import { Instant } from "./values.js";

const RUNS_AT_ONCE = 3; // the first and two reruns; later ones back off
const RERUN_MS_MIN = 1;
const RERUN_MS_MAX = 100;
const WARN_AT_RUN = 10;
const ONCE_TTL_MS = 24 * 60 * 60 * 1000;

export interface Rerun {
  /** That begins now; 2 is the first rerun. */
  readonly run: number;
  readonly causes: readonly ConflictCause[];
  /** When no entry is to blame: "snapshot-too-old", "store-changed", "session-expired". */
  readonly why: string;
}

/** Of one call: its bounds, which are JavaScript's own. */
export interface CallOptions {
  /** Milliseconds; then it rejects with a DOMException named TimeoutError. undefined: no bound. */
  readonly timeoutMs?: number | undefined;
  /** Ends it: it rejects with the signal's reason, or CommitUnknown when a commit was sent and cannot be asked after in 1 s. */
  readonly signal?: AbortSignal | undefined;
}

export interface TransactOptions extends CallOptions {
  /** "snapshot" is Clojure's: only what was set, deleted or ensured is checked. Default: "serializable". */
  readonly isolation?: "serializable" | "snapshot" | undefined;
  /** Why: comes back in the log, watches and causes of conflicts. */
  readonly label?: string | undefined;
  /** W3C trace context. undefined: OpenTelemetry's, if @opentelemetry/api is there and a span is active. */
  readonly traceparent?: string | undefined;
  /**
   * A key: a second transaction of that key, from any process, within the TTL, runs nothing and returns the first one's version
   * and result (undefined comes back as null). Kept as the entry /.once/KEY, in the same commit.
   */
  readonly once?: string | undefined;
  /** Milliseconds; undefined: 24 hours. */
  readonly onceTtlMs?: number | undefined;
  /** Conflict after this many runs; 0 or undefined: no limit. */
  readonly runsMax?: number | undefined;
  /** The first read may be of what the daemon has in memory; then even a transaction that only reads is committed. */
  readonly staleOk?: boolean | undefined;
  /** For tests: each body runs twice on one snapshot and must read and write the same, else RerunDiffers. */
  readonly rerunCheck?: boolean | undefined;
  /** Hears of each rerun before it begins. */
  readonly onRerun?: ((rerun: Rerun) => void) | undefined;
  /** Called once on success, also when nothing had to be committed; before the result is returned. */
  readonly onCommitted?: ((committed: Committed) => void) | undefined;
}

/** How a transaction went, for metrics. */
export interface Finished {
  readonly label: string;
  readonly runs: number;
  readonly durationMs: number;
  /** undefined: it succeeded. */
  readonly error: unknown;
}

/** What transactions have of their client. */
export interface Surroundings {
  readonly core: Core;
  readonly session: Session;
  readonly traceparent: () => string;
  readonly onTransaction: ((finished: Finished) => void) | undefined;
}

const JOINED = [
  "timeoutMs",
  "signal",
  "isolation",
  "label",
  "traceparent",
  "once",
  "onceTtlMs",
  "runsMax",
  "staleOk",
  "rerunCheck",
  "onRerun",
  "onCommitted",
] as const;

/** Runs `body` with its run's core, or as a part of the transaction that is under way around it. */
export async function transact<T>(
  around: Surroundings,
  body: (core: TxCore) => T | PromiseLike<T>,
  options: TransactOptions,
): Promise<T> {
  const frame = frames.getStore();
  if (frame?.core.isOpen) {
    const outer = frame.core;
    if (outer.client !== around.core) {
      throw inTransaction(
        "a transaction of another client",
        "one transaction is of one daemon: use the outer one's client",
      );
    }
    const differs = JOINED.some((key) => options[key] !== undefined && options[key] !== outer.options[key]);
    if (differs) {
      throw new BadValue(
        "a transaction inside a transaction joins it, and its options differ from the outer one's: give them to the outer one",
        { name: "options" },
      );
    }
    return outer.track(() => outer.join(() => body(outer)));
  }
  const transaction = new Transaction(around, body, options);
  if (around.onTransaction === undefined) return transaction.run();
  const began = now();
  let error: unknown;
  try {
    return await transaction.run();
  } catch (thrown) {
    error = thrown;
    throw thrown;
  } finally {
    const durationMs = now() - began;
    around.onTransaction({ label: options.label ?? "", runs: transaction.runs, durationMs, error });
  }
}

/** What a run came to: the transaction's end, or another run. */
type Over<T> = { readonly value: T } | { readonly error: unknown } | undefined;

class Transaction<T> {
  readonly #call: Call;
  readonly #once: string;
  #core: TxCore;
  #carried: Carried = nothingCarried();
  #run = 0;
  #runsSinceSleep = 0;
  #firstRun = 0;
  #reservation = 0n;
  readonly #sent: Sent = { transactionId: "", resends: 0 };
  #causes: readonly ConflictCause[] = [];
  #why = "";

  constructor(
    private readonly around: Surroundings,
    private readonly body: (core: TxCore) => T | PromiseLike<T>,
    private readonly options: TransactOptions,
  ) {
    this.#call = { deadline: after(options.timeoutMs), signal: options.signal };
    this.#once = options.once === undefined || options.once === "" ? "" : `/.once/${options.once}`;
    this.#core = this.#newRun();
  }

  get runs(): number {
    return this.#run;
  }

  #newRun(carried = nothingCarried()): TxCore {
    const { core, session } = this.around;
    return new TxCore(core, session, this.options, this.#call, this.#run, carried);
  }

  async run(): Promise<T> {
    for (;;) {
      if (this.#call.signal?.aborted) throw cancelledFailure(this.#call.signal).error;
      ++this.#run;
      ++this.#runsSinceSleep;
      if (this.#runsSinceSleep === 1) this.#firstRun = now();
      this.#core = this.#newRun(this.#carried);
      this.#carried = nothingCarried();
      const over = await this.#runOnce();
      if (over === undefined) continue;
      if ("error" in over) throw over.error;
      return over.value;
    }
  }

  async #runOnce(): Promise<Over<T>> {
    if (this.#once !== "") {
      const spent = await this.#core.readOnce(this.#once);
      if (this.#core.signal !== undefined) return this.#afterSignal();
      if (spent !== undefined) return this.#takeSpent(spent);
    }
    let value: T | undefined;
    try {
      value = this.options.rerunCheck === true ? await this.#runTwice() : await this.#runBody();
    } catch (error) {
      return { error };
    }
    if (this.#core.signal !== undefined) return this.#afterSignal();
    if (this.#once !== "") {
      try {
        this.#core.writeOnce(this.#once, value, this.options.onceTtlMs ?? ONCE_TTL_MS);
      } catch (error) {
        return { error: ofEntry(this.#once, error) };
      }
    }
    return this.#commit(value as T);
  }

  #runBody(): Promise<T | undefined> {
    const core = this.#core;
    return core.runBody(() => this.body(core));
  }

  async #runTwice(): Promise<T | undefined> {
    const first = await settled(this.#runBody());
    const before = this.#core;
    if (before.signal?.kind === "rerun") return undefined;
    this.#core = this.#newRun(before.carrySame());
    if (this.#once !== "") await this.#core.readOnce(this.#once);
    const second = await settled(this.#runBody());
    if (this.#core.signal?.kind === "rerun") return undefined;
    const a = before.lines();
    const b = this.#core.lines();
    if ("error" in first) a.push(`error: ${String(first.error)}`);
    if ("error" in second) b.push(`error: ${String(second.error)}`);
    const at = a.findIndex((line, i) => line !== b[i]);
    if (at >= 0 || a.length !== b.length) {
      const index = at >= 0 ? at : a.length;
      const expected = a[index] ?? "nothing more";
      const found = b[index] ?? "nothing more";
      throw new RerunDiffers(
        `rerunCheck: on one snapshot the first run did "${expected}" and the second "${found}": a body must depend on nothing but what it reads; take time, chance and input before the transaction`,
        { expected, found },
      );
    }
    if ("error" in second) throw second.error;
    return second.value;
  }

  #takeSpent(entry: Known): Over<T> {
    try {
      this.options.onCommitted?.({ ...NOT_COMMITTED, version: entry.version, repeated: true });
      return { value: entry.native as T };
    } catch (error) {
      return { error: ofEntry(this.#once, error) };
    }
  }

  async #afterSignal(): Promise<Over<T>> {
    const { signal } = this.#core;
    switch (signal?.kind) {
      case "fail":
        return this.#failed(signal.error);
      case "rerun":
        return this.#again([], signal.failure.reason, false);
      case "retry":
        return this.#sleepUntilChange();
      default:
        return { error: internalFailure("a run ended without a signal: report this").error };
    }
  }

  /** The caller's deadline: after conflicts, they are the reason. */
  #failed(error: Error): Over<T> {
    const isTimeUp = error instanceof DOMException && error.name === "TimeoutError";
    return { error: isTimeUp && this.#runsSinceSleep > 1 ? this.#conflict("the time is up") : error };
  }

  async #sleepUntilChange(): Promise<Over<T>> {
    const request = this.#core.awaitRequest(this.#reservation);
    const answer = await this.around.core.ask(() => ({ $case: "await", value: request }), this.#call);
    if (answer.failure === undefined) {
      const response = answer.ok.response;
      if (response?.$case !== "await") {
        return { error: internalFailure("the daemon's answer is of another call: report this").error };
      }
      this.#takeFresh(response.value.header?.store ?? 0n, response.value.snapshot, response.value.fresh);
    } else if (isStale(answer.failure)) this.#carried = this.#core.carry();
    else return { error: answer.failure.error };
    // It waited for a change, not for its turn: its age begins anew.
    this.#runsSinceSleep = 0;
    this.#reservation = 0n;
    return undefined;
  }

  #takeFresh(store: bigint, snapshot: bigint, fresh: readonly WireEntry[]): void {
    this.#carried = this.#core.carry();
    if (snapshot === 0n) return;
    this.#carried.snapshot = snapshot;
    this.#carried.store = store;
    const { names, mode } = this.around.core;
    for (const message of fresh) {
      const known = new Known(message, names, mode);
      this.#carried.fresh.set(known.name, known);
    }
  }

  #age(): Age | undefined {
    if (this.#runsSinceSleep <= 1) return undefined;
    return {
      sinceFirstRun: toDuration(now() - this.#firstRun),
      runs: this.#runsSinceSleep,
      reservation: this.#reservation,
    };
  }

  async #commit(value: T): Promise<Over<T>> {
    const { core, session } = this.around;
    const run = this.#core;
    if (!run.needsCommit) return this.#committed(NOT_COMMITTED, value);
    const lost = run.checkFences();
    if (lost !== undefined) return { error: lost };
    let lease: Lease | undefined;
    if (run.needsSession) {
      const opened = await session.get(this.#call);
      if (!(opened instanceof Lease)) return { error: opened.error };
      lease = opened;
    }
    let request: CommitRequest;
    try {
      request = run.commitRequest(lease?.id ?? "");
    } catch (error) {
      return { error };
    }
    request.meta = core.meta(this.options.label, this.options.traceparent ?? this.around.traceparent());
    request.age = this.#age();
    const make = (id: CommitId): CommitRequest => ({ ...request, id });
    const answer = await core.commit(make, run.store, this.#call, this.#sent);
    if (answer.failure !== undefined) {
      const { failure } = answer;
      if (isStale(failure)) return this.#again([], failure.reason, false);
      if (failure.reason === "session-expired" && lease !== undefined) {
        session.drop(lease, true);
        return this.#again([], failure.reason, false);
      }
      return this.#failed(failure.error);
    }
    const { outcome, header } = answer.ok;
    switch (outcome?.$case) {
      case "committed": {
        const { version, at } = outcome.value;
        core.position.observeVersion(header?.store ?? 0n, version);
        run.committed(outcome.value);
        return this.#committed(
          {
            version,
            at: Instant.fromSeconds(at?.seconds ?? 0n, at?.nanos ?? 0),
            transactionId: this.#sent.transactionId,
            repeated: false,
            resends: this.#sent.resends,
          },
          value,
        );
      }
      case "conflict":
        return this.#afterConflict(header?.store ?? 0n, outcome.value);
      case "rejected": {
        const isAbsent = outcome.value.cause === RejectCause.REJECT_CAUSE_ABSENT;
        if (isAbsent && run.forgetExistence(core.names.short(outcome.value.name))) {
          this.#carried = run.carry();
          return undefined;
        }
        return { error: rejected(outcome.value, core.names, core) };
      }
      case "fenceLost": {
        const lock = outcome.value.fence?.lock ?? "";
        session.lose(lock, outcome.value.fence?.token ?? 0n);
        return { error: lockLost(core.names.short(lock), "is gone; nothing was changed") };
      }
      default:
        return {
          error: new StmError("the daemon answered a commit with no outcome: use a client as new as the daemon"),
        };
    }
  }

  #committed(committed: Committed, value: T): Over<T> {
    try {
      this.options.onCommitted?.(committed);
      this.#core.callOnCommit(committed);
      return { value };
    } catch (error) {
      return { error };
    }
  }

  #afterConflict(store: bigint, conflict: WireConflict): Promise<Over<T>> {
    this.#reservation = conflict.reservation;
    this.#takeFresh(store, conflict.snapshot, conflict.fresh);
    const causes = conflict.causes.map((cause) => ({
      name: this.around.core.names.short(cause.name),
      version: cause.version,
      by: cause.by ?? NO_META,
    }));
    return this.#again(causes, "", conflict.reservedFor !== undefined);
  }

  /** Before another run: the caller's bounds, its hook, and the pause. */
  async #again(causes: readonly ConflictCause[], why: string, atOnce: boolean): Promise<Over<T>> {
    if (why !== "") this.#carried = this.#core.carry();
    this.#causes = causes;
    this.#why = why;
    const { runsMax, onRerun, label } = this.options;
    if (runsMax !== undefined && runsMax > 0 && this.#run >= runsMax) {
      return { error: this.#conflict(`${this.#run} runs are spent`) };
    }
    if (passed(this.#call.deadline)) return { error: this.#conflict("the time is up") };
    try {
      onRerun?.({ run: this.#run + 1, causes, why });
    } catch (error) {
      return { error };
    }
    // Who sleeps nine times is in nobody's way.
    if (this.#runsSinceSleep + 1 === WARN_AT_RUN) {
      const which = label === undefined || label === "" ? "" : `"${label}" `;
      this.around.core.options.warn(
        `transaction ${which}is at its ${WARN_AT_RUN}th run: ${this.#blame()}: make its body shorter, or commute what it only adds to`,
      );
    }
    if (atOnce || this.#runsSinceSleep + 1 <= RUNS_AT_ONCE) return undefined;
    const doublings = Math.min(this.#runsSinceSleep - RUNS_AT_ONCE, 7);
    const pause = between(RERUN_MS_MIN, Math.min(RERUN_MS_MAX, RERUN_MS_MIN * 2 ** (doublings + 1)));
    const { closing } = this.around.core;
    const whole = await sleep(Math.min(pause, left(this.#call.deadline)), this.#call.signal, closing.signal);
    if (!whole && this.#call.signal?.aborted) return { error: cancelledFailure(this.#call.signal).error };
    if (passed(this.#call.deadline)) return { error: this.#conflict("the time is up") };
    return undefined;
  }

  #blame(): string {
    if (this.#why !== "") return this.#why;
    const first = this.#causes[0];
    if (first === undefined) return "changed meanwhile: what was read";
    const { label, client } = first.by;
    const who = `${client === "" ? "" : ` by ${client}`}${label === "" ? "" : ` (${label})`}`;
    const more = this.#causes.length > 1 ? `, and ${this.#causes.length - 1} more` : "";
    return `changed meanwhile: ${first.name}${who} at version ${first.version}${more}`;
  }

  #conflict(spent: string): Conflict {
    return new Conflict(
      `conflict: ${this.#blame()}, and ${spent}; nothing was changed: allow more, or make the body shorter`,
      { name: this.#causes[0]?.name, causes: this.#causes },
    );
  }
}

const NOT_COMMITTED: Committed = Object.freeze({
  version: 0n,
  at: new Instant(0n),
  transactionId: "",
  repeated: false,
  resends: 0,
});

function isStale(failure: Failure): boolean {
  return failure.reason === "snapshot-too-old" || failure.reason === "store-changed";
}

async function settled<T>(promise: Promise<T>): Promise<{ readonly value: T } | { readonly error: unknown }> {
  try {
    return { value: await promise };
  } catch (error) {
    return { error };
  }
}

const REJECTED = new Map<number, readonly [string, string]>([
  [
    RejectCause.REJECT_CAUSE_VALIDATOR,
    ["validator", "nothing was changed; write a value that the rule takes, or change the rule"],
  ],
  [RejectCause.REJECT_CAUSE_TYPE, ["type", "nothing was changed; use an operation of the value's type"]],
  [RejectCause.REJECT_CAUSE_COMPARE, ["compare", "nothing was changed; read it again and decide anew"]],
  [RejectCause.REJECT_CAUSE_OVERFLOW, ["overflow", "nothing was changed; keep larger numbers as BigInteger"]],
  [RejectCause.REJECT_CAUSE_ABSENT, ["absent", "set it first, or give its handle an init"]],
  [RejectCause.REJECT_CAUSE_KIND, ["kind", "use client.ref for a ref and client.atom for an atom"]],
]);

function rejected(wire: WireRejected, names: Names, core: Core): StmError {
  const name = names.short(wire.name);
  const [because, remedy] = REJECTED.get(wire.cause) ?? ["", "nothing was changed; the same would be rejected again"];
  const said = wire.message === "" ? `found ${wire.found}` : wire.message.replaceAll(wire.name, name);
  // Of some causes the daemon's words begin with the name.
  const text = said.startsWith(`${name}: `) ? said.slice(name.length + 2) : said;
  const info: ErrorInfo = {
    name,
    found: wire.found,
    rejectedBecause: because,
    rule: decode(wire.rule, name, core.mode) as ErrorInfo["rule"],
  };
  const made = because === "absent" ? Absent : because === "kind" ? WrongKind : Rejected;
  return new made(`rejected: ${name}: ${text}: ${remedy}`, info);
}
