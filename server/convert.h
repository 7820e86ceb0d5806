// stm.v1 messages as the engine's structs, and back. Requests are taken apart (their strings are moved out) in the
// thread that received them, so that the Loop only decides. A bad field is INVALID_ARGUMENT with its path in the request
// ("writes[2].set.map.entries[0].key") as ErrorDetail.name; what a newer client knows and this build does not is
// UNIMPLEMENTED; a bound reached is RESOURCE_EXHAUSTED by the bound's name. Pure; any thread.
#ifndef STM_SERVER_CONVERT_H_
#define STM_SERVER_CONVERT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "stm/v1/atom_service.pb.h"
#include "stm/v1/log_service.pb.h"
#include "stm/v1/ref_service.pb.h"
#include "stm/v1/transaction_service.pb.h"
#include "stm/v1/watch_service.pb.h"

namespace stm::server {

// Whose versions these are, for headers and page tokens.
struct Identity {
  uint64_t store = 0;
  uint64_t writer = 0;
};

// --- Requests ---

absl::StatusOr<std::unique_ptr<engine::Transaction>> TransactionOf(v1::CommitRequest* request,
                                                                   const engine::Options& bounds);
absl::StatusOr<std::unique_ptr<engine::Transaction>> TransactionOf(v1::ApplyAtomRequest* request,
                                                                   const engine::Options& bounds);
// `field`: where the id stands.
absl::StatusOr<engine::CommitId> CommitIdOf(const v1::CommitId& message, std::string_view field);
absl::StatusOr<engine::GetRequest> GetRequestOf(v1::GetRefsRequest* request, const engine::Options& bounds);
// A page token holds the store and snapshot of its listing; a token of another store is STORE_CHANGED.
absl::StatusOr<engine::ListRequest> ListRequestOf(v1::ListRefsRequest* request, const engine::Options& bounds,
                                                  uint64_t store);
absl::StatusOr<engine::AwaitRequest> AwaitRequestOf(v1::AwaitChangeRequest* request, const engine::Options& bounds);
absl::StatusOr<engine::WatchRequest> WatchRequestOf(v1::WatchRequest* request, const engine::Options& bounds);
absl::StatusOr<engine::Selector> SelectorOf(v1::Selector* message, std::string_view field,
                                            const engine::Options& bounds);
engine::Seen SeenOf(const v1::Seen& message);
// Null stays null when all is empty.
absl::Status ReadMeta(v1::Meta* message, std::shared_ptr<const engine::Meta>* out);
absl::StatusOr<absl::Duration> DurationOf(const google::protobuf::Duration& message, std::string_view field);

// --- Answers ---

void FillHeader(Identity identity, engine::Version installed, v1::Header* header);
void FillEntry(const engine::EntryState& entry, bool with_definition, v1::Entry* message);
// RESOURCE_EXHAUSTED: the values together pass `bytes_max`.
absl::Status FillGet(const engine::GetResult& result, bool with_definition, Identity identity,
                     int64_t bytes_max, v1::GetRefsResponse* response);
void FillList(const engine::ListResult& result, const std::string& prefix, bool names_only, bool count_only,
              Identity identity, v1::ListRefsResponse* response);
void FillAwait(const engine::AwaitResult& result, Identity identity, v1::AwaitChangeResponse* response);
// A verdict that is a Status comes back as that.
absl::Status FillCommit(const engine::Verdict& verdict, engine::Version installed, Identity identity,
                        v1::CommitResponse* response);
void SetDuration(absl::Duration duration, google::protobuf::Duration* message);

// `status` as what every failed call carries: its ErrorDetail (made, where it has none) with the header in it.
v1::ErrorDetail ErrorDetailOf(const absl::Status& status, Identity identity, engine::Version installed);
// google.rpc.Status of `status` with that detail: the bytes of grpc-status-details-bin.
std::string StatusDetailsOf(const absl::Status& status, Identity identity, engine::Version installed);

// --- Commits as watches, the log and histories show them ---

struct ChangeView {
  const engine::EntryChange* change;
  const std::optional<Value>* before;
  bool before_known = true;
};

struct CommitView {
  engine::Version version = 0;
  Instant at;
  const std::optional<Uuid>* transaction_id = nullptr;
  const engine::Meta* meta = nullptr;  // null: all empty
  std::vector<ChangeView> changes;
  const std::vector<Value>* records = nullptr;
};

CommitView ViewOf(const engine::WatchEvent& event);
// The changes that `selector` picks; null: all.
CommitView ViewOf(const engine::LogCursor::Item& item, const engine::Selector* selector);
// Does one of `tags` ("blog.CreateUser", "blog.*") name one of the commit's records?
bool HasRecordOf(const std::vector<Value>& records, const std::vector<std::string>& tags);

// About the bytes that the event's values take.
int64_t BytesOf(const CommitView& commit);
// The commit in parts of about `bytes_max`, all but the last with `more`.
void ForEachPart(const CommitView& commit, int64_t bytes_max, const std::function<void(v1::CommitEvent&&)>& part);

}  // namespace stm::server

#endif  // STM_SERVER_CONVERT_H_
