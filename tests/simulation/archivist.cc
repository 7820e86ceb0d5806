#include "tests/simulation/archivist.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/simulation/network.h"

namespace stm::sim {

void Archivist::Begin() {
  scene_.world->After(absl::Milliseconds(scene_.world->chance().Between(1, 300)), [this] {
    Make();
    Begin();
  });
}

void Archivist::Make() {
  scene_.network->Request(
      daemon_,
      [this] {
        LocalDaemon& daemon = *daemon_;
        if (!daemon.ready()) return;
        const engine::Status now = daemon.engine().GetStatus();
        Chance& chance = scene_.world->chance();
        const check::Version wanted =
            chance.In1000(500) ? 0 : chance.Between(now.history_mark, now.installed);
        absl::StatusOr<std::unique_ptr<engine::Image>> image = daemon.engine().TakeImageAt(wanted);
        if (!image.ok()) {
          if (absl::IsUnavailable(image.status())) return;
          scene_.failures->push_back(absl::StrCat("backup: of ", wanted, ": ", image.status().ToString()));
          return;
        }
        auto printing = std::make_shared<Printing>();
        printing->backup.version = (*image)->version();
        // A store that is empty has no backup.
        if (printing->backup.version == 0) return;
        printing->printer = daemon.archive().Print((*image)->version(), (*image)->at());
        printing->image = *std::move(image);
        Print(std::move(printing));
      },
      Network::Copies::kOne);
}

// On the Loop: takes the next part, and has it printed off it.
void Archivist::Print(std::shared_ptr<Printing> printing) {
  engine::ImagePart part = printing->image->Next(static_cast<size_t>(scene_.world->chance().Between(1, 60)));
  const check::Version version = printing->image->version();
  daemon_->engine().ResolvePart(std::move(part), version,
                                [this, printing = std::move(printing)](absl::StatusOr<engine::ImagePart> part) mutable {
                                  // Its container is away: no backup.
                                  if (part.ok()) PrintPart(std::move(printing), *std::move(part));
                                });
}

void Archivist::PrintPart(std::shared_ptr<Printing> printing, engine::ImagePart part) {
  const bool last = part.entries.empty() && part.ids.empty();
  const check::Version floor = last ? printing->image->id_floor() : 0;
  if (last) printing->image.reset();
  scene_.world->Run(engine::Work::kHeavy, [this, printing = std::move(printing), part = std::move(part), last,
                                           floor]() mutable {
    printing->backup.text += last ? printing->printer->End(floor) : printing->printer->Add(part);
    if (!last) {
      return scene_.world->Post(
          [this, printing = std::move(printing)]() mutable { Print(std::move(printing)); });
    }
    scene_.network->Answer([this, backup = std::move(printing->backup)] { backups_.push_back(backup); });
  });
}

void Archivist::Restore(std::string text, std::function<void(absl::Status)> told) {
  auto restoring = std::make_shared<Restoring>();
  restoring->text = std::move(text);
  restoring->told = std::move(told);
  scene_.world->Post([this, restoring = std::move(restoring)]() mutable {
    absl::Status status = daemon_->engine().CheckEmpty();
    if (status.ok()) {
      absl::StatusOr<std::unique_ptr<engine::Archive::Intake>> intake = daemon_->archive().TakeIn();
      status = intake.status();
      if (intake.ok()) restoring->intake = *std::move(intake);
    }
    if (!status.ok()) return Tell(*restoring, std::move(status));
    scene_.world->Run(engine::Work::kHeavy,
                      [this, restoring = std::move(restoring)]() mutable { Give(std::move(restoring)); });
  });
}

// Off the Loop.
void Archivist::Give(std::shared_ptr<Restoring> restoring) {
  Restoring& r = *restoring;
  const size_t piece = static_cast<size_t>(scene_.world->chance().Between(1, 5000));
  absl::Status status = r.intake->Add(std::string_view(r.text).substr(r.given, piece));
  r.given = std::min(r.text.size(), r.given + piece);
  const bool whole = r.given == r.text.size();
  if (status.ok() && whole) status = r.intake->Check().status();
  if (!status.ok()) {
    r.intake.reset();
    return Tell(r, std::move(status));
  }
  if (!whole) {
    return scene_.world->Run(engine::Work::kHeavy, [this, restoring = std::move(restoring)]() mutable {
      Give(std::move(restoring));
    });
  }
  scene_.world->Post([this, restoring = std::move(restoring)] {
    daemon_->engine().Restore(
        [this, restoring](absl::AnyInvocable<void(absl::Status)> fed) {
          daemon_->archive().Install(std::move(restoring->intake), std::move(fed));
        },
        [this, restoring](absl::Status status) { Tell(*restoring, std::move(status)); });
  });
}

void Archivist::Tell(const Restoring& restoring, absl::Status status) {
  scene_.world->After(absl::ZeroDuration(),
                      [told = restoring.told, status = std::move(status)] { told(status); });
}

}  // namespace stm::sim
