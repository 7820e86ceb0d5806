// stm.v1's locks and sessions as the engine's structs, and back. As convert.h. Pure; any thread.
#ifndef STM_SERVER_LOCK_CONVERT_H_
#define STM_SERVER_LOCK_CONVERT_H_

#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/locks/calls.h"
#include "engine/locks/leases.h"
#include "server/convert.h"
#include "stm/v1/lock_service.pb.h"
#include "stm/v1/session_service.pb.h"

namespace stm::server {

// What every call that changes something has. `deadline`: on the Loop's clock.
absl::StatusOr<engine::CallContext> CallContextOf(const v1::CommitId& id, bool has_id, v1::Meta* meta,
                                                  absl::Duration deadline);

struct AcquireCall {
  engine::AcquireLock request;
  absl::Duration wait;
};
// The context's id is the grant's; without one the grant's is left for LockCalls to make.
absl::StatusOr<AcquireCall> AcquireOf(v1::AcquireLockRequest* request, const engine::CallContext& context);
struct AwaitCall {
  engine::AwaitCondition request;
  absl::Duration wait;
};
absl::StatusOr<AwaitCall> AwaitOf(v1::AwaitConditionRequest* request);
absl::StatusOr<engine::LockOwner> OwnerOf(std::string* session, std::string* owner);

v1::LockOutcome ToProto(engine::LockOutcome outcome);
void FillHolds(const std::vector<engine::LockStep>& steps,
               google::protobuf::RepeatedPtrField<v1::LockHold>* message);
void FillLock(const engine::LockView& view, v1::Lock* message);
void FillSession(const engine::SessionView& view, v1::Session* message);

// The last name of a page, for the next one; of this listing alone.
std::string PrintNameToken(std::string_view listing, const std::string& name);
absl::StatusOr<std::string> ReadNameToken(std::string_view listing, const std::string& token);

}  // namespace stm::server

#endif  // STM_SERVER_LOCK_CONVERT_H_
