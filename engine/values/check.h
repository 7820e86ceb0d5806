// What the wire and Check say of a value that can't be: the path to the bad part, as the message Value names
// it, and what is wrong there.
#ifndef STM_ENGINE_VALUES_CHECK_H_
#define STM_ENGINE_VALUES_CHECK_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "engine/values/value.h"

namespace stm {

// Filled from the inside out. Both functions return false, to be returned on.
struct Problem {
  std::string path;  // ".map.entries[2].key"
  std::string text;

  bool Say(std::string what) {
    text = std::move(what);
    return false;
  }
  bool In(std::string_view part) {
    path.insert(0, part);
    path.insert(0, ".");
    return false;
  }
  bool In(std::string_view part, size_t index, std::string_view rest = "");
};

// `level`: how deep the value stands, from 1.
bool CheckValue(const Value& value, int level, Problem* problem);
bool CheckLevel(int level, Problem* problem);

}  // namespace stm

#endif  // STM_ENGINE_VALUES_CHECK_H_
