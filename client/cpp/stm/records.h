// Records are the tagged values that transactions attached (Tx::Record), in commit order. A range reads them from the
// log as it is iterated; a lost connection is mended unseen. What cannot be read throws StatusError: a range that ends
// is whole. One thread.
#ifndef STM_CLIENT_CPP_STM_RECORDS_H_
#define STM_CLIENT_CPP_STM_RECORDS_H_

#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "stm/codec.h"
#include "stm/internal.h"

namespace stm {

template <typename V>
struct RecordOf {
  int64_t version = 0;
  Instant at;
  std::string transaction_id;
  Meta meta;
  V value;
};

namespace internal {

class RecordReader;  // of ReadLog

struct UntypedRecord {
  Commit commit;  // without changes and records
  Value value;
};
std::shared_ptr<RecordReader> OpenRecords(const std::shared_ptr<ClientCore>& client, const RecordOptions& options);
// nullopt: no more.
absl::StatusOr<std::optional<UntypedRecord>> NextRecord(RecordReader& reader);
int64_t FirstVersion(RecordReader& reader);

template <typename V>
absl::StatusOr<V> DecodeRecord(const UntypedRecord& record) {
  absl::StatusOr<V> decoded = Decode<V>(record.value);
  TakeLoss();
  if (!decoded.ok()) return OfEntry("record of version " + std::to_string(record.commit.version), decoded.status());
  return decoded;
}

}  // namespace internal

template <typename V>
class RecordRange {
 public:
  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = RecordOf<V>;
    using difference_type = std::ptrdiff_t;
    using pointer = value_type*;
    using reference = value_type&;

    Iterator() = default;
    reference operator*() const { return *range_->current_; }
    pointer operator->() const { return &*range_->current_; }
    Iterator& operator++() {
      if (!range_->Advance()) range_ = nullptr;
      return *this;
    }
    friend bool operator==(const Iterator& a, const Iterator& b) { return a.range_ == b.range_; }
    friend bool operator!=(const Iterator& a, const Iterator& b) { return a.range_ != b.range_; }

   private:
    friend class RecordRange;
    explicit Iterator(RecordRange* range) : range_(range) {}
    RecordRange* range_ = nullptr;
  };

  // Once.
  Iterator begin() { return Advance() ? Iterator(this) : Iterator(); }
  Iterator end() { return Iterator(); }
  // The oldest version that the log keeps; 0 before the first record was asked for.
  int64_t first_version() const { return internal::FirstVersion(*reader_); }

 private:
  friend class Client;
  explicit RecordRange(std::shared_ptr<internal::RecordReader> reader) : reader_(std::move(reader)) {}

  bool Advance() {
    absl::StatusOr<std::optional<internal::UntypedRecord>> record = internal::NextRecord(*reader_);
    if (!record.ok()) throw StatusError(record.status());
    if (!record->has_value()) return false;
    internal::UntypedRecord& next = **record;
    absl::StatusOr<V> value = internal::DecodeRecord<V>(next);
    if (!value.ok()) throw StatusError(value.status());
    current_.emplace(RecordOf<V>{next.commit.version, next.commit.at, std::move(next.commit.transaction_id),
                                 std::move(next.commit.meta), *std::move(value)});
    return true;
  }

  std::shared_ptr<internal::RecordReader> reader_;
  std::optional<RecordOf<V>> current_;
};

}  // namespace stm

#endif  // STM_CLIENT_CPP_STM_RECORDS_H_
