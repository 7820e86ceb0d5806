// The outcome word: an id of a commit in one word, TRANSACTION-ID.WRITER.SEEN.STORE.CHECK, the same in all languages.
import { BadValue } from "./errors.js";
import type { CommitId } from "./proto/stm/v1/common.js";

function hex(n: bigint | number, digits: number): string {
  return n.toString(16).padStart(digits, "0");
}

/** FNV-1a, folded to 16 bits. */
function checkOf(text: string): string {
  let hash = 2166136261;
  for (const byte of Buffer.from(text)) hash = Math.imul(hash ^ byte, 16777619) >>> 0;
  return hex((hash >>> 16) ^ (hash & 0xffff), 4);
}

export function printOutcomeWord(id: CommitId): string {
  const seen = id.seen?.version ?? 0n;
  const store = id.seen?.store ?? 0n;
  const text = `${id.transactionId.replaceAll("-", "")}.${hex(id.writer, 16)}.${seen}.${hex(store, 16)}`;
  return `${text}.${checkOf(text)}`;
}

/** @throws BadValue: it is no such word, or not whole. */
export function parseOutcomeWord(word: string): CommitId {
  const text = word.trim();
  const wrong = (what: string): BadValue =>
    new BadValue(`outcome word "${text}": ${what}: copy the whole word that the error printed`, { name: "word" });
  const parts = /^([0-9a-f]{32})\.([0-9a-f]{1,16})\.(\d{1,19})\.([0-9a-f]{1,16})\.([0-9a-f]{4})$/.exec(text);
  if (parts === null) throw wrong("expected five parts joined by dots, as TRANSACTION-ID.WRITER.SEEN.STORE.CHECK");
  const [, id = "", writer = "", seen = "", store = "", check = ""] = parts;
  if (checkOf(text.slice(0, -check.length - 1)) !== check) {
    throw wrong("its check (the last part) does not fit the rest");
  }
  return {
    transactionId: id.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5"),
    writer: BigInt(`0x${writer}`),
    seen: { version: BigInt(seen), store: BigInt(`0x${store}`) },
    resend: true,
  };
}
