// The Settler does what commits leave to be done in containers, as entries tell it (stored.h), whoever made
// them: it erases what nothing names any more, gives up stamps of daemons that are gone and of transactions
// that were refused, and copies atoms. Each of these may be done twice, by two daemons too; nothing is
// forgotten but by a commit. What is erased was superseded for `erase_after` here, and past the history.
// Stamps of another store, of which this one was restored, are let be: that store may still use them. Lives
// on the Loop; no locks.
#ifndef STM_ENGINE_SETTLER_H_
#define STM_ENGINE_SETTLER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/time/time.h"
#include "engine/containers.h"
#include "engine/engine.h"
#include "engine/loop.h"
#include "engine/stored.h"

namespace stm::engine {

class Settler {
 public:
  // All outlive it.
  Settler(Loop* loop, Engine* engine, Writers* writers, Containers* containers, Options options,
          Canaries canaries = {});
  ~Settler();

  // Once the engine is ready.
  void Start();

  // Of each container, as of the last time that all was looked at.
  struct Left {
    int64_t staged_bytes = 0;  // under stamps that no commit names yet
    int64_t staged = 0;
    int64_t erase_bytes = 0;  // that nothing names any more
    int64_t to_erase = 0;
    int64_t to_copy = 0;  // atoms
  };
  std::map<std::string, Left> left() const;
  int64_t erased() const { return erased_; }
  int64_t given_up() const { return given_up_; }
  int64_t copied() const { return copied_; }

 private:
  class CopyWatch;
  struct Found {
    std::string stamp;
    StampNote note;
    Version version = 0;
  };

  struct Count {
    int64_t notes = 0;
    int64_t bytes = 0;
  };
  // The notes under a prefix, round and round, some at a time: however many one container has, those of others are
  // come to.
  struct Round {
    std::string prefix;
    std::string after;                      // the name of the last that was looked at; "": it begins anew
    std::map<std::string, Count> counting;  // by container, in this round so far
    std::map<std::string, Count> counted;   // in the last whole one
  };
  using Looked = absl::AnyInvocable<void(std::vector<EntryState>, Version snapshot)>;

  void Again();
  void Look();
  void LookAt(Round* round, Looked looked);
  void ListPage(Round* round, std::shared_ptr<std::vector<EntryState>> found, Version snapshot, Looked looked);
  void GiveUp(std::vector<EntryState> staged, Version snapshot);
  void Erase(std::vector<EntryState> notes);
  struct Erasing {
    std::vector<Found> due;  // not begun
    int64_t calls = 0;       // under way
  };
  void EraseNext(const std::string& container);
  void Erased(const Found& found, absl::Status status);
  void Forget(bool all);
  void CopySoon(const std::string& atom);
  void Copy(std::string atom);
  void CopyAs(const std::string& atom, EntryState note, EntryState entry, Version snapshot);
  void Copied(const std::string& atom, Version snapshot, const absl::Status& status);
  void Watch();
  bool Mine(uint64_t writer) const;
  void Commit(std::unique_ptr<Transaction> transaction, absl::AnyInvocable<void(bool committed)> done);

  Loop* const loop_;
  Engine* const engine_;
  Writers* const writers_;
  Containers* const containers_;
  const Options options_;
  const Canaries canaries_;
  const absl::Duration every_;
  const absl::Duration erase_after_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);

  Round staged_{std::string(kStagedPrefix), {}, {}, {}};
  Round erasable_{std::string(kErasePrefix), {}, {}, {}};
  Round copies_{std::string(kCopyPrefix) + "/", {}, {}, {}};
  // When this daemon first saw that a stamp is to be erased: in the last round, and in this one so far.
  absl::flat_hash_map<std::string, absl::Duration> seen_, seeing_;
  std::map<std::string, Erasing> erasing_;  // by container: a slow one holds up no other
  std::vector<std::string> erased_stamps_;  // their entries are to go
  absl::flat_hash_set<std::string> copying_;
  absl::flat_hash_set<std::string> copy_again_;  // changed while it was copied
  std::shared_ptr<CopyWatch> watch_;
  int64_t erased_ = 0;
  int64_t given_up_ = 0;
  int64_t copied_ = 0;
};

}  // namespace stm::engine

#endif  // STM_ENGINE_SETTLER_H_
