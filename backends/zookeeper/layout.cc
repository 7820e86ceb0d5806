#include "backends/zookeeper/layout.h"

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "backends/local/crc32c.h"
#include "engine/values/absl_view.h"

namespace stm::zookeeper {
namespace {

// A UTF-8 character's length by its first byte.
size_t LengthOf(unsigned char first) { return first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4; }

// ZooKeeper's servers count in UTF-16: they take no halves of pairs, nothing of U+D800 to U+F8FF and U+FFF0
// to U+FFFF, no controls.
bool Taken(std::string_view character) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(character[i]); };
  switch (character.size()) {
    case 1:
      return byte(0) >= 0x20 && byte(0) < 0x7f && byte(0) != '%';
    case 2:
      return byte(0) != 0xc2 || byte(1) >= 0xa0;
    case 3: {
      const int code = (byte(0) & 0xf) << 12 | (byte(1) & 0x3f) << 6 | (byte(2) & 0x3f);
      return code < 0xd800 || (code > 0xf8ff && code < 0xfff0);
    }
    default:
      return false;
  }
}

void AppendEscaped(std::string_view segment, std::string* out) {
  for (size_t i = 0; i < segment.size();) {
    const std::string_view character = segment.substr(i, LengthOf(static_cast<unsigned char>(segment[i])));
    i += character.size();
    if (Taken(character)) {
      out->append(character);
    } else {
      for (const char byte : character)
        absl::StrAppend(out, absl::StrFormat("%%%02X", static_cast<unsigned char>(byte)));
    }
  }
}

std::optional<std::string> Unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out.push_back(text[i]);
      continue;
    }
    uint32_t byte = 0;
    if (i + 3 > text.size() || !absl::SimpleHexAtoi(Absl(text.substr(i + 1, 2)), &byte)) return std::nullopt;
    out.push_back(static_cast<char>(byte));
    i += 2;
  }
  return out;
}

int BucketOf(std::string_view segment) { return static_cast<int>(local::Crc32c(segment) % kBuckets); }

// "/bHH/dSEGMENT"
void AppendChild(char kind, std::string_view segment, std::string* out) {
  absl::StrAppend(out, absl::StrFormat("/b%02x/", BucketOf(segment)));
  out->push_back(kind);
  AppendEscaped(segment, out);
}

// Calls visit(segment, is the last and an entry's) for each.
template <typename Visit>
void ForEachSegment(std::string_view name, Visit visit) {
  for (size_t begin = 1; begin < name.size();) {
    const size_t end = name.find('/', begin);
    visit(name.substr(begin, end - begin), end == std::string_view::npos);
    if (end == std::string_view::npos) break;
    begin = end + 1;
  }
}

}  // namespace

std::string WriterPath(uint64_t writer) { return absl::StrFormat("%s/%016x", kWritersPath, writer); }
std::string DaemonPath(uint64_t writer) { return absl::StrFormat("%s/%016x", kDaemonsPath, writer); }
std::string LogPath(int64_t segment) { return absl::StrCat(kLogsPath, "/", segment); }

std::string LogEntryPath(int64_t position) {
  const int64_t segment = SegmentOf(position);
  return absl::StrFormat("%s/%d/e-%010d", kLogsPath, segment, position - FirstOf(segment));
}

std::optional<int64_t> LogPositionOf(std::string_view path) {
  const std::string_view logs = kLogsPath;
  const size_t at = path.rfind(logs);
  if (at == std::string_view::npos) return std::nullopt;
  const std::vector<absl::string_view> parts = absl::StrSplit(Absl(path.substr(at + logs.size())), '/');
  int64_t segment = 0, index = 0;
  if (parts.size() != 3 || !absl::SimpleAtoi(parts[1], &segment) || !absl::StartsWith(parts[2], "e-") ||
      !absl::SimpleAtoi(parts[2].substr(2), &index)) {
    return std::nullopt;
  }
  return FirstOf(segment) + index;
}

std::string NodePath(std::string_view name) {
  std::string path = kEntriesPath;
  ForEachSegment(
      name, [&](std::string_view segment, bool entry) { AppendChild(entry ? 'f' : 'd', segment, &path); });
  return path;
}

std::vector<std::string> NodesAbove(std::string_view name) {
  std::vector<std::string> above;
  std::string path = kEntriesPath;
  ForEachSegment(name, [&](std::string_view segment, bool entry) {
    above.push_back(path + absl::StrFormat("/b%02x", BucketOf(segment)));
    AppendChild(entry ? 'f' : 'd', segment, &path);
    above.push_back(path);
  });
  if (!above.empty()) above.pop_back();  // the node itself
  return above;
}

std::optional<std::string> DirectoryOf(std::string_view path) {
  constexpr std::string_view kRoot = kEntriesPath;
  if (path.substr(0, kRoot.size()) != kRoot) return std::nullopt;
  path.remove_prefix(kRoot.size());
  std::string name = "/";
  while (!path.empty()) {
    // "/bHH/dSEGMENT"
    const size_t begin = path.find('/', 1);
    if (path[0] != '/' || begin == std::string_view::npos) return std::nullopt;
    const size_t end = std::min(path.find('/', begin + 1), path.size());
    const std::optional<std::string> child = ChildOf(name, path.substr(begin + 1, end - begin - 1));
    if (!child || child->back() != '/') return std::nullopt;
    name = *child;
    path.remove_prefix(end);
  }
  return name;
}

std::optional<std::string> ChildOf(std::string_view prefix, std::string_view child) {
  if (child.size() < 2 || (child[0] != 'd' && child[0] != 'f')) return std::nullopt;
  const std::optional<std::string> segment = Unescape(child.substr(1));
  if (!segment) return std::nullopt;
  return absl::StrCat(Absl(prefix), *segment, child[0] == 'd' ? "/" : "");
}

std::string BucketPath(std::string_view prefix, int bucket) {
  return NodePath(prefix) + absl::StrFormat("/b%02x", bucket);
}

std::string_view ParentOf(std::string_view name) {
  if (name.back() == '/') name.remove_suffix(1);
  return name.substr(0, name.rfind('/') + 1);
}

}  // namespace stm::zookeeper
