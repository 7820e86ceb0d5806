// The planted bugs, by the names of their flags.
#ifndef STM_TESTS_SIMULATION_PLANTED_H_
#define STM_TESTS_SIMULATION_PLANTED_H_

#include <map>
#include <string>

#include "tests/simulation/simulation.h"

namespace stm::sim {

inline std::map<std::string, Planted> PlantedByName() {
  std::map<std::string, Planted> all;
  all["skip_read_check"].engine.skip_read_check = true;
  all["skip_list_check"].engine.skip_list_check = true;
  all["answer_before_append"].engine.answer_before_append = true;
  all["forget_ids"].engine.forget_ids = true;
  all["forget_ids_on_recovery"].engine.forget_ids_on_recovery = true;
  all["skip_sync"].local.skip_sync = true;
  all["answer_before_write"].local.answer_before_write = true;
  return all;
}

}  // namespace stm::sim

#endif  // STM_TESTS_SIMULATION_PLANTED_H_
