// A cluster's simulation is one seed's run of two or three daemons over a SimEnsemble of one server or three:
// clients, lockers and watchers go from one daemon to another, resend through it what the first still runs,
// while daemons are killed and stand still, and the ensemble has weather; then calm, all daemons catch up,
// are killed and start once more, and the checkers judge all that was seen by the log. In some the store is
// lost, or an older one comes in its place: then all daemons stop, and what was answered by then is judged.
#ifndef STM_TESTS_SIMULATION_CLUSTER_H_
#define STM_TESTS_SIMULATION_CLUSTER_H_

#include <string>
#include <vector>

#include "tests/simulation/simulation.h"

namespace stm::sim {

Result SimulateCluster(const Run& run);
// What a cluster's run may do without, beyond what any may.
std::vector<std::string> ClusterSimplifications();

}  // namespace stm::sim

#endif  // STM_TESTS_SIMULATION_CLUSTER_H_
