// A validator is a rule that every value of an entry satisfies (DESIGN section 9). Parsed once, immutable,
// any thread. Its EDN form is kept with the entry:
//   :any :nil :boolean :int :double :number :bigint :decimal :string :bytes :keyword :symbol :instant :uuid
//   :list :vector :map :set :char     a type (:number is int, double, bigint or decimal)
//   [:min x] [:max x]           numbers, strings by bytes, instants; of the argument's type, NaN never
//   [:size n] [:size a b]       items of a collection, characters of a string, bytes; inclusive
//   [:regex "re2"]              the whole of a string
//   [:one-of a b ...]           equal to one of these
//   [:keys {k rule ...}]        a map whose key k is present and satisfies rule; others are free;
//                               [:optional k] as key: only if present
//   [:every rule]               all items of a list, vector or set; all values of a map
//   [:tag sym rule]             tagged with sym, its value satisfies rule
//   [:and r ...] [:or r ...] [:not r]
#ifndef STM_ENGINE_VALIDATOR_H_
#define STM_ENGINE_VALIDATOR_H_

#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "engine/operation.h"
#include "engine/values/value.h"

namespace stm::engine {

class Validator {
 public:
  // UNIMPLEMENTED: no such rule (never "no rule"). INVALID_ARGUMENT: bad arguments, a bad regular expression,
  // more than kValidatorRulesMax rules. Both name the rule. Forms that print alike share one Validator. Any thread.
  static absl::StatusOr<std::shared_ptr<const Validator>> Parse(const Value& form);

  // nullopt: satisfied, and nothing was allocated (but what a regular expression's own cache takes, at most
  // 1 MiB each). Else cause kValidator with the innermost rule that said no, and where and what was found.
  std::optional<Rejection> Check(const Value& value) const;

  const Value& form() const { return form_; }

  ~Validator();
  struct Rule;

 private:
  class InUse;
  Validator(Value form, std::unique_ptr<const Rule> rule);
  Value form_;
  std::unique_ptr<const Rule> rule_;
};

inline constexpr int kValidatorRulesMax = 256;

}  // namespace stm::engine

#endif  // STM_ENGINE_VALIDATOR_H_
