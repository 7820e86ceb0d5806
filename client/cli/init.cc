// init: a store in ZooKeeper, before its first daemon starts.
#include "backends/zookeeper/init.h"

#include <memory>
#include <utility>

#include "client/cli/commands.h"
#include "client/cli/store.h"

namespace stm::cli {

absl::Status Init(Shell& shell, const InitOptions& options) {
  absl::StatusOr<zookeeper::SessionOptions> session = SessionOf(shell, "init", options.at);
  if (!session.ok()) return session.status();
  const absl::Status status = AwaitWork<absl::Status>([&](engine::Loop* loop, zookeeper::Sessions* sessions,
                                                          absl::AnyInvocable<void(absl::Status)> done) {
    return std::make_unique<zookeeper::Init>(loop, sessions, *session, PatienceOf(shell), std::move(done));
  });
  const bool found = options.if_absent && absl::IsAlreadyExists(status);
  if (!status.ok() && !found) return status;
  shell.printer().Print(shell.printer().Word(found ? "found" : "made"));
  return absl::OkStatus();
}

}  // namespace stm::cli
