#include "tests/simulation/follower.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/error.h"
#include "stm/v1/common.pb.h"
#include "tests/simulation/log_files.h"
#include "tests/simulation/network.h"

namespace stm::sim {
namespace {

constexpr int kAnswerTimeoutMs = 60;

}  // namespace

void Follower::Later() {
  const uint64_t attempt = ++attempt_;
  scene_.world->After(absl::Milliseconds(scene_.world->chance().Between(5, 250)), [this, attempt] {
    if (attempt == attempt_) Draw();
  });
}

void Follower::Draw() {
  Chance& chance = scene_.world->chance();
  reading_ = std::make_shared<Reading>();
  check::LogRead& read = reading_->read;
  read.client = number_;
  read.invoked = scene_.world->nanos();
  if (chance.In1000(300)) {
    const std::vector<std::string> names = {absl::StrCat("/n/", chance.Below(2)), "/counter/0", "/queue",
                                            absl::StrCat("/set/", chance.Below(20))};
    read.name = chance.OneOf(names);
    read.limit = chance.Between(1, 6);
    if (chance.In1000(500)) read.from = chance.Between(1, last_ + 2);
    return Ask();
  }
  switch (chance.Below(5)) {
    case 0:
    case 1:
      break;
    case 2:
      read.from = chance.Between(1, last_ + 2);
      break;
    default:
      read.from = last_ + 1;
      break;
  }
  reading_->piece_bytes = static_cast<size_t>(chance.OneOf<int64_t>({1, 400, 4000, 1 << 20}));
  reading_->pause_max = absl::Milliseconds(chance.OneOf<int64_t>({1, 10, 60}));
  Ask();
}

void Follower::Ask() {
  const uint64_t attempt = ++attempt_;
  scene_.world->After(absl::Milliseconds(kAnswerTimeoutMs), [this, attempt] {
    if (attempt == attempt_) End();
  });
  scene_.network->Request(
      daemon_,
      [this, attempt, reading = reading_] {
        scene_.world->Run(engine::Work::kHeavy, [this, attempt, reading] {
          if (!daemon_->ready()) return;
          if (reading->cursor != nullptr && reading->life != daemon_->life()) return;
          scene_.network->Answer([this, attempt, piece = Serve(reading.get())] {
            if (attempt == attempt_) Answered(piece);
          });
        });
      },
      Network::Copies::kOne);
}

Follower::Piece Follower::Serve(Reading* reading) {
  LocalDaemon& daemon = *daemon_;
  const check::LogRead& read = reading->read;
  Piece piece;
  piece.committed = daemon.installed();
  piece.kept_from = daemon.KeptFrom();
  if (read.name.empty() && reading->cursor == nullptr) {
    absl::StatusOr<std::unique_ptr<engine::LogCursor>> cursor = daemon.log().Open(read.from);
    piece.status = cursor.status();
    if (!cursor.ok()) return piece;
    reading->cursor = *std::move(cursor);
    reading->life = daemon.life();
  }
  absl::StatusOr<std::vector<engine::LogCursor::Item>> items =
      read.name.empty() ? reading->cursor->Next(reading->piece_bytes)
                        : daemon.log().History(read.name, read.from, static_cast<size_t>(read.limit));
  piece.status = items.status();
  if (items.ok()) piece.items = *std::move(items);
  return piece;
}

void Follower::Answered(const Piece& piece) {
  Chance& chance = scene_.world->chance();
  check::LogRead& read = reading_->read;
  scene_.world->Trace(piece.items.size() * 31 + static_cast<uint64_t>(piece.status.code()));
  // Its disk is gone, the daemon next.
  if (absl::IsUnavailable(piece.status)) return End();
  if (read.answered == 0) read.kept_from = piece.kept_from;
  read.answered = scene_.world->nanos();
  if (absl::IsOutOfRange(piece.status)) {
    read.refused_below = engine::DetailOf(piece.status)->limit_value();
    read.kept_when_refused = piece.kept_from;
    ++(read.commits.empty() ? totals_->refused : totals_->fell_off);
    last_ = read.refused_below - 1;
    return End();
  }
  if (!piece.status.ok()) {
    scene_.failures->push_back(absl::StrCat("the log can't be read by a client: ", piece.status.ToString()));
    return End();
  }
  for (const engine::LogCursor::Item& item : piece.items) read.commits.push_back(ToLogCommit(item));
  if (!read.name.empty()) {
    ++totals_->pages;
    read.complete_to = piece.committed;
    return End();
  }
  totals_->commits += static_cast<int64_t>(piece.items.size());
  if (!read.commits.empty()) last_ = read.commits.back().version;
  if (piece.items.empty()) {
    ++totals_->whole;
    read.complete_to = piece.committed;
    return End();
  }
  if (chance.In1000(50)) return End();
  const uint64_t attempt = ++attempt_;
  const int64_t pause_us_max = absl::ToInt64Microseconds(reading_->pause_max);
  scene_.world->After(absl::Microseconds(chance.Between(1, pause_us_max)), [this, attempt] {
    if (attempt == attempt_) Ask();
  });
}

void Follower::StoreDies() {
  ++attempt_;
  reading_ = nullptr;
  last_ = 0;
}

void Follower::End() {
  if (reading_ != nullptr && reading_->read.answered != 0) {
    ++totals_->readings;
    scene_.history->log_reads.push_back(reading_->read);
  }
  reading_ = nullptr;
  Later();
}

}  // namespace stm::sim
