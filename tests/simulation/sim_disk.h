// SimDrive is a disk in memory that forgets what real ones may forget. Until synced, a write may be lost,
// torn at any byte, or leave zeros where it made the file longer, sector by sector; a create, rename or
// remove may not have happened; a full drive takes part of a write; a sync may fail. SimDisk is a process's
// view of it, a local::Disk. One thread. Always: what was synced before a power loss is there after it.
#ifndef STM_TESTS_SIMULATION_SIM_DISK_H_
#define STM_TESTS_SIMULATION_SIM_DISK_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "backends/local/disk.h"
#include "tests/simulation/chance.h"

namespace stm::sim {

class SimDrive {
 public:
  // Outlives the disks plugged in.
  explicit SimDrive(Chance* chance) : chance_(chance) {}

  // For a process that starts. The disks before it are dead: their calls fail and do nothing.
  std::unique_ptr<local::Disk> Plug();

  // The process dies (kill -9): what it wrote stays, synced or not.
  void ProcessDies();
  // The machine loses power: of what was not synced, anything may be left.
  void PowerLoss();

  // Another drive, with nothing on it, takes its place.
  void Wipe();

  // Dies at the n-th change from now (1: the next), in the middle of it: dead() from then on, and nothing
  // changes any more until PowerLoss or ProcessDies. 0: not.
  void DieAfter(uint64_t changes) { die_after_ = changes; }
  bool dead() const { return dead_; }
  // Files can grow by so many bytes more, and by what others give back; then RESOURCE_EXHAUSTED, some of the
  // write done.
  void SetFull(uint64_t room) {
    full_ = true;
    room_ = room;
  }
  void SetRoomy() { full_ = false; }
  bool full() const { return full_; }
  // The next file sync fails; what it should have made durable may or may not be.
  void FailNextSync() { fail_next_sync_ = true; }
  bool sync_failed() const { return sync_failed_; }

  // The change that was begun last: what a death cuts, or comes after.
  struct Step {
    enum class Kind : uint8_t { kNone, kWrite, kSync, kTruncate, kCreate, kRename, kRemove, kSyncDirectory };
    Kind kind = Kind::kNone;
    std::string name;    // of the file; "": of none
    bool fresh = false;  // a power loss may take the file as a whole: its directory was not synced since
    bool blank = false;  // of a write: newlines alone
  };
  const Step& step() const { return step_; }
  // Sums over all power losses and failed syncs: files that lost something.
  struct Losses {
    int64_t prefixes = 0;  // the first writes are there, the next is torn, the rest is not
    int64_t mixtures = 0;  // sectors of their own: a later write may be there without an earlier one
    int64_t zeros = 0;     // of those, with zeros where the file got longer
    int64_t names = 0;     // creates, renames and removes undone
  };
  const Losses& losses() const { return losses_; }

  // Called when a file goes, with what was in it.
  void SetRemoved(std::function<void(const std::string& name, const std::string& content)> removed) {
    removed_ = std::move(removed);
  }

  // For tests: the files as a process sees them now.
  std::map<std::string, std::string> Contents() const;
  std::vector<std::string> Names() const;  // in order
  uint64_t changes() const { return changes_; }

  static constexpr size_t kSectorBytes = 4096;

 private:
  friend class SimDisk;
  friend class SimFile;

  struct Change {
    enum class Kind : uint8_t { kWrite, kTruncate };
    Kind kind = Kind::kWrite;
    uint64_t offset = 0;  // of kTruncate: the size
    std::string data;
  };
  struct Inode {
    std::string durable;
    std::string current;
    std::vector<Change> unsynced;  // what made current out of durable
  };
  using Directory = std::map<std::string, std::shared_ptr<Inode>, std::less<>>;
  struct DirectoryChange {
    enum class Kind : uint8_t { kCreate, kRename, kRemove };
    Kind kind = Kind::kCreate;
    std::string name;
    std::string to;
    std::shared_ptr<Inode> inode;
  };

  // Counts a change; false: the drive is dead, or dies here.
  bool Alive(Step::Kind kind, std::string_view name, bool blank = false);
  // Takes up to `bytes` of the room; what it got.
  uint64_t Take(uint64_t bytes);
  void GiveBack(uint64_t bytes);
  static void Apply(const Change& change, size_t bytes, std::string* content);
  // What a power loss leaves of a file.
  std::string Remains(const Inode& inode);
  std::string Mixture(const Inode& inode);
  std::string TornPrefix(const Inode& inode);

  Chance* const chance_;
  Directory current_;
  Directory durable_;
  std::vector<DirectoryChange> unsynced_;
  uint64_t generation_ = 0;  // of the disk plugged in last
  bool locked_ = false;
  bool dead_ = false;
  bool full_ = false;
  uint64_t room_ = 0;  // while full
  bool fail_next_sync_ = false;
  bool sync_failed_ = false;
  uint64_t die_after_ = 0;
  uint64_t changes_ = 0;
  Step step_;
  Losses losses_;
  std::function<void(const std::string& name, const std::string& content)> removed_;
};

}  // namespace stm::sim

#endif  // STM_TESTS_SIMULATION_SIM_DISK_H_
