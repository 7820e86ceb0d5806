// Locks: calls that are commits of their own, each exactly once. A Held is this client's belief: what a commit may do under a
// lock is decided by tx.fence(held) alone.
import { CallId, type Core, type OnceOptions, Outage } from "./core.js";
import { BadValue, Deadlock, LockBusy, StmError, UpgradeRefused } from "./errors.js";
import { cancelledFailure, type Failure, lockLost, toDuration, unavailable } from "./failure.js";
import { checkName, type Names } from "./names.js";
import type { CommitId } from "./proto/stm/v1/common.js";
import {
  LockMode as WireMode,
  LockOutcome,
  LockServiceService,
  type AcquireLockResponse,
  type Lock as WireLock,
  type LockHold as WireHold,
  type ReleaseLockRequest,
} from "./proto/stm/v1/lock_service.js";
import { Grant, Lease, type Session } from "./session.js";
import { after, type Call, FOREVER, left, passed, sleep } from "./time.js";
import type { CallOptions } from "./transact.js";
import { checkOutside } from "./tx.js";
import { Instant } from "./values.js";

// Of giving back, in the background, what nobody waits for any more; then its session's end does it.
const GIVE_UP_MS_MAX = 10_000;

export interface LockOptions {
  /** With others who read; else alone. Who holds it alone may have it shared too; the other way is UpgradeRefused. */
  readonly shared?: boolean | undefined;
  /** Not 0: a semaphore of so many permits, the same for all who use it. */
  readonly permitsMax?: number | undefined;
  /** How many of them are taken; 0 or undefined: one. */
  readonly permits?: number | undefined;
  /**
   * Reentrant for the same owner of this client: each acquire is a hold, each Held releases one. "": the client itself, so
   * tasks that are to exclude one another name themselves. At most 256 bytes.
   */
  readonly owner?: string | undefined;
}

/** `timeoutMs` is of the whole call: then TimeoutError, and the place in the queue is given up. */
export interface AcquireOptions extends CallOptions {
  /** Milliseconds. undefined: until it is granted. 0: at once, past those who wait, or LockBusy. Else LockBusy after so long. */
  readonly waitMs?: number | undefined;
  /** Why, kept with the commit. */
  readonly label?: string | undefined;
}

export type LockMode = "exclusive" | "shared" | "permits";

/** One who holds a lock, or waits for it. */
export interface LockHold {
  readonly sessionId: string;
  readonly owner: string;
  readonly mode: LockMode;
  /** 0n: it waits. */
  readonly token: bigint;
  readonly holds: number;
  readonly permits: number;
  /** When it was granted, or began to wait. */
  readonly since: Instant;
}

/** A lock as an operator sees it. */
export interface LockInfo {
  readonly name: string;
  readonly holders: readonly LockHold[];
  /** In order; the first 1000, and none in a listing. */
  readonly queue: readonly LockHold[];
  /** 0: it is no semaphore. */
  readonly permitsMax: number;
  readonly lastToken: bigint;
}

function holdOf(hold: WireHold): LockHold {
  const mode =
    hold.mode === WireMode.LOCK_MODE_SHARED
      ? "shared"
      : hold.mode === WireMode.LOCK_MODE_PERMITS
        ? "permits"
        : "exclusive";
  return {
    sessionId: hold.sessionId,
    owner: hold.owner,
    mode,
    token: hold.token,
    holds: hold.holds,
    permits: hold.permits,
    since: Instant.fromSeconds(hold.since?.seconds ?? 0n, hold.since?.nanos ?? 0),
  };
}
export function lockInfoOf(lock: WireLock | undefined, names: Names): LockInfo {
  return {
    name: names.short(lock?.name ?? ""),
    holders: lock?.holders.map(holdOf) ?? [],
    queue: lock?.queue.map(holdOf) ?? [],
    permitsMax: lock?.permitsMax ?? 0,
    lastToken: lock?.lastToken ?? 0n,
  };
}

function who(hold: WireHold): string {
  return hold.owner === "" ? `session ${hold.sessionId}` : `${hold.owner} (session ${hold.sessionId})`;
}
function holders(holds: readonly WireHold[]): string {
  const first = holds[0];
  if (first === undefined) return "others";
  return `${who(first)}${holds.length > 1 ? " and others" : ""}`;
}

/** One hold of a lock. `await using held = ...` releases it at the block's end. */
export class Held implements AsyncDisposable {
  readonly #core: Core;
  readonly #session: Session;
  /** @internal */
  readonly grant: Grant;

  /** @internal */
  constructor(core: Core, session: Session, grant: Grant) {
    this.#core = core;
    this.#session = session;
    this.grant = grant;
  }

  get name(): string {
    return this.grant.name;
  }
  /** What fences name; grows with each grant of the lock. `await` changes it. */
  get token(): bigint {
    return this.grant.token;
  }
  /** Aborted when the grant is gone, by the daemon's word or because the session's time is over by this client's own clock;
   * not by a release. Its reason is LockLost. */
  get signal(): AbortSignal {
    return this.grant.signal;
  }
  /** Gone, or released. Stays true. */
  get lost(): boolean {
    return this.grant.over;
  }

  /**
   * Gives it back, once.
   * @throws LockLost: it was gone, or released, before. Unavailable: no daemon answered, and it may be called again.
   */
  async release(options: CallOptions = {}): Promise<void> {
    checkOutside(`release of ${this.name}`);
    const { grant } = this;
    // One at a time: the second finds what the first came to.
    const before = grant.releasing;
    const mine = (async () => {
      await before;
      return this.#release({ deadline: after(options.timeoutMs), signal: options.signal });
    })();
    grant.releasing = mine.catch(() => undefined);
    await mine;
  }

  /** Releases it if it is still held. What cannot be released goes on in the background, 10 s at most; then its session's end does it. */
  async [globalThis.Symbol.asyncDispose](): Promise<void> {
    try {
      await this.release({ timeoutMs: 1000 });
    } catch (error) {
      if (!(error instanceof StmError) && !(error instanceof DOMException)) throw error;
      if (this.grant.released) return;
      const { closing } = this.#core;
      this.#session.inBackground(this.#release({ deadline: after(GIVE_UP_MS_MAX), signal: closing.signal }));
    }
  }

  async #release(call: Call): Promise<void> {
    const { grant } = this;
    if (grant.released) throw lockLost(grant.name, "was released before");
    if (grant.over) {
      this.#session.remove(grant);
      grant.setReleased();
      throw lockLost(grant.name, "is gone");
    }
    const answer = await sendRelease(
      this.#core,
      { call, outageMsMax: this.#core.options.unavailableTimeoutMs, over: () => grant.lease.over },
      grant.release,
      { name: grant.lock, sessionId: grant.lease.id, owner: grant.owner, token: grant.token, acquireId: undefined },
    );
    const failure = answer.failure;
    const over = grant.lease.over || failure?.reason === "session-expired";
    // No verdict: it may be asked for again.
    if (failure !== undefined && !over) throw failure.error;
    this.#session.remove(grant);
    grant.setReleased();
    if (answer.failure !== undefined) throw lockLost(grant.name, "is gone");
    const { outcome } = answer.ok;
    if (outcome !== LockOutcome.LOCK_OUTCOME_RELEASED && outcome !== LockOutcome.LOCK_OUTCOME_STILL_HELD) {
      throw lockLost(grant.name, "is gone");
    }
  }

  /**
   * Of an exclusive hold. Gives the lock up with all its holds, awaits a signal, and has the lock again, however long that takes.
   * False: `timeoutMs` was over before a signal came. @throws LockLost: it is not held any more.
   */
  async await(condition: string, timeoutMs?: number): Promise<boolean> {
    checkOutside(`await of ${this.name}`);
    const { grant } = this;
    if (this.lost) throw lockLost(this.name, "is gone");
    const wait = after(timeoutMs);
    // For as long as its session lives: whoever gave up would leave a place that nobody takes the lock from.
    const answer = await this.#core.sendOnce(
      LockServiceService.awaitCondition,
      new CallId(),
      { call: FOREVER, outageMsMax: Infinity, over: () => grant.lease.over },
      (id) => ({
        id,
        lock: { lock: grant.lock, token: grant.token },
        condition,
        sessionId: grant.lease.id,
        owner: grant.owner,
        wait: wait === Infinity ? undefined : toDuration(left(wait)),
        meta: this.#core.meta(),
      }),
    );
    if (answer.failure !== undefined) {
      if (!grant.lease.over && answer.failure.reason !== "session-expired") throw answer.failure.error;
      throw lockLost(this.name, "is gone with its session");
    }
    if (answer.ok.outcome !== LockOutcome.LOCK_OUTCOME_GRANTED) {
      this.#session.lose(grant.lock, grant.token);
      throw lockLost(this.name, "is gone");
    }
    this.#session.retoken(grant.lock, grant.token, answer.ok.token);
    return answer.ok.signalled;
  }

  /** Wakes the first who awaits. How many were woken. @throws LockLost */
  notify(condition: string): Promise<number> {
    return this.#wake(condition, false);
  }
  /** Wakes all who await. How many were woken. @throws LockLost */
  notifyAll(condition: string): Promise<number> {
    return this.#wake(condition, true);
  }
  async #wake(condition: string, all: boolean): Promise<number> {
    checkOutside(`notify of ${this.name}`);
    const { grant } = this;
    if (this.lost) throw lockLost(this.name, "is gone");
    const answer = await this.#core.sendOnce(
      LockServiceService.signalCondition,
      new CallId(),
      {
        call: FOREVER,
        outageMsMax: this.#core.options.unavailableTimeoutMs,
        over: () => grant.lease.over,
      },
      (id) => ({ id, lock: { lock: grant.lock, token: grant.token }, condition, all, meta: this.#core.meta() }),
    );
    if (answer.failure !== undefined) throw answer.failure.error;
    if (answer.ok.outcome !== LockOutcome.LOCK_OUTCOME_SIGNALLED) throw lockLost(this.name, "is gone");
    return answer.ok.woken;
  }
}

function sendRelease(core: Core, options: OnceOptions, id: CallId, what: Omit<ReleaseLockRequest, "id" | "meta">) {
  return core.sendOnce(LockServiceService.releaseLock, id, options, (commit: CommitId) => ({
    ...what,
    id: commit,
    meta: core.meta(),
  }));
}

/** A lock's handle: no I/O until it is acquired. */
export class Lock {
  readonly #core: Core;
  readonly #session: Session;
  readonly #options: LockOptions;

  /** @internal */
  constructor(
    core: Core,
    session: Session,
    readonly name: string,
    options: LockOptions,
  ) {
    this.#core = core;
    this.#session = session;
    this.#options = options;
  }

  /**
   * Waits its turn, until it is granted or the options say otherwise.
   * @throws LockBusy: not within waitMs. UpgradeRefused, Deadlock. TimeoutError or the signal's reason: given up.
   */
  async acquire(options: AcquireOptions = {}): Promise<Held> {
    const { name } = this;
    const { shared = false, permitsMax = 0, permits = 0, owner = "" } = this.#options;
    checkOutside(`acquire of ${name}`);
    checkName(name);
    if (shared && permitsMax > 0) {
      throw new BadValue(`${name}: a semaphore is not shared: leave out shared, or permitsMax`, { name });
    }
    if (permits > 0 && permitsMax === 0) {
      throw new BadValue(`${name}: permits are a semaphore's: say its permitsMax, too`, { name });
    }
    const core = this.#core;
    const session = this.#session;
    const lock = core.names.full(name);
    const call: Call = { deadline: after(options.timeoutMs), signal: options.signal };
    const wait = after(options.waitMs);
    const mode =
      permitsMax > 0 ? WireMode.LOCK_MODE_PERMITS : shared ? WireMode.LOCK_MODE_SHARED : WireMode.LOCK_MODE_EXCLUSIVE;
    const sessions = new Outage(core.options.unavailableTimeoutMs);
    for (;;) {
      const lease = await session.get(call);
      if (!(lease instanceof Lease)) throw lease.error;
      const id = new CallId();
      sessions.begin();
      const answer = await core.sendOnce(
        LockServiceService.acquireLock,
        id,
        { call, outageMsMax: core.options.unavailableTimeoutMs, over: () => lease.over },
        (commit) => ({
          id: commit,
          name: lock,
          sessionId: lease.id,
          owner,
          mode,
          permits,
          permitsMax,
          wait: wait === Infinity ? undefined : toDuration(left(wait)),
          meta: core.meta(options.label),
        }),
      );
      let failure: Failure | undefined = answer.failure;
      if (failure === undefined && lease.over) failure = unavailable("its session is over");
      if (failure !== undefined) {
        const expired = failure.reason === "session-expired";
        if (!expired && !lease.over) {
          if (id.sent) this.#giveUp(lease, lock, owner, id.id);
          throw failure.error;
        }
        // Its place went with the session: it begins again, at the queue's end, with another.
        session.drop(lease, expired);
        if (call.signal?.aborted || passed(call.deadline) || core.closing.signal.aborted) throw failure.error;
        sessions.fail(failure);
        if (sessions.over) throw failure.error;
        const whole = await sleep(Math.min(sessions.pauseMs, left(call.deadline)), call.signal, core.closing.signal);
        if (!whole && call.signal?.aborted) throw cancelledFailure(call.signal).error;
        continue;
      }
      if (answer.failure !== undefined) continue;
      return this.#granted(lease, lock, owner, answer.ok);
    }
  }

  #granted(lease: Lease, lock: string, owner: string, answer: AcquireLockResponse): Held {
    const { name } = this;
    switch (answer.outcome) {
      case LockOutcome.LOCK_OUTCOME_GRANTED: {
        const grant = new Grant(lease, lock, name, owner, answer.token);
        this.#session.add(grant);
        return new Held(this.#core, this.#session, grant);
      }
      case LockOutcome.LOCK_OUTCOME_BUSY: {
        const found = holders(answer.inTheWay);
        throw new LockBusy(`${name} is held by ${found}: wait longer, or try again later`, { name, found });
      }
      case LockOutcome.LOCK_OUTCOME_UPGRADE_REFUSED: {
        const found = holders(answer.inTheWay);
        throw new UpgradeRefused(
          `${name} is held shared by this owner and not alone (${found}), and cannot become exclusive: release the shared hold first`,
          { name, found },
        );
      }
      case LockOutcome.LOCK_OUTCOME_DEADLOCK: {
        const { names } = this.#core;
        const found = answer.inTheWay
          .map((step) => `${who(step)} holds ${names.short(step.lock)} and waits for ${names.short(step.waitsFor)}`)
          .join(", ");
        throw new Deadlock(
          `waiting for ${name} would be a deadlock: ${found}: release what you hold, and acquire locks in one order everywhere`,
          { name, found },
        );
      }
      case LockOutcome.LOCK_OUTCOME_LEFT:
        throw lockLost(name, "came and was taken, or its place in the queue was given up by another");
      default:
        throw new StmError(
          `${name}: the daemon answered with no outcome that is known here: use a client as new as the daemon`,
          { name },
        );
    }
  }

  /** Nobody waits for this acquire any more: it is to leave no place behind, and no hold. */
  #giveUp(lease: Lease, lock: string, owner: string, acquire: CommitId): void {
    const call: Call = { deadline: after(GIVE_UP_MS_MAX), signal: this.#core.closing.signal };
    this.#session.inBackground(
      sendRelease(this.#core, { call, outageMsMax: Infinity, over: () => lease.over }, new CallId(), {
        name: lock,
        sessionId: lease.id,
        owner,
        token: 0n,
        acquireId: { ...acquire, resend: true },
      }),
    );
  }

  /** Acquires it, runs `work`, and releases it, whatever came of it. */
  async with<T>(work: (held: Held) => T | PromiseLike<T>, options: AcquireOptions = {}): Promise<T> {
    const held = await this.acquire(options);
    try {
      return await work(held);
    } finally {
      await held[globalThis.Symbol.asyncDispose]();
    }
  }
}
