// Types of the user's own, by tag, for the whole process. A tag never names a class by itself: only what was
// registered here is ever made.
import { BadValue } from "./errors.js";

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- any constructor, as `new` itself has it
export type Class<T> = abstract new (...args: any[]) => T;

export interface RecordOptions {
  /**
   * The names of its properties, if only these are to be its fields. Left out: each own enumerable property is one, and
   * each field that is read becomes a property. Functions are no fields.
   */
  readonly fields?: readonly string[] | undefined;
}

/** @internal */
export interface Registration {
  readonly tag: string;
  readonly type: Class<unknown>;
  /** Of a record: undefined: all are taken. By property, and by keyword. */
  readonly fields: ReadonlyMap<string, string> | undefined;
  readonly properties: ReadonlyMap<string, string> | undefined;
  /** Of a type that is no record. */
  readonly encode: ((value: unknown) => unknown) | undefined;
  readonly decode: ((value: unknown) => unknown) | undefined;
}

const byTag = new Map<string, Registration>();
const byType = new Map<unknown, Registration>();

/**
 * Instances of `type` are written as #tag{:field value ...}, and read back as instances, frozen, made without the
 * constructor. Property names are keywords in kebab case: startDate is :start-date. Fields that this program's class does not
 * know are kept when a transaction that read them writes the record in their place.
 * @throws BadValue: the tag or the type is registered as another, or two fields are spelled alike.
 */
export function record<T extends object>(tag: string, type: Class<T>, options: RecordOptions = {}): void {
  let fields: Map<string, string> | undefined;
  let properties: Map<string, string> | undefined;
  if (options.fields !== undefined) {
    fields = new Map();
    properties = new Map();
    for (const property of options.fields) {
      const keyword = kebab(property);
      const other = properties.get(keyword);
      if (other !== undefined) throw spelledAlike(type.name, other, property, keyword);
      fields.set(property, keyword);
      properties.set(keyword, property);
    }
  }
  add({ tag, type, fields, properties, encode: undefined, decode: undefined });
}

/**
 * Instances of `type` are written as #tag and what `encode` gives, which may be any value, and read back by `decode`. For
 * types that are no records.
 * @throws BadValue: the tag or the type is registered as another.
 */
export function register<T extends object>(
  tag: string,
  type: Class<T>,
  encode: (value: T) => unknown,
  decode: (value: unknown) => T,
): void {
  add({ tag, type, fields: undefined, properties: undefined, encode: encode as (value: unknown) => unknown, decode });
}

function add(registration: Registration): void {
  const { tag, type } = registration;
  if (tag === "" || /[\s#()[\]{}"]/.test(tag)) {
    throw new BadValue(`"${tag}" is no tag: write it as "blog.CreateUser", without the #`, { name: tag });
  }
  const sameTag = byTag.get(tag);
  if (sameTag !== undefined && sameTag.type !== type) {
    throw new BadValue(`tag ${tag} is ${sameTag.type.name}'s already: give ${type.name} another`, { name: tag });
  }
  const sameType = byType.get(type);
  if (sameType !== undefined && sameType.tag !== tag) {
    throw new BadValue(`${type.name} has the tag ${sameType.tag} already: one type has one`, { name: tag });
  }
  byTag.set(tag, registration);
  byType.set(type, registration);
}

/** @internal */
export function ofTag(tag: string): Registration | undefined {
  return byTag.get(tag);
}
/** @internal */
export function ofType(type: unknown): Registration | undefined {
  return byType.get(type);
}
/** Of a registered class's instance. @internal */
export function tagOfInstance(value: unknown): string | undefined {
  return typeof value === "object" && value !== null ? byType.get(value.constructor)?.tag : undefined;
}
/** The tags that classes are registered by. @throws BadValue: one is not. @internal */
export function tagsOf(types: readonly Class<unknown>[]): string[] {
  return types.map((type) => {
    const registration = byType.get(type);
    if (registration === undefined) {
      throw new BadValue(`${type.name} has no tag: register it by record("some.Tag", ${type.name})`, {
        name: type.name,
      });
    }
    return registration.tag;
  });
}

/** @internal */
export function spelledAlike(type: string, one: string, other: string, keyword: string): BadValue {
  return new BadValue(`${type}: ${one} and ${other} are both :${keyword}: rename one`, { name: type });
}

const kebabs = new Map<string, string>();
/** startDate, StartDate and start_date are all start-date. @internal */
export function kebab(property: string): string {
  let found = kebabs.get(property);
  if (found === undefined) {
    found = property
      .replace(/([a-z0-9])([A-Z])/g, "$1-$2")
      .replace(/([A-Z])([A-Z][a-z])/g, "$1-$2")
      .replace(/_/g, "-")
      .toLowerCase();
    if (kebabs.size < 10_000) kebabs.set(property, found);
  }
  return found;
}

const camels = new Map<string, string>();
/** start-date is startDate. @internal */
export function camel(keyword: string): string {
  let found = camels.get(keyword);
  if (found === undefined) {
    found = keyword.replace(/-([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
    if (camels.size < 10_000) camels.set(keyword, found);
  }
  return found;
}
