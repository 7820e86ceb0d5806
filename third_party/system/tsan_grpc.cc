// Tells ThreadSanitizer what gRPC orders: what was done before an operation was started is done before its
// callback runs; what all references to a call did, before its OnDone and OnCancel; what all calls did,
// before the server has stopped. Debian's gRPC is not instrumented: TSan does not see the atomics of its
// completion queues and of its reference counts, and would report what a reactor wrote on one of gRPC's
// threads and reads on the next. In a build for TSan only.
#if defined(__SANITIZE_THREAD__)

#include <dlfcn.h>
#include <grpc/grpc.h>
#include <grpcpp/server.h>
#include <grpcpp/support/server_callback.h>
#include <link.h>
#include <sanitizer/tsan_interface.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace {

using Functor = grpc_completion_queue_functor;
using RunFunction = void (*)(Functor*, int);

// gRPC's C++ headers have a few such functions; each gets a function of ours that stands in for it.
constexpr int kFunctionsMax = 8;
std::atomic<RunFunction> originals[kFunctionsMax];

template <int kIndex>
void Run(Functor* functor, int ok) {
  __tsan_acquire(functor);
  originals[kIndex].load(std::memory_order_relaxed)(functor, ok);
}

constexpr RunFunction kStandIns[kFunctionsMax] = {Run<0>, Run<1>, Run<2>, Run<3>,
                                                  Run<4>, Run<5>, Run<6>, Run<7>};

bool IsCode(void* address) {
  return dl_iterate_phdr(
             [](dl_phdr_info* info, size_t, void* wanted) {
               for (int i = 0; i < info->dlpi_phnum; ++i) {
                 const ElfW(Phdr)& segment = info->dlpi_phdr[i];
                 const uintptr_t from = info->dlpi_addr + segment.p_vaddr;
                 const auto at = reinterpret_cast<uintptr_t>(wanted);
                 const bool is_code = segment.p_type == PT_LOAD && (segment.p_flags & PF_X);
                 if (is_code && at >= from && at < from + segment.p_memsz) return 1;
               }
               return 0;
             },
             address) != 0;
}

void StandIn(Functor* functor) {
  const RunFunction run = functor->functor_run;
  for (const RunFunction stand_in : kStandIns) {
    if (run == stand_in) return;
  }
  for (int i = 0; i < kFunctionsMax; ++i) {
    RunFunction original = originals[i].load(std::memory_order_relaxed);
    if (original == nullptr) {
      // A tag of another completion queue begins with a pointer to its virtual functions: that is no code.
      if (!IsCode(reinterpret_cast<void*>(run))) return;
      if (originals[i].compare_exchange_strong(original, run)) original = run;
    }
    if (original == run) {
      functor->functor_run = kStandIns[i];
      return;
    }
  }
}

void* Next(const char* symbol) {
  void* found = dlsym(RTLD_NEXT, symbol);
  if (found == nullptr) {
    std::fprintf(stderr, "tsan_grpc: no %s behind this one: has gRPC changed, or is it linked statically?\n",
                 symbol);
    std::abort();
  }
  return found;
}

// A call counts its references in atomics of its own, partly in code that is inlined in ours, which TSan
// sees.
void AcquireAtomics(grpc::internal::ServerCallbackCall* call) {
  for (size_t at = 0; at < sizeof(*call); at += sizeof(std::atomic_int)) {
    __tsan_acquire(reinterpret_cast<char*>(call) + at);
  }
}

}  // namespace

namespace grpc {
namespace internal {

// Its last condition is met: it was cancelled, and its reactor is there.
void ServerCallbackCall::CallOnCancel(ServerReactor* reactor) {
  using Function = void (*)(ServerCallbackCall*, ServerReactor*);
  static const auto next = reinterpret_cast<Function>(
      Next("_ZN4grpc8internal18ServerCallbackCall12CallOnCancelEPNS0_13ServerReactorE"));
  AcquireAtomics(this);
  next(this, reactor);
}

// Its last reference is gone.
void ServerCallbackCall::ScheduleOnDone(bool inline_ondone) {
  using Function = void (*)(ServerCallbackCall*, bool);
  static const auto next =
      reinterpret_cast<Function>(Next("_ZN4grpc8internal18ServerCallbackCall14ScheduleOnDoneEb"));
  AcquireAtomics(this);
  next(this, inline_ondone);
}

}  // namespace internal

// Each call gives up its reference to the server; Shutdown returns when all have.
void Server::UnrefWithPossibleNotify() {
  using Function = void (*)(Server*);
  static const auto next = reinterpret_cast<Function>(Next("_ZN4grpc6Server23UnrefWithPossibleNotifyEv"));
  __tsan_release(this);
  next(this);
}

void Server::UnrefAndWaitLocked() {
  using Function = void (*)(Server*);
  static const auto next = reinterpret_cast<Function>(Next("_ZN4grpc6Server18UnrefAndWaitLockedEv"));
  next(this);
  __tsan_acquire(this);
}

}  // namespace grpc

extern "C" grpc_call_error grpc_call_start_batch(grpc_call* call, const grpc_op* ops, size_t count, void* tag,
                                                 void* reserved) {
  using Function = grpc_call_error (*)(grpc_call*, const grpc_op*, size_t, void*, void*);
  static const auto next = reinterpret_cast<Function>(Next("grpc_call_start_batch"));
  if (tag != nullptr) {
    StandIn(static_cast<Functor*>(tag));
    __tsan_release(tag);
  }
  return next(call, ops, count, tag, reserved);
}

#endif  // __SANITIZE_THREAD__
