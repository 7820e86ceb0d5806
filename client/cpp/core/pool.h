// Pool runs the async forms' work on threads made as they are needed, threads_max at most; what comes then waits its
// turn. Any thread. Its end waits for the work that runs, and drops none that was given.
#ifndef STM_CLIENT_CPP_CORE_POOL_H_
#define STM_CLIENT_CPP_CORE_POOL_H_

#include <functional>
#include <memory>

namespace stm::internal {

class Pool {
 public:
  explicit Pool(int threads_max);
  // May be run by the pool's own work: that thread is then let go.
  ~Pool();
  void Run(std::function<void()> work);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace stm::internal

#endif  // STM_CLIENT_CPP_CORE_POOL_H_
