// Stored is what a commit has of a value that a container keeps: in which, under which stamp, and the value's
// hash. It is an EDN value itself, #stm/stored ["mongo" "4c-7-19" 5532 120], so the log, images and
// coordinators keep it as any other. Clients can't write one, and are told the value in its stead. Pure; any
// thread. The engine's entries about containers, which any daemon acts on (engine/DESIGN.md):
//   /.staged/STAMP  a value is about to be written under STAMP. The commit that names the stamp deletes this,
//   and whoever
//                   gives the stamp up does: so only one of the two can be.
//   /.erase/STAMP   nothing newer names it: what is kept under it is to go.
//   /.copy/NAME     the atom NAME changed, and its container has not been told.
#ifndef STM_ENGINE_STORED_H_
#define STM_ENGINE_STORED_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "engine/values/value.h"

namespace stm::engine {

inline constexpr std::string_view kStoredTag = "stm/stored";
inline constexpr std::string_view kStagedPrefix = "/.staged/";
inline constexpr std::string_view kErasePrefix = "/.erase/";
inline constexpr std::string_view kCopyPrefix = "/.copy";  // before a name, which begins with "/"

struct Stored {
  std::string container;
  std::string stamp;
  int64_t hash = 0;   // of the value (Value::hash)
  int64_t bytes = 0;  // of its EDN
};

// Tags that clients can't give to a value of an entry.
inline bool IsStored(const Value& value) { return value.is(Type::kTagged) && value.text() == kStoredTag; }
Value ToValue(const Stored& stored);
// nullopt: it is none.
std::optional<Stored> StoredOf(const Value& value);

// A stamp names the store, the daemon's start and an attempt, so none is ever made twice.
std::string MakeStamp(uint64_t store, uint64_t writer, uint64_t attempt);
struct StampOrigin {
  uint64_t store = 0;
  uint64_t writer = 0;
};
// nullopt: no stamp.
std::optional<StampOrigin> OriginOf(std::string_view stamp);

// What an entry under /.staged/ or /.erase/ tells of its stamp.
struct StampNote {
  std::string container;
  std::string name;     // of the entry
  int64_t bytes = 0;    // EDN bytes of the value
  uint64_t writer = 0;  // the daemon's that noted it: as long as it lives, it is its task
  bool last = false;    // to erase: the entry was deleted with it
};
Value ToValue(const StampNote& note);
std::optional<StampNote> StampNoteOf(const Value& value);
// And one under /.copy/.
struct CopyNote {
  std::string container;
  uint64_t writer = 0;
};
Value ToValue(const CopyNote& note);
std::optional<CopyNote> CopyNoteOf(const Value& value);
std::string StagedEntry(std::string_view stamp);
std::string EraseEntry(std::string_view stamp);
std::string CopyEntry(std::string_view atom);

}  // namespace stm::engine

#endif  // STM_ENGINE_STORED_H_
