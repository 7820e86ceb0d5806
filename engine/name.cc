#include "engine/name.h"

#include <cstdint>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace stm::engine {
namespace {

constexpr std::string_view kMemoryPrefix = "/.memory/";
constexpr std::string_view kOncePrefix = "/.once/";
constexpr size_t kShownBytesMax = 64;

bool StartsWith(std::string_view text, std::string_view start) {
  return text.substr(0, start.size()) == start;
}

// Bytes of the UTF-8 sequence at the start of `text`, its code point in `*code`; 0: not UTF-8 (overlong forms
// and surrogates included).
size_t DecodeUtf8(std::string_view text, uint32_t* code) {
  auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  auto continues = [&](size_t i) { return i < text.size() && (byte(i) & 0xC0) == 0x80; };
  uint8_t first = byte(0);
  if (first < 0x80) {
    *code = first;
    return 1;
  }
  if (first >= 0xC2 && first <= 0xDF && continues(1)) {
    *code = (first & 0x1Fu) << 6 | (byte(1) & 0x3Fu);
    return 2;
  }
  if (first >= 0xE0 && first <= 0xEF && continues(1) && continues(2)) {
    *code = (first & 0x0Fu) << 12 | (byte(1) & 0x3Fu) << 6 | (byte(2) & 0x3Fu);
    bool surrogate = *code >= 0xD800 && *code <= 0xDFFF;
    return *code >= 0x800 && !surrogate ? 3 : 0;
  }
  if (first >= 0xF0 && first <= 0xF4 && continues(1) && continues(2) && continues(3)) {
    *code = (first & 0x07u) << 18 | (byte(1) & 0x3Fu) << 12 | (byte(2) & 0x3Fu) << 6 | (byte(3) & 0x3Fu);
    return *code >= 0x10000 && *code <= 0x10FFFF ? 4 : 0;
  }
  return 0;
}

// Quoted for a message that must itself be short, printable UTF-8, whatever the name is.
std::string Shown(std::string_view name) {
  bool cut = name.size() > kShownBytesMax;
  if (cut) name = name.substr(0, kShownBytesMax);
  return absl::StrCat("\"", absl::CHexEscape(absl::string_view(name.data(), name.size())), cut ? "..." : "",
                      "\"");
}

// `path` without a trailing "/" that a prefix has; `what` and `whole` are for messages.
absl::Status CheckPath(std::string_view path, std::string_view whole, const char* what) {
  if (path.empty() || path[0] != '/') {
    return absl::InvalidArgumentError(absl::StrCat(what, " ", Shown(whole), ": must begin with \"/\""));
  }
  if (path.size() > kNameBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(what, " ", Shown(whole), ": ", path.size(),
                                                   " bytes, at most ", kNameBytesMax,
                                                   " (name_bytes_max): shorten it"));
  }
  size_t segments = 0;
  size_t begin = 1;  // of the segment
  for (size_t i = 1; i <= path.size();) {
    if (i == path.size() || path[i] == '/') {
      std::string_view segment = path.substr(begin, i - begin);
      if (segment.empty()) {
        bool trailing = i == whole.size() && i > 1;
        const char* fault = trailing ? ": must not end in \"/\"" : ": empty segment";
        return absl::InvalidArgumentError(
            absl::StrCat(what, " ", Shown(whole), fault, " (byte ", begin, ")"));
      }
      if (segment == "." || segment == "..") {
        return absl::InvalidArgumentError(absl::StrCat(
            what, " ", Shown(whole), ": a segment may not be \".\" or \"..\" (byte ", begin, ")"));
      }
      ++segments;
      begin = ++i;
      continue;
    }
    uint32_t code = 0;
    size_t bytes = DecodeUtf8(path.substr(i), &code);
    if (bytes == 0) {
      return absl::InvalidArgumentError(absl::StrCat(what, " ", Shown(whole), ": not UTF-8 at byte ", i));
    }
    if (code < 0x20 || (code >= 0x7F && code < 0xA0)) {
      return absl::InvalidArgumentError(
          absl::StrCat(what, " ", Shown(whole), ": control character at byte ", i));
    }
    i += bytes;
  }
  if (segments > kNameSegmentsMax) {
    return absl::InvalidArgumentError(absl::StrCat(what, " ", Shown(whole), ": ", segments,
                                                   " segments, at most ", kNameSegmentsMax,
                                                   " (name_segments_max)"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckName(std::string_view name) { return CheckPath(name, name, "name"); }

absl::Status CheckPrefix(std::string_view prefix) {
  if (prefix == "/") return absl::OkStatus();
  if (prefix.empty() || prefix.back() != '/') {
    return absl::InvalidArgumentError(
        absl::StrCat("prefix ", Shown(prefix), ": must end in \"/\", which means all that is under it"));
  }
  return CheckPath(prefix.substr(0, prefix.size() - 1), prefix, "prefix");
}

bool IsSystem(std::string_view name) { return StartsWith(name, "/."); }

bool IsMemory(std::string_view name) { return StartsWith(name, kMemoryPrefix); }

bool IsWritable(std::string_view name) {
  return !IsSystem(name) || IsMemory(name) || StartsWith(name, kOncePrefix);
}

bool UnderPrefix(std::string_view name, std::string_view prefix) {
  if (name.size() <= prefix.size() || !StartsWith(name, prefix)) return false;
  // A longer prefix shares its first segment with the name, so only "/" can hold a system name unasked.
  return prefix.size() > 1 || !IsSystem(name);
}

std::vector<std::string_view> DirectoriesOf(std::string_view name) {
  std::vector<std::string_view> directories;
  directories.reserve(8);
  for (size_t i = IsSystem(name) ? 1 : 0; i < name.size(); ++i) {
    if (name[i] == '/') directories.push_back(name.substr(0, i + 1));
  }
  return directories;
}

}  // namespace stm::engine
