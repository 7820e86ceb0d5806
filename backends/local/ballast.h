// Ballast is a file of real blocks that a snapshot may spend when the disk is full, so that a log that can't
// grow can still be shortened. Blocking; one caller at a time.
#ifndef STM_BACKENDS_LOCAL_BALLAST_H_
#define STM_BACKENDS_LOCAL_BALLAST_H_

#include <atomic>
#include <cstdint>

#include "absl/status/status.h"
#include "backends/local/disk.h"

namespace stm::local {

class Ballast {
 public:
  Ballast(Disk* disk, int64_t bytes) : disk_(disk), bytes_(bytes) {}

  // Makes the file where it is missing or short. RESOURCE_EXHAUSTED: there is no room for it now, and none of
  // it is left. Other errors as the disk's.
  absl::Status Keep();
  // Gives its room back. False: there was none to give.
  bool Spend();
  // Any thread.
  bool whole() const { return whole_.load(std::memory_order_relaxed); }
  bool wanted() const { return bytes_ > 0; }

 private:
  Disk* const disk_;
  const int64_t bytes_;
  std::atomic<bool> whole_{false};
};

}  // namespace stm::local

#endif  // STM_BACKENDS_LOCAL_BALLAST_H_
