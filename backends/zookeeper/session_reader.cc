#include "backends/zookeeper/session_reader.h"

#include <algorithm>
#include <utility>

namespace stm::zookeeper {
namespace {

// A server refuses a client that has seen more than it has, and says nothing. After so many timeouts without
// a connection it may be that all do: the ensemble has begun anew.
constexpr int kPatienceTimeouts = 2;

}  // namespace

SessionReader::SessionReader(engine::Loop* loop, Sessions* sessions, SessionOptions options,
                             Listener* listener)
    : loop_(loop), sessions_(sessions), options_(std::move(options)), listener_(listener) {}

void SessionReader::Open() {
  connected_ = false;
  fresh_ = true;
  disconnected_since_ = loop_->Now();
  session_.reset();
  // What the session before has not answered it never will.
  for (auto it = under_way_.rbegin(); it != under_way_.rend(); ++it) waiting_.push_front(std::move(*it));
  under_way_.clear();
  session_ =
      sessions_->Open(options_, [this, opened = ++opened_](const Event& event) { OnEvent(opened, event); });
  Patience();
}

void SessionReader::Close() {
  over_ = true;
  connected_ = false;
  ++opened_;
  session_.reset();
}

void SessionReader::Patience() {
  const absl::Duration patience = kPatienceTimeouts * options_.timeout;
  tasks_.After(patience, [this, patience, opened = opened_] {
    if (opened != opened_ || over_) return;
    if (!connected_ && loop_->Now() - disconnected_since_ >= patience) return Open();
    Patience();
  });
}

void SessionReader::OnEvent(uint64_t opened, const Event& event) {
  if (opened != opened_) return;
  switch (event.kind) {
    case Event::Kind::kConnecting:
      if (connected_) disconnected_since_ = loop_->Now();
      connected_ = false;
      return;
    case Event::Kind::kConnected: {
      connected_ = true;
      ++connection_;
      const bool fresh = std::exchange(fresh_, false);
      listener_->OnConnected(fresh);
      std::deque<std::unique_ptr<Query>> waiting = std::move(waiting_);
      waiting_.clear();
      for (std::unique_ptr<Query>& query : waiting) Issue(std::move(query));
      return;
    }
    case Event::Kind::kExpired:
      return Open();
    case Event::Kind::kAuthFailed:
      connected_ = false;
      over_ = true;
      return listener_->OnRefused(absl::PermissionDeniedError(
          "ZooKeeper does not take these credentials: see --zookeeper-credentials-file"));
    case Event::Kind::kWatch:
      return listener_->OnWatch(event.path);
  }
}

void SessionReader::Send(std::vector<Ask> asks, absl::AnyInvocable<void(std::vector<Answer>)> done) {
  auto query = std::make_unique<Query>();
  query->asks = std::move(asks);
  query->done = std::move(done);
  if (connected_) {
    Issue(std::move(query));
  } else {
    waiting_.push_back(std::move(query));
  }
}

void SessionReader::Issue(std::unique_ptr<Query> owned) {
  Query* const query = owned.get();
  under_way_.push_back(std::move(owned));
  query->answers.assign(query->asks.size(), Answer());
  query->left = query->asks.size();
  query->broken = false;
  for (size_t i = 0; i < query->asks.size(); ++i) {
    const Ask& ask = query->asks[i];
    switch (ask.kind) {
      case Ask::Kind::kGet:
        session_->Get(ask.path, ask.watch, [this, query, i](Code code, std::string data, Stat stat) {
          Answered(query, i, {code, std::move(data), stat, {}});
        });
        break;
      case Ask::Kind::kExists:
        session_->Exists(ask.path, ask.watch, [this, query, i](Code code, Stat stat) {
          Answered(query, i, {code, "", stat, {}});
        });
        break;
      case Ask::Kind::kChildren:
        session_->Children(ask.path, [this, query, i](Code code, std::vector<std::string> names) {
          Answered(query, i, {code, "", Stat(), std::move(names)});
        });
        break;
      case Ask::Kind::kCheck:
        session_->Multi({Op::Check(ask.path, ask.version)}, [this, query, i](MultiResult result) {
          Answered(query, i, {result.code, "", Stat(), {}});
        });
        break;
    }
  }
}

void SessionReader::Answered(Query* query, size_t i, Answer answer) {
  if (answer.code == Code::kUnknown) query->broken = true;
  query->answers[i] = std::move(answer);
  if (--query->left > 0) return;
  const auto place = std::find_if(under_way_.begin(), under_way_.end(),
                                  [query](const std::unique_ptr<Query>& one) { return one.get() == query; });
  std::unique_ptr<Query> owned = std::move(*place);
  under_way_.erase(place);
  if (owned->broken) {
    // The connection it was sent on is gone; there may be another already.
    if (connected_) return Issue(std::move(owned));
    waiting_.push_back(std::move(owned));
    return;
  }
  owned->done(std::move(owned->answers));
}

}  // namespace stm::zookeeper
