// Turns alone: whose it is, until when.
#include "engine/turns.h"

#include <catch2/catch.hpp>

namespace stm::engine {
namespace {

constexpr absl::Duration kShared = absl::Seconds(1);
constexpr absl::Duration kLong = absl::Milliseconds(100);
constexpr uint64_t kUs = 1, kOther = 2, kThird = 3;

absl::Duration At(int64_t ms) { return absl::Seconds(50) + absl::Milliseconds(ms); }

TEST_CASE("turns: a daemon asks after losses in a row, and once") {
  Turns turns(3, kShared);
  CHECK_FALSE(turns.CountLoss("/n", At(0)));
  CHECK_FALSE(turns.CountLoss("/n", At(1)));
  // What it commits ends the row.
  turns.End(0, true, "/n", At(2));
  CHECK_FALSE(turns.CountLoss("/n", At(3)));
  CHECK_FALSE(turns.CountLoss("/n", At(4)));
  // So does time.
  turns.Expire(At(1004));
  CHECK_FALSE(turns.CountLoss("/n", At(1005)));
  CHECK_FALSE(turns.CountLoss("/n", At(1006)));
  CHECK(turns.CountLoss("/n", At(1007)));
  CHECK_FALSE(turns.Asked("/n", At(1007)));
  turns.Ask("/n", At(1007));
  CHECK(turns.Asked("/n", At(1007)));
  CHECK_FALSE(turns.Blocks("/n"));  // nobody knows of it yet
  CHECK(turns.empty());
  // The order never told: it may ask again.
  CHECK(turns.Asked("/n", At(2006)));
  CHECK(turns.Expire(At(2007)) == std::vector<std::string>{"/n"});
  CHECK_FALSE(turns.Asked("/n", At(2007)));
}

TEST_CASE("turns: they are taken in the order of asking, each for one batch") {
  Turns turns(3, kShared);
  turns.Add(kOther, false, "/n", kLong, At(0));
  CHECK(turns.Blocks("/n"));
  turns.Ask("/n", At(1));
  turns.Add(kUs, true, "/n", kLong, At(2));
  turns.Add(kThird, false, "/n", kLong, At(3));
  CHECK(turns.Asked("/n", At(3)));
  CHECK(turns.Blocks("/n"));
  turns.End(kOther, false, "/n", At(4));
  CHECK_FALSE(turns.Blocks("/n"));
  turns.Use("/n");
  CHECK(turns.Blocks("/n"));
  CHECK_FALSE(turns.Asked("/n", At(5)));  // the next one it asks for anew
  turns.GiveBack("/n");
  CHECK_FALSE(turns.Blocks("/n"));
  turns.Use("/n");
  turns.End(0, true, "/n", At(6));
  CHECK(turns.Blocks("/n"));  // the third's
  CHECK(turns.NextExpiry() == At(106));
  // Its time is over.
  CHECK(turns.Expire(At(105)).empty());
  CHECK(turns.Expire(At(106)) == std::vector<std::string>{"/n"});
  // It is shared still: whoever wants it asks.
  CHECK(turns.Blocks("/n"));
  CHECK(turns.SharedNames() == std::vector<std::string>{"/n"});
  CHECK(turns.Expire(At(1003)) == std::vector<std::string>{"/n"});
  CHECK_FALSE(turns.Blocks("/n"));
  CHECK(turns.empty());
  CHECK(turns.NextExpiry() == absl::InfiniteDuration());
}

TEST_CASE("turns: who commits before its turn has had it") {
  Turns turns(3, kShared);
  turns.Add(kOther, false, "/n", kLong, At(0));
  turns.Add(kUs, true, "/n", kLong, At(0));
  turns.Add(kThird, false, "/n", kLong, At(0));
  turns.End(0, true, "/n", At(1));
  turns.End(kOther, false, "/n", At(2));
  CHECK(turns.Blocks("/n"));
  turns.End(kOther, false, "/n", At(3));  // none is left
  CHECK(turns.Blocks("/n"));
  turns.End(kThird, false, "/n", At(4));
  CHECK(turns.Blocks("/n"));
  CHECK_FALSE(turns.Asked("/n", At(4)));
}

TEST_CASE("turns: an entry that this daemon alone asks for is free behind its turn") {
  Turns turns(3, kShared);
  turns.Ask("/n", At(0));
  turns.Add(kUs, true, "/n", absl::Seconds(9), At(1));
  CHECK_FALSE(turns.Blocks("/n"));
  CHECK(turns.NextExpiry() == At(1001));  // no turn is longer
  turns.Use("/n");
  turns.End(0, true, "/n", At(2));
  CHECK(turns.empty());
}

}  // namespace
}  // namespace stm::engine
