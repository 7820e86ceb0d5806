#include "engine/locks/session.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/error.h"
#include "engine/locks/fields.h"
#include "stm/v1/common.pb.h"

namespace stm::engine {
namespace {

constexpr std::string_view kSessions = "/.sessions/";

Value Integers(const std::vector<int64_t>& numbers) {
  std::vector<Value> items;
  for (int64_t number : numbers) items.push_back(Value::Integer(number));
  return Value::OfVector(std::move(items));
}

Value ToValue(const SessionState& state) {
  Fields fields;
  fields.Add("client", Value::String(state.client));
  fields.Add("ttl-ms", Value::Integer(absl::ToInt64Milliseconds(state.ttl)));
  fields.Add("holder", HexValue(state.holder));
  if (state.moves != 0) fields.Add("moves", Value::Integer(state.moves));
  fields.Add("since", Value::OfInstant(state.since));
  if (state.ending) fields.Add("ending", Value::Boolean(true));
  if (!state.locks.empty()) {
    std::vector<std::pair<Value, Value>> locks;
    for (const auto& [lock, places] : state.locks) locks.emplace_back(Value::String(lock), Integers(places));
    fields.Add("locks", Value::OfMap(Map(std::move(locks))));
  }
  const auto add_names = [&fields](std::string_view key, const std::set<std::string>& names) {
    if (names.empty()) return;
    std::vector<Value> items;
    for (const std::string& name : names) items.push_back(Value::String(name));
    fields.Add(key, Value::OfSet(Set(items)));
  };
  add_names("awaits", state.awaits);
  add_names("entries", state.entries);
  if (!state.lost.empty()) {
    std::vector<std::pair<Value, Value>> lost;
    for (const auto& [lock, tokens] : state.lost) lost.emplace_back(Value::String(lock), Integers(tokens));
    fields.Add("lost", Value::OfMap(Map(std::move(lost))));
  }
  return fields.ToValue();
}

// ---- Procedures

class OpenSession : public Procedure {
 public:
  OpenSession(std::string session, SessionState state)
      : session_(std::move(session)), state_(std::move(state)) {}
  std::vector<std::string> Names() const override { return {SessionEntry(session_)}; }
  absl::StatusOr<Value> Run(EntryView* view) const override {
    if (view->Get(SessionEntry(session_)).has_value()) return Value::Boolean(false);
    SessionState state = state_;
    state.since = view->now();
    SetSession(view, session_, state);
    return Value::Boolean(true);
  }

 private:
  const std::string session_;
  const SessionState state_;
};

class MoveSession : public Procedure {
 public:
  MoveSession(std::string session, uint64_t holder) : session_(std::move(session)), holder_(holder) {}
  std::vector<std::string> Names() const override { return {SessionEntry(session_)}; }
  absl::StatusOr<Value> Run(EntryView* view) const override {
    absl::StatusOr<SessionState> state = OpenSessionIn(view, session_);
    if (!state.ok()) return state.status();
    if (state->holder == holder_) return Value::Boolean(false);
    state->holder = holder_;
    ++state->moves;
    SetSession(view, session_, *state);
    return Value::Boolean(true);
  }

 private:
  const std::string session_;
  const uint64_t holder_;
};

class EndSession : public Procedure {
 public:
  EndSession(std::string session, std::optional<int64_t> moves, LockBounds bounds)
      : session_(std::move(session)), moves_(moves), bounds_(bounds) {}

  std::vector<std::string> Names() const override { return {SessionEntry(session_)}; }

  absl::StatusOr<Value> Run(EntryView* view) const override {
    const std::optional<Value> value = view->Get(SessionEntry(session_));
    if (!value.has_value()) return Value::Keyword("kept");
    absl::StatusOr<SessionState> state = ReadSession(session_, *value);
    if (!state.ok()) return state.status();
    if (moves_.has_value() && state->moves != *moves_ && !state->ending) return Value::Keyword("kept");
    while (!state->awaits.empty()) {
      if (Full(*view)) return More(view, *std::move(state));
      if (absl::Status status = EndOfAwait(view, *state->awaits.begin(), bounds_); !status.ok())
        return status;
      state->awaits.erase(state->awaits.begin());
    }
    while (!state->locks.empty()) {
      if (Full(*view)) return More(view, *std::move(state));
      const auto& [lock, places] = *state->locks.begin();
      if (absl::Status status = EndOfSession(view, session_, lock, places, bounds_); !status.ok())
        return status;
      state->locks.erase(state->locks.begin());
    }
    for (const std::string& entry : state->entries) {
      if (view->SessionOf(entry) == session_) view->Delete(entry);
    }
    view->Delete(SessionEntry(session_));
    return Value::Keyword("ended");
  }

 private:
  bool Full(const EntryView& view) const {
    return view.bytes() > bounds_.session_end_bytes_max || view.entries() > bounds_.session_end_entries_max;
  }

  Value More(EntryView* view, SessionState state) const {
    state.ending = true;
    SetSession(view, session_, state);
    return Value::Keyword("more");
  }

  const std::string session_;
  const std::optional<int64_t> moves_;
  const LockBounds bounds_;
};

}  // namespace

int64_t SessionState::things() const {
  int64_t things = static_cast<int64_t>(awaits.size() + entries.size());
  for (const auto& [lock, places] : locks)
    things += std::max<int64_t>(1, static_cast<int64_t>(places.size()));
  return things;
}

std::string SessionEntry(std::string_view session) { return Joined({kSessions, session}); }

std::optional<std::string_view> SessionOfEntry(std::string_view entry) {
  if (entry.substr(0, kSessions.size()) != kSessions) return std::nullopt;
  return entry.substr(kSessions.size());
}

absl::StatusOr<SessionState> ReadSession(std::string_view session, const Value& value) {
  FieldReader fields(SessionEntry(session), value);
  SessionState state;
  state.client = fields.Text("client");
  state.ttl = absl::Milliseconds(fields.Integer("ttl-ms"));
  state.holder = fields.Hex("holder");
  state.moves = fields.Integer("moves");
  state.since = fields.Moment("since");
  if (const Value* ending = fields.Find("ending", Type::kBoolean)) state.ending = ending->boolean();
  for (auto [key, into] : {std::make_pair("locks", &state.locks), std::make_pair("lost", &state.lost)}) {
    const Value* found = fields.Find(key, Type::kMap);
    if (found == nullptr) continue;
    for (auto [lock, numbers] : found->map()) {
      if (!lock.is(Type::kString) || !numbers.is(Type::kVector)) return fields.Malformed(key);
      std::vector<int64_t>& list = (*into)[lock.text()];
      for (const Value& number : numbers.items()) {
        if (!number.is(Type::kInteger)) return fields.Malformed(key);
        list.push_back(number.integer());
      }
    }
  }
  for (auto [key, names] :
       {std::make_pair("awaits", &state.awaits), std::make_pair("entries", &state.entries)}) {
    const Value* found = fields.Find(key, Type::kSet);
    if (found == nullptr) continue;
    for (const Value& name : found->set()) {
      if (!name.is(Type::kString)) return fields.Malformed(key);
      names->insert(name.text());
    }
  }
  if (!fields.status().ok()) return fields.status();
  return state;
}

absl::Status SessionExpired(std::string_view session) {
  v1::ErrorDetail detail;
  detail.set_reason(v1::ERROR_REASON_SESSION_EXPIRED);
  detail.set_name(std::string(session));
  return WithDetail(absl::FailedPreconditionError(Joined(
                        {"session ", session,
                         " is not open: it expired or was closed, with all that it had; open another"})),
                    detail);
}

absl::StatusOr<SessionState> OpenSessionIn(EntryView* view, std::string_view session) {
  const std::optional<Value> value = view->Get(SessionEntry(session));
  if (!value.has_value()) return SessionExpired(session);
  absl::StatusOr<SessionState> state = ReadSession(session, *value);
  if (state.ok() && state->ending) return SessionExpired(session);
  return state;
}

void SetSession(EntryView* view, std::string_view session, const SessionState& state) {
  view->Set(SessionEntry(session), ToValue(state));
}

absl::Status CheckThings(std::string_view session, const SessionState& state, const LockBounds& bounds) {
  const int64_t things = state.things();
  if (things <= bounds.session_things_max) return absl::OkStatus();
  return LimitReached("session_things_max", bounds.session_things_max, Joined({"session ", session}), things,
                      "locks, places in queues and entries: use another session for some of them");
}

std::shared_ptr<const Procedure> MakeOpenSession(std::string session, std::string client, absl::Duration ttl,
                                                 uint64_t holder) {
  SessionState state;
  state.client = std::move(client);
  state.ttl = ttl;
  state.holder = holder;
  return std::make_shared<OpenSession>(std::move(session), std::move(state));
}

std::shared_ptr<const Procedure> MakeMoveSession(std::string session, uint64_t holder) {
  return std::make_shared<MoveSession>(std::move(session), holder);
}

std::shared_ptr<const Procedure> MakeEndSession(std::string session, std::optional<int64_t> moves,
                                                LockBounds bounds) {
  return std::make_shared<EndSession>(std::move(session), moves, bounds);
}

absl::Status Bind(EntryView* view, const std::vector<Binding>& bindings, const LockBounds& bounds) {
  for (const Binding& binding : bindings) {
    if (binding.from == binding.to) continue;
    if (!binding.from.empty()) {
      absl::StatusOr<SessionState> state = OpenSessionIn(view, binding.from);
      if (state.ok() && state->entries.erase(binding.entry) > 0) SetSession(view, binding.from, *state);
    }
    if (!binding.to.empty()) {
      absl::StatusOr<SessionState> state = OpenSessionIn(view, binding.to);
      if (!state.ok()) return state.status();
      state->entries.insert(binding.entry);
      if (absl::Status status = CheckThings(binding.to, *state, bounds); !status.ok()) return status;
      SetSession(view, binding.to, *state);
    }
  }
  return absl::OkStatus();
}

}  // namespace stm::engine
