#include "engine/settler.h"

#include <algorithm>
#include <iterator>
#include <set>

#include "absl/strings/str_cat.h"
#include "engine/values/absl_view.h"

namespace stm::engine {
namespace {

// Looked at once in an eighth of erase_after, within these.
constexpr absl::Duration kLookAtLeast = absl::Milliseconds(50);
constexpr absl::Duration kLookAtMost = absl::Seconds(10);
// Notes that one commit changes.
constexpr size_t kNotesAtOnce = 200;
// Erasures under way, of one container.
constexpr int64_t kErasuresAtOnce = 32;
// The daemon's own watch never falls behind.
constexpr size_t kRoom = 1 << 20;

}  // namespace

// Sees what is noted under /.copy/ as it is.
class Settler::CopyWatch : public WatchSink {
 public:
  explicit CopyWatch(Settler* settler) : settler_(settler) {}
  void Stop() { settler_ = nullptr; }

  void OnInitial(std::vector<EntryState>) override {}
  void OnSynced(Version) override {}
  bool OnCommit(std::shared_ptr<const WatchEvent> event) override {
    for (uint32_t i : event->selected) {
      if (settler_ == nullptr) break;
      const EntryChange& change = event->commit->changes[i];
      const std::optional<CopyNote> note =
          change.value.has_value() ? CopyNoteOf(*change.value) : std::nullopt;
      if (note.has_value() && settler_->Mine(note->writer))
        settler_->CopySoon(change.name.substr(kCopyPrefix.size()));
    }
    return true;
  }
  size_t Room() const override { return kRoom; }
  void OnProgress(Version) override {}
  void OnGap(Version, std::string) override {
    if (settler_ != nullptr) settler_->Watch();
  }
  void OnDrain() override { Stop(); }

 private:
  Settler* settler_;  // null: it is over
};

Settler::Settler(Loop* loop, Engine* engine, Writers* writers, Containers* containers, Options options,
                 Canaries canaries)
    : loop_(loop),
      engine_(engine),
      writers_(writers),
      containers_(containers),
      options_(options),
      canaries_(canaries),
      every_(std::min(std::max(options.erase_after / 8, kLookAtLeast), kLookAtMost)),
      // Whoever was told a stamp may ask for it as long as a call takes.
      erase_after_(std::max(options.erase_after, 2 * options.container_timeout)) {}

Settler::~Settler() {
  *alive_ = false;
  if (watch_ != nullptr) watch_->Stop();
}

void Settler::Start() {
  Watch();
  Again();
}

void Settler::Watch() {
  if (watch_ != nullptr) watch_->Stop();
  watch_ = std::make_shared<CopyWatch>(this);
  WatchRequest request;
  request.selector.prefixes.push_back(absl::StrCat(Absl(kCopyPrefix), "/"));
  request.own = true;
  // What it misses, while the store is being restored say, the next look finds.
  (void)engine_->Watch(std::move(request), watch_);
}

void Settler::Again() {
  loop_->At(loop_->Now() + every_, [this, alive = alive_] {
    if (!*alive) return;
    Look();
  });
}

bool Settler::Mine(uint64_t writer) const { return writer == writers_->self() || !writers_->Alive(writer); }

// ---- What there is

void Settler::Look() {
  LookAt(&staged_, [this](std::vector<EntryState> staged, Version snapshot) {
    GiveUp(std::move(staged), snapshot);
    LookAt(&erasable_, [this](std::vector<EntryState> notes, Version) {
      Erase(std::move(notes));
      LookAt(&copies_, [this](std::vector<EntryState> copies, Version) {
        for (const EntryState& copy : copies) {
          const std::optional<CopyNote> note = CopyNoteOf(*copy.value);
          if (!note.has_value()) continue;
          ++copies_.counting[note->container].notes;
          if (Mine(note->writer)) CopySoon(copy.name.substr(kCopyPrefix.size()));
        }
        Again();
      });
    });
  });
}

// The next of the round. If they can't be had, the next look asks again.
void Settler::LookAt(Round* round, Looked looked) {
  ListPage(round, std::make_shared<std::vector<EntryState>>(), 0, std::move(looked));
}

void Settler::ListPage(Round* round, std::shared_ptr<std::vector<EntryState>> found, Version snapshot, Looked looked) {
  ListRequest request;
  request.prefix = round->prefix;
  request.at.at = snapshot == 0 ? ReadPoint::At::kStale : ReadPoint::At::kVersion;
  request.at.version = snapshot;
  request.after_name = found->empty() ? round->after : found->back().name;
  request.page_size = static_cast<int64_t>(options_.settle_notes_max - found->size());
  request.deadline = loop_->Now() + options_.container_timeout;
  engine_->List(std::move(request), [this, alive = alive_, round, found,
                                     looked = std::move(looked)](absl::StatusOr<ListResult> result) mutable {
    loop_->Post([this, alive, round, found, looked = std::move(looked), result = std::move(result)]() mutable {
      if (!*alive) return;
      if (!result.ok()) return Again();
      std::move(result->entries.begin(), result->entries.end(), std::back_inserter(*found));
      if (result->more && found->size() < options_.settle_notes_max) {
        return ListPage(round, found, result->snapshot, std::move(looked));
      }
      round->after = result->more ? found->back().name : "";
      looked(std::move(*found), result->snapshot);
      if (round->after.empty()) round->counted = std::exchange(round->counting, {});
    });
  });
}

std::map<std::string, Settler::Left> Settler::left() const {
  std::map<std::string, Left> left;
  for (const auto& [container, count] : staged_.counted) {
    left[container].staged = count.notes;
    left[container].staged_bytes = count.bytes;
  }
  for (const auto& [container, count] : erasable_.counted) {
    left[container].to_erase = count.notes;
    left[container].erase_bytes = count.bytes;
  }
  for (const auto& [container, count] : copies_.counted) left[container].to_copy = count.notes;
  return left;
}

// ---- Stamps that no commit will name

// One commit gives a stamp up and says that it is to be erased: who would still commit under it finds it
// gone.
void Settler::GiveUp(std::vector<EntryState> staged, Version snapshot) {
  std::unique_ptr<Transaction> transaction;
  size_t notes = 0;
  const auto send = [&] {
    if (transaction == nullptr) return;
    Commit(std::move(transaction), [this, notes](bool committed) {
      if (committed) given_up_ += static_cast<int64_t>(notes);
    });
    notes = 0;
  };
  for (const EntryState& entry : staged) {
    const std::string stamp = entry.name.substr(kStagedPrefix.size());
    std::optional<StampNote> note = StampNoteOf(*entry.value);
    const std::optional<StampOrigin> origin = OriginOf(stamp);
    if (!note.has_value() || !origin.has_value()) continue;
    Count& count = staged_.counting[note->container];
    ++count.notes;
    count.bytes += note->bytes;
    if (engine_->IsStaging(stamp) || !Mine(origin->writer)) continue;
    if (transaction == nullptr) {
      transaction = std::make_unique<Transaction>();
      transaction->snapshot = snapshot;
      transaction->meta = MetaOfDaemon("give up stamps");
    }
    note->writer = writers_->self();
    transaction->reads.push_back(entry.name);
    transaction->writes.push_back(MakeWrite(Write::Change::kDelete, entry.name));
    transaction->writes.push_back(MakeWrite(Write::Change::kSet, EraseEntry(stamp), ToValue(*note)));
    if (++notes == kNotesAtOnce) send();
  }
  send();
}

// ---- What nothing names any more

void Settler::Erase(std::vector<EntryState> entries) {
  const absl::Duration now = loop_->Now();
  const Version history_mark = engine_->GetStatus().history_mark;
  std::set<std::string> idle;
  for (auto it = erasing_.begin(); it != erasing_.end();) {
    it = it->second.due.empty() && it->second.calls == 0 ? erasing_.erase(it) : std::next(it);
  }
  for (const EntryState& entry : entries) {
    Found found;
    found.stamp = entry.name.substr(kErasePrefix.size());
    found.version = entry.version;
    std::optional<StampNote> note = StampNoteOf(*entry.value);
    if (!note.has_value()) continue;
    found.note = *std::move(note);
    Count& count = erasable_.counting[found.note.container];
    ++count.notes;
    count.bytes += found.note.bytes;
    const auto known = seen_.find(found.stamp);
    const absl::Duration since = known == seen_.end() ? now : known->second;
    seeing_.emplace(found.stamp, since);
    // What its daemon leaves undone for long others do.
    const absl::Duration after = Mine(found.note.writer) ? erase_after_ : 2 * erase_after_;
    const bool due = (now - since >= after && entry.version <= history_mark) || canaries_.erase_early;
    const std::string container = found.note.container;
    // What is still being erased of a container comes first.
    if (!due || (erasing_.count(container) > 0 && idle.count(container) == 0)) continue;
    idle.insert(container);
    erasing_[container].due.push_back(std::move(found));
  }
  if (erasable_.after.empty()) seen_ = std::exchange(seeing_, {});
  for (const std::string& container : idle) EraseNext(container);
}

void Settler::EraseNext(const std::string& container) {
  Erasing& erasing = erasing_[container];
  while (!erasing.due.empty() && erasing.calls < kErasuresAtOnce) {
    Found found = std::move(erasing.due.back());
    erasing.due.pop_back();
    const std::optional<StampOrigin> origin = OriginOf(found.stamp);
    if (!origin.has_value() || origin->store != writers_->store()) {
      // The store that this one was restored from may name it still.
      erased_stamps_.push_back(found.stamp);
      continue;
    }
    ++erasing.calls;
    const absl::Duration until = loop_->Now() + options_.container_timeout;
    const std::string name = found.note.name, stamp = found.stamp;
    containers_->DeleteStateAt(container, name, stamp, until,
                               [this, alive = alive_, found = std::move(found)](absl::Status status) {
                                 if (*alive) Erased(found, std::move(status));
                               });
  }
  Forget(erasing.calls == 0);
}

void Settler::Erased(const Found& found, absl::Status status) {
  const auto over = [this, stamp = found.stamp,
                     container = found.note.container](const absl::Status& status) {
    Erasing& erasing = erasing_[container];
    --erasing.calls;
    if (status.ok()) {
      ++erased_;
      erased_stamps_.push_back(stamp);
    } else {
      // It is away, or refuses: the next look finds what is left.
      erasing.due.clear();
    }
    EraseNext(container);
  };
  if (!status.ok() || !found.note.last) return over(status);
  // The entry may have been made again: what is kept for its name stays then.
  GetRequest request;
  request.names.push_back(found.note.name);
  request.at.at = ReadPoint::At::kStale;
  request.deadline = loop_->Now() + options_.container_timeout;
  engine_->Get(std::move(request), [this, alive = alive_, over, found](absl::StatusOr<GetResult> result) {
    loop_->Post([this, alive, over, found, result = std::move(result)] {
      if (!*alive) return;
      if (!result.ok() || result->entries[0].value.has_value()) return over(absl::OkStatus());
      containers_->Destroy(found.note.container, found.note.name, loop_->Now() + options_.container_timeout,
                           [alive, over](absl::Status status) {
                             if (*alive) over(status);
                           });
    });
  });
}

// Deletes the notes of what is erased. `all`: now, else when there are many.
void Settler::Forget(bool all) {
  while (erased_stamps_.size() >= kNotesAtOnce || (all && !erased_stamps_.empty())) {
    auto transaction = std::make_unique<Transaction>();
    transaction->meta = MetaOfDaemon("erased");
    const size_t count = std::min(erased_stamps_.size(), kNotesAtOnce);
    for (size_t i = 0; i < count; ++i) {
      transaction->writes.push_back(MakeWrite(Write::Change::kDelete, EraseEntry(erased_stamps_.back())));
      erased_stamps_.pop_back();
    }
    // What was not committed is found, and erased, again.
    Commit(std::move(transaction), [](bool) {});
  }
}

// ---- Copies of atoms

void Settler::CopySoon(const std::string& atom) {
  if (copying_.contains(atom)) {
    copy_again_.insert(atom);
    return;
  }
  copying_.insert(atom);
  loop_->Post([this, alive = alive_, atom] {
    if (*alive) Copy(atom);
  });
}

void Settler::Copy(std::string atom) {
  copy_again_.erase(atom);
  GetRequest request;
  request.names = {CopyEntry(atom), atom};
  request.at.at = ReadPoint::At::kStale;
  request.deadline = loop_->Now() + options_.container_timeout;
  engine_->Get(std::move(request), [this, alive = alive_, atom](absl::StatusOr<GetResult> result) {
    loop_->Post([this, alive, atom, result = std::move(result)]() mutable {
      if (!*alive) return;
      if (!result.ok()) return Copied(atom, 0, result.status());
      CopyAs(atom, std::move(result->entries[0]), std::move(result->entries[1]), result->snapshot);
    });
  });
}

void Settler::CopyAs(const std::string& atom, EntryState note, EntryState entry, Version snapshot) {
  const std::optional<CopyNote> copy = note.value.has_value() ? CopyNoteOf(*note.value) : std::nullopt;
  if (!copy.has_value()) return Copied(atom, 0, absl::OkStatus());
  const absl::Duration until = loop_->Now() + options_.container_timeout;
  const std::string container = copy->container;
  auto told = [this, alive = alive_, atom, snapshot](absl::Status status) {
    if (*alive) Copied(atom, snapshot, status);
  };
  const bool there =
      entry.value.has_value() && entry.definition != nullptr && entry.definition->container == container;
  if (!there) return containers_->DestroyAtom(container, atom, note.version, until, told);
  containers_->InitAtom(
      container, atom, until,
      [this, alive = alive_, atom, container, entry = std::move(entry), until, told](absl::Status status) {
        if (!*alive) return;
        if (!status.ok()) return told(status);
        containers_->SetState(container, atom, *entry.value, entry.version, until, told);
      });
}

// `snapshot`: as of which its container has it; 0: there is nothing to forget.
void Settler::Copied(const std::string& atom, Version snapshot, const absl::Status& status) {
  const auto over = [this, atom] {
    copying_.erase(atom);
    if (copy_again_.contains(atom)) CopySoon(atom);
  };
  // One that failed is tried again by the next look.
  if (!status.ok() || snapshot == 0) return over();
  auto transaction = std::make_unique<Transaction>();
  transaction->meta = MetaOfDaemon("copied");
  transaction->snapshot = snapshot;
  transaction->reads.push_back(CopyEntry(atom));
  transaction->writes.push_back(MakeWrite(Write::Change::kDelete, CopyEntry(atom)));
  Commit(std::move(transaction), [this, over](bool committed) {
    copied_ += committed;
    over();
  });
}

void Settler::Commit(std::unique_ptr<Transaction> transaction,
                     absl::AnyInvocable<void(bool committed)> done) {
  transaction->deadline = loop_->Now() + options_.container_timeout;
  engine_->Commit(std::move(transaction), [this, alive = alive_, done = std::move(done)](
                                              std::shared_ptr<const Verdict> verdict, Version) mutable {
    loop_->Post([alive, done = std::move(done),
                 committed = std::holds_alternative<Committed>(verdict->outcome)]() mutable {
      if (*alive) done(committed);
    });
  });
}

}  // namespace stm::engine
