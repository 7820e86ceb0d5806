#include "server/config.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cassert>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <toml.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "engine/name.h"
#include "engine/operation.h"
#include "engine/validator.h"
#include "engine/values/absl_view.h"
#include "engine/values/edn.h"
#include "engine/values/lexical.h"
#include "engine/values/wire.h"

namespace stm::server {
namespace {

constexpr int64_t kMany = std::numeric_limits<int64_t>::max();

enum class Kind : uint8_t {
  kText,      // std::string
  kTexts,     // std::vector<std::string>: given several times, or with commas
  kContainers,  // std::vector<ContainerSetting>: likewise; a comma with no NAME=SCHEME:// behind it is a URI's own
  kFlag,      // bool
  kCount,     // int64_t
  kCount32,   // uint32_t
  kBytes,     // int64_t
  kDuration,  // absl::Duration
  kAge,       // absl::Duration; "all": infinite
};

struct Setting {
  const char* name;
  Kind kind;
  void* (*field)(Config*);
  int64_t min;  // counts, bytes, milliseconds; texts: shortest length
  int64_t max;
  const char* help;
  const char* limit =
      nullptr;  // errors' name of the bound where it is not the setting's own; "": it is no bound
};

#define STMD_FIELD(path) [](Config* c) -> void* { return &c->path; }

const Setting kSettings[] = {
    {"listen", Kind::kTexts, STMD_FIELD(listen), 1, kMany,
     "where gRPC is served: host:port (port 0: any free one) or unix:/path; several are allowed"},
    {"http", Kind::kText, STMD_FIELD(http), 1, kMany,
     "where /livez, /readyz and /metrics are served: host:port, or off"},
    {"data-dir", Kind::kText, STMD_FIELD(data_dir), 1, kMany, "directory of the log and its snapshots"},
    {"coordinator", Kind::kText, STMD_FIELD(coordinator), 1, kMany,
     "who orders commits and keeps them: local, or zk://host:port,host:port/chroot for many daemons over "
     "ZooKeeper"},
    {"create", Kind::kFlag, STMD_FIELD(zookeeper.create), 0, 0,
     "make the store in ZooKeeper if there is none yet; for a first start, as stmctl init"},
    {"advertise", Kind::kText, STMD_FIELD(zookeeper.advertise), 1, kMany,
     "where others reach this daemon over ZooKeeper; the first of --listen"},
    {"zookeeper-credentials-file", Kind::kText, STMD_FIELD(zookeeper.credentials_file), 1, kMany,
     "file that holds user:password, for ZooKeeper's digest authentication"},
    {"zookeeper-acl", Kind::kText, STMD_FIELD(zookeeper.acl), 1, kMany,
     "who may touch what this daemon makes in ZooKeeper: open (anybody) or creator (whoever has its "
     "credentials)"},
    {"zookeeper-session-timeout", Kind::kDuration, STMD_FIELD(zookeeper.session.timeout), 1000, 600000,
     "after which ZooKeeper takes a daemon that it does not hear for gone; its servers have bounds too", ""},
    {"zookeeper-log-bytes", Kind::kBytes, STMD_FIELD(zookeeper.log_bytes), 64 << 10, int64_t{64} << 30,
     "of its log in ZooKeeper past which the oldest entries go; up to twice as much for daemons and archives "
     "that are behind",
     ""},
    {"archive-dir", Kind::kText, STMD_FIELD(zookeeper.archive_dir), 1, kMany,
     "directory where this daemon keeps all commits over ZooKeeper as a log that people can read, for ReadLog "
     "and GetHistory; one daemon's is enough"},
    {"ephemeral", Kind::kFlag, STMD_FIELD(ephemeral), 0, 0,
     "keep all in memory, on a free port printed as one EDN line; ends with its standard input"},
    {"container", Kind::kContainers, STMD_FIELD(containers), 1, kMany,
     "where entries that ask for it keep their values: NAME=URI, as mongo=mongodb://host/app, "
     "remote:NAME=grpc://host:port or files=file:///directory; several are allowed. A password is better given in "
     "the environment or the file than on a command line, which others on this machine see"},
    {"container-timeout", Kind::kDuration, STMD_FIELD(engine.container_timeout), 1, 600000,
     "how long one call to a container may take", ""},
    {"container-transactions-max", Kind::kCount, STMD_FIELD(engine.container_transactions_max), 1, 10000000,
     "transactions that wait for one container"},
    {"container-cache-bytes", Kind::kBytes, STMD_FIELD(engine.container_cache_bytes_max), 0, kMany,
     "memory for values that containers keep", "container_cache_bytes_max"},
    {"container-threads-max", Kind::kCount, STMD_FIELD(container_threads.container_threads_max), 1, 4096,
     "calls that are in one container at once, each on a thread"},
    {"container-queue-max", Kind::kCount, STMD_FIELD(container_threads.container_queue_max), 1, 1000000,
     "calls that wait for a thread of one container"},
    {"erase-after", Kind::kDuration, STMD_FIELD(engine.erase_after), 1000, kMany,
     "how long a container keeps a value once nothing names it any more and no snapshot reaches it", ""},
    {"log-level", Kind::kText, STMD_FIELD(log_level), 1, kMany, "trace, debug, info, warn, error or off"},
    {"threads", Kind::kCount, STMD_FIELD(threads), 2, 256, "threads beside gRPC's, for writes and heavy work",
     ""},
    {"value-bytes-max", Kind::kBytes, STMD_FIELD(engine.value_bytes_max), 1 << 10, 64 << 20,
     "EDN bytes of one value"},
    {"transaction-bytes-max", Kind::kBytes, STMD_FIELD(engine.transaction_bytes_max), 1 << 10, 512 << 20,
     "EDN bytes of all values of one transaction"},
    {"transaction-entries-max", Kind::kCount, STMD_FIELD(engine.transaction_entries_max), 1, 1000000,
     "reads, lists, ensures, writes, records and fences of one transaction"},
    {"batch-transactions-max", Kind::kCount, STMD_FIELD(engine.batch_transactions_max), 1, 65536,
     "transactions appended by one write and one fdatasync"},
    {"batch-bytes-max", Kind::kBytes, STMD_FIELD(engine.batch_bytes_max), 1 << 10, 1 << 30,
     "EDN bytes of one batch"},
    {"commit-queue-max", Kind::kCount, STMD_FIELD(engine.commit_queue_max), 1, 10000000,
     "transactions waiting for a batch or in a line"},
    {"history-bytes", Kind::kBytes, STMD_FIELD(engine.history_bytes_max), 1 << 16, kMany,
     "memory for versions below the newest, which snapshots read", "history_bytes_max"},
    {"history-age", Kind::kDuration, STMD_FIELD(engine.history_age_max), 1, kMany,
     "how far back snapshots can be read", "history_age_ms_max"},
    {"id-table-bytes", Kind::kBytes, STMD_FIELD(engine.id_table_bytes_max), 1 << 16, kMany,
     "memory for the ids by which a resend finds its answer", "id_table_bytes_max"},
    {"id-age", Kind::kDuration, STMD_FIELD(engine.id_age_max), 1000, kMany, "how long ids are kept",
     "id_age_ms_max"},
    {"id-result-bytes-max", Kind::kBytes, STMD_FIELD(engine.id_result_bytes_max), 0, 1 << 20,
     "results above are not kept for resends"},
    {"fresh-bytes-max", Kind::kBytes, STMD_FIELD(engine.fresh_bytes_max), 0, 16 << 20,
     "fresh values sent with a conflict"},
    {"sleepers-max", Kind::kCount, STMD_FIELD(engine.sleepers_max), 0, 100000000,
     "AwaitChange calls at once"},
    {"sleepers-woken-at-once", Kind::kCount, STMD_FIELD(engine.sleepers_woken_at_once), 1, 1000000,
     "sleepers of one entry woken together", ""},
    {"sleepers-next-after", Kind::kDuration, STMD_FIELD(engine.sleepers_next_after), 1, 60000,
     "when the next sleepers are woken at the latest", ""},
    {"session-ttl", Kind::kDuration, STMD_FIELD(leases.ttl_default), 1, 86400000,
     "of a session whose client asks for none: how long it outlives what was last heard of it", ""},
    {"session-ttl-min", Kind::kDuration, STMD_FIELD(leases.ttl_min), 100, 3600000, "shortest that a client may ask for"},
    {"session-ttl-max", Kind::kDuration, STMD_FIELD(leases.ttl_max), 1000, 86400000, "longest that a client may ask for"},
    {"sessions-max", Kind::kCount, STMD_FIELD(leases.sessions_max), 0, 10000000, "open sessions of the store"},
    {"session-things-max", Kind::kCount, STMD_FIELD(engine.locks.session_things_max), 1, 100000,
     "locks, places in queues and entries of one session"},
    {"lock-queue-max", Kind::kCount, STMD_FIELD(engine.locks.lock_queue_max), 0, 1000000,
     "who wait for one lock, or await one condition"},
    {"lock-holders-max", Kind::kCount, STMD_FIELD(engine.locks.lock_holders_max), 1, 4000,
     "who hold one shared lock, or permits of one semaphore: more wait"},
    {"lock-idle", Kind::kDuration, STMD_FIELD(engine.locks.lock_idle), 1000, 86400000,
     "after which a lock that nobody used is forgotten, but for its tokens' order", ""},
    {"reservation-from-run", Kind::kCount32, STMD_FIELD(engine.reservation_from_run), 2, 1000000,
     "the run of a transaction that may reserve entries", ""},
    {"reservation-min", Kind::kDuration, STMD_FIELD(engine.reservation_min), 1, 60000, "shortest reservation",
     ""},
    {"reservation-max", Kind::kDuration, STMD_FIELD(engine.reservation_max), 1, 60000, "longest reservation",
     "reservation_ms_max"},
    {"entry-cache-bytes", Kind::kBytes, STMD_FIELD(engine.entry_cache_bytes_max), 1 << 20, kMany,
     "memory for entries over ZooKeeper; others are loaded when they are used", "entry_cache_bytes_max"},
    {"watches-max", Kind::kCount, STMD_FIELD(engine.watches_max), 0, 100000000, "watches at once"},
    {"watch-unread-events-max", Kind::kCount, STMD_FIELD(server.watch_unread_events_max), 1, 10000000,
     "events a watcher may be behind before it is cut off"},
    {"watch-unread-bytes-max", Kind::kBytes, STMD_FIELD(server.watch_unread_bytes_max), 1 << 10, 1 << 30,
     "bytes a watcher may be behind before it is cut off"},
    {"list-page-max", Kind::kCount, STMD_FIELD(engine.list_page_max), 1, 1000000,
     "entries of one page of a listing"},
    {"list-page-bytes-max", Kind::kBytes, STMD_FIELD(engine.list_page_bytes_max), 1 << 10, 64 << 20,
     "EDN bytes of one page of a listing"},
    {"pipeline-in-flight-max", Kind::kCount, STMD_FIELD(server.pipeline_in_flight_max), 1, 1000000,
     "unanswered calls of one Pipeline; past it the stream is not read on"},
    {"pipeline-awaits-max", Kind::kCount, STMD_FIELD(server.pipeline_awaits_max), 0, 1000000,
     "AwaitChange calls of one Pipeline at once"},
    {"pipeline-unread-answers-max", Kind::kCount, STMD_FIELD(server.pipeline_unread_answers_max), 1, 10000000,
     "answers a reader may leave unread before it is cut off"},
    {"pipeline-unread-bytes-max", Kind::kBytes, STMD_FIELD(server.pipeline_unread_bytes_max), 1 << 10,
     1 << 30, "bytes of answers a reader may leave unread before it is cut off"},
    {"slow-reader-grace", Kind::kDuration, STMD_FIELD(server.slow_reader_grace), 1, 600000,
     "how long a Pipeline's reader at its bound may take no message", "slow_reader_grace_ms"},
    {"log-readers-max", Kind::kCount, STMD_FIELD(server.log_readers_max), 1, 100000,
     "ReadLog streams at once"},
    {"offers-max", Kind::kCount, STMD_FIELD(server.offers_max), 0, 10000,
     "containers that clients offer at once"},
    {"backups-max", Kind::kCount, STMD_FIELD(server.backups_max), 1, 1000, "Backup streams at once"},
    {"backup-history-bytes-max", Kind::kBytes, STMD_FIELD(server.backup_history_bytes_max), 1 << 20, kMany,
     "history kept for a backup that is being read, before it is ended"},
    {"drain-grace", Kind::kDuration, STMD_FIELD(server.drain_grace), 0, 3600000,
     "how long a stop lets what is under way finish", ""},
    {"segment-bytes", Kind::kBytes, STMD_FIELD(local.segment_bytes), 1 << 12, 1LL << 40,
     "size of one log file", ""},
    {"snapshot-bytes", Kind::kBytes, STMD_FIELD(local.snapshot_bytes), 1 << 12, 1LL << 50,
     "log written between snapshots", ""},
    {"prefill-bytes", Kind::kBytes, STMD_FIELD(local.prefill_bytes), 0, 1 << 30,
     "log file written ahead, so that syncs are cheap; 0: none", ""},
    {"ballast-bytes", Kind::kBytes, STMD_FIELD(local.ballast_bytes), 0, 1LL << 40,
     "disk held back for when it is full; 0: none", ""},
    {"log-keep", Kind::kAge, STMD_FIELD(local.log_keep), 1, kMany,
     "how long log files are kept: all, or an age as 720h", ""},
    {"memory-log-bytes", Kind::kBytes, STMD_FIELD(local.memory_log_bytes), 1 << 10, kMany,
     "log kept by --ephemeral"},
};

#undef STMD_FIELD

// Of tests; each also needs STMD_TEST_CANARIES=1.
struct Canary {
  const char* name;
  bool* (*field)(Config*);
};
const Canary kCanaries[] = {
    {"skip_read_check", [](Config* c) { return &c->canaries.skip_read_check; }},
    {"skip_list_check", [](Config* c) { return &c->canaries.skip_list_check; }},
    {"answer_before_append", [](Config* c) { return &c->canaries.answer_before_append; }},
    {"forget_ids", [](Config* c) { return &c->canaries.forget_ids; }},
    {"forget_ids_on_recovery", [](Config* c) { return &c->canaries.forget_ids_on_recovery; }},
    {"skip_fences", [](Config* c) { return &c->canaries.skip_fences; }},
    {"expire_early", [](Config* c) { return &c->lease_canaries.expire_early; }},
    {"answer_unsure", [](Config* c) { return &c->lease_canaries.answer_unsure; }},
    {"reuse_stamp", [](Config* c) { return &c->canaries.reuse_stamp; }},
    {"commit_failed_write", [](Config* c) { return &c->canaries.commit_failed_write; }},
    {"erase_early", [](Config* c) { return &c->canaries.erase_early; }},
    {"read_newest_stored", [](Config* c) { return &c->canaries.read_newest_stored; }},
    {"skip_sync", [](Config* c) { return &c->canary_skip_sync; }},
};

// Of the environment, but no settings: paths and switches of tests and scripts.
const char* const kNotSettings[] = {"STMD_CONFIG", "STMD_TEST_CANARIES", "STMD_BINARY"};

std::string EnvironmentName(std::string_view setting) {
  std::string name = "STMD_";
  for (char c : setting)
    name.push_back(c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c))));
  return name;
}

std::string LimitName(const Setting& setting) {
  if (setting.limit != nullptr) return setting.limit;
  std::string name = setting.name;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

std::string PrintDuration(absl::Duration duration) {
  return duration == absl::InfiniteDuration() ? "all" : absl::FormatDuration(duration);
}

std::string Print(const Setting& setting, Config* config) {
  const void* field = setting.field(config);
  switch (setting.kind) {
    case Kind::kText:
      return *static_cast<const std::string*>(field);
    case Kind::kTexts:
      return absl::StrJoin(*static_cast<const std::vector<std::string>*>(field), ",");
    case Kind::kContainers: {
      const auto& settings = *static_cast<const std::vector<containers::ContainerSetting>*>(field);
      return absl::StrJoin(settings, ",", [](std::string* out, const containers::ContainerSetting& one) {
        absl::StrAppend(out, one.name, "=", containers::WithoutPassword(one.uri));
      });
    }
    case Kind::kFlag:
      return *static_cast<const bool*>(field) ? "true" : "false";
    case Kind::kCount:
      return absl::StrCat(*static_cast<const int64_t*>(field));
    case Kind::kCount32:
      return absl::StrCat(*static_cast<const uint32_t*>(field));
    case Kind::kBytes:
      return PrintBytes(*static_cast<const int64_t*>(field));
    case Kind::kDuration:
    case Kind::kAge:
      return PrintDuration(*static_cast<const absl::Duration*>(field));
  }
  return "";
}

std::string Range(const Setting& setting) {
  const auto bound = [&](int64_t b) {
    switch (setting.kind) {
      case Kind::kBytes:
        return PrintBytes(b);
      case Kind::kDuration:
      case Kind::kAge:
        return PrintDuration(absl::Milliseconds(b));
      default:
        return absl::StrCat(b);
    }
  };
  if (setting.max == kMany) return absl::StrCat("at least ", bound(setting.min));
  return absl::StrCat(bound(setting.min), " to ", bound(setting.max));
}

// What --print-config can print, and every log and file show: UTF-8 with no control characters.
absl::Status CheckText(const std::string& text) {
  const bool printable = lexical::IsUtf8(text) && std::none_of(text.begin(), text.end(), [](unsigned char c) {
                           return c < ' ' || c == 0x7f;
                         });
  if (printable) return absl::OkStatus();
  return absl::InvalidArgumentError("found control characters or bytes that are no UTF-8, expected text");
}

// A URI may have commas of its own: "mongodb://host1,host2/app".
std::vector<std::string> SplitContainers(const std::string& text) {
  const auto begins = [&text](size_t at) {
    const size_t end = text.find("://", at);
    const size_t equals = text.find('=', at);
    if (end == std::string::npos || equals == std::string::npos || equals > end) return false;
    return std::all_of(text.begin() + static_cast<ptrdiff_t>(at), text.begin() + static_cast<ptrdiff_t>(end),
                       [](unsigned char c) {
                         return absl::ascii_isalnum(c) || c == '_' || c == '-' || c == ':' || c == '=' || c == '+';
                       });
  };
  std::vector<std::string> parts;
  size_t begin = 0;
  for (size_t comma = text.find(','); comma != std::string::npos; comma = text.find(',', comma + 1)) {
    if (!begins(comma + 1)) continue;
    parts.push_back(text.substr(begin, comma - begin));
    begin = comma + 1;
  }
  parts.push_back(text.substr(begin));
  return parts;
}

absl::Status AssignContainers(const std::vector<std::string>& values,
                              std::vector<containers::ContainerSetting>* settings) {
  std::vector<std::string> texts;
  for (const std::string& value : values) {
    for (std::string& text : SplitContainers(value)) texts.push_back(std::move(text));
  }
  absl::StatusOr<std::vector<containers::ContainerSetting>> parsed = containers::ParseContainers(texts);
  if (!parsed.ok()) return parsed.status();
  for (const containers::ContainerSetting& one : *parsed) {
    // Only one that is shown for a password is shown so.
    if (absl::StrContains(one.uri, ":***@")) {
      return absl::InvalidArgumentError(
          absl::StrCat("container ", one.name,
                       ": its password is ***, which --print-config shows instead of it: give the password"));
    }
  }
  *settings = *std::move(parsed);
  return absl::OkStatus();
}

// INVALID_ARGUMENT: what is wrong with the value, without the setting's name.
absl::Status Assign(const Setting& setting, const std::vector<std::string>& values, Config* config) {
  void* field = setting.field(config);
  for (const std::string& value : values) {
    absl::Status text = CheckText(value);
    if (!text.ok()) return text;
  }
  if (setting.kind == Kind::kTexts) {
    std::vector<std::string> texts;
    for (const std::string& value : values) {
      size_t begin = 0;
      while (begin <= value.size()) {
        const size_t end = std::min(value.find(',', begin), value.size());
        if (end == begin) return absl::InvalidArgumentError("found an empty item");
        texts.push_back(value.substr(begin, end - begin));
        begin = end + 1;
      }
    }
    if (texts.empty()) return absl::InvalidArgumentError("found none, expected one at least");
    *static_cast<std::vector<std::string>*>(field) = std::move(texts);
    return absl::OkStatus();
  }
  if (setting.kind == Kind::kContainers) {
    return AssignContainers(values, static_cast<std::vector<containers::ContainerSetting>*>(field));
  }
  if (values.size() != 1) {
    return absl::InvalidArgumentError(absl::StrCat("found ", values.size(), " values, expected one"));
  }
  const std::string& value = values[0];
  const auto out_of_range = [&] {
    return absl::InvalidArgumentError(absl::StrCat("found ", value, ", expected ", Range(setting)));
  };
  switch (setting.kind) {
    case Kind::kText:
      if (static_cast<int64_t>(value.size()) < setting.min)
        return absl::InvalidArgumentError("found nothing");
      *static_cast<std::string*>(field) = value;
      return absl::OkStatus();
    case Kind::kFlag:
      if (value != "true" && value != "false") {
        return absl::InvalidArgumentError(absl::StrCat("found ", value, ", expected true or false"));
      }
      *static_cast<bool*>(field) = value == "true";
      return absl::OkStatus();
    case Kind::kCount:
    case Kind::kCount32: {
      int64_t count;
      if (!absl::SimpleAtoi(value, &count)) {
        return absl::InvalidArgumentError(absl::StrCat("found ", value, ", expected a whole number"));
      }
      if (count < setting.min || count > setting.max) return out_of_range();
      if (setting.kind == Kind::kCount) {
        *static_cast<int64_t*>(field) = count;
      } else {
        *static_cast<uint32_t*>(field) = static_cast<uint32_t>(count);
      }
      return absl::OkStatus();
    }
    case Kind::kBytes: {
      const absl::StatusOr<int64_t> bytes = ParseBytes(value);
      if (!bytes.ok()) return bytes.status();
      if (*bytes < setting.min || *bytes > setting.max) return out_of_range();
      *static_cast<int64_t*>(field) = *bytes;
      return absl::OkStatus();
    }
    case Kind::kDuration:
    case Kind::kAge: {
      absl::Duration duration;
      if (setting.kind == Kind::kAge && value == "all") {
        duration = absl::InfiniteDuration();
      } else if (!absl::ParseDuration(value, &duration) || duration == absl::InfiniteDuration()) {
        return absl::InvalidArgumentError(absl::StrCat("found ", value,
                                                       ", expected a time as 500ms, 60s, 10m or 24h",
                                                       setting.kind == Kind::kAge ? ", or all" : ""));
      }
      if (duration < absl::Milliseconds(setting.min) ||
          (setting.max != kMany && duration > absl::Milliseconds(setting.max))) {
        return out_of_range();
      }
      *static_cast<absl::Duration*>(field) = duration;
      return absl::OkStatus();
    }
    case Kind::kTexts:
    case Kind::kContainers:
      break;
  }
  return absl::OkStatus();
}

std::vector<std::string> SettingNames() {
  std::vector<std::string> names;
  for (const Setting& setting : kSettings) names.push_back(setting.name);
  return names;
}

std::string Suggestion(const std::string& nearest, std::string_view before) {
  return nearest.empty() ? "" : absl::StrCat("; did you mean ", Absl(before), nearest, "?");
}

// A value as a flag would spell it; nullopt: a TOML type that no setting has.
std::optional<std::string> TextOf(const toml::value& value) {
  if (value.is_string()) return value.as_string().str;
  if (value.is_integer()) return absl::StrCat(value.as_integer());
  if (value.is_boolean()) return value.as_boolean() ? "true" : "false";
  return std::nullopt;
}

using Given = std::map<std::string, std::vector<std::string>>;

// The parser calls itself at each level and does not count; settings need one, of an array.
constexpr int64_t kConfigBracketsMax = 100;  // one behind another, without a closing one between
constexpr int64_t kConfigBytesMax = 1 << 20;

// What must hold before the parser sees a text. Brackets in comments and quotes count too: nobody has so
// many.
absl::Status CheckFile(const std::string& path, const std::string& text) {
  if (static_cast<int64_t>(text.size()) > kConfigBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": found ", text.size(), " bytes, at most ",
                                                   kConfigBytesMax, " are read: is it the right file?"));
  }
  int64_t number = 0, open = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    if (!lexical::IsUtf8({line.data(), line.size()})) {
      return absl::InvalidArgumentError(absl::StrCat(path, ":", number, ": found bytes that are no UTF-8"));
    }
    for (const char c : line) {
      if (c == '[' || c == '{') ++open;
      if (c == ']' || c == '}') open = 0;
      if (open <= kConfigBracketsMax) continue;
      return absl::InvalidArgumentError(
          absl::StrCat(path, ":", number, ": found more than ", kConfigBracketsMax,
                       " opening brackets and none that closes: a setting is a string, a "
                       "whole number, a boolean, or an array of strings"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Given> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text;
  char part[4096];
  while (file.read(part, sizeof(part)) || file.gcount() > 0) {
    text.append(part, static_cast<size_t>(file.gcount()));
    if (static_cast<int64_t>(text.size()) > kConfigBytesMax) break;
  }
  if (!file.is_open() || file.bad()) {
    return absl::NotFoundError(absl::StrCat(
        "--config: ", path, ": can't be read: give the path of a TOML file that this user may read"));
  }
  absl::Status checked = CheckFile(path, text);
  if (!checked.ok()) return checked;
  toml::value root;
  try {
    std::istringstream in(text);
    root = toml::parse(in, path);
  } catch (const toml::exception& error) {
    // "[error] its own function's name: what is wrong", and a picture of the line.
    absl::string_view what = error.what();
    if (absl::ConsumePrefix(&what, "[error] toml::"))
      what.remove_prefix(std::min(what.find(": ") + 2, what.size()));
    return absl::InvalidArgumentError(
        absl::StrCat(path, ":", error.location().line(), ":", error.location().column(), ": ", what));
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", error.what()));
  }
  Given given;
  const std::vector<std::string> names = SettingNames();
  for (const auto& [name, value] : root.as_table()) {
    const std::string where = absl::StrCat(path, ":", value.location().line(), ": ");
    if (std::find(names.begin(), names.end(), name) == names.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, "unknown setting ", name, Suggestion(Nearest(name, names), "")));
    }
    std::vector<std::string>& values = given[name];
    if (value.is_array()) {
      for (const toml::value& item : value.as_array()) {
        const std::optional<std::string> text = TextOf(item);
        if (!text) return absl::InvalidArgumentError(absl::StrCat(where, name, ": expected strings"));
        values.push_back(*text);
      }
    } else {
      const std::optional<std::string> text = TextOf(value);
      if (!text) {
        return absl::InvalidArgumentError(
            absl::StrCat(where, name, ": expected a string, a whole number or a boolean"));
      }
      values.push_back(*text);
    }
  }
  return given;
}

// What only some coordinators have, and what follows from which it is.
absl::Status CheckCoordinator(const std::set<std::string>& given, Loaded* loaded) {
  Config& config = loaded->config;
  ZooKeeperSettings& told = config.zookeeper;
  if (!OverZooKeeper(config)) {
    if (config.coordinator != "local") {
      return absl::InvalidArgumentError(absl::StrCat("coordinator: found ", config.coordinator,
                                                     ", expected local or zk://host:port,host:port/chroot"));
    }
    // A printed configuration has the defaults of all.
    const Config defaults;
    const ZooKeeperSettings& unset = defaults.zookeeper;
    const char* idle = told.create                                       ? "create"
                       : told.advertise != unset.advertise               ? "advertise"
                       : told.credentials_file != unset.credentials_file ? "zookeeper-credentials-file"
                       : told.acl != unset.acl                           ? "zookeeper-acl"
                       : told.log_bytes != unset.log_bytes               ? "zookeeper-log-bytes"
                       : told.archive_dir != unset.archive_dir           ? "archive-dir"
                       : told.session.timeout != unset.session.timeout   ? "zookeeper-session-timeout"
                                                                         : nullptr;
    if (idle != nullptr) {
      return absl::InvalidArgumentError(absl::StrCat(
          idle, " is for many daemons over ZooKeeper: give --coordinator=zk://host:port/chroot with it"));
    }
    return absl::OkStatus();
  }
  if (config.ephemeral) {
    return absl::InvalidArgumentError(
        "--ephemeral keeps nothing: give it or --coordinator=zk://..., not both");
  }
  if (!config.data_dir.empty()) {
    return absl::InvalidArgumentError(
        "over ZooKeeper nothing is kept here: give --data-dir or --coordinator=zk://..., not both");
  }
  absl::StatusOr<zookeeper::ConnectString> connect =
      zookeeper::ParseConnectString(config.coordinator.substr(zookeeper::kScheme.size()));
  if (!connect.ok())
    return absl::InvalidArgumentError(absl::StrCat("coordinator: ", connect.status().message()));
  told.session.connect = *std::move(connect);
  if (!told.credentials_file.empty()) {
    bool others_may_read = false;
    absl::StatusOr<std::string> credentials =
        zookeeper::ReadCredentials(told.credentials_file, &others_may_read);
    if (!credentials.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("zookeeper-credentials-file: ", credentials.status().message()));
    }
    if (others_may_read) {
      loaded->warnings.push_back(absl::StrCat("others may read ", told.credentials_file,
                                              ", which holds a password: chmod 600 ", told.credentials_file));
    }
    told.session.credentials = *std::move(credentials);
  }
  if (told.acl == "creator") {
    if (told.credentials_file.empty()) {
      return absl::InvalidArgumentError(
          "zookeeper-acl: creator is whoever has these credentials: give "
          "--zookeeper-credentials-file with it");
    }
    told.session.acl = zookeeper::SessionOptions::Acl::kCreator;
  } else if (told.acl != "open") {
    return absl::InvalidArgumentError(
        absl::StrCat("zookeeper-acl: found ", told.acl, ", expected open or creator"));
  }
  if (told.advertise.empty()) {
    const std::optional<Address> address = ParseAddress(config.listen.front());
    if (!address || address->host.empty() || address->host == "0.0.0.0" || address->host == "::") {
      loaded->warnings.push_back(absl::StrCat("other daemons are told to find this one at ",
                                              config.listen.front(),
                                              ", which means nothing elsewhere: give --advertise=HOST:PORT"));
    }
  }
  struct Bound {
    const char* name;
    int64_t* value;
    int64_t max;
  };
  for (const Bound& bound :
       {Bound{"value-bytes-max", &config.engine.value_bytes_max, kZooKeeperBytesMax},
        Bound{"transaction-bytes-max", &config.engine.transaction_bytes_max, kZooKeeperBytesMax},
        Bound{"batch-bytes-max", &config.engine.batch_bytes_max, kZooKeeperBytesMax},
        Bound{"batch-transactions-max", &config.engine.batch_transactions_max,
              kZooKeeperBatchTransactionsMax}}) {
    if (given.count(bound.name) != 0 && *bound.value > bound.max) {
      const bool bytes = bound.max == kZooKeeperBytesMax;
      return absl::InvalidArgumentError(
          absl::StrCat(bound.name, ": found ", bytes ? PrintBytes(*bound.value) : absl::StrCat(*bound.value),
                       ", over ZooKeeper at most ", bytes ? PrintBytes(bound.max) : absl::StrCat(bound.max),
                       bytes ? ": a commit's values stand twice in one packet of its servers"
                             : ": a version has no room for more"));
    }
    *bound.value = std::min(*bound.value, bound.max);
  }
  config.engine.batches_in_flight_max = kZooKeeperBatchesInFlight;
  return absl::OkStatus();
}

}  // namespace

bool OverZooKeeper(const Config& config) {
  return absl::StartsWith(config.coordinator, Absl(zookeeper::kScheme));
}

absl::StatusOr<int64_t> ParseBytes(std::string_view text) {
  size_t digits = 0;
  while (digits < text.size() && text[digits] >= '0' && text[digits] <= '9') ++digits;
  const std::string_view unit = text.substr(digits);
  int shift = -1;
  if (unit.empty() || unit == "B") shift = 0;
  if (unit == "KiB") shift = 10;
  if (unit == "MiB") shift = 20;
  if (unit == "GiB") shift = 30;
  if (unit == "TiB") shift = 40;
  int64_t number;
  if (shift < 0 || digits == 0 || !absl::SimpleAtoi(Absl(text.substr(0, digits)), &number) ||
      number > (kMany >> shift)) {
    return absl::InvalidArgumentError(
        absl::StrCat("found ", Absl(text), ", expected bytes as 1048576, 64KiB, 256MiB, 4GiB or 1TiB"));
  }
  return number << shift;
}

std::string PrintBytes(int64_t bytes) {
  const char* const units[] = {"", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  while (unit < 4 && bytes != 0 && bytes % 1024 == 0) {
    bytes /= 1024;
    ++unit;
  }
  return absl::StrCat(bytes, units[unit]);
}

std::optional<Address> ParseAddress(const std::string& text) {
  const size_t colon = text.rfind(':');
  Address address;
  if (colon == std::string::npos || !absl::SimpleAtoi(text.substr(colon + 1), &address.port) ||
      address.port < 0 || address.port > 65535) {
    return std::nullopt;
  }
  address.host = address.written_host = text.substr(0, colon);
  std::string& host = address.host;
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  return address;
}

std::string Nearest(std::string_view name, const std::vector<std::string>& names) {
  // Damerau's distance with neighbours swapped (optimal string alignment).
  const auto distance = [](std::string_view a, std::string_view b) {
    std::vector<std::vector<size_t>> d(a.size() + 1, std::vector<size_t>(b.size() + 1));
    for (size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
    for (size_t j = 0; j <= b.size(); ++j) d[0][j] = j;
    for (size_t i = 1; i <= a.size(); ++i) {
      for (size_t j = 1; j <= b.size(); ++j) {
        d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
        if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
          d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
        }
      }
    }
    return d[a.size()][b.size()];
  };
  constexpr size_t kLongest = 128;
  if (name.size() > kLongest) return "";
  std::string nearest;
  size_t least = std::max<size_t>(2, name.size() / 2) + 1;
  for (const std::string& candidate : names) {
    size_t far = distance(name, candidate);
    // "history" and "data_dir" are meant to be "history-bytes" and "data-dir".
    if (name.size() >= 3 && candidate.size() > name.size() && candidate.compare(0, name.size(), name) == 0) {
      far = std::min<size_t>(far, 1);
    }
    if (far < least) {
      least = far;
      nearest = candidate;
    }
  }
  return nearest;
}

absl::StatusOr<Loaded> LoadConfig(const std::vector<std::string>& arguments,
                                  const std::vector<std::string>& environment) {
  Loaded loaded;
  const std::vector<std::string> names = SettingNames();

  // Flags.
  CLI::App app("stmd keeps refs and atoms that programs in any language change together in transactions.",
               "stmd");
  app.set_help_flag();
  app.allow_extras();
  bool help = false, version = false, check = false, print = false;
  std::string file;
  std::vector<std::string> canaries;
  app.add_flag("--help,-h", help, "print this");
  app.add_flag("--version", version, "print the program's version");
  app.add_flag("--check-config", check, "check all settings, then end: 0 when they are good");
  app.add_flag("--print-config", print,
               "print the settings in force with where each came from, as a file for --config");
  app.add_option("--config", file, "TOML file of settings by the names below; also STMD_CONFIG")
      ->type_name("FILE");
  app.add_option("--test-canary", canaries)->group("");
  std::map<std::string, std::vector<std::string>> flags;
  Config defaults;
  for (const Setting& setting : kSettings) {
    std::vector<std::string>& values = flags[setting.name];
    const std::string flag = absl::StrCat("--", setting.name);
    if (setting.kind == Kind::kFlag) {
      app.add_flag_callback(
          flag, [&values] { values.push_back("true"); }, setting.help);
      continue;
    }
    CLI::Option* option = app.add_option(flag, values, setting.help);
    option->type_size(1)->expected(1)->take_all();
    const std::string value = Print(setting, &defaults);
    option->type_name(value.empty() ? "TEXT" : absl::StrCat("[", value, "]"));
  }
  try {
    std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
    app.parse(reversed);
  } catch (const CLI::ParseError& error) {
    return absl::InvalidArgumentError(absl::StrCat(error.what(), "; see stmd --help"));
  }
  for (const std::string& extra : app.remaining()) {
    if (!absl::StartsWith(extra, "-")) {
      return absl::InvalidArgumentError(absl::StrCat("unexpected argument ", extra, "; see stmd --help"));
    }
    const std::string name = extra.substr(
        extra.find_first_not_of('-') == std::string::npos ? extra.size() : extra.find_first_not_of('-'));
    std::vector<std::string> all = names;
    for (const char* other : {"help", "version", "check-config", "print-config", "config"})
      all.push_back(other);
    return absl::InvalidArgumentError(
        absl::StrCat("unknown flag ", extra.substr(0, extra.find('=')),
                     Suggestion(Nearest(name.substr(0, name.find('=')), all), "--"), " See stmd --help"));
  }
  if (help) {
    loaded.action = Loaded::Action::kHelp;
    loaded.help = app.help();
    return loaded;
  }
  if (version) {
    loaded.action = Loaded::Action::kVersion;
    return loaded;
  }
  if (check) loaded.action = Loaded::Action::kCheckConfig;
  if (print) loaded.action = Loaded::Action::kPrintConfig;

  // Environment.
  Given from_environment;
  bool canaries_allowed = false;
  for (const std::string& variable : environment) {
    if (!absl::StartsWith(variable, "STMD_")) continue;
    const size_t equals = variable.find('=');
    if (equals == std::string::npos) continue;
    const std::string name = variable.substr(0, equals);
    const std::string value = variable.substr(equals + 1);
    if (name == "STMD_CONFIG" && file.empty()) file = value;
    if (name == "STMD_TEST_CANARIES") canaries_allowed = value == "1";
    if (std::find(std::begin(kNotSettings), std::end(kNotSettings), name) != std::end(kNotSettings)) continue;
    const auto setting = std::find_if(std::begin(kSettings), std::end(kSettings),
                                      [&](const Setting& s) { return EnvironmentName(s.name) == name; });
    if (setting != std::end(kSettings)) {
      from_environment[setting->name] = {value};
      continue;
    }
    // No error: Kubernetes puts STMD_SERVICE_HOST and its like beside every pod of a service named stmd.
    std::vector<std::string> all;
    for (const std::string& n : names) all.push_back(EnvironmentName(n));
    loaded.warnings.push_back(
        absl::StrCat("environment variable ", name, " is no setting", Suggestion(Nearest(name, all), "")));
  }

  // File.
  Given from_file;
  if (!file.empty()) {
    absl::StatusOr<Given> given = ReadFile(file);
    if (!given.ok()) return given.status();
    from_file = *std::move(given);
  }

  std::set<std::string> given;
  for (const Setting& setting : kSettings) {
    const std::vector<std::string>* values = nullptr;
    std::string origin = "default";
    std::string where;
    if (const auto& flag = flags[setting.name]; !flag.empty()) {
      values = &flag;
      origin = "flag";
      where = absl::StrCat("--", setting.name);
    } else if (const auto variable = from_environment.find(setting.name);
               variable != from_environment.end()) {
      values = &variable->second;
      origin = "environment";
      where = EnvironmentName(setting.name);
    } else if (const auto key = from_file.find(setting.name); key != from_file.end()) {
      values = &key->second;
      origin = "file";
      where = absl::StrCat(file, ": ", setting.name);
    }
    if (values != nullptr) {
      const absl::Status status = Assign(setting, *values, &loaded.config);
      if (!status.ok()) return absl::InvalidArgumentError(absl::StrCat(where, ": ", status.message()));
      given.insert(setting.name);
    }
    loaded.settings.push_back(EffectiveSetting{setting.name, "", origin});
  }

  Config& config = loaded.config;
  for (const std::string& name : canaries) {
    if (!canaries_allowed) {
      return absl::InvalidArgumentError(
          absl::StrCat("--test-canary=", name, " plants a bug: refused unless STMD_TEST_CANARIES=1"));
    }
    const auto canary = std::find_if(std::begin(kCanaries), std::end(kCanaries),
                                     [&](const Canary& c) { return name == c.name; });
    if (canary == std::end(kCanaries)) {
      std::vector<std::string> all;
      for (const Canary& c : kCanaries) all.push_back(c.name);
      return absl::InvalidArgumentError(absl::StrCat("--test-canary=", name, " is not known",
                                                     Suggestion(Nearest(name, all), "--test-canary=")));
    }
    *canary->field(&config) = true;
  }
  const std::vector<std::string> levels = {"trace", "debug", "info", "warn", "error", "off"};
  if (std::find(levels.begin(), levels.end(), config.log_level) == levels.end()) {
    return absl::InvalidArgumentError(absl::StrCat("log-level: found ", config.log_level,
                                                   ", expected one of ", absl::StrJoin(levels, ", ")));
  }
  for (const std::string& address : config.listen) {
    if (absl::StartsWith(address, "unix:") ? address.size() > 5 : ParseAddress(address).has_value()) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("listen: found ", address, ", expected host:port or unix:/path"));
  }
  if (config.http != "off" && !ParseAddress(config.http)) {
    return absl::InvalidArgumentError(
        absl::StrCat("http: found ", config.http, ", expected host:port or off"));
  }
  const absl::Status coordinator = CheckCoordinator(given, &loaded);
  if (!coordinator.ok()) return coordinator;
  if (config.engine.value_bytes_max > config.engine.transaction_bytes_max) {
    return absl::InvalidArgumentError(absl::StrCat(
        "value-bytes-max (", PrintBytes(config.engine.value_bytes_max), ") is above transaction-bytes-max (",
        PrintBytes(config.engine.transaction_bytes_max), "): raise the second"));
  }
  if (config.engine.reservation_min > config.engine.reservation_max) {
    return absl::InvalidArgumentError("reservation-min is above reservation-max: raise the second");
  }
  if (config.ephemeral) {
    if (!config.data_dir.empty()) {
      return absl::InvalidArgumentError("--ephemeral keeps nothing: give it or --data-dir, not both");
    }
    if (given.count("listen") == 0) config.listen = {"127.0.0.1:0"};
    if (given.count("http") == 0) config.http = "off";
  } else if (config.data_dir.empty() && !OverZooKeeper(config)) {
    return absl::InvalidArgumentError(
        "no data-dir: give --data-dir=DIR for a durable log, --coordinator=zk://... for one in ZooKeeper, or "
        "--ephemeral "
        "to keep all in memory");
  }
  for (size_t i = 0; i < loaded.settings.size(); ++i) loaded.settings[i].value = Print(kSettings[i], &config);
  return loaded;
}

std::string PrintConfig(const std::vector<EffectiveSetting>& settings) {
  std::string text;
  for (const EffectiveSetting& setting : settings) {
    if (setting.value.empty()) continue;
    std::string line = absl::StrCat(setting.name, " = ");
    // An EDN string of what a setting can hold is a TOML string.
    AppendEdnString(setting.value, &line);
    while (line.size() < 44) line.push_back(' ');
    absl::StrAppend(&text, line, " # ", setting.origin, "\n");
  }
  return text;
}

std::vector<std::pair<std::string, int64_t>> LimitsOf(const Config& config) {
  std::vector<std::pair<std::string, int64_t>> limits = {
      {"name_bytes_max", engine::kNameBytesMax}, {"name_segments_max", engine::kNameSegmentsMax},
      {"value_depth_max", kValueDepthMax},       {"value_wire_nesting_max", kWireNestingMax},
      {"path_items_max", engine::kPathItemsMax}, {"validator_rules_max", engine::kValidatorRulesMax},
      {"pipeline_calls_max", kPipelineCallsMax}, {"meta_bytes_max", kMetaBytesMax},
      {"history_page_max", kHistoryPageMax},     {"message_bytes_max", MessageBytesMax(config)},
  };
  for (const Setting& setting : kSettings) {
    const std::string name = LimitName(setting);
    if (name.empty()) continue;
    const void* field = setting.field(const_cast<Config*>(&config));
    if (setting.kind == Kind::kCount || setting.kind == Kind::kBytes) {
      limits.emplace_back(name, *static_cast<const int64_t*>(field));
    } else if (setting.kind == Kind::kDuration) {
      limits.emplace_back(name, absl::ToInt64Milliseconds(*static_cast<const absl::Duration*>(field)));
    }
  }
  return limits;
}

int64_t MessageBytesMax(const Config& config) {
  return std::min<int64_t>(2 * config.engine.transaction_bytes_max + (1 << 20),
                           std::numeric_limits<int32_t>::max());
}

}  // namespace stm::server
