// What user code handles: engine/values' Value, Map, Set, Vector, Instant, Uuid and EDN text, and one C++ type for each
// EDN type that C++ has no type of its own for. Plain data; any thread.
#ifndef STM_CLIENT_CPP_STM_VALUE_H_
#define STM_CLIENT_CPP_STM_VALUE_H_

#include <string>
#include <utility>
#include <vector>

#include "engine/values/edn.h"
#include "engine/values/map.h"
#include "engine/values/value.h"
#include "engine/values/vector.h"

namespace stm {

#define STM_TEXT_TYPE(NAME, FIELD)                                                                 \
  struct NAME {                                                                                    \
    std::string FIELD;                                                                             \
    friend bool operator==(const NAME& a, const NAME& b) { return a.FIELD == b.FIELD; }            \
    friend bool operator!=(const NAME& a, const NAME& b) { return a.FIELD != b.FIELD; }            \
    friend bool operator<(const NAME& a, const NAME& b) { return a.FIELD < b.FIELD; }              \
  }

STM_TEXT_TYPE(Bytes, data);      // #stm/bytes "..."
STM_TEXT_TYPE(Keyword, name);    // :name, without the colon
STM_TEXT_TYPE(Symbol, name);     // name
STM_TEXT_TYPE(BigInt, digits);   // -123N, without the N
STM_TEXT_TYPE(Decimal, digits);  // 1.50M, without the M; 1.5 and 1.50 differ

#undef STM_TEXT_TYPE

// (1 2 3): an EDN list, where std::vector<T> is an EDN vector.
template <typename T>
struct List {
  std::vector<T> items;
  friend bool operator==(const List& a, const List& b) { return a.items == b.items; }
  friend bool operator!=(const List& a, const List& b) { return !(a == b); }
};

// #tag value, of a type that this program has no C++ type for. Written back whole.
struct Tagged {
  std::string tag;  // without '#'
  Value value;
  friend bool operator==(const Tagged& a, const Tagged& b) { return a.tag == b.tag && a.value == b.value; }
  friend bool operator!=(const Tagged& a, const Tagged& b) { return !(a == b); }
};

// A member of an STM_RECORD type, listed like the others: what the record held beside the fields listed, kept by
// by every copy and written back.
struct UnknownFields {
  Map fields;
  friend bool operator==(const UnknownFields& a, const UnknownFields& b) { return a.fields == b.fields; }
  friend bool operator!=(const UnknownFields& a, const UnknownFields& b) { return !(a == b); }
};

}  // namespace stm

#endif  // STM_CLIENT_CPP_STM_VALUE_H_
