// The one file that includes zookeeper.h. What the library (3.8.0) does that its header does not say:
// - A multi that it can't send it goes on with, op by op, and frees paths that it never copied. That is so
//   when a path is bad: IsPath is asserted, and of a chroot, which makes it worse, the library never hears.
//   And when its I/O thread has just learnt that the session is over: see is_unrecoverable.
// - After some 65,000 calls that its I/O thread has not noticed yet it closes the connection in the caller's
//   thread. Hence kCallsUnderWayMax.
// - It looks the servers' names up before every wait for its sockets, several times a call: see
// kLookUpAgainMs.
// - What is under way when a handle is closed it may forget: calls belong to Wire, and are waited for.
#include "backends/zookeeper/c_session.h"

#include <dlfcn.h>
#include <zookeeper/zookeeper.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "spdlog/spdlog.h"

namespace {

// This thread is in zoo_amulti.
thread_local bool in_multi = false;

}  // namespace

// The library asks itself this, by a symbol that is found here first. Inside a multi the answer is always no:
// the multi is then taken whole, also by a session that is over, and Wire answers it.
int is_unrecoverable(zhandle_t* handle) { return !in_multi && zoo_state(handle) < 0 ? ZINVALIDSTATE : ZOK; }

namespace stm::zookeeper {
namespace {

// Until names that could not be looked up are tried again.
constexpr absl::Duration kOpenAgain = absl::Seconds(1);
// Servers' names are looked up again after so long, and when a connection is lost. At the library's default
// of 0 that took a fifth of a daemon's time.
constexpr int kLookUpAgainMs = 10'000;
// Digits of a sequential node, a sign (int32 wraps round), and the end of a C string.
constexpr size_t kSequenceRoom = 12;
// For the answers to what is under way when a session goes.
constexpr absl::Duration kLastAnswers = absl::Seconds(2);
// A packet with one path: header, length, watch.
constexpr size_t kCallBytes = 32;
// Errors that newer servers have.
constexpr int kQuotaExceeded = -125;

Code CodeOf(int rc) {
  switch (rc) {
    case ZOK:
      return Code::kOk;
    case ZNONODE:
      return Code::kNoNode;
    case ZNODEEXISTS:
      return Code::kNodeExists;
    case ZBADVERSION:
      return Code::kBadVersion;
    case ZNOTEMPTY:
      return Code::kNotEmpty;
    case ZNOAUTH:
      return Code::kNoAuth;
    case ZBADARGUMENTS:
    case ZINVALIDACL:
    case ZNOCHILDRENFOREPHEMERALS:
    case kQuotaExceeded:
      return Code::kRefused;
    default:
      return Code::kUnknown;
  }
}

Stat StatOf(const ::Stat& stat) {
  Stat ours;
  ours.czxid = stat.czxid;
  ours.mzxid = stat.mzxid;
  ours.version = stat.version;
  ours.cversion = stat.cversion;
  ours.num_children = stat.numChildren;
  ours.ephemeral_owner = stat.ephemeralOwner;
  ours.data_length = stat.dataLength;
  return ours;
}

// What `symbol` is found in, by whoever asks.
const void* ObjectOf(const char* symbol) {
  Dl_info info = {};
  dladdr(dlsym(RTLD_DEFAULT, symbol), &info);
  return info.dli_fbase;
}

void Log(const char* message) { spdlog::debug("zookeeper_client_said {}", message); }

}  // namespace

// A call. Its results are written by the library's thread, before the Loop is told that it is answered.
// `done` is the Loop's.
class Call {
 public:
  virtual ~Call() = default;
  // Calls `done` with what came, or with kUnknown and nothing else; once.
  virtual void TellAnswer() = 0;
  virtual void TellUnknown() = 0;
  virtual bool told() const = 0;
  // Nobody wants to know any more.
  virtual void Drop() = 0;

  Wire* wire = nullptr;
  uint64_t number = 0;
  Code code = Code::kUnknown;
};

class Wire : public std::enable_shared_from_this<Wire> {
 public:
  Wire(engine::Loop* loop, SessionOptions options, absl::AnyInvocable<void(const Event&)> on_event)
      : loop_(loop),
        options_(std::move(options)),
        on_event_(std::make_shared<absl::AnyInvocable<void(const Event&)>>(std::move(on_event))) {}

  const SessionOptions& options() const { return options_; }

  // On the Loop.
  //
  // Sends the call by `send`, which gives it to the library: ZOK, and then the library's callback calls
  // Arrived.
  template <typename C, typename Send>
  void Begin(std::unique_ptr<C> call, Send send) {
    C* const begun = Keep(std::move(call));
    const int rc = handle_ == nullptr || over_ ? ZINVALIDSTATE : send(handle_, begun);
    if (rc != ZOK) Refuse(begun, CodeOf(rc));
  }
  // Answers it without asking a server.
  template <typename C>
  void Begin(std::unique_ptr<C> call, Code refusal) {
    Refuse(Keep(std::move(call)), refusal);
  }
  // The session is gone.
  void Leave() {
    on_event_ = nullptr;
    for (auto& [number, call] : calls_) call->Drop();
    absl::MutexLock lock(&mutex_);
    leaving_ = true;
    answered_ = calls_.empty() || over_;
  }

  // The library's completion thread.
  void Arrived(Call* call) {
    loop_->Post([self = shared_from_this(), number = call->number] { self->Answer(number); });
  }
  void SessionEvent(zhandle_t* handle, int state);
  void Fired(const char* path);

  // The session's own thread: opens it, and closes it when it is gone.
  void Run();
  bool finished() const {
    absl::MutexLock lock(&mutex_);
    return finished_;
  }
  bool leaving() const {
    absl::MutexLock lock(&mutex_);
    return leaving_;
  }

  // Paths as the servers have them, and back.
  std::string Full(const std::string& path) const {
    const std::string& chroot = options_.connect.chroot;
    if (chroot.empty()) return path;
    return path == "/" ? chroot : chroot + path;
  }
  std::string Ours(const std::string& full) const {
    const size_t chroot = options_.connect.chroot.size();
    assert(full.compare(0, chroot, options_.connect.chroot) == 0);
    return full.size() == chroot ? "/" : full.substr(chroot);
  }

 private:
  template <typename C>
  C* Keep(std::unique_ptr<C> call) {
    assert(calls_.size() < kCallsUnderWayMax);
    C* const kept = call.get();
    call->wire = this;
    call->number = next_number_++;
    calls_.emplace(call->number, std::move(call));
    return kept;
  }
  void Refuse(Call* call, Code code) {
    call->code = code;
    Arrived(call);
  }
  void Answer(uint64_t number) {
    auto call = calls_.extract(number);
    if (!call.mapped()->told()) call.mapped()->TellAnswer();
    if (on_event_ != nullptr || !calls_.empty()) return;
    absl::MutexLock lock(&mutex_);
    answered_ = true;
  }
  void Happened(Event event, zhandle_t* handle);
  zhandle_t* OpenHandle();

  engine::Loop* const loop_;
  const SessionOptions options_;

  // The Loop's.
  std::shared_ptr<absl::AnyInvocable<void(const Event&)>> on_event_;  // null: the session is gone
  zhandle_t* handle_ = nullptr;                                       // from the first connection on
  bool connected_ = false;
  uint64_t session_ = 0;  // its id, once connected
  bool over_ = false;     // expired, or not let in
  uint64_t next_number_ = 1;
  absl::flat_hash_map<uint64_t, std::unique_ptr<Call>> calls_;

  // The completion thread's.
  bool credentials_given_ = false;

  mutable absl::Mutex mutex_;
  bool leaving_ ABSL_GUARDED_BY(mutex_) = false;
  bool answered_ ABSL_GUARDED_BY(mutex_) = false;  // it is leaving, and nothing is under way
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

namespace {

template <typename... Answers>
struct CallFor : Call {
  absl::AnyInvocable<void(Answers...)> done;

  bool told() const final { return done == nullptr; }
  void Drop() final { done = nullptr; }
  void Tell(Answers... answers) { std::exchange(done, nullptr)(std::move(answers)...); }
};

struct MultiCall final : CallFor<MultiResult> {
  std::vector<zoo_op_result_t> slots;
  std::vector<::Stat> stats;         // one an op; of sets
  std::vector<std::string> created;  // one an op; of creates, with room for the digits

  void TellAnswer() override {
    MultiResult result;
    result.code = code;
    if (code == Code::kOk) {
      result.results.reserve(slots.size());
      for (size_t i = 0; i < slots.size(); ++i) {
        OpResult op;
        if (slots[i].value != nullptr) op.path = wire->Ours(slots[i].value);
        if (slots[i].stat != nullptr) op.stat = StatOf(*slots[i].stat);
        result.results.push_back(std::move(op));
      }
    } else {
      const auto failed = std::find_if(slots.begin(), slots.end(), [](const zoo_op_result_t& slot) {
        return slot.err != ZOK && slot.err != ZRUNTIMEINCONSISTENCY;
      });
      if (failed != slots.end()) result.failed = failed - slots.begin();
    }
    Tell(std::move(result));
  }
  void TellUnknown() override { Tell(MultiResult()); }
};

struct GetCall final : CallFor<Code, std::string, Stat> {
  std::string data;
  Stat stat;

  void TellAnswer() override { Tell(code, std::move(data), stat); }
  void TellUnknown() override { Tell(Code::kUnknown, "", Stat()); }
};

struct ExistsCall final : CallFor<Code, Stat> {
  Stat stat;

  void TellAnswer() override { Tell(code, stat); }
  void TellUnknown() override { Tell(Code::kUnknown, Stat()); }
};

struct ChildrenCall final : CallFor<Code, std::vector<std::string>> {
  std::vector<std::string> names;

  void TellAnswer() override { Tell(code, std::move(names)); }
  void TellUnknown() override { Tell(Code::kUnknown, {}); }
};

struct SyncCall final : CallFor<Code> {
  void TellAnswer() override { Tell(code); }
  void TellUnknown() override { Tell(Code::kUnknown); }
};

// What the library's completion thread calls.

template <typename C>
C* CallOf(int rc, const void* data) {
  C* const call = static_cast<C*>(const_cast<void*>(data));
  call->code = CodeOf(rc);
  return call;
}

void OnMulti(int rc, const void* data) {
  MultiCall* const call = CallOf<MultiCall>(rc, data);
  call->wire->Arrived(call);
}

void OnGet(int rc, const char* value, int value_bytes, const ::Stat* stat, const void* data) {
  GetCall* const call = CallOf<GetCall>(rc, data);
  if (rc == ZOK && value_bytes > 0) call->data.assign(value, value_bytes);
  if (rc == ZOK) call->stat = StatOf(*stat);
  call->wire->Arrived(call);
}

void OnExists(int rc, const ::Stat* stat, const void* data) {
  ExistsCall* const call = CallOf<ExistsCall>(rc, data);
  if (rc == ZOK) call->stat = StatOf(*stat);
  call->wire->Arrived(call);
}

void OnChildren(int rc, const String_vector* names, const void* data) {
  ChildrenCall* const call = CallOf<ChildrenCall>(rc, data);
  if (rc == ZOK) call->names.assign(names->data, names->data + names->count);
  call->wire->Arrived(call);
}

void OnSync(int rc, const char* path, const void* data) {
  SyncCall* const call = CallOf<SyncCall>(rc, data);
  call->wire->Arrived(call);
}

void OnSessionEvent(zhandle_t* handle, int type, int state, const char* path, void* wire) {
  if (type == ZOO_SESSION_EVENT) static_cast<Wire*>(wire)->SessionEvent(handle, state);
}

// Of each watch; the library tells those of session events too.
void OnWatch(zhandle_t* handle, int type, int state, const char* path, void* wire) {
  if (type != ZOO_SESSION_EVENT) static_cast<Wire*>(wire)->Fired(path);
}

watcher_fn WatcherOf(Watch watch) { return watch == Watch::kYes ? OnWatch : nullptr; }

}  // namespace

void Wire::SessionEvent(zhandle_t* handle, int state) {
  Event event;
  if (state == ZOO_CONNECTED_STATE) {
    // Here, since the library takes none while it is between two connections. From now on it sends them by
    // itself first.
    const std::string& credentials = options_.credentials;
    if (!credentials.empty() && !credentials_given_) {
      const int size = static_cast<int>(credentials.size());
      // It is between two connections again: no matter, there will be another.
      if (zoo_add_auth(handle, "digest", credentials.data(), size, nullptr, nullptr) != ZOK) return;
      credentials_given_ = true;
    }
    event.kind = Event::Kind::kConnected;
    event.id = zoo_client_id(handle)->client_id;
    event.timeout = absl::Milliseconds(zoo_recv_timeout(handle));
  } else if (state == ZOO_CONNECTING_STATE) {
    event.kind = Event::Kind::kConnecting;
  } else if (state == ZOO_EXPIRED_SESSION_STATE) {
    event.kind = Event::Kind::kExpired;
  } else if (state == ZOO_AUTH_FAILED_STATE) {
    event.kind = Event::Kind::kAuthFailed;
  } else {
    return;
  }
  loop_->Post([self = shared_from_this(), event, handle] { self->Happened(event, handle); });
}

void Wire::Fired(const char* path) {
  Event event;
  event.kind = Event::Kind::kWatch;
  event.path = Ours(path);
  loop_->Post([self = shared_from_this(), event] { self->Happened(event, nullptr); });
}

void Wire::Happened(Event event, zhandle_t* handle) {
  // It may destroy the session.
  const auto on_event = on_event_;
  if (on_event == nullptr || over_) return;
  switch (event.kind) {
    case Event::Kind::kConnected:
      handle_ = handle;
      connected_ = true;
      session_ = static_cast<uint64_t>(event.id);
      spdlog::info("zookeeper_connected session={:016x} servers={}", session_, options_.connect.servers);
      break;
    case Event::Kind::kConnecting:
      // Of a connection that ended before the credentials were out, nobody heard.
      if (!connected_) return;
      connected_ = false;
      spdlog::warn("zookeeper_lost session={:016x} servers={}", session_, options_.connect.servers);
      break;
    case Event::Kind::kExpired:
      spdlog::warn("zookeeper_session_expired session={:016x}", session_);
      over_ = true;
      break;
    case Event::Kind::kAuthFailed:
      over_ = true;
      break;
    case Event::Kind::kWatch:
      break;
  }
  std::vector<uint64_t> unanswered;
  if (over_) {
    for (const auto& [number, call] : calls_) unanswered.push_back(number);
    std::sort(unanswered.begin(), unanswered.end());
  }
  (*on_event)(event);
  for (const uint64_t number : unanswered) {
    // What the library still says of them, or will say when it is closed, is too late.
    const auto call = calls_.find(number);
    if (call != calls_.end() && !call->second->told()) call->second->TellUnknown();
  }
}

zhandle_t* Wire::OpenHandle() {
  bool warned = false;
  for (;;) {
    const int timeout_ms = static_cast<int>(absl::ToInt64Milliseconds(options_.timeout));
    zhandle_t* const handle =
        zookeeper_init2(options_.connect.servers.c_str(), OnSessionEvent, timeout_ms, nullptr, this, 0, Log);
    if (handle != nullptr) {
      zoo_set_servers_resolution_delay(handle, kLookUpAgainMs);
      return handle;
    }
    const int error = errno;
    if (!std::exchange(warned, true)) {
      // What it makes of a name that is not found.
      const char* const why = error == ENOENT ? "no such host" : std::strerror(error);
      spdlog::warn("zookeeper_not_found servers={} why=\"{}\" again_every={}", options_.connect.servers, why,
                   absl::FormatDuration(kOpenAgain));
    }
    absl::MutexLock lock(&mutex_);
    if (mutex_.AwaitWithTimeout(absl::Condition(&leaving_), kOpenAgain)) return nullptr;
  }
}

void Wire::Run() {
  zhandle_t* const handle = OpenHandle();
  {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&leaving_));
    mutex_.AwaitWithTimeout(absl::Condition(&answered_), kLastAnswers);
  }
  if (handle != nullptr) zookeeper_close(handle);
  absl::MutexLock lock(&mutex_);
  finished_ = true;
}

namespace {

class CSession final : public Session {
 public:
  explicit CSession(std::shared_ptr<Wire> wire) : wire_(std::move(wire)) {}
  ~CSession() override { wire_->Leave(); }

  void Multi(std::vector<Op> ops, absl::AnyInvocable<void(MultiResult)> done) override;
  void Get(std::string path, Watch watch, absl::AnyInvocable<void(Code, std::string, Stat)> done) override;
  void Exists(std::string path, Watch watch, absl::AnyInvocable<void(Code, Stat)> done) override;
  void Children(std::string path, absl::AnyInvocable<void(Code, std::vector<std::string>)> done) override;
  void Sync(std::string path, absl::AnyInvocable<void(Code)> done) override;

 private:
  // Begins a call of one path.
  template <typename C, typename Send>
  void Begin(std::unique_ptr<C> call, const std::string& path, Send send) {
    assert(IsPath(path));
    const std::string full = wire_->Full(path);
    if (kCallBytes + full.size() > kPacketBytesMax) return wire_->Begin(std::move(call), Code::kTooLarge);
    wire_->Begin(std::move(call),
                 [&](zhandle_t* handle, C* begun) { return send(handle, full.c_str(), begun); });
  }

  const std::shared_ptr<Wire> wire_;
};

void CSession::Multi(std::vector<Op> ops, absl::AnyInvocable<void(MultiResult)> done) {
  assert(!ops.empty());
  auto call = std::make_unique<MultiCall>();
  call->done = std::move(done);
  if (MultiBytes(ops, wire_->options().connect.chroot.size()) > kPacketBytesMax) {
    return wire_->Begin(std::move(call), Code::kTooLarge);
  }
  const ACL_vector* const acl =
      wire_->options().acl == SessionOptions::Acl::kOpen ? &ZOO_OPEN_ACL_UNSAFE : &ZOO_CREATOR_ALL_ACL;
  const size_t count = ops.size();
  call->slots.resize(count);
  call->stats.resize(count);
  call->created.resize(count);
  // The library copies all of it but where results go, into the packet.
  std::vector<std::string> paths;
  std::vector<zoo_op_t> theirs(count);
  paths.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    const Op& op = ops[i];
    const char* const path = paths.emplace_back(wire_->Full(op.path())).c_str();
    const int bytes = static_cast<int>(op.data().size());
    switch (op.kind()) {
      case Op::Kind::kCheck:
        zoo_check_op_init(&theirs[i], path, op.version());
        break;
      case Op::Kind::kSet:
        zoo_set_op_init(&theirs[i], path, op.data().data(), bytes, op.version(), &call->stats[i]);
        break;
      case Op::Kind::kCreate: {
        const int mode = op.mode() == Op::Mode::kEphemeral    ? ZOO_EPHEMERAL
                         : op.mode() == Op::Mode::kSequential ? ZOO_PERSISTENT_SEQUENTIAL
                                                              : ZOO_PERSISTENT;
        std::string& created = call->created[i];
        created.resize(paths[i].size() + kSequenceRoom);
        zoo_create_op_init(&theirs[i], path, op.data().data(), bytes, acl, mode, created.data(),
                           static_cast<int>(created.size()));
        break;
      }
      case Op::Kind::kDelete:
        zoo_delete_op_init(&theirs[i], path, op.version());
        break;
    }
  }
  wire_->Begin(std::move(call), [&](zhandle_t* handle, MultiCall* begun) {
    in_multi = true;
    const int rc =
        zoo_amulti(handle, static_cast<int>(count), theirs.data(), begun->slots.data(), OnMulti, begun);
    in_multi = false;
    return rc;
  });
}

void CSession::Get(std::string path, Watch watch, absl::AnyInvocable<void(Code, std::string, Stat)> done) {
  auto call = std::make_unique<GetCall>();
  call->done = std::move(done);
  Begin(std::move(call), path, [&](zhandle_t* handle, const char* full, GetCall* begun) {
    return zoo_awget(handle, full, WatcherOf(watch), wire_.get(), OnGet, begun);
  });
}

void CSession::Exists(std::string path, Watch watch, absl::AnyInvocable<void(Code, Stat)> done) {
  auto call = std::make_unique<ExistsCall>();
  call->done = std::move(done);
  Begin(std::move(call), path, [&](zhandle_t* handle, const char* full, ExistsCall* begun) {
    return zoo_awexists(handle, full, WatcherOf(watch), wire_.get(), OnExists, begun);
  });
}

void CSession::Children(std::string path, absl::AnyInvocable<void(Code, std::vector<std::string>)> done) {
  auto call = std::make_unique<ChildrenCall>();
  call->done = std::move(done);
  Begin(std::move(call), path, [](zhandle_t* handle, const char* full, ChildrenCall* begun) {
    return zoo_awget_children(handle, full, nullptr, nullptr, OnChildren, begun);
  });
}

void CSession::Sync(std::string path, absl::AnyInvocable<void(Code)> done) {
  auto call = std::make_unique<SyncCall>();
  call->done = std::move(done);
  Begin(std::move(call), path, [](zhandle_t* handle, const char* full, SyncCall* begun) {
    return zoo_async(handle, full, OnSync, begun);
  });
}

}  // namespace

CSessions::CSessions(engine::Loop* loop) : loop_(loop) {
  assert(ObjectOf("is_unrecoverable") != ObjectOf("zoo_amulti"));
  // Attempts that fail are warnings there; they go to our log as details.
  zoo_set_debug_level(ZOO_LOG_LEVEL_WARN);
}

CSessions::~CSessions() {
  for (Keeper& keeper : keepers_) {
    assert(keeper.wire->leaving());
    keeper.thread.join();
  }
}

void CSessions::Reap() {
  const auto finished = [](Keeper& keeper) {
    if (!keeper.wire->finished()) return false;
    keeper.thread.join();
    return true;
  };
  keepers_.erase(std::remove_if(keepers_.begin(), keepers_.end(), finished), keepers_.end());
}

std::unique_ptr<Session> CSessions::Open(SessionOptions options,
                                         absl::AnyInvocable<void(const Event&)> on_event) {
  assert(options.acl == SessionOptions::Acl::kOpen || !options.credentials.empty());
  Reap();
  auto wire = std::make_shared<Wire>(loop_, std::move(options), std::move(on_event));
  keepers_.push_back({wire, std::thread([wire] { wire->Run(); })});
  return std::make_unique<CSession>(std::move(wire));
}

}  // namespace stm::zookeeper
