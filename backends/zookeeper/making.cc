#include "backends/zookeeper/making.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "backends/zookeeper/layout.h"

namespace stm::zookeeper {
namespace {

constexpr absl::Duration kAgain = absl::Milliseconds(10);

}  // namespace

std::vector<Op> StoreOps(const Epoch& epoch) {
  return {Op::Create(kWritersPath, ""), Op::Create(kDaemonsPath, ""), Op::Create(kLogsPath, ""),
          Op::Create(LogPath(epoch.segment), PrintSegment({})), Op::Create(kEpochPath, PrintEpoch(epoch))};
}

absl::Status StoreExists(const std::string& chroot) {
  return absl::AlreadyExistsError(
      absl::StrCat("there is a store below \"", chroot, "\" in ZooKeeper already"));
}

absl::Status UnfinishedRestore() {
  return absl::FailedPreconditionError(absl::StrCat(
      "a restore into the store in ZooKeeper has begun and has not ended (", kRestorePath,
      " is there): wait for it, or if it was interrupted run stmctl restore again, which begins anew"));
}

Chroot::Chroot(engine::Loop* loop, Sessions* sessions, SessionOptions options, absl::Duration patience,
               absl::AnyInvocable<void(Connected)> connected, absl::AnyInvocable<void(absl::Status)> failed)
    : loop_(loop),
      sessions_(sessions),
      options_(std::move(options)),
      patience_(patience),
      connected_(std::move(connected)),
      failed_(std::move(failed)),
      answered_at_(loop->Now()) {
  Patience(patience_);
  OpenAbove();
}

absl::Status Chroot::MayNotMake(const std::string& path) const {
  return absl::PermissionDeniedError(absl::StrCat("ZooKeeper does not let these credentials make ", path,
                                                  ": use those of whoever owns what is above it"));
}

void Chroot::Patience(absl::Duration left) {
  tasks_.After(left, [this] {
    const absl::Duration idle = loop_->Now() - answered_at_;
    if (idle < patience_) return Patience(patience_ - idle);
    failed_(absl::UnavailableError(absl::StrCat("no answer from ZooKeeper at ", options_.connect.servers,
                                                " in ", absl::FormatDuration(patience_))));
  });
}

// The chroot's own nodes are made from the root.
void Chroot::OpenAbove() {
  SessionOptions root = options_;
  root.connect.chroot.clear();
  above_ = sessions_->Open(std::move(root), [this](const Event& event) {
    if (event.kind == Event::Kind::kConnected && !std::exchange(making_, true)) Make(1);
    if (event.kind == Event::Kind::kExpired && session_ == nullptr) {
      making_ = false;
      OpenAbove();
    }
    if (event.kind == Event::Kind::kAuthFailed)
      failed_(absl::PermissionDeniedError("ZooKeeper does not take the credentials"));
  });
}

void Chroot::Make(size_t parts) {
  const std::vector<std::string> all = absl::StrSplit(options_.connect.chroot, '/');  // "", "a", "b"
  if (parts >= all.size()) return Open();
  const std::string path = absl::StrJoin(all.begin(), all.begin() + static_cast<int64_t>(parts) + 1, "/");
  above_->Multi({Op::Create(path, "")}, [this, parts, path](MultiResult result) {
    switch (result.code) {
      case Code::kOk:
      case Code::kNodeExists:
        Answered();
        return Make(parts + 1);
      case Code::kUnknown:
        return tasks_.After(kAgain, [this, parts] { Make(parts); });
      case Code::kNoAuth:
        return failed_(MayNotMake(path));
      default:
        failed_(absl::UnavailableError(
            absl::StrCat("ZooKeeper: ", path, " can't be made: ", NameOf(result.code))));
    }
  });
}

void Chroot::Open() {
  fresh_ = true;
  session_ = sessions_->Open(options_, [this](const Event& event) {
    if (event.kind == Event::Kind::kConnected) {
      connected_(std::exchange(fresh_, false) ? Connected::kFresh : Connected::kAgain);
    }
    if (event.kind == Event::Kind::kExpired) Open();
    if (event.kind == Event::Kind::kAuthFailed)
      failed_(absl::PermissionDeniedError("ZooKeeper does not take the credentials"));
  });
}

}  // namespace stm::zookeeper
