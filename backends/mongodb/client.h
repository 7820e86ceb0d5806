// Client is the connections to one MongoDB: documents by their _id, each call one try that ends by its
// deadline. Writes wait for a majority's journals, reads are of the primary and a majority, whatever the URI
// says or leaves out. Errors: UNAVAILABLE: ask again (a write may have had its effect, or may have it later);
// PERMISSION_DENIED; RESOURCE_EXHAUSTED; INTERNAL: what else MongoDB says. No message has a password. Any
// thread.
#ifndef STM_BACKENDS_MONGODB_CLIENT_H_
#define STM_BACKENDS_MONGODB_CLIENT_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backends/mongodb/deadline.h"

namespace stm::mongodb {

// Connections at most, if the URI's maxPoolSize says nothing.
inline constexpr int kPoolSize = 64;

// May a write go in one command with others' writes? If that fails, what failed for which is not known.
enum class Sent { kTogether, kAlone };

class Client {
 public:
  // container.h says what a URI may hold. Connects to nothing (but looks the names of mongodb+srv up).
  // INVALID_ARGUMENT.
  static absl::StatusOr<std::unique_ptr<Client>> Open(const std::string& uri);
  ~Client();

  // "stmd.refs at 127.0.0.1:27017".
  std::string Where(const std::string& collection) const;

  // Documents are BSON, and have an _id. ALREADY_EXISTS: there is one of this _id.
  absl::Status Insert(const std::string& collection, const std::string& document, const Deadline& deadline,
                      Sent sent);
  // nullopt: there is none, and no write of one was acknowledged before the call.
  absl::StatusOr<std::optional<std::string>> Find(const std::string& collection, const std::string& id,
                                                  const Deadline& deadline);
  // Puts it in the place of the one of this _id whose version is below, or makes it. ALREADY_EXISTS: there is
  // one that is not.
  absl::Status ReplaceBelow(const std::string& collection, const std::string& id, int64_t version,
                            const std::string& document, const Deadline& deadline);
  // OK if there is none.
  absl::Status Delete(const std::string& collection, const std::string& id, const Deadline& deadline,
                      Sent sent);
  // As Delete, if its version is below.
  absl::Status DeleteBelow(const std::string& collection, const std::string& id, int64_t version,
                           const Deadline& deadline);

 private:
  class Rep;
  explicit Client(std::unique_ptr<Rep> rep);
  std::unique_ptr<Rep> rep_;
};

}  // namespace stm::mongodb

#endif  // STM_BACKENDS_MONGODB_CLIENT_H_
