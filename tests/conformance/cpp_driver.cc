// Plays what tests/conformance/play.py says by the C++ client: a command a line on standard input, answers
// and events a line each on standard output (README.md there has the words). Each command has a thread of its
// own.
#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/synchronization/mutex.h"
#include "engine/values/wire.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "stm/client.h"
#include "stm/v1/value.pb.h"

namespace stm::conformance {

// The user's type that every driver has.
struct Point {
  int64_t x, y_axis;
};
STM_RECORD(Point, "conf.Point", x, y_axis);

namespace {

using Json = google::protobuf::Value;
using Object = google::protobuf::Struct;

// ---- JSON

std::string Text(const google::protobuf::Message& message) {
  std::string text;
  if (!google::protobuf::util::MessageToJsonString(message, &text).ok()) std::abort();
  return text;
}

Json String(std::string text) {
  Json json;
  json.set_string_value(std::move(text));
  return json;
}
Json Number(double number) {
  Json json;
  json.set_number_value(number);
  return json;
}
Json Bool(bool value) {
  Json json;
  json.set_bool_value(value);
  return json;
}
// Versions and tokens are strings: JSON's numbers are doubles.
Json Wide(int64_t number) { return String(absl::StrCat(number)); }
Json List(std::vector<Json> items) {
  Json json;
  json.mutable_list_value();
  for (Json& item : items) *json.mutable_list_value()->add_values() = std::move(item);
  return json;
}
// Protocol Buffers' JSON prints -0.0 as an integer, and reads it back without its sign; as a text it stays.
std::string WithNegativeZeros(const std::string& text) {
  return absl::StrReplaceAll(text, {{"\"float64\":-0,", "\"float64\":\"-0.0\","}, {"\"float64\":-0}", "\"float64\":\"-0.0\"}"}});
}
Json ToJson(const Value& value) {
  v1::Value message;
  ToProto(value, &message);
  Json json;
  if (!google::protobuf::util::JsonStringToMessage(WithNegativeZeros(Text(message)), &json).ok()) std::abort();
  return json;
}
// {}: absent.
Json ToJson(const std::optional<Value>& value) {
  if (value.has_value()) return ToJson(*value);
  Json json;
  json.mutable_struct_value();
  return json;
}
Value ValueOf(const Json& json) {
  v1::Value message;
  if (!google::protobuf::util::JsonStringToMessage(WithNegativeZeros(Text(json)), &message).ok()) {
    throw std::runtime_error(absl::StrCat("no value: ", Text(json)));
  }
  absl::StatusOr<Value> value = FromProto(message);
  if (!value.ok()) throw std::runtime_error(std::string(value.status().message()));
  return *std::move(value);
}

class Arguments {
 public:
  explicit Arguments(Object object) : object_(std::move(object)) {}
  const Json* Find(const std::string& name) const {
    const auto found = object_.fields().find(name);
    return found == object_.fields().end() ? nullptr : &found->second;
  }
  const Json& At(const std::string& name) const {
    const Json* found = Find(name);
    if (found == nullptr) throw std::runtime_error(absl::StrCat("the command lacks ", name));
    return *found;
  }
  std::string text(const std::string& name) const {
    return Find(name) == nullptr ? "" : Find(name)->string_value();
  }
  int64_t number(const std::string& name, int64_t otherwise = 0) const {
    const Json* found = Find(name);
    if (found == nullptr) return otherwise;
    return found->has_string_value() ? std::stoll(found->string_value())
                                     : static_cast<int64_t>(found->number_value());
  }
  bool flag(const std::string& name) const { return Find(name) != nullptr && Find(name)->bool_value(); }
  absl::Duration timeout() const {
    return Find("timeout_ms") == nullptr ? absl::InfiniteDuration()
                                         : absl::Milliseconds(number("timeout_ms"));
  }
  std::optional<Value> value(const std::string& name) const {
    if (Find(name) == nullptr) return std::nullopt;
    return ValueOf(*Find(name));
  }

 private:
  Object object_;
};

// ---- What goes out

std::mutex out_mutex;

void Say(double id, std::vector<std::pair<std::string, Json>> fields) {
  Object line;
  (*line.mutable_fields())["id"] = Number(id);
  for (auto& [name, value] : fields) (*line.mutable_fields())[name] = std::move(value);
  const std::string text = Text(line);
  const std::lock_guard<std::mutex> lock(out_mutex);
  std::cout << text << std::endl;
}

Json ErrorOf(const absl::Status& status) {
  const ErrorInfo info = InfoOf(status);
  std::string reason(ReasonName(info.reason));
  if (info.reason == Reason::kNone) {
    reason = absl::IsDeadlineExceeded(status) ? "deadline"
             : absl::IsCancelled(status)      ? "cancelled"
                                              : "other";
  }
  Json json;
  auto& fields = *json.mutable_struct_value()->mutable_fields();
  fields["reason"] = String(reason);
  fields["message"] = String(std::string(status.message()));
  fields["name"] = String(info.name);
  fields["limit"] = String(info.limit);
  fields["word"] = String(info.outcome_word);
  fields["cause"] = String(info.cause);
  std::vector<Json> causes;
  for (const ConflictCause& cause : info.causes) {
    causes.push_back(List({String(cause.name), String(cause.by.label), String(cause.by.client)}));
  }
  fields["causes"] = List(std::move(causes));
  return json;
}

Json CommitOf(const Commit& commit) {
  Json json;
  auto& fields = *json.mutable_struct_value()->mutable_fields();
  fields["version"] = Wide(commit.version);
  fields["initial"] = Bool(commit.initial);
  fields["label"] = String(commit.meta.label);
  fields["by"] = String(commit.meta.client);
  std::vector<Json> changes, records;
  for (const Change& change : commit.changes) {
    changes.push_back(List({String(change.name), ToJson(change.before), ToJson(change.after)}));
  }
  for (const Value& record : commit.records) records.push_back(ToJson(record));
  fields["changes"] = List(std::move(changes));
  fields["records"] = List(std::move(records));
  return json;
}

// ---- Clients, what they hold, and commands that are under way

struct Running {
  absl::Mutex mutex;
  int64_t gone_on = 0;  // how often "go" was said
  Canceller canceller;
};

// What the body threw itself.
struct BodyFailed {
  std::string message;
};

class Player {
 public:
  void Begin(const Arguments& command) {
    const double id = command.At("id").number_value();
    auto running = std::make_shared<Running>();
    {
      absl::MutexLock lock(&mutex_);
      running_[id] = running;
    }
    std::thread([this, id, running, command] {
      try {
        Json answer;
        answer.set_null_value(google::protobuf::NULL_VALUE);
        const absl::Status status = Do(id, *running, command, &answer);
        if (status.ok()) {
          Say(id, {{"ok", std::move(answer)}});
        } else {
          Say(id, {{"error", ErrorOf(status)}});
        }
      } catch (const BodyFailed& failed) {
        Json error;
        (*error.mutable_struct_value()->mutable_fields())["reason"] = String("body");
        (*error.mutable_struct_value()->mutable_fields())["message"] = String(failed.message);
        Say(id, {{"error", std::move(error)}});
      } catch (const std::exception& failed) {
        Say(id, {{"broken", String(failed.what())}});
      }
      absl::MutexLock lock(&mutex_);
      running_.erase(id);
    }).detach();
  }
  // "go", "stop": of a command under way, not answered.
  void Steer(const Arguments& command) {
    absl::MutexLock lock(&mutex_);
    const auto found = running_.find(command.At("of").number_value());
    if (found == running_.end()) return;
    if (command.text("do") == "stop") return found->second->canceller.Cancel();
    absl::MutexLock going(&found->second->mutex);
    ++found->second->gone_on;
  }
  void End() {
    {
      absl::MutexLock lock(&mutex_);
      for (auto& [id, running] : running_) {
        running->canceller.Cancel();
        absl::MutexLock going(&running->mutex);
        running->gone_on += 1'000'000;
      }
    }
    {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(+[](decltype(running_)* running) { return running->empty(); }, &running_));
    }
    held_.clear();
    clients_.clear();
  }

 private:
  struct Body {
    Player* player;
    double id;
    Running* running;
    const Client* client;
    int runs = 0;
    int64_t pauses = 0;
    int on_commits = 0;
    std::vector<Json> results;
    std::optional<Tx> kept;
  };

  Client ClientOf(const Arguments& command) {
    absl::MutexLock lock(&mutex_);
    const auto found = clients_.find(command.text("client"));
    if (found == clients_.end()) throw std::runtime_error("no such client: " + command.text("client"));
    return found->second;
  }

  static stm::Ref<Value> RefOf(const Client& client, const std::string& name,
                               const std::optional<Value>& init, Definition definition = {}) {
    return client.Ref<Value>(name, init, std::move(definition));
  }

  static Op OpOf(const Json& step, int from) {
    static const std::map<std::string, Op::Verb> kVerbs = {
        {"set", Op::Verb::kSet},     {"add", Op::Verb::kAdd},       {"min", Op::Verb::kMin},
        {"max", Op::Verb::kMax},     {"append", Op::Verb::kAppend}, {"conj", Op::Verb::kConj},
        {"disj", Op::Verb::kDisj},   {"pop", Op::Verb::kPop},       {"shift", Op::Verb::kShift},
        {"assoc", Op::Verb::kAssoc}, {"dissoc", Op::Verb::kDissoc}, {"toggle", Op::Verb::kToggle}};
    Op op;
    op.verb = kVerbs.at(step.list_value().values(from).string_value());
    for (const Json& argument : step.list_value().values(from + 1).list_value().values()) {
      op.arguments.push_back(ValueOf(argument));
    }
    return op;
  }

  static Definition DefinitionOf(const Arguments& command) {
    Definition definition;
    definition.validator = command.value("validator");
    if (command.Find("ttl_ms") != nullptr) definition.ttl = absl::Milliseconds(command.number("ttl_ms"));
    definition.ephemeral = command.flag("ephemeral");
    return definition;
  }

  // What transactions do, step by step.
  void RunBody(Body& body, Tx& tx, const Json& steps) {
    for (const Json& step : steps.list_value().values()) {
      const auto& words = step.list_value();
      const std::string& verb = words.values(0).string_value();
      const std::string name = words.values_size() > 1 ? words.values(1).string_value() : "";
      const auto init = [&]() -> std::optional<Value> {
        return words.values_size() > 2 ? std::optional<Value>(ValueOf(words.values(2))) : std::nullopt;
      };
      if (verb == "get") {
        body.results.push_back(ToJson(tx.Get(RefOf(*body.client, name, init()))));
      } else if (verb == "find") {
        body.results.push_back(ToJson(tx.Find(RefOf(*body.client, name, std::nullopt))));
      } else if (verb == "set") {
        tx.Set(RefOf(*body.client, name, std::nullopt), ValueOf(words.values(2)));
      } else if (verb == "alter-add") {
        const int64_t by = static_cast<int64_t>(words.values(2).number_value());
        const Value after = tx.Alter(RefOf(*body.client, name, std::nullopt), [by](const Value& value) {
          return Value::Integer(value.integer() + by);
        });
        body.results.push_back(ToJson(after));
      } else if (verb == "commute") {
        tx.Commute(RefOf(*body.client, name, std::nullopt), OpOf(step, 2));
      } else if (verb == "delete") {
        tx.Delete(RefOf(*body.client, name, std::nullopt));
      } else if (verb == "ensure") {
        tx.Ensure(RefOf(*body.client, name, std::nullopt));
      } else if (verb == "list") {
        std::vector<Json> entries;
        for (const Entry& entry : tx.List(name))
          entries.push_back(List({String(entry.name), ToJson(entry.value)}));
        body.results.push_back(List(std::move(entries)));
      } else if (verb == "record") {
        tx.Record(ValueOf(words.values(1)));
      } else if (verb == "fence") {
        tx.Fence(*HeldOf(name));
      } else if (verb == "retry") {
        tx.Retry();
      } else if (verb == "retry-if") {
        if (tx.Get(RefOf(*body.client, name, std::nullopt)) == ValueOf(words.values(2))) tx.Retry();
      } else if (verb == "or-else") {
        const std::vector<Json> before = body.results;
        tx.OrElse([&] { RunBody(body, tx, words.values(1)); },
                  [&] {
                    body.results = before;
                    RunBody(body, tx, words.values(2));
                  });
      } else if (verb == "swallow") {
        try {
          RunBody(body, tx, words.values(1));
        } catch (...) {
          body.results.push_back(String("swallowed"));
        }
      } else if (verb == "join") {
        TransactOptions options;
        if (words.values(1).struct_value().fields().count("label") != 0) {
          options.label = words.values(1).struct_value().fields().at("label").string_value();
        }
        const absl::Status status =
            body.client->Transact(options, [&](Tx& inner) { RunBody(body, inner, words.values(2)); });
        if (!status.ok()) body.results.push_back(String(std::string(ReasonName(ReasonOf(status)))));
      } else if (verb == "try-join") {
        try {
          (void)body.client->Transact([&](Tx& inner) { RunBody(body, inner, words.values(1)); });
        } catch (const BodyFailed&) {
          body.results.push_back(String("failed"));
        }
      } else if (verb == "fail") {
        throw BodyFailed{name};
      } else if (verb == "io") {
        const absl::StatusOr<Value> read = RefOf(*body.client, name, std::nullopt).Get();
        body.results.push_back(String(std::string(ReasonName(ReasonOf(read.status())))));
      } else if (verb == "on-commit") {
        tx.OnCommit([&body](const Committed&) { ++body.on_commits; });
      } else if (verb == "keep-tx") {
        body.kept = tx;
      } else if (verb == "pause") {
        ++body.pauses;
        Say(body.id, {{"event", String("paused")}, {"run", Number(body.runs)}});
        absl::MutexLock lock(&body.running->mutex);
        struct Wait {
          Running* running;
          int64_t pauses;
        } wait{body.running, body.pauses};
        body.running->mutex.Await(absl::Condition(
            +[](Wait* wait) { return wait->running->gone_on >= wait->pauses; }, &wait));
      } else {
        throw std::runtime_error("no such step: " + verb);
      }
    }
  }

  absl::Status Transact(double id, Running& running, const Arguments& command, Json* answer) {
    const Client client = ClientOf(command);
    Body body{this, id, &running, &client, 0, 0, 0, {}, {}};
    Committed committed;
    std::vector<Json> causes;
    TransactOptions options;
    options.timeout = command.timeout();
    options.canceller = running.canceller;
    options.label = command.text("label");
    options.once = command.text("once");
    options.runs_max = static_cast<int>(command.number("runs_max"));
    options.stale_ok = command.flag("stale_ok");
    options.rerun_check = command.flag("rerun_check");
    if (command.text("isolation") == "snapshot") options.isolation = Isolation::kSnapshot;
    options.committed = &committed;
    options.on_rerun = [&](const Rerun& rerun) {
      for (const ConflictCause& cause : rerun.causes) causes.push_back(String(cause.name));
    };
    const absl::StatusOr<int64_t> done = client.Transact(options, [&](Tx& tx) -> int64_t {
      ++body.runs;
      body.results.clear();
      RunBody(body, tx, command.At("body"));
      return 0;
    });
    if (body.kept.has_value()) {
      try {
        (void)body.kept->Find(RefOf(client, "/kept", std::nullopt));
        body.results.push_back(String("used"));
      } catch (const TransactionClosed&) {
        body.results.push_back(String("transaction-closed"));
      }
    }
    if (!done.ok()) return done.status();
    auto& fields = *answer->mutable_struct_value()->mutable_fields();
    fields["results"] = List(std::move(body.results));
    fields["version"] = Wide(committed.version);
    fields["runs"] = Number(body.runs);
    fields["on_commits"] = Number(body.on_commits);
    fields["repeated"] = Bool(committed.repeated);
    fields["causes"] = List(std::move(causes));
    return absl::OkStatus();
  }

  // The null RPC of this language: what any call costs at least.
  std::function<absl::Status()> NullCall(const Arguments& command) {
    absl::MutexLock lock(&mutex_);
    const std::shared_ptr<grpc::health::v1::Health::Stub> stub(
        grpc::health::v1::Health::NewStub(channels_.at(command.text("client"))));
    return [stub] {
      grpc::ClientContext context;
      grpc::health::v1::HealthCheckResponse response;
      const grpc::Status status = stub->Check(&context, {}, &response);
      return status.ok() ? absl::OkStatus() : absl::UnavailableError(status.error_message());
    };
  }

  // A step of a body that is repeated, read once.
  std::function<void(Tx&)> StepOf(const Client& client, const Json& step) {
    const auto& words = step.list_value();
    const std::string& verb = words.values(0).string_value();
    const stm::Ref<Value> ref = RefOf(client, words.values(1).string_value(), std::nullopt);
    if (verb == "get") return [ref](Tx& tx) { (void)tx.Get(ref); };
    if (verb == "set") {
      return [ref, value = ValueOf(words.values(2))](Tx& tx) { tx.Set(ref, value); };
    }
    if (verb == "commute") return [ref, op = OpOf(step, 2)](Tx& tx) { tx.Commute(ref, op); };
    throw std::runtime_error("no such step is repeated: " + verb);
  }

  // One call of what "repeat" repeats, with its command read once.
  std::function<absl::Status()> CallOf(const Arguments& command) {
    const std::string verb = command.text("do");
    const std::string name = command.text("name");
    if (verb == "null") return NullCall(command);
    const Client client = ClientOf(command);
    if (verb == "get") {
      const stm::Ref<Value> ref = RefOf(client, name, command.value("init"));
      return [ref] { return ref.Get().status(); };
    }
    if (verb == "set") {
      const stm::Ref<Value> ref = RefOf(client, name, std::nullopt, DefinitionOf(command));
      const Value value = ValueOf(command.At("value"));
      return [client, ref, value] { return client.Transact([&](Tx& tx) { tx.Set(ref, value); }); };
    }
    if (verb == "apply") {
      const stm::Atom<Value> atom = client.Atom<Value>(name, command.value("init"), Definition());
      const Op op = OpOf(command.At("op"), 0);
      return [atom, op] { return atom.Apply<Value>(op).status(); };
    }
    if (verb == "lock-unlock") {
      return [client, name] {
        absl::StatusOr<Held> held = client.Acquire(name);
        return held.ok() ? held->Release() : held.status();
      };
    }
    if (verb == "watch") {
      std::vector<std::string> selectors;
      for (const Json& one : command.At("names").list_value().values()) selectors.push_back(one.string_value());
      return [client, selectors] {
        Canceller canceller;
        WatchOptions options;
        options.canceller = canceller;
        options.on_synced = [canceller](int64_t) mutable { canceller.Cancel(); };
        const absl::Status status = client.Watch(selectors, options, [](const Commit&) { return true; });
        return absl::IsCancelled(status) ? absl::OkStatus() : status;
      };
    }
    if (verb == "transact") {
      std::vector<std::function<void(Tx&)>> steps;
      for (const Json& step : command.At("body").list_value().values()) steps.push_back(StepOf(client, step));
      return [client, steps] {
        return client.Transact([&](Tx& tx) {
          for (const auto& step : steps) step(tx);
        });
      };
    }
    throw std::runtime_error("no such command is repeated: " + verb);
  }

  // `times` calls from `callers` threads, and how long they took.
  absl::Status Repeat(const Arguments& command, Json* answer) {
    Object inner = command.At("command").struct_value();
    if (inner.fields().count("client") == 0) (*inner.mutable_fields())["client"] = String(command.text("client"));
    const std::function<absl::Status()> call = CallOf(Arguments(std::move(inner)));
    const int64_t times = command.number("times", 1);
    std::atomic<int64_t> begun{0};
    absl::Mutex mutex;
    std::vector<double> took_us(static_cast<size_t>(times));  // made at once: leaks.py watches this process
    int64_t failed = 0;
    absl::Status first;
    std::vector<std::thread> callers;
    const auto began = std::chrono::steady_clock::now();
    for (int64_t i = 0; i < command.number("callers", 1); ++i) {
      callers.emplace_back([&] {
        for (int64_t at = begun.fetch_add(1); at < times; at = begun.fetch_add(1)) {
          const auto from = std::chrono::steady_clock::now();
          const absl::Status status = call();
          const std::chrono::duration<double, std::micro> passed = std::chrono::steady_clock::now() - from;
          took_us[static_cast<size_t>(at)] = passed.count();
          if (status.ok()) continue;
          absl::MutexLock lock(&mutex);
          if (failed++ == 0) first = status;
        }
      });
    }
    for (std::thread& caller : callers) caller.join();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - began;
    std::sort(took_us.begin(), took_us.end());
    const auto at = [&](double share) {
      return took_us.empty() ? 0 : took_us[static_cast<size_t>(share * static_cast<double>(took_us.size() - 1))];
    };
    auto& fields = *answer->mutable_struct_value()->mutable_fields();
    fields["p50_us"] = Number(at(0.5));
    fields["p99_us"] = Number(at(0.99));
    fields["seconds"] = Number(seconds.count());
    fields["failed"] = Number(static_cast<double>(failed));
    if (failed > 0) fields["first_error"] = ErrorOf(first);
    return absl::OkStatus();
  }

  std::shared_ptr<Held> HeldOf(const std::string& name) {
    absl::MutexLock lock(&mutex_);
    const auto found = held_.find(name);
    if (found == held_.end()) throw std::runtime_error("nothing is held as " + name);
    return found->second.held;
  }

  absl::Status Do(double id, Running& running, const Arguments& command, Json* answer) {
    const std::string verb = command.text("do");
    const std::string name = command.text("name");
    if (verb == "connect") {
      ConnectOptions options;
      options.address = command.text("address");
      options.prefix = command.text("prefix");
      options.client_name = command.text("client_name");
      if (command.Find("unavailable_ms") != nullptr)
        options.unavailable_timeout = absl::Milliseconds(command.number("unavailable_ms"));
      if (command.Find("session_ttl_ms") != nullptr)
        options.session_ttl = absl::Milliseconds(command.number("session_ttl_ms"));
      options.warn = [id](std::string_view text) {
        Say(id, {{"event", String("warning")}, {"text", String(std::string(text))}});
      };
      absl::StatusOr<Client> client = Connect(options);
      if (!client.ok()) return client.status();
      absl::MutexLock lock(&mutex_);
      clients_.insert_or_assign(command.text("client"), *std::move(client));
      const std::string first = options.address.substr(0, options.address.find(','));
      channels_[command.text("client")] = grpc::CreateChannel(first, grpc::InsecureChannelCredentials());
      return absl::OkStatus();
    }
    if (verb == "repeat") return Repeat(command, answer);
    if (verb == "null") return NullCall(command)();
    const std::optional<Value> init = command.value("init");
    ReadOptions read;
    read.timeout = command.timeout();
    read.canceller = running.canceller;
    TransactOptions write;
    write.timeout = command.timeout();
    write.canceller = running.canceller;
    write.label = command.text("label");
    if (verb == "transact") return Transact(id, running, command, answer);
    if (verb == "close") {
      std::optional<Client> closed;
      absl::MutexLock lock(&mutex_);
      const auto found = clients_.find(command.text("client"));
      if (found == clients_.end()) throw std::runtime_error("no such client");
      closed = std::move(found->second);
      clients_.erase(found);
      channels_.erase(command.text("client"));
      // A Held keeps its client.
      for (auto it = held_.begin(); it != held_.end();) {
        it = it->second.client == command.text("client") ? held_.erase(it) : std::next(it);
      }
      return absl::OkStatus();
    }
    if (verb == "release" || verb == "lost") {
      const std::shared_ptr<Held> held = HeldOf(command.text("held"));
      if (verb == "release") return held->Release();
      *answer = Bool(held->AwaitLost(absl::Milliseconds(command.number("wait_ms"))));
      return absl::OkStatus();
    }
    const Client client = ClientOf(command);
    if (verb == "get" || verb == "find") {
      const bool atom = command.flag("atom");
      if (verb == "get") {
        const absl::StatusOr<Value> value = atom ? client.Atom<Value>(name, init, Definition()).Get(read)
                                                 : RefOf(client, name, init).Get(read);
        if (value.ok()) *answer = ToJson(*value);
        return value.status();
      }
      const absl::StatusOr<std::optional<Value>> value = RefOf(client, name, init).Find(read);
      if (value.ok()) *answer = ToJson(*value);
      return value.status();
    }
    if (verb == "set") {
      const stm::Ref<Value> ref = RefOf(client, name, std::nullopt, DefinitionOf(command));
      return client.Transact(write, [&](Tx& tx) { tx.Set(ref, ValueOf(command.At("value"))); });
    }
    if (verb == "delete") {
      return client.Transact(write, [&](Tx& tx) { tx.Delete(RefOf(client, name, std::nullopt)); });
    }
    if (verb == "move-point") {
      const stm::Ref<Point> ref = client.Ref<Point>(name);
      const int64_t by = command.number("by");
      const absl::Status status = client.Transact(write, [&](Tx& tx) {
        tx.Alter(ref, [by](Point point) {
          point.x += by;
          return point;
        });
      });
      if (!status.ok()) return status;
      const absl::StatusOr<Value> after = RefOf(client, name, std::nullopt).Get(read);
      if (after.ok()) *answer = ToJson(*after);
      return after.status();
    }
    if (verb == "define") return RefOf(client, name, std::nullopt).Define(DefinitionOf(command), write);
    const stm::Atom<Value> atom = client.Atom<Value>(name, init, Definition());
    if (verb == "reset") return atom.Reset(ValueOf(command.At("value")), write);
    if (verb == "swap-add") {
      const int64_t by = command.number("by");
      const absl::StatusOr<Value> after =
          atom.Swap([by](const Value& value) { return Value::Integer(value.integer() + by); }, write);
      if (after.ok()) *answer = ToJson(*after);
      return after.status();
    }
    if (verb == "compare-and-set") {
      const absl::StatusOr<bool> done =
          atom.CompareAndSet(command.value("expected"), ValueOf(command.At("value")), write);
      if (done.ok()) *answer = Bool(*done);
      return done.status();
    }
    if (verb == "apply") {
      const absl::StatusOr<Value> after = atom.Apply<Value>(OpOf(command.At("op"), 0), write);
      if (after.ok()) *answer = ToJson(*after);
      return after.status();
    }
    if (verb == "list") {
      const absl::StatusOr<std::vector<Entry>> entries = client.List(name);
      if (!entries.ok()) return entries.status();
      std::vector<Json> items;
      for (const Entry& entry : *entries) items.push_back(List({String(entry.name), ToJson(entry.value)}));
      *answer = List(std::move(items));
      return absl::OkStatus();
    }
    if (verb == "history") {
      const absl::StatusOr<std::vector<Commit>> commits = RefOf(client, name, std::nullopt).History();
      if (!commits.ok()) return commits.status();
      std::vector<Json> items;
      for (const Commit& commit : *commits) items.push_back(CommitOf(commit));
      *answer = List(std::move(items));
      return absl::OkStatus();
    }
    if (verb == "at") {
      const absl::StatusOr<std::optional<Value>> value =
          client.At(command.number("version")).Find(RefOf(client, name, std::nullopt));
      if (value.ok()) *answer = ToJson(*value);
      return value.status();
    }
    if (verb == "records") {
      std::vector<Json> records;
      RecordOptions options;
      for (const Json& tag : command.At("tags").list_value().values())
        options.tags.push_back(tag.string_value());
      for (const auto& record : client.Records(options)) records.push_back(ToJson(record.value));
      *answer = List(std::move(records));
      return absl::OkStatus();
    }
    if (verb == "watch") {
      WatchOptions options;
      options.initial = command.flag("initial");
      options.after = command.number("after");
      options.timeout = command.timeout();
      options.canceller = running.canceller;
      if (command.Find("progress_ms") != nullptr)
        options.progress_every = absl::Milliseconds(command.number("progress_ms"));
      options.on_synced = [id](int64_t version) {
        Say(id, {{"event", String("synced")}, {"version", Wide(version)}});
      };
      std::vector<std::string> selectors;
      for (const Json& one : command.At("names").list_value().values())
        selectors.push_back(one.string_value());
      return client.Watch(selectors, options, [id](const Commit& commit) {
        Say(id, {{"event", String("commit")}, {"commit", CommitOf(commit)}});
        return true;
      });
    }
    if (verb == "follow") {
      WatchOptions options;
      options.canceller = running.canceller;
      return RefOf(client, name, std::nullopt)
          .Follow(
              [id](const std::optional<Value>& value) {
                Say(id, {{"event", String("value")}, {"value", ToJson(value)}});
                return true;
              },
              options);
    }
    if (verb == "acquire") {
      AcquireOptions options;
      options.shared = command.flag("shared");
      options.owner = command.text("owner");
      options.permits_max = static_cast<uint32_t>(command.number("permits_max"));
      options.permits = static_cast<uint32_t>(command.number("permits"));
      if (command.Find("wait_ms") != nullptr) options.wait = absl::Milliseconds(command.number("wait_ms"));
      options.timeout = command.timeout();
      options.canceller = running.canceller;
      absl::StatusOr<Held> held = client.Acquire(name, options);
      if (!held.ok()) return held.status();
      *answer = Wide(held->token());
      absl::MutexLock lock(&mutex_);
      held_[command.text("held")] = {command.text("client"), std::make_shared<Held>(*std::move(held))};
      return absl::OkStatus();
    }
    if (verb == "lock") {
      const absl::StatusOr<LockInfo> lock = client.Lock(name);
      if (!lock.ok()) return lock.status();
      *answer = List({Number(static_cast<double>(lock->holders.size())), Number(static_cast<double>(lock->queue.size()))});
      return absl::OkStatus();
    }
    if (verb == "outcome") {
      const absl::StatusOr<std::optional<int64_t>> version = client.Outcome(command.text("word"));
      if (!version.ok()) return version.status();
      *answer = version->has_value() ? String("committed") : String("not-committed");
      return absl::OkStatus();
    }
    throw std::runtime_error("no such command: " + verb);
  }

  absl::Mutex mutex_;
  std::map<std::string, Client> clients_;
  struct HeldBy {
    std::string client;
    std::shared_ptr<Held> held;
  };
  std::map<std::string, HeldBy> held_;
  std::map<double, std::shared_ptr<Running>> running_;
  std::map<std::string, std::shared_ptr<grpc::Channel>> channels_;  // of each client, for "null"
};

int Main() {
  Player player;
  for (std::string line; std::getline(std::cin, line);) {
    Object object;
    if (!google::protobuf::util::JsonStringToMessage(line, &object).ok()) {
      std::cerr << "cpp_driver: no JSON: " << line << "\n";
      return 2;
    }
    const Arguments command(std::move(object));
    if (command.text("do") == "go" || command.text("do") == "stop") {
      player.Steer(command);
    } else {
      player.Begin(command);
    }
  }
  player.End();
  return 0;
}

}  // namespace
}  // namespace stm::conformance

int main() { return stm::conformance::Main(); }
