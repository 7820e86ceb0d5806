// OutcomeWord names one commit whose outcome is unknown, in one word that a person can copy: what CommitUnknown
// prints and `stmctl outcome` takes. Pure; any thread.
// Form: transaction.writer.seen.store.check, as in
//   0f8fad5bd9cb469fa16570867728950e.00000000c0ffee01.42.8badf00d8badf00d.1b7e
// hexadecimal but for seen, which is a decimal; check catches a word that was copied in part or by hand.
#ifndef STM_CLIENT_CPP_STM_OUTCOME_WORD_H_
#define STM_CLIENT_CPP_STM_OUTCOME_WORD_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace stm {

struct OutcomeWord {
  std::string transaction_id;  // a UUID, 36 characters, lower case
  uint64_t writer = 0;
  int64_t seen_version = 0;
  uint64_t store = 0;
};

// transaction_id must be a UUID.
std::string PrintOutcomeWord(const OutcomeWord& word);
// INVALID_ARGUMENT says which part is wrong. White space around the word is skipped.
absl::StatusOr<OutcomeWord> ParseOutcomeWord(std::string_view text);

}  // namespace stm

#endif  // STM_CLIENT_CPP_STM_OUTCOME_WORD_H_
