// Printing for people (table) and for programs (edn, json, raw). One thread.
// A row is a map of fields: in edn its keys are keywords, in json strings. Everything but a table is printed at once,
// one line a row; a table when Finish is called, since it must know its columns' widths.
#ifndef STM_CLIENT_CLI_PRINT_H_
#define STM_CLIENT_CLI_PRINT_H_

#include <cstddef>
#include <iosfwd>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/values/value.h"
#include "stm/v1/event.pb.h"
#include "stm/v1/ref_service.pb.h"

namespace stm::cli {

enum class Output { kEdn, kJson, kTable, kRaw };

using Fields = std::vector<std::pair<std::string, Value>>;

class Printer {
 public:
  // `width` of the terminal: longer table lines are cut, with "..."; 0: not cut.
  Printer(Output output, size_t width, std::ostream& out) : output_(output), width_(width), out_(out) {}

  Output output() const { return output_; }

  // A value alone. raw: strings without quotes, bytes as they are.
  void Print(const Value& value);
  // raw: the fields' values, tabs between.
  void Row(const Fields& fields);
  // One thing of many fields: in a table a line a field, name and value.
  void Sheet(const Fields& fields);
  // Printed at once in every form: a table's lines, or else the row.
  void Line(const std::vector<std::string>& table_lines, const Fields& fields);
  // The table so far. Once, at the end.
  void Finish();

  // What fields are made of: a map, a word that is a keyword in edn and a string in json, and text, which tables show
  // without quotes.
  Value MapOf(const Fields& fields) const;
  Value Word(std::string_view word) const;
  Value Plain(std::string_view text) const;

 private:
  std::string Text(const Value& value) const;  // one line, as this output writes values

  const Output output_;
  const size_t width_;
  std::ostream& out_;
  std::vector<Fields> table_;
};

// Characters shown, not bytes.
size_t WidthOf(std::string_view utf8);

// An answer's value is always whole; DATA_LOSS otherwise.
absl::StatusOr<Value> ValueOf(const v1::Value& message);

// {:name "/a" :value 1}; with `meta`: version, kind, written-at, and what of the definition is not the default.
absl::StatusOr<Fields> EntryFields(const Printer& printer, const v1::Entry& entry, bool meta);
// {:version 42 :at #inst "..." :tx #uuid "..." :by {:label "signup"} :changes [...] :records [...]}.
absl::StatusOr<Fields> CommitFields(const Printer& printer, const v1::CommitEvent& commit);
// A line a change and a record: "42      2026-11-22T03:00:00.123Z  /r0  1 -> 2  (signup)".
absl::StatusOr<std::vector<std::string>> CommitLines(const v1::CommitEvent& commit);

}  // namespace stm::cli

#endif  // STM_CLIENT_CLI_PRINT_H_
