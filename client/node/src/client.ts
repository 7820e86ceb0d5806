// Client, handles and Tx: the names that users write.
import { basename } from "node:path";

import { encode } from "./codec.js";
import { CallId, Core } from "./core.js";
import {
  type Commit,
  commitOf,
  type Committed,
  type Definition,
  type Entry,
  Handle,
  Known,
  type RefOptions,
  sameWire,
} from "./entries.js";
import { BadValue, StmError } from "./errors.js";
import { commitUnknownFailure, durationMs, type Failure, internalFailure } from "./failure.js";
import { type Held, Lock, type LockInfo, lockInfoOf, type LockOptions } from "./locks.js";
import { checkName, checkPrefix, Names } from "./names.js";
import { type Container, Offer } from "./offer.js";
import type { Op } from "./op.js";
import { parseOutcomeWord } from "./outcome.js";
import { LockOutcome, LockServiceService } from "./proto/stm/v1/lock_service.js";
import type { Entry as WireEntry, ReadPoint } from "./proto/stm/v1/common.js";
import { RefServiceService } from "./proto/stm/v1/ref_service.js";
import { SessionServiceService } from "./proto/stm/v1/session_service.js";
import type { PipelineAnswer, PipelineCall } from "./proto/stm/v1/transaction_service.js";
import type { Class } from "./records.js";
import { Lease, Session } from "./session.js";
import { type RecordOf, records, type RecordsOptions, watch, type WatchOptions } from "./streams.js";
import { after, type Call, FOREVER } from "./time.js";
import { type CallOptions, type Finished, type Surroundings, transact, type TransactOptions } from "./transact.js";
import { Link } from "./transport.js";
import { absent, checkOutside, type CommuteResult, entryOf, type TxCore, wrongKind } from "./tx.js";
import { Instant } from "./values.js";

const DEFAULT_ADDRESS = "127.0.0.1:7440";
const UNAVAILABLE_TIMEOUT_MS = 10_000;
const PAGE_MAX = 1000;

/** A literal's type as a value may become: 0 is any number. */
export type Widen<T> = T extends number
  ? number
  : T extends string
    ? string
    : T extends boolean
      ? boolean
      : T extends bigint
        ? bigint
        : T;

export interface ConnectOptions {
  /** Several by comma; "host:port" or "unix:/path". undefined or "": STM_ADDRESS, else 127.0.0.1:7440. */
  readonly address?: string | undefined;
  /** "/team-a": every name is below it; the client sees names without it. */
  readonly prefix?: string | undefined;
  /** Kept with each commit. undefined: the program's name. */
  readonly clientName?: string | undefined;
  /** Milliseconds that calls and connect wait out an outage. Default: 10 000. */
  readonly unavailableTimeoutMs?: number | undefined;
  /** Of the session that locks and ephemeral entries are held by, milliseconds; undefined: the daemon's default. */
  readonly sessionTtlMs?: number | undefined;
  /** "number": integers past 2^53 are BadValue when read. "bigint": all integers are read as bigint. Default: "number". */
  readonly ints?: "number" | "bigint" | undefined;
  /** "keyword": keys of plain objects are keywords, both ways. Default: "string". */
  readonly keys?: "string" | "keyword" | undefined;
  /** Takes the client's own warnings (a transaction at its 10th run). undefined: process.emitWarning. */
  readonly warn?: ((message: string) => void) | undefined;
  /** Hears how each transaction went, for metrics. */
  readonly onTransaction?: ((finished: Finished) => void) | undefined;
}

/** A name with an init and a type: a handle, which does no I/O when it is made. */
abstract class Named<T> {
  /** @internal */
  readonly handle: Handle;
  /** @internal */
  protected readonly around: Surroundings;
  declare protected readonly _type: T;

  /** @internal */
  constructor(around: Surroundings, handle: Handle) {
    this.around = around;
    this.handle = handle;
  }
  get name(): string {
    return this.handle.name;
  }

  /** What is there, else its init. @throws Absent: it is absent, and has no init. WrongKind. InTransaction. */
  async get(options: ReadOptions = {}): Promise<T> {
    const found = await readOutside(this.handle, options);
    if (found !== undefined) return found as T;
    const { init } = this.handle;
    if (init === undefined) throw absent(this.name);
    return this.handle.checked(this.handle.decode(init)) as T;
  }
  /** undefined: absent; an init is not looked at. */
  async find(options: ReadOptions = {}): Promise<T | undefined> {
    return (await readOutside(this.handle, options)) as T | undefined;
  }
  /** Deletes the entry, in a transaction of its own. */
  async delete(options: TransactOptions = {}): Promise<void> {
    await this.alone("delete", options, (tx) => {
      tx.delete(this.handle);
    });
  }
  /** Replaces validator, TTL and session, whole, in a commit of its own. @throws Rejected: the present value does not fit. */
  async define(definition: Definition, options: TransactOptions = {}): Promise<void> {
    await this.alone("define", options, (tx) => {
      tx.define(this.handle, definition);
    });
  }
  /** undefined: absent. `validator` is a value. */
  async definition(options: CallOptions = {}): Promise<Definition | undefined> {
    checkOutside(`reading ${this.name} by its handle`);
    checkName(this.name);
    const { core } = this.handle;
    const entry = await readEntry(core, this.name, { at: undefined, seen: core.seen() }, true, callOf(options));
    if (entry.value?.kind === undefined) return undefined;
    const definition = entry.definition;
    return {
      validator: this.handle.decode(definition?.validator),
      ttlMs: definition?.ttl && durationMs(definition.ttl),
      ephemeral: definition !== undefined && definition.sessionId !== "",
      container: definition === undefined || definition.container === "" ? undefined : definition.container,
    };
  }
  /** Its newest values, beginning with the present one; values between may be left out. undefined: absent. */
  async *follow(options: CallOptions = {}): AsyncGenerator<T | undefined, void, undefined> {
    const { core } = this.handle;
    for await (const commit of watch(core, [this.name], { ...options, initial: true, conflate: true })) {
      if (commit.initial && commit.changes.length === 0) yield undefined;
      for (const change of commit.changes) {
        if (change.kind === "defined") continue;
        yield (change.after === undefined ? undefined : this.handle.checked(change.after)) as T | undefined;
      }
    }
  }
  /** The commits that changed it, newest first, from the log as far as it goes. */
  async history(options: HistoryOptions = {}): Promise<readonly Commit[]> {
    checkOutside(`history of ${this.name}`);
    checkName(this.name);
    const { core } = this.handle;
    const answer = await core.unary(
      RefServiceService.getHistory,
      () => ({
        name: core.names.full(this.name),
        beforeVersion: options.beforeVersion ?? 0n,
        limit: options.limit ?? 100,
        seen: core.seen(),
      }),
      callOf(options),
    );
    const response = ok(answer);
    core.position.observe(response.header);
    return response.commits.map((event) => commitOf(event, core));
  }

  /** @internal */
  protected async alone<R>(what: string, options: TransactOptions, body: (core: TxCore) => R | Promise<R>): Promise<R> {
    checkOutside(`${what} of ${this.name}`);
    return transact(this.around, body, options);
  }
}

export interface ReadOptions extends CallOptions {
  /** What the daemon has in memory, at once; never older than this client saw. */
  readonly staleOk?: boolean | undefined;
}
export interface HistoryOptions extends CallOptions {
  /** Only commits before this one; undefined: from the newest. */
  readonly beforeVersion?: bigint | undefined;
  /** At most 1000. Default: 100. */
  readonly limit?: number | undefined;
}

/** An entry that changes inside transactions alone. */
export class Ref<T> extends Named<T> {
  readonly kind = "ref";
}

/** An entry that changes by itself: each call is a transaction of one entry. */
export class Atom<T> extends Named<T> {
  readonly kind = "atom";

  async reset(value: T, options: TransactOptions = {}): Promise<void> {
    await this.alone("reset", options, (tx) => {
      tx.set(this.handle, value);
    });
  }
  /** `change` may run several times. What it gave is returned. @throws Absent: it is absent, and has no init. */
  async swap(change: (value: T) => T, options: TransactOptions = {}): Promise<T> {
    return this.alone("swap", options, async (tx) => {
      const before = await tx.findOrInit(this.handle);
      if (before.wire === undefined) tx.fail(absent(this.name));
      const value = change(before.native as T);
      tx.set(this.handle, value);
      return value;
    });
  }
  /** False: another value is there. undefined as `expected`: only if absent. */
  async compareAndSet(expected: T | undefined, value: T, options: TransactOptions = {}): Promise<boolean> {
    return this.alone("compareAndSet", options, async (tx) => {
      const before = await tx.findOrInit(this.handle);
      const wanted =
        expected === undefined
          ? undefined
          : encode(
              expected,
              this.name,
              this.handle.core.mode,
              before.wire && { wire: before.wire, native: before.native },
            );
      if (!sameWire(before.wire, wanted)) return false;
      tx.set(this.handle, value);
      return true;
    });
  }
  /** The operation's result: the new value, but what was removed for pop and shift. Never conflicts. */
  async apply<R = T>(op: Op, options: TransactOptions = {}): Promise<R> {
    const result = await this.alone("apply", options, (tx) => tx.commute(this.handle, op));
    const value = result.value;
    if (value === undefined) {
      throw new StmError(
        `${this.name}: the operation was applied, and its result was lost with the connection: read the entry`,
        { name: this.name },
      );
    }
    return value as R;
  }
}

/** What a body reads and writes by. Only reads are awaited. It is of one run: used outside it, it is TransactionClosed. */
export class Tx {
  readonly #core: TxCore;
  readonly #around: Surroundings;

  /** @internal */
  constructor(core: TxCore, around: Surroundings) {
    this.#core = core;
    this.#around = around;
  }

  /** This run's number, from 1. */
  get run(): number {
    return this.#core.run;
  }
  /** What is there, else its init, which is created. @throws Absent: it is absent, and has no init. */
  get<T>(ref: Ref<T> | Atom<T>): Promise<T> {
    return this.#core.track(() => this.#core.get(ref.handle)) as Promise<T>;
  }
  /** undefined: absent; an init is not looked at. */
  find<T>(ref: Ref<T> | Atom<T>): Promise<T | undefined> {
    return this.#core.track(() => this.#core.find(ref.handle)) as Promise<T | undefined>;
  }
  set<T>(ref: Ref<T>, value: NoInfer<T>): void {
    this.#core.set(ref.handle, value);
  }
  /** Sets what `change` makes of the present value, and returns it. `change` is no async function. */
  alter<T>(ref: Ref<T>, change: (value: T) => NoInfer<T>): Promise<T> {
    return this.#core.track(() => this.#core.alter(ref.handle, change as (value: never) => unknown)) as Promise<T>;
  }
  /** Applies the operation at the commit point, to the value of that moment: it never conflicts. */
  commute<T>(ref: Ref<T>, op: Op): CommuteResult<T> {
    return this.#core.commute(ref.handle, op) as CommuteResult<T>;
  }
  /** Counts a read under snapshot isolation. */
  ensure(ref: Ref<unknown> | Atom<unknown>): Promise<void> {
    return this.#core.track(() => this.#core.ensure(ref.handle));
  }
  delete(ref: Ref<never> | Ref<unknown>): void {
    this.#core.delete((ref as Ref<unknown>).handle);
  }
  define(ref: Ref<never> | Ref<unknown>, definition: Definition): void {
    this.#core.define((ref as Ref<unknown>).handle, definition);
  }
  /** What is there under a prefix, in order of names, with what this body wrote. */
  list(prefix: string): Promise<Entry[]> {
    const handleOf = (name: string, isAtom: boolean): Handle =>
      new Handle(this.#around.core, name, isAtom, undefined, {});
    return this.#core.track(() => this.#core.list(prefix, handleOf));
  }
  /** The names alone. */
  names(prefix: string): Promise<string[]> {
    return this.#core.track(() => this.#core.names(prefix));
  }
  /** Keeps a tagged value (of a registered class, or a Tagged) in the log with the commit. */
  record(value: unknown): void {
    this.#core.record(value);
  }
  /** Commits only while this grant stands, else LockLost. Of another's grant: the lock's name and the token it handed on. */
  fence(held: Held): void;
  fence(lock: string, token: bigint): void;
  fence(held: Held | string, token = 0n): void {
    if (typeof held === "string") this.#core.fenceToken(held, token);
    else this.#core.fence(held.grant);
  }
  /** Sleeps until something that was read changes, then the body runs again. */
  retry(): never {
    this.#core.retry();
  }
  /** Runs `first`; where it retries, `second` instead. What `first` wrote is dropped, what it read still counts. */
  orElse<A, B>(first: () => A | PromiseLike<A>, second: () => B | PromiseLike<B>): Promise<A | B> {
    return this.#core.track(() => this.#core.orElse<A | B>(first, second));
  }
  /** Called once, when the commit is durable; in no run that was abandoned. */
  onCommit(callback: (committed: Committed) => void): void {
    this.#core.onCommit(callback);
  }
}

/** The past: all reads are of one version. */
export class View {
  readonly #core: Core;
  readonly #store: bigint;
  #at: bigint | Instant;
  #settling: Promise<unknown> = Promise.resolve();

  /** @internal */
  constructor(core: Core, at: bigint | Instant) {
    this.#core = core;
    this.#store = core.position.store;
    this.#at = at;
  }
  /** 0n: of an instant, and nothing was read yet. */
  get version(): bigint {
    return typeof this.#at === "bigint" ? this.#at : 0n;
  }
  /** @throws Absent. SnapshotTooOld: past the history kept. */
  async get<T>(ref: Ref<T> | Atom<T>): Promise<T> {
    const value = await this.find(ref);
    if (value === undefined) throw absent(ref.name);
    return value;
  }
  /** undefined: absent then. @throws SnapshotTooOld */
  async find<T>(ref: Ref<T> | Atom<T>): Promise<T | undefined> {
    checkName(ref.name);
    const answer = await this.#ask((at) => ({
      $case: "get",
      value: { names: [this.#core.names.full(ref.name)], at, withDefinition: false, pending: [] },
    }));
    const response = answer.response;
    const entry = response?.$case === "get" ? response.value.entries[0] : undefined;
    if (entry === undefined) throw internalFailure(`${ref.name}: the daemon's answer lacks it: report this`).error;
    const value = new Known(entry, this.#core.names, this.#core.mode).native;
    return (value === undefined ? undefined : ref.handle.checked(value)) as T | undefined;
  }
  /** @throws SnapshotTooOld */
  async list(prefix: string): Promise<Entry[]> {
    return (await this.#pages(prefix, false)).map(entryOf);
  }
  async names(prefix: string): Promise<string[]> {
    return (await this.#pages(prefix, true)).map((entry) => entry.name);
  }
  #pages(prefix: string, namesOnly: boolean): Promise<Known[]> {
    checkPrefix(prefix);
    return pages(this.#core, (pageToken) =>
      this.#ask((at) => ({
        $case: "list",
        value: { prefix: this.#core.names.full(prefix), at, pageSize: 0, pageToken, namesOnly, countOnly: false },
      })),
    );
  }

  /** The first answer settles the version for all later ones; until then one asks at a time. */
  async #ask(make: (at: ReadPoint) => PipelineCall["request"]): Promise<PipelineAnswer> {
    checkOutside("reading a View");
    if (typeof this.#at === "bigint") return this.#askNow(make);
    const mine = this.#settling.then(() => this.#askNow(make));
    this.#settling = mine.catch(() => undefined);
    return mine;
  }
  async #askNow(make: (at: ReadPoint) => PipelineCall["request"]): Promise<PipelineAnswer> {
    const at = this.#at;
    const point: ReadPoint["at"] =
      typeof at === "bigint"
        ? { $case: "version", value: at }
        : { $case: "instant", value: { seconds: at.epochSeconds, nanos: at.nanosecond } };
    const answer = await this.#core.ask(
      () => make({ at: point, seen: { version: this.#core.position.seen, store: this.#store } }),
      FOREVER,
    );
    const found = ok(answer);
    const response = found.response;
    if (response?.$case === "get" || response?.$case === "list") this.#at = response.value.snapshot;
    return found;
  }
}

export interface SessionInfo {
  readonly sessionId: string;
  /** "host/program/pid". */
  readonly client: string;
  readonly ttlMs: number;
  /** Milliseconds until it expires if nothing is heard; undefined: another daemon knows. */
  readonly leftMs: number | undefined;
  /** That has its lease. */
  readonly daemon: bigint;
  readonly since: Instant;
  /** That it holds, waits for, or awaits a condition of. */
  readonly locks: readonly string[];
  /** Bound to it. */
  readonly entries: readonly string[];
}

/** What a client holds locks and ephemeral entries by; the next need of one after its end opens another. */
export interface OpenedSession {
  readonly id: string;
  /** Aborted when it is over. */
  readonly signal: AbortSignal;
}

/** A connection to a daemon, or to one of several. Keeps the process alive until it is closed. */
export class Client implements AsyncDisposable {
  readonly #core: Core;
  readonly #session: Session;
  readonly #around: Surroundings;
  #closed: Promise<void> | undefined;

  /** @internal */
  constructor(core: Core, options: ConnectOptions, traceparent: () => string) {
    this.#core = core;
    this.#session = new Session(core);
    this.#around = { core, session: this.#session, traceparent, onTransaction: options.onTransaction };
  }

  /** The daemon in use. */
  get address(): string {
    return this.#core.transport.address;
  }
  /** The newest version that this client was told. */
  get seenVersion(): bigint {
    return this.#core.position.seen;
  }

  /** `init`: made with it if absent, in the first transaction that touches it; never reset. undefined: none. */
  ref<T>(name: string, init?: T, options: RefOptions<Widen<T>> = {}): Ref<Widen<T>> {
    return new Ref<Widen<T>>(this.#around, new Handle(this.#core, name, false, init, options));
  }
  atom<T>(name: string, init?: T, options: RefOptions<Widen<T>> = {}): Atom<Widen<T>> {
    return new Atom<Widen<T>>(this.#around, new Handle(this.#core, name, true, init, options));
  }

  /**
   * Runs `body` until it has run on a snapshot that still stands, and commits what it wrote, all or nothing. Inside another body it
   * joins that. Its own error ends it unchanged, as that error.
   * @throws Conflict: runsMax or timeoutMs is spent. Rejected, LockLost, CommitUnknown, Unavailable and others.
   */
  transact<T>(body: (tx: Tx) => T | PromiseLike<T>, options: TransactOptions = {}): Promise<T> {
    return transact(this.#around, (core) => body(new Tx(core, this.#around)), options);
  }

  /** Commits that change what is selected, each once, in order: names, or prefixes ending in "/"; none: all entries. */
  watch(selector: string | readonly string[], options: WatchOptions = {}): AsyncGenerator<Commit, void, undefined> {
    return watch(this.#core, typeof selector === "string" ? [selector] : selector, options);
  }
  /** Records of the log, oldest first: those of the classes, and of options.tags; of neither: all. */
  records<C extends Class<unknown>[]>(
    ...typesAndOptions: [...C] | [...C, RecordsOptions]
  ): AsyncGenerator<RecordOf<C extends [] ? unknown : InstanceType<C[number]>>, void, undefined> {
    const last = typesAndOptions.at(-1);
    const isOptions = typeof last === "object";
    const types = (isOptions ? typesAndOptions.slice(0, -1) : typesAndOptions) as Class<unknown>[];
    const read = records(this.#core, types, isOptions ? last : {});
    return read as AsyncGenerator<RecordOf<C extends [] ? unknown : InstanceType<C[number]>>, void, undefined>;
  }
  /** The past, at a version or a moment. */
  at(at: bigint | Instant | Date): View {
    return new View(this.#core, at instanceof Date ? Instant.fromDate(at) : at);
  }
  /** What is there under a prefix, of one snapshot, in order of names; without the system's names. */
  async list(prefix: string, options: CallOptions = {}): Promise<Entry[]> {
    return (await this.#list(prefix, false, options)).map(entryOf);
  }
  /** The names alone. */
  async names(prefix: string, options: CallOptions = {}): Promise<string[]> {
    return (await this.#list(prefix, true, options)).map((entry) => entry.name);
  }
  async #list(prefix: string, namesOnly: boolean, options: CallOptions): Promise<Known[]> {
    checkOutside("a list");
    checkPrefix(prefix);
    const core = this.#core;
    const call = callOf(options);
    for (;;) {
      try {
        return await pages(core, async (pageToken) =>
          ok(
            await core.ask(
              () => ({
                $case: "list",
                value: {
                  prefix: core.names.full(prefix),
                  at: { at: undefined, seen: core.seen() },
                  pageSize: 0,
                  pageToken,
                  namesOnly,
                  countOnly: false,
                },
              }),
              call,
            ),
          ),
        );
      } catch (error) {
        // Begun again where the pages' snapshot was trimmed, or the store changed, meanwhile.
        const again =
          error instanceof StmError && (error.reason === "snapshot-too-old" || error.reason === "store-changed");
        if (!again) throw error;
      }
    }
  }

  lock(name: string, options: LockOptions = {}): Lock {
    return new Lock(this.#core, this.#session, name, options);
  }
  /** Keeps values in this process, for refs and atoms whose container is "offered:NAME". */
  async offer(name: string, container: Container, options: CallOptions = {}): Promise<Offer> {
    checkOutside("an offer");
    const offer = new Offer(this.#core, name, container);
    await offer.first(options);
    return offer;
  }
  /** What became of a commit, by the word of a CommitUnknown. undefined: it did not happen, and never will. */
  async outcome(word: string, options: CallOptions = {}): Promise<bigint | undefined> {
    checkOutside("client.outcome");
    const id = parseOutcomeWord(word);
    const response = ok(await this.#core.getOutcome(id, callOf(options)));
    switch (response.outcome?.$case) {
      case "committed":
        return response.outcome.value.version;
      case "conflict":
      case "rejected":
      case "fenceLost":
      case "notCommitted":
        return undefined;
      default:
        throw commitUnknownFailure(id, "it was sent too long ago for the daemon to tell").error;
    }
  }
  /** The client's session, opened if there is none. */
  async session(options: CallOptions = {}): Promise<OpenedSession> {
    checkOutside("client.session");
    const lease = await this.#session.get(callOf(options));
    if (!(lease instanceof Lease)) throw lease.error;
    return { id: lease.id, signal: lease.gone };
  }

  // ---- What operators ask

  /** Who holds a lock, and who waits. */
  async lockInfo(name: string): Promise<LockInfo> {
    checkOutside("client.lockInfo");
    checkName(name);
    const core = this.#core;
    const answer = await core.unary(
      LockServiceService.getLock,
      () => ({ name: core.names.full(name), seen: core.seen() }),
      FOREVER,
    );
    const response = ok(answer);
    core.position.observe(response.header);
    return lockInfoOf(response.lock, core.names);
  }
  /** Locks under a prefix, without their queues. */
  async locks(prefix = "/"): Promise<LockInfo[]> {
    checkOutside("client.locks");
    checkPrefix(prefix);
    const core = this.#core;
    const locks: LockInfo[] = [];
    let pageToken = "";
    do {
      const page = ok(
        await core.unary(
          LockServiceService.listLocks,
          () => ({ prefix: core.names.full(prefix), pageSize: PAGE_MAX, pageToken, seen: core.seen() }),
          FOREVER,
        ),
      );
      core.position.observe(page.header);
      for (const lock of page.locks) locks.push(lockInfoOf(lock, core.names));
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    return locks;
  }
  /** Takes it from all who hold it. False: nobody did. */
  async breakLock(name: string, label = ""): Promise<boolean> {
    checkOutside(`breakLock of ${name}`);
    checkName(name);
    const core = this.#core;
    const answer = await core.sendOnce(LockServiceService.breakLock, new CallId(), this.#once(), (id) => ({
      id,
      name: core.names.full(name),
      meta: core.meta(label),
    }));
    return ok(answer).outcome === LockOutcome.LOCK_OUTCOME_RELEASED;
  }
  async sessions(): Promise<SessionInfo[]> {
    checkOutside("client.sessions");
    const core = this.#core;
    const sessions: SessionInfo[] = [];
    let pageToken = "";
    do {
      const page = ok(
        await core.unary(
          SessionServiceService.listSessions,
          () => ({ pageSize: PAGE_MAX, pageToken, seen: core.seen() }),
          FOREVER,
        ),
      );
      core.position.observe(page.header);
      for (const session of page.sessions) {
        sessions.push({
          sessionId: session.sessionId,
          client: session.client,
          ttlMs: session.ttl === undefined ? 0 : durationMs(session.ttl),
          leftMs: session.left && durationMs(session.left),
          daemon: session.daemon,
          since: Instant.fromSeconds(session.since?.seconds ?? 0n, session.since?.nanos ?? 0),
          locks: session.locks.map((name) => core.names.short(name)),
          entries: session.entries.map((name) => core.names.short(name)),
        });
      }
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    return sessions;
  }
  /** Ends a session, with all that it has. */
  async expireSession(sessionId: string, label = ""): Promise<void> {
    checkOutside("client.expireSession");
    const core = this.#core;
    const answer = await core.sendOnce(SessionServiceService.expireSession, new CallId(), this.#once(), (id) => ({
      id,
      sessionId,
      meta: core.meta(label),
    }));
    ok(answer);
  }
  #once() {
    return { call: FOREVER, outageMsMax: this.#core.options.unavailableTimeoutMs };
  }

  /** Ends the session at once and every call with an error that says so. May be called again. */
  close(): Promise<void> {
    this.#closed ??= (async () => {
      await this.#session.close();
      this.#core.closing.abort();
      this.#core.transport.close();
      await this.#session.ended();
    })();
    return this.#closed;
  }
  [globalThis.Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function callOf(options: CallOptions): Call {
  return { deadline: after(options.timeoutMs), signal: options.signal };
}
function ok<T>(answer: { readonly ok: T; readonly failure?: undefined } | { readonly failure: Failure }): T {
  if (answer.failure !== undefined) throw answer.failure.error;
  return answer.ok;
}

async function readEntry(
  core: Core,
  name: string,
  at: ReadPoint,
  withDefinition: boolean,
  call: Call,
): Promise<WireEntry> {
  const names = [core.names.full(name)];
  for (;;) {
    const answer = await core.ask(
      () => ({ $case: "get", value: { names, at: { ...at, seen: core.seen() }, withDefinition, pending: [] } }),
      call,
    );
    // The new store is taken; nothing hangs on the old.
    if (answer.failure?.reason === "store-changed") continue;
    const response = ok(answer).response;
    const entry = response?.$case === "get" ? response.value.entries[0] : undefined;
    if (entry === undefined) throw internalFailure(`${name}: the daemon's answer lacks it: report this`).error;
    return entry;
  }
}

async function readOutside(handle: Handle, options: ReadOptions): Promise<unknown> {
  checkOutside(`reading ${handle.name} by its handle`);
  checkName(handle.name);
  const { core } = handle;
  const point: ReadPoint = {
    at: options.staleOk === true ? { $case: "stale", value: true } : undefined,
    seen: undefined,
  };
  const known = new Known(await readEntry(core, handle.name, point, false, callOf(options)), core.names, core.mode);
  if (known.wire === undefined) return undefined;
  if (known.isAtom !== handle.isAtom) throw wrongKind(handle.name, known.isAtom);
  return handle.checked(known.native);
}

async function pages(core: Core, ask: (pageToken: string) => Promise<PipelineAnswer>): Promise<Known[]> {
  const entries: Known[] = [];
  let pageToken = "";
  do {
    const { response } = await ask(pageToken);
    if (response?.$case !== "list") throw internalFailure("the daemon's answer is of another call: report this").error;
    for (const entry of response.value.entries) entries.push(new Known(entry, core.names, core.mode));
    pageToken = response.value.nextPageToken;
  } while (pageToken !== "");
  return entries;
}

/**
 * Connects to a daemon that is ready, and waits for one unavailableTimeoutMs at most.
 * @throws Unavailable, which names the addresses and the last cause. BadValue: an address or prefix that is none.
 */
export async function connect(options: ConnectOptions | string = {}): Promise<Client> {
  const given = typeof options === "string" ? { address: options } : options;
  const named = given.address === undefined || given.address === "" ? process.env["STM_ADDRESS"] : given.address;
  const addresses = addressesOf(named === undefined || named === "" ? DEFAULT_ADDRESS : named);
  const prefix = (given.prefix ?? "").replace(/\/+$/, "");
  if (prefix !== "") {
    checkName(prefix);
    if (prefix.includes("/.")) {
      throw new BadValue(`prefix ${prefix} has a segment that begins with ".": choose another`, { name: "prefix" });
    }
  }
  const core = new Core({
    addresses,
    names: new Names(prefix),
    mode: { ints: given.ints ?? "number", keys: given.keys ?? "string" },
    clientName: given.clientName === undefined || given.clientName === "" ? programName() : given.clientName,
    unavailableTimeoutMs: given.unavailableTimeoutMs ?? UNAVAILABLE_TIMEOUT_MS,
    sessionTtlMs: given.sessionTtlMs,
    warn:
      given.warn ??
      ((message) => {
        process.emitWarning(message, "StmWarning");
      }),
  });
  const traceparent = await openTelemetry();
  const link = await core.transport.get({ deadline: after(core.options.unavailableTimeoutMs), signal: undefined });
  if (!(link instanceof Link)) {
    core.transport.close();
    throw link.error;
  }
  return new Client(core, given, traceparent);
}

function addressesOf(text: string): string[] {
  const addresses = text
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
  for (const address of addresses) {
    if (address.startsWith("unix:") || address.includes(":")) continue;
    throw new BadValue(`address "${address}" has no port: write host:port, as ${DEFAULT_ADDRESS}, or unix:/path`, {
      name: "address",
    });
  }
  if (addresses.length === 0) {
    throw new BadValue("no address: write host:port, or several by comma", { name: "address" });
  }
  return addresses;
}

function programName(): string {
  return process.argv[1] === undefined ? "node" : basename(process.argv[1]);
}

interface SpanApi {
  readonly trace: {
    getActiveSpan(): { spanContext(): { traceId: string; spanId: string; traceFlags: number } } | undefined;
  };
}

/** Of the span that is active, if the program has OpenTelemetry's API. */
async function openTelemetry(): Promise<() => string> {
  const name = "@opentelemetry/api";
  try {
    const api = (await import(name)) as SpanApi;
    return () => {
      const span = api.trace.getActiveSpan()?.spanContext();
      if (span === undefined) return "";
      return `00-${span.traceId}-${span.spanId}-${span.traceFlags.toString(16).padStart(2, "0")}`;
    };
  } catch {
    return () => "";
  }
}
