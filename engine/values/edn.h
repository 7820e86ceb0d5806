// The one EDN reader and the one printer. Round trip: ReadEdn(ToEdn(v)) == v for every v that Check accepts,
// and ToEdn(ReadEdn(t)) reads again as the same value. Errors say line, column, what was found and what was
// expected. Pure; any thread.
#ifndef STM_ENGINE_VALUES_EDN_H_
#define STM_ENGINE_VALUES_EDN_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/values/value.h"

namespace stm {

// One value, with nothing but white space and comments around it. Depth at most kValueDepthMax.
absl::StatusOr<Value> ReadEdn(std::string_view text);

// EdnReader takes values one after another out of one text: a file of bare records, a log line.
class EdnReader {
 public:
  // `depth_max` above kValueDepthMax is for text that holds values inside forms of its own: log lines,
  // operations.
  explicit EdnReader(std::string_view text, int depth_max = kValueDepthMax)
      : text_(text), depth_max_(depth_max) {}

  // Skips white space, commas, comments and #_ discards; true if nothing else is left. A malformed discard is
  // not skipped: Next then tells what is wrong.
  bool AtEnd();
  // The next value. After an error the reader stays where the value began.
  absl::StatusOr<Value> Next();
  // Bytes read so far, and the line and column (from 1, columns in bytes) of that place.
  size_t position() const { return position_; }
  std::pair<int, int> LineAndColumn() const;

 private:
  std::string_view text_;
  int depth_max_;
  size_t position_ = 0;
};

std::string ToEdn(const Value& value);
// Appends; exactly value.edn_size() bytes.
void AppendEdn(const Value& value, std::string* out);
// The string `text` as EDN prints it, quoted and escaped. Appends.
void AppendEdnString(std::string_view text, std::string* out);
// #inst "2026-11-22T03:00:00.123456Z": fraction in as few digits of 0, 3, 6, 9 as hold it. Appends.
void AppendEdnInstant(Instant instant, std::string* out);
// RFC 3339, as #inst holds it; offsets are converted to UTC; partial forms as EDN allows ("2026",
// "2026-11-22").
absl::StatusOr<Instant> ParseInstant(std::string_view text);

// What the reader and the wire enforce on a value that was built by hand: UTF-8 text, legal names and digits,
// scalar values, instants within years 0001 to 9999, depth <= kValueDepthMax. INVALID_ARGUMENT says what and
// where.
absl::Status Check(const Value& value);

}  // namespace stm

#endif  // STM_ENGINE_VALUES_EDN_H_
