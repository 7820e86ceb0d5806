#include "tests/simulation/sim_disk.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "absl/strings/str_cat.h"

namespace stm::sim {
namespace {

using Kind = SimDrive::Step::Kind;

absl::Status Dead() { return absl::UnavailableError("simulated disk: the power is gone"); }

}  // namespace

class SimFile : public local::File {
 public:
  SimFile(SimDrive* drive, uint64_t generation, std::shared_ptr<SimDrive::Inode> inode, std::string name,
          std::string path)
      : drive_(drive),
        generation_(generation),
        inode_(std::move(inode)),
        name_(std::move(name)),
        path_(std::move(path)) {}

  absl::Status Write(uint64_t offset, std::string_view data) override {
    if (stale() || drive_->dead_) return Dead();
    const bool blank = data.find_first_not_of('\n') == std::string_view::npos;
    const bool alive = drive_->Alive(Kind::kWrite, name_, blank);
    size_t bytes = alive ? data.size() : drive_->chance_->Below(data.size() + 1);
    const uint64_t size = inode_->current.size();
    bool refused = false;
    if (offset + bytes > size) {
      const uint64_t growth = offset + bytes - size;
      const uint64_t got = drive_->Take(growth);
      refused = got < growth;
      bytes -= std::min<uint64_t>(bytes, growth - got);
    }
    SimDrive::Change change;
    change.offset = offset;
    change.data = std::string(data.substr(0, bytes));
    if (bytes > 0) {
      SimDrive::Apply(change, bytes, &inode_->current);
      inode_->unsynced.push_back(std::move(change));
    }
    if (!alive) return Dead();
    if (refused) return absl::ResourceExhaustedError(absl::StrCat(path_, ": no space left on device"));
    return absl::OkStatus();
  }

  absl::Status Sync() override {
    if (stale() || !drive_->Alive(Kind::kSync, name_)) return Dead();
    if (drive_->fail_next_sync_) {
      drive_->fail_next_sync_ = false;
      drive_->sync_failed_ = true;
      inode_->durable = drive_->Remains(*inode_);
      inode_->unsynced.clear();
      // The system believes what it has in memory; the disk does not.
      SimDrive::Change lost;
      lost.data = inode_->current;
      SimDrive::Change size;
      size.kind = SimDrive::Change::Kind::kTruncate;
      size.offset = inode_->current.size();
      inode_->unsynced = {std::move(size), std::move(lost)};
      return absl::DataLossError(absl::StrCat(path_, ": fdatasync: input/output error"));
    }
    inode_->durable = inode_->current;
    inode_->unsynced.clear();
    return absl::OkStatus();
  }

  absl::Status Truncate(uint64_t size) override {
    if (stale() || !drive_->Alive(Kind::kTruncate, name_)) return Dead();
    // Longer is a hole, which takes no room.
    if (size < inode_->current.size()) drive_->GiveBack(inode_->current.size() - size);
    SimDrive::Change change;
    change.kind = SimDrive::Change::Kind::kTruncate;
    change.offset = size;
    SimDrive::Apply(change, 0, &inode_->current);
    inode_->unsynced.push_back(std::move(change));
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> Read(uint64_t offset, size_t size) override {
    if (stale() || drive_->dead_) return Dead();
    if (offset >= inode_->current.size()) return std::string();
    return inode_->current.substr(offset, size);
  }

  absl::StatusOr<uint64_t> Size() override {
    if (stale() || drive_->dead_) return Dead();
    return inode_->current.size();
  }

 private:
  bool stale() const { return generation_ != drive_->generation_; }

  SimDrive* const drive_;
  const uint64_t generation_;
  const std::shared_ptr<SimDrive::Inode> inode_;
  const std::string name_;
  const std::string path_;
};

class SimDisk : public local::Disk {
 public:
  SimDisk(SimDrive* drive, uint64_t generation) : drive_(drive), generation_(generation) {}
  ~SimDisk() override {
    if (!stale() && locked_) drive_->locked_ = false;
  }

  std::string Path(std::string_view name) const override { return absl::StrCat("sim:/", std::string(name)); }

  absl::Status Lock() override {
    if (stale() || drive_->dead_) return Dead();
    if (drive_->locked_) return absl::FailedPreconditionError("sim:/: another process has it");
    drive_->locked_ = locked_ = true;
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<std::string>> List() override {
    if (stale() || drive_->dead_) return Dead();
    std::vector<std::string> names;
    for (const auto& [name, inode] : drive_->current_) names.push_back(name);
    // A directory has no order of its own.
    for (size_t i = names.size(); i > 1; --i) std::swap(names[i - 1], names[drive_->chance_->Below(i)]);
    return names;
  }

  absl::StatusOr<std::unique_ptr<local::File>> Create(std::string_view name) override {
    if (stale() || !drive_->Alive(Kind::kCreate, name)) return Dead();
    if (drive_->current_.count(name) > 0)
      return absl::AlreadyExistsError(absl::StrCat(Path(name), ": file exists"));
    SimDrive::DirectoryChange change;
    change.name = std::string(name);
    change.inode = std::make_shared<SimDrive::Inode>();
    drive_->current_[change.name] = change.inode;
    std::unique_ptr<local::File> file = MakeFile(name, change.inode);
    drive_->unsynced_.push_back(std::move(change));
    return file;
  }

  absl::StatusOr<std::unique_ptr<local::File>> Open(std::string_view name) override {
    if (stale() || drive_->dead_) return Dead();
    const auto found = drive_->current_.find(name);
    if (found == drive_->current_.end())
      return absl::NotFoundError(absl::StrCat(Path(name), ": no such file"));
    return MakeFile(name, found->second);
  }

  absl::Status Rename(std::string_view from, std::string_view to) override {
    if (stale() || !drive_->Alive(Kind::kRename, from)) return Dead();
    const auto found = drive_->current_.find(from);
    if (found == drive_->current_.end())
      return absl::NotFoundError(absl::StrCat(Path(from), ": no such file"));
    SimDrive::DirectoryChange change;
    change.kind = SimDrive::DirectoryChange::Kind::kRename;
    change.name = std::string(from);
    change.to = std::string(to);
    change.inode = found->second;
    drive_->current_.erase(found);
    drive_->current_[change.to] = change.inode;
    drive_->unsynced_.push_back(std::move(change));
    return absl::OkStatus();
  }

  absl::Status Remove(std::string_view name) override {
    if (stale() || !drive_->Alive(Kind::kRemove, name)) return Dead();
    const auto found = drive_->current_.find(name);
    if (found == drive_->current_.end())
      return absl::NotFoundError(absl::StrCat(Path(name), ": no such file"));
    SimDrive::DirectoryChange change;
    change.kind = SimDrive::DirectoryChange::Kind::kRemove;
    change.name = std::string(name);
    drive_->GiveBack(found->second->current.size());
    if (drive_->removed_) drive_->removed_(change.name, found->second->current);
    drive_->current_.erase(found);
    drive_->unsynced_.push_back(std::move(change));
    return absl::OkStatus();
  }

  absl::Status SyncDirectory() override {
    if (stale() || !drive_->Alive(Kind::kSyncDirectory, "")) return Dead();
    drive_->durable_ = drive_->current_;
    drive_->unsynced_.clear();
    return absl::OkStatus();
  }

 private:
  bool stale() const { return generation_ != drive_->generation_; }
  std::unique_ptr<local::File> MakeFile(std::string_view name, std::shared_ptr<SimDrive::Inode> inode) {
    return std::make_unique<SimFile>(drive_, generation_, std::move(inode), std::string(name), Path(name));
  }

  SimDrive* const drive_;
  const uint64_t generation_;
  bool locked_ = false;
};

std::unique_ptr<local::Disk> SimDrive::Plug() {
  ++generation_;
  locked_ = false;
  return std::make_unique<SimDisk>(this, generation_);
}

bool SimDrive::Alive(Step::Kind kind, std::string_view name, bool blank) {
  if (dead_) return false;
  ++changes_;
  step_ = Step{kind, std::string(name), !name.empty() && durable_.count(name) == 0, blank};
  if (die_after_ > 0 && --die_after_ == 0) {
    dead_ = true;
    return false;
  }
  return true;
}

uint64_t SimDrive::Take(uint64_t bytes) {
  if (!full_) return bytes;
  const uint64_t got = std::min(bytes, room_);
  room_ -= got;
  return got;
}

void SimDrive::GiveBack(uint64_t bytes) {
  if (full_) room_ += bytes;
}

void SimDrive::ProcessDies() {
  ++generation_;
  locked_ = false;
  dead_ = false;
  die_after_ = 0;
  fail_next_sync_ = false;
  sync_failed_ = false;
  step_ = Step();
}

void SimDrive::Wipe() {
  ProcessDies();
  current_.clear();
  durable_.clear();
  unsynced_.clear();
}

void SimDrive::PowerLoss() {
  ProcessDies();
  // No order among changes of a directory: any subset that makes sense may be there.
  Directory left = durable_;
  for (const DirectoryChange& change : unsynced_) {
    if (chance_->In1000(400)) {
      ++losses_.names;
      continue;
    }
    switch (change.kind) {
      case DirectoryChange::Kind::kCreate:
        left[change.name] = change.inode;
        break;
      case DirectoryChange::Kind::kRename: {
        const auto found = left.find(change.name);
        if (found == left.end() || found->second != change.inode) break;
        left.erase(found);
        left[change.to] = change.inode;
        break;
      }
      case DirectoryChange::Kind::kRemove:
        left.erase(change.name);
        break;
    }
  }
  for (auto& [name, inode] : left) {
    inode->durable = inode->current = Remains(*inode);
    inode->unsynced.clear();
  }
  current_ = durable_ = std::move(left);
  unsynced_.clear();
}

void SimDrive::Apply(const Change& change, size_t bytes, std::string* content) {
  if (change.kind == Change::Kind::kTruncate) {
    content->resize(change.offset);
    return;
  }
  if (content->size() < change.offset + bytes) content->resize(change.offset + bytes);
  content->replace(change.offset, bytes, change.data, 0, bytes);
}

std::string SimDrive::Remains(const Inode& inode) {
  if (inode.unsynced.empty()) return inode.durable;
  const bool prefix = chance_->In1000(500);
  std::string left = prefix ? TornPrefix(inode) : Mixture(inode);
  if (left != inode.current) {
    ++(prefix ? losses_.prefixes : losses_.mixtures);
    const bool zeros = !prefix && left.size() > inode.durable.size() &&
                       left.find('\0', inode.durable.size()) != std::string::npos;
    if (zeros) ++losses_.zeros;
  }
  return left;
}

// The first changes went through, the next in part, the rest not at all.
std::string SimDrive::TornPrefix(const Inode& inode) {
  std::string content = inode.durable;
  const size_t whole = chance_->Below(inode.unsynced.size() + 1);
  for (size_t i = 0; i < whole; ++i) Apply(inode.unsynced[i], inode.unsynced[i].data.size(), &content);
  if (whole < inode.unsynced.size() && inode.unsynced[whole].kind == Change::Kind::kWrite) {
    const Change& torn = inode.unsynced[whole];
    Apply(torn, chance_->Below(torn.data.size() + 1), &content);
  }
  return content;
}

// Each sector on its own: old, new, or new up to some byte. Where the file got longer, old is zeros.
std::string SimDrive::Mixture(const Inode& inode) {
  const std::string& now = inode.current;
  std::string content = inode.durable;
  switch (chance_->Below(3)) {
    case 0:
      content.resize(now.size());
      break;
    case 1:
      break;
    case 2:
      if (now.size() > content.size()) {
        content.resize(content.size() + chance_->Below(now.size() - content.size() + 1));
      }
      break;
  }
  for (size_t begin = 0; begin < content.size() && begin < now.size(); begin += kSectorBytes) {
    size_t bytes = std::min({kSectorBytes, content.size() - begin, now.size() - begin});
    if (chance_->In1000(450)) continue;
    if (chance_->In1000(300)) bytes = chance_->Below(bytes + 1);
    content.replace(begin, bytes, now, begin, bytes);
  }
  return content;
}

std::vector<std::string> SimDrive::Names() const {
  std::vector<std::string> names;
  for (const auto& [name, inode] : current_) names.push_back(name);
  return names;
}

std::map<std::string, std::string> SimDrive::Contents() const {
  std::map<std::string, std::string> contents;
  for (const auto& [name, inode] : current_) contents[name] = inode->current;
  return contents;
}

}  // namespace stm::sim
