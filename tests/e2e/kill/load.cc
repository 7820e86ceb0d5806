#include "tests/e2e/kill/load.h"

#include <cstdlib>
#include <fstream>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

namespace stm::e2e {

Load::Load(Options options) : options_(std::move(options)), first_(CallerOf(-1, options_.seed)) {}

Load::~Load() { Stop(); }

Caller::Options Load::CallerOf(int64_t number, uint64_t seed) {
  Caller::Options options;
  options.number = number;
  options.addresses = {options_.address};
  options.seed = seed;
  options.answers = &answers_;
  options.call_timeout = options_.call_timeout;
  return options;
}

bool Load::Start() {
  if (!first_.Prepare()) return false;
  watcher_ = std::make_unique<Watcher>(Watcher::Options{1000, {options_.address}});
  for (int i = 0; i < options_.writers; ++i) {
    writers_.push_back(std::make_unique<Writer>(CallerOf(i, options_.seed + 1 + static_cast<uint64_t>(i))));
    threads_.emplace_back([this, writer = writers_.back().get()] {
      if (writer->Run(stop_)) return;
      gave_up_ = true;
      answers_.GiveUp();
    });
  }
  return true;
}

bool Load::Stop() {
  stop_ = true;
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  return !gave_up_;
}

std::optional<Outcome> Load::Judge() {
  if (!first_.ReadAll()) return std::nullopt;
  const std::optional<check::Log> log = first_.ReadLog();
  const check::Read last = first_.history().reads.back();
  const bool saw_all = watcher_->SawUpTo(last.snapshot);
  watcher_->Stop();
  if (!log || !saw_all) return std::nullopt;
  watcher_->watch().complete_to = last.snapshot;

  Outcome outcome;
  check::History history = std::move(first_.history());
  Writer::Figures sum;
  for (const auto& writer : writers_) {
    check::History& part = writer->history();
    history.transactions.insert(history.transactions.end(), part.transactions.begin(),
                                part.transactions.end());
    history.reads.insert(history.reads.end(), part.reads.begin(), part.reads.end());
    const Writer::Figures& figures = writer->figures();
    sum.committed += figures.committed;
    sum.conflicts += figures.conflicts;
    sum.refused += figures.refused;
    sum.resends += figures.resends;
    sum.resends_committed += figures.resends_committed;
    sum.resends_not_committed += figures.resends_not_committed;
    for (const auto& [counter, added] : figures.added) sum.added[counter] += added;
  }
  history.watches.push_back(watcher_->watch());
  outcome.committed = sum.committed;
  outcome.refused = sum.refused;
  outcome.resends = sum.resends;
  for (const check::Entry& entry : last.entries) {
    if (entry.name.substr(0, 9) == "/account/") outcome.sum += entry.value->integer();
    if (entry.name.substr(0, 9) != "/counter/") continue;
    const int64_t off = entry.value->integer() - sum.added[entry.name];
    (off < 0 ? outcome.lost_adds : outcome.extra_adds) += std::abs(off);
  }
  outcome.violations = check::Check(history, *log);
  outcome.figures = absl::StrCat(
      options_.writers, " writers: ", log->size(), " commits in the log, ", sum.committed, " acknowledged, ",
      sum.conflicts, " conflicts, ", sum.refused, " refused, ", sum.resends, " resends (",
      sum.resends_committed, " had committed, ", sum.resends_not_committed, " had not), watch resumed ",
      watcher_->resumed(), " times; lost ", outcome.lost_adds, ", applied twice ", outcome.extra_adds);
  if (const char* file = getenv("KILL_HISTORY")) std::ofstream(file) << check::ToEdnText(history, *log);
  return outcome;
}

}  // namespace stm::e2e
