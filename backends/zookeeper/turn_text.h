// The text of a log entry that asks for a turn on entries that daemons fight over (engine/turns.h). It
// changes nothing, and a person can read it:
//   {:turn ["/counter"] :writer "00c0ffee00c0ffee" :ms 100}
// Pure.
#ifndef STM_BACKENDS_ZOOKEEPER_TURN_TEXT_H_
#define STM_BACKENDS_ZOOKEEPER_TURN_TEXT_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace stm::zookeeper {

struct TurnText {
  uint64_t writer = 0;
  std::vector<std::string> names;
  absl::Duration length;  // from when it comes; whole milliseconds
};
bool IsTurn(std::string_view data);
std::string PrintTurn(const TurnText& turn);
// DATA_LOSS
absl::StatusOr<TurnText> ParseTurn(const std::string& data);

// Is a log entry neither a turn nor a move of the epoch? What is none of the three is a batch that can't be
// read.
bool IsBatch(std::string_view data);

}  // namespace stm::zookeeper

#endif  // STM_BACKENDS_ZOOKEEPER_TURN_TEXT_H_
