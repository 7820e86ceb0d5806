// Coordinators order commits and keep them. engine/ declares what it needs; backends/ implements it. Every method is
// called on the Loop and every callback comes on the Loop, unless it says otherwise.
#ifndef STM_ENGINE_COORDINATOR_H_
#define STM_ENGINE_COORDINATOR_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/transaction.h"

namespace stm::engine {

// An entry of an image, or of a store. Tombstones (value unset) above the id floor are in an image.
struct ImageEntry {
  std::string name;
  EntryKind kind = EntryKind::kRef;
  std::shared_ptr<const Definition> definition;
  std::optional<Value> value;
  Version version = 0;
  Instant written_at;
};

// What one commit did to one entry: its net effect.
struct Entry;

struct EntryChange {
  enum class Kind : uint8_t {
    kSet,     // value; definition too if it changed in the same commit
    kCreate,  // value and definition of an entry that was absent, or was deleted in the same commit
    kDelete,
    kExpire,
    kDefine,  // definition alone: the value stays
  };
  std::string name;
  Kind kind = Kind::kSet;
  EntryKind entry_kind = EntryKind::kRef;
  std::optional<Value> value;  // after; unset for kDelete, kExpire, kDefine
  // Of kSet: value is exactly this operation applied to the value before; a log may keep it in the value's stead.
  std::shared_ptr<const Operation> operation;
  std::shared_ptr<const Definition> definition;  // null: unchanged; of kCreate: all defaults
  // A replay's: `value` is unset, `operation` is set, and the value that comes out must have this hash (its low 32 bits).
  std::optional<uint32_t> expected_hash;
  // Beside an EntryStore alone, else null: the entry as this change leaves it, but for its version and moment, which are the
  // commit's. Of kDelete and kExpire a tombstone.
  std::shared_ptr<const ImageEntry> whole;
  // Beside an EntryStore alone: the value that was there before. nullopt, of another daemon's commit: it does not tell.
  std::optional<std::optional<Value>> before;
  // The engine's own: where the entry is, from the moment it is known on.
  Entry* entry = nullptr;
};

struct CommitRecord {
  Version version = 0;  // given by the coordinator
  Instant at;           // never before the commit before it
  std::optional<Uuid> transaction_id;
  std::shared_ptr<const Meta> meta;
  std::vector<EntryChange> changes;  // one a name; never of "/.memory/"
  std::vector<Value> records;
  // Beside an EntryStore alone, while the commit is being appended: what it rests on beyond what it changes, which other
  // daemons must not have changed either. Entries, and prefixes that it listed; none of "/.memory/", each once.
  std::vector<std::string> checks;
  std::vector<std::string> checked_lists;
};

using Batch = std::vector<std::shared_ptr<CommitRecord>>;

struct ImageId {
  Uuid transaction_id;
  Version version = 0;
  Instant at;
};

struct ImagePart {
  std::vector<ImageEntry> entries;
  std::vector<ImageId> ids;
};

// An immutable image of what was installed at version(), read in parts. History that it needs is kept while it lives.
// On the Loop, its destructor too.
class Image {
 public:
  virtual ~Image() = default;
  virtual Version version() const = 0;
  virtual Instant at() const = 0;
  // T: ids at or below are not all in the image. Rises while the image is read: ask after the last part.
  virtual Version id_floor() const = 0;
  // Up to about `items_max` entries and ids; both empty: there is no more.
  virtual ImagePart Next(size_t items_max) = 0;
};

// Sink is the engine, as its coordinator sees it.
class Sink {
 public:
  virtual ~Sink() = default;
  // A recovery's beginning, from a snapshot: any number of parts, then EndImage with its version and id floor.
  virtual void InstallImage(ImagePart part) = 0;
  virtual void EndImage(Version version, Instant at, Version id_floor) = 0;
  // Ids below count as too old from now on: what the store knew of absences below is gone. At most the newest version.
  virtual void RaiseIdFloor(Version id_floor) = 0;
  // The next commit in order, a recovered one or another daemon's. DATA_LOSS: an operation whose value does not come
  // out as expected_hash says, naming the entry.
  virtual absl::Status Install(std::shared_ptr<CommitRecord> commit) = 0;
  // For a snapshot.
  virtual std::unique_ptr<Image> TakeImage() = 0;
  // Beside others (Turns, turns.h). The order says that `writer` asks for its turn on `names`, entries, for `length` from
  // when it comes.
  virtual void TurnAsked(uint64_t /*writer*/, const std::vector<std::string>& /*names*/, absl::Duration /*length*/) {}
  // All commits of a batch of another's are installed.
  virtual void BatchInstalled(uint64_t /*writer*/, absl::FunctionRef<bool(const std::string& name)> /*touches*/) {}
};

struct AppendResult {
  enum class Outcome : uint8_t {
    kCommitted,  // durable and ordered, under the versions now in the records
    kLost,       // the batch was valid no more; the sink holds what made it so; every later batch is lost with it
    kNoSpace,    // not committed, for certain; `status` says what was full. Later ones may go through
    kFailed,     // beside an EntryStore: not committed, for certain; `status` says why, UNAVAILABLE that the store can't be
                 // reached. Later ones may go through
  };
  Outcome outcome = Outcome::kCommitted;
  absl::Status status;
};

class Coordinator {
 public:
  virtual ~Coordinator() = default;
  // Feeds everything committed, then `recovered`, then keeps feeding others' commits. Once, before all else.
  virtual void Recover(Sink* sink, absl::AnyInvocable<void(absl::Status)> recovered) = 0;
  // THE commit point. Makes the batch durable, all of it, in order, and gives its records their versions: rising by one
  // within the batch. Batches are decided in the order in which they are given; `done` comes in a later task, in that
  // order too. After kLost or kNoSpace every batch given before `done` was told is not committed either. Never blocks.
  virtual void Append(Batch batch, absl::AnyInvocable<void(AppendResult)> done) = 0;
  // The version that every commit known to be complete when this was called is <= to, once the sink holds it.
  virtual void Barrier(absl::AnyInvocable<void(absl::StatusOr<Version>)> done) = 0;
  // Nothing at or below `id_floor` is needed any more for resends; the log may drop what its own rules let go below it.
  virtual void Trim(Version id_floor) = 0;
};

// Writers: the daemon starts that may have commits in the order.
class Writers {
 public:
  virtual ~Writers() = default;
  // Whose versions these are. Known after Recover.
  virtual uint64_t store() const = 0;
  // This daemon's present writer. Another daemon may close it: then this changes, before the batches under way are told
  // kLost, and nothing that was sent under the one before is committed any more but what the sink holds.
  virtual uint64_t self() const = 0;
  // After `done`, nothing of `writer` is ever committed any more and the sink holds all that was.
  virtual void Close(uint64_t writer, absl::AnyInvocable<void(absl::Status)> done) = 0;
  // Was `writer` seen running when last looked? Alone, only self() is. A hint: Close alone makes it certain.
  virtual bool Alive(uint64_t writer) = 0;
  // What this daemon has leases as: another one each time after others may have seen it gone, so one that was seen gone never
  // comes back. 0: it may not have any now.
  virtual uint64_t holder() const { return self(); }
  // Was the holder there when last looked (LookedAt)?
  virtual bool HolderAlive(uint64_t holder) { return Alive(holder); }
  // Until when, on Loop::Now()'s clock, this daemon is sure that no other sees holder() gone: what leases of its
  // sessions lean on. Alone that is for ever.
  virtual absl::Duration SureUntil() { return absl::InfiniteDuration(); }
  // Moves SureUntil on soon, if it can: asked for again and again as long as this daemon has leases.
  virtual void BeSure() {}
  // When the look began, on Loop::Now()'s clock, that HolderAlive answers by. Alone that is always now.
  virtual absl::Duration LookedAt() { return absl::InfiniteDuration(); }
  // Asks in the order for self()'s turn on entries that daemons fight over; the sink is told when the order says so, or
  // never. Alone there is nobody to ask.
  virtual void AskTurn(std::vector<std::string> /*names*/, absl::Duration /*length*/) {}
};

// EntryStore: entries that are in the store and not in memory. A coordinator that feeds every entry to the sink when it
// recovers, as a log of one's own does, needs none. One that has it feeds no entries then, only the commits from some
// version on: each install tells all of the entries that it touches (EntryChange::whole).
class EntryStore {
 public:
  virtual ~EntryStore() = default;
  // What a transaction needs to be validated and appended: the newest of each of `names`, tombstones included, and nothing
  // of those that the store does not hold; `prefixes` may be in checked_lists from now on. Before `done` the sink holds
  // every commit up to the newest version among them, and all that was installed when this was called was looked at: an
  // entry may have been installed anew meanwhile, and what the sink holds is newer then. UNAVAILABLE: the store can't be
  // reached now. Never of "/.memory/".
  virtual void Load(std::vector<std::string> names, std::vector<std::string> prefixes,
                    absl::AnyInvocable<void(absl::StatusOr<std::vector<ImageEntry>>)> done) = 0;
  // Up to `limit` names under `prefix` (never of "/.memory/") in byte order, tombstones' too, beginning after `after` ("":
  // from the first): all that were there when this was called and, in `done`, all that is installed. Fewer than `limit`:
  // there are no more.
  virtual void List(std::string prefix, std::string after, size_t limit,
                    absl::AnyInvocable<void(absl::StatusOr<std::vector<std::string>>)> done) = 0;
  // The engine has dropped the entry, no batch that touches it is under way: it is loaded again before it is touched again.
  virtual void Forget(const std::string& name) = 0;
};

// LogReader serves commits from as far back as the log is kept. Blocking, off the Loop, any thread; but for CatchUp.
class LogCursor {
 public:
  virtual ~LogCursor() = default;
  // A commit of the log, with the values before its changes where the log tells them.
  struct Item {
    std::shared_ptr<const CommitRecord> commit;  // every kSet and kCreate has its value
    std::vector<std::optional<Value>> before;    // one a change; nullopt: absent or unknown
    std::vector<bool> before_known;
  };
  // The next commits in order, about `bytes_max` of text, up to what is durable now. Empty: no more for now.
  virtual absl::StatusOr<std::vector<Item>> Next(size_t bytes_max) = 0;
};

class LogReader {
 public:
  virtual ~LogReader() = default;
  // On the Loop, and so is `done`, which may come at once: what is read from then on has all that was installed when this
  // was called. UNAVAILABLE: it has not yet, and why.
  virtual void CatchUp(absl::AnyInvocable<void(absl::Status)> done) = 0;
  // The oldest version kept; 0: the log is empty.
  virtual Version FirstVersion() = 0;
  // A cursor on the first commit at or after `from` (0: the oldest kept). OUT_OF_RANGE: `from` is no longer kept.
  virtual absl::StatusOr<std::unique_ptr<LogCursor>> Open(Version from) = 0;
  // Commits that changed `name`, newest first, below `before` (0: all), at most `limit`.
  virtual absl::StatusOr<std::vector<LogCursor::Item>> History(const std::string& name, Version before, size_t limit) = 0;
};

// Archive turns a store at one version into text that people can read, and such text into an empty store.
class Archive {
 public:
  virtual ~Archive() = default;

  // Prints an image: its beginning is in the first answer, all parts by Add, then End. Off the Loop, one thread at a
  // time.
  class Printer {
   public:
    virtual ~Printer() = default;
    virtual std::string Add(const ImagePart& part) = 0;
    virtual std::string End(Version id_floor) = 0;
  };
  virtual std::unique_ptr<Printer> Print(Version version, Instant at) = 0;

  // Takes such text, in pieces cut anywhere, and keeps it apart from the store. Off the Loop, one thread at a time, its
  // destructor too: what was not installed leaves nothing.
  class Intake {
   public:
    virtual ~Intake() = default;
    // DATA_LOSS: the line at fault, and why. RESOURCE_EXHAUSTED: no room.
    virtual absl::Status Add(std::string_view text) = 0;
    // After the last piece: the version that is held. DATA_LOSS: it is not whole.
    virtual absl::StatusOr<Version> Check() = 0;
  };
  // On the Loop. RESOURCE_EXHAUSTED: one is under way.
  virtual absl::StatusOr<std::unique_ptr<Intake>> TakeIn() = 0;
  // The store becomes what a checked intake holds, durably, under a new store id, and the sink is fed it; then `done`, on
  // the Loop, in the task that ends the feeding. Only while no commit was ever given and none is given before `done`.
  // After an error the store is as it was, and nothing was fed.
  virtual void Install(std::unique_ptr<Intake> intake, absl::AnyInvocable<void(absl::Status)> done) = 0;
};

}  // namespace stm::engine

#endif  // STM_ENGINE_COORDINATOR_H_
