#include "client/cli/store.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <ostream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace stm::cli {

absl::StatusOr<zookeeper::SessionOptions> SessionOf(Shell& shell, const char* command,
                                                    const StoreOptions& options) {
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
      shell.io().err << "stmctl: " << command << ": others may read " << options.credentials_file
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
  auto log = std::make_shared<spdlog::logger>("stmctl", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  log->set_level(spdlog::level::warn);
  spdlog::set_default_logger(std::move(log));
  return session;
}

absl::Duration PatienceOf(Shell& shell) { return shell.globals().timeout.value_or(kTimeoutDefault); }

}  // namespace stm::cli
