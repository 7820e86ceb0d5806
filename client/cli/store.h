// What is done with a store in ZooKeeper itself, before a daemon runs on it: init, and restore into one. One
// thread calls.
#ifndef STM_CLIENT_CLI_STORE_H_
#define STM_CLIENT_CLI_STORE_H_

#include <future>
#include <type_traits>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "backends/zookeeper/c_session.h"
#include "backends/zookeeper/session.h"
#include "client/cli/commands.h"
#include "client/cli/shell.h"
#include "engine/loop.h"
#include "server/combining_loop.h"

namespace stm::cli {

// INVALID_ARGUMENT says which option is wrong. Warns of credentials that others may read, and has what the
// client library can't do told where errors go.
absl::StatusOr<zookeeper::SessionOptions> SessionOf(Shell& shell, const char* command,
                                                    const StoreOptions& options);

// How long ZooKeeper may give no answer.
absl::Duration PatienceOf(Shell& shell);

// What `make(loop, sessions, done)` returns works on the Loop until it tells its outcome.
template <typename Outcome, typename Make>
Outcome AwaitWork(Make make) {
  server::CombiningLoop loop;
  zookeeper::CSessions sessions(&loop);
  std::promise<Outcome> told;
  std::invoke_result_t<Make, engine::Loop*, zookeeper::Sessions*, absl::AnyInvocable<void(Outcome)>> work;
  loop.Post([&] {
    work = make(&loop, &sessions, [&told](Outcome outcome) { told.set_value(std::move(outcome)); });
  });
  Outcome outcome = told.get_future().get();
  std::promise<void> gone;
  loop.Post([&] {
    work.reset();
    gone.set_value();
  });
  gone.get_future().wait();
  return outcome;
}

}  // namespace stm::cli

#endif  // STM_CLIENT_CLI_STORE_H_
