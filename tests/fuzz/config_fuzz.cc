// Any lines as stmd's configuration: those with a dash in front are flags, those with STMD_ variables of the
// environment, the rest is the file. It loads or is refused; and what loaded is printed as a file that loads the same.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "server/config.h"

namespace {

// The path of a file with this text.
std::string FileOf(std::string_view text) {
  static const int descriptor = memfd_create("config", 0);
  assert(descriptor >= 0);
  const int cut = ftruncate(descriptor, 0);
  assert(cut == 0);
  const ssize_t written = pwrite(descriptor, text.data(), text.size(), 0);
  assert(written == static_cast<ssize_t>(text.size()));
  return "/proc/self/fd/" + std::to_string(descriptor);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using stm::server::Loaded;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  std::vector<std::string> flags;
  std::vector<std::string> environment;
  std::string file;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line(text.substr(begin, end - begin));
    begin = end + 1;
    // No other file is read: it might be a device.
    if (line.find("--config") != std::string::npos || line.find("STMD_CONFIG") != std::string::npos) continue;
    if (line.rfind("-", 0) == 0) {
      flags.push_back(line);
    } else if (line.rfind("STMD_", 0) == 0) {
      environment.push_back(line);
    } else {
      file += line + "\n";
    }
  }
  flags.push_back("--config=" + FileOf(file));
  const auto loaded = stm::server::LoadConfig(flags, environment);
  if (!loaded.ok()) {
    assert(!loaded.status().message().empty());
    return 0;
  }
  if (loaded->settings.empty()) return 0;  // --help, --version
  stm::server::LimitsOf(loaded->config);
  const std::string printed = stm::server::PrintConfig(loaded->settings);
  if (printed.find(":***@") != std::string::npos) return 0;  // a password is not printed, and wanted again
  const auto again = stm::server::LoadConfig({"--config=" + FileOf(printed)}, {});
  assert(again.ok());
  for (size_t i = 0; i < loaded->settings.size(); ++i) {
    assert(again->settings[i].value == loaded->settings[i].value);
  }
  return 0;
}
