#include "tests/bench/usage.h"

#include <httplib.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "tests/bench/process.h"

namespace stm::bench {

namespace {

constexpr double kSettledSeconds = 3;
constexpr double kSettledShare = 0.001;

// The number behind `key` at the beginning of a line.
int64_t FieldIn(const std::string& path, const std::string& key) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    if (line.compare(0, key.size(), key) == 0) return std::strtoll(line.c_str() + key.size(), nullptr, 10);
  }
  Fail("no " + key + " in " + path + ": has the daemon ended?");
}

}  // namespace

Usage UsageOf(pid_t pid) {
  const std::string proc = "/proc/" + std::to_string(pid);
  Usage usage;
  usage.rss_bytes = FieldIn(proc + "/smaps_rollup", "Rss:") * 1024;
  usage.anonymous_bytes = FieldIn(proc + "/smaps_rollup", "Anonymous:") * 1024;
  usage.threads = FieldIn(proc + "/status", "Threads:");
  std::error_code error;
  for (const auto& descriptor : std::filesystem::directory_iterator(proc + "/fd", error)) {
    ++usage.descriptors;
    // One that was closed meanwhile is no file.
    std::error_code gone;
    if (std::filesystem::is_regular_file(descriptor.path(), gone)) ++usage.files;
  }
  return usage;
}

int64_t SettledRssBytes(pid_t pid, double deadline_s) {
  const double deadline = Now() + deadline_s;
  int64_t reference = UsageOf(pid).rss_bytes;
  for (double since = Now(); Now() - since < kSettledSeconds;) {
    if (Now() > deadline) Fail("the daemon's RSS has not settled after " + std::to_string(deadline_s) + " s");
    SleepSeconds(0.25);
    const int64_t now = UsageOf(pid).rss_bytes;
    if (static_cast<double>(std::abs(now - reference)) > kSettledShare * static_cast<double>(reference)) {
      reference = now;
      since = Now();
    }
  }
  return UsageOf(pid).rss_bytes;
}

std::string MetricsOf(int port) {
  httplib::Client client("127.0.0.1", port);
  client.set_read_timeout(60);
  const httplib::Result result = client.Get("/metrics");
  if (!result || result->status != 200) Fail("no answer from http://127.0.0.1:" + std::to_string(port) + "/metrics");
  return result->body;
}

double MetricIn(const std::string& metrics, const std::string& name) {
  const size_t at = metrics.find("\n" + name + " ");
  if (at == std::string::npos) Fail("/metrics has no " + name);
  return std::strtod(metrics.c_str() + at + name.size() + 2, nullptr);
}

int64_t BytesIn(const std::string& directory) {
  int64_t bytes = 0;
  std::error_code error;
  for (const auto& file : std::filesystem::directory_iterator(directory, error)) {
    // One that was dropped meanwhile takes nothing.
    std::error_code gone;
    const auto size = std::filesystem::file_size(file.path(), gone);
    if (!gone) bytes += static_cast<int64_t>(size);
  }
  return bytes;
}

}  // namespace stm::bench
