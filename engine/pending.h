// Pending is a transaction from its arrival to its verdict. Owned by exactly one of: the queue, a line, a batch, a load.
#ifndef STM_ENGINE_PENDING_H_
#define STM_ENGINE_PENDING_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/stored.h"
#include "engine/transaction.h"
#include "engine/write_set.h"

namespace stm::engine {

// What the writes come to over these bases, worked out off the Loop because the values are large.
struct Prepared {
  std::vector<std::pair<std::string_view, WriteSet::Base>> bases;
  WriteSet::Result writes;
};

// Where a transaction stands that writes entries which containers keep (staging.cc). Its claims are held until it is decided;
// the rest is made anew when an entry that it was worked out from has changed.
struct Staging {
  std::vector<std::string> claims;      // names of entries, sorted
  std::vector<std::string> containers;  // in which they are, each once
  bool claimed = false;
  absl::Duration waits_until;  // for its claims

  // What its writes are worked out from: the entries as they were at one moment, by name, with the values that were asked for.
  struct Base {
    std::string name;
    Version version = 0;
    WriteSet::Base before;
    std::optional<Value> found;  // of an atom that is absent: what its container has
  };
  std::vector<Base> bases;

  // A value that is written under a stamp.
  struct Write {
    std::string name;
    Stored stored;
    Value value;
    bool created = false;
  };
  std::vector<Write> values;
  // The writes as they are to be committed, and of which of the transaction's each comes.
  std::vector<engine::Write> writes;
  std::vector<uint32_t> origins;
  std::vector<std::optional<Value>> results;  // one a write of the transaction's, or empty
  bool staged = false;  // all of it is there

  int calls = 0;        // to containers, under way
  absl::Status status;  // the first that failed
};

struct Pending {
  std::unique_ptr<Transaction> transaction;
  // The caller, and those who sent the same id again meanwhile.
  absl::InlinedVector<CommitDone, 1> waiters;
  absl::Duration arrived;
  // When its first run began, on Loop::Now()'s clock: the older goes first.
  absl::Duration born;
  uint64_t sequence = 0;  // breaks ties of born
  bool in_id_table = false;
  // The reservation it holds, or 0.
  uint64_t reservation = 0;
  std::optional<Prepared> prepared;
  // Entries beside the transaction's own that it rests on: its fences' locks, its sessions, what its procedure looks at.
  std::vector<std::string> looks;
  std::optional<Value> outcome;  // the procedure's, of the last run
  std::unique_ptr<Staging> staging;  // null: containers have nothing to do with it
  std::vector<Write> notes;          // what is told of stamps and copies beside; the batch's items name these
  std::vector<Write> bound;      // what the engine writes beside into sessions; the batch's items name these
  int parked = 0;  // how often
  // It waited in line for a reservation: if it is stale after all, its next run gets one at once.
  bool waited_in_line = false;
  bool admitted = false;  // it is in the queue, or was: when its entries were loaded it goes there
  bool pinned = false;    // its entries were loaded, or a batch has it: they stay until it is decided
  bool caught_up = false;  // it was about to be refused, and waited for all that others had committed until then
  bool decided = false;   // while a batch had it: the order told its commit before the batch was lost

  // Each once.
  void AddLooks(std::vector<std::string> names) {
    for (std::string& name : names) looks.push_back(std::move(name));
    std::sort(looks.begin(), looks.end());
    looks.erase(std::unique(looks.begin(), looks.end()), looks.end());
  }

  // Can it conflict at all? If not, any number of its like may pass in one batch.
  bool checks() const {
    return !transaction->reads.empty() || !transaction->lists.empty() || !transaction->ensures.empty() ||
           (transaction->isolation == Isolation::kSnapshot && !transaction->writes.empty());
  }
};

}  // namespace stm::engine

#endif  // STM_ENGINE_PENDING_H_
