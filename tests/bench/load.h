// Load is the client side of the bench: the callers of each row, on raw callback stubs, over the same channels for the
// null RPC and for stmd. Every outcome is checked: a call that fails, or a commit that is not committed, ends the bench.
// Methods are called by one thread, one at a time; callers run on gRPC's threads meanwhile.
#ifndef STM_TESTS_BENCH_LOAD_H_
#define STM_TESTS_BENCH_LOAD_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/bench/caller.h"
#include "tests/bench/measure.h"

namespace stm::bench {

// Callers of the disjoint rows have this many keys each, and values of this many bytes, under a validator.
inline constexpr int kCallersMax = 512;
inline constexpr int kKeysOfCaller = 16;
inline constexpr int kValueBytes = 100;
// Of the null RPC that tells how much the machine gives.
inline constexpr int kGateCallers = 64;

struct Servers {
  std::string echo_address;  // "": there is none, and no Null()
  pid_t echo_pid = 0;
  std::string stmd_address;
  pid_t stmd_pid = 0;
  int channels = 4;
  // Pipeline streams that the calls in flight are spread over.
  int streams = 1;
  // Of the disjoint rows, and of what is loaded at all: so many, the first of them by its number. Loads of several
  // daemons of one store have callers of their own.
  int callers = kCallersMax;
  int first_caller = 0;
};

class Load {
 public:
  // stmd is ready. Makes the entries.
  explicit Load(const Servers& servers);
  ~Load();

  Measured Null(int callers, double seconds);
  // Linearizable, one entry of 100 bytes.
  Measured Get(int callers, double seconds);
  // One Commit a call: an id, 1 read of a known version, 2 writes of 100 bytes, keys of the caller's own.
  Measured Commit(int callers, double seconds);
  // The same in one Pipeline: what is ready goes into the next message.
  Measured CommitPipelined(int in_flight, double seconds);
  // Calls come at a fixed rate, whatever the answers do; latency counts from the moment that a call was due.
  Measured CommitAtRate(double per_second, double seconds);
  // One counter, (add 1) by all.
  Measured Commute(int callers, double seconds);
  // One ref: read, computed in the client, written; conflicts are run again as a stub does.
  Measured AlterHot(int callers, double seconds);
  // Seconds from sending a commit to the last of the watchers having it, one a commit. The commits go through `by`,
  // which may be of another daemon of the store.
  std::vector<double> Fanout(int watchers, int commits, Load* by);
  std::vector<double> Fanout(int watchers, int commits) { return Fanout(watchers, commits, this); }

  // Commits through a Pipeline until count are done; returns the newest version.
  int64_t CommitMany(int64_t count, int in_flight);
  // The counter and the hot ref hold exactly what was acknowledged; else the bench ends.
  void CheckSums() { CheckSums({this}); }
  // The same for all loads of a store, each of which was made before any of them began.
  static void CheckSums(const std::vector<Load*>& loads);

 private:
  class Rep;
  std::unique_ptr<Rep> rep_;
};

// A round of a row: the limit before and after ours, and the null RPC around all, to know what the machine gave.
Round Against(Load& load, double seconds, const std::function<double()>& limit, const std::function<double()>& ours);
inline double Mean(double a, double b) { return (a + b) / 2; }

}  // namespace stm::bench

#endif  // STM_TESTS_BENCH_LOAD_H_
