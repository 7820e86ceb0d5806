#include "client/cli/progress.h"

#include <algorithm>
#include <ostream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace stm::cli {
namespace {

constexpr absl::Duration kDrawEvery = absl::Milliseconds(100);
constexpr int kBarWidth = 30;

}  // namespace

Progress::Progress(Io& io, std::string what, std::string unit, int64_t of)
    : io_(io), what_(std::move(what)), unit_(std::move(unit)), of_(of), began_(absl::Now()), drawn_(began_) {}

Progress::~Progress() {
  if (io_.err_is_terminal) io_.err << "\r\033[K" << std::flush;
}

void Progress::At(int64_t done) {
  const absl::Time now = absl::Now();
  if (!io_.err_is_terminal || now - drawn_ < kDrawEvery) return;
  drawn_ = now;
  std::string line = absl::StrCat("\r", what_, " ");
  if (of_ > 0) {
    const double part = std::min(1.0, static_cast<double>(done) / static_cast<double>(of_));
    const int full = static_cast<int>(part * kBarWidth);
    absl::StrAppend(&line, "[", std::string(full, '#'), std::string(kBarWidth - full, '.'), "] ",
                    static_cast<int>(part * 100), "% ");
  }
  const double seconds = std::max(absl::ToDoubleSeconds(now - began_), 0.001);
  absl::StrAppend(&line, done, " ", unit_, ", ", static_cast<int64_t>(static_cast<double>(done) / seconds), "/s\033[K");
  io_.err << line << std::flush;
}

}  // namespace stm::cli
