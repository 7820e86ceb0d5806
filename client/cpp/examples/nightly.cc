// A job that runs on one machine at a time, and whose result is kept only if it still has the lock when it is done: nightly [SECONDS]
#include <cstdlib>
#include <iostream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "stm/client.h"

absl::Duration takes = absl::ZeroDuration();

// Gives up as soon as another may have the lock.
std::string Build(const stm::Held& held) {
  if (held.AwaitLost(takes)) return "given up";
  return absl::StrCat("report under token ", held.token());
}

absl::Status Nightly(stm::Client& client, stm::Ref<std::string> last) {
  absl::StatusOr<stm::Held> held = client.Acquire("/nightly");  // waits its turn; released by ~Held
  if (!held.ok()) return held.status();
  std::string report = Build(*held);                        // held->lost(): the lease is gone
  return client.Transact([&](stm::Tx& tx) {
    tx.Fence(*held);                                        // commits only while held->token stands
    tx.Set(last, report);
  });                                                       // stm::IsLockLost(status), not an overwrite
}

int main(int argc, char** argv) {
  if (argc > 1) takes = absl::Seconds(std::atoi(argv[1]));
  absl::StatusOr<stm::Client> client = stm::Connect();
  if (!client.ok()) {
    std::cerr << client.status() << std::endl;
    return 1;
  }
  const auto last = client->Ref<std::string>("/nightly/last", "");
  if (absl::Status status = Nightly(*client, last); !status.ok()) {
    std::cerr << status << std::endl;
    return 1;
  }
  std::cout << "/nightly/last " << *last.Get() << std::endl;
}
