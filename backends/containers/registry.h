// Containers of the configuration: "NAME=URI". The URI's scheme says who keeps the values: a Factory of the
// program's, by the scheme it was registered under. README.md tells an author how to register his own. Any
// thread.
#ifndef STM_BACKENDS_CONTAINERS_REGISTRY_H_
#define STM_BACKENDS_CONTAINERS_REGISTRY_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "backends/containers/container.h"

namespace stm::containers {

// Of a name, without its "remote:", and of a client's offer.
inline constexpr size_t kContainerNameBytesMax = 64;

struct ContainerSetting {
  std::string name;  // "mongo", "remote:orders"
  std::string uri;   // may hold a password: show it by WithoutPassword alone
};

// "mongo=mongodb://db.example/app", "remote:orders=grpc://127.0.0.1:7450". Names are made of a-z, 0-9, "_"
// and "-"; "remote:NAME" is one that is asked by gRPC. "inline" and "offered:..." are not for the
// configuration to give.
absl::StatusOr<ContainerSetting> ParseContainer(std::string_view text);
// In the order given. INVALID_ARGUMENT as well: a name twice.
absl::StatusOr<std::vector<ContainerSetting>> ParseContainers(const std::vector<std::string>& texts);
// INVALID_ARGUMENT says what a name of one's own, or the NAME of "remote:NAME" and "offered:NAME", is made
// of.
absl::Status CheckContainerName(std::string_view name);

// "mongodb://app:***@db.example/app".
std::string WithoutPassword(std::string_view uri);

struct FactoryOptions {
  std::string name;                      // the container's, for messages
  int64_t message_bytes_max = 64 << 20;  // a value and what carries it
};

// INVALID_ARGUMENT: the URI is no good, and what one should be. It need not reach anything yet: a container
// that is down when the daemon starts is UNAVAILABLE to those who ask for it, and to nobody else.
using Factory =
    std::function<absl::StatusOr<Container>(const std::string& uri, const FactoryOptions& options)>;

class Schemes {
 public:
  // The program's own, which the daemon makes its containers by.
  static Schemes& OfProgram();

  // "grpc", without "://". True, so that it can begin a program: const bool registered =
  // Schemes::OfProgram().Register(...).
  bool Register(const std::string& scheme, Factory factory);
  // INVALID_ARGUMENT: no such scheme, or what its factory says of the URI.
  absl::StatusOr<Container> Make(const ContainerSetting& setting, FactoryOptions options = {}) const;

 private:
  mutable absl::Mutex mutex_;
  std::map<std::string, Factory> factories_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace stm::containers

#endif  // STM_BACKENDS_CONTAINERS_REGISTRY_H_
