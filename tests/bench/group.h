// Rows that are measured together, round by round, and which of them are wanted. One thread.
#ifndef STM_TESTS_BENCH_GROUP_H_
#define STM_TESTS_BENCH_GROUP_H_

#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "tests/bench/measure.h"
#include "tests/bench/process.h"

namespace stm::bench {

// `round` adds one round to each of the rows. B is what it measures with.
template <typename B>
struct Group {
  std::vector<Row> rows;
  std::function<void(B&, std::vector<Row>&)> round;
};

// Is there a row whose name begins so? Always if `only` is empty.
inline bool HasWanted(const std::vector<Row>& rows, const std::vector<std::string>& only) {
  return only.empty() || std::any_of(rows.begin(), rows.end(), [&](const Row& row) {
           return std::any_of(only.begin(), only.end(), [&](const std::string& begin) {
             return row.name.compare(0, begin.size(), begin) == 0;
           });
         });
}

// The groups that have one. Ends the bench when none has.
template <typename B>
std::vector<Group<B>> Wanted(std::vector<Group<B>> groups, const std::vector<std::string>& only) {
  groups.erase(std::remove_if(groups.begin(), groups.end(),
                              [&](const Group<B>& group) { return !HasWanted(group.rows, only); }),
               groups.end());
  if (groups.empty()) Fail("no row has a name that begins so; --list names them");
  return groups;
}

template <typename B>
std::vector<Row> RowsOf(const std::vector<Group<B>>& groups) {
  std::vector<Row> rows;
  for (const Group<B>& group : groups) rows.insert(rows.end(), group.rows.begin(), group.rows.end());
  return rows;
}

inline void PrintNames(const std::vector<Row>& rows) {
  for (const Row& row : rows) std::printf("%s\n", row.name.c_str());
}

}  // namespace stm::bench

#endif  // STM_TESTS_BENCH_GROUP_H_
