// Header is what comes with every answer of a daemon; Known what a client has learnt from all of them.
// Outside the daemon; one thread.
#ifndef STM_TESTS_SIMULATION_HEADER_H_
#define STM_TESTS_SIMULATION_HEADER_H_

#include <algorithm>
#include <cstdint>
#include <map>

#include "tests/checkers/history.h"
#include "tests/simulation/daemon.h"

namespace stm::sim {

struct Header {
  int64_t daemon = 0;
  uint64_t store = 0;
  uint64_t writer = 0;
  check::Life life = 0;
  check::Version installed = 0;
};

// Before it has recovered it knows neither store nor version: nothing is told then.
inline Header HeaderOf(const Daemon& daemon) {
  if (!daemon.ready()) return Header();
  return Header{daemon.number(), daemon.store(), daemon.writer(), static_cast<check::Life>(daemon.life()),
                daemon.installed()};
}

struct Known {
  uint64_t store = 0;
  std::map<int64_t, uint64_t> writers;  // by their daemons' numbers
  check::Version version = 0;

  // Is it of another store than was known?
  bool Learn(const Header& header) {
    if (header.store == 0) return false;
    const bool other = store != 0 && store != header.store;
    if (other) version = 0;
    store = header.store;
    writers[header.daemon] = header.writer;
    version = std::max(version, header.installed);
    return other;
  }
  // 0: not known.
  uint64_t WriterOf(const Daemon& daemon) const {
    const auto known = writers.find(daemon.number());
    return known == writers.end() ? 0 : known->second;
  }
};

}  // namespace stm::sim

#endif  // STM_TESTS_SIMULATION_HEADER_H_
