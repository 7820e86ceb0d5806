// The client's plain data as stm.v1 messages, and back; names with and without the client's prefix. Pure; any thread.
#ifndef STM_CLIENT_CPP_CORE_WIRE_H_
#define STM_CLIENT_CPP_CORE_WIRE_H_

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "stm/op.h"
#include "stm/options.h"
#include "stm/v1/common.pb.h"
#include "stm/v1/event.pb.h"
#include "stm/v1/transaction_service.pb.h"

namespace stm::internal {

// A chroot: "/a" is "/team-a/a" at the daemon, and "/.once/k" is "/.once/team-a/k".
class Names {
 public:
  explicit Names(std::string prefix) : prefix_(std::move(prefix)) {}
  // Of a name or a prefix.
  std::string Full(const std::string& name) const;
  std::string Short(const std::string& name) const;
  const std::string& prefix() const { return prefix_; }

 private:
  const std::string prefix_;  // "" or "/team-a"
};

// BadValue, which names it and the rule that it breaks (engine/name.h).
absl::Status CheckName(std::string_view name);
absl::Status CheckPrefix(std::string_view prefix);
// What a watch selects: a name, or a prefix.
absl::Status CheckSelector(std::string_view selector);

// What the daemon said of a call, with the client's own names in it. `detail`: null, if it gave none.
absl::Status FromWire(int code, std::string message, const v1::ErrorDetail* detail, const Names& names);

void ToWire(const Op& op, v1::Operation* message);
// `session`: of an ephemeral entry.
void ToWire(const Definition& definition, const std::string& session, v1::Definition* message);
void ToWire(absl::Duration duration, google::protobuf::Duration* message);
absl::Duration FromWire(const google::protobuf::Duration& message);
Meta FromWire(const v1::Meta& message);

// Of what a daemon sent: a value that this build cannot read is an error naming the entry.
absl::StatusOr<std::optional<Value>> ValueFromWire(bool set, const v1::Value& message, const std::string& name);
absl::StatusOr<Entry> EntryFromWire(const v1::Entry& message, const Names& names);
// Adds the event's changes and records to a commit (events of one commit may come in several messages).
absl::Status AddToCommit(const v1::CommitEvent& event, const Names& names, Commit* commit);
absl::Status RejectedError(const v1::Rejected& rejected, const Names& names);
std::vector<ConflictCause> CausesOf(const v1::Conflict& conflict, const Names& names);
// "/a by client (label) at 41, and 2 more".
std::string Describe(const std::vector<ConflictCause>& causes);

}  // namespace stm::internal

#endif  // STM_CLIENT_CPP_CORE_WIRE_H_
