// A store that keeps values outside of all daemons, and one daemon's way to it. Calls are lost, come late,
// long after they were given up too, take effect without an answer, or are refused; the store is away for a
// while. What a daemon called before it died may still come.
#ifndef STM_TESTS_SIMULATION_SIM_CONTAINERS_H_
#define STM_TESTS_SIMULATION_SIM_CONTAINERS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/time/time.h"
#include "engine/containers.h"
#include "tests/checkers/history.h"
#include "tests/simulation/chance.h"
#include "tests/simulation/world.h"

namespace stm::sim {

// The one container that is configured.
inline constexpr char kContainer[] = "outside";

// In 1000 names, or calls; drawn apart from all else.
struct ContainerSettings {
  uint64_t names = 0;  // refs and atoms that are kept there; 0: no container is configured
  uint64_t lost = 0;
  uint64_t answer_lost = 0;
  uint64_t late = 0;
  uint64_t refused = 0;
  uint64_t slow = 0;
  uint64_t away = 0;  // begins with this call
  absl::Duration timeout = absl::Milliseconds(40);
  absl::Duration late_max = absl::Milliseconds(400);
  absl::Duration erase_after = absl::Milliseconds(600);  // above late_max
  int64_t cache_bytes = 0;
  size_t settle_notes = 0;  // that one look takes

  void Draw(Chance* chance);
  std::string ToString() const;
  // Is the entry kept there? The same for a name always.
  bool Keeps(const std::string& name) const;
};

struct ContainerTotals {
  int64_t staged = 0;  // writes that took effect
  int64_t reads = 0;
  int64_t erased = 0;
  int64_t lost = 0;
  int64_t late = 0;
  int64_t refused = 0;
  int64_t aways = 0;
  int64_t copies = 0;
  void Add(const ContainerTotals& other);
};

class SimStore {
 public:
  SimStore(World* world, ContainerSettings settings, uint64_t seed)
      : world_(world), settings_(settings), chance_(seed) {}

  const ContainerSettings& settings() const { return settings_; }
  // From now on nothing goes wrong any more.
  void Calm() { calm_ = true; }
  const ContainerTotals& totals() const { return totals_; }

  // Puts values where the log has stamps. "": all are known; else what is wrong.
  std::string Resolve(check::Log* log) const;
  // What is kept must be what the entries at the end of `log`, which has stamps, name, and no more. Stamps of
  // stores other than `store` may be there. `atoms`: those too. "": it is.
  std::string CheckKept(const check::Log& log, uint64_t store, bool atoms) const;

 private:
  friend class SimContainers;
  using Key = std::pair<std::string, std::string>;  // an entry's name, a stamp
  struct Atom {
    engine::Version version = 0;
    Value value;
  };

  World* const world_;
  const ContainerSettings settings_;
  Chance chance_;
  bool calm_ = false;
  absl::Duration away_until_;
  std::map<Key, Value> values_;
  std::map<std::string, Atom> atoms_;
  std::map<std::pair<std::string, int64_t>, Value>
      asked_;  // all that were ever to be written, by stamp and hash
  ContainerTotals totals_;
};

class SimContainers final : public engine::Containers {
 public:
  // All outlive it. It goes with its daemon's life.
  SimContainers(SimStore* store, engine::Loop* loop) : store_(store), loop_(loop) {}

  absl::Status Check(const std::string& container, engine::EntryKind kind) override;
  void Init(const std::string& container, const std::string& name, absl::Duration deadline,
            Told done) override;
  void Destroy(const std::string& container, const std::string& name, absl::Duration deadline,
               Told done) override;
  void GetStateAt(const std::string& container, const std::string& name, const std::string& stamp,
                  absl::Duration deadline, Got done) override;
  void SetStateAt(const std::string& container, const std::string& name, const std::string& stamp,
                  Value value, absl::Duration deadline, Told done) override;
  void DeleteStateAt(const std::string& container, const std::string& name, const std::string& stamp,
                     absl::Duration deadline, Told done) override;
  void InitAtom(const std::string& container, const std::string& name, absl::Duration deadline,
                Told done) override;
  void DestroyAtom(const std::string& container, const std::string& name, engine::Version version,
                   absl::Duration deadline, Told done) override;
  void GetState(const std::string& container, const std::string& name, absl::Duration deadline,
                Got done) override;
  void SetState(const std::string& container, const std::string& name, Value value, engine::Version version,
                absl::Duration deadline, Told done) override;

 private:
  using Effect = std::function<std::optional<Value>(SimStore*)>;
  // Sends a call: its effect comes, once at the most, or never, and the answer, or the deadline.
  void Call(absl::Duration deadline, Effect effect, Got done);
  void Tell(uint64_t call, absl::StatusOr<std::optional<Value>> answer);
  static Got Without(Told done);

  SimStore* const store_;
  engine::Loop* const loop_;
  uint64_t next_ = 1;
  std::map<uint64_t, Got> calls_;  // not answered
  std::shared_ptr<SimContainers*> self_ =
      std::make_shared<SimContainers*>(this);  // outside events ask whether it lives
};

}  // namespace stm::sim

#endif  // STM_TESTS_SIMULATION_SIM_CONTAINERS_H_
