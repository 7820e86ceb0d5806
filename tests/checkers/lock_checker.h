// The rules of locks and sessions, held against the log commit by commit: who holds what after each, what its
// call may have changed, and what clients were told and believed. It reads the entries' values itself and
// shares no code with the engine but values. Pure; any thread.
#ifndef STM_TESTS_CHECKERS_LOCK_CHECKER_H_
#define STM_TESTS_CHECKERS_LOCK_CHECKER_H_

#include <string_view>
#include <vector>

#include "tests/checkers/checker.h"
#include "tests/checkers/history.h"

namespace stm::check {

// One of the entries that locks and sessions are made of, which daemons change by themselves too.
bool IsOfLocks(std::string_view name);

// Rules kLockHolders to kFence. Check runs it.
std::vector<Violation> CheckLocks(const History& history, const Log& log);

}  // namespace stm::check

#endif  // STM_TESTS_CHECKERS_LOCK_CHECKER_H_
