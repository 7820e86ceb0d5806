#include "client/cpp/core/random.h"

#include <sys/random.h>

#include <cassert>
#include <cstring>
#include <random>

#include "engine/values/value.h"

namespace stm::internal {

std::string NewUuid() {
  unsigned char bytes[16];
  // Up to 256 bytes come whole once the generator is seeded, and no signal interrupts them.
  ssize_t got = getrandom(bytes, sizeof(bytes), 0);
  assert(got == static_cast<ssize_t>(sizeof(bytes)));
  bytes[6] = static_cast<unsigned char>((bytes[6] & 0x0f) | 0x40);
  bytes[8] = static_cast<unsigned char>((bytes[8] & 0x3f) | 0x80);
  Uuid uuid;
  for (int i = 0; i < 8; ++i) uuid.high = (uuid.high << 8) | bytes[i];
  for (int i = 8; i < 16; ++i) uuid.low = (uuid.low << 8) | bytes[i];
  return ToString(uuid);
}

absl::Duration RandomBetween(absl::Duration low, absl::Duration high) {
  thread_local std::minstd_rand engine{std::random_device{}()};
  std::uniform_int_distribution<int64_t> nanos(absl::ToInt64Nanoseconds(low), absl::ToInt64Nanoseconds(high));
  return absl::Nanoseconds(nanos(engine));
}

}  // namespace stm::internal
