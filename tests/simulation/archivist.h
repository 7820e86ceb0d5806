// Archivist is an operator of a simulated store: it makes backups while the store is written to, of its
// newest version or of an older one, and restores one into a daemon that is empty. Outside the daemon, but
// for images and what is taken in; one thread.
#ifndef STM_TESTS_SIMULATION_ARCHIVIST_H_
#define STM_TESTS_SIMULATION_ARCHIVIST_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/coordinator.h"
#include "tests/checkers/history.h"
#include "tests/simulation/client.h"
#include "tests/simulation/local_daemon.h"

namespace stm::sim {

struct Backup {
  check::Version version = 0;
  std::string text;
};

class Archivist {
 public:
  Archivist(Scene scene, LocalDaemon* daemon) : scene_(scene), daemon_(daemon) {}

  // Makes backups now and then, for ever.
  void Begin();
  // Makes one now.
  void Make();
  // Those that came whole.
  const std::vector<Backup>& backups() const { return backups_; }

  // Gives `text` to the present life, which is ready, piece by piece; `told` is called once, unless that life
  // ends first.
  void Restore(std::string text, std::function<void(absl::Status)> told);

 private:
  struct Printing {
    Backup backup;
    std::unique_ptr<engine::Image> image;
    std::unique_ptr<engine::Archive::Printer> printer;
  };
  struct Restoring {
    std::string text;
    size_t given = 0;
    std::unique_ptr<engine::Archive::Intake> intake;
    std::function<void(absl::Status)> told;
  };

  void Print(std::shared_ptr<Printing> printing);
  void PrintPart(std::shared_ptr<Printing> printing, engine::ImagePart part);
  void Give(std::shared_ptr<Restoring> restoring);
  void Tell(const Restoring& restoring, absl::Status status);

  const Scene scene_;
  LocalDaemon* const daemon_;
  std::vector<Backup> backups_;
};

}  // namespace stm::sim

#endif  // STM_TESTS_SIMULATION_ARCHIVIST_H_
