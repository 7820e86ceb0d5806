// What is told of entries and commits, and the options that say what an entry is.
import { canonicalWire, decode, encode, type Mode } from "./codec.js";
import type { Core } from "./core.js";
import { BadValue, type Meta, StmError } from "./errors.js";
import { toDuration } from "./failure.js";
import type { Names } from "./names.js";
import { EntryKind, type Definition as WireDefinition, type Entry as WireEntry } from "./proto/stm/v1/common.js";
import { ChangeKind as WireChangeKind, type CommitEvent } from "./proto/stm/v1/event.js";
import type { Value as Wire } from "./proto/stm/v1/value.js";
import type { Class } from "./records.js";
import { Edn, Instant } from "./values.js";

/** Of an entry, fixed at creation by the first to create it; `define` changes it. */
export interface Definition {
  /** A rule that values must keep, as the EDN text "[:and :int [:min 0]]" or as a value. undefined: none. */
  readonly validator?: unknown;
  /** Milliseconds, from 1; each write starts it again. undefined: for ever. */
  readonly ttlMs?: number | undefined;
  /** Bound to this client's session, whose end deletes it. */
  readonly ephemeral?: boolean | undefined;
  /** That keeps the value, as "mongo". undefined: inline. `define` does not change it. */
  readonly container?: string | undefined;
}

/** Of a handle: the definition of an entry that it makes, and what its values must be. */
export interface RefOptions<T = unknown> extends Definition {
  /** Values must be instances of this class; others are BadValue. */
  readonly type?: Class<T> | undefined;
  /** Checks or converts each value that is read, as a schema's parse does; what it throws becomes BadValue. */
  readonly parse?: ((value: unknown) => T) | undefined;
}

export interface Entry<T = unknown> {
  readonly name: string;
  readonly value: T;
  /** The commit that wrote it; 0n: the transaction itself did. */
  readonly version: bigint;
  readonly isAtom: boolean;
}

export type ChangeKind = "set" | "deleted" | "expired" | "defined";

export interface Change {
  readonly name: string;
  /** "expired": by its TTL or its session's end. "defined": only its definition changed. */
  readonly kind: ChangeKind;
  /** undefined: absent, unless beforeUnknown. */
  readonly before: unknown;
  /** undefined: absent. */
  readonly after: unknown;
  /** History was trimmed, or another daemon's commit does not tell it. */
  readonly beforeUnknown: boolean;
  readonly isAtom: boolean;
}

/** One commit, whole: as watches and histories show it. */
export interface Commit {
  readonly version: bigint;
  readonly at: Instant;
  /** "": committed without an id, or initial. */
  readonly transactionId: string;
  readonly meta: Meta;
  /** Those that were selected. */
  readonly changes: readonly Change[];
  readonly records: readonly unknown[];
  /** No commit, but all that is there at `version`: what was known before is void. */
  readonly initial: boolean;
}

/** What a transaction was when it was durable. */
export interface Committed {
  /** 0n: it only read, and had nothing to commit. */
  readonly version: bigint;
  readonly at: Instant;
  readonly transactionId: string;
  /** A once key was spent already: version is the first call's. */
  readonly repeated: boolean;
  /** All its runs together: sent again under the same id, since no answer had come. */
  readonly resends: number;
}

/** A name with what is known of it in this process. */
export class Handle {
  readonly definition: Definition | undefined;
  readonly #init: unknown;
  readonly #options: RefOptions;
  #initWire: Wire | undefined;
  /** It was seen: an operation on it need not create it first. */
  exists = false;

  constructor(
    readonly core: Core,
    readonly name: string,
    readonly isAtom: boolean,
    init: unknown,
    options: RefOptions,
  ) {
    this.#init = init;
    this.#options = options;
    const { validator, ttlMs, ephemeral, container } = options;
    const isDefined = validator !== undefined || ttlMs !== undefined || ephemeral === true || container !== undefined;
    this.definition = isDefined ? { validator, ttlMs, ephemeral, container } : undefined;
  }

  get hasInit(): boolean {
    return this.#init !== undefined;
  }
  /** undefined: it has none. */
  get init(): Wire | undefined {
    if (this.#init === undefined) return undefined;
    return (this.#initWire ??= encode(this.#init, this.name, this.core.mode));
  }
  decode(wire: Wire | undefined): unknown {
    return decode(wire, this.name, this.core.mode);
  }
  /** @throws BadValue: not what the handle's options ask for. */
  checked(value: unknown): unknown {
    const { type, parse } = this.#options;
    if (type !== undefined && !(value instanceof type)) {
      const found = typeof value === "object" && value !== null ? value.constructor.name : String(value);
      throw new BadValue(`${this.name} is no ${type.name}: found ${found}: write one, or read it by another handle`, {
        name: this.name,
        expected: type.name,
        found,
      });
    }
    if (parse === undefined) return value;
    try {
      return parse(value);
    } catch (error) {
      if (error instanceof StmError) throw error;
      const why = error instanceof Error ? error.message : String(error);
      throw new BadValue(`${this.name}: its value does not fit: ${why}`, { name: this.name }, { cause: error });
    }
  }
}

/** An entry as an answer has it. Decoded when it is asked for. */
export class Known {
  readonly name: string;
  readonly wire: Wire | undefined;
  readonly version: bigint;
  readonly isAtom: boolean;
  #native: unknown;
  #decoded = false;

  constructor(
    message: WireEntry,
    names: Names,
    private readonly mode: Mode,
  ) {
    this.name = names.short(message.name);
    this.wire = message.value?.kind === undefined ? undefined : message.value;
    this.version = message.version;
    this.isAtom = message.kind === EntryKind.ENTRY_KIND_ATOM;
  }
  /** undefined: absent. */
  get native(): unknown {
    if (!this.#decoded) {
      this.#native = decode(this.wire, this.name, this.mode);
      this.#decoded = true;
    }
    return this.#native;
  }
}

/** @throws BadValue: no time to live. */
export function definitionToWire(definition: Definition, name: string, session: string, mode: Mode): WireDefinition {
  const { validator, ttlMs, ephemeral, container } = definition;
  if (ttlMs !== undefined && !(ttlMs >= 1 && Number.isFinite(ttlMs))) {
    throw new BadValue(`${name}: ttlMs ${ttlMs} is no time to live: give 1 or more milliseconds`, { name });
  }
  const rule = typeof validator === "string" ? new Edn(validator) : validator;
  return {
    container: container ?? "",
    validator: rule === undefined ? undefined : encode(rule, name, mode),
    sessionId: ephemeral === true ? session : "",
    ttl: ttlMs === undefined ? undefined : toDuration(ttlMs),
  };
}

const KINDS = new Map<number, ChangeKind>([
  [WireChangeKind.CHANGE_KIND_DELETED, "deleted"],
  [WireChangeKind.CHANGE_KIND_EXPIRED, "expired"],
  [WireChangeKind.CHANGE_KIND_DEFINED, "defined"],
]);

/** A commit of one or several messages; `before`: of the same commit. */
export function commitOf(event: CommitEvent, core: Core, before?: Commit): Commit {
  const { names, mode } = core;
  const changes = event.changes.map((change): Change => {
    const name = names.short(change.name);
    return {
      name,
      kind: KINDS.get(change.kind) ?? "set",
      before: decode(change.before, name, mode),
      after: decode(change.after, name, mode),
      beforeUnknown: change.beforeUnknown,
      isAtom: change.entryKind === EntryKind.ENTRY_KIND_ATOM,
    };
  });
  const records = event.records.map((value) => decode(value, `a record of version ${event.version}`, mode));
  return {
    version: event.version,
    at: Instant.fromSeconds(event.at?.seconds ?? 0n, event.at?.nanos ?? 0),
    transactionId: event.transactionId,
    meta: event.meta ?? NO_META,
    changes: before === undefined ? changes : [...before.changes, ...changes],
    records: before === undefined ? records : [...before.records, ...records],
    initial: false,
  };
}

export const NO_META: Meta = Object.freeze({ label: "", client: "", traceparent: "", principal: "" });

export function sameWire(a: Wire | undefined, b: Wire | undefined): boolean {
  return canonicalWire(a) === canonicalWire(b);
}
