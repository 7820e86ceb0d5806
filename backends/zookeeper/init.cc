#include "backends/zookeeper/init.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "backends/zookeeper/epoch.h"
#include "backends/zookeeper/layout.h"

namespace stm::zookeeper {
namespace {

absl::Status MayNotMake(const std::string& path) {
  return absl::PermissionDeniedError(absl::StrCat("ZooKeeper does not let these credentials make ", path,
                                                  ": use those of whoever owns what is above it"));
}

}  // namespace

Init::Init(engine::Loop* loop, Sessions* sessions, SessionOptions options, absl::Duration patience,
           absl::AnyInvocable<void(absl::Status)> done)
    : loop_(loop),
      chroot_(options.connect.chroot),
      done_(std::move(done)),
      sessions_(sessions),
      options_(std::move(options)) {
  tasks_.After(patience, [this, patience] {
    Done(absl::UnavailableError(absl::StrCat("no answer from ZooKeeper at ", options_.connect.servers, " in ",
                                             absl::FormatDuration(patience))));
  });
  // The chroot's own nodes are made from the root.
  SessionOptions root = options_;
  root.connect.chroot.clear();
  above_ = sessions_->Open(std::move(root), [this](const Event& event) {
    if (event.kind == Event::Kind::kConnected) MakeChroot(1);
    if (event.kind == Event::Kind::kAuthFailed)
      Done(absl::PermissionDeniedError("ZooKeeper does not take the credentials"));
  });
}

void Init::MakeChroot(size_t parts) {
  const std::vector<std::string> all = absl::StrSplit(chroot_, '/');  // "", "a", "b"
  if (parts >= all.size()) return MakeStore();
  const std::string path = absl::StrJoin(all.begin(), all.begin() + static_cast<int64_t>(parts) + 1, "/");
  above_->Multi({Op::Create(path, "")}, [this, parts, path](MultiResult result) {
    if (result.code == Code::kOk || result.code == Code::kNodeExists) return MakeChroot(parts + 1);
    if (result.code == Code::kNoAuth) return Done(MayNotMake(path));
    Done(absl::UnavailableError(absl::StrCat("ZooKeeper: ", path, " can't be made: ", NameOf(result.code))));
  });
}

void Init::MakeStore() {
  session_ = sessions_->Open(options_, [this](const Event& event) {
    if (event.kind != Event::Kind::kConnected) return;
    Epoch epoch;
    while (epoch.store == 0) epoch.store = loop_->Random();
    session_->Multi(
        {Op::Create("/stm", ""), Op::Create(kWritersPath, ""), Op::Create(kDaemonsPath, ""),
         Op::Create(kEntriesPath, ""), Op::Create(kLogsPath, ""),
         Op::Create(LogPath(epoch.segment), PrintSegment({})), Op::Create(kEpochPath, PrintEpoch(epoch))},
        [this](MultiResult result) {
          if (result.code == Code::kOk) return Done(absl::OkStatus());
          if (result.code == Code::kNoAuth) return Done(MayNotMake(absl::StrCat(chroot_, "/stm")));
          if (result.code == Code::kNodeExists) {
            return Done(absl::AlreadyExistsError(
                absl::StrCat("there is a store below \"", chroot_, "\" in ZooKeeper already")));
          }
          Done(absl::UnavailableError(absl::StrCat("ZooKeeper: ", NameOf(result.code), ": look again")));
        });
  });
}

void Init::Done(absl::Status status) {
  if (done_) std::exchange(done_, nullptr)(std::move(status));
}

}  // namespace stm::zookeeper
