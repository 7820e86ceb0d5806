#include "backends/containers/registry.h"

#include <cassert>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "engine/values/absl_view.h"

namespace stm::containers {
namespace {

constexpr std::string_view kRemote = "remote:";
constexpr std::string_view kOffered = "offered:";
constexpr char kForm[] =
    "a container is NAME=URI, as mongo=mongodb://127.0.0.1/app or remote:orders=grpc://127.0.0.1:7450";

bool StartsWith(std::string_view text, std::string_view start) {
  return text.substr(0, start.size()) == start;
}

std::string_view SchemeOf(std::string_view uri) {
  const size_t end = uri.find("://");
  return end == std::string_view::npos ? std::string_view() : uri.substr(0, end);
}

absl::Status BadContainer(std::string_view name, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("container ", Absl(name), ": ", what));
}

}  // namespace

absl::Status CheckContainerName(std::string_view name) {
  if (name.empty()) return absl::InvalidArgumentError("a container's name is empty");
  if (name.size() > kContainerNameBytesMax) {
    return BadContainer(name, absl::StrCat("its name has ", name.size(),
                                           " characters: ", kContainerNameBytesMax, " are allowed"));
  }
  for (const char c : name) {
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-') continue;
    return BadContainer(
        name, "names are made of a-z, 0-9, \"_\" and \"-\" (remote:NAME is one that is asked by gRPC)");
  }
  return absl::OkStatus();
}

absl::StatusOr<ContainerSetting> ParseContainer(std::string_view text) {
  const size_t equals = text.find('=');
  if (equals == std::string_view::npos) {
    // Without the text: it may be a URI with a password.
    return absl::InvalidArgumentError(absl::StrCat("no \"=\" is in it: ", kForm));
  }
  const std::string_view name = text.substr(0, equals);
  const std::string_view uri = text.substr(equals + 1);
  if (name == "inline") {
    return BadContainer(name, "that is what an entry is that no container keeps: choose another name");
  }
  if (StartsWith(name, kOffered)) {
    return BadContainer(
        name,
        "such containers are offered by clients as they run (OfferService), and not configured: "
        "choose another name");
  }
  const bool remote = StartsWith(name, kRemote);
  if (absl::Status good = CheckContainerName(remote ? name.substr(kRemote.size()) : name); !good.ok())
    return good;
  const std::string_view scheme = SchemeOf(uri);
  if (scheme.empty()) return BadContainer(name, absl::StrCat("it has no URI with \"://\": ", kForm));
  if (remote && scheme != "grpc" && scheme != "grpcs") {
    return BadContainer(
        name,
        absl::StrCat("remote:NAME is asked by gRPC, at grpc://HOST:PORT or grpcs://HOST:PORT, and this is ",
                     Absl(scheme), "://: call it ", Absl(name.substr(kRemote.size()))));
  }
  return ContainerSetting{std::string(name), std::string(uri)};
}

absl::StatusOr<std::vector<ContainerSetting>> ParseContainers(const std::vector<std::string>& texts) {
  std::vector<ContainerSetting> settings;
  std::set<std::string> names;
  for (const std::string& text : texts) {
    absl::StatusOr<ContainerSetting> setting = ParseContainer(text);
    if (!setting.ok()) return setting.status();
    if (!names.insert(setting->name).second)
      return BadContainer(setting->name, "it is configured twice: take one of them away");
    settings.push_back(*std::move(setting));
  }
  return settings;
}

namespace {

// Of a query's options whose names say so: "tlsCertificateKeyFilePassword=***".
std::string WithoutSecretOptions(std::string_view uri) {
  const size_t query = uri.find('?');
  if (query == std::string_view::npos) return std::string(uri);
  std::vector<std::string> options;
  for (const absl::string_view option : absl::StrSplit(Absl(uri.substr(query + 1)), '&')) {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(option, absl::MaxSplits('=', 1));
    const std::string name = absl::AsciiStrToLower(parts.first);
    const bool secret = absl::StrContains(name, "password") || absl::StrContains(name, "secret") ||
                        absl::StrContains(name, "token") || name == "authmechanismproperties";
    options.push_back(secret ? absl::StrCat(parts.first, "=***") : std::string(option));
  }
  return absl::StrCat(Absl(uri.substr(0, query + 1)), absl::StrJoin(options, "&"));
}

}  // namespace

std::string WithoutPassword(std::string_view given) {
  const std::string shown = WithoutSecretOptions(given);
  const std::string_view uri = shown;
  const size_t scheme = uri.find("://");
  if (scheme == std::string_view::npos) return shown;
  const size_t begin = scheme + 3;
  // The last "@" before the path: a password that was not escaped may hold one.
  const size_t at = uri.substr(0, uri.find('/', begin)).rfind('@');
  if (at == std::string_view::npos || at < begin) return std::string(uri);
  const size_t colon = uri.find(':', begin);
  if (colon == std::string_view::npos || colon > at) return std::string(uri);
  return absl::StrCat(Absl(uri.substr(0, colon)), ":***", Absl(uri.substr(at)));
}

Schemes& Schemes::OfProgram() {
  static Schemes* const schemes = new Schemes;  // never destroyed: others' statics use it
  return *schemes;
}

bool Schemes::Register(const std::string& scheme, Factory factory) {
  absl::MutexLock lock(&mutex_);
  const bool is_new = factories_.emplace(scheme, std::move(factory)).second;
  assert(is_new && "two containers in this program have one scheme");
  return is_new;
}

absl::StatusOr<Container> Schemes::Make(const ContainerSetting& setting, FactoryOptions options) const {
  const std::string scheme(SchemeOf(setting.uri));
  Factory factory;
  {
    absl::MutexLock lock(&mutex_);
    const auto it = factories_.find(scheme);
    if (it == factories_.end()) {
      const std::string known = absl::StrJoin(factories_, ", ", [](std::string* out, const auto& known) {
        absl::StrAppend(out, known.first, "://");
      });
      return BadContainer(setting.name,
                          absl::StrCat("this program knows no ", scheme, "://, but ", known,
                                       ": one's own is built into it (backends/containers/README.md)"));
    }
    factory = it->second;
  }
  options.name = setting.name;
  absl::StatusOr<Container> made = factory(setting.uri, options);
  if (!made.ok()) {
    return absl::Status(made.status().code(),
                        absl::StrCat("container ", setting.name, ": ", made.status().message()));
  }
  return made;
}

}  // namespace stm::containers
