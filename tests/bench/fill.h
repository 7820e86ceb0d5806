// A store of many refs: a thousand in each directory, as shops and their orders have them. One thread.
#ifndef STM_TESTS_BENCH_FILL_H_
#define STM_TESTS_BENCH_FILL_H_

#include <cstdint>
#include <string>

namespace stm::bench {

// Where all of them are, below a prefix of the caller's.
inline constexpr char kFilledDirectory[] = "/shop/orders/";
inline constexpr int kRefsACommit = 1000;

std::string RefName(int64_t number);

// Creates refs of kValueBytes below prefix ("", or as "/warm"), kRefsACommit a commit, so many commits in
// flight. Returns the bytes of all names and values.
int64_t Fill(const std::string& address, const std::string& prefix, int64_t refs, int in_flight);

}  // namespace stm::bench

#endif  // STM_TESTS_BENCH_FILL_H_
