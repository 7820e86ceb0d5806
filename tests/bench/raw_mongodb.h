// RawMongoDb inserts documents by MongoDB's own library alone: of the same fields and by the same promises, a
// majority's journals, as a MongoDB container writes a value. Any thread.
#ifndef STM_TESTS_BENCH_RAW_MONGODB_H_
#define STM_TESTS_BENCH_RAW_MONGODB_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace stm::bench {

struct Inserted {
  double p50_us = 0;
  double rate = 0;
};

// `write(i)` again and again, by so many threads. No i comes twice in a process.
Inserted ByThreads(int threads, double seconds, const std::function<void(int64_t)>& write);

class RawMongoDb {
 public:
  // With so many connections at most. `text` is what each document has beside its name and stamp.
  RawMongoDb(const std::string& uri, int connections, std::string text);
  ~RawMongoDb();
  RawMongoDb(const RawMongoDb&) = delete;
  RawMongoDb& operator=(const RawMongoDb&) = delete;

  // Ends the bench if it fails, as it does when the stamp was used before.
  void Insert(const std::string& name, const std::string& stamp);

 private:
  class Rep;
  const std::unique_ptr<Rep> rep_;
};

}  // namespace stm::bench

#endif  // STM_TESTS_BENCH_RAW_MONGODB_H_
