// LineReader takes the lines of a file one after another, in large blocks, up to a given end.
// One thread at a time; blocking.
#ifndef STM_BACKENDS_LOCAL_LINE_READER_H_
#define STM_BACKENDS_LOCAL_LINE_READER_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "backends/local/disk.h"

namespace stm::local {

inline constexpr size_t kReadBlockBytes = 1 << 20;

class LineReader {
 public:
  struct Line {
    std::string_view text;   // without its newline; valid until the next call
    uint64_t offset = 0;     // in the file
    bool terminated = true;  // false: the file's last, which lacks its newline
  };

  // From `begin`, the first byte of a line, to `end` or the file's end. The file outlives the reader.
  explicit LineReader(File* file, uint64_t begin = 0, uint64_t end = std::numeric_limits<uint64_t>::max())
      : file_(file), read_to_(begin), end_(end), offset_(begin) {}

  // False: there is no more.
  absl::StatusOr<bool> Next(Line* line);
  // Where the next line begins.
  uint64_t offset() const { return offset_; }

 private:
  File* const file_;
  uint64_t read_to_;  // of the file
  const uint64_t end_;
  uint64_t offset_;
  std::string buffer_;
  size_t at_ = 0;        // in buffer_: where the next line begins
  size_t searched_ = 0;  // in buffer_: no newline from at_ to here
  bool exhausted_ = false;
};

}  // namespace stm::local

#endif  // STM_BACKENDS_LOCAL_LINE_READER_H_
