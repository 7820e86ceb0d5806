// Weather is what befalls a Site by chance: programs that are killed or stand still, servers, the one that
// leads and the daemons, and networks that are cut. One seed, one weather, but for which server leads. Most
// of the time at most one server of three is out; sometimes two or all, for some seconds. The Site's thread.
#ifndef STM_TESTS_E2E_CLUSTER_WEATHER_H_
#define STM_TESTS_E2E_CLUSTER_WEATHER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "tests/checkers/history.h"
#include "tests/e2e/cluster/site.h"

namespace stm::e2e {

class Weather {
 public:
  Weather(Site* site, uint64_t seed);

  // One or two things happen, are told on standard output, last a while, and are over: all that was killed is
  // started again, all that stood still goes on, all that was cut is joined.
  void Episode();
  // A while without.
  void Calm();

  const std::map<std::string, int64_t>& faults() const { return faults_; }
  struct Kill {
    size_t daemon = 0;
    check::Time at = 0;
    bool alone = false;  // nothing else had happened for a while, or did at the same time
  };
  const std::vector<Kill>& kills() const { return kills_; }

 private:
  struct Fault {
    std::string kind;
    std::function<void()> begin;
    std::function<void()> end;
    int64_t ms = 0;
  };
  Fault OfDaemon();
  Fault OfServer();
  Fault OfNetwork();
  Fault OfMajority();
  Fault Cut(const std::string& kind, std::vector<std::pair<int, int>> pairs, bool one_way);

  int64_t Between(int64_t low, int64_t high);
  // Shorter or longer than a session lasts.
  int64_t Standstill();
  void Pass(int64_t ms);

  Site* const site_;
  std::mt19937_64 random_;
  std::map<std::string, int64_t> faults_;
  std::vector<Kill> kills_;
  const check::Time began_;
  check::Time calm_since_;
};

}  // namespace stm::e2e

#endif  // STM_TESTS_E2E_CLUSTER_WEATHER_H_
