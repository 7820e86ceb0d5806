// Connection talks to one daemon at a time, by plain blocking calls: it stays with the address that answered and moves
// to the next when that one is away. One thread. gRPC is in connection.cc alone.
// Failed calls carry the daemon's ErrorDetail (exactly_once.h). UNAVAILABLE comes back only when no address answers
// (reads are simply asked again elsewhere), or the daemon is not ready until the deadline.
#ifndef STM_CLIENT_CLI_CONNECTION_H_
#define STM_CLIENT_CLI_CONNECTION_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/cli/exactly_once.h"
#include "stm/v1/admin_service.pb.h"
#include "stm/v1/log_service.pb.h"
#include "stm/v1/ref_service.pb.h"
#include "stm/v1/transaction_service.pb.h"
#include "stm/v1/watch_service.pb.h"

namespace stm::cli {

class Connection : public Committer {
 public:
  // "host:port" or "unix:/path", tried in this order. No I/O yet.
  explicit Connection(std::vector<std::string> addresses);
  ~Connection() override;

  absl::StatusOr<v1::GetStatusResponse> GetStatus(absl::Time deadline);
  absl::StatusOr<v1::GetRefsResponse> GetRefs(v1::GetRefsRequest request, absl::Time deadline);
  absl::StatusOr<v1::ListRefsResponse> ListRefs(v1::ListRefsRequest request, absl::Time deadline);
  absl::StatusOr<v1::GetHistoryResponse> GetHistory(v1::GetHistoryRequest request, absl::Time deadline);
  // grpc.health.v1: does it serve?
  absl::StatusOr<bool> IsServing(absl::Time deadline);

  absl::StatusOr<v1::Header> Hello(absl::Time deadline) override;
  absl::StatusOr<v1::CommitResponse> Commit(const v1::CommitRequest& request, absl::Time deadline) override;
  absl::StatusOr<v1::CommitResponse> Outcome(const v1::CommitId& id, absl::Time deadline) override;

  // Until the stream ends (its status), or `take` returns false (ok). One stream: no reconnects.
  absl::Status Watch(const v1::WatchRequest& request, absl::Time deadline,
                     const std::function<bool(const v1::WatchResponse&)>& take);
  absl::Status ReadLog(const v1::ReadLogRequest& request, absl::Time deadline,
                       const std::function<bool(const v1::ReadLogResponse&)>& take);

  absl::StatusOr<v1::GetConfigResponse> GetConfig(absl::Time deadline);
  absl::StatusOr<v1::GetClusterResponse> GetCluster(absl::Time deadline);
  absl::StatusOr<v1::ListContainersResponse> ListContainers(absl::Time deadline);
  // Once: asked again, a daemon that has begun would stop answering.
  absl::Status Drain(const v1::DrainRequest& request, absl::Time deadline);
  // All of a backup, in pieces, until `take` returns an error (which it is then).
  absl::Status Backup(int64_t version, absl::Time deadline,
                      const std::function<absl::Status(const v1::BackupResponse&)>& take);
  // Sends what `next` gives until that is "". Once: no resend.
  absl::StatusOr<v1::RestoreResponse> Restore(absl::Time deadline,
                                              const std::function<absl::StatusOr<std::string>()>& next);

  // Of the daemon that answered last; the first of all before that.
  const std::string& address() const { return addresses_[at_]; }

 private:
  struct Stubs;

  // Finds an address that answers, beginning with the present one.
  absl::Status Connect(absl::Time deadline);
  void Learn(const v1::Header& header);
  absl::Status Failed(absl::Status status);
  // One call, asked again while the daemon says when to, or another address answers.
  template <typename Response, typename Call>
  absl::StatusOr<Response> Ask(absl::Time deadline, const Call& call);

  const std::vector<std::string> addresses_;
  size_t at_ = 0;
  std::unique_ptr<Stubs> stubs_;  // of addresses_[at_]; null: not connected
  v1::Header header_;
};

}  // namespace stm::cli

#endif  // STM_CLIENT_CLI_CONNECTION_H_
