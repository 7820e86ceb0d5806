#include "tests/e2e/kill/caller.h"

#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <utility>

#include "engine/values/wire.h"
#include "stm/v1/value.pb.h"

namespace stm::e2e {
namespace {

using check::Answer;
using check::Write;

// A daemon that is not back by then never will be.
constexpr std::chrono::seconds kPatience(60);
// One of several that takes no connection by then is passed over.
constexpr std::chrono::milliseconds kNextDaemon(100);
constexpr std::chrono::milliseconds kAgain(10);
constexpr int64_t kImpatienceMsMax = 5;

std::chrono::system_clock::time_point In(std::chrono::milliseconds time) {
  return std::chrono::system_clock::now() + time;
}

void ToProto(const Write& from, v1::Write* to) {
  to->set_name(from.name);
  switch (from.change) {
    case Write::Change::kSet:
      stm::ToProto(from.value, to->mutable_set());
      break;
    case Write::Change::kAdd:
      stm::ToProto(from.value, to->mutable_apply()->mutable_add());
      break;
    case Write::Change::kConj:
      stm::ToProto(from.value, to->mutable_apply()->mutable_conj()->add_items());
      break;
    case Write::Change::kDelete:
      to->set_delete_entry(true);
      break;
    case Write::Change::kCreate:
      stm::ToProto(from.value, to->mutable_create());
      break;
    case Write::Change::kDefine:
      to->mutable_define();
      break;
  }
}

check::Entry FromProto(const v1::Entry& from) {
  check::Entry entry;
  entry.name = from.name();
  entry.version = from.version();
  if (from.has_value()) entry.value = *stm::FromProto(from.value());
  return entry;
}

Answer FromProto(const v1::CommitResponse& from) {
  Answer answer;
  answer.at = Clock();
  switch (from.outcome_case()) {
    case v1::CommitResponse::kCommitted:
      answer.verdict = Answer::Verdict::kCommitted;
      answer.version = from.committed().version();
      answer.results_dropped = from.committed().results_dropped();
      for (const v1::Value& result : from.committed().results()) {
        const bool some = result.kind_case() != v1::Value::KIND_NOT_SET;
        answer.results.push_back(some ? std::optional<Value>(*stm::FromProto(result)) : std::nullopt);
      }
      break;
    case v1::CommitResponse::kConflict:
      answer.verdict = Answer::Verdict::kConflict;
      answer.snapshot = from.conflict().snapshot();
      for (const v1::ConflictCause& cause : from.conflict().causes()) {
        answer.causes.push_back({cause.name(), cause.version()});
      }
      // One whose value was left out for its size looks absent; here none is so large.
      for (const v1::Entry& entry : from.conflict().fresh()) answer.fresh.push_back(FromProto(entry));
      break;
    case v1::CommitResponse::kRejected:
      answer.verdict = Answer::Verdict::kRejected;
      break;
    case v1::CommitResponse::kFenceLost:
      answer.verdict = Answer::Verdict::kRefused;
      break;
    case v1::CommitResponse::kNotCommitted:
      answer.verdict = Answer::Verdict::kNotCommitted;
      break;
    case v1::CommitResponse::kIdTooOld:
    case v1::CommitResponse::OUTCOME_NOT_SET:
      answer.verdict = Answer::Verdict::kUnknown;
      break;
  }
  return answer;
}

// The call may have been executed, or not.
bool IsUnknown(const grpc::Status& status) {
  switch (status.error_code()) {
    case grpc::StatusCode::UNAVAILABLE:
    case grpc::StatusCode::DEADLINE_EXCEEDED:
    case grpc::StatusCode::CANCELLED:
    case grpc::StatusCode::UNKNOWN:
    case grpc::StatusCode::INTERNAL:
      return true;
    default:
      return false;
  }
}

}  // namespace

check::Time Clock() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * int64_t{1000000000} + now.tv_nsec;
}

std::shared_ptr<grpc::Channel> Dial(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 20);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 20);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 60);
  // Channels with equal arguments share a connection otherwise.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  // Whether to send again is the writer's to say.
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

Caller::Caller(const Options& options) : options_(options), random_(options.seed) {
  for (const std::string& address : options.addresses) {
    Daemon& daemon = daemons_.emplace_back();
    daemon.channel = Dial(address);
    daemon.admin = v1::AdminService::NewStub(daemon.channel);
    daemon.refs = v1::RefService::NewStub(daemon.channel);
    daemon.transactions = v1::TransactionService::NewStub(daemon.channel);
    daemon.log = v1::LogService::NewStub(daemon.channel);
  }
}

void Caller::Learn(const v1::Header& header) {
  store_ = header.store();
  writer_ = header.writer();
  seen_ = std::max(seen_, header.installed_version());
}

void Caller::Failed() {
  ++failed_in_a_row_;
  if (!outage_) outage_ = Outage{current_, Clock(), 0};
}

void Caller::Served() {
  failed_in_a_row_ = 0;
  if (!outage_) return;
  outage_->to = Clock();
  outages_.push_back(*std::exchange(outage_, std::nullopt));
}

bool Caller::MoveOn() {
  if (daemons_.size() == 1) return daemon().channel->WaitForConnected(In(kPatience));
  // All have failed: at once, they would again.
  if (failed_in_a_row_ >= static_cast<int64_t>(daemons_.size())) std::this_thread::sleep_for(kAgain);
  for (const auto until = In(kPatience); std::chrono::system_clock::now() < until;) {
    current_ = (current_ + 1) % daemons_.size();
    if (daemon().channel->WaitForConnected(In(kNextDaemon))) return true;
  }
  return false;
}

bool Caller::Connect() {
  for (const auto until = In(kPatience); std::chrono::system_clock::now() < until;) {
    grpc::ClientContext context;
    context.set_deadline(In(options_.call_timeout));
    v1::GetStatusResponse response;
    const grpc::Status status = daemon().admin->GetStatus(&context, v1::GetStatusRequest(), &response);
    if (status.ok() && response.ready()) {
      Learn(response.header());
      return true;
    }
    if (!MoveOn()) return false;
  }
  return false;
}

std::optional<Caller::Values> Caller::Get(const std::vector<std::string>& names, At at) {
  for (const auto until = In(kPatience); std::chrono::system_clock::now() < until;) {
    v1::GetRefsRequest request;
    for (const std::string& name : names) request.add_names(name);
    request.mutable_at()->mutable_seen()->set_version(seen_);
    request.mutable_at()->mutable_seen()->set_store(store_);
    if (at == At::kSnapshot) request.mutable_at()->set_version(snapshot_);
    if (at == At::kStale) request.mutable_at()->set_stale(true);
    check::Read read;
    read.client = options_.number;
    read.newest = at == At::kNewest;
    read.at_least = seen_;
    read.invoked = Clock();
    grpc::ClientContext context;
    context.set_deadline(In(options_.call_timeout));
    v1::GetRefsResponse response;
    const grpc::Status status = daemon().refs->GetRefs(&context, request, &response);
    if (at == At::kSnapshot && status.error_code() == grpc::StatusCode::OUT_OF_RANGE) {
      snapshot_ = 0;
      return std::nullopt;
    }
    if (!status.ok()) {
      Failed();
      if (!MoveOn()) return std::nullopt;
      continue;
    }
    Served();
    read.answered = Clock();
    read.snapshot = snapshot_ = response.snapshot();
    Learn(response.header());
    Values values;
    for (const v1::Entry& entry : response.entries()) {
      read.entries.push_back(FromProto(entry));
      values[entry.name()] = read.entries.back().value;
    }
    history_.reads.push_back(std::move(read));
    return values;
  }
  return std::nullopt;
}

Caller::Sent Caller::Commit(check::Transaction transaction) {
  transaction.client = options_.number;
  transaction.id = Uuid{random_(), random_()};
  v1::CommitRequest request;
  v1::CommitId* id = request.mutable_id();
  id->set_transaction_id(stm::ToString(transaction.id));
  id->set_writer(writer_);
  id->mutable_seen()->set_version(seen_);
  id->mutable_seen()->set_store(store_);
  request.set_snapshot(transaction.snapshot);
  if (!transaction.serializable) request.set_isolation(v1::ISOLATION_SNAPSHOT);
  for (const std::string& name : transaction.reads) request.add_reads(name);
  for (const std::string& prefix : transaction.lists) request.add_lists(prefix);
  for (const std::string& name : transaction.ensures) request.add_ensures(name);
  for (const Value& record : transaction.records) stm::ToProto(record, request.add_records());
  for (const Write& write : transaction.writes) {
    v1::Write* added = request.add_writes();
    ToProto(write, added);
    if (write.change == Write::Change::kCreate && options_.container_of)
      added->mutable_definition()->set_container(options_.container_of(write.name));
  }
  transaction.invoked = Clock();
  bool impatient = options_.impatient_one_in > 0 && Below(options_.impatient_one_in) == 0;

  Sent sent = Sent::kGone;
  for (const auto until = In(kPatience); std::chrono::system_clock::now() < until;) {
    grpc::ClientContext context;
    context.set_deadline(
        In(impatient ? std::chrono::milliseconds(1 + Below(kImpatienceMsMax)) : options_.call_timeout));
    v1::CommitResponse response;
    const grpc::Status status = daemon().transactions->Commit(&context, request, &response);
    if (!status.ok()) {
      Answer answer;
      answer.at = Clock();
      answer.verdict = IsUnknown(status) ? Answer::Verdict::kUnknown : Answer::Verdict::kRefused;
      transaction.answers.push_back(answer);
      if (answer.verdict == Answer::Verdict::kRefused) {
        if (status.error_code() == grpc::StatusCode::INVALID_ARGUMENT) {
          std::fprintf(stderr, "caller: a commit that can't be: %s\n%s\n", status.error_message().c_str(),
                       request.ShortDebugString().c_str());
          std::abort();  // our own mistake
        }
        ++figures_.refused;
        options_.answers->Add(Answers::Kind::kRefusal);
        sent = Sent::kConflict;
        break;
      }
      options_.answers->Add(Answers::Kind::kNone);
      id->set_resend(true);
      ++figures_.resends;
      if (!std::exchange(impatient, false)) Failed();
      if (!MoveOn()) break;
      continue;
    }
    Served();
    const Answer answer = FromProto(response);
    transaction.answers.push_back(answer);
    options_.answers->Add(Answers::Kind::kVerdict);
    Learn(response.header());
    seen_ = std::max({seen_, answer.version, answer.snapshot});
    switch (answer.verdict) {
      case Answer::Verdict::kCommitted:
        ++figures_.committed;
        if (id->resend()) ++figures_.resends_committed;
        sent = Sent::kDone;
        break;
      case Answer::Verdict::kNotCommitted:
        if (id->resend()) ++figures_.resends_not_committed;
        sent = Sent::kAgain;
        break;
      case Answer::Verdict::kConflict:
        ++figures_.conflicts;
        [[fallthrough]];
      default:
        if (id->resend()) ++figures_.resends_refused;
        sent = Sent::kConflict;
        break;
    }
    break;
  }
  if (sent == Sent::kDone) Add(transaction);
  history_.transactions.push_back(std::move(transaction));
  return sent;
}

void Caller::Add(const check::Transaction& transaction) {
  for (const Write& write : transaction.writes) {
    if (write.change == Write::Change::kAdd) figures_.added[write.name] += write.value.integer();
  }
}

std::optional<Caller::Values> Caller::List(const std::string& prefix) {
  for (const auto until = In(kPatience); std::chrono::system_clock::now() < until;) {
    check::Read read;
    read.client = options_.number;
    read.newest = true;
    read.at_least = seen_;
    read.prefix = prefix;
    read.invoked = Clock();
    v1::ListRefsRequest request;
    request.set_prefix(prefix);
    request.mutable_at()->mutable_seen()->set_version(seen_);
    request.mutable_at()->mutable_seen()->set_store(store_);
    v1::ListRefsResponse response;
    grpc::Status status;
    Values values;
    do {
      grpc::ClientContext context;
      context.set_deadline(In(options_.call_timeout));
      status = daemon().refs->ListRefs(&context, request, &response);
      if (!status.ok()) break;
      read.snapshot = response.snapshot();
      for (const v1::Entry& entry : response.entries()) {
        read.entries.push_back(FromProto(entry));
        values[entry.name()] = read.entries.back().value;
      }
      request.set_page_token(response.next_page_token());
    } while (!response.next_page_token().empty());
    if (!status.ok()) {
      Failed();
      if (!MoveOn()) return std::nullopt;
      continue;
    }
    Served();
    read.answered = Clock();
    snapshot_ = read.snapshot;
    Learn(response.header());
    history_.reads.push_back(std::move(read));
    return values;
  }
  return std::nullopt;
}

bool Caller::ReadAll() { return Connect() && List("/").has_value(); }

std::optional<check::Log> Caller::ReadLog() {
  grpc::ClientContext context;
  auto stream = daemon().log->ReadLog(&context, v1::ReadLogRequest());
  check::Log log;
  v1::ReadLogResponse response;
  bool more = false;
  while (stream->Read(&response)) {
    if (!response.has_commit()) continue;
    const v1::CommitEvent& event = response.commit();
    if (!more) {
      log.emplace_back();
      log.back().version = event.version();
      if (!event.transaction_id().empty()) log.back().id = ParseUuid(event.transaction_id());
    }
    more = event.more();
    for (const v1::Change& from : event.changes()) {
      check::LogChange change;
      change.name = from.name();
      switch (from.kind()) {
        case v1::CHANGE_KIND_DELETED:
          change.kind = check::LogChange::Kind::kDelete;
          break;
        case v1::CHANGE_KIND_EXPIRED:
          change.kind = check::LogChange::Kind::kExpire;
          break;
        case v1::CHANGE_KIND_DEFINED:
          change.kind = check::LogChange::Kind::kDefine;
          break;
        default:
          change.kind = check::LogChange::Kind::kSet;
          break;
      }
      if (from.has_after()) change.value = *stm::FromProto(from.after());
      change.before_known = !from.before_unknown();
      if (from.has_before()) change.before = *stm::FromProto(from.before());
      log.back().changes.push_back(std::move(change));
    }
    for (const v1::Value& record : event.records()) log.back().records.push_back(*stm::FromProto(record));
  }
  if (!stream->Finish().ok()) return std::nullopt;
  return log;
}

}  // namespace stm::e2e
