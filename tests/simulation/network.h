// Network carries messages between clients and daemons, late, twice or not at all. A connection ends with
// the life of the daemon that it was made to: what is under way to a dead life is lost; what it sent before
// may still arrive. Copies of one request reach one life only, as TCP has it: a client sends again over a new
// connection, and says so.
#ifndef STM_TESTS_SIMULATION_NETWORK_H_
#define STM_TESTS_SIMULATION_NETWORK_H_

#include <cstdint>
#include <functional>

#include "absl/time/time.h"
#include "tests/simulation/daemon.h"
#include "tests/simulation/world.h"

namespace stm::sim {

// In 1000 messages.
struct Weather {
  uint64_t request_lost = 0;
  uint64_t answer_lost = 0;
  uint64_t request_twice = 0;
  uint64_t slow = 0;
  absl::Duration delay_max = absl::Microseconds(200);
  absl::Duration slow_delay_max = absl::Milliseconds(20);
};

class Network {
 public:
  // It outlives the network.
  explicit Network(World* world) : world_(world) {}

  enum class Copies : uint8_t { kAny, kOne };
  // `serve` runs on the daemon's Loop.
  void Request(Daemon* daemon, std::function<void()> serve, Copies copies = Copies::kAny) {
    if (world_->chance().In1000(weather_.request_lost)) return;
    const bool twice = copies == Copies::kAny && world_->chance().In1000(weather_.request_twice);
    for (int i = 0; i < (twice ? 2 : 1); ++i) {
      world_->After(Delay(), [daemon, life = daemon->life(), serve] {
        if (!daemon->up() || daemon->life() != life) return;
        daemon->loop().Post([serve] { serve(); });
      });
    }
  }
  // `deliver` runs at the client.
  void Answer(std::function<void()> deliver) {
    if (world_->chance().In1000(weather_.answer_lost)) return;
    world_->After(Delay(), [deliver = std::move(deliver)] { deliver(); });
  }
  absl::Duration Delay() {
    Chance& chance = world_->chance();
    const absl::Duration max = chance.In1000(weather_.slow) ? weather_.slow_delay_max : weather_.delay_max;
    return absl::Nanoseconds(chance.Between(1000, absl::ToInt64Nanoseconds(max)));
  }

  void SetWeather(Weather weather) { weather_ = weather; }

 private:
  World* const world_;
  Weather weather_;
};

}  // namespace stm::sim

#endif  // STM_TESTS_SIMULATION_NETWORK_H_
