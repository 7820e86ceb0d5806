// Any bytes as each request message: taken apart or refused by the name of a field, and what was taken apart keeps to
// the bounds.
#include <cassert>
#include <cstdint>
#include <string>

#include "engine/error.h"
#include "server/convert.h"
#include "stm/v1/common.pb.h"

namespace {

template <typename Result>
void Refused(const Result& result) {
  if (result.ok()) return;
  const auto detail = stm::engine::DetailOf(result.status());
  assert(detail.has_value());
  assert(detail->reason() != stm::v1::ERROR_REASON_UNSPECIFIED);
  assert(!detail->name().empty() || !detail->limit().empty() ||
         detail->reason() == stm::v1::ERROR_REASON_STORE_CHANGED);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace stm::server;
  stm::engine::Options bounds;
  bounds.value_bytes_max = 256;
  bounds.transaction_bytes_max = 512;
  bounds.transaction_entries_max = 16;
  const int bytes = static_cast<int>(size);
  if (stm::v1::CommitRequest commit; commit.ParseFromArray(data, bytes)) {
    const auto transaction = TransactionOf(&commit, bounds);
    Refused(transaction);
    if (transaction.ok()) {
      const auto& t = **transaction;
      assert(t.reads.size() + t.lists.size() + t.ensures.size() + t.writes.size() <= 16);
      size_t total = 0;
      for (const auto& write : t.writes) total += write.value.is_nil() ? 0 : write.value.edn_size();
      assert(total <= 512);
      assert(t.meta == nullptr || t.meta->principal.empty());
    }
  }
  if (stm::v1::ApplyAtomRequest apply; apply.ParseFromArray(data, bytes)) Refused(TransactionOf(&apply, bounds));
  if (stm::v1::GetRefsRequest get; get.ParseFromArray(data, bytes)) Refused(GetRequestOf(&get, bounds));
  if (stm::v1::ListRefsRequest list; list.ParseFromArray(data, bytes)) Refused(ListRequestOf(&list, bounds, 1));
  if (stm::v1::AwaitChangeRequest await; await.ParseFromArray(data, bytes)) Refused(AwaitRequestOf(&await, bounds));
  if (stm::v1::WatchRequest watch; watch.ParseFromArray(data, bytes)) Refused(WatchRequestOf(&watch, bounds));
  return 0;
}
