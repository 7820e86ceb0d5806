package dev.stmd;

import java.nio.charset.StandardCharsets;

/** Names with the client's prefix and without it, and what a name must be. */
final class Names {
  private static final int BYTES_MAX = 512;
  private static final int SEGMENTS_MAX = 32;
  private static final int SHOWN_MAX = 64;

  private final String prefix;

  Names(String prefix) {
    this.prefix = prefix;
  }

  String prefix() {
    return prefix;
  }

  String full(String name) {
    if (prefix.isEmpty()) return name;
    if (!isSystem(name)) return prefix + name;
    int end = firstSegmentEnd(name);
    return name.substring(0, end) + prefix + name.substring(end);
  }

  String shorten(String name) {
    if (prefix.isEmpty()) return name;
    int from = isSystem(name) ? firstSegmentEnd(name) : 0;
    if (!name.startsWith(prefix, from)) return name;
    return name.substring(0, from) + name.substring(from + prefix.length());
  }

  static boolean isSystem(String name) {
    return name.startsWith("/.");
  }

  private static int firstSegmentEnd(String name) {
    int end = name.indexOf('/', 1);
    return end < 0 ? name.length() : end;
  }

  static void checkName(String name) {
    checkPath(name, name, "name");
  }

  static void checkPrefix(String prefix) {
    if (prefix.equals("/")) return;
    if (!prefix.endsWith("/")) {
      throw wrong(prefix, "prefix", "must end in \"/\", which means all that is under it");
    }
    checkPath(prefix.substring(0, prefix.length() - 1), prefix, "prefix");
  }

  private static void checkPath(String path, String whole, String what) {
    if (path.isEmpty() || path.charAt(0) != '/') throw wrong(whole, what, "must begin with \"/\"");
    int segments = 0;
    int begin = 1;
    for (int i = 1; i <= path.length(); ) {
      if (i == path.length() || path.charAt(i) == '/') {
        String segment = path.substring(begin, i);
        if (segment.isEmpty()) {
          boolean trailing = i == whole.length() && i > 1;
          throw wrong(whole, what, (trailing ? "must not end in \"/\"" : "empty segment") + " (at " + begin + ")");
        }
        if (segment.equals(".") || segment.equals("..")) {
          throw wrong(whole, what, "a segment may not be \".\" or \"..\" (at " + begin + ")");
        }
        ++segments;
        begin = ++i;
        continue;
      }
      int code = path.codePointAt(i);
      if (code >= 0xD800 && code <= 0xDFFF) throw wrong(whole, what, "half a surrogate pair at " + i);
      if (code < 0x20 || (code >= 0x7F && code < 0xA0)) throw wrong(whole, what, "control character at " + i);
      i += Character.charCount(code);
    }
    int bytes = path.getBytes(StandardCharsets.UTF_8).length;
    if (bytes > BYTES_MAX) {
      throw wrong(whole, what, bytes + " bytes, at most " + BYTES_MAX + " (name_bytes_max): shorten it");
    }
    if (segments > SEGMENTS_MAX) {
      throw wrong(whole, what, segments + " segments, at most " + SEGMENTS_MAX + " (name_segments_max)");
    }
  }

  private static StmException wrong(String name, String what, String why) {
    StringBuilder shown = new StringBuilder();
    for (int i = 0; i < Math.min(name.length(), SHOWN_MAX); ++i) {
      char c = name.charAt(i);
      if (Character.isISOControl(c) || Character.isSurrogate(c)) {
        shown.append(String.format("\\u%04x", (int) c));
      } else {
        shown.append(c);
      }
    }
    return Errors.badValue(name, what + " \"" + shown + (name.length() > SHOWN_MAX ? "..." : "") + "\": " + why);
  }
}
