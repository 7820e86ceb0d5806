#include "backends/zookeeper/init.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "backends/zookeeper/epoch.h"
#include "backends/zookeeper/layout.h"

namespace stm::zookeeper {

Init::Init(engine::Loop* loop, Sessions* sessions, SessionOptions options, absl::Duration patience,
           absl::AnyInvocable<void(absl::Status)> done)
    : loop_(loop),
      done_(std::move(done)),
      chroot_(
          loop, sessions, std::move(options), patience, [this](Chroot::Connected) { MakeStore(); },
          [this](absl::Status status) { Done(std::move(status)); }) {}

void Init::MakeStore() {
  if (!done_) return;
  Epoch epoch;
  while (epoch.store == 0) epoch.store = loop_->Random();
  std::vector<Op> ops = {Op::Create(kStorePath, ""), Op::Create(kEntriesPath, "")};
  for (Op& op : StoreOps(epoch)) ops.push_back(std::move(op));
  chroot_.session().Multi(std::move(ops), [this](MultiResult result) {
    if (result.code == Code::kOk) return Done(absl::OkStatus());
    if (result.code == Code::kNoAuth) {
      return Done(chroot_.MayNotMake(absl::StrCat(chroot_.path(), kStorePath)));
    }
    if (result.code == Code::kNodeExists) return TellWhatIsThere();
    Done(absl::UnavailableError(absl::StrCat("ZooKeeper: ", NameOf(result.code), ": look again")));
  });
}

void Init::TellWhatIsThere() {
  chroot_.session().Multi({Op::Check(kRestorePath, 0)}, [this](MultiResult result) {
    if (result.code == Code::kNoNode) return Done(StoreExists(chroot_.path()));
    Done(IsThere(result.code)
             ? UnfinishedRestore()
             : absl::UnavailableError(absl::StrCat("ZooKeeper: ", NameOf(result.code), ": look again")));
  });
}

void Init::Done(absl::Status status) {
  if (done_) std::exchange(done_, nullptr)(std::move(status));
}

}  // namespace stm::zookeeper
