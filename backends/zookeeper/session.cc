#include "backends/zookeeper/session.h"

#include <sys/stat.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace stm::zookeeper {
namespace {

constexpr size_t kSequenceBytes = 10;
constexpr std::streamsize kCredentialsBytesMax = 1024;

// Of the packet of a multi that replicates it: headers and digest. More than the client's own packet has.
constexpr size_t kMultiBytes = 80;
// An op's headers, lengths and version, in whichever of the two packets has more.
constexpr size_t kOpBytes = 21;
constexpr size_t kCreateBytes = 48;  // with world:anyone, the longer of the two ACLs

absl::Status Bad(const std::string& text, const std::string& why) {
  return absl::InvalidArgumentError(
      absl::StrCat("ZooKeeper's servers \"", text, "\": ", why, "; say host:port,host:port/chroot"));
}

}  // namespace

const char* NameOf(Code code) {
  switch (code) {
    case Code::kOk:
      return "OK";
    case Code::kNoNode:
      return "NO_NODE";
    case Code::kNodeExists:
      return "NODE_EXISTS";
    case Code::kBadVersion:
      return "BAD_VERSION";
    case Code::kNotEmpty:
      return "NOT_EMPTY";
    case Code::kNoAuth:
      return "NO_AUTH";
    case Code::kTooLarge:
      return "TOO_LARGE";
    case Code::kRefused:
      return "REFUSED";
    case Code::kUnknown:
      return "UNKNOWN";
  }
  return "?";
}

bool IsPath(const std::string& path) {
  if (path.empty() || path[0] != '/') return false;
  if (path.size() == 1) return true;
  for (const char c : path) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return false;
  }
  for (size_t from = 1; from <= path.size();) {
    const size_t slash = std::min(path.find('/', from), path.size());
    const std::string segment = path.substr(from, slash - from);
    if (segment.empty() || segment == "." || segment == "..") return false;
    from = slash + 1;
  }
  return true;
}

Op::Op(Kind kind, std::string path, std::string data, int32_t version, Mode mode)
    : kind_(kind), mode_(mode), version_(version), path_(std::move(path)), data_(std::move(data)) {
  assert(IsPath(mode_ == Mode::kSequential ? path_ + "0" : path_));
}

Op Op::Check(std::string path, int32_t version) {
  assert(version != kAnyVersion);
  return Op(Kind::kCheck, std::move(path), "", version, Mode::kPersistent);
}

Op Op::CheckAny(std::string path) {
  return Op(Kind::kCheck, std::move(path), "", kAnyVersion, Mode::kPersistent);
}

Op Op::Set(std::string path, std::string data, int32_t version) {
  assert(version != kAnyVersion);
  return Op(Kind::kSet, std::move(path), std::move(data), version, Mode::kPersistent);
}

Op Op::SetAny(std::string path, std::string data) {
  return Op(Kind::kSet, std::move(path), std::move(data), kAnyVersion, Mode::kPersistent);
}

Op Op::Create(std::string path, std::string data, Mode mode) {
  return Op(Kind::kCreate, std::move(path), std::move(data), 0, mode);
}

Op Op::Delete(std::string path, int32_t version) {
  assert(version != kAnyVersion);
  return Op(Kind::kDelete, std::move(path), "", version, Mode::kPersistent);
}

Op Op::DeleteAny(std::string path) {
  return Op(Kind::kDelete, std::move(path), "", kAnyVersion, Mode::kPersistent);
}

size_t MultiBytes(const std::vector<Op>& ops, size_t chroot_bytes) {
  size_t bytes = kMultiBytes;
  for (const Op& op : ops) {
    bytes += chroot_bytes + op.path().size() + op.data().size();
    bytes += op.kind() == Op::Kind::kCreate ? kCreateBytes : kOpBytes;
    if (op.mode() == Op::Mode::kSequential) bytes += kSequenceBytes;
  }
  return bytes;
}

absl::StatusOr<ConnectString> ParseConnectString(const std::string& text) {
  const size_t slash = text.find('/');
  ConnectString parsed;
  if (slash != std::string::npos) parsed.chroot = text.substr(slash);
  if (parsed.chroot == "/") parsed.chroot = "";
  if (!parsed.chroot.empty() && !IsPath(parsed.chroot)) {
    return Bad(text, absl::StrCat("the chroot ", parsed.chroot, " is no path"));
  }
  std::vector<std::string> servers;
  for (const std::string& server : std::vector<std::string>(absl::StrSplit(text.substr(0, slash), ','))) {
    const size_t colon = server.rfind(':');
    int port = 0;
    if (colon == std::string::npos || !absl::SimpleAtoi(server.substr(colon + 1), &port) || port < 1 ||
        port > 65535) {
      return Bad(text, absl::StrCat("\"", server, "\" has no port from 1 to 65535"));
    }
    std::string host = server.substr(0, colon);
    // The library looks for the last colon, and takes an IPv6 address as it is.
    if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
    if (host.empty() || host.find_first_of(" \t[]@") != std::string::npos) {
      return Bad(text, absl::StrCat("\"", server, "\" has no host"));
    }
    servers.push_back(absl::StrCat(host, ":", port));
  }
  parsed.servers = absl::StrJoin(servers, ",");
  return parsed;
}

absl::StatusOr<std::string> ReadCredentials(const std::string& path, bool* others_may_read) {
  const auto wrong = [&path](absl::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", what));
  };
  struct stat at = {};
  std::ifstream in(path);
  if (!in || stat(path.c_str(), &at) != 0) {
    return wrong(
        absl::StrCat("can't be read: ", std::strerror(errno), ": name a file that this user may read"));
  }
  if (!S_ISREG(at.st_mode)) return wrong("is no file: name one that holds user:password");
  *others_may_read = (at.st_mode & (S_IRGRP | S_IROTH)) != 0;
  std::string text(kCredentialsBytesMax + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(in.gcount()));
  if (text.size() > kCredentialsBytesMax) {
    return wrong(
        absl::StrCat("is above ", kCredentialsBytesMax, " bytes: it should hold user:password alone"));
  }
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  const size_t colon = text.find(':');
  const bool control = std::any_of(text.begin(), text.end(), [](char c) { return absl::ascii_iscntrl(c); });
  if (colon == std::string::npos || colon == 0 || colon + 1 == text.size() || control) {
    return wrong("does not hold user:password on one line");
  }
  return text;
}

}  // namespace stm::zookeeper
