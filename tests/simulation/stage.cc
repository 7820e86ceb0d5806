#include "tests/simulation/stage.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace stm::sim {
namespace {

// Lockers take a turn for so many operations of the clients.
constexpr int64_t kOperationsATurn = 12;
// In a queue that has room for three, most of the ends of sessions that are due together are refused, and
// tried again a second later.
constexpr int64_t kQueueRoomy = 100;

}  // namespace

void StageSettings::DrawPeople(Chance* chance) {
  clients = chance->Between(2, 10);
  names = chance->Between(1, 6);
  watchers = chance->Between(1, 5);
  in_memory = chance->OneOf<uint64_t>({0, 100, 300});
  gives_up = chance->OneOf<uint64_t>({30, 150});
  comes_back = chance->OneOf<uint64_t>({250, 30});         // the later, the less is known of it
  value_bytes = chance->OneOf<int64_t>({0, 0, 50, 9000});  // the last: lines of three sectors
}

void StageSettings::DrawEngine(Chance* chance) {
  engine.batch_transactions_max = chance->OneOf<int64_t>({1, 3, 256});
  engine.batches_in_flight_max = chance->OneOf<int64_t>({1, 1, 2, 4});
  engine.history_age_max = absl::Milliseconds(chance->OneOf<int64_t>({10, 50, 60000, 60000}));
  engine.history_bytes_max = chance->OneOf<int64_t>({4 << 10, 64 << 10, 4 << 20});
  engine.id_table_bytes_max = chance->OneOf<int64_t>({8 << 10, 64 << 10, 1 << 20, 1 << 20});
  engine.id_age_max = absl::Milliseconds(chance->OneOf<int64_t>({200, 600000}));
  engine.sleepers_woken_at_once = chance->OneOf<int64_t>({1, 2, 16});
  engine.list_page_max = chance->OneOf<int64_t>({2, 1000});
  engine.fresh_bytes_max = chance->OneOf<int64_t>({20, 64 << 10});
  engine.reservation_from_run = static_cast<uint32_t>(chance->OneOf<int64_t>({1, 2, 3, 1000}));
  engine.heavy_value_bytes = chance->OneOf<int64_t>({engine.heavy_value_bytes, 30});
  engine.commit_queue_max = chance->OneOf<int64_t>({engine.commit_queue_max, engine.commit_queue_max, 3});
  engine.batch_bytes_max = chance->OneOf<int64_t>({engine.batch_bytes_max, 700});
  engine.id_result_bytes_max = chance->OneOf<int64_t>({engine.id_result_bytes_max, 8});
  engine.reservation_min = absl::Milliseconds(chance->OneOf<int64_t>({1, 20}));
}

void StageSettings::DrawWeather(Chance* chance) {
  weather.request_lost = chance->OneOf<uint64_t>({0, 10, 60});
  weather.answer_lost = chance->OneOf<uint64_t>({0, 20, 80});
  weather.request_twice = chance->OneOf<uint64_t>({0, 30, 150});
  weather.slow = chance->OneOf<uint64_t>({0, 20, 100});
  calm_max = chance->In1000(150) ? absl::InfiniteDuration()
                                 : absl::Milliseconds(chance->OneOf<int64_t>({20, 50, 150, 400}));
}

void StageSettings::DrawContainers(uint64_t seed) {
  Chance apart(seed ^ 0x636f6e7461696e);
  containers.Draw(&apart);
  engine.container_timeout = containers.timeout;
  engine.container_cache_bytes_max = containers.cache_bytes;
  engine.erase_after = containers.erase_after;
  engine.settle_notes_max = containers.settle_notes;
  // What is superseded waits for the history to pass it.
  engine.history_age_max = std::min(engine.history_age_max, absl::Seconds(1));
}

std::string StageSettings::ToString() const {
  return absl::StrCat(
      "clients=", clients, " names=", names, " memory=", in_memory,
      " history_ms=", absl::ToInt64Milliseconds(engine.history_age_max),
      " history_bytes=", engine.history_bytes_max, " ids_bytes=", engine.id_table_bytes_max,
      " batch=", engine.batch_transactions_max, " in_flight=", engine.batches_in_flight_max,
      " queue=", engine.commit_queue_max, " lost=", weather.request_lost, "/", weather.answer_lost,
      " twice=", weather.request_twice, " slow=", weather.slow,
      " calm_ms=", calm_max == absl::InfiniteDuration() ? -1 : absl::ToInt64Milliseconds(calm_max), " ",
      lockers.ToString(), containers.ToString());
}

const std::vector<Simplification<StageSettings>>& StageSimplifications() {
  static const auto* const all = new std::vector<Simplification<StageSettings>>{
      {"lost_calls", [](StageSettings* s) { s->containers.lost = s->containers.answer_lost = 0; }},
      {"late_calls", [](StageSettings* s) { s->containers.late = 0; }},
      {"refused_calls", [](StageSettings* s) { s->containers.refused = 0; }},
      {"slow_calls", [](StageSettings* s) { s->containers.slow = 0; }},
      {"absences", [](StageSettings* s) { s->containers.away = 0; }},
      {"watchers", [](StageSettings* s) { s->watchers = 0; }},
      {"lockers", [](StageSettings* s) { s->lockers.lockers = 0; }},
      {"third_locker",
       [](StageSettings* s) { s->lockers.lockers = std::min<int64_t>(s->lockers.lockers, 2); }},
      {"second_lock", [](StageSettings* s) { s->lockers.locks = 1; }},
      {"forgotten_locks", [](StageSettings* s) { s->lockers.lock_idle = absl::Minutes(10); }},
      {"memory", [](StageSettings* s) { s->in_memory = 0; }},
      {"crashes", [](StageSettings* s) { s->calm_max = absl::InfiniteDuration(); }},
      {"lost_messages", [](StageSettings* s) { s->weather.request_lost = s->weather.answer_lost = 0; }},
      {"doubled_messages", [](StageSettings* s) { s->weather.request_twice = 0; }},
      {"slow_messages", [](StageSettings* s) { s->weather.slow = 0; }},
      {"history_trimming",
       [](StageSettings* s) {
         s->engine.history_age_max = absl::Minutes(1);
         s->engine.history_bytes_max = 4 << 20;
       }},
      {"id_trimming",
       [](StageSettings* s) {
         s->engine.id_age_max = absl::Minutes(10);
         s->engine.id_table_bytes_max = 1 << 20;
       }},
      {"reservations", [](StageSettings* s) { s->engine.reservation_from_run = 1000; }},
      {"batches_in_flight", [](StageSettings* s) { s->engine.batches_in_flight_max = 1; }},
      {"batches", [](StageSettings* s) { s->engine.batch_transactions_max = 1; }},
      {"heavy_values",
       [](StageSettings* s) { s->engine.heavy_value_bytes = engine::Options().heavy_value_bytes; }},
      {"wide_values", [](StageSettings* s) { s->value_bytes = 0; }},
      {"third_client", [](StageSettings* s) { s->clients = std::min<int64_t>(s->clients, 2); }},
      {"second_client", [](StageSettings* s) { s->clients = 1; }},
      {"third_name", [](StageSettings* s) { s->names = std::min<int64_t>(s->names, 2); }},
      {"second_name", [](StageSettings* s) { s->names = 1; }},
  };
  return *all;
}

Chance LockersChance(uint64_t seed) { return Chance(seed ^ 0x6c6f636b657273); }

std::optional<LockOptions> Stage::LocksOf(const StageSettings& settings, const Planted& planted) {
  if (settings.lockers.lockers == 0) return std::nullopt;
  return settings.lockers.ToOptions(planted.locks, planted.leases);
}

void Stage::Cast(const StageSettings& settings, std::vector<Daemon*> daemons, int64_t operations) {
  network_.SetWeather(settings.weather);
  scene_ = Scene{&world_,           std::move(daemons),   &network_,
                 &result_.history,  &result_.failures,    settings.names,
                 kTtlMsMax,         settings.value_bytes, settings.in_memory,
                 settings.gives_up, settings.comes_back};
  scene_.containers = settings.containers;
  if (settings.containers.names > 0) {
    outside_ = std::make_unique<SimStore>(&world_, settings.containers, result_.seed ^ 0x6f757473696465);
    for (Daemon* daemon : scene_.daemons) daemon->UseStore(outside_.get());
  }
  scene_.holds_long = [this](Daemon* daemon) { HoldsLong(daemon); };
  for (int64_t i = 0; i < settings.clients; ++i) {
    const int64_t share = operations / settings.clients + (i < operations % settings.clients ? 1 : 0);
    clients_.push_back(std::make_unique<Client>(i, scene_, share, &result_.clients));
  }
  for (int64_t i = 0; i < settings.watchers; ++i) {
    engine::Selector selector;
    if (i == 1) selector.prefixes = {"/set/", "/n/"};
    if (i == 2) selector.names = {"/n/0", "/counter/0", "/queue"};
    if (i == 3) selector = engine::Selector{{"/queue", "/.memory/queue"}, {"/account/"}};
    if (i == 4) selector = engine::Selector{{"/.memory/n/0"}, {"/.memory/set/", "/set/"}};
    watchers_.push_back(std::make_unique<Watcher>(1000 + i, scene_, selector));
  }
  Chance chance = LockersChance(result_.seed);
  const int64_t turns = operations / kOperationsATurn;
  for (int64_t i = 0; i < settings.lockers.lockers; ++i) {
    const int64_t share = (turns + i) / settings.lockers.lockers;
    lockers_.push_back(
        std::make_unique<Locker>(3000 + i, scene_, settings.lockers, share, chance.Bits(), &result_.lockers));
  }
}

void Stage::Enter() {
  for (const auto& watcher : watchers_) {
    world_.After(absl::Microseconds(world_.chance().Between(0, 5000)), [&watcher] { watcher->Begin(); });
  }
  for (const auto& client : clients_) {
    world_.After(absl::Microseconds(world_.chance().Between(0, 2000)), [&client] { client->Begin(); });
  }
  for (const auto& locker : lockers_) world_.After(absl::Milliseconds(1), [&locker] { locker->Begin(); });
}

bool Stage::ClientsIdle() const {
  return std::all_of(clients_.begin(), clients_.end(), [](const auto& client) { return client->idle(); });
}

bool Stage::AllIdle() const {
  return ClientsIdle() &&
         std::all_of(lockers_.begin(), lockers_.end(), [](const auto& locker) { return locker->idle(); });
}

void Stage::BeQuiet(const StageSettings& settings, absl::Duration grace) {
  claims_quiet_ = settings.engine.commit_queue_max >= kQueueRoomy;
  for (const auto& locker : lockers_) locker->BeSteady();
  if (outside_ != nullptr) outside_->Calm();
  result_.history.quiet.from = world_.nanos();
  result_.history.quiet.grace_ms = absl::ToInt64Milliseconds(grace);
}

void Stage::AwaitSessionsEnd() {
  if (lockers_.empty()) return;
  const check::Quiet& quiet = result_.history.quiet;
  absl::Duration due = absl::Nanoseconds(quiet.from);
  for (const check::Lease& lease : result_.history.leases) {
    due = std::max(due, absl::Nanoseconds(lease.last_beat) + absl::Milliseconds(lease.ttl_ms));
  }
  due += absl::Milliseconds(quiet.grace_ms) + (claims_quiet_ ? absl::Milliseconds(1) : absl::Seconds(20));
  const auto over = [&] {
    return world_.Now() > due ||
           std::all_of(scene_.daemons.begin(), scene_.daemons.end(),
                       [](Daemon* daemon) { return daemon->ready() && daemon->leases().sessions() == 0; });
  };
  RunUntil(over, "the sessions' end");
  if (claims_quiet_) result_.history.quiet.until = world_.nanos();
}

bool Stage::RunUntil(const std::function<bool()>& done, std::string_view what) {
  const uint64_t steps_max = world_.steps() + steps_max_;
  const absl::Duration until = world_.Now() + stuck_after_;
  while (!done()) {
    if (!ok()) return false;
    if (world_.steps() >= steps_max || world_.Now() >= until || !world_.Step()) {
      std::string who;
      for (const auto& client : clients_) {
        if (!client->idle()) absl::StrAppend(&who, "; ", client->Describe());
      }
      for (const auto& locker : lockers_) {
        if (!locker->idle()) absl::StrAppend(&who, "; ", locker->Describe());
      }
      for (const Daemon* daemon : scene_.daemons) {
        if (!daemon->up()) continue;
        const engine::Stats stats = daemon->engine().GetStatus().stats;
        absl::StrAppend(&who, "; queued ", stats.queued, ", in line ", stats.in_line, ", loading ",
                        stats.loading, ", in flight ", stats.in_flight, ", installed ", daemon->installed(),
                        daemon->ready() ? "" : ", not ready");
      }
      Fail(absl::StrCat("stuck: ", std::string(what), " never happened", who, DescribeDaemons()));
      return false;
    }
    Tend();
  }
  return true;
}

void Stage::ReadAll(Daemon* daemon, std::string_view prefix, Ttls ttls) {
  check::Read all;
  all.client = -1;
  all.invoked = world_.nanos();
  all.newest = true;
  all.life = static_cast<check::Life>(daemon->life());
  all.prefix = std::string(prefix);
  bool read = false;
  std::function<void(std::string, check::Version)> page = [&](std::string after, check::Version snapshot) {
    engine::ListRequest request;
    request.prefix = all.prefix;
    request.after_name = after;
    if (snapshot != 0) request.at = engine::ReadPoint{engine::ReadPoint::At::kVersion, snapshot, {}};
    daemon->engine().List(std::move(request), [&](absl::StatusOr<engine::ListResult> result) {
      if (absl::IsOutOfRange(result.status())) {
        // Locks that idle are forgotten meanwhile, so versions go on and history is trimmed.
        all.entries.clear();
        return daemon->loop().Post([&page] { page("", 0); });
      }
      if (!result.ok()) return Fail(absl::StrCat("the last listing: ", result.status().ToString()));
      all.snapshot = result->snapshot;
      for (const engine::EntryState& entry : result->entries) {
        all.entries.push_back(check::Entry{entry.name, entry.value, entry.version});
        if (ttls == Ttls::kRunning || entry.definition == nullptr) continue;
        if (entry.definition->ttl > absl::ZeroDuration()) {
          Fail(absl::StrCat(entry.name, " outlived its TTL"));
        }
      }
      if (!result->more) {
        read = true;
        return;
      }
      daemon->loop().Post([&page, after = result->entries.back().name, snapshot = result->snapshot] {
        page(after, snapshot);
      });
    });
  };
  daemon->loop().Post([&page] { page("", 0); });
  if (!RunUntil([&] { return read; }, "the last listing")) return;
  all.answered = world_.nanos();
  result_.history.reads.push_back(std::move(all));
}

void Stage::AwaitSettled() {
  if (outside_ == nullptr) return;
  // What another daemon noted waits twice as long; then comes the next look, and the commit.
  const absl::Duration end = world_.Now() + 8 * outside_->settings().erase_after + absl::Seconds(5);
  RunUntil([&] { return world_.Now() > end; }, "the container's settling");
}

void Stage::JudgeOutside(uint64_t store, Restored restored) {
  if (outside_ == nullptr) return;
  std::string wrong = outside_->CheckKept(result_.log, store, restored == Restored::kNo);
  if (!wrong.empty()) Fail(std::move(wrong));
  ResolveLogs();
}

void Stage::ResolveLogs() {
  if (outside_ == nullptr) return;
  std::string wrong = outside_->Resolve(&result_.log);
  for (check::LogRead& reading : result_.history.log_reads) {
    if (wrong.empty()) wrong = outside_->Resolve(&reading.commits);
  }
  if (!wrong.empty()) Fail(std::move(wrong));
}

void Stage::Count() {
  if (outside_ != nullptr) result_.containers = outside_->totals();
  result_.trace = world_.trace();
  result_.steps = world_.steps();
  result_.virtual_ms = world_.nanos() / 1000000 - 1000000;
  result_.log_commits = static_cast<int64_t>(result_.log.size());
  for (const auto& watcher : watchers_) {
    result_.watch_events += watcher->events();
    result_.watches_resumed += watcher->resumed();
    result_.watches_cut += watcher->cut();
    result_.watch_gaps += watcher->gaps();
  }
  constexpr std::string_view kWaiters = "/.waiters/";
  for (const check::LogCommit& commit : result_.log) {
    for (const check::LogChange& change : commit.changes) {
      const bool place = change.name.compare(0, kWaiters.size(), kWaiters) == 0 && change.value.has_value();
      result_.lockers.places += place;
    }
  }
}

}  // namespace stm::sim
