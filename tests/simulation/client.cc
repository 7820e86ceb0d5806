#include "tests/simulation/client.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/name.h"
#include "engine/values/vector.h"
#include "tests/simulation/translate.h"

namespace stm::sim {
namespace {

using check::Write;

constexpr int kSetSize = 5;
constexpr int kReadTimeoutMs = 12;
constexpr std::string_view kMemory = "/.memory";
// In 1000 times that a client may go to another daemon: between operations; when an answer did not come.
constexpr uint64_t kMovesAt = 100;
constexpr uint64_t kMovesOn = 600;
constexpr uint64_t kHasty = 200;  // in 1000 commits

Value Int(int64_t i) { return Value::Integer(i); }

int64_t Number(const std::optional<Value>& value) {
  return value && value->is(Type::kInteger) ? value->integer() : 0;
}

bool IsUnder(std::string_view name, std::string_view directory) {
  if (engine::IsMemory(name)) name.remove_prefix(kMemory.size());
  return name.substr(0, directory.size()) == directory;
}
bool IsAtom(std::string_view name) { return IsUnder(name, "/atom/"); }
bool IsChecked(std::string_view name) { return IsUnder(name, "/v/"); }

bool AnyInMemory(const std::vector<std::string>& names) {
  return std::any_of(names.begin(), names.end(), engine::IsMemory);
}

// Entries under "/atom/" are atoms, those under "/v/" begin with the rule that they hold integers of at least
// 0.
Write Change(std::string name, Write::Change change, Value value, int64_t ttl_ms = 0) {
  Write write;
  write.atom = IsAtom(name);
  if (IsChecked(name)) write.min = 0;
  write.name = std::move(name);
  write.change = change;
  write.value = std::move(value);
  write.ttl_ms = ttl_ms;
  return write;
}
Write CreateAs(std::string name, Value value, int64_t ttl_ms = 0) {
  return Change(std::move(name), Write::Change::kCreate, std::move(value), ttl_ms);
}
Write SetTo(std::string name, Value value) {
  return Change(std::move(name), Write::Change::kSet, std::move(value));
}
Write AddTo(std::string name, int64_t by) { return Change(std::move(name), Write::Change::kAdd, Int(by)); }
Write DeleteOf(std::string name) { return Change(std::move(name), Write::Change::kDelete, Value()); }
Write DefineAs(std::string name, int64_t ttl_ms) {
  return Change(std::move(name), Write::Change::kDefine, Value(), ttl_ms);
}

}  // namespace

Client::Client(int64_t number, Scene scene, int64_t operations, ClientTotals* totals)
    : number_(number),
      scene_(scene),
      world_(*scene.world),
      chance_(scene.world->chance()),
      totals_(totals),
      left_(operations),
      daemon_(scene_.daemons[static_cast<size_t>(number) % scene_.daemons.size()]) {}

void Client::Begin() {
  idle_ = false;
  NextOperation();
}

void Client::MeetOtherStore(int64_t operations) {
  steady_ = false;
  asleep_.clear();
  constexpr int kAsked = 20;
  for (int i = 0; i < kAsked && !mine_.empty(); ++i) {
    auto [transaction, id] = mine_[chance_.Below(mine_.size())];
    id.store = 0;
    ++totals_->asked_there;
    AskAgain(transaction, id);
  }
  left_ = operations;
  if (idle_) Begin();
}

void Client::AskAgain(size_t transaction, engine::CommitId id) {
  id.resend = true;
  scene_.network->Request(daemon_, [this, daemon = daemon_, id, transaction] {
    daemon->engine().GetOutcome(
        id, [this, daemon, transaction](std::shared_ptr<const engine::Verdict> verdict, engine::Version) {
          scene_.network->Answer([this, transaction, verdict, header = HeaderOf(*daemon)] {
            scene_.history->transactions[transaction].answers.push_back(
                ToAnswer(*verdict, world_.nanos(), header.life, header.installed));
          });
        });
  });
}

void Client::BeSteady() {
  steady_ = true;
  if (idle_) Begin();
}

std::string Client::Describe() const {
  return absl::StrCat("client ", number_, ": ", doing_, " (", plan_.label, ", run ", runs_, ", ", left_,
                      " left, knows ", known_.version, ", snapshot ", snapshot_, ", at daemon ",
                      daemon_->number(), ")");
}

// "": among the shared entries; or among those that the daemon holds in memory.
std::string Client::Root() { return chance_.In1000(scene_.in_memory) ? std::string(kMemory) : std::string(); }

std::string Client::Name(std::string_view directory) {
  return absl::StrCat(Root(), std::string(directory), chance_.Below(static_cast<uint64_t>(scene_.names)));
}

std::vector<std::string> Client::Names(std::string_view directory, int64_t count) {
  std::vector<std::string> names;
  for (int64_t i = 0; i < count; ++i) {
    std::string name = Name(directory);
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(std::move(name));
  }
  return names;
}

Client::Plan Client::Draw() {
  Plan plan;
  plan.serializable = chance_.In1000(750);
  plan.stale = chance_.In1000(100);
  if (chance_.In1000(100)) {
    plan.records = {Value::Tagged("sim.Did", Int(number_)), Int(static_cast<int64_t>(chance_.Below(1000)))};
  }
  using Seen = std::map<std::string, std::optional<Value>>;
  switch (chance_.Below(16)) {
    case 0:
    case 1: {
      plan.label = "alter";
      plan.names = Names("/n/", chance_.Between(1, 3));
      const std::string target = plan.names[0];
      plan.body = [target](const Seen& seen) {
        int64_t sum = 1;
        for (const auto& [name, value] : seen) sum += Number(value) % 1000003;
        return std::vector<Write>{SetTo(target, Int(sum))};
      };
      break;
    }
    case 2: {
      plan.label = "transfer";
      plan.names = Names("/account/", 2);
      if (!plan.serializable) plan.ensures = {plan.names[0]};
      if (chance_.In1000(500) && plan.names.size() > 1) {
        plan.later = {plan.names.back()};
        plan.names.pop_back();
      }
      const int64_t amount = chance_.Between(1, 9);
      plan.body = [amount](const Seen& seen) {
        std::vector<Write> writes;
        int64_t sign = 1;
        for (const auto& [name, value] : seen) {
          writes.push_back(SetTo(name, Int(Number(value) + sign * amount)));
          sign = -sign;
        }
        return writes;
      };
      break;
    }
    case 3: {
      // Reads two, writes one: write skew, were reads not checked.
      plan.label = "skew";
      plan.names = {Root() + "/skew/a", Root() + "/skew/b"};
      const std::string target = plan.names[chance_.Below(2)];
      plan.body = [target](const Seen& seen) {
        int64_t sum = 1;
        for (const auto& [name, value] : seen) sum += Number(value) % 1000003;
        return std::vector<Write>{SetTo(target, Int(sum))};
      };
      break;
    }
    case 4:
    case 5: {
      plan.label = "commute";
      std::vector<Write> writes;
      for (const std::string& name : Names("/counter/", chance_.Between(1, 3))) {
        writes.push_back(CreateAs(name, Int(0)));
        writes.push_back(AddTo(name, chance_.Between(1, 9)));
      }
      plan.body = [writes](const Seen&) { return writes; };
      break;
    }
    case 6: {
      plan.label = "blind set";
      const std::string name = Name("/n/");
      const std::string wide = Name("/wide/");
      const int64_t value = static_cast<int64_t>(chance_.Below(1000000));
      const std::string padding(static_cast<size_t>(scene_.value_bytes), 'x');
      plan.body = [name, wide, value, padding](const Seen&) {
        std::vector<Write> writes = {SetTo(name, Int(value))};
        if (!padding.empty()) writes.push_back(SetTo(wide, Value::String(padding)));
        return writes;
      };
      break;
    }
    case 7: {
      // As many as kSetSize, or one fewer: a phantom would make more.
      plan.label = "listing";
      plan.prefix = Root() + "/set/";
      const std::string fresh = absl::StrCat(plan.prefix, chance_.Below(20));
      const int64_t ttl_ms = chance_.In1000(400) ? chance_.Between(5, scene_.ttl_ms_max) : 0;
      plan.body = [fresh, ttl_ms](const Seen& seen) {
        std::vector<std::string> there;
        for (const auto& [name, value] : seen) {
          if (value) there.push_back(name);
        }
        if (there.size() >= kSetSize) return std::vector<Write>{DeleteOf(there[0])};
        return std::vector<Write>{CreateAs(fresh, Int(1), ttl_ms), SetTo("/set-size", Int(1 + there.size()))};
      };
      break;
    }
    case 8: {
      plan.label = "come and go";
      const std::string name = absl::StrCat(Root(), "/set/", chance_.Below(20));
      const int64_t ttl_ms = chance_.In1000(600) ? chance_.Between(5, scene_.ttl_ms_max) : 0;
      std::vector<Write> writes;
      switch (chance_.Below(5)) {
        case 0:
          writes = {DeleteOf(name)};
          break;
        case 1:
          writes = {DeleteOf(name), CreateAs(name, Int(2), ttl_ms)};
          break;
        case 2:
          writes = {CreateAs(name, Int(3), ttl_ms), DefineAs(name, ttl_ms)};
          break;
        case 3:
          writes = {DefineAs(name, ttl_ms)};
          break;
        default:
          writes = {CreateAs(name, Int(4), ttl_ms), CreateAs(name + "/below", Int(5), ttl_ms)};
          break;
      }
      plan.body = [writes](const Seen&) { return writes; };
      break;
    }
    case 9: {
      plan.label = "queue";
      const Write conj = Change(Root() + "/queue", Write::Change::kConj, Int(number_ * 100000 + left_));
      const bool start_over = chance_.In1000(60);
      plan.body = [conj, start_over](const Seen&) {
        std::vector<Write> writes;
        if (start_over) writes.push_back(DeleteOf(conj.name));
        writes.push_back(CreateAs(conj.name, Value::OfVector(std::vector<Value>{})));
        writes.push_back(conj);
        return writes;
      };
      break;
    }
    case 10: {
      plan.label = "checked";
      const std::string name = Name("/v/");
      const int64_t value = chance_.Between(-5, 20);
      std::vector<Write> writes;
      switch (chance_.Below(5)) {
        case 0: {
          // The rule itself changes, if the value that is there obeys it.
          Write define = DefineAs(name, 0);
          define.min = value;
          writes = {define};
          break;
        }
        case 1:
        case 2:
          writes = {CreateAs(name, Int(0)), AddTo(name, value)};
          break;
        default:
          writes = {SetTo(name, Int(value))};
          break;
      }
      plan.body = [writes](const Seen&) { return writes; };
      break;
    }
    case 11:
      plan.label = "look";
      plan.commits = false;
      plan.names = Names(chance_.In1000(500) ? "/n/" : "/account/", 3);
      plan.later = Names("/counter/", 2);
      if (chance_.In1000(300)) plan.prefix = Root() + (chance_.In1000(500) ? "/" : "/set/");
      if (chance_.In1000(300)) plan.ago = absl::Microseconds(chance_.Between(-100, 60000));
      break;
    case 12: {
      plan.label = "sleep";
      plan.commits = false;
      plan.sleeps = true;
      plan.stale = false;
      if (chance_.In1000(700)) plan.names = Names("/n/", 2);
      if (plan.names.empty() || chance_.In1000(300)) plan.prefix = Root() + "/set/";
      break;
    }
    case 13: {
      // Atoms change alone: swap by what was read, or by an operation.
      plan.label = "atom";
      const std::string name = Name("/atom/");
      const int64_t by = chance_.Between(1, 9);
      if (chance_.In1000(600)) {
        std::vector<Write> writes = {CreateAs(name, Int(0)), AddTo(name, by)};
        if (chance_.In1000(150)) {
          // Not alone, or as what it is not.
          if (chance_.In1000(500)) writes.push_back(AddTo(Name("/counter/"), by));
          for (Write& write : writes) write.atom = write.atom && writes.size() > 2;
        }
        plan.body = [writes](const Seen&) { return writes; };
        break;
      }
      plan.names = {name};
      plan.body = [name, by](const Seen& seen) {
        return std::vector<Write>{SetTo(name, Int(Number(seen.at(name)) % 1000003 * 2 + by))};
      };
      break;
    }
    case 14: {
      // What an operation is applied to is not read.
      plan.label = "commute beside a read";
      plan.names = Names("/n/", 1);
      std::vector<Write> writes;
      for (const std::string& name : Names("/counter/", 2)) {
        writes.push_back(CreateAs(name, Int(0)));
        writes.push_back(AddTo(name, 1));
      }
      plan.body = [writes](const Seen&) { return writes; };
      break;
    }
    default: {
      plan.label = "ensure";
      plan.serializable = false;
      const std::string ensured = Root() + "/account/0";
      plan.names = {"/n/0", ensured};
      plan.ensures = {ensured};
      const std::string name = Name("/n/");
      plan.body = [name, ensured](const Seen& seen) {
        return std::vector<Write>{SetTo(name, Int(Number(seen.at(ensured)) + 7)), AddTo(name, 1)};
      };
      break;
    }
  }
  return plan;
}

void Client::NextOperation() {
  ++wait_;
  late_ = false;
  if (ComeBack()) return;
  if (left_ == 0) {
    idle_ = true;
    doing_ = "idle";
    return;
  }
  --left_;
  ++totals_->operations;
  doing_ = "thinking";
  Retry(absl::Microseconds(chance_.Between(1, 500)), [this] {
    stays_ = false;
    MayMove(kMovesAt);
    plan_ = Draw();
    stays_ = AnyInMemory(plan_.names) || AnyInMemory(plan_.later) || engine::IsMemory(plan_.prefix);
    runs_ = 0;
    reservation_ = 0;
    first_run_ = world_.Now();
    StartRun();
  });
}

void Client::StartRun() {
  ++runs_;
  seen_.clear();
  has_snapshot_ = listed_ = false;
  snapshot_ = 0;
  snapshot_life_ = 0;
  if (known_.WriterOf(*daemon_) == 0) {
    // Connecting: whose versions, which writer.
    doing_ = "connecting";
    const uint64_t wait = ++wait_;
    TimeoutElsewhere(absl::Milliseconds(5), [this] {
      --runs_;
      StartRun();
    });
    scene_.network->Request(daemon_, [this, daemon = daemon_, wait] {
      if (!daemon->ready()) return;
      const Header header = HeaderOf(*daemon);
      scene_.network->Answer([this, wait, header] {
        Learn(header);
        if (wait != wait_) return;
        --runs_;
        StartRun();
      });
    });
    return;
  }
  ReadOn();
}

// Reads what the plan still lacks, then goes on.
void Client::ReadOn() {
  for (const std::vector<std::string>* names : {&plan_.names, &plan_.later}) {
    std::vector<std::string> missing;
    for (const std::string& name : *names) {
      if (seen_.count(name) == 0) missing.push_back(name);
    }
    if (missing.empty()) continue;
    Get(std::move(missing), [this] { ReadOn(); });
    return;
  }
  if (!plan_.prefix.empty() && !listed_) {
    List([this] { ReadOn(); });
    return;
  }
  if (plan_.commits) {
    CommitRun();
  } else if (plan_.sleeps) {
    SleepOn();
  } else {
    NextOperation();
  }
}

void Client::Get(std::vector<std::string> names, std::function<void()> then) {
  doing_ = "reading";
  const uint64_t wait = ++wait_;
  check::Read read;
  read.client = number_;
  read.invoked = world_.nanos();
  engine::GetRequest request;
  request.names = names;
  request.seen = engine::Seen{known_.version, known_.store};
  if (has_snapshot_) {
    request.at.at = engine::ReadPoint::At::kVersion;
    request.at.version = snapshot_;
    read.life = snapshot_life_;
    // A look at the second names as they would be after a commute.
    if (!plan_.commits && names == plan_.later && chance_.In1000(500)) {
      for (const std::string& name : names) {
        read.pending.push_back(CreateAs(name, Int(0)));
        read.pending.push_back(AddTo(name, 5));
      }
      request.pending = ToEngine(read.pending, scene_.containers);
    }
  } else if (plan_.ago) {
    request.at.at = engine::ReadPoint::At::kInstant;
    const absl::Time wall = absl::FromUnixSeconds(world_.WallNow().seconds) +
                            absl::Nanoseconds(world_.WallNow().nanos) - *plan_.ago;
    request.at.instant.seconds = absl::ToUnixSeconds(wall);
    request.at.instant.nanos = static_cast<int32_t>(
        absl::ToInt64Nanoseconds(wall - absl::FromUnixSeconds(request.at.instant.seconds)));
    read.instant = request.at.instant;
  } else {
    request.at.at = plan_.stale ? engine::ReadPoint::At::kStale : engine::ReadPoint::At::kNewest;
    read.newest = !plan_.stale;
    read.at_least = known_.version;
  }
  auto again = [this, names, then] { Get(names, then); };
  TimeoutElsewhere(absl::Milliseconds(kReadTimeoutMs), again);
  scene_.network->Request(daemon_, [this, daemon = daemon_, wait, request, read, names, then, again] {
    engine::GetRequest copy = request;
    copy.deadline = world_.Now() + absl::Milliseconds(10);
    daemon->engine().Get(std::move(copy), [this, daemon, wait, read, names, then,
                                           again](absl::StatusOr<engine::GetResult> result) {
      const Header header = HeaderOf(*daemon);
      scene_.network->Answer([this, wait, read, names, then, again, header, result = std::move(result)] {
        Learn(header);
        if (result.ok()) {
          check::Read answered = read;
          answered.answered = world_.nanos();
          answered.snapshot = result->snapshot;
          if (answered.life == 0) answered.life = header.life;
          answered.entries = ToEntries(result->entries);
          if (answered.instant) ++totals_->instants;
          if (AnyInMemory(names)) ++totals_->memory_reads;
          scene_.history->reads.push_back(answered);
        }
        if (wait != wait_) return;
        if (!result.ok()) return ReadFailed(result.status(), again);
        world_.Trace(static_cast<uint64_t>(result->snapshot));
        snapshot_ = result->snapshot;
        snapshot_life_ = read.life != 0 ? read.life : header.life;
        has_snapshot_ = true;
        for (const engine::EntryState& entry : result->entries) seen_[entry.name] = entry.value;
        then();
      });
    });
  });
}

void Client::List(std::function<void()> then) {
  auto read = std::make_shared<check::Read>();
  read->client = number_;
  read->prefix = plan_.prefix;
  ListPage(std::move(read), "", std::move(then));
}

void Client::ListPage(std::shared_ptr<check::Read> read, std::string after, std::function<void()> then) {
  doing_ = "listing";
  const uint64_t wait = ++wait_;
  engine::ListRequest request;
  request.prefix = plan_.prefix;
  request.seen = engine::Seen{known_.version, known_.store};
  request.page_size = 3;
  request.after_name = after;
  if (has_snapshot_) {
    request.at.at = engine::ReadPoint::At::kVersion;
    request.at.version = snapshot_;
    read->life = snapshot_life_;
  } else {
    read->newest = true;
    read->invoked = world_.nanos();
    read->at_least = known_.version;
  }
  auto again = [this, read, after, then] { ListPage(read, after, then); };
  TimeoutElsewhere(absl::Milliseconds(kReadTimeoutMs), again);
  scene_.network->Request(daemon_, [this, daemon = daemon_, wait, request, read, then, again] {
    engine::ListRequest copy = request;
    copy.deadline = world_.Now() + absl::Milliseconds(10);
    daemon->engine().List(
        std::move(copy), [this, daemon, wait, read, then, again](absl::StatusOr<engine::ListResult> result) {
          const Header header = HeaderOf(*daemon);
          scene_.network->Answer([this, wait, read, then, again, header, result = std::move(result)] {
            Learn(header);
            if (wait != wait_) return;
            if (!result.ok()) return ReadFailed(result.status(), again);
            snapshot_ = read->snapshot = result->snapshot;
            if (read->life == 0) read->life = header.life;
            snapshot_life_ = read->life;
            has_snapshot_ = true;
            for (check::Entry& entry : ToEntries(result->entries)) {
              seen_[entry.name] = entry.value;
              read->entries.push_back(std::move(entry));
            }
            if (result->more) return ListPage(read, result->entries.back().name, then);
            read->answered = world_.nanos();
            scene_.history->reads.push_back(*read);
            if (engine::IsMemory(read->prefix)) ++totals_->memory_reads;
            listed_ = true;
            then();
          });
        });
  });
}

void Client::ReadFailed(const absl::Status& status, std::function<void()> again) {
  world_.Trace(static_cast<uint64_t>(status.code()));
  if (LostValue(status)) scene_.failures->push_back(absl::StrCat("stored: ", status.ToString()));
  if (status.code() == absl::StatusCode::kOutOfRange) {
    ++totals_->snapshots_too_old;
    plan_.ago.reset();  // after a start, or a jump of the clock, no moment may be left that can be read
    Retry(absl::Microseconds(10), [this] { StartRun(); });
    return;
  }
  Retry(absl::Microseconds(chance_.Between(500, 4000)), std::move(again));
}

void Client::CommitRun() {
  check::Transaction t;
  t.client = number_;
  t.id = Uuid{chance_.Bits(), chance_.Bits()};
  t.invoked = world_.nanos();
  t.snapshot = snapshot_;
  t.life = snapshot_life_;
  t.serializable = plan_.serializable;
  for (const auto& [name, value] : seen_) t.reads.push_back(name);
  if (!plan_.prefix.empty()) t.lists = {plan_.prefix};
  t.ensures = plan_.ensures;
  t.writes = plan_.body(seen_);
  t.records = plan_.records;
  // What it decides on, in its reruns too, is this daemon's.
  const auto in_memory = [](const Write& write) { return engine::IsMemory(write.name); };
  stays_ = stays_ || std::any_of(t.writes.begin(), t.writes.end(), in_memory);
  transaction_ = scene_.history->transactions.size();
  scene_.history->transactions.push_back(std::move(t));
  id_ = MakeId();
  sent_to_ = daemon_;
  sent_to_life_ = daemon_->life();
  mine_.emplace_back(transaction_, id_);
  resent_ = false;
  SendCommit(false);
}

engine::CommitId Client::MakeId() const {
  engine::CommitId id;
  id.transaction_id = scene_.history->transactions[transaction_].id;
  id.writer = known_.WriterOf(*daemon_);
  id.seen = known_.version;
  id.store = known_.store;
  return id;
}

std::unique_ptr<engine::Transaction> Client::MakeTransaction(size_t transaction, bool resend) const {
  const check::Transaction& t = scene_.history->transactions[transaction];
  auto out = std::make_unique<engine::Transaction>();
  out->id = id_;
  out->id->resend = resend;
  out->snapshot = t.snapshot;
  out->isolation = t.serializable ? engine::Isolation::kSerializable : engine::Isolation::kSnapshot;
  out->reads = t.reads;
  out->lists = t.lists;
  out->ensures = t.ensures;
  out->writes = ToEngine(t.writes, scene_.containers);
  out->records = t.records;
  out->since_first_run = world_.Now() - first_run_;
  out->runs = runs_;
  out->reservation = reservation_;
  return out;
}

void Client::SendCommit(bool resend) {
  doing_ = resend ? "resending" : "committing";
  if (resend) {
    ++totals_->resends;
    resent_ = true;
  }
  const Asked asked = AskedNow(resend);
  // Where there is another daemon some do not wait for the first to have decided.
  const bool hasty = scene_.daemons.size() > 1 && chance_.In1000(kHasty);
  const absl::Duration patience =
      hasty ? absl::Microseconds(chance_.Between(50, 3000)) : absl::Milliseconds(chance_.Between(2, 40));
  TimeoutElsewhere(patience, [this] {
    if (!steady_ && chance_.In1000(scene_.gives_up)) {
      GiveUp();
    } else if (chance_.In1000(200)) {
      AskOutcome();
    } else {
      SendCommit(true);
    }
  });
  const bool hurried = chance_.In1000(50);
  // Every copy is the same message.
  std::shared_ptr<engine::Transaction> message = MakeTransaction(transaction_, resend);
  scene_.network->Request(daemon_, [this, daemon = daemon_, asked, hurried, message] {
    auto request = std::make_unique<engine::Transaction>(*message);
    if (hurried) request->deadline = world_.Now() + absl::Microseconds(300);
    daemon->engine().Commit(
        std::move(request),
        [this, daemon, asked](std::shared_ptr<const engine::Verdict> verdict, engine::Version installed) {
          Header header = HeaderOf(*daemon);
          header.installed = installed;
          scene_.network->Answer([this, asked, verdict, header] { OnVerdict(asked, *verdict, header); });
        });
  });
}

void Client::GiveUp() {
  ++totals_->given_up;
  given_up_.push_back(GivenUp{transaction_, id_, sent_to_, daemon_->life()});
  NextOperation();
}

bool Client::ComeBack() {
  if (given_up_.empty() || !(steady_ || chance_.In1000(scene_.comes_back))) return false;
  const size_t place = chance_.Below(given_up_.size());
  const GivenUp back = given_up_[place];
  given_up_.erase(given_up_.begin() + static_cast<std::ptrdiff_t>(place));
  ++totals_->came_back;
  MayMove(kMovesAt);
  if (back.life != daemon_->life()) ++totals_->came_back_later;
  late_ = true;
  plan_ = Plan();
  plan_.label = "late";
  runs_ = 1;
  reservation_ = 0;
  transaction_ = back.transaction;
  id_ = back.id;
  sent_to_ = back.sent_to;
  sent_to_life_ = back.life;
  if (chance_.In1000(300)) {
    AskOutcome();
  } else {
    SendCommit(true);
  }
  return true;
}

void Client::AskOutcome() {
  doing_ = "asking for the outcome";
  ++totals_->outcomes_asked;
  resent_ = true;
  const Asked asked = AskedNow(true);
  TimeoutElsewhere(absl::Milliseconds(kReadTimeoutMs), [this] { SendCommit(true); });
  engine::CommitId id = id_;
  id.resend = true;
  scene_.network->Request(daemon_, [this, daemon = daemon_, asked, id] {
    daemon->engine().GetOutcome(
        id, [this, daemon, asked](std::shared_ptr<const engine::Verdict> verdict, engine::Version installed) {
          Header header = HeaderOf(*daemon);
          header.installed = installed;
          scene_.network->Answer([this, asked, verdict, header] { OnVerdict(asked, *verdict, header); });
        });
  });
}

Client::Asked Client::AskedNow(bool resend) {
  Asked asked{transaction_, resend, daemon_ != sent_to_, ++wait_};
  if (asked.elsewhere && sent_to_->up() && sent_to_->life() == sent_to_life_) ++totals_->elsewhere_under_way;
  return asked;
}

void Client::OnVerdict(const Asked& asked, const engine::Verdict& verdict, Header header) {
  const auto& [transaction, resend, elsewhere, wait] = asked;
  Learn(header);
  const check::Answer answer = ToAnswer(verdict, world_.nanos(), header.life, header.installed);
  const auto* status = std::get_if<absl::Status>(&verdict.outcome);
  if (status != nullptr && LostValue(*status)) scene_.failures->push_back(absl::StrCat("stored: ", status->ToString()));
  world_.Trace(static_cast<uint64_t>(answer.verdict) * 1000003 + static_cast<uint64_t>(answer.version));
  scene_.history->transactions[transaction].answers.push_back(answer);
  known_.version = std::max({known_.version, answer.version, answer.snapshot});
  if (elsewhere) CountElsewhere(answer);
  if (wait != wait_) return;
  const bool too_old = std::holds_alternative<engine::IdTooOld>(verdict.outcome);
  using Verdict = check::Answer::Verdict;
  switch (answer.verdict) {
    case Verdict::kCommitted:
      ++totals_->committed;
      CountMemory(scene_.history->transactions[transaction]);
      if (resend) ++totals_->resends_committed;
      if (chance_.In1000(50)) {
        // An outcome known long ago must be the same when asked for again.
        const auto& [old, id] = mine_[chance_.Below(mine_.size())];
        AskAgain(old, id);
      }
      return NextOperation();
    case Verdict::kConflict: {
      ++totals_->conflicts;
      if (resend) ++totals_->resends_conflict;
      CountMemory(scene_.history->transactions[transaction], answer);
      if (late_) return NextOperation();
      const auto& conflict = std::get<engine::Conflict>(verdict.outcome);
      reservation_ = conflict.reservation;
      if (runs_ >= 40) {
        if (reservation_ != 0) {
          scene_.network->Request(daemon_, [daemon = daemon_, reservation = reservation_] {
            daemon->engine().ReleaseReservation(reservation);
          });
        }
        return NextOperation();
      }
      // One that sleeps now holds nobody up.
      if (reservation_ != 0 && chance_.In1000(50)) return SleepOn();
      // With all that the body reads at hand no read is needed.
      std::map<std::string, std::optional<Value>> fresh;
      for (const check::Entry& entry : answer.fresh) fresh[entry.name] = entry.value;
      bool all = plan_.prefix.empty() && (plan_.names.empty() || chance_.In1000(800));
      for (const auto* names : {&plan_.names, &plan_.later}) {
        for (const std::string& name : *names) all = all && fresh.count(name) > 0;
      }
      const absl::Duration pause = conflict.reservation != 0 || runs_ < 3
                                       ? absl::ZeroDuration()
                                       : absl::Microseconds(chance_.Between(100, 1000));
      return Retry(pause, [this, all, fresh = std::move(fresh), answer] {
        if (!all) return StartRun();
        ++runs_;
        seen_ = fresh;
        snapshot_ = answer.snapshot;
        snapshot_life_ = answer.life;
        has_snapshot_ = true;
        ReadOn();
      });
    }
    case Verdict::kRejected:
      ++totals_->rejected;
      if (resend) ++totals_->resends_rejected;
      return NextOperation();
    case Verdict::kRefused: {
      ++totals_->refused;
      if (resend) ++totals_->resends_refused;
      if (late_) return NextOperation();
      const auto* status = std::get_if<absl::Status>(&verdict.outcome);
      if (status != nullptr && status->code() == absl::StatusCode::kOutOfRange) {
        ++totals_->snapshots_too_old;
        return Retry(absl::ZeroDuration(), [this] { StartRun(); });
      }
      return Retry(absl::Milliseconds(3), [this] { NextOperation(); });
    }
    case Verdict::kNotCommitted:
      if (resend) ++totals_->resends_not_committed;
      if (late_) return NextOperation();
      // The same content under a new id with the header's writer.
      return Retry(absl::ZeroDuration(), [this] { CommitRun(); });
    case Verdict::kUnknown:
      if (const auto* status = std::get_if<absl::Status>(&verdict.outcome); OtherStore(status)) {
        // Of what was sent to the store before, it knows nothing; what was not begins again.
        if (!resent_) return Retry(absl::ZeroDuration(), [this] { StartRun(); });
        ++totals_->unknown;
        return NextOperation();
      }
      if (!too_old) {
        return Retry(absl::Microseconds(chance_.Between(500, 6000)), [this] {
          MayMove(kMovesOn);
          SendCommit(true);
        });
      }
      // A first send that is too old was never executed; a resend's outcome stays unknown.
      if (!resent_) return Retry(absl::ZeroDuration(), [this] { CommitRun(); });
      ++totals_->unknown;
      return NextOperation();
  }
}

void Client::CountElsewhere(const check::Answer& answer) {
  using Verdict = check::Answer::Verdict;
  switch (answer.verdict) {
    case Verdict::kCommitted:
      ++totals_->elsewhere_committed;
      break;
    case Verdict::kNotCommitted:
      ++totals_->elsewhere_not_committed;
      break;
    case Verdict::kConflict:
    case Verdict::kRejected:
    case Verdict::kRefused:
      ++totals_->elsewhere_refused;
      break;
    case Verdict::kUnknown:
      ++totals_->elsewhere_unknown;
      break;
  }
}

void Client::CountMemory(const check::Transaction& t) {
  const auto in_memory = [](const Write& write) { return engine::IsMemory(write.name); };
  const int64_t writes = std::count_if(t.writes.begin(), t.writes.end(), in_memory);
  if (writes == 0 && !AnyInMemory(t.reads) && !AnyInMemory(t.lists)) return;
  ++totals_->memory_committed;
  if (writes < static_cast<int64_t>(t.writes.size())) ++totals_->memory_mixed;
}

void Client::CountMemory(const check::Transaction& t, const check::Answer& conflict) {
  for (const check::Answer::Cause& cause : conflict.causes) {
    if (!engine::IsMemory(cause.name)) continue;
    ++totals_->memory_conflicts;
    if (t.life != conflict.life) ++totals_->memory_outlived;
    return;
  }
}

void Client::SleepOn() {
  doing_ = "sleeping";
  ++totals_->slept;
  const uint64_t wait = ++wait_;
  auto asleep = std::make_shared<Asleep>();
  asleep->daemon = daemon_;
  asleep->sleep = scene_.history->sleeps.size();
  check::Sleep sleep;
  sleep.client = number_;
  sleep.invoked = world_.nanos();
  sleep.snapshot = snapshot_;
  sleep.life = snapshot_life_;
  for (const auto& [name, value] : seen_) sleep.reads.push_back(name);
  if (!plan_.prefix.empty()) sleep.lists = {plan_.prefix};
  scene_.history->sleeps.push_back(sleep);
  // Some wait for long, some give up soon; of those some say so.
  const bool patient = chance_.In1000(300);
  const bool cancels = chance_.In1000(500);
  auto handle = std::make_shared<uint64_t>(0);
  Timeout(absl::Milliseconds(chance_.Between(3, 30)), [this, asleep, patient, cancels, handle] {
    Daemon* const daemon = asleep->daemon;
    if (!patient && cancels && asleep->life == daemon->life()) {
      scene_.network->Request(
          daemon, [daemon, handle] { daemon->engine().CancelAwait(*handle); }, Network::Copies::kOne);
    }
    NextOperation();
  });
  engine::AwaitRequest request;
  request.snapshot = snapshot_;
  request.reads = sleep.reads;
  request.lists = sleep.lists;
  request.seen = engine::Seen{known_.version, known_.store};
  request.reservation = std::exchange(reservation_, 0);
  asleep_.push_back(asleep);
  scene_.network->Request(
      daemon_,
      [this, request, asleep, wait, patient, handle, daemon = daemon_] {
        engine::AwaitRequest copy = request;
        if (!patient) copy.deadline = world_.Now() + absl::Milliseconds(20);
        asleep->life = daemon->life();
        scene_.history->sleeps[asleep->sleep].asleep_in = static_cast<check::Life>(asleep->life);
        *handle = daemon->engine().AwaitChange(
            std::move(copy), [this, daemon, asleep, wait](absl::StatusOr<engine::AwaitResult> result) {
              asleep->answered = true;
              const Header header = HeaderOf(*daemon);
              scene_.network->Answer([this, asleep, wait, header, result = std::move(result)] {
                Learn(header);
                if (result.ok()) {
                  ++totals_->woken;
                  check::Sleep& sleep = scene_.history->sleeps[asleep->sleep];
                  sleep.answered = world_.nanos();
                  sleep.woken_at = result->snapshot;
                  sleep.fresh = ToEntries(result->fresh);
                  if (AnyInMemory(sleep.reads) || AnyInMemory(sleep.lists)) ++totals_->memory_woken;
                }
                if (wait == wait_) NextOperation();
              });
            });
      },
      Network::Copies::kOne);
}

void Client::ClaimSleepers() {
  for (const std::shared_ptr<Asleep>& asleep : asleep_) {
    if (asleep->answered || asleep->life != asleep->daemon->life()) continue;
    scene_.history->sleeps[asleep->sleep].asleep_at = asleep->daemon->installed();
  }
}

void Client::Timeout(absl::Duration after, std::function<void()> again) {
  world_.After(after, [this, wait = wait_, again = std::move(again)] {
    if (wait == wait_) again();
  });
}

void Client::TimeoutElsewhere(absl::Duration after, std::function<void()> again) {
  Timeout(after, [this, again = std::move(again)] {
    MayMove(kMovesOn);
    again();
  });
}

void Client::MayMove(uint64_t in_1000) {
  if (scene_.daemons.size() == 1 || stays_ || !chance_.In1000(in_1000)) return;
  Daemon* const other = chance_.OneOf(scene_.daemons);
  if (other != daemon_) ++totals_->moves;
  daemon_ = other;
}

void Client::Retry(absl::Duration after, std::function<void()> again) {
  ++wait_;
  Timeout(after, std::move(again));
}

void Client::Learn(const Header& header) {
  if (known_.Learn(header)) ++totals_->other_stores;
}

}  // namespace stm::sim
