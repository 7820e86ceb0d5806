// A transaction as a person writes it for `stmctl tx`: an EDN (or JSON) map. Pure; any thread.
//   {:check   {"/a" 1, "/b" :stm/absent}   commits only while these are their values
//    :set     {"/a" 2}
//    :create  {"/c" []}                    only if absent
//    :apply   {"/n" (add 1), "/q" [(conj 1) (conj 2)]}   in JSON: "(add 1)"
//    :delete  ["/b"]
//    :records [#blog.CreateUser{:name "Bob"}]
//    :label   "signup"
//    :isolation :serializable}             or :snapshot
#ifndef STM_CLIENT_CLI_TRANSACTION_FILE_H_
#define STM_CLIENT_CLI_TRANSACTION_FILE_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/values/value.h"
#include "stm/v1/transaction_service.pb.h"

namespace stm::cli {

// The keyword in place of a value where there is no entry.
inline constexpr std::string_view kAbsentWord = "stm/absent";
bool IsAbsentWord(const Value& value);

struct TransactionFile {
  struct Check {
    std::string name;
    std::optional<Value> expected;  // nullopt: absent
  };
  // The operations on one name: writes [first, first + count) of `request`.
  struct Applied {
    std::string name;
    int first = 0;
    int count = 0;
    bool several = false;  // written as a vector: so are the results
  };
  std::vector<Check> checks;
  std::vector<Applied> applied;
  // All but id, snapshot and reads.
  v1::CommitRequest request;
};

// INVALID_ARGUMENT says which key is wrong and what was expected.
absl::StatusOr<TransactionFile> ParseTransaction(const Value& value);

// The nearest of `known` to `given`, by edits; "": none is near.
std::string Nearest(const std::string& given, const std::vector<std::string>& known);

}  // namespace stm::cli

#endif  // STM_CLIENT_CLI_TRANSACTION_FILE_H_
