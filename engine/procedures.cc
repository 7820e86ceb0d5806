// What a transaction rests on and does beside its own reads and writes: its fences, its procedure, and the
// sessions that its entries are bound to. Worked out when it is validated, over installed entries and the
// batches so far.
#include <algorithm>
#include <map>
#include <utility>

#include "engine/locks/lock.h"
#include "engine/locks/session.h"
#include "engine/procedure.h"
#include "engine/state.h"

namespace stm::engine {
namespace {

const std::string& SessionIn(const std::shared_ptr<const Definition>& definition) {
  static const std::string none;
  return definition == nullptr ? none : definition->session_id;
}

}  // namespace

class Engine::State::View : public EntryView {
 public:
  View(State* state, absl::Duration now) : state_(state), loop_now_(now) {
    wall_now_ =
        std::max(state->last_at_, state->loop_->WallNow(), [](Instant a, Instant b) { return a < b; });
  }

  std::optional<Value> Get(std::string_view name) override { return At(name).value; }

  std::string SessionOf(std::string_view name) override {
    const Item& item = At(name);
    return item.value.has_value() ? SessionIn(item.definition) : "";
  }

  void Set(std::string_view name, Value value, std::shared_ptr<const Definition> definition) override {
    Item& item = At(name);
    bytes_ += static_cast<int64_t>(value.edn_size());
    if (!item.value.has_value()) item.definition = std::move(definition);
    item.value = std::move(value);
    item.changed = true;
  }

  void Delete(std::string_view name) override {
    Item& item = At(name);
    item.value.reset();
    item.changed = true;
  }

  int64_t bytes() const override { return bytes_; }
  int64_t entries() const override { return static_cast<int64_t>(items_.size()); }
  int64_t version() const override { return state_->installed_; }
  Instant now() const override { return wall_now_; }

  // The newest batch under way that made something of what was looked at; 0: none did.
  uint64_t depends() const { return depends_; }
  // Looked at, and not known: the run counts for nothing.
  std::vector<std::string>& unknown() { return unknown_; }
  // Whatever was looked at is rested on: another daemon's commit on it makes the transaction run again.
  std::vector<std::string> Looked() const {
    std::vector<std::string> names;
    for (const auto& [name, item] : items_) names.push_back(name);
    return names;
  }

  std::vector<Write> TakeWrites() {
    std::vector<Write> writes;
    for (auto& [name, item] : items_) {
      if (!item.changed || (!item.value.has_value() && !item.was)) continue;
      Write write;
      write.name = name;
      write.kind = item.kind;
      write.change = item.value.has_value() ? Write::Change::kSet : Write::Change::kDelete;
      if (item.value.has_value()) write.value = *std::move(item.value);
      if (!item.was) write.definition = std::move(item.definition);
      writes.push_back(std::move(write));
    }
    return writes;
  }

 private:
  struct Item {
    bool was = false;
    EntryKind kind = EntryKind::kRef;
    std::optional<Value> value;
    std::shared_ptr<const Definition> definition;
    bool changed = false;
  };

  Item& At(std::string_view name) {
    auto it = items_.find(name);
    if (it != items_.end()) return it->second;
    it = items_.emplace(std::string(name), Item()).first;
    Item& item = it->second;
    if (state_->store_ != nullptr && !state_->Known(name)) {
      unknown_.push_back(it->first);
      return item;
    }
    WriteSet::Base base = state_->BaseOf(name, loop_now_, &depends_);
    item.was = base.value.has_value();
    if (item.was) item.kind = base.kind;
    item.value = std::move(base.value);
    item.definition = std::move(base.definition);
    return item;
  }

  State* const state_;
  const absl::Duration loop_now_;
  Instant wall_now_;
  std::map<std::string, Item, std::less<>> items_;
  int64_t bytes_ = 0;
  uint64_t depends_ = 0;
  std::vector<std::string> unknown_;
};

// What is known of it before it is run.
void Engine::State::LookAhead(Pending& pending) const {
  const Transaction& t = *pending.transaction;
  if (store_ == nullptr) return;
  std::vector<std::string> looks;
  for (const Fence& fence : t.fences) looks.push_back(LockEntry(fence.lock));
  for (const Write& write : t.writes) {
    if (!SessionIn(write.definition).empty()) looks.push_back(SessionEntry(SessionIn(write.definition)));
  }
  if (t.procedure != nullptr) {
    for (std::string& name : t.procedure->Names()) looks.push_back(std::move(name));
  }
  if (!looks.empty()) pending.AddLooks(std::move(looks));
}

void Engine::State::LookedAt(Pending& pending, std::vector<std::string> names) {
  if (store_ == nullptr) return;
  if (pending.pinned) Unpin(pending);  // a batch pins what it rests on now
  pending.AddLooks(std::move(names));
}

// A fence holds while its lock's entry names its token. Without such an entry nobody holds the lock.
Engine::State::Step Engine::State::CheckFences(std::unique_ptr<Pending>& pending, Appending& batch) {
  for (const Fence& fence : pending->transaction->fences) {
    if (canaries_.skip_fences) break;
    uint64_t depends = 0;
    const WriteSet::Base base = BaseOf(LockEntry(fence.lock), batch.now, &depends);
    absl::StatusOr<LockState> lock = ReadLock(fence.lock, base.value);
    if (lock.ok() && lock->Find(fence.token) != nullptr) continue;
    Verdict verdict;
    if (lock.ok()) {
      verdict.outcome = FenceLost{fence, lock->Tokens()};
    } else {
      verdict.outcome = lock.status();
    }
    RefuseBy(std::move(pending), std::move(verdict), depends, &batch);
    return Step::kTaken;
  }
  return Step::kGoesOn;
}

// The transaction's writes become what its procedure makes of what is there.
Engine::State::Step Engine::State::RunProcedure(std::unique_ptr<Pending>& pending, Appending& batch) {
  Transaction& t = *pending->transaction;
  View view(this, batch.now);
  absl::StatusOr<Value> outcome = t.procedure->Run(&view);
  if (!view.unknown().empty()) {
    LoadMoreFor(std::move(pending), std::move(view.unknown()));
    return Step::kTaken;
  }
  LookedAt(*pending, view.Looked());
  if (!outcome.ok()) {
    RefuseBy(std::move(pending), {outcome.status()}, view.depends(), &batch);
    return Step::kTaken;
  }
  t.writes = view.TakeWrites();
  if (t.writes.empty()) {
    RefuseBy(std::move(pending), {Unchanged{*std::move(outcome), installed_}}, view.depends(), &batch);
    return Step::kTaken;
  }
  pending->outcome = *std::move(outcome);
  return Step::kGoesOn;
}

// Sessions are told of the entries that become bound to them, or are bound no more: in the same commit.
Engine::State::Step Engine::State::BindToSessions(std::unique_ptr<Pending>& pending, WriteSet* writes,
                                                  Appending& batch) {
  std::vector<Binding> bindings;
  for (const WriteSet::Item& item : writes->items()) {
    if (!item.changes()) continue;
    const std::string& from = SessionIn(item.before.value.has_value() ? item.before.definition : nullptr);
    const std::string& to = SessionIn(item.value.has_value() ? item.definition : nullptr);
    if (from != to) bindings.push_back({std::string(item.name), from, to});
  }
  if (bindings.empty()) return Step::kGoesOn;

  View view(this, batch.now);
  const absl::Status status = Bind(&view, bindings, options_.locks);
  if (!view.unknown().empty()) {
    LoadMoreFor(std::move(pending), std::move(view.unknown()));
    return Step::kTaken;
  }
  LookedAt(*pending, view.Looked());
  if (!status.ok()) {
    RefuseBy(std::move(pending), {status}, view.depends(), &batch);
    return Step::kTaken;
  }
  // Sessions' entries have no validators, and nothing is heavy about setting them.
  pending->bound = view.TakeWrites();
  return WriteBeside(pending, &pending->bound, writes, batch);
}

// Adds what the engine writes of its own, which `beside` holds as long as `writes` lives.
Engine::State::Step Engine::State::WriteBeside(std::unique_ptr<Pending>& pending, std::vector<Write>* beside, WriteSet* writes,
                                               Appending& batch) {
  WriteSet::Bounds bounds = WriteBounds(0);
  bounds.atoms_together = true;
  uint64_t depends = 0;
  WriteSet::Result evaluated = WriteSet::Evaluate(
      *beside, bounds, [&](std::string_view name) { return BaseOf(name, batch.now, &depends); });
  absl::Status refused;
  if (auto* set = std::get_if<WriteSet>(&evaluated)) {
    refused = writes->Append(std::move(*set), bounds);
  } else {
    refused = std::get<absl::Status>(std::move(evaluated));  // an entry reaches a bound
  }
  if (refused.ok()) return Step::kGoesOn;
  RefuseBy(std::move(pending), {std::move(refused)}, depends, &batch);
  return Step::kTaken;
}

}  // namespace stm::engine
