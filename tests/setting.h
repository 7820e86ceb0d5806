// How much a test does, and its seed, may be said in the environment: SEEDS, SECONDS, KILLS, SEED.
#ifndef STM_TESTS_SETTING_H_
#define STM_TESTS_SETTING_H_

#include <stdlib.h>

#include <catch2/catch.hpp>
#include <cstdint>

#include "absl/strings/numbers.h"

namespace stm {

// A number of the environment, 1 or more; without it `otherwise`. Any other text fails the test that asks.
inline int64_t Setting(const char* name, int64_t otherwise) {
  const char* text = getenv(name);
  if (text == nullptr) return otherwise;
  int64_t number = 0;
  const bool is_number = absl::SimpleAtoi(text, &number) && number > 0;
  INFO(name << " is \"" << text << "\": a number of 1 or more is wanted");
  REQUIRE(is_number);
  return number;
}

}  // namespace stm

#endif  // STM_TESTS_SETTING_H_
