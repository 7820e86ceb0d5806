// The container of backends/containers/README.md: an author's own, in his build of stmd.
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "backends/containers/container.h"
#include "backends/containers/registry.h"

namespace {

using stm::Value;

class Mine final : public stm::containers::VersionedStateContainer {
 public:
  absl::Status Init(const std::string&, absl::Duration) override { return absl::OkStatus(); }
  absl::Status Destroy(const std::string&, absl::Duration) override { return absl::OkStatus(); }
  absl::StatusOr<std::optional<Value>> GetStateAt(const std::string& name, const std::string& stamp,
                                                  absl::Duration) override {
    absl::MutexLock lock(&mutex_);
    const auto it = values_.find({name, stamp});
    if (it == values_.end()) return std::nullopt;
    return it->second;
  }
  absl::Status SetStateAt(const std::string& name, const std::string& stamp, const Value& value,
                          absl::Duration) override {
    absl::MutexLock lock(&mutex_);
    values_.emplace(std::make_pair(name, stamp), value);  // the first stays
    return absl::OkStatus();
  }
  absl::Status DeleteStateAt(const std::string& name, const std::string& stamp, absl::Duration) override {
    absl::MutexLock lock(&mutex_);
    values_.erase({name, stamp});
    return absl::OkStatus();
  }

 private:
  absl::Mutex mutex_;
  std::map<std::pair<std::string, std::string>, Value> values_ ABSL_GUARDED_BY(mutex_);
};

absl::StatusOr<stm::containers::Container> MakeMine(const std::string& uri,
                                                    const stm::containers::FactoryOptions&) {
  stm::containers::Container container;
  container.refs = std::make_unique<Mine>();  // and no atoms
  return container;
}

const bool registered = stm::containers::Schemes::OfProgram().Register("mine", MakeMine);

}  // namespace
