#include "tests/e2e/kill/writer.h"

#include <time.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/values/wire.h"

namespace stm::e2e {
namespace {

using check::Answer;
using check::Write;

// A daemon that is not back by then never will be.
constexpr std::chrono::seconds kPatience(60);

std::string Counter(int64_t i) { return absl::StrCat("/counter/", i); }
std::string Account(int64_t i) { return absl::StrCat("/account/", i); }

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

Writer::Writer(int64_t number, const std::string& address, uint64_t seed, Answers* answers,
               std::chrono::milliseconds call_timeout)
    : number_(number), answers_(answers), call_timeout_(call_timeout), channel_(Dial(address)), random_(seed) {
  admin_ = v1::AdminService::NewStub(channel_);
  refs_ = v1::RefService::NewStub(channel_);
  transactions_ = v1::TransactionService::NewStub(channel_);
  log_ = v1::LogService::NewStub(channel_);
}

void Writer::Learn(const v1::Header& header) {
  store_ = header.store();
  writer_ = header.writer();
  seen_ = std::max(seen_, header.installed_version());
}

bool Writer::WaitForDaemon() { return channel_->WaitForConnected(In(kPatience)); }

bool Writer::Connect() {
  for (const auto until = In(kPatience); std::chrono::system_clock::now() < until;) {
    grpc::ClientContext context;
    context.set_deadline(In(call_timeout_));
    v1::GetStatusResponse response;
    const grpc::Status status = admin_->GetStatus(&context, v1::GetStatusRequest(), &response);
    if (status.ok() && response.ready()) {
      Learn(response.header());
      return true;
    }
    if (!status.ok() && !WaitForDaemon()) return false;
  }
  return false;
}

std::optional<std::map<std::string, std::optional<Value>>> Writer::Get(
    const std::vector<std::string>& names) {
  for (const auto until = In(kPatience); std::chrono::system_clock::now() < until;) {
    v1::GetRefsRequest request;
    for (const std::string& name : names) request.add_names(name);
    request.mutable_at()->mutable_seen()->set_version(seen_);
    request.mutable_at()->mutable_seen()->set_store(store_);
    check::Read read;
    read.client = number_;
    read.newest = true;
    read.at_least = seen_;
    read.invoked = Clock();
    grpc::ClientContext context;
    context.set_deadline(In(call_timeout_));
    v1::GetRefsResponse response;
    const grpc::Status status = refs_->GetRefs(&context, request, &response);
    if (!status.ok()) {
      if (!WaitForDaemon()) return std::nullopt;
      continue;
    }
    read.answered = Clock();
    read.snapshot = snapshot_ = response.snapshot();
    Learn(response.header());
    std::map<std::string, std::optional<Value>> values;
    for (const v1::Entry& entry : response.entries()) {
      read.entries.push_back(FromProto(entry));
      values[entry.name()] = read.entries.back().value;
    }
    history_.reads.push_back(std::move(read));
    return values;
  }
  return std::nullopt;
}

Writer::Sent Writer::Commit(check::Transaction transaction) {
  transaction.client = number_;
  transaction.id = Uuid{random_(), random_()};
  v1::CommitRequest request;
  v1::CommitId* id = request.mutable_id();
  id->set_transaction_id(stm::ToString(transaction.id));
  id->set_writer(writer_);
  id->mutable_seen()->set_version(seen_);
  id->mutable_seen()->set_store(store_);
  request.set_snapshot(transaction.snapshot);
  for (const std::string& name : transaction.reads) request.add_reads(name);
  for (const Write& write : transaction.writes) ToProto(write, request.add_writes());
  transaction.invoked = Clock();

  Sent sent = Sent::kGone;
  for (const auto until = In(kPatience); std::chrono::system_clock::now() < until;) {
    grpc::ClientContext context;
    context.set_deadline(In(call_timeout_));
    v1::CommitResponse response;
    const grpc::Status status = transactions_->Commit(&context, request, &response);
    if (!status.ok()) {
      Answer answer;
      answer.at = Clock();
      answer.verdict = IsUnknown(status) ? Answer::Verdict::kUnknown : Answer::Verdict::kRefused;
      transaction.answers.push_back(answer);
      if (answer.verdict == Answer::Verdict::kRefused) {
        ++figures_.refused;
        answers_->Add(Answers::Kind::kRefusal);
        sent = Sent::kConflict;
        break;
      }
      answers_->Add(Answers::Kind::kNone);
      id->set_resend(true);
      ++figures_.resends;
      if (!WaitForDaemon()) break;
      continue;
    }
    const Answer answer = FromProto(response);
    transaction.answers.push_back(answer);
    answers_->Add(Answers::Kind::kVerdict);
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
        sent = Sent::kConflict;
        break;
      default:
        sent = Sent::kConflict;
        break;
    }
    break;
  }
  if (sent == Sent::kDone) Add(transaction);
  history_.transactions.push_back(std::move(transaction));
  return sent;
}

void Writer::Add(const check::Transaction& transaction) {
  for (const Write& write : transaction.writes) {
    if (write.change == Write::Change::kAdd) figures_.added[write.name] += write.value.integer();
  }
}

bool Writer::Prepare() {
  if (!Connect()) return false;
  check::Transaction transaction;
  for (int i = 0; i < kAccounts; ++i) {
    transaction.writes.push_back({Account(i), Write::Change::kCreate, Value::Integer(kAccountBegin)});
  }
  for (int i = 0; i < kCounters; ++i) {
    transaction.writes.push_back({Counter(i), Write::Change::kCreate, Value::Integer(0)});
  }
  return Commit(std::move(transaction)) == Sent::kDone;
}

bool Writer::OneOperation() {
  const int64_t shape = Below(10);
  for (;;) {
    check::Transaction transaction;
    if (shape < 3) {
      // A transfer: the sum stays.
      const int64_t from = Below(kAccounts);
      const int64_t to = (from + 1 + Below(kAccounts - 1)) % kAccounts;
      const auto values = Get({Account(from), Account(to)});
      if (!values) return false;
      transaction.snapshot = snapshot_;
      transaction.reads = {Account(from), Account(to)};
      const int64_t amount = 1 + Below(9);
      const auto moved = [&](int64_t account, int64_t by) {
        return Write{Account(account), Write::Change::kSet,
                     Value::Integer(values->at(Account(account))->integer() + by)};
      };
      transaction.writes = {moved(from, -amount), moved(to, amount)};
    } else if (shape < 7) {
      const int64_t counter = Below(kCounters);
      transaction.writes = {{Counter(counter), Write::Change::kAdd, Value::Integer(1 + Below(9))}};
      if (Below(3) == 0) {
        transaction.writes.push_back(
            {Counter((counter + 1) % kCounters), Write::Change::kAdd, Value::Integer(1)});
      }
    } else if (shape < 9) {
      transaction.writes = {{absl::StrCat("/own/", number_), Write::Change::kSet, Value::Integer(++made_)}};
    } else {
      transaction.writes = {
          {absl::StrCat("/made/", number_, "/", ++made_), Write::Change::kCreate, Value::Integer(1)}};
    }
    Sent sent = Commit(transaction);
    // The same content under a new id.
    while (sent == Sent::kAgain) sent = Commit(transaction);
    if (sent == Sent::kGone) return false;
    if (sent == Sent::kDone) return true;
  }
}

bool Writer::Run(const std::atomic<bool>& stop) {
  if (!Connect()) return false;
  while (!stop.load(std::memory_order_relaxed)) {
    if (!OneOperation()) return false;
  }
  return true;
}

bool Writer::ReadAll() {
  if (!Connect()) return false;
  check::Read read;
  read.client = number_;
  read.newest = true;
  read.prefix = "/";
  read.invoked = Clock();
  v1::ListRefsRequest request;
  request.set_prefix("/");
  request.mutable_at()->mutable_seen()->set_version(seen_);
  for (;;) {
    grpc::ClientContext context;
    v1::ListRefsResponse response;
    if (!refs_->ListRefs(&context, request, &response).ok()) return false;
    read.snapshot = response.snapshot();
    for (const v1::Entry& entry : response.entries()) read.entries.push_back(FromProto(entry));
    if (response.next_page_token().empty()) break;
    request.set_page_token(response.next_page_token());
  }
  read.answered = Clock();
  history_.reads.push_back(std::move(read));
  return true;
}

std::optional<check::Log> Writer::ReadLog() {
  grpc::ClientContext context;
  auto stream = log_->ReadLog(&context, v1::ReadLogRequest());
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
