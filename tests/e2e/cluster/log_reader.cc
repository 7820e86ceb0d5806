#include "tests/e2e/cluster/log_reader.h"

#include <chrono>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "backends/zookeeper/batch_text.h"
#include "backends/zookeeper/layout.h"
#include "backends/zookeeper/log_tail.h"
#include "backends/zookeeper/turn_text.h"
#include "backends/zookeeper/session.h"
#include "tests/backends/zookeeper/real_shore.h"
#include "tests/e2e/faults/process.h"
#include "tests/simulation/log_files.h"

namespace stm::e2e {
namespace {

using zookeeper::Client;
using zookeeper::Code;

constexpr std::chrono::milliseconds kLookAgain(5);
constexpr absl::Duration kSessionTimeout = absl::Seconds(10);
// Begins an entry of the log that is no batch.

}  // namespace

LogReader::LogReader(const std::string& store) : store_(store), thread_([this] { Follow(); }) {}

LogReader::~LogReader() {
  leaving_ = true;
  if (thread_.joinable()) thread_.join();
}

absl::StatusOr<check::Log> LogReader::Finish() {
  finishing_ = true;
  thread_.join();
  if (!status_.ok()) return status_;
  return std::move(log_);
}

void LogReader::Follow() {
  const absl::StatusOr<zookeeper::ConnectString> connect =
      zookeeper::ParseConnectString(store_.substr(zookeeper::kScheme.size()));
  if (!connect.ok()) {
    status_ = connect.status();
    return;
  }
  zookeeper::RealShore shore;
  absl::Time patience_ends = absl::InfiniteFuture();
  while (!ended_ && !leaving_ && status_.ok()) {
    if (finishing_ && patience_ends == absl::InfiniteFuture()) patience_ends = absl::Now() + kPatience;
    if (absl::Now() > patience_ends) {
      status_ =
          absl::DeadlineExceededError(absl::StrCat("ZooKeeper tells no end of the log behind entry ", next_));
      return;
    }
    zookeeper::SessionOptions options;
    options.connect = *connect;
    options.timeout = kSessionTimeout;
    Client client(&shore, std::move(options));
    if (client.Await(zookeeper::Event::Kind::kConnected)) FollowOn(&client);
  }
}

void LogReader::FollowOn(Client* client) {
  const absl::Time began = absl::Now();
  while (!leaving_ && client->Count(zookeeper::Event::Kind::kExpired) == 0) {
    // A server that has answered Sync shows all that was committed before it.
    const bool last = finishing_;
    if (last && absl::Now() - began > kPatience) return;
    const bool synced = !last || client->Sync(zookeeper::kStorePath) == Code::kOk;
    if (begun_ || TakeEpoch(client)) {
      for (;;) {
        Client::Read entry = client->Get(zookeeper::LogEntryPath(next_));
        if (entry.code == Code::kOk) {
          status_ = Take(entry.data, entry.stat.czxid);
          if (!status_.ok()) return;
          ++next_;
          continue;
        }
        ended_ = last && synced && entry.code == Code::kNoNode;
        if (ended_) return;
        break;
      }
    }
    std::this_thread::sleep_for(kLookAgain);
  }
}

bool LogReader::TakeEpoch(Client* client) {
  const Client::Read read = client->Get(zookeeper::kEpochPath);
  if (read.code != Code::kOk) return false;
  const absl::StatusOr<zookeeper::Epoch> epoch = zookeeper::ParseEpoch(read.data);
  if (!epoch.ok()) return false;
  base_ = epoch->base;
  next_ = zookeeper::FirstOf(epoch->segment);
  return begun_ = true;
}

absl::Status LogReader::Take(const std::string& data, int64_t zxid) {
  if (zookeeper::IsEpochMove(data)) {
    const absl::StatusOr<zookeeper::EpochMove> move = zookeeper::ParseEpochMove(data);
    if (!move.ok()) return move.status();
    const int64_t segment = move->epoch.segment;
    // The caller goes on behind this entry.
    if (segment > zookeeper::SegmentOf(next_)) next_ = zookeeper::FirstOf(segment) - 1;
    return absl::OkStatus();
  }
  if (zookeeper::IsTurn(data)) return absl::OkStatus();
  const absl::StatusOr<zookeeper::BatchText> batch = zookeeper::ParseBatch(data);
  if (!batch.ok()) {
    return absl::Status(batch.status().code(),
                        absl::StrCat(zookeeper::LogEntryPath(next_), ": ", batch.status().message()));
  }
  for (const auto& from : batch->commits) {
    check::LogCommit& commit = log_.emplace_back();
    commit.version = zookeeper::VersionOf(base_, zxid, from->version);
    commit.at = from->at;
    commit.id = from->transaction_id;
    commit.records = from->records;
    for (const engine::EntryChange& change : from->changes) {
      check::LogChange to = sim::ToLogChange(change);
      to.before_known = change.before.has_value();
      if (change.before) to.before = *change.before;
      commit.changes.push_back(std::move(to));
    }
  }
  return absl::OkStatus();
}

}  // namespace stm::e2e
