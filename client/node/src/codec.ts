// Values to the wire and back. Always: what was read and is written back unchanged is the same value.
import { BadValue, StmError } from "./errors.js";
import type { MapEntry, Value as Wire } from "./proto/stm/v1/value.js";
import * as records from "./records.js";
import {
  BigInteger,
  Character,
  Decimal,
  Double,
  Edn,
  Instant,
  isIntegerNumber,
  Keyword,
  List,
  StmMap,
  StmSet,
  Symbol,
  Tagged,
  Uuid,
} from "./values.js";

/** How a client wants its values. */
export interface Mode {
  readonly ints: "number" | "bigint";
  readonly keys: "string" | "keyword";
}

/** What a value that is written was before: of what is there, and as it was decoded. */
export interface Before {
  readonly wire: Wire;
  readonly native: unknown;
}

/** Deeper, and the value holds itself. */
const DEPTH_MAX = 1000;

// Of decoded composites of an entry that JavaScript does not hold whole (it has doubles, or fields that are not known): what they
// were. They are frozen, so it is what they are, wherever they are put.
const whole = new WeakMap<object, Wire>();
// Of records: fields that are no properties.
const hidden = new WeakMap<object, readonly MapEntry[]>();

// ---- From the wire

/** undefined: absent. @throws BadValue, naming `name`: what this client cannot hold. */
export function decode(wire: Wire | undefined, name: string, mode: Mode): unknown {
  if (wire?.kind === undefined) return undefined;
  return new Decoder(name, mode).root(wire);
}

class Decoder {
  // Was anything met that is not written back as it is read? How many things that may change?
  private lossy = false;
  private mutable = 0;
  // Within a key or an item of a set, where no place tells 1.0 from 1: a whole double is a Double there.
  private keys = 0;
  private readonly composites: (readonly [object, Wire])[] = [];

  constructor(
    private readonly name: string,
    private readonly mode: Mode,
  ) {}

  root(wire: Wire): unknown {
    const value = this.decode(wire);
    if (this.lossy) for (const [object, was] of this.composites) whole.set(object, was);
    return value;
  }

  private decode(wire: Wire): unknown {
    const kind = wire.kind;
    if (kind === undefined) throw this.bad("a value of a kind that this client does not know: use a newer client");
    switch (kind.$case) {
      case "nil":
        return null;
      case "boolean":
      case "text":
      case "blob":
        return kind.value;
      case "float64":
        if (this.keys > 0) return isIntegerNumber(kind.value) ? new Double(kind.value) : kind.value;
        this.lossy = true;
        return kind.value;
      case "integer":
        if (this.mode.ints === "bigint") return kind.value;
        if (kind.value > Number.MAX_SAFE_INTEGER || kind.value < Number.MIN_SAFE_INTEGER) {
          throw this.bad(`${kind.value} is past 2^53, which a number cannot hold: connect with ints: "bigint"`);
        }
        return Number(kind.value);
      case "character":
        return new Character(String.fromCodePoint(kind.value));
      case "keyword":
        return new Keyword(kind.value);
      case "symbol":
        return new Symbol(kind.value);
      case "instant":
        return Instant.fromSeconds(kind.value.seconds, kind.value.nanos);
      case "uuid":
        return new Uuid(kind.value);
      case "bigint":
        return new BigInteger(kind.value);
      case "decimal":
        return new Decimal(kind.value);
      case "list":
        return this.keep(wire, () => new List(kind.value.items.map((item) => this.decode(item))));
      case "vector":
        return this.keep(wire, () => Object.freeze(kind.value.items.map((item) => this.decode(item))));
      case "set":
        return this.keep(wire, () => new StmSet(kind.value.items.map((item) => this.exact(item))));
      case "map":
        return this.keep(wire, () => this.map(kind.value.entries));
      case "tagged":
        return this.tagged(wire, kind.value.tag, kind.value.value);
      case "edn":
        throw this.bad("the daemon sent EDN text where a value belongs: use a client as new as the daemon");
    }
  }

  private keep<T extends object>(wire: Wire, make: () => T): T {
    const { mutable } = this;
    const made = make();
    if (this.mutable === mutable) this.composites.push([made, wire]);
    return made;
  }

  private exact(wire: Wire): unknown {
    ++this.keys;
    const value = this.decode(wire);
    --this.keys;
    return value;
  }

  private map(entries: readonly MapEntry[]): object {
    const plain = this.mode.keys === "keyword" ? "keyword" : "text";
    if (!entries.every((entry) => entry.key?.kind?.$case === plain)) {
      return new StmMap(entries.map(({ key, value }) => [this.exact(set(key)), this.decode(set(value))] as const));
    }
    const object: Record<string, unknown> = {};
    for (const { key, value } of entries) {
      const kind = key?.kind;
      if (kind?.$case === "text" || kind?.$case === "keyword") put(object, kind.value, this.decode(set(value)));
    }
    return Object.freeze(object);
  }

  private tagged(wire: Wire, tag: string, value: Wire | undefined): unknown {
    const registration = records.ofTag(tag);
    if (registration === undefined) return this.keep(wire, () => new Tagged(tag, this.decode(set(value))));
    if (registration.decode !== undefined) {
      const inside = this.decode(set(value));
      ++this.mutable;
      try {
        return registration.decode(inside);
      } catch (error) {
        throw this.bad(`#${tag} cannot be read as ${registration.type.name}: ${messageOf(error)}`, error);
      }
    }
    if (value?.kind?.$case !== "map") {
      throw this.bad(`#${tag} is no record, as ${registration.type.name} is, but a ${value?.kind?.$case ?? "nothing"}`);
    }
    const entries = value.kind.value.entries;
    return this.keep(wire, () => this.record(registration, entries));
  }

  private record(registration: records.Registration, entries: readonly MapEntry[]): object {
    this.lossy = true;
    const made = Object.create(registration.type.prototype as object) as Record<string, unknown>;
    const unknown: MapEntry[] = [];
    for (const entry of entries) {
      const property = propertyOf(registration, entry);
      if (property === undefined || Object.hasOwn(made, property)) unknown.push(entry);
      else put(made, property, this.decode(set(entry.value)));
    }
    if (unknown.length > 0) hidden.set(made, unknown);
    return Object.freeze(made);
  }

  private bad(what: string, cause?: unknown): BadValue {
    return new BadValue(`${this.name}: ${what}`, { name: this.name }, { cause });
  }
}

/** Which property a field is; undefined: none. */
function propertyOf(registration: records.Registration, entry: MapEntry): string | undefined {
  const key = entry.key?.kind;
  if (key?.$case !== "keyword" || key.value.includes("/")) return undefined;
  if (registration.properties !== undefined) return registration.properties.get(key.value);
  const property = records.camel(key.value);
  return records.kebab(property) === key.value ? property : undefined;
}

function set(wire: Wire | undefined): Wire {
  return wire ?? { kind: undefined };
}

function put(object: Record<string, unknown>, key: string, value: unknown): void {
  if (key === "__proto__") Object.defineProperty(object, key, { value, enumerable: true });
  else object[key] = value;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

// ---- To the wire

/** `before`: what it replaces, whose kinds of numbers and unknown fields it keeps. @throws BadValue, naming `name`. */
export function encode(value: unknown, name: string, mode: Mode, before?: Before): Wire {
  return new Encoder(value, name, mode).encode(value, before, 0);
}

class Encoder {
  private instances: Set<object> | undefined;

  constructor(
    private readonly all: unknown,
    private readonly name: string,
    private readonly mode: Mode,
  ) {}

  encode(value: unknown, before: Before | undefined, depth: number): Wire {
    if (depth > DEPTH_MAX) throw this.bad(`a value nested deeper than ${DEPTH_MAX}, or one that holds itself`);
    switch (typeof value) {
      case "string":
        return { kind: { $case: "text", value: this.text(value) } };
      case "boolean":
        return { kind: { $case: "boolean", value } };
      case "number":
        return this.number(value, before?.wire.kind?.$case);
      case "bigint":
        if (BigInt.asIntN(64, value) !== value) {
          throw this.bad(`${value} is past 64 bits: write new BigInteger(${value}n)`);
        }
        return { kind: { $case: "integer", value } };
      case "object":
        return value === null ? { kind: { $case: "nil", value: true } } : this.object(value, before, depth);
      case "undefined":
        throw this.bad("undefined is no value: write null for nil, or delete the entry");
      default:
        throw this.bad(`a ${typeof value} has no EDN form: write plain values`);
    }
  }

  private number(value: number, was: string | undefined): Wire {
    if (was === "integer" && Number.isInteger(value) && !Number.isSafeInteger(value)) {
      throw this.bad(`${value} is past 2^53, where numbers are not exact: write a bigint`);
    }
    if (was !== "float64" && isIntegerNumber(value)) return { kind: { $case: "integer", value: BigInt(value) } };
    return { kind: { $case: "float64", value } };
  }

  private text(value: string): string {
    if (/[\uD800-\uDFFF]/u.test(value))
      throw this.bad("a string with half a surrogate pair has no UTF-8: keep it as bytes");
    return value;
  }

  private object(value: object, before: Before | undefined, depth: number): Wire {
    const same = whole.get(value);
    if (same !== undefined) return same;
    if (Array.isArray(value)) return { kind: { $case: "vector", value: this.items(value, before, depth) } };
    const prototype: unknown = Object.getPrototypeOf(value);
    if (prototype === Object.prototype || prototype === null)
      return this.map(Object.entries(value), true, before, depth);
    const registration = records.ofType(value.constructor);
    if (registration !== undefined) return this.registered(value, registration, before, depth);
    if (value instanceof Keyword) return { kind: { $case: "keyword", value: this.text(value.text) } };
    if (value instanceof Symbol) return { kind: { $case: "symbol", value: this.text(value.text) } };
    if (value instanceof Double) return { kind: { $case: "float64", value: value.value } };
    if (value instanceof BigInteger) return { kind: { $case: "bigint", value: value.text } };
    if (value instanceof Decimal) return { kind: { $case: "decimal", value: value.text } };
    if (value instanceof Character) return { kind: { $case: "character", value: value.text.codePointAt(0) ?? 0 } };
    if (value instanceof Uuid) return { kind: { $case: "uuid", value: value.text } };
    if (value instanceof Instant) return this.instant(value);
    if (value instanceof Date) {
      if (Number.isNaN(value.getTime())) throw this.bad("an invalid Date is no instant");
      return this.instant(Instant.fromDate(value));
    }
    if (value instanceof Uint8Array) return { kind: { $case: "blob", value } };
    if (value instanceof List) return { kind: { $case: "list", value: this.items(value.items, before, depth) } };
    if (value instanceof StmMap || value instanceof Map) return this.map(value, false, before, depth);
    if (value instanceof StmSet || value instanceof Set) {
      const items = [...(value instanceof Set ? new StmSet(value) : value)];
      return { kind: { $case: "set", value: { items: items.map((item) => this.encode(item, undefined, depth + 1)) } } };
    }
    if (value instanceof Edn) return { kind: { $case: "edn", value: this.text(value.text) } };
    if (value instanceof Tagged) {
      const inside = this.encode(value.value, insideOf(before, value.tag), depth + 1);
      return { kind: { $case: "tagged", value: { tag: value.tag, value: inside } } };
    }
    throw this.bad(`${value.constructor.name} has no EDN form: register its class by record(), or write plain values`);
  }

  private instant(value: Instant): Wire {
    return { kind: { $case: "instant", value: { seconds: value.epochSeconds, nanos: value.nanosecond } } };
  }

  private items(items: readonly unknown[], before: Before | undefined, depth: number): { items: Wire[] } {
    const kind = before?.wire.kind;
    const was = kind?.$case === "vector" || kind?.$case === "list" ? kind.value.items : [];
    const native: unknown = before?.native instanceof List ? before.native.items : before?.native;
    const out = new Array<Wire>(items.length);
    for (let i = 0; i < items.length; ++i) {
      const wire = was[i];
      const there = wire && { wire, native: Array.isArray(native) ? (native as unknown[])[i] : undefined };
      out[i] = this.encode(items[i], there, depth + 1);
    }
    return { items: out };
  }

  /** `plain`: of an object, whose keys are keywords for a client that wants that. */
  private map(
    entries: Iterable<readonly [unknown, unknown]>,
    plain: boolean,
    before: Before | undefined,
    depth: number,
  ): Wire {
    const was = before && childrenOf(before);
    const out: MapEntry[] = [];
    for (const [key, value] of entries) {
      if (plain && value === undefined) continue;
      const wire: Wire =
        plain && this.mode.keys === "keyword"
          ? { kind: { $case: "keyword", value: this.text(key as string) } }
          : this.encode(key, undefined, depth + 1);
      out.push({ key: wire, value: this.encode(value, was?.(wire, key), depth + 1) });
    }
    return { kind: { $case: "map", value: { entries: out } } };
  }

  private registered(
    value: object,
    registration: records.Registration,
    before: Before | undefined,
    depth: number,
  ): Wire {
    const { tag } = registration;
    const was = insideOf(before, tag);
    if (registration.encode !== undefined) {
      const inside = this.encode(registration.encode(value), was, depth + 1);
      return { kind: { $case: "tagged", value: { tag, value: inside } } };
    }
    const entries: MapEntry[] = [];
    const spelled = new Map<string, string>();
    const children = was && childrenOf(was);
    for (const [property, field] of Object.entries(value) as [string, unknown][]) {
      if (registration.fields !== undefined && !registration.fields.has(property)) continue;
      if (typeof field === "function") continue;
      const keyword = registration.fields?.get(property) ?? records.kebab(property);
      const other = spelled.get(keyword);
      if (other !== undefined) throw records.spelledAlike(registration.type.name, other, property, keyword);
      spelled.set(keyword, property);
      if (field === undefined) continue;
      const key: Wire = { kind: { $case: "keyword", value: keyword } };
      entries.push({ key, value: this.encode(field, children?.(key, property), depth + 1) });
    }
    for (const entry of this.unknownFields(value, registration, before, was)) {
      const key = entry.key?.kind;
      if (key?.$case === "keyword" && spelled.has(key.value)) continue;
      entries.push(entry);
    }
    return { kind: { $case: "tagged", value: { tag, value: { kind: { $case: "map", value: { entries } } } } } };
  }

  /** Of the record that `value` replaces, unless that record is written elsewhere as it was. */
  private unknownFields(
    value: object,
    registration: records.Registration,
    before: Before | undefined,
    was: Before | undefined,
  ): readonly MapEntry[] {
    const own = hidden.get(value);
    if (own !== undefined) return own;
    if (was?.wire.kind?.$case !== "map" || before === undefined) return [];
    if (typeof before.native === "object" && before.native !== null && this.written().has(before.native)) return [];
    return was.wire.kind.value.entries.filter((entry) => {
      const property = propertyOf(registration, entry);
      return property === undefined || (registration.properties === undefined && !Object.hasOwn(value, property));
    });
  }

  /** Every object within what is written. */
  private written(): Set<object> {
    if (this.instances !== undefined) return this.instances;
    const found = new Set<object>();
    const walk = (value: unknown): void => {
      if (typeof value !== "object" || value === null || found.has(value)) return;
      found.add(value);
      if (value instanceof StmMap || value instanceof Map) for (const [, item] of value) walk(item);
      else if (Array.isArray(value) || value instanceof List || value instanceof StmSet || value instanceof Set) {
        for (const item of value) walk(item);
      } else if (value instanceof Tagged) walk(value.value);
      else if (!(value instanceof Uint8Array)) for (const item of Object.values(value)) walk(item);
    };
    walk(this.all);
    this.instances = found;
    return found;
  }

  private bad(what: string): BadValue {
    return new BadValue(`${this.name}: ${what}`, { name: this.name });
  }
}

function insideOf(before: Before | undefined, tag: string): Before | undefined {
  const kind = before?.wire.kind;
  if (kind?.$case !== "tagged" || kind.value.tag !== tag || kind.value.value === undefined) return undefined;
  const native: unknown = before?.native instanceof Tagged ? before.native.value : before?.native;
  return { wire: kind.value.value, native };
}

/** What was under a key, of a map. */
function childrenOf(before: Before): ((key: Wire, native: unknown) => Before | undefined) | undefined {
  if (before.wire.kind?.$case !== "map") return undefined;
  const { native } = before;
  const byKey = new Map<string, Wire>();
  for (const entry of before.wire.kind.value.entries) {
    if (entry.value !== undefined) byKey.set(keyText(entry.key), entry.value);
  }
  return (key, nativeKey) => {
    const wire = byKey.get(keyText(key));
    if (wire === undefined) return undefined;
    if (native instanceof StmMap) return { wire, native: native.get(nativeKey) };
    if (typeof native !== "object" || native === null || typeof nativeKey !== "string")
      return { wire, native: undefined };
    return { wire, native: (native as Record<string, unknown>)[nativeKey] };
  };
}

function keyText(key: Wire | undefined): string {
  const kind = key?.kind;
  if (kind?.$case === "keyword") return `:${kind.value}`;
  if (kind?.$case === "text") return `"${kind.value}`;
  return canonicalWire(set(key));
}

/** One text for each value on the wire; the same for equal ones. */
export function canonicalWire(wire: Wire | undefined): string {
  const kind = wire?.kind;
  if (kind === undefined) return "absent";
  switch (kind.$case) {
    case "float64":
      return `d${Object.is(kind.value, -0) ? "-0" : kind.value.toString()}`;
    case "list":
    case "vector":
      return `${kind.$case}[${kind.value.items.map(canonicalWire).join(",")}]`;
    case "set":
      return `set[${kind.value.items.map(canonicalWire).sort().join(",")}]`;
    case "map": {
      const pairs = kind.value.entries.map((entry) => `${canonicalWire(entry.key)}=${canonicalWire(entry.value)}`);
      return `map[${pairs.sort().join(",")}]`;
    }
    case "tagged":
      return `#${JSON.stringify(kind.value.tag)}${canonicalWire(kind.value.value)}`;
    case "instant":
      return `instant${kind.value.seconds}.${kind.value.nanos}`;
    case "blob":
      return `blob${Buffer.from(kind.value).toString("base64")}`;
    default:
      return `${kind.$case}${JSON.stringify(String(kind.value))}`;
  }
}

/** @throws BadValue, naming the entry: `error`, if it is one already, else as its cause. */
export function ofEntry(name: string, error: unknown): StmError {
  if (error instanceof StmError) return error;
  return new BadValue(`${name}: ${messageOf(error)}`, { name }, { cause: error });
}
