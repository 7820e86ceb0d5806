#include "tests/simulation/sim_zookeeper.h"

#include <algorithm>
#include <cassert>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace stm::sim {
namespace {

using zookeeper::Code;
using zookeeper::Event;
using zookeeper::kPacketBytesMax;
using zookeeper::MultiResult;
using zookeeper::Op;
using zookeeper::OpResult;
using zookeeper::SessionOptions;
using zookeeper::Stat;
using zookeeper::Watch;

// What servers see to by themselves they see to so often.
constexpr absl::Duration kTick = absl::Milliseconds(20);
// Of a packet with one path, but for the path.
constexpr size_t kCallBytes = 32;
constexpr int kEpochShift = 32;

}  // namespace

// One direction of a link: its tasks run in order, each no sooner than its time, and none while it is shut.
class SimEnsemble::Channel {
 public:
  explicit Channel(std::function<bool()> is_shut) : shut(std::move(is_shut)) {}

  std::deque<std::pair<absl::Duration, engine::Task>> tasks;
  absl::Duration last;  // nothing arrives before what was sent before
  absl::Duration lag;   // more, for all that is in it
  const std::function<bool()> shut;
};

// Of a server's log.
struct SimEnsemble::Entry {
  Transaction transaction;
  MultiResult result;
  uint64_t connection = 0;  // where it was asked for; 0: nobody waits
  uint64_t number = 0;      // of the call
};

struct SimEnsemble::Request {
  enum class Kind : uint8_t {
    kConnect,
    kMulti,
    kGet,
    kExists,
    kChildren,
    kSync,
    kPing,
    kSetWatches,
    kClose,
    kEnd,  // of the connection
  };
  Kind kind = Kind::kPing;
  uint64_t number = 0;
  std::string path;
  Watch watch = Watch::kNo;
  std::vector<Op> ops;
  // Of kConnect; zxid: of kSetWatches too.
  int64_t session = 0;
  int64_t zxid = 0;
  absl::Duration timeout;
  // Of kSetWatches: for data or deletion, and for creation.
  std::set<std::string> data_watches;
  std::set<std::string> made_watches;
};

struct SimEnsemble::Reply {
  enum class Kind : uint8_t { kAnswer, kConnected, kExpired, kAuthFailed, kWatch };
  Kind kind = Kind::kAnswer;
  uint64_t number = 0;  // of the call; 0: of none
  MultiResult result;   // of a multi; its code is every call's
  std::string data;
  Stat stat;
  std::vector<std::string> names;
  std::string path;
  int64_t session = 0;
  int64_t zxid = 0;  // of the last transaction that the server had done
  absl::Duration timeout;
};

struct SimEnsemble::Call {
  uint64_t number = 0;
  Request request;
  absl::AnyInvocable<void(Reply)> done;  // null: nobody wants to know any more
};

struct SimEnsemble::Connection {
  uint64_t id = 0;
  std::string client;
  std::string credentials;
  SessionOptions::Acl acl = SessionOptions::Acl::kOpen;
  int server = 0;
  int64_t session = 0;  // 0: not connected yet
  std::shared_ptr<Wire> wire;
  std::shared_ptr<Channel> up;    // to the server
  std::shared_ptr<Channel> down;  // to the client
  bool client_open = true;
  bool server_open = true;
  // The server's.
  std::deque<Request> line;  // not answered yet
  uint64_t committed = 0;    // the last multi of those that were done
};

struct SimEnsemble::Server {
  enum class Role : uint8_t { kLooking, kFollowing, kLeading };

  int number = 0;
  bool up = false;
  bool frozen = false;
  bool parted = false;
  bool holed = false;
  bool misses_next = false;
  absl::Duration lag;
  Role role = Role::kLooking;
  int64_t epoch = 0;     // the newest it took part in
  uint64_t reign = 0;    // of the leader that it follows or is; 0: it is looking
  int leader = 0;        // while it follows or leads
  absl::Duration heard;  // of the leader, or leading, of a quorum

  std::vector<EntryPtr> log;
  size_t synced = 0;   // entries that a kill leaves
  size_t applied = 0;  // entries in `znodes`
  Znodes znodes;
  std::map<std::string, std::set<uint64_t>> watches;  // connections, by path

  std::shared_ptr<Channel> to_leader;
  std::shared_ptr<Channel> from_leader;
  std::shared_ptr<Channel> disk;
  std::shared_ptr<Channel> backlog;  // what the leader has it do

  // Leading.
  Znodes ahead;  // with all of the log
  int64_t counter = 0;
  size_t committed = 0;
  std::map<int, size_t> acked;                                 // entries, by server
  std::map<int64_t, uint64_t> owners;                          // connections, by session
  std::map<int64_t, absl::Duration> touched;                   // sessions, last heard of
  std::deque<std::pair<size_t, std::function<void()>>> syncs;  // once so many entries are committed
};

// What a client's library is: it connects, waits, and tells the Loop.
class SimEnsemble::Wire : public std::enable_shared_from_this<Wire> {
 public:
  Wire(SimEnsemble* ensemble, engine::Loop* loop, std::string client, SessionOptions options,
       absl::AnyInvocable<void(const Event&)> on_event)
      : number_(ensemble->next_number_++),
        ensemble_(*ensemble),
        world_(*ensemble->world_),
        loop_(*loop),
        client_(std::move(client)),
        options_(std::move(options)),
        on_event_(std::make_shared<absl::AnyInvocable<void(const Event&)>>(std::move(on_event))),
        timeout_(options_.timeout) {
    for (absl::string_view server : absl::StrSplit(options_.connect.servers, ',')) {
      int host = 0;
      const bool is_number = absl::SimpleAtoi(server.substr(server.rfind(':') + 1), &host);
      assert(is_number && host >= 1 && host <= ensemble_.size());
      hosts_.push_back(host);
    }
    for (size_t i = hosts_.size(); i > 1; --i) std::swap(hosts_[i - 1], hosts_[ensemble_.chance().Below(i)]);
  }

  uint64_t number() const { return number_; }
  const std::string& client() const { return client_; }
  size_t chroot_bytes() const { return options_.connect.chroot.size(); }

  // On the Loop.
  void Begin(Request request, size_t bytes, absl::AnyInvocable<void(Reply)> done);
  // The session is gone.
  void Leave();
  std::string Full(const std::string& path) const {
    if (options_.connect.chroot.empty()) return path;
    return path == "/" ? options_.connect.chroot : options_.connect.chroot + path;
  }
  std::string Ours(const std::string& full) const {
    const std::string ours = full.substr(chroot_bytes());
    return ours.empty() ? "/" : ours;
  }

  // The library's.
  void Try();
  void Receive(const std::shared_ptr<Connection>& connection, Reply reply);
  void Lose(const std::shared_ptr<Connection>& connection, Fate fate = Fate::kAny,
            absl::Duration late = absl::ZeroDuration());
  // Its process is killed.
  void Die() {
    Drop();
    state_ = State::kOver;
  }

 private:
  enum class State : uint8_t { kConnecting, kConnected, kOver };

  void Drop() {
    on_event_ = nullptr;
    for (const auto& [number, call] : calls_) call->done = nullptr;
    calls_.clear();
    ensemble_.wires_.erase(number_);
  }
  void TryLater();
  void Pulse(const std::shared_ptr<Connection>& connection);
  void Send(Request request);
  void Tell(Event::Kind kind, std::string path = "");
  void Answer(const std::shared_ptr<Call>& call, Reply reply);
  void AnswerUnknown(std::deque<std::shared_ptr<Call>>* calls) {
    while (!calls->empty()) {
      Answer(calls->front(), Reply());
      calls->pop_front();
    }
  }
  void End(Event::Kind kind);

  const uint64_t number_;
  SimEnsemble& ensemble_;
  World& world_;
  engine::Loop& loop_;
  const std::string client_;
  const SessionOptions options_;

  // The Loop's.
  std::shared_ptr<absl::AnyInvocable<void(const Event&)>> on_event_;  // null: the session is gone
  bool begun_ = false;                                                // it was connected once
  uint64_t next_call_ = 1;
  std::map<uint64_t, std::shared_ptr<Call>> calls_;

  // The library's.
  State state_ = State::kConnecting;
  std::vector<int> hosts_;
  size_t next_host_ = 0;
  std::shared_ptr<Connection> connection_;  // or the attempt
  int64_t session_ = 0;
  int64_t zxid_ = 0;  // the last seen
  absl::Duration timeout_;
  absl::Duration heard_;
  std::deque<std::shared_ptr<Call>> sent_;
  std::deque<std::shared_ptr<Call>> waiting_;  // for a connection
  std::set<std::string> data_watches_;
  std::set<std::string> made_watches_;
};

void SimEnsemble::Wire::Begin(Request request, size_t bytes, absl::AnyInvocable<void(Reply)> done) {
  assert(calls_.size() < zookeeper::kCallsUnderWayMax);
  auto call = std::make_shared<Call>();
  call->number = request.number = next_call_++;
  call->request = std::move(request);
  call->done = std::move(done);
  calls_[call->number] = call;
  if (bytes > kPacketBytesMax) {
    Reply too_large;
    too_large.result.code = Code::kTooLarge;
    return Answer(call, std::move(too_large));
  }
  if (!begun_ || state_ == State::kOver) return Answer(call, Reply());
  if (state_ == State::kConnecting) return waiting_.push_back(call);
  sent_.push_back(call);
  Send(call->request);
}

void SimEnsemble::Wire::Leave() {
  const auto self = shared_from_this();
  Drop();
  if (state_ == State::kConnected) {
    Request close;
    close.kind = Request::Kind::kClose;
    Send(std::move(close));
  }
  state_ = State::kOver;
}

void SimEnsemble::Wire::Try() {
  if (state_ != State::kConnecting || connection_ != nullptr) return;
  const int host = hosts_[next_host_++ % hosts_.size()];
  connection_ = std::make_shared<Connection>();
  connection_->id = ensemble_.next_number_++;
  connection_->client = client_;
  connection_->credentials = options_.credentials;
  connection_->acl = options_.acl;
  connection_->server = host;
  connection_->wire = shared_from_this();
  const auto parted = [this, host] { return ensemble_.Parted(client_, host); };
  // What comes on one that the client has given up is over the gap already.
  connection_->up = std::make_shared<Channel>([this, parted, host, connection = connection_.get()] {
    const Server& server = ensemble_.at(host);
    return (connection->client_open && parted()) || (server.up && server.frozen);
  });
  connection_->down = std::make_shared<Channel>(parted);
  ensemble_.connections_[connection_->id] = connection_;
  ensemble_.every_connection_.push_back(connection_);
  Request connect;
  connect.kind = Request::Kind::kConnect;
  connect.session = session_;
  connect.zxid = zxid_;
  connect.timeout = options_.timeout;
  Send(std::move(connect));
  world_.After(timeout_ / 3, [self = shared_from_this(), connection = connection_] {
    if (self->state_ == State::kConnecting) self->Lose(connection);
  });
}

void SimEnsemble::Wire::TryLater() {
  // The library pauses for a sixtieth of the timeout when it has tried all.
  const absl::Duration pause = next_host_ % hosts_.size() == 0 ? timeout_ / 60 : absl::Milliseconds(1);
  const int64_t nanos = ensemble_.chance().Between(1000, absl::ToInt64Nanoseconds(pause));
  world_.After(absl::Nanoseconds(nanos), [self = shared_from_this()] { self->Try(); });
}

void SimEnsemble::Wire::Send(Request request) {
  ensemble_.Send(connection_->up, ensemble_.Delay(),
                 [this, connection = connection_, request = std::move(request)] {
                   ensemble_.Receive(connection, request);
                 });
}

void SimEnsemble::Wire::Pulse(const std::shared_ptr<Connection>& connection) {
  world_.After(timeout_ / 6, [self = shared_from_this(), connection] {
    if (self->connection_ != connection || self->state_ != State::kConnected) return;
    if (self->world_.Now() - self->heard_ > self->timeout_ * 2 / 3) return self->Lose(connection);
    self->Send(Request());
    self->Pulse(connection);
  });
}

void SimEnsemble::Wire::Lose(const std::shared_ptr<Connection>& connection, Fate fate, absl::Duration late) {
  if (connection_ != connection) return;
  const auto self = shared_from_this();
  connection_ = nullptr;
  ensemble_.CloseAtClient(connection, fate, late);
  if (state_ == State::kConnected) {
    ++ensemble_.totals_.connections_lost;
    for (const auto& call : sent_) {
      if (call->request.kind != Request::Kind::kMulti) continue;
      ++ensemble_.totals_.unknown;
      if (call->number <= connection->committed) ++ensemble_.totals_.answers_lost;
    }
    Tell(Event::Kind::kConnecting);
  }
  AnswerUnknown(&sent_);
  AnswerUnknown(&waiting_);
  if (state_ == State::kOver) return;
  state_ = State::kConnecting;
  TryLater();
}

void SimEnsemble::Wire::End(Event::Kind kind) {
  state_ = State::kOver;
  Tell(kind);
  AnswerUnknown(&sent_);
  AnswerUnknown(&waiting_);
}

void SimEnsemble::Wire::Receive(const std::shared_ptr<Connection>& connection, Reply reply) {
  if (connection_ != connection || state_ == State::kOver) return;
  heard_ = world_.Now();
  zxid_ = std::max(zxid_, reply.zxid);
  switch (reply.kind) {
    case Reply::Kind::kConnected: {
      state_ = State::kConnected;
      session_ = reply.session;
      timeout_ = reply.timeout;
      ++ensemble_.totals_.connections;
      Tell(Event::Kind::kConnected);
      if (!data_watches_.empty() || !made_watches_.empty()) {
        Request watches;
        watches.kind = Request::Kind::kSetWatches;
        watches.zxid = zxid_;
        watches.data_watches = data_watches_;
        watches.made_watches = made_watches_;
        Send(std::move(watches));
      }
      for (const auto& call : waiting_) Send(call->request);
      sent_ = std::exchange(waiting_, {});
      Pulse(connection);
      break;
    }
    case Reply::Kind::kExpired:
      ++ensemble_.totals_.expiries_told;
      End(Event::Kind::kExpired);
      break;
    case Reply::Kind::kAuthFailed:
      End(Event::Kind::kAuthFailed);
      break;
    case Reply::Kind::kWatch:
      if (data_watches_.erase(reply.path) + made_watches_.erase(reply.path) == 0) break;
      ++ensemble_.totals_.watches_fired;
      Tell(Event::Kind::kWatch, reply.path);
      break;
    case Reply::Kind::kAnswer: {
      if (reply.number == 0) break;
      assert(sent_.front()->number == reply.number);
      const std::shared_ptr<Call> call = sent_.front();
      sent_.pop_front();
      if (call->request.watch == Watch::kYes) {
        const Code code = reply.result.code;
        if (code == Code::kOk) data_watches_.insert(call->request.path);
        if (code == Code::kNoNode && call->request.kind == Request::Kind::kExists) {
          made_watches_.insert(call->request.path);
        }
      }
      Answer(call, std::move(reply));
      break;
    }
  }
}

void SimEnsemble::Wire::Tell(Event::Kind kind, std::string path) {
  Event event;
  event.kind = kind;
  if (kind == Event::Kind::kWatch) event.path = Ours(path);
  if (kind == Event::Kind::kConnected) {
    event.id = session_;
    event.timeout = timeout_;
  }
  loop_.Post([self = shared_from_this(), event] {
    // It may destroy the session.
    const auto on_event = self->on_event_;
    if (on_event == nullptr) return;
    self->begun_ = true;
    (*on_event)(event);
  });
}

void SimEnsemble::Wire::Answer(const std::shared_ptr<Call>& call, Reply reply) {
  loop_.Post([self = shared_from_this(), call, reply = std::move(reply)]() mutable {
    if (call->done == nullptr) return;
    self->calls_.erase(call->number);
    std::exchange(call->done, nullptr)(std::move(reply));
  });
}

class SimSession final : public zookeeper::Session {
 public:
  explicit SimSession(std::shared_ptr<SimEnsemble::Wire> wire) : wire_(std::move(wire)) {}
  ~SimSession() override { wire_->Leave(); }

  void Multi(std::vector<Op> ops, absl::AnyInvocable<void(MultiResult)> done) override {
    assert(!ops.empty());
    Request request;
    request.kind = Request::Kind::kMulti;
    const size_t bytes = zookeeper::MultiBytes(ops, wire_->chroot_bytes());
    for (const Op& op : ops) request.ops.push_back(Full(op));
    wire_->Begin(std::move(request), bytes, [this, done = std::move(done)](Reply reply) mutable {
      for (OpResult& op : reply.result.results) {
        if (!op.path.empty()) op.path = wire_->Ours(op.path);
      }
      done(std::move(reply.result));
    });
  }
  void Get(std::string path, Watch watch, absl::AnyInvocable<void(Code, std::string, Stat)> done) override {
    Begin(Request::Kind::kGet, path, watch, [done = std::move(done)](Reply reply) mutable {
      done(reply.result.code, std::move(reply.data), reply.stat);
    });
  }
  void Exists(std::string path, Watch watch, absl::AnyInvocable<void(Code, Stat)> done) override {
    Begin(Request::Kind::kExists, path, watch,
          [done = std::move(done)](Reply reply) mutable { done(reply.result.code, reply.stat); });
  }
  void Children(std::string path, absl::AnyInvocable<void(Code, std::vector<std::string>)> done) override {
    Begin(Request::Kind::kChildren, path, Watch::kNo,
          [done = std::move(done)](Reply reply) mutable { done(reply.result.code, std::move(reply.names)); });
  }
  void Sync(std::string path, absl::AnyInvocable<void(Code)> done) override {
    Begin(Request::Kind::kSync, path, Watch::kNo,
          [done = std::move(done)](Reply reply) mutable { done(reply.result.code); });
  }

 private:
  using Reply = SimEnsemble::Reply;
  using Request = SimEnsemble::Request;

  void Begin(Request::Kind kind, const std::string& path, Watch watch, absl::AnyInvocable<void(Reply)> done) {
    assert(zookeeper::IsPath(path));
    Request request;
    request.kind = kind;
    request.path = wire_->Full(path);
    request.watch = watch;
    const size_t bytes = kCallBytes + request.path.size();
    wire_->Begin(std::move(request), bytes, std::move(done));
  }
  Op Full(const Op& op) const {
    std::string path = wire_->Full(op.path());
    switch (op.kind()) {
      case Op::Kind::kCheck:
        return op.version() == zookeeper::kAnyVersion ? Op::CheckAny(std::move(path))
                                                      : Op::Check(std::move(path), op.version());
      case Op::Kind::kSet:
        return op.version() == zookeeper::kAnyVersion ? Op::SetAny(std::move(path), op.data())
                                                      : Op::Set(std::move(path), op.data(), op.version());
      case Op::Kind::kCreate:
        return Op::Create(std::move(path), op.data(), op.mode());
      case Op::Kind::kDelete:
        break;
    }
    return op.version() == zookeeper::kAnyVersion ? Op::DeleteAny(std::move(path))
                                                  : Op::Delete(std::move(path), op.version());
  }

  const std::shared_ptr<SimEnsemble::Wire> wire_;
};

std::unique_ptr<zookeeper::Session> SimSessions::Open(SessionOptions options,
                                                      absl::AnyInvocable<void(const Event&)> on_event) {
  assert(options.acl == SessionOptions::Acl::kOpen || !options.credentials.empty());
  auto wire =
      std::make_shared<SimEnsemble::Wire>(ensemble_, loop_, client_, std::move(options), std::move(on_event));
  ensemble_->wires_[wire->number()] = wire;
  // Not in this task.
  ensemble_->world_->After(ensemble_->Delay(), [wire] { wire->Try(); });
  return std::make_unique<SimSession>(std::move(wire));
}

// Links.

absl::Duration SimEnsemble::Delay() {
  const absl::Duration max = chance().In1000(weather_.slow) ? weather_.slow_delay_max : weather_.delay_max;
  return absl::Nanoseconds(chance().Between(1000, absl::ToInt64Nanoseconds(max)));
}

void SimEnsemble::Send(const std::shared_ptr<Channel>& channel, absl::Duration delay, engine::Task task) {
  channel->last = std::max(channel->last, world_->Now() + delay);
  channel->tasks.emplace_back(channel->last, std::move(task));
  if (channel->lag == absl::InfiniteDuration()) return;
  world_->After(channel->last + channel->lag - world_->Now(), [this, channel] { Pump(channel); });
}

void SimEnsemble::Pump(const std::shared_ptr<Channel>& channel) {
  auto& tasks = channel->tasks;
  while (!tasks.empty() && tasks.front().first + channel->lag <= world_->Now() && !channel->shut()) {
    engine::Task task = std::move(tasks.front().second);
    tasks.pop_front();
    task();
  }
}

void SimEnsemble::CutTail(Channel* channel) {
  channel->tasks.resize(
      static_cast<size_t>(chance().Between(0, static_cast<int64_t>(channel->tasks.size()))));
}

void SimEnsemble::PumpAll() {
  world_->After(absl::ZeroDuration(), [this] {
    std::vector<std::shared_ptr<Channel>> channels;
    for (const auto& server : servers_) {
      for (const auto& channel : {server->disk, server->backlog, server->from_leader, server->to_leader}) {
        if (channel != nullptr) channels.push_back(channel);
      }
    }
    for (const auto& [id, connection] : connections_) {
      channels.push_back(connection->up);
      channels.push_back(connection->down);
    }
    for (const auto& channel : channels) Pump(channel);
  });
}

bool SimEnsemble::Hears(const Server& one, const Server& other) {
  return one.number == other.number || (!one.parted && !other.parted);
}

bool SimEnsemble::Parted(const std::string& client, int server) const {
  return client_parts_.count({client, server}) != 0;
}

// Servers among themselves.

SimEnsemble::SimEnsemble(World* world, ZooOptions options) : world_(world), options_(options) {
  assert(options_.servers == 1 || options_.servers == 3);
  committed_.SetSkipsMinusOne(options_.skips_version_minus_one);
  for (int number = 1; number <= options_.servers; ++number) {
    servers_.push_back(std::make_unique<Server>());
    servers_.back()->number = number;
    servers_.back()->znodes = committed_;
  }
  StartAll();
  Tick();
}

SimEnsemble::~SimEnsemble() {
  // They hold each other.
  for (const auto& weak : every_connection_) {
    const std::shared_ptr<Connection> connection = weak.lock();
    if (connection == nullptr) continue;
    connection->up->tasks.clear();
    connection->down->tasks.clear();
    connection->wire = nullptr;
  }
}

SimEnsemble::Server& SimEnsemble::at(int server) {
  assert(server >= 1 && server <= size());
  return *servers_[static_cast<size_t>(server) - 1];
}

const SimEnsemble::Server& SimEnsemble::at(int server) const {
  return const_cast<SimEnsemble*>(this)->at(server);
}

void SimEnsemble::Tick() {
  for (const auto& server : servers_) {
    if (!Running(server->number)) continue;
    const bool impatient = world_->Now() - server->heard > PatienceOf(*server);
    switch (server->role) {
      case Server::Role::kLeading: {
        if (LeadsQuorum(*server)) {
          server->heard = world_->Now();
        } else if (impatient) {
          Look(server.get());
          break;
        }
        const std::map<int64_t, absl::Duration> touched = server->touched;
        for (const auto& [session, heard] : touched) {
          if (world_->Now() - heard <= server->ahead.sessions().at(session)) continue;
          CloseSession(server.get(), session, 0);
        }
        break;
      }
      case Server::Role::kFollowing: {
        const Server& leader = at(server->leader);
        // Of a leader that is no more its followers hear at once.
        const bool reset = leader.reign != server->reign && Hears(*server, leader);
        if (Follows(*server, leader)) {
          server->heard = world_->Now();
        } else if (impatient || (reset && chance().In1000(500))) {
          Look(server.get());
        }
        break;
      }
      case Server::Role::kLooking:
        for (const auto& leader : servers_) {
          if (leader->role != Server::Role::kLeading || !Running(leader->number)) continue;
          if (!LeadsQuorum(*leader) || !Hears(*server, *leader) || !chance().In1000(500)) continue;
          Follow(server.get(), leader.get());
          break;
        }
        break;
    }
  }
  Elect();
  world_->After(kTick, [this] { Tick(); });
}

absl::Duration SimEnsemble::PatienceOf(const Server& server) const {
  return server.role == Server::Role::kLeading ? options_.leader_patience : options_.peer_patience;
}

bool SimEnsemble::Follows(const Server& server, const Server& leader) const {
  return leader.reign != 0 && server.reign == leader.reign && Running(server.number) &&
         Running(leader.number) && Hears(server, leader);
}

bool SimEnsemble::LeadsQuorum(const Server& server) const {
  const auto follows = [&](const auto& other) { return Follows(*other, server); };
  return server.role == Server::Role::kLeading &&
         static_cast<size_t>(std::count_if(servers_.begin(), servers_.end(), follows)) >= majority();
}

void SimEnsemble::Look(Server* server) {
  server->role = Server::Role::kLooking;
  server->reign = 0;
  server->leader = 0;
  server->misses_next = false;
  for (auto* channel : {&server->disk, &server->backlog, &server->from_leader, &server->to_leader}) {
    if (*channel != nullptr) (*channel)->tasks.clear();
    *channel = nullptr;
  }
  server->watches.clear();
  server->syncs.clear();
  const auto connections = connections_;
  for (const auto& [id, connection] : connections) {
    if (connection->server == server->number) CloseAtServer(connection);
  }
}

void SimEnsemble::Elect() {
  std::vector<Server*> looking;
  for (const auto& server : servers_) {
    if (server->role != Server::Role::kLooking || !Running(server->number)) continue;
    if (server->parted && size() > 1) continue;
    looking.push_back(server.get());
  }
  if (looking.size() < majority() || !chance().In1000(400)) return;
  // A quorum does not wait for the others.
  for (size_t i = looking.size(); i > 1; --i) std::swap(looking[i - 1], looking[chance().Below(i)]);
  looking.resize(static_cast<size_t>(chance().Between(majority(), looking.size())));
  Lead(looking);
}

void SimEnsemble::Lead(const std::vector<Server*>& electorate) {
  // Not by the epoch of the last entry: the leader of a later one may have kept an older entry.
  const auto newness = [](const Server& server) { return std::make_pair(server.epoch, server.log.size()); };
  const auto older = [&](const Server* a, const Server* b) {
    if (newness(*a) != newness(*b)) return newness(*a) < newness(*b);
    return a->holed && !b->holed;
  };
  const Server* const newest = *std::max_element(electorate.begin(), electorate.end(), older);
  Server* leader = nullptr;
  int64_t epoch = 0;
  for (Server* server : electorate) {
    epoch = std::max(epoch, server->epoch);
    if (!server->holed && (leader == nullptr || older(leader, server))) leader = server;
  }
  assert(leader != nullptr);
  ++totals_.elections;
  if (leader != newest) TakeLog(leader, newest->log);
  assert(leader->log.size() >= entries_.size());
  totals_.proposals_kept += static_cast<int64_t>(leader->log.size() - entries_.size());
  CommitForAll(leader->log, leader->log.size());

  leader->role = Server::Role::kLeading;
  leader->reign = newest_reign_ = next_number_++;
  leader->leader = leader->number;
  leader->epoch = epoch + 1;
  leader->heard = world_->Now();
  leader->synced = leader->committed = leader->log.size();
  Apply(leader, leader->committed);
  leader->ahead = leader->znodes;
  leader->counter = 0;
  leader->acked.clear();
  leader->acked[leader->number] = leader->committed;
  leader->owners.clear();
  leader->touched.clear();
  for (const auto& [session, timeout] : leader->ahead.sessions()) leader->touched[session] = world_->Now();
  OpenLinks(leader);
  world_->Trace(static_cast<uint64_t>(leader->epoch) * 4 + static_cast<uint64_t>(leader->number));
  for (Server* server : electorate) {
    if (server != leader) Follow(server, leader);
  }
}

void SimEnsemble::TakeLog(Server* server, const std::vector<EntryPtr>& log) {
  const auto [end, other] = std::mismatch(server->log.begin(), server->log.end(), log.begin(), log.end());
  const auto common = end - server->log.begin();
  assert(server->applied <= static_cast<size_t>(common));
  server->synced = std::min(server->synced, static_cast<size_t>(common));
  totals_.proposals_lost += server->log.end() - end;
  server->log.erase(end, server->log.end());
  server->log.insert(server->log.end(), other, log.end());
}

void SimEnsemble::Follow(Server* server, Server* leader) {
  TakeLog(server, leader->log);
  server->role = Server::Role::kFollowing;
  server->reign = leader->reign;
  server->leader = leader->number;
  server->epoch = leader->epoch;
  server->heard = world_->Now();
  if (server->applied < leader->committed && chance().In1000(weather_.hole) && MayMiss(*server)) {
    server->misses_next = true;
  }
  Apply(server, leader->committed);
  OpenLinks(server);
  Sync(server);
}

void SimEnsemble::OpenLinks(Server* server) {
  Server& leader = at(server->leader);
  const auto still = [server] { return server->frozen; };
  server->disk = std::make_shared<Channel>(still);
  server->backlog = std::make_shared<Channel>(still);
  server->backlog->lag = server->lag;
  server->from_leader =
      std::make_shared<Channel>([server, &leader] { return server->frozen || !Hears(*server, leader); });
  server->to_leader =
      std::make_shared<Channel>([server, &leader] { return leader.frozen || !Hears(*server, leader); });
}

void SimEnsemble::Forward(Server* server, std::function<void(Server*)> task) {
  if (server->reign == 0) return;
  const absl::Duration delay = server->role == Server::Role::kLeading ? absl::ZeroDuration() : Delay();
  Send(server->to_leader, delay,
       [this, number = server->leader, reign = server->reign, task = std::move(task)] {
         Server& leader = at(number);
         if (leader.role == Server::Role::kLeading && leader.reign == reign) task(&leader);
       });
}

void SimEnsemble::Down(Server* server, engine::Task task) {
  if (server->reign == 0) return;
  const absl::Duration delay = server->role == Server::Role::kLeading ? absl::ZeroDuration() : Delay();
  Send(server->from_leader, delay, [this, server, task = std::move(task)]() mutable {
    Send(server->backlog, absl::ZeroDuration(), std::move(task));
  });
}

void SimEnsemble::Sync(Server* server) {
  Send(server->disk, Delay(), [this, server, size = server->log.size()] {
    server->synced = std::max(server->synced, size);
    Forward(server, [this, number = server->number, size](Server* leader) {
      size_t& acked = leader->acked[number];
      acked = std::max(acked, size);
      Commit(leader);
    });
  });
}

void SimEnsemble::Propose(Server* leader, Transaction transaction, uint64_t connection, uint64_t number) {
  auto entry = std::make_shared<Entry>();
  entry->connection = connection;
  entry->number = number;
  transaction.zxid = (leader->epoch << kEpochShift) | (leader->counter + 1);
  entry->result = leader->ahead.Decide(&transaction);
  if (transaction.kind == Transaction::Kind::kFailed && !chance().In1000(options_.failures_take_zxids)) {
    transaction.zxid = leader->log.empty() ? 0 : leader->log.back()->transaction.zxid;
  } else {
    ++leader->counter;
  }
  entry->transaction = std::move(transaction);
  leader->log.push_back(entry);
  Sync(leader);
  for (const auto& server : servers_) {
    if (server.get() == leader || server->reign != leader->reign) continue;
    Send(server->from_leader, Delay(), [this, follower = server.get(), entry] {
      follower->log.push_back(entry);
      Sync(follower);
    });
  }
}

void SimEnsemble::Commit(Server* leader) {
  std::vector<size_t> acked;
  for (const auto& [server, count] : leader->acked) acked.push_back(count);
  if (acked.size() < majority()) return;
  std::sort(acked.rbegin(), acked.rend());
  const size_t count = acked[majority() - 1];
  if (count <= leader->committed) return;
  leader->committed = count;
  CommitForAll(leader->log, count);
  for (const auto& server : servers_) {
    if (server->reign != leader->reign) continue;
    Down(server.get(), [this, follower = server.get(), count] { Apply(follower, count); });
  }
  while (!leader->syncs.empty() && leader->syncs.front().first <= leader->committed) {
    leader->syncs.front().second();
    leader->syncs.pop_front();
  }
}

void SimEnsemble::CommitForAll(const std::vector<EntryPtr>& log, size_t count) {
  // A leader that was replaced may come to know now what the next one committed with its reign.
  const size_t known = std::min(entries_.size(), count);
  assert(known == 0 || log[known - 1] == entries_[known - 1]);
  for (size_t i = entries_.size(); i < count; ++i) {
    const Transaction& transaction = log[i]->transaction;
    entries_.push_back(log[i]);
    committed_.Replay(transaction);
    world_->Trace(static_cast<uint64_t>(transaction.zxid));
    switch (transaction.kind) {
      case Transaction::Kind::kFailed:
        ++totals_.multis_failed;
        continue;
      case Transaction::Kind::kMulti: {
        if (log[i]->connection == 0) break;
        ++totals_.multis_done;
        const auto connection = connections_.find(log[i]->connection);
        if (connection != connections_.end() && connection->second->client_open) {
          connection->second->committed = log[i]->number;
        } else {
          ++totals_.late_commits;
        }
        break;
      }
      case Transaction::Kind::kOpen:
        ++totals_.sessions;
        break;
      case Transaction::Kind::kClose:
        ++(log[i]->connection == 0 ? totals_.sessions_expired : totals_.sessions_closed);
        break;
    }
    log_.push_back(transaction);
  }
}

bool SimEnsemble::MayMiss(const Server& server) const {
  const auto holed = [&](const auto& other) {
    return (other->holed || other->misses_next) && other.get() != &server;
  };
  return static_cast<size_t>(std::count_if(servers_.begin(), servers_.end(), holed)) + majority() <
         servers_.size();
}

bool SimEnsemble::LacksWhatGoes(const Server& server, const Transaction& transaction) const {
  if (!server.holed || !options_.mends_at) return false;
  return std::any_of(transaction.ops.begin(), transaction.ops.end(), [&](const zookeeper::Op& op) {
    return op.kind() == zookeeper::Op::Kind::kDelete && options_.mends_at(op.path()) &&
           server.znodes.Find(op.path()) == nullptr;
  });
}

// All that it has applied, whole.
void SimEnsemble::TakeData(Server* server) {
  server->znodes = Znodes();
  server->znodes.SetSkipsMinusOne(options_.skips_version_minus_one);
  for (size_t i = 0; i < server->applied; ++i) server->znodes.Replay(server->log[i]->transaction);
  server->holed = false;
  ++totals_.holes_mended;
  const auto connections = connections_;
  for (const auto& [id, connection] : connections) {
    if (connection->server == server->number) CloseAtServer(connection);
  }
}

void SimEnsemble::Apply(Server* server, size_t count) {
  while (server->applied < count) {
    const EntryPtr entry = server->log[server->applied++];
    const Transaction& transaction = entry->transaction;
    if (server->misses_next && transaction.kind == Transaction::Kind::kMulti) {
      server->misses_next = false;
      server->holed = true;
      ++totals_.holes;
    } else if (LacksWhatGoes(*server, transaction)) {
      TakeData(server);
    } else {
      for (const std::string& path : server->znodes.Replay(transaction)) Fire(server, path);
    }
    const auto asked = connections_.find(entry->connection);
    if (asked != connections_.end() && asked->second->server == server->number &&
        asked->second->server_open) {
      const std::shared_ptr<Connection> connection = asked->second;
      if (transaction.kind == Transaction::Kind::kOpen) {
        Connected(connection, transaction.session, transaction.timeout);
      } else if (entry->number != 0) {
        Reply reply;
        reply.number = entry->number;
        reply.result = entry->result;
        Answer(server, connection, std::move(reply));
      }
    }
    if (transaction.kind != Transaction::Kind::kClose) continue;
    const auto connections = connections_;
    for (const auto& [id, connection] : connections) {
      if (connection->server == server->number && connection->session == transaction.session) {
        CloseAtServer(connection);
      }
    }
  }
}

void SimEnsemble::CloseSession(Server* leader, int64_t session, uint64_t connection) {
  Transaction close;
  close.kind = Transaction::Kind::kClose;
  close.session = session;
  leader->touched.erase(session);
  Propose(leader, std::move(close), connection, 0);
}

// Servers and their clients.

void SimEnsemble::Receive(const std::shared_ptr<Connection>& connection, const Request& request) {
  if (!connection->server_open) return;
  Server& server = at(connection->server);
  switch (request.kind) {
    case Request::Kind::kConnect:
      return Connect(connection, request);
    case Request::Kind::kEnd:
      return CloseAtServer(connection);
    case Request::Kind::kMulti:
      connection->line.push_back(request);
      ForwardMulti(connection, request);
      break;
    case Request::Kind::kSync:
      connection->line.push_back(request);
      ForwardSync(connection, request.number);
      break;
    case Request::Kind::kClose:
      connection->line.push_back(request);
      Forward(&server, [this, connection](Server* leader) {
        if (Owns(leader, *connection)) CloseSession(leader, connection->session, connection->id);
      });
      break;
    case Request::Kind::kGet:
    case Request::Kind::kExists:
    case Request::Kind::kChildren:
    case Request::Kind::kPing:
    case Request::Kind::kSetWatches:
      connection->line.push_back(request);
      break;
  }
  Server& leader = at(server.leader);
  if (Follows(server, leader) && leader.touched.count(connection->session) != 0) {
    leader.touched[connection->session] = world_->Now();
  }
  Drain(&server, connection);
}

void SimEnsemble::Connect(const std::shared_ptr<Connection>& connection, const Request& request) {
  Server& server = at(connection->server);
  if (server.role == Server::Role::kLooking) return CloseAtServer(connection);
  // Not a word about it.
  if (request.zxid > server.znodes.zxid()) {
    ++totals_.zxids_ahead;
    return CloseAtServer(connection);
  }
  if (!connection->credentials.empty() && !options_.takes_credentials) {
    Reply refusal;
    refusal.kind = Reply::Kind::kAuthFailed;
    SendReply(connection, std::move(refusal));
    return CloseAtServer(connection);
  }
  if (request.session == 0) {
    Transaction open;
    open.kind = Transaction::Kind::kOpen;
    open.session = (static_cast<int64_t>(server.number) << 56) | next_session_++;
    open.timeout = std::clamp(request.timeout, options_.session_timeout_min, options_.session_timeout_max);
    return Forward(&server, [this, connection, open = std::move(open)](Server* leader) {
      leader->owners[open.session] = connection->id;
      leader->touched[open.session] = world_->Now();
      Propose(leader, open, connection->id, 0);
    });
  }
  // A server knows one connection of a session.
  const auto connections = connections_;
  for (const auto& [id, other] : connections) {
    if (other->server == server.number && other->session == request.session) CloseAtServer(other);
  }
  Forward(&server, [this, connection, &server, session = request.session](Server* leader) {
    const auto found = leader->ahead.sessions().find(session);
    if (found == leader->ahead.sessions().end()) {
      return Down(&server, [this, connection] {
        Reply expired;
        expired.kind = Reply::Kind::kExpired;
        SendReply(connection, std::move(expired));
        CloseAtServer(connection);
      });
    }
    leader->owners[session] = connection->id;
    leader->touched[session] = world_->Now();
    Down(&server, [this, connection, session, timeout = found->second] {
      if (connection->server_open) Connected(connection, session, timeout);
    });
  });
}

void SimEnsemble::Connected(const std::shared_ptr<Connection>& connection, int64_t session,
                            absl::Duration timeout) {
  connection->session = session;
  Reply reply;
  reply.kind = Reply::Kind::kConnected;
  reply.session = session;
  reply.timeout = timeout;
  SendReply(connection, std::move(reply));
}

bool SimEnsemble::Owns(Server* leader, const Connection& connection) {
  if (leader->ahead.sessions().count(connection.session) == 0) {
    ++totals_.of_the_gone;
    return false;
  }
  const auto [owner, fresh] = leader->owners.try_emplace(connection.session, connection.id);
  if (owner->second == connection.id) return true;
  ++totals_.moved;
  return false;
}

void SimEnsemble::ForwardMulti(const std::shared_ptr<Connection>& connection, const Request& request) {
  Forward(&at(connection->server),
          [this, connection, number = request.number, ops = request.ops](Server* leader) {
            if (!Owns(leader, *connection)) return;
            Transaction transaction;
            transaction.session = connection->session;
            transaction.ops = ops;
            transaction.credentials = connection->credentials;
            transaction.acl = connection->acl;
            Propose(leader, std::move(transaction), connection->id, number);
          });
}

void SimEnsemble::ForwardSync(const std::shared_ptr<Connection>& connection, uint64_t number) {
  Server* const server = &at(connection->server);
  Forward(server, [this, connection, server, number](Server* leader) {
    if (leader->reign != newest_reign_) ++totals_.deposed_syncs;
    const auto answer = [this, connection, server, number] {
      Down(server, [this, connection, server, number] {
        Reply reply;
        reply.number = number;
        reply.result.code = Code::kOk;
        Answer(server, connection, std::move(reply));
      });
    };
    // After what is under way, though none of it need be committed yet.
    if (leader->committed == leader->log.size()) return answer();
    leader->syncs.emplace_back(leader->log.size(), answer);
  });
}

void SimEnsemble::Answer(Server* server, const std::shared_ptr<Connection>& connection, Reply reply) {
  if (!connection->server_open) return;
  assert(connection->line.front().number == reply.number);
  connection->line.pop_front();
  reply.zxid = server->znodes.zxid();
  SendReply(connection, std::move(reply));
  Drain(server, connection);
}

void SimEnsemble::Drain(Server* server, const std::shared_ptr<Connection>& connection) {
  while (connection->server_open && !connection->line.empty()) {
    const Request& next = connection->line.front();
    if (next.kind == Request::Kind::kMulti || next.kind == Request::Kind::kSync ||
        next.kind == Request::Kind::kClose) {
      return;
    }
    Reply reply = Read(server, connection, next);
    reply.number = next.number;
    reply.zxid = server->znodes.zxid();
    connection->line.pop_front();
    SendReply(connection, std::move(reply));
  }
}

SimEnsemble::Reply SimEnsemble::Read(Server* server, const std::shared_ptr<Connection>& connection,
                                     const Request& request) {
  Reply reply;
  reply.result.code = Code::kOk;
  if (request.kind == Request::Kind::kPing) return reply;
  if (request.kind == Request::Kind::kSetWatches) {
    const auto set = [&](const std::string& path, bool fires) {
      if (!fires) {
        server->watches[path].insert(connection->id);
        return;
      }
      ++totals_.watches_found_late;
      SendFired(connection, path);
    };
    for (const std::string& path : request.data_watches) {
      const Znode* const node = server->znodes.Find(path);
      set(path, node == nullptr || node->stat.mzxid > request.zxid);
    }
    for (const std::string& path : request.made_watches) {
      set(path, server->znodes.Find(path) != nullptr);
    }
    return reply;
  }
  if (server->applied < entries_.size()) ++totals_.stale_reads;
  if (server->role == Server::Role::kLeading && server->reign != newest_reign_) ++totals_.deposed_reads;
  const Znode* const node = server->znodes.Find(request.path);
  if (node == nullptr) {
    reply.result.code = Code::kNoNode;
  } else if (request.kind != Request::Kind::kExists && !Znodes::May(*node, connection->credentials)) {
    reply.result.code = Code::kNoAuth;
  } else {
    reply.stat = Znodes::StatOf(*node);
    if (request.kind == Request::Kind::kGet) reply.data = node->data;
    if (request.kind == Request::Kind::kChildren) {
      reply.names.assign(node->children.begin(), node->children.end());
      // In no order.
      for (size_t i = reply.names.size(); i > 1; --i) {
        std::swap(reply.names[i - 1], reply.names[chance().Below(i)]);
      }
    }
  }
  const bool watched = reply.result.code == Code::kOk ||
                       (reply.result.code == Code::kNoNode && request.kind == Request::Kind::kExists);
  if (request.watch == Watch::kYes && watched) server->watches[request.path].insert(connection->id);
  return reply;
}

void SimEnsemble::Fire(Server* server, const std::string& path) {
  const auto watchers = server->watches.extract(path);
  if (watchers.empty()) return;
  for (const uint64_t id : watchers.mapped()) {
    const auto connection = connections_.find(id);
    if (connection == connections_.end() || !connection->second->server_open) continue;
    SendFired(connection->second, path);
  }
}

void SimEnsemble::SendFired(const std::shared_ptr<Connection>& connection, const std::string& path) {
  Reply reply;
  reply.kind = Reply::Kind::kWatch;
  reply.path = path;
  SendReply(connection, std::move(reply));
}

void SimEnsemble::SendReply(const std::shared_ptr<Connection>& connection, Reply reply) {
  if (!connection->client_open) return;
  Send(connection->down, Delay(), [connection, reply = std::move(reply)]() mutable {
    connection->wire->Receive(connection, std::move(reply));
  });
}

void SimEnsemble::CloseAtServer(const std::shared_ptr<Connection>& connection) {
  if (!connection->server_open) return;
  connection->server_open = false;
  connection->up->tasks.clear();
  connection->line.clear();
  if (connection->client_open) {
    Send(connection->down, Delay(), [connection] { connection->wire->Lose(connection); });
  } else {
    connections_.erase(connection->id);
  }
}

void SimEnsemble::CloseAtClient(const std::shared_ptr<Connection>& connection, Fate fate,
                                absl::Duration late) {
  connection->client_open = false;
  connection->down->tasks.clear();
  if (!connection->server_open) {
    connections_.erase(connection->id);
    return;
  }
  auto& tasks = connection->up->tasks;
  absl::Duration delay;
  switch (fate) {
    case Fate::kAny:
      CutTail(connection->up.get());
      if (chance().In1000(weather_.late)) {
        delay = absl::Nanoseconds(chance().Between(0, absl::ToInt64Nanoseconds(weather_.late_max)));
      }
      break;
    case Fate::kLost:
      tasks.clear();
      break;
    case Fate::kDone:
      break;
    case Fate::kLate:
      delay = late;
      break;
  }
  for (auto& [when, task] : tasks) when = std::max(when, world_->Now() + delay);
  Send(connection->up, delay, [this, connection] {
    Request end;
    end.kind = Request::Kind::kEnd;
    Receive(connection, end);
  });
}

// What tests do.

std::string SimEnsemble::connect() const {
  std::vector<std::string> addresses;
  for (int server = 1; server <= size(); ++server) addresses.push_back(connect(server));
  return absl::StrJoin(addresses, ",");
}

std::string SimEnsemble::connect(int server) const { return absl::StrCat("sim:", server); }

std::optional<int> SimEnsemble::leader() const {
  for (const auto& server : servers_) {
    if (server->reign == newest_reign_ && LeadsQuorum(*server)) return server->number;
  }
  return std::nullopt;
}

bool SimEnsemble::settled() const {
  return leader() && std::all_of(servers_.begin(), servers_.end(), [&](const auto& server) {
           return Follows(*server, at(*leader())) && server->log.size() == entries_.size() &&
                  server->applied == entries_.size();
         });
}

void SimEnsemble::Start(int server) {
  assert(!at(server).up);
  at(server).up = true;
}

void SimEnsemble::Kill(int server) {
  Server& killed = at(server);
  assert(killed.up);
  ++totals_.kills;
  // Of what it sent, the first may still arrive.
  for (const auto& [id, connection] : connections_) {
    if (connection->server == server) CutTail(connection->down.get());
  }
  for (const auto& other : servers_) {
    if (other->leader == server) CutTail(other->from_leader.get());
  }
  Look(&killed);
  const size_t kept = std::max(killed.synced, killed.applied);
  killed.log.resize(static_cast<size_t>(chance().Between(kept, killed.log.size())));
  killed.up = killed.frozen = false;
  PumpAll();
}

void SimEnsemble::Freeze(int server) {
  assert(Running(server));
  ++totals_.freezes;
  at(server).frozen = true;
}

void SimEnsemble::Thaw(int server) {
  Server& thawed = at(server);
  assert(thawed.frozen);
  thawed.frozen = false;
  // It does not know at once how long that was.
  const int64_t trust = absl::ToInt64Nanoseconds(PatienceOf(thawed) / 2);
  thawed.heard = world_->Now() - absl::Nanoseconds(chance().Between(0, trust));
  PumpAll();
}

bool SimEnsemble::Running(int server) const { return at(server).up && !at(server).frozen; }

void SimEnsemble::StartAll() {
  for (const auto& server : servers_) {
    if (!server->up) Start(server->number);
  }
}

void SimEnsemble::KillAll() {
  ++totals_.outages;
  for (const auto& server : servers_) {
    if (server->up) Kill(server->number);
  }
}

void SimEnsemble::Part(int server) {
  ++totals_.parts;
  at(server).parted = true;
}

void SimEnsemble::Mend(int server) {
  at(server).parted = false;
  PumpAll();
}

void SimEnsemble::SetLag(int server, absl::Duration lag) {
  totals_.lags += lag > absl::ZeroDuration();
  at(server).lag = lag;
  const std::shared_ptr<Channel> backlog = at(server).backlog;
  if (backlog == nullptr) return;
  backlog->lag = lag;
  if (lag == absl::InfiniteDuration()) return;
  for (const auto& [when, task] : backlog->tasks) {
    world_->After(std::max(absl::ZeroDuration(), when + lag - world_->Now()),
                  [this, backlog] { Pump(backlog); });
  }
}

void SimEnsemble::MakeHole(int server) {
  assert(MayMiss(at(server)) && at(server).role != Server::Role::kLeading);
  at(server).misses_next = true;
}

void SimEnsemble::Wipe() {
  ++totals_.wipes;
  entries_.clear();
  log_.clear();
  committed_ = Znodes();
  committed_.SetSkipsMinusOne(options_.skips_version_minus_one);
  for (const auto& server : servers_) {
    assert(!server->up);
    server->log.clear();
    server->synced = server->applied = 0;
    server->znodes = committed_;
    server->holed = false;
    server->epoch = 0;
  }
}

void SimEnsemble::Save() {
  Saved saved;
  saved.entries = entries_;
  saved.log = log_;
  saved.znodes = committed_;
  for (const auto& server : servers_) saved.epoch = std::max(saved.epoch, server->epoch);
  saved_ = std::move(saved);
}

void SimEnsemble::Restore() {
  assert(saved_);
  ++totals_.restores;
  entries_ = saved_->entries;
  log_ = saved_->log;
  committed_ = saved_->znodes;
  for (const auto& server : servers_) {
    assert(!server->up);
    server->log = entries_;
    server->synced = server->applied = entries_.size();
    server->znodes = committed_;
    server->holed = false;
    server->epoch = saved_->epoch;
  }
}

void SimEnsemble::Cut(const std::string& client, Fate fate, absl::Duration late) {
  const auto connections = connections_;
  for (const auto& [id, connection] : connections) {
    if (connection->client == client && connection->client_open)
      connection->wire->Lose(connection, fate, late);
  }
}

void SimEnsemble::PartClient(const std::string& client, int server) {
  ++totals_.client_parts;
  client_parts_.insert({client, server});
}

void SimEnsemble::PartClient(const std::string& client) {
  for (int server = 1; server <= size(); ++server) PartClient(client, server);
}

void SimEnsemble::MendClient(const std::string& client) {
  for (int server = 1; server <= size(); ++server) client_parts_.erase({client, server});
  PumpAll();
}

void SimEnsemble::KillClient(const std::string& client, Fate fate, absl::Duration late) {
  const auto wires = wires_;
  for (const auto& [number, wire] : wires) {
    if (wire->client() == client) wire->Die();
  }
  Cut(client, fate, late);
}

std::optional<int> SimEnsemble::ServerOf(int64_t session) const {
  for (const auto& [id, connection] : connections_) {
    if (connection->session == session && connection->client_open && connection->server_open) {
      return connection->server;
    }
  }
  return std::nullopt;
}

void SimEnsemble::Expire(int64_t session) {
  const std::optional<int> first = leader();
  if (first && at(*first).ahead.sessions().count(session) != 0) CloseSession(&at(*first), session, 0);
}

bool SimEnsemble::Put(const std::string& path, const std::string& data) {
  const std::optional<int> first = leader();
  if (!first) return false;
  const Znode* const node = at(*first).ahead.Find(path);
  Transaction transaction;
  transaction.ops = {node == nullptr ? Op::Create(path, data) : Op::Set(path, data, node->stat.version)};
  Propose(&at(*first), std::move(transaction), 0, 0);
  return true;
}

bool SimEnsemble::Delete(const std::string& path) {
  const std::optional<int> first = leader();
  const Znode* const node = first ? at(*first).ahead.Find(path) : nullptr;
  if (node == nullptr) return false;
  Transaction transaction;
  transaction.ops = {Op::Delete(path, node->stat.version)};
  Propose(&at(*first), std::move(transaction), 0, 0);
  return true;
}

void SimEnsemble::Age(const std::string& path, int32_t version, int32_t made) {
  assert(settled());
  committed_.Age(path, version, made);
  for (const auto& server : servers_) server->znodes.Age(path, version, made);
  at(*leader()).ahead.Age(path, version, made);
}

const Znodes& SimEnsemble::znodes(int server) const { return at(server).znodes; }

// Weather.

void SimEnsemble::SetWeather(const ZooWeather& weather) {
  weather_ = weather;
  const uint64_t number = ++weathers_;
  world_->After(weather_.every, [this, number] {
    if (number == weathers_) Blow();
  });
}

void SimEnsemble::Calm() {
  weather_ = ZooWeather();
  ++weathers_;
  ++calms_;
  for (const auto& server : servers_) {
    if (!server->up) Start(server->number);
    if (server->frozen) Thaw(server->number);
    server->parted = false;
    SetLag(server->number, absl::ZeroDuration());
  }
  client_parts_.clear();
  PumpAll();
}

void SimEnsemble::Later(std::function<void()> mend) {
  const int64_t max = absl::ToInt64Nanoseconds(weather_.trouble_max);
  world_->After(absl::Nanoseconds(chance().Between(1000, max)),
                [this, calm = calms_, mend = std::move(mend)] {
                  if (calm == calms_) mend();
                });
}

SimEnsemble::Server& SimEnsemble::Victim() {
  const std::optional<int> first = leader();
  if (first && chance().In1000(500)) return at(*first);
  return at(static_cast<int>(chance().Between(1, size())));
}

void SimEnsemble::Blow() {
  std::set<std::string> names;
  for (const auto& [number, wire] : wires_) names.insert(wire->client());
  const std::vector<std::string> clients(names.begin(), names.end());
  if (!clients.empty() && chance().In1000(weather_.cut)) Cut(chance().OneOf(clients));
  if (!clients.empty() && chance().In1000(weather_.part_client)) {
    const std::string client = chance().OneOf(clients);
    for (int server = 1; server <= size(); ++server) {
      if (chance().In1000(700)) PartClient(client, server);
    }
    Later([this, client] { MendClient(client); });
  }
  if (chance().In1000(weather_.kill)) {
    const int server = Victim().number;
    if (at(server).up) Kill(server);
    Later([this, server] {
      if (!at(server).up) Start(server);
    });
  }
  if (chance().In1000(weather_.freeze)) {
    const int server = Victim().number;
    if (Running(server)) Freeze(server);
    Later([this, server] {
      if (at(server).frozen) Thaw(server);
    });
  }
  if (chance().In1000(weather_.part)) {
    const int server = Victim().number;
    Part(server);
    Later([this, server] { Mend(server); });
  }
  if (chance().In1000(weather_.lag)) {
    const int server = static_cast<int>(chance().Between(1, size()));
    SetLag(server, chance().OneOf<absl::Duration>(
                       {absl::Milliseconds(5), absl::Milliseconds(100), absl::InfiniteDuration()}));
    Later([this, server] { SetLag(server, absl::ZeroDuration()); });
  }
  if (chance().In1000(weather_.save)) Save();
  if (chance().In1000(weather_.outage)) {
    KillAll();
    const bool wipes = chance().In1000(weather_.wipe);
    if (wipes) Wipe();
    if (!wipes && saved_ && chance().In1000(weather_.restore)) Restore();
    Later([this] { StartAll(); });
  }
  world_->After(weather_.every, [this, number = weathers_] {
    if (number == weathers_) Blow();
  });
}

ZooWeather ZooWeather::Draw(Chance* chance) {
  ZooWeather weather;
  weather.slow = chance->OneOf<uint64_t>({0, 20, 100});
  weather.late = chance->OneOf<uint64_t>({0, 200, 600});
  weather.late_max = absl::Milliseconds(chance->OneOf<int64_t>({5, 100, 2000}));
  weather.trouble_max = absl::Milliseconds(chance->OneOf<int64_t>({50, 500, 3000}));
  weather.cut = chance->OneOf<uint64_t>({0, 5, 50});
  weather.part_client = chance->OneOf<uint64_t>({0, 2, 10});
  weather.kill = chance->OneOf<uint64_t>({0, 2, 10});
  weather.freeze = chance->OneOf<uint64_t>({0, 2, 10});
  weather.part = chance->OneOf<uint64_t>({0, 2, 10});
  weather.lag = chance->OneOf<uint64_t>({0, 5, 30});
  weather.outage = chance->OneOf<uint64_t>({0, 0, 2});
  return weather;
}

namespace {

constexpr std::pair<const char*, int64_t ZooTotals::*> kTotals[] = {
    {"connections", &ZooTotals::connections},
    {"connections_lost", &ZooTotals::connections_lost},
    {"zxids_ahead", &ZooTotals::zxids_ahead},
    {"sessions", &ZooTotals::sessions},
    {"sessions_closed", &ZooTotals::sessions_closed},
    {"sessions_expired", &ZooTotals::sessions_expired},
    {"expiries_told", &ZooTotals::expiries_told},
    {"multis_done", &ZooTotals::multis_done},
    {"multis_failed", &ZooTotals::multis_failed},
    {"answers_lost", &ZooTotals::answers_lost},
    {"late_commits", &ZooTotals::late_commits},
    {"unknown", &ZooTotals::unknown},
    {"moved", &ZooTotals::moved},
    {"of_the_gone", &ZooTotals::of_the_gone},
    {"watches_fired", &ZooTotals::watches_fired},
    {"watches_found_late", &ZooTotals::watches_found_late},
    {"stale_reads", &ZooTotals::stale_reads},
    {"deposed_reads", &ZooTotals::deposed_reads},
    {"deposed_syncs", &ZooTotals::deposed_syncs},
    {"elections", &ZooTotals::elections},
    {"proposals_kept", &ZooTotals::proposals_kept},
    {"proposals_lost", &ZooTotals::proposals_lost},
    {"kills", &ZooTotals::kills},
    {"freezes", &ZooTotals::freezes},
    {"parts", &ZooTotals::parts},
    {"client_parts", &ZooTotals::client_parts},
    {"lags", &ZooTotals::lags},
    {"outages", &ZooTotals::outages},
    {"wipes", &ZooTotals::wipes},
    {"restores", &ZooTotals::restores},
    {"holes", &ZooTotals::holes},
    {"holes_mended", &ZooTotals::holes_mended},
};

}  // namespace

std::vector<std::pair<std::string, int64_t>> ZooTotals::All() const {
  std::vector<std::pair<std::string, int64_t>> all;
  for (const auto& [name, total] : kTotals) all.emplace_back(name, this->*total);
  return all;
}

void ZooTotals::Add(const ZooTotals& other) {
  for (const auto& [name, total] : kTotals) this->*total += other.*total;
}

std::string ZooWeather::ToString() const {
  return absl::StrCat(
      "slow=", slow, " late=", late, " late_ms=", absl::ToInt64Milliseconds(late_max),
      " every_ms=", absl::ToInt64Milliseconds(every), " trouble_ms=", absl::ToInt64Milliseconds(trouble_max),
      " cut=", cut, " part_client=", part_client, " kill=", kill, " freeze=", freeze, " part=", part,
      " lag=", lag, " outage=", outage, " save=", save, " wipe=", wipe, " restore=", restore, " hole=", hole);
}

}  // namespace stm::sim
