// The null RPC's server: a callback server like stmd's, that does nothing but answer. A process of its own (the bench
// starts itself again), so that its CPU can be told apart. Serves until killed.
#ifndef STM_TESTS_BENCH_ECHO_SERVER_H_
#define STM_TESTS_BENCH_ECHO_SERVER_H_

#include <string>

namespace stm::bench {

// Does not return while it can serve; 1 when the address can't be listened on.
int ServeEcho(const std::string& address);

}  // namespace stm::bench

#endif  // STM_TESTS_BENCH_ECHO_SERVER_H_
