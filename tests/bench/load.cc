#include "tests/bench/load.h"

#include <grpcpp/grpcpp.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <deque>
#include <functional>
#include <optional>
#include <utility>

#include "absl/synchronization/mutex.h"
#include "stm/v1/ref_service.grpc.pb.h"
#include "stm/v1/transaction_service.grpc.pb.h"
#include "stm/v1/watch_service.grpc.pb.h"
#include "tests/bench/alter.h"
#include "tests/bench/call.h"
#include "tests/bench/echo.grpc.pb.h"
#include "tests/bench/process.h"

namespace stm::bench {

namespace echo = ::stm::bench::v1;

namespace {

constexpr char kCounter[] = "/bench/counter";
constexpr char kHot[] = "/bench/hot";
constexpr char kWatched[] = "/bench/watched";
constexpr char kValidator[] = "[:and :string [:size 1 4096]]";

// 20 digits and padding.
void PutNumber(uint64_t number, std::string* value) {
  value->resize(kValueBytes, '.');
  for (int i = 19; i >= 0; --i, number /= 10) (*value)[static_cast<size_t>(i)] = static_cast<char>('0' + number % 10);
}

uint64_t TakeNumber(const std::string& value) { return std::stoull(value.substr(0, 20)); }

std::string KeyName(int caller, int key) {
  return "/bench/disjoint/" + std::to_string(caller) + "/" + std::to_string(key);
}

class NullCaller final : public Caller {
 public:
  explicit NullCaller(echo::EchoService::Stub* stub) : stub_(stub) {
    request_.set_payload(std::string(kValueBytes, 'e'));
  }

  void Begin() override {
    Ready(&context_);
    began_ = Now();
    stub_->async()->Echo(&*context_, &request_, &response_, [this](const grpc::Status& status) {
      CheckOk(status, "echo");
      Ended(began_);
    });
  }

 private:
  echo::EchoService::Stub* stub_;
  std::optional<grpc::ClientContext> context_;
  echo::EchoRequest request_;
  echo::EchoResponse response_;
  double began_ = 0;
};

class GetCaller final : public Caller {
 public:
  GetCaller(wire::RefService::Stub* stub, Known* known, int index) : stub_(stub), known_(known) {
    request_.add_names(KeyName(index, 0));
    request_.mutable_at()->mutable_seen()->set_store(known->store);
  }

  void Begin() override {
    Ready(&context_);
    request_.mutable_at()->mutable_seen()->set_version(known_->newest.load(std::memory_order_relaxed));
    began_ = Now();
    stub_->async()->GetRefs(&*context_, &request_, &response_, [this](const grpc::Status& status) {
      CheckOk(status, "GetRefs");
      if (response_.entries_size() != 1 || response_.entries(0).value().text().size() != kValueBytes) {
        Fail("GetRefs: not the value: " + response_.ShortDebugString());
      }
      known_->Learn(response_.snapshot());
      Ended(began_);
    });
  }

 private:
  wire::RefService::Stub* stub_;
  Known* known_;
  std::optional<grpc::ClientContext> context_;
  wire::GetRefsRequest request_;
  wire::GetRefsResponse response_;
  double began_ = 0;
};

// What one caller of the disjoint rows commits, one after the other.
class Content {
 public:
  Content(Known* known, int index) : known_(known) {
    for (int key = 0; key < kKeysOfCaller; ++key) names_.push_back(KeyName(index, key));
  }

  // Keys of one's own, and no commit of one's own in flight: all that is known now is a snapshot to read at.
  void Renew() { snapshot_ = known_->newest.load(std::memory_order_relaxed); }

  // Over whatever the last Fill of any Content left: strings are assigned in place.
  void Fill(wire::CommitRequest* request) {
    ids_.Next(*known_, request->mutable_id());
    request->set_snapshot(snapshot_);
    while (request->reads_size() < 1) request->add_reads();
    while (request->writes_size() < 2) request->add_writes()->set_kind(wire::ENTRY_KIND_REF);
    const std::string& first = names_[turn_ % kKeysOfCaller];
    const std::string& second = names_[(turn_ + 1) % kKeysOfCaller];
    ++turn_;
    *request->mutable_reads(0) = first;
    *request->mutable_writes(0)->mutable_name() = first;
    *request->mutable_writes(1)->mutable_name() = second;
    PutNumber(turn_, request->mutable_writes(0)->mutable_set()->mutable_text());
    PutNumber(turn_, request->mutable_writes(1)->mutable_set()->mutable_text());
  }

  void Answered(const wire::CommitResponse& response) {
    snapshot_ = VersionOf(response, "disjoint");
    known_->Learn(snapshot_);
  }

 private:
  Known* known_;
  Ids ids_;
  std::vector<std::string> names_;
  int64_t snapshot_ = 0;
  uint64_t turn_ = 0;
};

class CommitCaller final : public Caller {
 public:
  CommitCaller(wire::TransactionService::Stub* stub, Known* known, int index) : content(known, index), stub_(stub) {}

  void Begin() override {
    Send(Now(), [this] { Ended(began_); });
  }

  // One commit; then `then`.
  template <typename F>
  void Send(double began, F then) {
    began_ = began;
    Ready(&context_);
    content.Fill(&request_);
    stub_->async()->Commit(&*context_, &request_, &response_, [this, then](const grpc::Status& status) {
      CheckOk(status, "Commit");
      content.Answered(response_);
      then();
    });
  }

  double began() const { return began_; }

  Content content;

 private:
  wire::TransactionService::Stub* stub_;
  std::optional<grpc::ClientContext> context_;
  wire::CommitRequest request_;
  wire::CommitResponse response_;
  double began_ = 0;
};

class CommuteCaller final : public Caller {
 public:
  CommuteCaller(wire::TransactionService::Stub* stub, Known* known, int index)
      : stub_(stub), known_(known) {
    wire::Write* write = request_.add_writes();
    write->set_name(kCounter);
    write->set_kind(wire::ENTRY_KIND_REF);
    write->mutable_apply()->mutable_add()->set_integer(1);
  }

  void Begin() override {
    Ready(&context_);
    ids_.Next(*known_, request_.mutable_id());
    began_ = Now();
    stub_->async()->Commit(&*context_, &request_, &response_, [this](const grpc::Status& status) {
      CheckOk(status, "Commit");
      known_->Learn(VersionOf(response_, "commute"));
      Ended(began_);
    });
  }

 private:
  wire::TransactionService::Stub* stub_;
  Known* known_;
  Ids ids_;
  std::optional<grpc::ClientContext> context_;
  wire::CommitRequest request_;
  wire::CommitResponse response_;
  double began_ = 0;
};

// alter of one ref by all.
class HotCaller final : public Caller, private Alter {
 public:
  HotCaller(wire::RefService::Stub* refs, wire::TransactionService::Stub* transactions, Known* known, Timer* timer)
      : Alter(refs, transactions, known, timer, kHot) {}

  void Begin() override {
    began_ = Now();
    Transact();
  }

 private:
  bool Compute(const wire::Value& value, wire::Value* to) override {
    PutNumber(TakeNumber(value.text()) + 1, to->mutable_text());
    return true;
  }
  void Committed() override { Ended(began_); }

  double began_ = 0;
};

// One Pipeline stream and the calls in flight on it. One write in the air; what is ready meanwhile goes into the next
// message. Reads and writes end on different threads: the mutex keeps the slots.
class Stream final : public grpc::ClientBidiReactor<wire::PipelineRequest, wire::PipelineResponse> {
 public:
  struct Slot {
    explicit Slot(Known* known, int index) : content(known, index) {}
    Content content;
    double began = 0;
    std::atomic<uint64_t> calls{0};
    std::vector<float> latencies_us;
  };

  // Commits of these slots until run stops, or until budget (shared by streams; null: none) is used up.
  Stream(wire::TransactionService::Stub* stub, std::vector<Slot*> slots, Run* run, std::atomic<int64_t>* budget)
      : slots_(std::move(slots)), run_(run), budget_(budget) {
    for (size_t i = 0; i < slots_.size(); ++i) ready_.push_back(i);
    stub->async()->Pipeline(&context_, this);
    StartRead(&response_);
    // The hold keeps OnDone away while writes may start outside a reaction.
    AddHold();
    StartCall();
    absl::MutexLock lock(&mutex_);
    Write();
  }

  void AwaitDone() {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&done_));
    CheckOk(status_, "Pipeline");
  }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    const double now = Now();
    const bool recording = run_->recording.load(std::memory_order_relaxed);
    answered_.clear();
    for (const wire::PipelineAnswer& answer : response_.answers()) {
      if (answer.code() != 0 || !answer.has_commit()) Fail("Pipeline: " + answer.ShortDebugString());
      Slot* slot = slots_[answer.call()];
      slot->content.Answered(answer.commit());
      slot->calls.store(slot->calls.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
      if (recording) slot->latencies_us.push_back(static_cast<float>((now - slot->began) * 1e6));
      answered_.push_back(answer.call());
    }
    {
      absl::MutexLock lock(&mutex_);
      in_flight_ -= answered_.size();
      ready_.insert(ready_.end(), answered_.begin(), answered_.end());
      Write();
    }
    StartRead(&response_);
  }

  void OnWriteDone(bool ok) override {
    if (!ok) Fail("Pipeline: the stream broke");
    absl::MutexLock lock(&mutex_);
    write_in_air_ = false;
    Write();
  }

  void OnDone(const grpc::Status& status) override {
    absl::MutexLock lock(&mutex_);
    status_ = status;
    done_ = true;
  }

 private:
  bool Take() { return budget_ == nullptr || budget_->fetch_sub(1, std::memory_order_relaxed) > 0; }

  void Write() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (write_in_air_ || ended_) return;
    // The message keeps its calls from one use to the next: nothing is allocated.
    auto* calls = request_.mutable_calls();
    while (calls->size() > 0) spare_.push_back(calls->UnsafeArenaReleaseLast());
    const bool stop = run_->stop.load(std::memory_order_relaxed);
    while (!stop && !ready_.empty() && calls->size() < kCallsAMessage && Take()) {
      const size_t index = ready_.front();
      ready_.pop_front();
      wire::PipelineCall* call = nullptr;
      if (spare_.empty()) {
        call = new wire::PipelineCall;
      } else {
        call = spare_.back();
        spare_.pop_back();
      }
      call->set_call(index);
      slots_[index]->began = Now();
      slots_[index]->content.Fill(call->mutable_commit());
      calls->UnsafeArenaAddAllocated(call);
    }
    if (calls->size() > 0) {
      in_flight_ += static_cast<size_t>(calls->size());
      write_in_air_ = true;
      StartWrite(&request_);
    } else if (in_flight_ == 0) {
      ended_ = true;
      for (wire::PipelineCall* call : spare_) delete call;
      spare_.clear();
      StartWritesDone();
      RemoveHold();
      run_->left.fetch_sub(static_cast<int>(slots_.size()), std::memory_order_release);
    }
  }

  static constexpr int kCallsAMessage = 1024;

  const std::vector<Slot*> slots_;
  Run* const run_;
  std::atomic<int64_t>* const budget_;
  grpc::ClientContext context_;
  wire::PipelineResponse response_;
  std::vector<size_t> answered_;

  absl::Mutex mutex_;
  std::deque<size_t> ready_ ABSL_GUARDED_BY(mutex_);
  std::vector<wire::PipelineCall*> spare_ ABSL_GUARDED_BY(mutex_);
  wire::PipelineRequest request_ ABSL_GUARDED_BY(mutex_);
  size_t in_flight_ ABSL_GUARDED_BY(mutex_) = 0;
  bool write_in_air_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::Status status_ ABSL_GUARDED_BY(mutex_);
};

// All the watchers of one fan-out.
struct Fan {
  std::atomic<int> opened{0};
  std::atomic<int> ended{0};
  std::atomic<int> to_reach{0};
  std::atomic<bool> reached{false};
  double reached_at = 0;
};

class Watcher final : public grpc::ClientReadReactor<wire::WatchResponse> {
 public:
  Watcher(wire::WatchService::Stub* stub, const wire::WatchRequest& request, Fan* fan) : fan_(fan) {
    stub->async()->Watch(&context_, &request, this);
    StartRead(&response_);
    StartCall();
  }

  void Cancel() { context_.TryCancel(); }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    if (response_.has_synced()) {
      fan_->opened.fetch_add(1, std::memory_order_release);
    } else if (response_.has_commit()) {
      if (response_.commit().version() <= version_) Fail("Watch: versions went back: " + response_.ShortDebugString());
      version_ = response_.commit().version();
      if (fan_->to_reach.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        fan_->reached_at = Now();
        fan_->reached.store(true, std::memory_order_release);
      }
    } else if (response_.has_gap()) {
      Fail("Watch: " + response_.ShortDebugString());
    }
    StartRead(&response_);
  }

  void OnDone(const grpc::Status& status) override {
    if (status.error_code() != grpc::StatusCode::CANCELLED) CheckOk(status, "Watch");
    fan_->ended.fetch_add(1, std::memory_order_release);
  }

 private:
  Fan* const fan_;
  grpc::ClientContext context_;
  wire::WatchResponse response_;
  int64_t version_ = 0;
};

}  // namespace

class Load::Rep {
 public:
  explicit Rep(const Servers& servers) : servers(servers) {
    for (int i = 0; i < servers.channels; ++i) {
      if (!servers.echo_address.empty()) {
        echoes.push_back(echo::EchoService::NewStub(MakeChannel(servers.echo_address)));
      }
      const std::shared_ptr<grpc::Channel> channel = MakeChannel(servers.stmd_address);
      refs.push_back(wire::RefService::NewStub(channel));
      transactions.push_back(wire::TransactionService::NewStub(channel));
      watches.push_back(wire::WatchService::NewStub(channel));
      if (i == 0) known.Ask(channel);
    }
    MakeEntries();
    for (int i = servers.first_caller; i < servers.first_caller + servers.callers; ++i) {
      const size_t channel = static_cast<size_t>(i % servers.channels);
      if (!echoes.empty()) nulls.push_back(std::make_unique<NullCaller>(echoes[channel].get()));
      gets.push_back(std::make_unique<GetCaller>(refs[channel].get(), &known, i));
      commits.push_back(std::make_unique<CommitCaller>(transactions[channel].get(), &known, i));
      commutes.push_back(std::make_unique<CommuteCaller>(transactions[channel].get(), &known, i));
      hots.push_back(
          std::make_unique<HotCaller>(refs[channel].get(), transactions[channel].get(), &known, &timer));
      slots.push_back(std::make_unique<Stream::Slot>(&known, i));
    }
  }

  // Sums from this run on: a store used before has others' in it.
  uint64_t counted_before = 0;
  uint64_t hot_before = 0;

  const Servers servers;
  Known known;
  std::vector<std::unique_ptr<echo::EchoService::Stub>> echoes;
  std::vector<std::unique_ptr<wire::RefService::Stub>> refs;
  std::vector<std::unique_ptr<wire::TransactionService::Stub>> transactions;
  std::vector<std::unique_ptr<wire::WatchService::Stub>> watches;
  Timer timer;
  std::vector<std::unique_ptr<NullCaller>> nulls;
  std::vector<std::unique_ptr<GetCaller>> gets;
  std::vector<std::unique_ptr<CommitCaller>> commits;
  std::vector<std::unique_ptr<CommuteCaller>> commutes;
  std::vector<std::unique_ptr<HotCaller>> hots;
  std::vector<std::unique_ptr<Stream::Slot>> slots;

  wire::Entry Entry(const std::string& name) {
    grpc::ClientContext context;
    wire::GetRefsRequest request;
    request.add_names(name);
    wire::GetRefsResponse response;
    CheckOk(refs[0]->GetRefs(&context, request, &response), "GetRefs");
    return response.entries(0);
  }

  int64_t CommitNow(const wire::CommitRequest& request) {
    grpc::ClientContext context;
    wire::CommitResponse response;
    CheckOk(transactions[0]->Commit(&context, request, &response), "Commit");
    const int64_t version = VersionOf(response, "setting up");
    known.Learn(version);
    return version;
  }

  // For `seconds`, or until budget commits are done when it is not null.
  Measured Pipelined(int in_flight, double seconds, std::atomic<int64_t>* budget) {
    Run run;
    run.left = in_flight;
    std::vector<Stream::Slot*> used;
    std::vector<std::vector<Stream::Slot*>> of_stream(static_cast<size_t>(servers.streams));
    for (int i = 0; i < in_flight; ++i) {
      Stream::Slot* slot = slots[static_cast<size_t>(i)].get();
      slot->content.Renew();
      slot->latencies_us.clear();
      used.push_back(slot);
      of_stream[static_cast<size_t>(i % servers.streams)].push_back(slot);
    }
    std::vector<std::unique_ptr<Stream>> streams;
    for (size_t i = 0; i < of_stream.size(); ++i) {
      streams.push_back(std::make_unique<Stream>(transactions[i % transactions.size()].get(), of_stream[i], &run, budget));
    }
    const Measured measured = Observe(used, &run, servers.stmd_pid, seconds, [&] {
      if (budget == nullptr) {
        SleepSeconds(seconds);
      } else {
        while (run.left.load(std::memory_order_acquire) > 0) SleepSeconds(0.01);
      }
    });
    for (const std::unique_ptr<Stream>& stream : streams) stream->AwaitDone();
    return measured;
  }

 private:
  // A store that was used before has them: creates change nothing then.
  void MakeEntries() {
    wire::CommitRequest request;
    const auto create = [&](const std::string& name) {
      wire::Write* write = request.add_writes();
      write->set_name(name);
      write->set_kind(wire::ENTRY_KIND_REF);
      return write;
    };
    const auto create_text = [&](const std::string& name) {
      wire::Write* write = create(name);
      PutNumber(0, write->mutable_create()->mutable_text());
      write->mutable_definition()->mutable_validator()->set_edn(kValidator);
    };
    create(kCounter)->mutable_create()->set_integer(0);
    create_text(kHot);
    create_text(kWatched);
    for (int caller = 0; caller < servers.callers; ++caller) {
      for (int key = 0; key < kKeysOfCaller; ++key) create_text(KeyName(servers.first_caller + caller, key));
      if (caller % 32 != 31 && caller + 1 < servers.callers) continue;
      CommitNow(request);
      request.Clear();
    }
    counted_before = static_cast<uint64_t>(Entry(kCounter).value().integer());
    hot_before = TakeNumber(Entry(kHot).value().text());
  }
};

Load::Load(const Servers& servers) : rep_(std::make_unique<Rep>(servers)) {}

Load::~Load() = default;

Measured Load::Null(int callers, double seconds) {
  return ClosedLoop(rep_->nulls, callers, rep_->servers.echo_pid, seconds);
}

Measured Load::Get(int callers, double seconds) {
  return ClosedLoop(rep_->gets, callers, rep_->servers.stmd_pid, seconds);
}

Measured Load::Commit(int callers, double seconds) {
  for (const auto& caller : rep_->commits) caller->content.Renew();
  return ClosedLoop(rep_->commits, callers, rep_->servers.stmd_pid, seconds);
}

Measured Load::CommitPipelined(int in_flight, double seconds) { return rep_->Pipelined(in_flight, seconds, nullptr); }

Measured Load::Commute(int callers, double seconds) {
  return ClosedLoop(rep_->commutes, callers, rep_->servers.stmd_pid, seconds);
}

Measured Load::AlterHot(int callers, double seconds) {
  return ClosedLoop(rep_->hots, callers, rep_->servers.stmd_pid, seconds);
}

int64_t Load::CommitMany(int64_t count, int in_flight) {
  std::atomic<int64_t> budget{count};
  rep_->Pipelined(in_flight, 0, &budget);
  return rep_->known.newest.load();
}

Measured Load::CommitAtRate(double per_second, double seconds) {
  // The pacer must wake when a call is due, not 50 us later.
  prctl(PR_SET_TIMERSLACK, 1);
  Run run;
  struct Shared {
    absl::Mutex mutex;
    std::vector<CommitCaller*> idle ABSL_GUARDED_BY(mutex);
    std::deque<double> waiting ABSL_GUARDED_BY(mutex);
  } shared;
  std::vector<CommitCaller*> callers;
  for (const auto& caller : rep_->commits) {
    caller->content.Renew();
    caller->latencies_us.clear();
    callers.push_back(caller.get());
  }
  {
    absl::MutexLock lock(&shared.mutex);
    shared.idle = callers;
  }
  std::function<void(CommitCaller*, double)> send = [&](CommitCaller* caller, double due) {
    caller->Send(due, [&, caller] {
      caller->calls.store(caller->calls.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
      if (run.recording.load(std::memory_order_relaxed)) {
        caller->latencies_us.push_back(static_cast<float>((Now() - caller->began()) * 1e6));
      }
      std::optional<double> next;
      {
        absl::MutexLock lock(&shared.mutex);
        if (shared.waiting.empty()) {
          shared.idle.push_back(caller);
        } else {
          next = shared.waiting.front();
          shared.waiting.pop_front();
        }
      }
      if (next) send(caller, *next);
      // Last of all: when nothing is left, `shared` is gone.
      run.left.fetch_sub(1, std::memory_order_release);
    });
  };
  const auto pace = [&](double for_seconds) {
    const double end = Now() + for_seconds;
    for (double due = Now(); due < end; due += 1 / per_second) {
      SleepSeconds(due - Now());
      run.left.fetch_add(1, std::memory_order_relaxed);
      CommitCaller* caller = nullptr;
      {
        absl::MutexLock lock(&shared.mutex);
        if (shared.idle.empty()) {
          shared.waiting.push_back(due);
        } else {
          caller = shared.idle.back();
          shared.idle.pop_back();
        }
      }
      if (caller != nullptr) send(caller, due);
    }
  };
  pace(kRampSeconds);
  return Observe(callers, &run, rep_->servers.stmd_pid, seconds, [&] { pace(seconds); });
}

std::vector<double> Load::Fanout(int watchers, int commits, Load* by) {
  wire::WatchRequest request;
  request.mutable_selector()->add_names(kWatched);
  Fan fan;
  std::vector<std::unique_ptr<Watcher>> all;
  for (int i = 0; i < watchers; ++i) {
    all.push_back(std::make_unique<Watcher>(rep_->watches[static_cast<size_t>(i) % rep_->watches.size()].get(), request,
                                            &fan));
  }
  Until("all watches opened", [&] { return fan.opened.load(std::memory_order_acquire) == watchers; });
  std::vector<double> seconds;
  wire::CommitRequest commit;
  commit.add_writes()->set_name(kWatched);
  for (int i = 0; i < commits; ++i) {
    Ids().Next(by->rep_->known, commit.mutable_id());
    PutNumber(static_cast<uint64_t>(i), commit.mutable_writes(0)->mutable_set()->mutable_text());
    fan.reached.store(false);
    fan.to_reach.store(watchers);
    const double from = Now();
    by->rep_->CommitNow(commit);
    Until("all watchers reached", [&] { return fan.reached.load(std::memory_order_acquire); });
    seconds.push_back(fan.reached_at - from);
  }
  for (const auto& watcher : all) watcher->Cancel();
  Until("all watches ended", [&] { return fan.ended.load(std::memory_order_acquire) == watchers; });
  return seconds;
}

void Load::CheckSums(const std::vector<Load*>& loads) {
  Rep& first = *loads.front()->rep_;
  uint64_t counted = first.counted_before, hot = first.hot_before;
  for (const Load* load : loads) {
    for (const auto& caller : load->rep_->commutes) counted += caller->calls.load();
    for (const auto& caller : load->rep_->hots) hot += caller->calls.load();
  }
  const auto counter_is = static_cast<uint64_t>(first.Entry(kCounter).value().integer());
  const uint64_t hot_is = TakeNumber(first.Entry(kHot).value().text());
  if (counter_is != counted || hot_is != hot) {
    Fail("updates were lost or doubled: the counter holds " + std::to_string(counter_is) + ", acknowledged were " +
         std::to_string(counted) + "; the hot ref holds " + std::to_string(hot_is) + ", acknowledged were " +
         std::to_string(hot));
  }
}

Round Against(Load& load, double seconds, const std::function<double()>& limit, const std::function<double()>& ours) {
  const Measured gate_before = load.Null(kGateCallers, seconds / 2);
  const double before = limit();
  const double value = ours();
  const double limit_value = Mean(before, limit());
  const Measured gate_after = load.Null(kGateCallers, seconds / 2);
  return {value, limit_value, value / limit_value, Mean(gate_before.cores, gate_after.cores)};
}

}  // namespace stm::bench
