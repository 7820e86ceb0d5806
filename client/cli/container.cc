// container check: the contract of containers, tried on one that somebody serves.
#include "backends/containers/container.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "backends/containers/contract.h"
#include "backends/containers/remote.h"
#include "client/cli/commands.h"
#include "engine/values/lexical.h"

namespace stm::cli {
namespace {

// Is read alone.
constexpr char kProbe[] = "/.check/probe";

enum class Verdict { kHolds, kBroken, kNotTried };

const char* Word(Verdict verdict) {
  switch (verdict) {
    case Verdict::kHolds:
      return "holds";
    case Verdict::kBroken:
      return "broken";
    case Verdict::kNotTried:
      return "not-tried";
  }
  return "";
}

void Tell(Shell& shell, const std::string& rule, const std::string& claim, Verdict verdict,
          const std::string& why) {
  Printer& printer = shell.printer();
  Fields fields{{"rule", printer.Plain(rule)}, {"verdict", printer.Word(Word(verdict))}};
  if (!claim.empty()) fields.emplace_back("claim", printer.Plain(claim));
  if (!why.empty()) fields.emplace_back("why", printer.Plain(why));
  std::string line =
      absl::StrCat(Word(verdict), std::string(11 - std::string(Word(verdict)).size(), ' '), rule);
  for (const std::string* more : {&claim, &why}) {
    if (!more->empty()) absl::StrAppend(&line, more == &claim ? "  " : ": ", *more);
  }
  printer.Line({line}, fields);
  shell.io().out.flush();  // the next rule may take a while
}

// What a container says may be any bytes.
std::string OneLine(std::string_view text) {
  std::string line;
  while (!text.empty()) {
    const size_t good = lexical::Utf8Prefix(text);
    absl::StrAppend(&line, absl::string_view(text.data(), good), good < text.size() ? "\xef\xbf\xbd" : "");
    text.remove_prefix(std::min(good + 1, text.size()));
  }
  std::replace_if(
      line.begin(), line.end(), [](unsigned char c) { return c < ' '; }, ' ');
  return line;
}

// It has no verbs of that kind. By the words of remote.cc: a container's own FAILED_PRECONDITION is for the
// rules to find.
bool ServesNone(const absl::Status& probed) {
  return absl::IsFailedPrecondition(probed) && absl::StrContains(probed.message(), "serves no stm.v1.");
}

}  // namespace

absl::Status ContainerCheck(Shell& shell, const ContainerCheckOptions& options) {
  const bool has_scheme = absl::StrContains(options.address, "://");
  if (has_scheme && !absl::StartsWith(options.address, "grpc://") &&
      !absl::StartsWith(options.address, "grpcs://")) {
    return absl::InvalidArgumentError(
        absl::StrCat(options.address, ": expected host:port, grpc://host:port or grpcs://host:port"));
  }
  const std::string uri = has_scheme ? options.address : absl::StrCat("grpc://", options.address);
  const absl::Duration within = shell.globals().timeout.value_or(kTimeoutDefault);
  absl::StatusOr<containers::Container> container = containers::MakeRemote(uri);
  if (!container.ok()) return container.status();
  // As another daemon has it: by a connection of its own.
  absl::StatusOr<containers::Container> other = containers::MakeRemote(uri);
  if (!other.ok()) return other.status();

  // UNAVAILABLE: nobody is there, or nobody is behind it; no rule would tell more. All else the rules find
  // out.
  const absl::Status refs = container->refs->GetStateAt(kProbe, "probe", within).status();
  if (absl::IsUnavailable(refs)) return refs;
  const absl::Status atoms = container->atoms->GetState(kProbe, within).status();
  if (absl::IsUnavailable(atoms)) return atoms;
  const bool no_refs = ServesNone(refs), no_atoms = ServesNone(atoms);
  if (options.atoms ? no_atoms : no_refs && (options.refs || no_atoms)) {
    return absl::UnimplementedError(options.atoms ? atoms.message() : refs.message());
  }
  if (no_refs && !options.atoms) Tell(shell, "refs", "", Verdict::kNotTried, std::string(refs.message()));
  if (no_atoms && !options.refs) Tell(shell, "atoms", "", Verdict::kNotTried, std::string(atoms.message()));
  if (no_refs || options.atoms) container->refs.reset();
  if (no_atoms || options.refs) container->atoms.reset();

  std::vector<std::string> broken;
  bool all_tried = true;
  containers::CheckOptions check;
  check.within = within;
  check.other_refs = other->refs.get();
  check.other_atoms = other->atoms.get();
  check.report = [&](const containers::Tried& tried) {
    std::vector<std::string> whats;
    for (const containers::Violation& violation : tried.violations) whats.push_back(violation.what);
    const std::string why = OneLine(absl::StrJoin(whats, "; "));
    const Verdict verdict = !whats.empty() ? Verdict::kBroken
                            : tried.tried  ? Verdict::kHolds
                                           : Verdict::kNotTried;
    if (verdict == Verdict::kBroken) broken.push_back(tried.rule->id);
    if (!tried.tried) all_tried = false;
    Tell(shell, tried.rule->id, tried.rule->claim, verdict, why);
  };
  containers::CheckContainer(*container, check);
  if (!all_tried) {
    // A call may be in it for ever: it is not to be destroyed under that.
    for (containers::Container* one : {&*container, &*other}) {
      one->refs.release();
      one->atoms.release();
    }
  }
  if (!broken.empty()) {
    return absl::UnknownError(
        absl::StrCat(options.address, " breaks ", broken.size(), broken.size() == 1 ? " rule" : " rules",
                     ", which examples/containers/README.md explains: ", absl::StrJoin(broken, " ")));
  }
  if (!all_tried) return absl::UnknownError(absl::StrCat(options.address, ": some rules could not be tried"));
  return absl::OkStatus();
}

}  // namespace stm::cli
