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

Progress::Progress(Io& io, std::string what, std::string unit, int64_t of, Rows rows)
    : io_(io),
      what_(std::move(what)),
      unit_(std::move(unit)),
      of_(of),
      draws_(io.err_is_terminal && (rows == Rows::kAtTheEnd || !io.out_is_terminal)),
      began_(absl::Now()),
      drawn_(began_) {}

Progress::~Progress() {
  if (draws_) io_.err << "\r\033[K" << std::flush;
}

void Progress::At(int64_t done) {
  At(done, of_ > 0 ? std::optional<double>(static_cast<double>(done) / static_cast<double>(of_)) : std::nullopt);
}

void Progress::At(int64_t done, std::optional<double> part, const std::string& more) {
  if (!draws_) return;
  const absl::Time now = absl::Now();
  if (now - drawn_ < kDrawEvery) return;
  drawn_ = now;
  std::string line = absl::StrCat(what_, " ");
  if (part) {
    const double whole = std::clamp(*part, 0.0, 1.0);
    const int full = static_cast<int>(whole * kBarWidth);
    absl::StrAppend(&line, "[", std::string(full, '#'), std::string(kBarWidth - full, '.'), "] ",
                    static_cast<int>(whole * 100), "% ");
  }
  const double seconds = std::max(absl::ToDoubleSeconds(now - began_), 0.001);
  absl::StrAppend(&line, done, " ", unit_, ", ", static_cast<int64_t>(static_cast<double>(done) / seconds), "/s", more);
  // A line that goes on in the next one can't be drawn over.
  if (io_.err_width > 0 && line.size() >= io_.err_width) line.resize(io_.err_width - 1);
  io_.err << "\r" << line << "\033[K" << std::flush;
}

}  // namespace stm::cli
