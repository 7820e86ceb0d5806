// Chance is the one source of randomness in a simulation: the same seed gives the same draws on every machine
// (splitmix64 by Steele, Lea and Flood). One thread.
#ifndef STM_TESTS_SIMULATION_CHANCE_H_
#define STM_TESTS_SIMULATION_CHANCE_H_

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace stm::sim {

class Chance {
 public:
  explicit Chance(uint64_t seed) : state_(seed) {}

  uint64_t Bits() {
    state_ += 0x9e3779b97f4a7c15;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  // [0, n); n > 0. The bias of the modulus is of no matter here.
  uint64_t Below(uint64_t n) {
    assert(n > 0);
    return Bits() % n;
  }
  // [low, high].
  int64_t Between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(Below(static_cast<uint64_t>(high - low) + 1));
  }
  // True in `per_mille` of 1000 draws.
  bool In1000(uint64_t per_mille) { return Below(1000) < per_mille; }
  template <typename T>
  const T& OneOf(const std::vector<T>& items) {
    return items[Below(items.size())];
  }

 private:
  uint64_t state_;
};

}  // namespace stm::sim

#endif  // STM_TESTS_SIMULATION_CHANCE_H_
