// What a client asks to be committed, and the verdict. Plain data, built off the Loop; a Verdict is immutable and shared.
#ifndef STM_ENGINE_TRANSACTION_H_
#define STM_ENGINE_TRANSACTION_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/operation.h"
#include "engine/validator.h"
#include "engine/values/value.h"

namespace stm::engine {

// A place in the commit order. 0: before all commits.
using Version = int64_t;

enum class EntryKind : uint8_t { kRef, kAtom };
enum class Isolation : uint8_t { kSerializable, kSnapshot };

struct CommitId {
  Uuid transaction_id;
  uint64_t writer = 0;  // the only one that may ever execute it
  Version seen = 0;     // the newest version the client knew when it made the id
  uint64_t store = 0;   // 0: not checked
  bool resend = false;
};

struct Meta {
  std::string label;
  std::string client;
  std::string traceparent;
  std::string principal;
};

// Of what the daemon commits by itself.
inline std::shared_ptr<const Meta> MetaOfDaemon(std::string_view label) {
  auto meta = std::make_shared<Meta>();
  meta->label = std::string(label);
  meta->client = "stmd";
  return meta;
}

// Of an entry, beside its value. Null where one is optional: all defaults.
struct Definition {
  std::string container;                       // "": inline
  std::shared_ptr<const Validator> validator;  // null: none
  std::string session_id;                      // "": bound to no session
  absl::Duration ttl;                          // zero: for ever
};

struct Write {
  enum class Change : uint8_t {
    kSet,     // value
    kApply,   // operation
    kDelete,  //
    kCreate,  // value: only if absent, else no change
    kDefine,  // definition, whole
    kExpire,  // the engine's own: delete, because the TTL ran out
  };
  std::string name;
  EntryKind kind = EntryKind::kRef;
  Change change = Change::kSet;
  Value value;
  std::shared_ptr<const Operation> operation;
  std::shared_ptr<const Definition> definition;  // of a new entry, or of kDefine; null: defaults
};

inline Write MakeWrite(Write::Change change, std::string name, Value value = Value()) {
  Write write;
  write.name = std::move(name);
  write.change = change;
  write.value = std::move(value);
  return write;
}

struct Fence {
  std::string lock;
  int64_t token = 0;
};

class Procedure;

struct Transaction {
  std::optional<CommitId> id;  // nullopt: sent once, by hand
  Version snapshot = 0;        // what all reads saw
  Isolation isolation = Isolation::kSerializable;
  std::vector<std::string> reads;
  std::vector<std::string> lists;    // prefixes
  std::vector<std::string> ensures;  // count under Isolation::kSnapshot
  std::vector<Write> writes;  // with a procedure none: it makes them
  std::vector<Value> records;
  std::vector<Fence> fences;
  std::shared_ptr<const Procedure> procedure;  // the daemon's own; null: none
  std::shared_ptr<const Meta> meta;  // null: all empty
  absl::Duration since_first_run;    // zero on a first run
  uint32_t runs = 1;
  uint64_t reservation = 0;  // as the last Conflict gave it; 0: none
  // On Loop::Now()'s clock: given up ("not committed") when still queued then.
  absl::Duration deadline = absl::InfiniteDuration();
};

// An entry as it was at some snapshot.
struct EntryState {
  std::string name;
  std::optional<Value> value;  // nullopt: absent
  Version version = 0;         // the commit that wrote or deleted it; 0: never existed, or swept
  EntryKind kind = EntryKind::kRef;
  std::shared_ptr<const Definition> definition;  // null: defaults
  Instant written_at;
  bool value_omitted = false;  // of Conflict.fresh past its bound: only the version is told
};

struct Committed {
  Version version = 0;
  Instant at;
  // One a write: of apply and create; nullopt for set, delete and define. Empty when there are only such.
  std::vector<std::optional<Value>> results;
  bool results_dropped = false;
};

struct ConflictCause {
  std::string name;  // an entry, or a prefix that was listed
  Version version = 0;
  std::shared_ptr<const Meta> by;
};

struct Conflict {
  std::vector<ConflictCause> causes;
  Version snapshot = 0;
  std::vector<EntryState> fresh;
  absl::Duration reserved_for;  // zero: nothing is reserved
  uint64_t reservation = 0;
};

struct Rejected {
  std::string name;
  uint32_t write_index = 0;
  Rejection rejection;
};

struct FenceLost {
  Fence fence;
  std::vector<int64_t> current_tokens;
};

// A procedure changed nothing: there is nothing to commit.
struct Unchanged {
  Value result;
  Version version = 0;  // what it was worked out over
};

struct NotCommitted {};

struct IdTooOld {
  Version floor = 0;
};

// One id, one verdict. A Status: the transaction failed and changed nothing (a bound, no room, a deadline).
struct Verdict {
  std::variant<Committed, Unchanged, Conflict, Rejected, FenceLost, NotCommitted, IdTooOld, absl::Status> outcome;
};

}  // namespace stm::engine

#endif  // STM_ENGINE_TRANSACTION_H_
