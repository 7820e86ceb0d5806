// The one file that includes mongoc.h. What the library (1.23.1) does that its header does not say:
// - Its timeouts are of a pool, and of each read and write of a socket. Calls here have deadlines of their
// own: streams are wrapped
//   (BoundedStream) so that none waits past the deadline of the call that its thread is in.
// - A client of a pool waits for servers as long as its URI says. It says kSelectionStep, and calls ask
// again.
// - A pool that is full blocks, or fails after a time of its URI: who takes a client waits here, before.
// - It has no way to say maxTimeMS of a bulk of writes, and puts an update's where no server takes it.
// - After an error of the network it retries a write, if the server has sessions. That is off: container.cc
// repeats what it may.
#include "backends/mongodb/client.h"

#include <mongoc/mongoc.h>

#include <algorithm>
#include <cassert>
#include <cstring>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "backends/mongodb/together.h"
#include "spdlog/spdlog.h"

// The library's own way to a server, TLS and all. It exports this, and declares it in a header that it keeps.
extern "C" mongoc_stream_t* mongoc_client_default_stream_initiator(const mongoc_uri_t* uri,
                                                                   const mongoc_host_list_t* host,
                                                                   void* client, bson_error_t* error);

namespace stm::mongodb {
namespace {

// Of a wait for servers: how far past its deadline a call may be.
constexpr int kSelectionStepMs = 50;
// For connecting, where the URI says nothing. The library's own is 10 s.
constexpr int kConnectMs = 2'000;
// Of what is in no call: the goodbye of a pool.
constexpr int kSocketMs = 5'000;
constexpr absl::Duration kGoodbye = absl::Seconds(1);
// A server is told to give up a little before we do: its words say more than our clock.
constexpr double kServersShare = 0.9;
constexpr absl::Duration kClockGrain = absl::Milliseconds(10);
// Commands of inserts, and of deletes, at once. Two, so that one waits at the server while the other is on
// its way.
constexpr int kLanes = 2;
constexpr char kDatabase[] = "stmd";
constexpr char kMajority[] = "majority";
constexpr char kLinearizable[] = "linearizable";
// No number of the library's own.
constexpr int kBoundedStream = 1000;

int32_t Milliseconds(absl::Duration duration) {
  return static_cast<int32_t>(std::max<int64_t>(1, absl::ToInt64Milliseconds(duration)));
}

// ---- streams that keep a call's deadline

// Of the call that this thread is in.
thread_local const Deadline* current_deadline = nullptr;

class Call {
 public:
  explicit Call(const Deadline& deadline) { current_deadline = &deadline; }
  ~Call() { current_deadline = nullptr; }
};

int32_t Bounded(int32_t timeout_ms) {
  if (current_deadline == nullptr) return timeout_ms;
  const int32_t left = Milliseconds(current_deadline->Left());
  return timeout_ms <= 0 ? left : std::min(timeout_ms, left);
}

struct BoundedStream {
  mongoc_stream_t stream;  // first: the library's pointer to it is one to all of this
  mongoc_stream_t* within;
};

mongoc_stream_t* Within(mongoc_stream_t* stream) { return reinterpret_cast<BoundedStream*>(stream)->within; }

mongoc_stream_t* Bound(mongoc_stream_t* within) {
  auto* bounded = new BoundedStream();
  bounded->within = within;
  mongoc_stream_t& stream = bounded->stream;
  stream.type = kBoundedStream;
  stream.destroy = [](mongoc_stream_t* stream) {
    mongoc_stream_destroy(Within(stream));
    delete reinterpret_cast<BoundedStream*>(stream);
  };
  stream.failed = [](mongoc_stream_t* stream) {
    mongoc_stream_failed(Within(stream));
    delete reinterpret_cast<BoundedStream*>(stream);
  };
  stream.close = [](mongoc_stream_t* stream) { return mongoc_stream_close(Within(stream)); };
  stream.flush = [](mongoc_stream_t* stream) { return mongoc_stream_flush(Within(stream)); };
  stream.writev = [](mongoc_stream_t* stream, mongoc_iovec_t* pieces, size_t count, int32_t timeout_ms) {
    return mongoc_stream_writev(Within(stream), pieces, count, Bounded(timeout_ms));
  };
  stream.readv = [](mongoc_stream_t* stream, mongoc_iovec_t* pieces, size_t count, size_t bytes_min,
                    int32_t timeout_ms) {
    return mongoc_stream_readv(Within(stream), pieces, count, bytes_min, Bounded(timeout_ms));
  };
  stream.setsockopt = [](mongoc_stream_t* stream, int level, int name, void* value, mongoc_socklen_t length) {
    return mongoc_stream_setsockopt(Within(stream), level, name, value, length);
  };
  stream.get_base_stream = Within;
  stream.check_closed = [](mongoc_stream_t* stream) { return mongoc_stream_check_closed(Within(stream)); };
  stream.timed_out = [](mongoc_stream_t* stream) { return mongoc_stream_timed_out(Within(stream)); };
  stream.should_retry = [](mongoc_stream_t* stream) { return mongoc_stream_should_retry(Within(stream)); };
  return &stream;
}

mongoc_stream_t* Connect(const mongoc_uri_t* uri, const mongoc_host_list_t* host, void* client,
                         bson_error_t* error) {
  mongoc_uri_t* bounded = mongoc_uri_copy(uri);
  mongoc_uri_set_option_as_int32(
      bounded, MONGOC_URI_CONNECTTIMEOUTMS,
      Bounded(mongoc_uri_get_option_as_int32(uri, MONGOC_URI_CONNECTTIMEOUTMS, kConnectMs)));
  mongoc_stream_t* stream = mongoc_client_default_stream_initiator(bounded, host, client, error);
  mongoc_uri_destroy(bounded);
  return stream == nullptr ? nullptr : Bound(stream);
}

// ---- the library, once a process

// This thread is in Open.
thread_local bool opening = false;

// What goes wrong with a call its caller is told. What is wrong with a URI and does not stop it (an option
// that there is not) only the log is.
void Log(mongoc_log_level_t level, const char* domain, const char* message, void*) {
  if (level < MONGOC_LOG_LEVEL_WARNING || (opening && level == MONGOC_LOG_LEVEL_WARNING)) {
    spdlog::warn("mongodb_client domain={} said=\"{}\"", domain, message);
  }
}

void StartLibrary() {
  static const bool started = [] {
    mongoc_init();
    mongoc_log_set_handler(Log, nullptr);
    return true;
  }();
  (void)started;
}

// ---- errors

enum Code : uint32_t {
  kHostUnreachable = 6,
  kHostNotFound = 7,
  kUserNotFound = 11,
  kUnauthorized = 13,
  kAuthenticationFailed = 18,
  kLockTimeout = 24,
  kMaxTimeExpired = 50,
  kWriteConcernFailed = 64,
  kNetworkTimeout = 89,
  kShutdownInProgress = 91,
  kUnsatisfiableWriteConcern = 100,
  kWriteConflict = 112,
  kNoSuitableServer = 133,
  kMajorityNotAvailableYet = 134,
  kPrimarySteppedDown = 189,
  kExceededTimeLimit = 262,
  kSocketException = 9001,
  kLegacyNotPrimary = 10058,
  kNotWritablePrimary = 10107,
  kDocumentTooLarge = 10334,
  kDuplicateKey = 11000,
  kInterruptedAtShutdown = 11600,
  kInterrupted = 11601,
  kInterruptedByReplication = 11602,
  kNotPrimaryNoSecondaryOk = 13435,
  kNotPrimaryOrSecondary = 13436,
  kOutOfDiskSpace = 14031,
};

absl::Status Unavailable(absl::string_view what) { return absl::UnavailableError(what); }

absl::Status Denied(absl::string_view said) {
  return absl::PermissionDeniedError(
      absl::StrCat("MongoDB refuses the daemon's user: ", said,
                   ": give the user and password of the container's URI the role readWrite on this database "
                   "(authSource names where it is)"));
}

absl::Status Full(absl::string_view said) {
  return absl::ResourceExhaustedError(
      absl::StrCat("MongoDB is full: ", said, ": give it room; what is there stays readable"));
}

// What a server answered.
absl::Status StatusOfAnswer(uint32_t code, absl::string_view message) {
  const std::string said = absl::StrCat(message, " (code ", code, ")");
  switch (code) {
    case kDuplicateKey:
      return absl::AlreadyExistsError(said);
    case kUserNotFound:
    case kUnauthorized:
    case kAuthenticationFailed:
      return Denied(said);
    case kOutOfDiskSpace:
      return Full(said);
    case kDocumentTooLarge:
      return absl::ResourceExhaustedError(absl::StrCat(said, ": split the value"));
    case kWriteConcernFailed:
    case kUnsatisfiableWriteConcern:
      return Unavailable(
          absl::StrCat("no majority of its members has the write yet: ", said, ": are enough of them up?"));
    case kMaxTimeExpired:
    case kExceededTimeLimit:
    case kNetworkTimeout:
    case kLockTimeout:
      return Unavailable(absl::StrCat("MongoDB did not get it done in time: ", said));
    case kHostUnreachable:
    case kHostNotFound:
    case kShutdownInProgress:
    case kWriteConflict:
    case kNoSuitableServer:
    case kMajorityNotAvailableYet:
    case kPrimarySteppedDown:
    case kSocketException:
    case kLegacyNotPrimary:
    case kNotWritablePrimary:
    case kInterruptedAtShutdown:
    case kInterrupted:
    case kInterruptedByReplication:
    case kNotPrimaryNoSecondaryOk:
    case kNotPrimaryOrSecondary:
      return Unavailable(absl::StrCat("MongoDB can't do it just now: ", said));
    default:
      break;
  }
  // Without a code of their own: what hosted MongoDB says of a quota, and FerretDB of a disk.
  for (const char* full : {"space quota", "disk is full", "disk full", "o space left"}) {
    if (absl::StrContains(message, full)) return Full(said);
  }
  return absl::InternalError(absl::StrCat("MongoDB answers: ", said));
}

// The names of servers in an error, and what is wrong with each, stand in brackets; around them is advice on
// settings.
absl::string_view Reasons(absl::string_view message) {
  const size_t from = message.find('[');
  const size_t to = message.rfind(']');
  if (from == absl::string_view::npos || to == absl::string_view::npos || to < from)
    return "its servers do not answer";
  return message.substr(from + 1, to - from - 1);
}

// What broke, without the command that met it: the caller names that.
absl::string_view What(absl::string_view message) {
  const size_t command = message.rfind("\": ");
  return command == absl::string_view::npos ? message : message.substr(command + 3);
}

absl::Status StatusOf(bson_error_t error, const Deadline& deadline) {
  std::replace(std::begin(error.message), std::end(error.message), '\n', ' ');
  switch (error.domain) {
    case MONGOC_ERROR_SERVER:
    case MONGOC_ERROR_WRITE_CONCERN:
      return StatusOfAnswer(error.code, error.message);
    case MONGOC_ERROR_SERVER_SELECTION:
      return Unavailable(absl::StrCat("no primary can be reached: ", Reasons(error.message),
                                      ": is MongoDB up, and does the container's URI name its servers?"));
    case MONGOC_ERROR_STREAM:
      // The stream gave up a moment before the clock says so.
      if (deadline.Left() < kClockGrain) return Unavailable("MongoDB did not answer in time");
      return Unavailable(absl::StrCat("the connection broke: ", What(error.message)));
    case MONGOC_ERROR_CLIENT:
      if (error.code == MONGOC_ERROR_CLIENT_AUTHENTICATE) return Denied(error.message);
      return Unavailable(error.message);
    case MONGOC_ERROR_SASL:
    case MONGOC_ERROR_SCRAM:
      return Denied(error.message);
    case MONGOC_ERROR_PROTOCOL:
      return Unavailable(absl::StrCat("it answers as no MongoDB does: ", error.message,
                                      ": does the container's URI name one?"));
    default:
      return absl::InternalError(absl::StrCat("MongoDB's client says: ", error.message));
  }
}

// ---- what a URI may say

absl::Status Refused(absl::string_view option, absl::string_view found, absl::string_view wanted) {
  return absl::InvalidArgumentError(absl::StrCat("the URI has ", option, "=", found, ": stmd needs ", wanted,
                                                 ": leave ", option, " out of it"));
}

absl::Status CheckConcerns(const mongoc_uri_t* uri) {
  const mongoc_write_concern_t* writes = mongoc_uri_get_write_concern(uri);
  if (writes != nullptr) {
    const char* tag = mongoc_write_concern_get_wtag(writes);
    const int32_t w = mongoc_write_concern_get_w(writes);
    if (tag != nullptr) return Refused("w", tag, "a majority");
    if (w != MONGOC_WRITE_CONCERN_W_DEFAULT && !mongoc_write_concern_get_wmajority(writes)) {
      return Refused("w", absl::StrCat(w), "a majority");
    }
    if (mongoc_write_concern_journal_is_set(writes) && !mongoc_write_concern_get_journal(writes)) {
      return Refused("journal", "false", "what is acknowledged to be in the journal");
    }
  }
  const mongoc_read_concern_t* reads = mongoc_uri_get_read_concern(uri);
  const char* level = reads == nullptr ? nullptr : mongoc_read_concern_get_level(reads);
  if (level != nullptr && std::string_view(level) != kMajority)
    return Refused("readConcernLevel", level, "a majority");
  const mongoc_read_prefs_t* from = mongoc_uri_get_read_prefs_t(uri);
  if (from != nullptr && mongoc_read_prefs_get_mode(from) != MONGOC_READ_PRIMARY) {
    return Refused("readPreference", "another than primary", "the primary");
  }
  return absl::OkStatus();
}

void SetConcerns(mongoc_uri_t* uri) {
  mongoc_write_concern_t* writes = mongoc_write_concern_new();
  mongoc_write_concern_set_wmajority(writes, 0);
  mongoc_write_concern_set_journal(writes, true);
  mongoc_uri_set_write_concern(uri, writes);
  mongoc_write_concern_destroy(writes);
  mongoc_read_concern_t* reads = mongoc_read_concern_new();
  mongoc_read_concern_set_level(reads, kMajority);
  mongoc_uri_set_read_concern(uri, reads);
  mongoc_read_concern_destroy(reads);
  mongoc_read_prefs_t* from = mongoc_read_prefs_new(MONGOC_READ_PRIMARY);
  mongoc_uri_set_read_prefs_t(uri, from);
  mongoc_read_prefs_destroy(from);
}

std::string HostsOf(const mongoc_uri_t* uri) {
  if (const char* name = mongoc_uri_get_srv_hostname(uri)) return name;
  std::vector<std::string> hosts;
  for (const mongoc_host_list_t* host = mongoc_uri_get_hosts(uri); host != nullptr; host = host->next) {
    hosts.emplace_back(host->host_and_port);
  }
  return absl::StrJoin(hosts, ",");
}

// Owns a bson_t that is being built.
class Built {
 public:
  Built() = default;
  Built(const Built&) = delete;
  Built& operator=(const Built&) = delete;
  ~Built() { bson_destroy(&bson_); }
  bson_t* get() { return &bson_; }

 private:
  bson_t bson_ = BSON_INITIALIZER;
};

// {_id: id}.
void AppendId(const std::string& id, bson_t* filter) {
  bson_append_utf8(filter, "_id", -1, id.data(), static_cast<int>(id.size()));
}

// {version: {$not: {$gte: version}}}: below it, or not there at all, as in a document that somebody else
// made.
void AppendBelow(int64_t version, bson_t* filter) {
  bson_t none, least;
  bson_append_document_begin(filter, "version", -1, &none);
  bson_append_document_begin(&none, "$not", -1, &least);
  bson_append_int64(&least, "$gte", -1, version);
  bson_append_document_end(&none, &least);
  bson_append_document_end(filter, &none);
}

// How long the server may take.
void AppendTime(const Deadline& deadline, bson_t* options) {
  bson_append_int32(options, "maxTimeMS", -1, Milliseconds(deadline.Left() * kServersShare));
}

// Of a write, how long the server may wait for a majority. Documents need no check: bson.h made them.
void AppendConcern(const Deadline& deadline, bson_t* options) {
  mongoc_write_concern_t* concern = mongoc_write_concern_new();
  mongoc_write_concern_set_wmajority(concern, Milliseconds(deadline.Left() * kServersShare));
  mongoc_write_concern_set_journal(concern, true);
  mongoc_write_concern_append(concern, options);
  mongoc_write_concern_destroy(concern);
}

bson_t Document(const std::string& bytes) {
  bson_t document;
  [[maybe_unused]] const bool is_one =
      bson_init_static(&document, reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  assert(is_one);
  return document;
}

// ---- writes that go together

const Deadline& Earliest(const std::vector<Together::Write*>& writes) {
  return (*std::min_element(writes.begin(), writes.end(),
                            [](Together::Write* a, Together::Write* b) { return a->deadline < b->deadline; }))
      ->deadline;
}

// The status of each of the inserts of one command, where `whole` is what the library makes of its answer.
void SetStatuses(const bson_t& reply, const absl::Status& whole,
                 const std::vector<Together::Write*>& writes) {
  const auto for_each = [&](const char* name, const auto& take) {
    bson_iter_t at, error;
    if (!bson_iter_init_find(&at, &reply, name) || !BSON_ITER_HOLDS_ARRAY(&at) ||
        !bson_iter_recurse(&at, &error))
      return;
    while (bson_iter_next(&error)) {
      bson_iter_t field;
      uint32_t code = 0;
      size_t index = writes.size();
      std::string message;
      if (!BSON_ITER_HOLDS_DOCUMENT(&error) || !bson_iter_recurse(&error, &field)) continue;
      while (bson_iter_next(&field)) {
        const std::string_view key = bson_iter_key(&field);
        if (key == "code") code = static_cast<uint32_t>(bson_iter_as_int64(&field));
        if (key == "index") index = static_cast<size_t>(bson_iter_as_int64(&field));
        if (key == "errmsg" && BSON_ITER_HOLDS_UTF8(&field)) message = bson_iter_utf8(&field, nullptr);
      }
      take(index, StatusOfAnswer(code, message));
    }
  };
  size_t failed = 0;
  for_each("writeErrors", [&](size_t index, const absl::Status& status) {
    if (index >= writes.size()) return;
    writes[index]->status = status;
    ++failed;
  });
  // The others' fate: that of the command, unless it says that it did all of them.
  absl::Status others = whole;
  bson_iter_t inserted;
  if (failed > 0 && bson_iter_init_find(&inserted, &reply, "nInserted") &&
      static_cast<size_t>(bson_iter_as_int64(&inserted)) == writes.size() - failed) {
    others = absl::OkStatus();
    for_each("writeConcernErrors", [&](size_t, const absl::Status& status) { others = status; });
  }
  for (Together::Write* write : writes) {
    if (write->status.ok()) write->status = others;
  }
}

}  // namespace

class Client::Rep {
 public:
  Rep(mongoc_client_pool_t* pool, std::string database, std::string hosts, int size)
      : pool_(pool), database_(std::move(database)), hosts_(std::move(hosts)), size_(size) {}

  ~Rep() {
    // A server that hangs does not hold the daemon's end up.
    const Deadline goodbye(kGoodbye);
    const Call call(goodbye);
    mongoc_client_pool_destroy(pool_);
  }

  std::string Where(const std::string& collection) const {
    return absl::StrCat(database_, ".", collection, " at ", hosts_);
  }

  // Inserts and deletes by _id, those of one collection together.
  Together& inserts(const std::string& collection) { return LanesOf(collection).inserts; }
  Together& deletes(const std::string& collection) { return LanesOf(collection).deletes; }

  // Calls `ask(client, collection, error)`, which is false when it failed, with a connection of its own.
  template <typename Ask>
  absl::Status With(const std::string& collection, const Deadline& deadline, const Ask& ask) {
    if (!Enter(deadline)) {
      return Unavailable(absl::StrCat(
          "all ", size_,
          " connections are busy: is MongoDB slow, or is maxPoolSize of the container's URI too low?"));
    }
    const Call call(deadline);
    mongoc_client_t* client = mongoc_client_pool_pop(pool_);
    mongoc_client_set_stream_initiator(client, Connect, client);
    mongoc_collection_t* documents =
        mongoc_client_get_collection(client, database_.c_str(), collection.c_str());
    absl::Status status;
    do {
      bson_error_t error = {};
      status = ask(client, documents, &error) ? absl::OkStatus() : StatusOf(error, deadline);
      // Nothing was sent.
      if (error.domain != MONGOC_ERROR_SERVER_SELECTION) break;
    } while (!deadline.Passed());
    mongoc_collection_destroy(documents);
    mongoc_client_pool_push(pool_, client);
    Leave();
    return status;
  }

  // `append(bulk, what, error)` for each of the writes, in one command; one that is refused keeps no other
  // back.
  template <typename AppendWrite>
  absl::Status WithBulk(const std::string& collection, const std::vector<Together::Write*>& writes,
                        bson_t* reply, const AppendWrite& append) {
    const Deadline& earliest = Earliest(writes);
    return With(collection, earliest,
                [&](mongoc_client_t*, mongoc_collection_t* documents, bson_error_t* error) {
                  Built options;
                  bson_append_bool(options.get(), "ordered", -1, false);
                  AppendConcern(earliest, options.get());
                  mongoc_bulk_operation_t* bulk =
                      mongoc_collection_create_bulk_operation_with_opts(documents, options.get());
                  bool done = std::all_of(writes.begin(), writes.end(), [&](const Together::Write* write) {
                    return append(bulk, write->what, error);
                  });
                  if (done) {
                    bson_destroy(reply);
                    done = mongoc_bulk_operation_execute(bulk, reply, error) != 0;
                  }
                  mongoc_bulk_operation_destroy(bulk);
                  return done;
                });
  }

 private:
  struct Lanes {
    Together inserts{kLanes}, deletes{kLanes};
  };
  Lanes& LanesOf(const std::string& collection) {
    absl::MutexLock lock(&mutex_);
    return lanes_[collection];
  }

  bool Enter(const Deadline& deadline) {
    absl::MutexLock lock(&mutex_);
    const auto has_one = [this] {
      mutex_.AssertHeld();
      return busy_ < size_;
    };
    if (!mutex_.AwaitWithTimeout(absl::Condition(&has_one), std::max(deadline.Left(), absl::ZeroDuration())))
      return false;
    ++busy_;
    return true;
  }

  void Leave() {
    absl::MutexLock lock(&mutex_);
    --busy_;
  }

  mongoc_client_pool_t* const pool_;
  const std::string database_;
  const std::string hosts_;
  const int size_;
  absl::Mutex mutex_;
  int busy_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::string, Lanes> lanes_ ABSL_GUARDED_BY(mutex_);
};

absl::StatusOr<std::unique_ptr<Client>> Client::Open(const std::string& text) {
  StartLibrary();
  opening = true;
  const absl::Cleanup opened = [] { opening = false; };
  bson_error_t error = {};
  const std::unique_ptr<mongoc_uri_t, decltype(&mongoc_uri_destroy)> uri(
      mongoc_uri_new_with_error(text.c_str(), &error), mongoc_uri_destroy);
  const auto is_none = [&] {
    // What the library quotes may be a password, or a piece of one.
    const bool tells = absl::StrContains(error.message, "\"") && absl::StrContains(text, "@");
    return absl::InvalidArgumentError(absl::StrCat(
        "no URI of MongoDB: ", tells || error.message[0] == '\0' ? "it can't be parsed" : error.message,
        ": it is written mongodb://USER:PASSWORD@HOST:PORT/DATABASE?OPTIONS, with % and two digits for what "
        "is "
        "special in USER and PASSWORD"));
  };
  if (uri == nullptr) return is_none();
  if (absl::Status concerns = CheckConcerns(uri.get()); !concerns.ok()) return concerns;
  SetConcerns(uri.get());
  const int size = mongoc_uri_get_option_as_int32(uri.get(), MONGOC_URI_MAXPOOLSIZE, kPoolSize);
  if (size < 1) return Refused("maxPoolSize", absl::StrCat(size), "one connection or more");
  mongoc_uri_set_option_as_int32(uri.get(), MONGOC_URI_MAXPOOLSIZE, size);
  mongoc_uri_set_option_as_int32(uri.get(), MONGOC_URI_SERVERSELECTIONTIMEOUTMS, kSelectionStepMs);
  mongoc_uri_set_option_as_int32(uri.get(), MONGOC_URI_SOCKETTIMEOUTMS, kSocketMs);
  if (!mongoc_uri_has_option(uri.get(), MONGOC_URI_CONNECTTIMEOUTMS)) {
    mongoc_uri_set_option_as_int32(uri.get(), MONGOC_URI_CONNECTTIMEOUTMS, kConnectMs);
  }
  mongoc_uri_set_option_as_bool(uri.get(), MONGOC_URI_RETRYWRITES, false);
  mongoc_uri_set_option_as_bool(uri.get(), MONGOC_URI_RETRYREADS, false);
  if (mongoc_uri_get_appname(uri.get()) == nullptr) mongoc_uri_set_appname(uri.get(), "stmd");
  const char* named = mongoc_uri_get_database(uri.get());
  const std::string database = named != nullptr && *named != '\0' ? named : kDatabase;
  mongoc_client_pool_t* pool = mongoc_client_pool_new_with_error(uri.get(), &error);
  if (pool == nullptr) return is_none();
  mongoc_client_pool_set_error_api(pool, MONGOC_ERROR_API_VERSION_2);
  return std::unique_ptr<Client>(new Client(std::make_unique<Rep>(pool, database, HostsOf(uri.get()), size)));
}

Client::Client(std::unique_ptr<Rep> rep) : rep_(std::move(rep)) {}

Client::~Client() = default;

std::string Client::Where(const std::string& collection) const { return rep_->Where(collection); }

absl::Status Client::Insert(const std::string& collection, const std::string& bytes, const Deadline& deadline,
                            Sent sent) {
  const auto insert = [&](const std::vector<Together::Write*>& writes) {
    bson_t reply = BSON_INITIALIZER;
    const absl::Status whole =
        rep_->WithBulk(collection, writes, &reply,
                       [](mongoc_bulk_operation_t* bulk, const std::string& bytes, bson_error_t* error) {
                         const bson_t document = Document(bytes);
                         Built options;
                         bson_append_bool(options.get(), "validate", -1, false);
                         return mongoc_bulk_operation_insert_with_opts(bulk, &document, options.get(), error);
                       });
    SetStatuses(reply, whole, writes);
    bson_destroy(&reply);
  };
  if (sent == Sent::kTogether) return rep_->inserts(collection).Do(bytes, deadline, insert);
  Together::Write alone{bytes, deadline, absl::OkStatus()};
  insert({&alone});
  return alone.status;
}

absl::StatusOr<std::optional<std::string>> Client::Find(const std::string& collection, const std::string& id,
                                                        const Deadline& deadline) {
  Built filter;
  AppendId(id, filter.get());
  std::optional<std::string> found;
  const auto find = [&](mongoc_collection_t* documents, const char* level, bson_error_t* error) {
    Built options;
    bson_append_int64(options.get(), "limit", -1, 1);
    bson_append_bool(options.get(), "singleBatch", -1, true);
    mongoc_read_concern_t* concern = mongoc_read_concern_new();
    mongoc_read_concern_set_level(concern, level);
    mongoc_read_concern_append(concern, options.get());
    mongoc_read_concern_destroy(concern);
    AppendTime(deadline, options.get());
    mongoc_cursor_t* cursor =
        mongoc_collection_find_with_opts(documents, filter.get(), options.get(), nullptr);
    const bson_t* document = nullptr;
    if (mongoc_cursor_next(cursor, &document)) {
      found.emplace(reinterpret_cast<const char*>(bson_get_data(document)), document->len);
    }
    const bool failed = mongoc_cursor_error(cursor, error);
    mongoc_cursor_destroy(cursor);
    return !failed;
  };
  absl::Status status = rep_->With(
      collection, deadline,
      [&](mongoc_client_t* client, mongoc_collection_t* documents, bson_error_t* error) {
        if (!find(documents, kMajority, error)) return false;
        if (found) return true;
        // A primary that has been replaced and has not heard of it yet may not have the newest write. It is
        // asked again in the way that makes it see to that it still leads. A server that stands alone has no
        // such way, and need not.
        mongoc_server_description_t* server = mongoc_client_select_server(client, true, nullptr, error);
        if (server == nullptr) return false;
        const bool alone = std::string_view(mongoc_server_description_type(server)) == "Standalone";
        mongoc_server_description_destroy(server);
        return alone || find(documents, kLinearizable, error);
      });
  if (!status.ok()) return status;
  return found;
}

absl::Status Client::ReplaceBelow(const std::string& collection, const std::string& id, int64_t version,
                                  const std::string& bytes, const Deadline& deadline) {
  const bson_t document = Document(bytes);
  Built filter;
  AppendId(id, filter.get());
  AppendBelow(version, filter.get());
  return rep_->With(collection, deadline,
                    [&](mongoc_client_t*, mongoc_collection_t* documents, bson_error_t* error) {
                      Built options;
                      bson_append_bool(options.get(), "upsert", -1, true);
                      bson_append_bool(options.get(), "validate", -1, false);
                      AppendConcern(deadline, options.get());
                      return mongoc_collection_replace_one(documents, filter.get(), &document, options.get(),
                                                           nullptr, error);
                    });
}

absl::Status Client::Delete(const std::string& collection, const std::string& id, const Deadline& deadline,
                            Sent sent) {
  const auto remove = [&](const std::vector<Together::Write*>& writes) {
    bson_t reply = BSON_INITIALIZER;
    const absl::Status whole = rep_->WithBulk(
        collection, writes, &reply,
        [](mongoc_bulk_operation_t* bulk, const std::string& id, bson_error_t* error) {
          Built filter;
          AppendId(id, filter.get());
          return mongoc_bulk_operation_remove_one_with_opts(bulk, filter.get(), nullptr, error);
        });
    bson_destroy(&reply);
    for (Together::Write* write : writes) write->status = whole;
  };
  if (sent == Sent::kTogether) return rep_->deletes(collection).Do(id, deadline, remove);
  Together::Write alone{id, deadline, absl::OkStatus()};
  remove({&alone});
  return alone.status;
}

absl::Status Client::DeleteBelow(const std::string& collection, const std::string& id, int64_t version,
                                 const Deadline& deadline) {
  return rep_->With(
      collection, deadline, [&](mongoc_client_t*, mongoc_collection_t* documents, bson_error_t* error) {
        Built filter, options;
        AppendId(id, filter.get());
        AppendBelow(version, filter.get());
        AppendConcern(deadline, options.get());
        return mongoc_collection_delete_one(documents, filter.get(), options.get(), nullptr, error);
      });
}

}  // namespace stm::mongodb
