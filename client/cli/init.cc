// init: a store in ZooKeeper, before its first daemon starts.
#include "backends/zookeeper/init.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <future>
#include <memory>
#include <ostream>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "backends/zookeeper/c_session.h"
#include "client/cli/commands.h"
#include "server/combining_loop.h"

namespace stm::cli {
namespace {

absl::StatusOr<zookeeper::SessionOptions> SessionOf(Shell& shell, const InitOptions& options) {
  const absl::string_view scheme(zookeeper::kScheme.data(), zookeeper::kScheme.size());
  if (!absl::StartsWith(options.store, scheme)) {
    return absl::InvalidArgumentError(
        absl::StrCat(options.store, ": expected zk://host:port,host:port/chroot"));
  }
  zookeeper::SessionOptions session;
  absl::StatusOr<zookeeper::ConnectString> connect =
      zookeeper::ParseConnectString(options.store.substr(scheme.size()));
  if (!connect.ok()) return connect.status();
  session.connect = *std::move(connect);
  if (!options.credentials_file.empty()) {
    bool others_may_read = false;
    absl::StatusOr<std::string> credentials =
        zookeeper::ReadCredentials(options.credentials_file, &others_may_read);
    if (!credentials.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("--credentials-file: ", credentials.status().message()));
    }
    if (others_may_read) {
      shell.io().err << "stmctl: init: others may read " << options.credentials_file
                     << ", which holds a password: chmod 600 " << options.credentials_file << std::endl;
    }
    session.credentials = *std::move(credentials);
  }
  if (options.acl == "creator") {
    if (session.credentials.empty()) {
      return absl::InvalidArgumentError(
          "--acl creator: is whoever has these credentials: give --credentials-file");
    }
    session.acl = zookeeper::SessionOptions::Acl::kCreator;
  } else if (options.acl != "open") {
    return absl::InvalidArgumentError(absl::StrCat("--acl ", options.acl, ": expected open or creator"));
  }
  return session;
}

}  // namespace

absl::Status Init(Shell& shell, const InitOptions& options) {
  absl::StatusOr<zookeeper::SessionOptions> session = SessionOf(shell, options);
  if (!session.ok()) return session.status();
  // What the client library can't do goes where errors go.
  auto log = std::make_shared<spdlog::logger>("stmctl", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  log->set_level(spdlog::level::warn);
  spdlog::set_default_logger(std::move(log));
  const absl::Duration patience = shell.globals().timeout.value_or(kTimeoutDefault);
  server::CombiningLoop loop;
  zookeeper::CSessions sessions(&loop);
  std::promise<absl::Status> promise;
  std::unique_ptr<zookeeper::Init> init;
  loop.Post([&] {
    init = std::make_unique<zookeeper::Init>(&loop, &sessions, *session, patience, [&](absl::Status status) {
      promise.set_value(std::move(status));
    });
  });
  absl::Status status = promise.get_future().get();
  std::promise<void> gone;
  loop.Post([&] {
    init.reset();
    gone.set_value();
  });
  gone.get_future().wait();
  const bool found = options.if_absent && absl::IsAlreadyExists(status);
  if (!status.ok() && !found) return status;
  shell.printer().Print(shell.printer().Word(found ? "found" : "made"));
  return absl::OkStatus();
}

}  // namespace stm::cli
