package dev.stmd;

import java.nio.charset.StandardCharsets;
import stmd.v1.CommitId;
import stmd.v1.Seen;

/** TRANSACTION-ID.WRITER.SEEN.STORE.CHECK: a commit's id in one word, the same in all languages. */
final class OutcomeWord {
  private static final int ID_DIGITS = 32;

  private OutcomeWord() {}

  static String print(CommitId id) {
    String text = id.getTransactionId().replace("-", "") + "." + hex(id.getWriter(), 16) + "." + id.getSeen().getVersion()
        + "." + hex(id.getSeen().getStore(), 16);
    return text + "." + check(text);
  }

  static CommitId parse(String given) {
    String word = given.strip();
    String[] parts = word.split("\\.", -1);
    if (parts.length != 5) throw wrong(given, "expected five parts joined by dots");
    if (!check(word.substring(0, word.lastIndexOf('.'))).equals(parts[4])) {
      throw wrong(given, "its check (the last part) does not fit the rest");
    }
    String digits = parts[0];
    if (!digits.matches("[0-9a-f]{" + ID_DIGITS + "}")) throw wrong(given, "expected 32 digits of a transaction id");
    String id = digits.substring(0, 8) + "-" + digits.substring(8, 12) + "-" + digits.substring(12, 16) + "-"
        + digits.substring(16, 20) + "-" + digits.substring(20);
    try {
      return CommitId.newBuilder().setTransactionId(id).setWriter(Long.parseUnsignedLong(parts[1], 16))
          .setSeen(Seen.newBuilder().setVersion(Long.parseLong(parts[2])).setStore(Long.parseUnsignedLong(parts[3], 16)))
          .setResend(true).build();
    } catch (NumberFormatException broken) {
      throw wrong(given, "expected a writer, a version and a store");
    }
  }

  private static String hex(long n, int digits) {
    String text = Long.toHexString(n);
    return "0".repeat(Math.max(0, digits - text.length())) + text;
  }

  /** FNV-1a, folded to 16 bits. */
  private static String check(String text) {
    int hash = 0x811c9dc5;
    for (byte b : text.getBytes(StandardCharsets.UTF_8)) hash = (hash ^ (b & 0xff)) * 16777619;
    return hex(((hash >>> 16) ^ (hash & 0xffff)) & 0xffffL, 4);
  }

  private static StmException wrong(String word, String what) {
    return Errors.badValue("word", "outcome word \"" + word + "\": " + what + ": copy the whole word that the error printed");
  }
}
