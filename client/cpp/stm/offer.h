// A container in this process: values of refs and atoms whose container is "offered:NAME" are kept here,
// while the offer stands. client.Offer("mine", refs, atoms) gives an Offer; its end withdraws it, and a lost
// connection or a restarted daemon only interrupts it. Meanwhile those entries alone are UNAVAILABLE. An
// offer is to the client's daemon: another daemon of the same store asks its own clients, so what is kept
// should be a store that all of them share.
#ifndef STM_CLIENT_CPP_STM_OFFER_H_
#define STM_CLIENT_CPP_STM_OFFER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "stm/value.h"

namespace stm {

class Offer;
struct OfferOptions;

namespace internal {
class ClientCore;
class Offering;
}  // namespace internal

// Keeps values of refs, each under a stamp that is used once. Methods block, are called by several threads at
// once, and may be called again with the same arguments, also late. The daemon gives a call up after its
// container-timeout (10 s). Names are the daemon's: with the client's prefix. Errors reach the caller of the
// transaction: UNAVAILABLE: ask again; PERMISSION_DENIED; RESOURCE_EXHAUSTED: it is full; DATA_LOSS: what is
// kept can't be read.
class VersionedStateContainer {
 public:
  virtual ~VersionedStateContainer() = default;
  // A ref of this name is about to be kept here. May come again for one that is.
  virtual absl::Status Init(const std::string& name) = 0;
  // The ref was deleted: what is kept for the name itself may go, but nothing under a stamp.
  virtual absl::Status Destroy(const std::string& name) = 0;
  // nullopt: there is no such stamp.
  virtual absl::StatusOr<std::optional<Value>> GetStateAt(const std::string& name,
                                                          const std::string& stamp) = 0;
  // As durable as its owner wants committed values to be, once it is OK. The same stamp comes with the same
  // value.
  virtual absl::Status SetStateAt(const std::string& name, const std::string& stamp, const Value& value) = 0;
  // OK also when there is no such stamp.
  virtual absl::Status DeleteStateAt(const std::string& name, const std::string& stamp) = 0;
};

// Keeps copies of atoms: the commits have the values themselves.
class StateContainer {
 public:
  virtual ~StateContainer() = default;
  virtual absl::Status Init(const std::string& name) = 0;
  // The atom was deleted by the commit `version`: a state of an older version goes, a newer one stays.
  virtual absl::Status Destroy(const std::string& name, int64_t version) = 0;
  // nullopt: it has none.
  virtual absl::StatusOr<std::optional<Value>> GetState(const std::string& name) = 0;
  // `version` grows; one below what is there already changes nothing and is OK.
  virtual absl::Status SetState(const std::string& name, const Value& value, int64_t version) = 0;
};

struct OfferOptions {
  // Calls at once.
  int threads_max = 8;
  // Until it stands for the first time.
  absl::Duration timeout = absl::Seconds(10);
};

namespace internal {
absl::StatusOr<Offer> OfferContainer(const std::shared_ptr<ClientCore>& client, std::string_view name,
                                     std::shared_ptr<VersionedStateContainer> refs,
                                     std::shared_ptr<StateContainer> atoms, const OfferOptions& options);
}  // namespace internal

// Any thread but those of the container's methods.
class Offer {
 public:
  Offer(Offer&&) noexcept;
  Offer& operator=(Offer&&) noexcept;
  // Withdraws it; calls under way are waited for.
  ~Offer();

  // "offered:mine": what refs and atoms give as their container.
  const std::string& container() const;
  // The daemon asks here now.
  bool standing() const;
  // False: not within `timeout`.
  bool AwaitStanding(absl::Duration timeout) const;
  // Why it does not stand; OK: it does, or was never interrupted.
  absl::Status status() const;

 private:
  friend absl::StatusOr<Offer> internal::OfferContainer(const std::shared_ptr<internal::ClientCore>&,
                                                        std::string_view,
                                                        std::shared_ptr<VersionedStateContainer>,
                                                        std::shared_ptr<StateContainer>, const OfferOptions&);
  explicit Offer(std::shared_ptr<internal::Offering> offering);

  std::shared_ptr<internal::Offering> offering_;  // null: moved from
};

}  // namespace stm

#endif  // STM_CLIENT_CPP_STM_OFFER_H_
