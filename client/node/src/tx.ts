// One run of a transaction's body: the snapshot, what was read of it, and what is to be written. It knows the daemon by asks
// alone; the loop of runs and the commit are transact.ts's. Always: once a signal is raised every call raises it again, and
// the run is abandoned.
import { AsyncLocalStorage } from "node:async_hooks";

import { type Before, canonicalWire, encode } from "./codec.js";
import type { Core } from "./core.js";
import { type Committed, type Definition, definitionToWire, type Entry, type Handle, Known } from "./entries.js";
import { Absent, BadValue, InTransaction, TransactionClosed, WrongKind } from "./errors.js";
import { type Failure, internalFailure, lockLost } from "./failure.js";
import { checkName, checkPrefix, isUnder } from "./names.js";
import { type Op, opToWire } from "./op.js";
import { EntryKind, type Fence, type Header, type ReadPoint } from "./proto/stm/v1/common.js";
import {
  Isolation,
  type AwaitChangeRequest,
  type CommitRequest,
  type Committed as WireCommitted,
} from "./proto/stm/v1/transaction_service.js";
import type { Value as Wire } from "./proto/stm/v1/value.js";
import type { Write } from "./proto/stm/v1/write.js";
import type { Grant, Session } from "./session.js";
import type { Call } from "./time.js";
import type { TransactOptions } from "./transact.js";

/** Leaves a body whose run is abandoned: it is run again, or its end is told. Whoever catches it changes nothing by that. */
export class Abandoned extends Error {
  override readonly name = "Abandoned";
  constructor() {
    super("this run of the transaction's body is abandoned: let this error pass");
  }
}

/** What asynchronous code belongs to: a run, and how deep within its joins and orElse. */
export interface Frame {
  readonly core: TxCore;
  readonly depth: number;
}
export const frames = new AsyncLocalStorage<Frame>();

/** @throws InTransaction: inside a body. */
export function checkOutside(what: string): void {
  if (frames.getStore()?.core.isOpen) throw inTransaction(what, OUTSIDE_REMEDY);
}
const OUTSIDE_REMEDY = "do it before or after, or by tx.onCommit; a body reads and writes by its tx";

export function inTransaction(what: string, remedy: string): InTransaction {
  return new InTransaction(`${what} inside a transaction's body, which may run several times: ${remedy}`, {
    name: what,
  });
}

/** Marks code that must not run inside a transaction's body. @throws InTransaction: it does, and the transaction fails. */
export function io(): void {
  const frame = frames.getStore();
  if (frame?.core.isOpen) frame.core.fail(inTransaction("io()", OUTSIDE_REMEDY));
}

export function absent(name: string): Absent {
  return new Absent(`${name} is absent: set it first, give its handle an init, or use find`, { name });
}
export function wrongKind(name: string, isAtom: boolean): WrongKind {
  const [is, as] = isAtom ? ["an atom", "a ref: use client.atom"] : ["a ref", "an atom: use client.ref"];
  return new WrongKind(`${name} is ${is} and was used as ${as}`, { name });
}

export type Signal =
  | { readonly kind: "retry" } // sleep until something read changes
  | { readonly kind: "rerun"; readonly failure: Failure } // the snapshot is of no use any more
  | { readonly kind: "fail"; readonly error: Error };

/** What a run leaves to the next: entries known to be so at `snapshot`. */
export interface Carried {
  /** 0n: nothing is known, the next run takes a new snapshot. */
  snapshot: bigint;
  store: bigint;
  fresh: Map<string, Known>;
  /** What the last run read: fetched together with the first that is missing. */
  wanted: string[];
}
export function nothingCarried(): Carried {
  return { snapshot: 0n, store: 0n, fresh: new Map(), wanted: [] };
}

/** What a commute's operation came to. */
export class CommuteResult<T = unknown> {
  /** @internal */
  wire: Wire | undefined;
  /** @internal */
  constructor(private readonly handle: Handle) {}
  /** Once the transaction is committed. undefined: before that, or the result was lost with a connection. */
  get value(): T | undefined {
    return this.handle.decode(this.wire) as T | undefined;
  }
}

interface Written {
  readonly isAtom: boolean;
  /** First of all, if the entry is absent. */
  create: Wire | undefined;
  base: { readonly kind: "none" | "delete" } | { readonly kind: "set"; readonly value: Wire };
  /** On top. */
  ops: Op[];
  results: CommuteResult[];
  /** Of a new entry. */
  definition: Definition | undefined;
  define: Definition | undefined;
  /** As the daemon says it is after all this; undefined: not asked. */
  seen: { readonly value: Wire | undefined } | undefined;
  /** Told of existence. */
  handle: Handle | undefined;
}

/** What a mark keeps of the past. */
interface Mark {
  readonly writes: Map<string, Written>;
  readonly records: number;
  readonly fences: number;
  readonly handedOn: number;
  readonly onCommit: number;
}

const NONE = { kind: "none" } as const;

export class TxCore {
  isOpen = false;
  signal: Signal | undefined;
  store: bigint;
  #snapshot: bigint; // 0n: nothing was read yet
  readonly #cache: Map<string, Known>; // at #snapshot
  #wanted: string[];
  readonly #reads = new Set<string>();
  readonly #lists = new Set<string>();
  readonly #ensures = new Set<string>();
  readonly #listed = new Map<string, Known[]>(); // whole, by prefix
  readonly #listedNames = new Map<string, Known[]>(); // names alone
  #writes = new Map<string, Written>(); // in order
  #records: Wire[] = [];
  #fences: Grant[] = [];
  #handedOn: { lock: string; token: bigint }[] = []; // fences of others' grants
  #onCommit: ((committed: Committed) => void)[] = [];
  readonly #marks: Mark[] = [];
  readonly #pending = new Set<{ promise?: Promise<unknown> }>();
  #asking: Promise<unknown> = Promise.resolve();
  #batch: { readonly names: Set<string>; readonly done: Promise<void> } | undefined;

  constructor(
    readonly client: Core,
    readonly session: Session,
    readonly options: TransactOptions,
    readonly call: Call,
    readonly run: number,
    carried: Carried,
  ) {
    const known = carried.snapshot !== 0n;
    this.#snapshot = carried.snapshot;
    this.store = known ? carried.store : 0n;
    this.#cache = known ? carried.fresh : new Map<string, Known>();
    this.#wanted = carried.wanted;
  }

  /**
   * Runs `body` as this run's, then closes it. The body's own error is thrown, unless a signal was raised; undefined, if
   * one was.
   */
  async runBody<T>(body: () => T | PromiseLike<T>): Promise<T | undefined> {
    this.isOpen = true;
    try {
      const result = await frames.run({ core: this, depth: 0 }, async () => body());
      if (this.#pending.size > 0 && this.signal === undefined) {
        this.signal = {
          kind: "fail",
          error: new TransactionClosed(
            "the body ended while a read, an alter or a joined transaction of its was under way: await each of them",
          ),
        };
      }
      return this.signal === undefined ? result : undefined;
    } catch (error) {
      // What the body made of an abandoned run, its errors included, counts for nothing.
      if (this.signal === undefined) throw error;
      return undefined;
    } finally {
      this.isOpen = false;
      // Nobody awaits them any more.
      for (const { promise } of this.#pending) promise?.catch(() => undefined);
    }
  }

  /** What the body must await. Its error is not taken from the body: who forgets to await it hears of it. */
  track<T>(work: () => Promise<T>): Promise<T> {
    const slot: { promise?: Promise<T> } = {};
    this.#pending.add(slot);
    slot.promise = (async () => {
      try {
        return await work();
      } finally {
        this.#pending.delete(slot);
      }
    })();
    return slot.promise;
  }

  /** @throws TransactionClosed outside the body; a pending signal again. */
  enter(): void {
    if (!this.isOpen)
      throw new TransactionClosed("a Tx was used after its body had ended: use it inside the body alone");
    const frame = frames.getStore();
    if (frame?.core !== this) {
      throw new TransactionClosed("a Tx was used by other code than its body's: use it in what the body itself calls");
    }
    this.checkSignal();
    if (frame.depth !== this.#marks.length) {
      const error = new BadValue(
        "a Tx was used beside a joined transaction or an orElse that is under way: await that first",
        { name: "tx" },
      );
      this.raise({ kind: "fail", error });
    }
  }
  checkSignal(): void {
    if (this.signal !== undefined) throw new Abandoned();
  }
  raise(signal: Signal): never {
    this.signal ??= signal;
    throw new Abandoned();
  }
  fail(error: unknown): never {
    this.raise({ kind: "fail", error: error instanceof Error ? error : new Error(String(error)) });
  }
  /** What must not fail, of the caller's own making: its error ends the transaction. */
  #checked<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      if (error instanceof Abandoned) throw error;
      return this.fail(error);
    }
  }
  /** Of a failed read: reruns or fails. */
  #raiseFor(failure: Failure): never {
    const again = failure.reason === "snapshot-too-old" || failure.reason === "store-changed";
    this.raise(again ? { kind: "rerun", failure } : { kind: "fail", error: failure.error });
  }

  // ---- Reading

  #readPoint(): ReadPoint {
    const seen = this.client.seen();
    if (this.#snapshot === 0n) {
      return { at: this.options.staleOk === true ? { $case: "stale", value: true } : undefined, seen };
    }
    return { at: { $case: "version", value: this.#snapshot }, seen: { version: seen.version, store: this.store } };
  }
  #takeSnapshot(header: Header | undefined, snapshot: bigint): void {
    if (this.#snapshot !== 0n) return;
    this.#snapshot = snapshot;
    this.store = header?.store ?? 0n;
  }
  /** One ask at a time: the first takes the snapshot of all. */
  #serially<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#asking.then(work);
    this.#asking = result.catch(() => undefined);
    return result;
  }

  async #fetch(name: string): Promise<Known> {
    const cached = this.#cache.get(name);
    if (cached !== undefined) return cached;
    this.#checked(() => {
      checkName(name);
    });
    // What is asked for in one turn, or while another answer is awaited, goes in one request.
    if (this.#batch === undefined) {
      const names = new Set<string>();
      this.#batch = { names, done: this.#serially(() => this.#fetchBatch()) };
    }
    this.#batch.names.add(name);
    await this.#batch.done;
    const fetched = this.#cache.get(name);
    if (fetched === undefined) this.fail(internalFailure(`${name}: the daemon's answer lacks it: report this`).error);
    return fetched;
  }
  async #fetchBatch(): Promise<void> {
    const names = [...(this.#batch?.names ?? [])];
    this.#batch = undefined;
    for (const wanted of this.#wanted) if (!names.includes(wanted) && !this.#cache.has(wanted)) names.push(wanted);
    this.#wanted = [];
    const full = names.map((name) => this.client.names.full(name));
    const answer = await this.client.ask(
      () => ({ $case: "get", value: { names: full, at: this.#readPoint(), withDefinition: false, pending: [] } }),
      this.call,
    );
    if (answer.failure !== undefined) this.#raiseFor(answer.failure);
    const response = answer.ok.response;
    if (response?.$case !== "get")
      this.fail(internalFailure("the daemon's answer is of another call: report this").error);
    this.#takeSnapshot(response.value.header, response.value.snapshot);
    response.value.entries.forEach((entry, i) => {
      const name = names[i];
      if (name !== undefined) this.#cache.set(name, new Known(entry, this.client.names, this.client.mode));
    });
  }

  async #fetchOf(handle: Handle): Promise<Known> {
    const entry = await this.#fetch(handle.name);
    this.#reads.add(handle.name);
    if (entry.wire !== undefined) {
      if (entry.isAtom !== handle.isAtom) this.fail(wrongKind(handle.name, entry.isAtom));
      handle.exists = true;
    }
    return entry;
  }

  /** As this run sees it; undefined wire: absent. */
  async #read(handle: Handle): Promise<{ wire: Wire | undefined; native: () => unknown }> {
    const written = this.#writes.get(handle.name);
    const of = (wire: Wire | undefined) => ({ wire, native: () => handle.decode(wire) });
    if (written !== undefined) {
      if (written.ops.length > 0) return of(await this.#readAfterWrites(handle, written));
      if (written.base.kind === "set") return of(written.base.value);
      if (written.base.kind === "delete") return of(undefined);
    }
    const entry = await this.#fetchOf(handle);
    if (entry.wire === undefined && written?.create !== undefined) return of(written.create);
    return { wire: entry.wire, native: () => entry.native };
  }

  async #readAfterWrites(handle: Handle, written: Written): Promise<Wire | undefined> {
    if (written.seen !== undefined) return written.seen.value;
    // Whether the entry exists is the daemon's to know: with the create, the answer is right in both cases.
    if (written.base.kind === "none" && handle.hasInit) written.create = this.#checked(() => handle.init);
    const pending = this.#checked(() => this.#writesOf(handle.name, written, ""));
    const full = this.client.names.full(handle.name);
    return this.#serially(async () => {
      const answer = await this.client.ask(
        () => ({ $case: "get", value: { names: [full], at: this.#readPoint(), withDefinition: false, pending } }),
        this.call,
      );
      if (answer.failure !== undefined) this.#raiseFor(answer.failure);
      const response = answer.ok.response;
      const entry = response?.$case === "get" ? response.value.entries[0] : undefined;
      if (response?.$case !== "get" || entry === undefined) {
        this.fail(internalFailure(`${handle.name}: the daemon's answer lacks it: report this`).error);
      }
      this.#takeSnapshot(response.value.header, response.value.snapshot);
      this.#reads.add(handle.name);
      const known = new Known(entry, this.client.names, this.client.mode);
      written.seen = { value: known.wire };
      return known.wire;
    });
  }

  /** undefined: absent. */
  async find(handle: Handle): Promise<unknown> {
    this.enter();
    const found = await this.#read(handle);
    this.checkSignal();
    return found.wire === undefined ? undefined : this.#checked(() => handle.checked(found.native()));
  }

  async get(handle: Handle): Promise<unknown> {
    this.enter();
    const found = await this.#read(handle);
    this.enter();
    if (found.wire !== undefined) return this.#checked(() => handle.checked(found.native()));
    const init = this.#checked(() => handle.init);
    if (init === undefined) this.fail(absent(handle.name));
    // A deleted entry is made again by its init; an atom is not written in transactions, and left absent.
    if (!handle.isAtom) {
      const written = this.#writeTo(handle);
      if (written.base.kind === "delete") written.base = { kind: "set", value: init };
      else {
        written.create = init;
        written.handle = handle;
      }
    }
    return this.#checked(() => handle.checked(handle.decode(init)));
  }

  /** Of a handle; undefined: absent, or it has no init. For swaps. */
  async findOrInit(handle: Handle): Promise<{ wire: Wire | undefined; native: unknown }> {
    this.enter();
    const found = await this.#read(handle);
    this.enter();
    return this.#checked(() => {
      const wire = found.wire ?? handle.init;
      if (wire === undefined) return { wire, native: undefined };
      return { wire, native: handle.checked(found.wire === undefined ? handle.decode(wire) : found.native()) };
    });
  }

  async ensure(handle: Handle): Promise<void> {
    this.enter();
    await this.#fetchOf(handle);
    this.#ensures.add(handle.name);
  }

  // ---- Writing

  #writeTo(handle: Handle): Written {
    let written = this.#writes.get(handle.name);
    if (written === undefined) {
      this.#checked(() => {
        checkName(handle.name);
      });
      written = {
        isAtom: handle.isAtom,
        create: undefined,
        base: NONE,
        ops: [],
        results: [],
        definition: handle.definition,
        define: undefined,
        seen: undefined,
        handle: undefined,
      };
      this.#writes.set(handle.name, written);
    }
    return written;
  }

  checkAlter(handle: Handle): void {
    this.enter();
    if ((this.#writes.get(handle.name)?.ops.length ?? 0) === 0) return;
    this.fail(
      new BadValue(
        `${handle.name}: set or alter after commute in one transaction: the commute would be lost or pinned; alter it alone, or commute it alone`,
        { name: handle.name },
      ),
    );
  }

  set(handle: Handle, value: unknown): void {
    this.checkAlter(handle);
    const wire = this.#checked(() => encode(value, handle.name, this.client.mode, this.#before(handle)));
    this.setWire(handle, wire);
  }
  setWire(handle: Handle, wire: Wire): void {
    const written = this.#writeTo(handle);
    written.base = { kind: "set", value: wire };
    written.create = undefined;
  }
  /** What a set replaces, as far as this run has seen it. */
  #before(handle: Handle): Before | undefined {
    const written = this.#writes.get(handle.name);
    if (written?.base.kind === "delete") return undefined;
    const wire = written?.base.kind === "set" ? written.base.value : undefined;
    if (wire !== undefined) return { wire, native: undefined };
    const entry = this.#cache.get(handle.name);
    return entry?.wire === undefined ? undefined : { wire: entry.wire, native: entry.native };
  }

  async alter(handle: Handle, change: (value: never) => unknown): Promise<unknown> {
    this.checkAlter(handle);
    const before = (await this.get(handle)) as never;
    const after = change(before);
    if (after instanceof Promise) {
      after.catch(() => undefined);
      this.fail(
        new BadValue(`${handle.name}: alter's function gave a promise: read first, then set`, { name: handle.name }),
      );
    }
    this.set(handle, after);
    return after;
  }

  commute(handle: Handle, op: Op): CommuteResult {
    this.enter();
    this.#checked(() => opToWire(op, handle.name, this.client.mode));
    const written = this.#writeTo(handle);
    if (written.base.kind === "none" && written.create === undefined && handle.hasInit) {
      written.handle = handle;
      if (!handle.exists) written.create = this.#checked(() => handle.init);
    }
    const result = new CommuteResult(handle);
    written.ops.push(op);
    written.results.push(result);
    written.seen = undefined;
    return result;
  }

  delete(handle: Handle): void {
    this.enter();
    const written = this.#writeTo(handle);
    written.base = { kind: "delete" };
    written.create = undefined;
    written.ops = [];
    written.results = [];
    written.define = undefined;
    written.seen = undefined;
    written.handle = undefined;
  }

  define(handle: Handle, definition: Definition): void {
    this.enter();
    this.#checked(() => definitionToWire(definition, handle.name, "", this.client.mode));
    this.#writeTo(handle).define = definition;
  }

  record(value: unknown): void {
    this.enter();
    const wire = this.#checked(() => encode(value, "a record", this.client.mode));
    if (wire.kind?.$case !== "tagged") {
      this.fail(
        new BadValue(
          `a record is a tagged value, not ${wire.kind?.$case ?? "nothing"}: register its class by record(), or record a Tagged`,
        ),
      );
    }
    this.#records.push(wire);
  }

  fence(grant: Grant): void {
    this.enter();
    if (grant.over) this.fail(lockLost(grant.name, "is gone"));
    this.#fences.push(grant);
  }
  fenceToken(lock: string, token: bigint): void {
    this.enter();
    this.#checked(() => {
      checkName(lock);
    });
    if (token <= 0n) {
      this.fail(
        new BadValue(`${lock}: ${token} is no token of a lock, which are above 0: give the one that its holder has`, {
          name: lock,
        }),
      );
    }
    this.#handedOn.push({ lock, token });
  }

  onCommit(callback: (committed: Committed) => void): void {
    this.enter();
    this.#onCommit.push(callback);
  }

  // ---- Lists

  async #pages(prefix: string, namesOnly: boolean): Promise<Known[]> {
    const entries: Known[] = [];
    let pageToken = "";
    const full = this.client.names.full(prefix);
    do {
      const answer = await this.client.ask(
        () => ({
          $case: "list",
          value: { prefix: full, at: this.#readPoint(), pageSize: 0, pageToken, namesOnly, countOnly: false },
        }),
        this.call,
      );
      if (answer.failure !== undefined) this.#raiseFor(answer.failure);
      const response = answer.ok.response;
      if (response?.$case !== "list") {
        this.fail(internalFailure("the daemon's answer is of another call: report this").error);
      }
      const page = response.value;
      this.#takeSnapshot(page.header, page.snapshot);
      for (const entry of page.entries) entries.push(new Known(entry, this.client.names, this.client.mode));
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    return entries;
  }

  async list(prefix: string, handleOf: (name: string, isAtom: boolean) => Handle): Promise<Entry[]> {
    this.enter();
    this.#checked(() => {
      checkPrefix(prefix);
    });
    let listed = this.#listed.get(prefix);
    if (listed === undefined) {
      listed = await this.#serially(() => this.#pages(prefix, false));
      this.enter();
      this.#listed.set(prefix, listed);
      this.#lists.add(prefix);
      for (const entry of listed) {
        this.#cache.set(entry.name, entry);
        this.#reads.add(entry.name);
      }
    }
    // What this body wrote lies over what is there.
    const entries = new Map<string, Entry>();
    for (const entry of listed)
      entries.set(
        entry.name,
        this.#checked(() => entryOf(entry)),
      );
    for (const [name, written] of this.#writes) {
      if (!isUnder(name, prefix)) continue;
      const found = await this.#read(handleOf(name, written.isAtom));
      const value = this.#checked(() => found.native());
      if (found.wire === undefined) entries.delete(name);
      else entries.set(name, { name, value, version: entries.get(name)?.version ?? 0n, isAtom: written.isAtom });
    }
    this.checkSignal();
    return [...entries.values()].sort((a, b) => Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)));
  }

  async names(prefix: string): Promise<string[]> {
    this.enter();
    this.#checked(() => {
      checkPrefix(prefix);
    });
    let listed = this.#listedNames.get(prefix);
    if (listed === undefined) {
      listed = await this.#serially(() => this.#pages(prefix, true));
      this.enter();
      this.#listedNames.set(prefix, listed);
      this.#lists.add(prefix);
    }
    const names = new Set(listed.map((entry) => entry.name));
    for (const [name, written] of this.#writes) {
      if (!isUnder(name, prefix)) continue;
      if (written.base.kind === "delete" && written.ops.length === 0) names.delete(name);
      else if (written.base.kind === "set" || written.create !== undefined) names.add(name);
    }
    return [...names].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  }

  // ---- Retry, orElse, joins

  retry(): never {
    this.enter();
    if (!this.hasReads) {
      this.fail(new BadValue("retry with nothing read would sleep for ever: read what it waits for first"));
    }
    this.raise({ kind: "retry" });
  }

  #setMark(): void {
    const writes = new Map<string, Written>();
    for (const [name, written] of this.#writes) {
      writes.set(name, { ...written, ops: [...written.ops], results: [...written.results] });
    }
    this.#marks.push({
      writes,
      records: this.#records.length,
      fences: this.#fences.length,
      handedOn: this.#handedOn.length,
      onCommit: this.#onCommit.length,
    });
  }
  /** Back to the mark: what was written since is dropped, what was read stays. */
  #returnTo(mark: Mark | undefined): void {
    if (mark === undefined) return;
    this.#writes = mark.writes;
    this.#records.length = mark.records;
    this.#onCommit.length = mark.onCommit;
  }

  async orElse<T>(first: () => T | PromiseLike<T>, second: () => T | PromiseLike<T>): Promise<T> {
    this.enter();
    const depth = this.#marks.length;
    this.#setMark();
    try {
      const result = await frames.run({ core: this, depth: depth + 1 }, async () => first());
      this.checkSignal();
      this.#marks.length = depth;
      return result;
    } catch (error) {
      const mark = this.#marks[depth];
      this.#marks.length = Math.min(this.#marks.length, depth);
      if (!(this.signal?.kind === "retry")) throw this.signal === undefined ? error : new Abandoned();
      this.signal = undefined;
      this.#returnTo(mark);
    }
    return await frames.run({ core: this, depth }, async () => second());
  }

  /** A transaction inside a body: its writes are this one's, and are dropped if it fails. */
  async join<T>(body: () => T | PromiseLike<T>): Promise<T> {
    this.enter();
    const depth = this.#marks.length;
    this.#setMark();
    try {
      const result = await frames.run({ core: this, depth: depth + 1 }, async () => body());
      this.checkSignal();
      this.#marks.length = depth;
      return result;
    } catch (error) {
      const mark = this.#marks[depth];
      this.#marks.length = Math.min(this.#marks.length, depth);
      if (this.signal !== undefined) throw new Abandoned();
      this.#returnTo(mark);
      throw error;
    }
  }

  // ---- For the loop of runs

  get hasReads(): boolean {
    return this.#reads.size > 0 || this.#lists.size > 0;
  }
  get needsCommit(): boolean {
    return (
      this.#writes.size > 0 ||
      this.#records.length > 0 ||
      this.#fences.length > 0 ||
      this.#handedOn.length > 0 ||
      (this.options.staleOk === true && this.hasReads)
    );
  }
  /** Does it make an entry that is bound to the client's session? */
  get needsSession(): boolean {
    return [...this.#writes.values()].some(
      ({ definition, define }) => definition?.ephemeral === true || define?.ephemeral === true,
    );
  }
  /** Not undefined: a grant that it fences is lost already. */
  checkFences(): Error | undefined {
    const lost = this.#fences.find((grant) => grant.over);
    return lost && lockLost(lost.name, "is gone");
  }

  /** /.once/KEY, read like any entry of this snapshot. undefined: absent, or a signal was raised. */
  async readOnce(name: string): Promise<Known | undefined> {
    try {
      const entry = await this.#fetch(name);
      this.#reads.add(name);
      return entry.wire === undefined ? undefined : entry;
    } catch (error) {
      if (error instanceof Abandoned) return undefined;
      throw error;
    }
  }
  writeOnce(name: string, result: unknown, ttlMs: number): void {
    const value = encode(result === undefined ? null : result, name, this.client.mode);
    this.#writes.set(name, {
      isAtom: false,
      create: undefined,
      base: { kind: "set", value },
      ops: [],
      results: [],
      definition: { ttlMs },
      define: undefined,
      seen: undefined,
      handle: undefined,
    });
  }

  #writesOf(name: string, written: Written, session: string): Write[] {
    const { mode, names } = this.client;
    const full = names.full(name);
    const kind = written.isAtom ? EntryKind.ENTRY_KIND_ATOM : EntryKind.ENTRY_KIND_REF;
    const definition = written.definition && definitionToWire(written.definition, name, session, mode);
    const out: Write[] = [];
    const add = (change: Write["change"], defined: Write["definition"]): void => {
      out.push({ name: full, kind, change, definition: defined });
    };
    const { base } = written;
    if (base.kind === "none" && written.create !== undefined) {
      add({ $case: "create", value: written.create }, definition);
    }
    if (base.kind === "set") add({ $case: "set", value: base.value }, definition);
    if (base.kind === "delete") add({ $case: "deleteEntry", value: true }, undefined);
    for (const op of written.ops) add({ $case: "apply", value: opToWire(op, name, mode) }, definition);
    if (written.define !== undefined) {
      add({ $case: "define", value: definitionToWire(written.define, name, session, mode) }, undefined);
    }
    return out;
  }

  /** All but id, meta and age. `session`: of ephemeral entries. */
  commitRequest(session: string): CommitRequest {
    const full = (name: string) => this.client.names.full(name);
    const isSnapshot = this.options.isolation === "snapshot";
    const fences: Fence[] = this.#fences.map(({ lock, token }) => ({ lock, token }));
    for (const { lock, token } of this.#handedOn) fences.push({ lock: full(lock), token });
    return {
      id: undefined,
      snapshot: this.hasReads ? this.#snapshot : 0n,
      isolation: isSnapshot ? Isolation.ISOLATION_SNAPSHOT : Isolation.ISOLATION_SERIALIZABLE,
      reads: [...this.#reads].map(full),
      lists: [...this.#lists].map(full),
      ensures: isSnapshot ? [...this.#ensures].map(full) : [],
      writes: [...this.#writes].flatMap(([name, written]) => this.#writesOf(name, written, session)),
      records: this.#records,
      fences,
      meta: undefined,
      age: undefined,
    };
  }

  awaitRequest(reservation: bigint): AwaitChangeRequest {
    const full = (name: string) => this.client.names.full(name);
    return {
      seen: { version: this.client.position.seen, store: this.store },
      snapshot: this.#snapshot,
      reads: [...this.#reads].map(full),
      lists: [...this.#lists].map(full),
      reservation,
    };
  }

  /** For the next run; with what a conflict or an await told. */
  carry(): Carried {
    return { ...nothingCarried(), wanted: [...this.#reads] };
  }
  /** The same snapshot and values, for a second run of the body on them. */
  carrySame(): Carried {
    return { snapshot: this.#snapshot, store: this.store, fresh: new Map(this.#cache), wanted: [] };
  }

  /** Results reach their commutes, hints their handles. */
  committed(committed: WireCommitted): void {
    // Results go by the writes as they were sent; none at all when there are only sets, deletes and defines.
    let at = 0;
    for (const written of this.#writes.values()) {
      if (written.base.kind === "none" && written.create !== undefined) ++at;
      if (written.base.kind !== "none") ++at;
      for (const result of written.results) {
        const wire = committed.results[at++];
        result.wire = wire?.kind === undefined ? undefined : wire;
      }
      if (written.define !== undefined) ++at;
      if (written.handle !== undefined) written.handle.exists = true;
    }
  }

  /** Calls what waits for the commit; the first error of these is thrown when all were called. */
  callOnCommit(committed: Committed): void {
    const failed: unknown[] = [];
    for (const callback of this.#onCommit) {
      try {
        callback(committed);
      } catch (error) {
        failed.push(error);
      }
    }
    if (failed.length > 0) throw failed[0];
  }

  /** An operation met an absent entry that was thought to exist: true if a rerun that creates it may help. */
  forgetExistence(name: string): boolean {
    const written = this.#writes.get(name);
    if (written?.handle === undefined || written.create !== undefined) return false;
    written.handle.exists = false;
    return true;
  }

  /** What was read, written and recorded, a line each, for rerunCheck. */
  lines(): string[] {
    const lines = [...this.#reads].sort().map((name) => `read ${name}`);
    for (const prefix of this.#lists) lines.push(`list ${prefix}`);
    for (const name of this.#ensures) lines.push(`ensure ${name}`);
    for (const [name, written] of this.#writes) {
      for (const { change } of this.#writesOf(name, written, "ours")) {
        switch (change?.$case) {
          case "set":
          case "create":
            lines.push(`${change.$case} ${name} ${shown(change.value)}`);
            break;
          case "deleteEntry":
            lines.push(`delete ${name}`);
            break;
          case "apply":
            lines.push(`commute ${name} ${json(change.value)}`);
            break;
          case "define":
            lines.push(`define ${name} ${json(change.value)}`);
            break;
          case undefined:
            break;
        }
      }
    }
    for (const value of this.#records) lines.push(`record ${shown(value)}`);
    for (const grant of this.#fences) lines.push(`fence ${grant.name} ${grant.token}`);
    for (const { lock, token } of this.#handedOn) lines.push(`fence ${lock} ${token}`);
    if (this.signal?.kind === "retry") lines.push("retry");
    if (this.signal?.kind === "fail") lines.push(`fail: ${this.signal.error.message}`);
    return lines;
  }
}

function shown(wire: Wire): string {
  return canonicalWire(wire);
}
function json(value: unknown): string {
  return JSON.stringify(value, (_, one: unknown) => (typeof one === "bigint" ? one.toString() : one));
}

export function entryOf(known: Known): Entry {
  return { name: known.name, value: known.native, version: known.version, isAtom: known.isAtom };
}
