#include <algorithm>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"
#include "client/cli/version.h"
#include "engine/values/map.h"
#include "engine/values/wire.h"
#include "stm/outcome_word.h"

namespace stm::cli {
namespace {

std::string Hex(uint64_t n) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(n));
  return text;
}

}  // namespace

absl::Status Status(Shell& shell) {
  absl::StatusOr<v1::GetStatusResponse> status = shell.daemon().GetStatus(shell.CallDeadline());
  if (!status.ok()) return status.status();
  Printer& printer = shell.printer();
  Fields fields{
      {"address", printer.Plain(shell.daemon().address())},
      {"version", printer.Plain(status->version())},
      {"api-minor", Value::Integer(status->api_minor())},
      {"coordinator", printer.Plain(status->coordinator())},
      {"ready", Value::Boolean(status->ready())},
  };
  if (!status->ready()) fields.emplace_back("not-ready-because", printer.Plain(status->not_ready_because()));
  fields.insert(fields.end(), {
                                  {"store", printer.Plain(Hex(status->header().store()))},
                                  {"writer", printer.Plain(Hex(status->header().writer()))},
                                  {"installed-version", Value::Integer(status->header().installed_version())},
                                  {"history-mark", Value::Integer(status->history_mark())},
                                  {"id-floor", Value::Integer(status->id_floor())},
                                  {"log-mark", Value::Integer(status->log_mark())},
                              });
  // A proto map has no order of its own.
  std::vector<std::pair<std::string, int64_t>> limits(status->limits().begin(), status->limits().end());
  std::sort(limits.begin(), limits.end());
  if (printer.output() == Output::kTable) {
    printer.Sheet(fields);
    for (const auto& [name, limit] : limits) {
      printer.Row({{"name", Value::String(name)}, {"value", Value::Integer(limit)}});
    }
    printer.Finish();
    for (const v1::HotEntry& hot : status->hot()) {
      printer.Row({{"hot", printer.Plain(hot.name())},
                   {"commits/min", Value::Integer(hot.commits())},
                   {"conflicts/min", Value::Integer(hot.conflicts())}});
    }
    return absl::OkStatus();
  }
  Fields bounds;
  for (const auto& [name, limit] : limits) bounds.emplace_back(name, Value::Integer(limit));
  fields.emplace_back("limits", printer.MapOf(bounds));
  std::vector<Value> hots;
  for (const v1::HotEntry& hot : status->hot()) {
    hots.push_back(printer.MapOf({{"name", Value::String(hot.name())},
                                  {"commits", Value::Integer(hot.commits())},
                                  {"conflicts", Value::Integer(hot.conflicts())}}));
  }
  fields.emplace_back("hot", Value::OfVector(std::move(hots)));
  printer.Row(fields);
  return absl::OkStatus();
}

absl::Status Cluster(Shell& shell) {
  absl::StatusOr<v1::GetClusterResponse> cluster = shell.daemon().GetCluster(shell.CallDeadline());
  if (!cluster.ok()) return cluster.status();
  Printer& printer = shell.printer();
  Fields fields{{"store", printer.Plain(Hex(cluster->header().store()))},
                {"epoch", Value::Integer(cluster->epoch())},
                {"log-segment", Value::Integer(cluster->log_segment())},
                {"log-entries", Value::Integer(cluster->log_entries())},
                {"log-bytes", Value::Integer(cluster->log_bytes())},
                {"next-position", Value::Integer(cluster->log_next_position())}};
  std::vector<Fields> daemons;
  for (const v1::Daemon& daemon : cluster->daemons()) {
    daemons.push_back({{"address", printer.Plain(daemon.address())},
                       {"writer", printer.Plain(Hex(daemon.writer()))},
                       {"version", printer.Plain(daemon.version())},
                       {"format-max", Value::Integer(daemon.format_max())},
                       {"installed-version", Value::Integer(daemon.installed_version())},
                       {"lag", Value::Integer(cluster->log_next_position() - daemon.applied_position())}});
  }
  if (printer.output() == Output::kTable) {
    printer.Sheet(fields);
    printer.Finish();
    for (const Fields& daemon : daemons) printer.Row(daemon);
    return absl::OkStatus();
  }
  std::vector<Value> maps;
  for (const Fields& daemon : daemons) maps.push_back(printer.MapOf(daemon));
  fields.emplace_back("daemons", Value::OfVector(std::move(maps)));
  printer.Row(fields);
  return absl::OkStatus();
}

absl::Status Containers(Shell& shell) {
  absl::StatusOr<v1::ListContainersResponse> containers = shell.daemon().ListContainers(shell.CallDeadline());
  if (!containers.ok()) return containers.status();
  Printer& printer = shell.printer();
  const bool table = printer.output() == Output::kTable;
  for (const v1::Container& one : containers->containers()) {
    Fields row{{"name", Value::String(one.name())}, {"healthy", Value::Boolean(one.healthy())}};
    const auto count = [&row](const char* name, int64_t number) { row.emplace_back(name, Value::Integer(number)); };
    std::vector<Value> kinds;
    if (one.keeps_refs()) kinds.push_back(printer.Word("refs"));
    if (one.keeps_atoms()) kinds.push_back(printer.Word("atoms"));
    row.emplace_back("keeps", Value::OfVector(std::move(kinds)));
    const int64_t p50 = one.latency_p50().seconds() * 1000000 + one.latency_p50().nanos() / 1000;
    if (one.has_latency_p50() || table) row.emplace_back("p50-us", one.has_latency_p50() ? Value::Integer(p50) : Value());
    count("calls", one.calls());
    count("failed", one.calls_failed());
    count("under-way", one.calls_under_way());
    count("hanging", one.calls_hanging());
    count("queued", one.calls_queued());
    count("waiting", one.transactions_waiting());
    count("staged", one.staged());
    count("staged-bytes", one.staged_bytes());
    count("to-erase", one.to_erase());
    count("erase-bytes", one.erase_bytes());
    count("to-copy", one.to_copy());
    if (!one.uri().empty() || table) row.emplace_back("uri", printer.Plain(one.uri()));
    if (!one.error().empty() || table) row.emplace_back("error", printer.Plain(one.error()));
    if (one.has_error_at() && !table) {
      absl::StatusOr<Instant> at = FromProto(one.error_at());
      if (at.ok()) row.emplace_back("error-at", Value::OfInstant(*at));
    }
    printer.Row(row);
  }
  return absl::OkStatus();
}

absl::Status Health(Shell& shell, bool ready) {
  if (!ready) {
    absl::StatusOr<bool> serving = shell.daemon().IsServing(shell.CallDeadline());
    if (!serving.ok()) return serving.status();
    if (!*serving) {
      return absl::UnavailableError(absl::StrCat(shell.daemon().address(), ": not serving: see: stmctl status"));
    }
    shell.printer().Print(shell.printer().Word("serving"));
    return absl::OkStatus();
  }
  absl::StatusOr<v1::GetStatusResponse> status = shell.daemon().GetStatus(shell.CallDeadline());
  if (!status.ok()) return status.status();
  if (!status->ready()) {
    return absl::UnavailableError(absl::StrCat(shell.daemon().address(), ": not ready: ", status->not_ready_because()));
  }
  shell.printer().Print(shell.printer().Word("ready"));
  return absl::OkStatus();
}

absl::Status ShowConfig(Shell& shell) {
  absl::StatusOr<v1::GetConfigResponse> config = shell.daemon().GetConfig(shell.CallDeadline());
  if (!config.ok()) return config.status();
  for (const v1::Setting& setting : config->settings()) {
    shell.printer().Row({{"name", shell.printer().Plain(setting.name())},
                         {"value", shell.printer().Plain(setting.value())},
                         {"origin", shell.printer().Word(setting.origin())}});
  }
  return absl::OkStatus();
}

absl::Status Drain(Shell& shell, const std::string& grace) {
  v1::DrainRequest request;
  if (!grace.empty()) {
    absl::StatusOr<absl::Duration> duration = ReadDuration(grace, "--grace");
    if (!duration.ok()) return duration.status();
    const int64_t nanoseconds = absl::ToInt64Nanoseconds(*duration);
    request.mutable_grace()->set_seconds(nanoseconds / 1000000000);
    request.mutable_grace()->set_nanos(static_cast<int32_t>(nanoseconds % 1000000000));
  }
  absl::Status drained = shell.daemon().Drain(request, shell.CallDeadline());
  if (!drained.ok()) return drained;
  shell.printer().Print(shell.printer().Word("drained"));
  return absl::OkStatus();
}

absl::Status Outcome(Shell& shell, const std::string& text) {
  absl::StatusOr<OutcomeWord> word = ParseOutcomeWord(text);
  if (!word.ok()) return word.status();
  v1::CommitId id;
  id.set_transaction_id(word->transaction_id);
  id.set_writer(word->writer);
  id.mutable_seen()->set_version(word->seen_version);
  id.mutable_seen()->set_store(word->store);
  id.set_resend(true);
  const absl::Time deadline = shell.CallDeadline();
  absl::StatusOr<v1::Header> header = shell.daemon().Hello(deadline);  // waits until the daemon is ready
  if (!header.ok()) return header.status();
  absl::StatusOr<v1::CommitResponse> response = shell.daemon().Outcome(id, deadline);
  if (!response.ok()) return response.status();
  absl::Status status = OutcomeStatus(*response);
  if (!status.ok()) return status;
  Fields row{{"outcome", shell.printer().Word("committed")},
             {"version", Value::Integer(response->committed().version())}};
  if (response->committed().has_at()) {
    absl::StatusOr<Instant> at = FromProto(response->committed().at());
    if (at.ok()) row.emplace_back("at", Value::OfInstant(*at));
  }
  shell.printer().Row(row);
  return absl::OkStatus();
}

absl::Status Version(Shell& shell) {
  shell.printer().Print(shell.printer().Plain(kVersion));
  return absl::OkStatus();
}

}  // namespace stm::cli
