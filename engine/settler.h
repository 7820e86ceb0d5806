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

  // Of each container, as of the last look at it all.
  struct Left {
    int64_t staged_bytes = 0;  // under stamps that no commit names yet
    int64_t staged = 0;
    int64_t erase_bytes = 0;  // that nothing names any more
    int64_t to_erase = 0;
    int64_t to_copy = 0;  // atoms
  };
  const std::map<std::string, Left>& left() const { return left_; }
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

  void Again();
  void Look();
  // All entries under `prefix`, page by page.
  void ListAll(std::string prefix, std::shared_ptr<std::vector<EntryState>> found,
               absl::AnyInvocable<void(absl::Status, Version)> done, std::string after = "",
               Version snapshot = 0);
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

  // When this daemon first saw that a stamp is to be erased.
  absl::flat_hash_map<std::string, absl::Duration> seen_;
  std::map<std::string, Erasing> erasing_;  // by container: a slow one holds up no other
  std::vector<std::string> erased_stamps_;  // their entries are to go
  std::map<std::string, Left> left_;
  absl::flat_hash_set<std::string> copying_;
  absl::flat_hash_set<std::string> copy_again_;  // changed while it was copied
  std::shared_ptr<CopyWatch> watch_;
  int64_t erased_ = 0;
  int64_t given_up_ = 0;
  int64_t copied_ = 0;
};

}  // namespace stm::engine

#endif  // STM_ENGINE_SETTLER_H_
