// Names of entries, as engine/name.h has them, and the client's own below a prefix.
import { BadValue } from "./errors.js";

const BYTES_MAX = 512;
const SEGMENTS_MAX = 32;

/** @throws BadValue, which names it and the rule that it breaks. */
export function checkName(name: string): void {
  check(name, name, "name");
}
/** "/" or a name with "/" behind it. @throws BadValue */
export function checkPrefix(prefix: string): void {
  if (prefix === "/") return;
  if (!prefix.endsWith("/")) throw broken("prefix", prefix, 'must end in "/"');
  check(prefix.slice(0, -1), prefix, "prefix");
}
/** What a watch selects. @throws BadValue */
export function checkSelector(selector: string): void {
  if (selector.endsWith("/")) checkPrefix(selector);
  else checkName(selector);
}

function check(path: string, whole: string, what: string): void {
  if (!path.startsWith("/")) throw broken(what, whole, 'must begin with "/"');
  const bytes = Buffer.byteLength(path);
  if (bytes > BYTES_MAX) throw broken(what, whole, `${bytes} bytes, at most ${BYTES_MAX} (name_bytes_max): shorten it`);
  const segments = path.slice(1).split("/");
  segments.forEach((segment, i) => {
    if (segment === "") {
      throw broken(what, whole, i === segments.length - 1 && i > 0 ? 'must not end in "/"' : "empty segment");
    }
    if (segment === "." || segment === "..") throw broken(what, whole, 'a segment may not be "." or ".."');
  });
  if (segments.length > SEGMENTS_MAX) {
    throw broken(what, whole, `${segments.length} segments, at most ${SEGMENTS_MAX} (name_segments_max): shorten it`);
  }
  if (/\p{Cc}/u.test(path)) throw broken(what, whole, "has a control character");
  if (/[\uD800-\uDFFF]/u.test(path)) throw broken(what, whole, "is not UTF-8");
}

function broken(what: string, name: string, rule: string): BadValue {
  const shown = name.length > 64 ? `${JSON.stringify(name.slice(0, 64))}...` : JSON.stringify(name);
  return new BadValue(`${what} ${shown}: ${rule}`, { name });
}

export function isSystem(name: string): boolean {
  return name.startsWith("/.");
}
/** Is it in the subtree? "/" holds no system names. */
export function isUnder(name: string, prefix: string): boolean {
  return name.length > prefix.length && name.startsWith(prefix) && (!isSystem(name) || isSystem(prefix));
}

/** How the daemon says the client's names. "/.once/k" below "/team" is "/.once/team/k". */
export class Names {
  constructor(readonly prefix: string) {}

  full(name: string): string {
    if (this.prefix === "") return name;
    const cut = firstSegment(name);
    return name.slice(0, cut) + this.prefix + name.slice(cut);
  }
  short(name: string): string {
    if (this.prefix === "") return name;
    const cut = firstSegment(name);
    return name.startsWith(this.prefix, cut) ? name.slice(0, cut) + name.slice(cut + this.prefix.length) : name;
  }
}

/** Where what is below a prefix begins. */
function firstSegment(name: string): number {
  if (!isSystem(name)) return 0;
  const end = name.indexOf("/", 1);
  return end < 0 ? name.length : end;
}
