// UnknownFieldsKept remembers what C++ structs had no room for, so that a transaction that reads records of a newer
// program and writes them back loses none of their fields. A record that is written as it was read, wherever in the
// value, is written whole; one that was changed in its place keeps the fields its struct does not name. One thread.
#ifndef STM_CLIENT_CPP_CORE_UNKNOWN_FIELDS_H_
#define STM_CLIENT_CPP_CORE_UNKNOWN_FIELDS_H_

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "engine/values/map.h"
#include "engine/values/value.h"
#include "engine/values/vector.h"

namespace stm::internal {

class UnknownFieldsKept {
 public:
  // The entry holds `raw`, and its type writes that back as `known`.
  void Keep(const std::string& name, const Value& raw, const Value& known);
  // `written` to the entry, with what it must keep.
  Value Restore(const std::string& name, const Value& written) const;

 private:
  Value Restored(const Value& written, const Value* raw, const Value* known,
                 absl::flat_hash_map<Value, bool>* moved) const;
  void Collect(const Value& raw, const Value& known);
  void FindMoved(const Value& written, absl::flat_hash_map<Value, bool>* moved) const;

  std::map<std::string, std::pair<Value, Value>> entries_;  // by name: raw, known
  absl::flat_hash_map<Value, Value> records_;               // known form of a record: its raw form
};

}  // namespace stm::internal

#endif  // STM_CLIENT_CPP_CORE_UNKNOWN_FIELDS_H_
