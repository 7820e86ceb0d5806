// How long a test runs, and its seed, come from the environment.
#ifndef STM_TESTS_E2E_CLUSTER_SETTING_H_
#define STM_TESTS_E2E_CLUSTER_SETTING_H_

#include <stdlib.h>

#include <catch2/catch.hpp>
#include <cstdint>

#include "absl/strings/numbers.h"

namespace stm::e2e {

// A number of the environment; without it `otherwise`.
inline int64_t Setting(const char* name, int64_t otherwise) {
  const char* text = getenv(name);
  if (text == nullptr) return otherwise;
  int64_t number = 0;
  const bool is_number = absl::SimpleAtoi(text, &number) && number > 0;
  INFO(name << " is \"" << text << "\": a number of 1 or more is wanted");
  REQUIRE(is_number);
  return number;
}

}  // namespace stm::e2e

#endif  // STM_TESTS_E2E_CLUSTER_SETTING_H_
