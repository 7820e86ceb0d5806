#include <stdio.h>
#include <stdlib.h>

#include <string>

#include "tests/client/cpp/fixture.h"

namespace stm::testing {

std::string SharedAddress() {
  // Ends with this process's main thread.
  static const Daemon* const daemon = [] {
    absl::StatusOr<Daemon> started = Daemon::Start();
    if (!started.ok()) {
      fprintf(stderr, "%s\n", started.status().ToString().c_str());
      abort();
    }
    return new Daemon(*std::move(started));
  }();
  return daemon->address();
}

}  // namespace stm::testing
