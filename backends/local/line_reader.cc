#include "backends/local/line_reader.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace stm::local {

absl::StatusOr<bool> LineReader::Next(Line* line) {
  for (;;) {
    const char* from = buffer_.data() + searched_;
    const char* newline = static_cast<const char*>(std::memchr(from, '\n', buffer_.size() - searched_));
    if (newline != nullptr || (exhausted_ && at_ < buffer_.size())) {
      size_t end = newline != nullptr ? static_cast<size_t>(newline - buffer_.data()) : buffer_.size();
      line->text = std::string_view(buffer_).substr(at_, end - at_);
      line->offset = offset_;
      line->terminated = newline != nullptr;
      size_t next = line->terminated ? end + 1 : end;
      offset_ += next - at_;
      at_ = searched_ = next;
      return true;
    }
    if (exhausted_) return false;
    searched_ = buffer_.size() - at_;
    size_t wanted = static_cast<size_t>(std::min<uint64_t>(kReadBlockBytes, end_ - read_to_));
    absl::StatusOr<std::string> block = std::string();
    if (wanted > 0) block = file_->Read(read_to_, wanted);
    if (!block.ok()) return block.status();
    exhausted_ = block->size() < wanted || wanted == 0;
    read_to_ += block->size();
    if (at_ == buffer_.size()) {
      buffer_ = *std::move(block);
    } else {
      buffer_.erase(0, at_);
      buffer_.append(*block);
    }
    at_ = 0;
  }
}

}  // namespace stm::local
