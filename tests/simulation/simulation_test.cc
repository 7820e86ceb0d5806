// The first proof: seeds of the whole daemon through crashes, judged by the checkers; and planted bugs, which
// the same checkers must find, so that their silence means something.
#include "tests/simulation/simulation.h"

#include <spdlog/spdlog.h>

#include <catch2/catch.hpp>
#include <cstdio>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/simulation/locker.h"
#include "tests/simulation/planted.h"
#include "tests/simulation/shrink.h"

namespace stm::sim {
namespace {

constexpr uint64_t kSeeds = 300;

// The daemons log each of their many starts.
struct Quiet {
  Quiet() { spdlog::set_level(spdlog::level::off); }
} quiet;

TEST_CASE("simulation: nothing acknowledged is lost, nothing applied twice, all is strictly serializable") {
  Result total;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const Result result = Simulate(seed);
    INFO(absl::StrCat("run again: simulation --seed ", seed, "\n", result.settings, "\n", result.Faults()));
    CHECK(result.passed());
    total.Add(result);
  }
  std::printf("%llu seeds: %s\n", static_cast<unsigned long long>(kSeeds), total.Figures().c_str());
  // The seeds go where the bugs are: a path that is never taken proves nothing.
  CHECK(total.clients.committed > 10000);
  CHECK(total.clients.conflicts > 1000);
  CHECK(total.clients.resends_committed > 1000);
  CHECK(total.clients.resends_conflict > 100);
  CHECK(total.clients.resends_rejected > 10);
  CHECK(total.clients.resends_refused > 50);
  CHECK(total.clients.resends_not_committed > 1000);
  CHECK(total.clients.unknown > 10);
  CHECK(total.clients.came_back > 500);
  CHECK(total.clients.came_back_later > 300);
  CHECK(total.clients.snapshots_too_old > 100);
  CHECK(total.clients.woken > 1000);
  CHECK(total.clients.instants > 100);
  CHECK(total.clients.memory_reads > 1000);
  CHECK(total.clients.memory_committed > 1000);
  CHECK(total.clients.memory_mixed > 1000);
  CHECK(total.clients.memory_conflicts > 100);
  CHECK(total.clients.memory_outlived > 10);
  CHECK(total.clients.memory_woken > 100);
  CHECK(total.segments_dropped > 1000);
  CHECK(total.followers.commits > 10000);
  CHECK(total.followers.whole > 1000);
  CHECK(total.followers.refused > 100);
  CHECK(total.followers.fell_off > 5);
  CHECK(total.followers.pages > 1000);
  CHECK(total.backups > 1000);
  CHECK(total.restores.done > 50);
  CHECK(total.restores.crashed > 30);
  CHECK(total.restores.refused > 30);
  CHECK(total.restores.left_empty > 50);
  CHECK(total.restores.found_done > 10);
  CHECK(total.clients.other_stores > 200);
  CHECK(total.clients.asked_there > 5000);
  CHECK(total.daemon.kills > 1000);
  CHECK(total.daemon.power_losses > 1000);
  CHECK(total.daemon.sync_failures > 10);
  CHECK(total.daemon.stops > 10);
  CHECK(total.daemon.torn_tails > 100);
  CHECK(total.daemon.snapshots > 100);
  CHECK(total.engine.no_space > 10);
  CHECK(total.engine.expired > 500);
  CHECK(total.engine.reservations > 100);
  CHECK(total.losses.prefixes > 100);
  CHECK(total.losses.mixtures > 100);
  CHECK(total.losses.zeros > 50);
  CHECK(total.losses.names > 50);
  CHECK(total.wall_jumps > 100);
  CHECK(total.watches_cut > 10);
  CHECK(total.watch_gaps > 100);
  // Locks of every kind, by those who keep to the rules, and by those who die, stand still and come late.
  for (const auto& [name, figure] : LockerTotals::All()) {
    INFO(name);
    // There is one daemon; a cycle is rare.
    const bool rare = figure == &LockerTotals::moves || figure == &LockerTotals::deadlocks;
    CHECK((rare || total.lockers.*figure > 0));
  }
  CHECK(total.lockers.exclusive > 1000);
  CHECK(total.lockers.shared > 500);
  CHECK(total.lockers.permits > 500);
  CHECK(total.lockers.places > 1000);
  CHECK(total.lockers.fenced_committed > 500);
  CHECK(total.lockers.fenced_refused > 30);
  CHECK(total.lockers.out_of_time > 300);
  CHECK(total.sessions_expired > 500);
  for (const char* doing : {"in recovery",
                            "in recovery, amid a change",
                            "before a log write",
                            "in a log write",
                            "between write and sync",
                            "after a failed sync",
                            "after sync, before install",
                            "between commits",
                            "in a segment's end",
                            "in a segment's creation",
                            "before the directory's sync",
                            "in a prefill",
                            "in an old segment's removal",
                            "in a snapshot",
                            "before a snapshot's rename",
                            "in an old snapshot's removal",
                            "at the ballast",
                            "in a stop",
                            "stopped",
                            "in a restore",
                            "in a restore's end"}) {
    INFO(doing);
    CHECK(total.daemon.crashes[doing] > 0);
  }
}

TEST_CASE("simulation: a seed's run is the same every time") {
  for (uint64_t seed : {1, 2, 3, 4, 5}) {
    const Result first = Simulate(seed);
    const Result second = Simulate(seed);
    REQUIRE(first.trace == second.trace);
    REQUIRE(first.steps == second.steps);
    REQUIRE(check::ToEdnText(first.history, first.log) == check::ToEdnText(second.history, second.log));
  }
  REQUIRE(Simulate(1).trace != Simulate(2).trace);
}

// A planted bug, a seed that shows it, and the rule (or the failure) that says so.
struct Caught {
  const char* planted;
  uint64_t seed;
  const char* by;
};
// `simulation --planted all --seeds 1..1000 --without lockers` prints the first seed of each, and every rule
// that it breaks.
constexpr Caught kCaught[] = {
    // Lost fsync; reply before append.
    {"skip_sync", 2, "lost-commit"},
    {"answer_before_append", 1, "lost-commit"},
    {"answer_before_write", 1, "lost-commit"},
    // Conflict told before install.
    {"conflict_before_install", 4, "false-conflict"},
    // Stale read at commit; skipped write-skew check; phantom in a listing; ensure ignored.
    {"skip_read_check", 1, "lost-update"},
    {"skip_write_skew_check", 1, "stale-read"},
    {"skip_list_check", 1, "phantom"},
    {"ignore_ensures", 4, "lost-update"},
    // An operation taken for a read. Two moments in one body.
    {"check_operations", 1, "false-conflict"},
    {"read_newest", 1, "read-state"},
    // Increments that overwrite one another; a rule, a kind, records not kept to.
    {"apply_to_installed", 4, "effects"},
    {"skip_validators", 1, "effects"},
    {"skip_kinds", 3, "effects"},
    {"lose_records", 1, "effects"},
    // Id table lost, and lost at restart; id forgotten while queued; floor not kept in snapshots; too old, a
    // conflict.
    {"forget_ids", 1, "id-twice"},
    {"forget_ids_on_recovery", 1, "false-refusal"},
    {"forget_queued_ids", 1, "id-twice"},
    {"forget_id_floor", 3, "false-refusal"},
    {"too_old_is_conflict", 1, "false-refusal"},
    // Memory entries read before a start that took them.
    {"keep_lost_memory", 11, "stale-read"},
    // Watch event lost on resume; old value wrong after resume.
    {"lose_event_on_resume", 2, "watch"},
    {"newest_before_on_resume", 2, "watch"},
    {"expired_as_deleted", 1, "watch"},
    // Torn line accepted; acknowledged line cut; snapshot renamed before its log is synced.
    {"accept_torn_lines", 4, "the log can't be read"},
    {"cut_acknowledged_line", 11, "lost-commit"},
    {"snapshot_before_sync", 7, "lost-commit"},
    // Log files dropped above a snapshot, above the floor of ids; a reading from there that begins later.
    {"drop_uncovered_segments", 7, "dropped"},
    {"drop_above_floor", 4, "dropped"},
    {"shorten_log_reads", 3, "log-read"},
    // A restore under its name before it is synced.
    {"restore_before_sync", 3, "the daemon does not start"},
    // History below its mark served.
    {"serve_trimmed_history", 5, "read-state"},
    // Reservation never released; retry() wake lost; TTL early.
    {"keep_reservations", 4, "stuck"},
    {"lose_wakes", 4, "sleep"},
    {"early_ttl", 23, "expiry"},
};

// Of locks and sessions.
constexpr Caught kCaughtByLockers[] = {
    {"skip_fences", 11, "fence"},
    {"token_reused", 2, "lock-token"},
    {"waiter_dropped", 1, "lock-waiter"},
    {"expire_early", 2, "belief"},
};

TEST_CASE("simulation: every planted bug is caught, and its seed passes without it") {
  std::map<std::string, Planted> left = PlantedByName(Run::Kind::kAlone);
  const auto try_one = [&left](const Caught& caught, std::set<std::string> without) {
    Run run;
    run.kind = Run::Kind::kAlone;
    run.seed = caught.seed;
    run.without = std::move(without);
    INFO("find another seed: simulation --planted " << caught.planted << " --seeds 1..1000");
    CHECK(Simulate(run).passed());
    run.planted = left.at(caught.planted);
    left.erase(caught.planted);
    CHECK(FaultKinds(Simulate(run)).count(caught.by) == 1);
  };
  // Lockers have no part in what these break, and what is drawn without them is not moved by them.
  for (const Caught& caught : kCaught) try_one(caught, {"lockers"});
  for (const Caught& caught : kCaughtByLockers) try_one(caught, {});
  // None is left out.
  CHECK(left.empty());
}

TEST_CASE("simulation: a run that fails is shrunk, and its story names what is wrong") {
  Run run;
  run.planted = PlantedByName(Run::Kind::kAlone).at("skip_write_skew_check");
  for (run.seed = 1; FaultKinds(Simulate(run)).count("stale-read") == 0;) REQUIRE(++run.seed < 100);
  const Shrunk shrunk = Shrink(run);
  REQUIRE(FaultKinds(shrunk.result).count("stale-read") == 1);
  REQUIRE(shrunk.run.operations < run.operations / 3);
  // What is printed is enough to run it again.
  REQUIRE(Simulate(shrunk.run).trace == shrunk.result.trace);
  REQUIRE(Flags(shrunk.run).find("--without ") != std::string::npos);
  const std::string story = Story(shrunk.result);
  for (const char* part : {"--- the daemon starts", "client ", " commits at ", " is told committed at ",
                           "--- power loss, the last", "what is wrong:\nstale-read: transaction t"}) {
    INFO(part);
    CHECK(story.find(part) != std::string::npos);
  }
}

}  // namespace
}  // namespace stm::sim
