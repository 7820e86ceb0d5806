// Operations: pure changes that the daemon applies at the commit point, so that they never conflict.
import { encode, type Mode } from "./codec.js";
import { BadValue } from "./errors.js";
import type { Operation } from "./proto/stm/v1/common.js";
import { Keyword, StmMap, type StmSet } from "./values.js";

type Verb = NonNullable<Operation["operation"]>["$case"];

/** One operation. Made by `op`; `at` says where within the value it applies. */
export class Op {
  /** @internal */
  constructor(
    readonly verb: Verb,
    readonly args: readonly unknown[],
    readonly path: readonly unknown[] = [],
  ) {
    Object.freeze(this);
  }
  /** The same, within the value: keys and indexes, as update-in. */
  at(...path: unknown[]): Op {
    return new Op(this.verb, this.args, [...this.path, ...path]);
  }
}

/** @internal */
export function opToWire(op: Op, name: string, mode: Mode): Operation {
  const one = (value: unknown) => encode(value, name, mode);
  const items = () => ({ items: op.args.map(one) });
  const keyOf = (value: unknown) =>
    one(typeof value === "string" && mode.keys === "keyword" ? new Keyword(value) : value);
  const path = op.path.map(keyOf);
  const { verb, args } = op;
  switch (verb) {
    case "set":
    case "add":
    case "min":
    case "max":
    case "append":
      return { path, operation: { $case: verb, value: one(args[0]) } };
    case "conj":
    case "disj":
      return { path, operation: { $case: verb, value: items() } };
    case "dissoc":
      return { path, operation: { $case: verb, value: { items: args.map(keyOf) } } };
    case "pop":
    case "shift":
      return { path, operation: { $case: verb, value: args[0] as number } };
    case "assoc": {
      const entries = [];
      for (let i = 0; i + 1 < args.length; i += 2) {
        entries.push({ key: keyOf(args[i]), value: one(args[i + 1]) });
      }
      return { path, operation: { $case: verb, value: { entries } } };
    }
    case "toggle":
      return { path, operation: { $case: verb, value: true } };
    case "compareAndSet": {
      const expected = args[0] === undefined ? undefined : one(args[0]);
      return { path, operation: { $case: verb, value: { expected, value: one(args[1]) } } };
    }
  }
}

function count(n: number): number {
  if (!Number.isInteger(n) || n < 1 || n > 0xffffffff) {
    throw new BadValue(`${n} is no count of items: give a whole number from 1`, { name: "n" });
  }
  return n;
}

/** The operations. Each result is the new value, but what was removed for pop and shift. */
export const op = {
  set: (value: unknown): Op => new Op("set", [value]),
  /** An integer or a double; a sum past 64 bits is rejected. */
  add: (amount: unknown): Op => new Op("add", [amount]),
  min: (value: unknown): Op => new Op("min", [value]),
  max: (value: unknown): Op => new Op("max", [value]),
  /** All items, characters or bytes of `more` at the end. */
  append: (more: unknown): Op => new Op("append", [more]),
  /** To a vector at the end, to a list at the front, to a set; to a map, each item a pair. */
  conj: (...items: unknown[]): Op => new Op("conj", items),
  disj: (...items: unknown[]): Op => new Op("disj", items),
  /** assoc(key, value, key, value...), into a map or at indexes of a vector. @throws BadValue: a key without a value. */
  assoc: (...keysAndValues: unknown[]): Op => {
    if (keysAndValues.length === 0 || keysAndValues.length % 2 !== 0) {
      throw new BadValue("assoc takes keys and values in turn: give each key a value", { name: "assoc" });
    }
    return new Op("assoc", keysAndValues);
  },
  dissoc: (...keys: unknown[]): Op => new Op("dissoc", keys),
  /** Entries of a map or a plain object into the map. */
  merge: (map: StmMap<unknown, unknown> | ReadonlyMap<unknown, unknown> | Readonly<Record<string, unknown>>): Op => {
    const entries: Iterable<readonly [unknown, unknown]> =
      map instanceof StmMap || map instanceof Map
        ? (map as Iterable<readonly [unknown, unknown]>)
        : Object.entries(map);
    return new Op("assoc", [...entries].flat(1));
  },
  /** Items of a set into the set. */
  union: (set: StmSet<unknown> | ReadonlySet<unknown>): Op => new Op("conj", [...set]),
  toggle: (): Op => new Op("toggle", []),
  /** From the end of a vector or the front of a list. The result is what was removed: one item when n is 1, else a vector. */
  pop: (n = 1): Op => new Op("pop", [count(n)]),
  /** From the front. */
  shift: (n = 1): Op => new Op("shift", [count(n)]),
  /** Rejects the whole transaction when the present value is another. undefined: only if absent. */
  compareAndSet: (expected: unknown, value: unknown): Op => new Op("compareAndSet", [expected, value]),
};
