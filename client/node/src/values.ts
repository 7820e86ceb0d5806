// Values that JavaScript lacks, each immutable and equal by content (`equals`). What is decoded is frozen.
import { BadValue } from "./errors.js";

/**
 * Any EDN value as this package decodes it. `null` is nil; `undefined` stands for absence and is never within a value.
 * A registered class's instances are Values too: `unknown` in `Tagged` and in collections leaves room for them.
 */
export type Value =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | Double
  | BigInteger
  | Decimal
  | Character
  | Keyword
  | Symbol
  | Instant
  | Uuid
  | List
  | StmMap
  | StmSet
  | Tagged
  | readonly Value[]
  | { readonly [key: string]: Value };

const inspect = globalThis.Symbol.for("nodejs.util.inspect.custom");

/** A value that is a text of its own kind. */
abstract class Textual {
  constructor(readonly text: string) {
    Object.freeze(this);
  }
  toString(): string {
    return this.text;
  }
  [inspect](): string {
    return `${this.constructor.name}(${this.toString()})`;
  }
}

/** :name or :ns/name; `text` is without the colon. */
export class Keyword extends Textual {
  get type(): "keyword" {
    return "keyword";
  }
  override toString(): string {
    return `:${this.text}`;
  }
}
/** A symbol of EDN, as `name` or `ns/name`. */
export class Symbol extends Textual {
  get type(): "symbol" {
    return "symbol";
  }
}
/** One character, \a: `text` is one code point. */
export class Character extends Textual {
  get type(): "character" {
    return "character";
  }
  constructor(text: string) {
    if (!/^.$/su.test(text)) throw new BadValue(`"${text}" is no character: give one code point`);
    super(text);
  }
}
/** 36 characters, kept in lower case. */
export class Uuid extends Textual {
  get type(): "uuid" {
    return "uuid";
  }
  constructor(text: string) {
    if (!/^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i.test(text)) {
      throw new BadValue(`"${text}" is no UUID: give 36 characters, as crypto.randomUUID() does`);
    }
    super(text.toLowerCase());
  }
  static random(): Uuid {
    return new Uuid(crypto.randomUUID());
  }
}
/** 1.50M, by its digits; the scale is kept. It does no arithmetic: give `text` to a library that does. */
export class Decimal extends Textual {
  get type(): "decimal" {
    return "decimal";
  }
  constructor(text: string) {
    if (!/^-?\d+(\.\d+)?([eE][+-]?\d+)?$/.test(text)) {
      throw new BadValue(`"${text}" is no decimal: give digits, as "1.50"`);
    }
    super(text);
  }
}
/** 123N: an integer of any size, and another type than an integer of 64 bits. */
export class BigInteger extends Textual {
  get type(): "bigint" {
    return "bigint";
  }
  constructor(value: bigint | string | number) {
    super(BigInt(value).toString());
  }
  get value(): bigint {
    return BigInt(this.text);
  }
}

/** One value as EDN text, which the daemon reads: for rules and for values by hand. Never read back as such. */
export class Edn extends Textual {
  get type(): "edn" {
    return "edn";
  }
}

/** A double that is to stay one, though it is whole: double(1) is 1.0. */
export class Double {
  readonly type = "double";
  constructor(readonly value: number) {
    Object.freeze(this);
  }
  valueOf(): number {
    return this.value;
  }
}
/** Forces a double: double(1) is written as 1.0, not as the integer 1. */
export function double(value: number): Double {
  return new Double(value);
}

const NANOS = 1_000_000_000n;

/** A moment in UTC, to the nanosecond; years 0001 to 9999. */
export class Instant {
  readonly type = "instant";
  /** Since 1970-01-01T00:00:00Z; negative before it. */
  readonly epochNanoseconds: bigint;
  constructor(epochNanoseconds: bigint) {
    this.epochNanoseconds = epochNanoseconds;
    Object.freeze(this);
  }
  /** `nanos`: 0 to 999 999 999, counted forward. */
  static fromSeconds(seconds: bigint, nanos: number): Instant {
    return new Instant(seconds * NANOS + BigInt(nanos));
  }
  static fromDate(date: Date): Instant {
    return new Instant(BigInt(date.getTime()) * 1_000_000n);
  }
  /** RFC 3339 with up to nine decimals, as 2026-11-22T03:00:00.123456789Z. */
  static parse(text: string): Instant {
    const parts = /^(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)$/.exec(text);
    const ms = parts === null ? NaN : Date.parse(`${parts[1] ?? ""}${parts[3] ?? ""}`);
    if (parts === null || Number.isNaN(ms)) {
      throw new BadValue(`"${text}" is no instant: write it as 2026-11-22T03:00:00.5Z`);
    }
    return new Instant(BigInt(ms) * 1_000_000n + BigInt((parts[2] ?? "").padEnd(9, "0")));
  }
  /** To the millisecond, as Date knows it. */
  static now(): Instant {
    return Instant.fromDate(new Date());
  }
  /** Rounded down. */
  get epochSeconds(): bigint {
    return (this.epochNanoseconds - BigInt(this.nanosecond)) / NANOS;
  }
  /** Within its second, 0 to 999 999 999. */
  get nanosecond(): number {
    const rest = this.epochNanoseconds % NANOS;
    return Number(rest < 0n ? rest + NANOS : rest);
  }
  /** Cut to its millisecond. */
  toDate(): Date {
    return new Date(Number(this.epochSeconds) * 1000 + Math.floor(this.nanosecond / 1_000_000));
  }
  toString(): string {
    const seconds = new Date(Number(this.epochSeconds) * 1000).toISOString().slice(0, 19);
    const digits = this.nanosecond === 0 ? "" : `.${String(this.nanosecond).padStart(9, "0").replace(/0+$/, "")}`;
    return `${seconds}${digits}Z`;
  }
  toJSON(): string {
    return this.toString();
  }
  [inspect](): string {
    return `Instant(${this.toString()})`;
  }
}

/** A list, (1 2), which is another type than a vector: vectors are arrays. */
export class List<T = Value> implements Iterable<T> {
  readonly type = "list";
  readonly items: readonly T[];
  constructor(items: Iterable<T> = []) {
    this.items = Object.freeze([...items]);
    Object.freeze(this);
  }
  get length(): number {
    return this.items.length;
  }
  at(index: number): T | undefined {
    return this.items.at(index);
  }
  [globalThis.Symbol.iterator](): Iterator<T> {
    return this.items[globalThis.Symbol.iterator]();
  }
}

/** #tag value, of a tag that is not registered here. */
export class Tagged<T = Value> {
  readonly type = "tagged";
  /** `tag` is without the #. */
  constructor(
    readonly tag: string,
    readonly value: T,
  ) {
    Object.freeze(this);
  }
}

/** A map of any keys, equal by content and immutable: `with` and `without` give new ones. */
export class StmMap<K = Value, V = Value> implements Iterable<readonly [K, V]> {
  readonly type = "map";
  readonly #entries: ReadonlyMap<string, readonly [K, V]>;
  constructor(entries: Iterable<readonly [K, V]> = []) {
    const map = new Map<string, readonly [K, V]>();
    for (const [key, value] of entries) map.set(canonical(key), Object.freeze([key, value] as const));
    this.#entries = map;
    Object.freeze(this);
  }
  get size(): number {
    return this.#entries.size;
  }
  get(key: K): V | undefined {
    return this.#entries.get(canonical(key))?.[1];
  }
  has(key: K): boolean {
    return this.#entries.has(canonical(key));
  }
  with(key: K, value: V): StmMap<K, V> {
    return new StmMap<K, V>([...this, [key, value]]);
  }
  without(key: K): StmMap<K, V> {
    const gone = canonical(key);
    return new StmMap<K, V>([...this].filter(([one]) => canonical(one) !== gone));
  }
  *keys(): IterableIterator<K> {
    for (const [key] of this.#entries.values()) yield key;
  }
  *values(): IterableIterator<V> {
    for (const [, value] of this.#entries.values()) yield value;
  }
  entries(): Iterator<readonly [K, V]> {
    return this.#entries.values();
  }
  [globalThis.Symbol.iterator](): Iterator<readonly [K, V]> {
    return this.#entries.values();
  }
  [inspect](): unknown {
    return new Map(this);
  }
}

/** A set of any items, equal by content and immutable: `with` and `without` give new ones. */
export class StmSet<T = Value> implements Iterable<T> {
  readonly type = "set";
  readonly #items: ReadonlyMap<string, T>;
  constructor(items: Iterable<T> = []) {
    const map = new Map<string, T>();
    for (const item of items) map.set(canonical(item), item);
    this.#items = map;
    Object.freeze(this);
  }
  get size(): number {
    return this.#items.size;
  }
  has(item: T): boolean {
    return this.#items.has(canonical(item));
  }
  with(item: T): StmSet<T> {
    return new StmSet<T>([...this, item]);
  }
  without(item: T): StmSet<T> {
    const gone = canonical(item);
    return new StmSet<T>([...this].filter((one) => canonical(one) !== gone));
  }
  values(): Iterator<T> {
    return this.#items.values();
  }
  [globalThis.Symbol.iterator](): Iterator<T> {
    return this.#items.values();
  }
  [inspect](): unknown {
    return new Set(this);
  }
}

/** Equal as the engine has it: by content, whatever the order of maps and sets; 1 and double(1) differ; NaN equals itself. */
export function equals(a: unknown, b: unknown): boolean {
  return a === b || canonical(a) === canonical(b);
}

/** One text for each value, the same for equal ones. @internal */
export function canonical(value: unknown): string {
  switch (typeof value) {
    case "undefined":
      return "u";
    case "boolean":
      return value ? "t" : "f";
    case "string":
      return `s${JSON.stringify(value)}`;
    case "bigint":
      return `i${value.toString()}`;
    case "number":
      return isIntegerNumber(value) ? `i${value.toString()}` : canonicalDouble(value);
    case "object":
      break;
    default:
      throw new BadValue(`a ${typeof value} is no value that EDN has: write plain values`);
  }
  if (value === null) return "n";
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value instanceof Double) return canonicalDouble(value.value);
  if (value instanceof Textual) return `${value.constructor.name}${JSON.stringify(value.text)}`;
  if (value instanceof Instant) return `I${value.epochNanoseconds.toString()}`;
  if (value instanceof Date) return canonical(Instant.fromDate(value));
  if (value instanceof List) return `(${value.items.map(canonical).join(",")})`;
  if (value instanceof Tagged) return `#${JSON.stringify(value.tag)}${canonical(value.value)}`;
  if (value instanceof Uint8Array) return `b${Buffer.from(value).toString("base64")}`;
  if (value instanceof StmSet || value instanceof Set) return `#{${[...value].map(canonical).sort().join(",")}}`;
  const entries: Iterable<readonly [unknown, unknown]> =
    value instanceof StmMap || value instanceof Map ? value : Object.entries(value);
  const pairs: string[] = [];
  for (const [key, item] of entries) if (item !== undefined) pairs.push(`${canonical(key)}:${canonical(item)}`);
  const prototype: unknown = Object.getPrototypeOf(value);
  const own = value instanceof StmMap || value instanceof Map || prototype === Object.prototype || prototype === null;
  return `${own ? "" : (value.constructor as { name: string }).name}{${pairs.sort().join(",")}}`;
}

function canonicalDouble(value: number): string {
  return `d${Object.is(value, -0) ? "-0" : value.toString()}`;
}

/** Is it written as an integer? Whole, within 2^53, and not -0. @internal */
export function isIntegerNumber(value: number): boolean {
  return Number.isSafeInteger(value) && !Object.is(value, -0);
}
