// Avout's Hello World: two refs, changed together. stmd must run (deploy/up starts one); each run counts one further.
#include <iostream>

#include "stm/client.h"

absl::Status Hello() {
  absl::StatusOr<stm::Client> client = stm::Connect();      // STM_ADDRESS, else 127.0.0.1:7440
  if (!client.ok()) return client.status();
  auto r0 = client->Ref<int64_t>("/r0", 0);                 // made with 0 if absent; never reset
  auto r1 = client->Ref<std::vector<int64_t>>("/r1", {});

  absl::Status status = client->Transact([&](stm::Tx& tx) {
    int64_t n = tx.Alter(r0, [](int64_t n) { return n + 1; });
    tx.Alter(r1, [&](std::vector<int64_t> v) { v.push_back(n); return v; });
  });                                                       // a body that returns T gives StatusOr<T>
  if (!status.ok()) return status;

  absl::StatusOr<int64_t> n = r0.Get();
  absl::StatusOr<std::vector<int64_t>> all = r1.Get();
  if (!n.ok()) return n.status();
  if (!all.ok()) return all.status();
  std::cout << "/r0 " << stm::Encode(*n) << "\n/r1 " << stm::Encode(*all) << std::endl;
  return absl::OkStatus();
}

int main() {
  absl::Status status = Hello();
  if (!status.ok()) std::cerr << status << std::endl;
  return status.ok() ? 0 : 1;
}
