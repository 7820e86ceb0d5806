#include "tests/simulation/znodes.h"

#include <cassert>
#include <utility>

#include "absl/strings/str_format.h"

namespace stm::sim {
namespace {

using zookeeper::Code;
using zookeeper::MultiResult;
using zookeeper::Op;
using zookeeper::OpResult;
using zookeeper::SessionOptions;
using zookeeper::Stat;

// Java's, which wraps round.
int32_t Plus1(int32_t n) { return static_cast<int32_t>(static_cast<uint32_t>(n) + 1); }

std::string ParentOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string NameIn(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// Servers take no name with code points that Java's strings have no one char for, nor with some others.
bool Takes(const std::string& path) {
  for (size_t i = 0; i < path.size();) {
    const auto byte = [&](size_t at) { return at < path.size() ? static_cast<unsigned char>(path[at]) : 0u; };
    const unsigned first = byte(i);
    if (first < 0x80) {
      ++i;
      continue;
    }
    const size_t length = first >= 0xc2 && first < 0xe0 ? 2 : first >= 0xe0 && first < 0xf0 ? 3 : 0;
    if (length == 0) return false;
    unsigned code = first & (length == 2 ? 0x1f : 0x0f);
    for (size_t at = i + 1; at < i + length; ++at) {
      if ((byte(at) & 0xc0) != 0x80) return false;
      code = code << 6 | (byte(at) & 0x3f);
    }
    if (length == 3 && code < 0x800) return false;
    if (code <= 0x9f || (code >= 0xd800 && code <= 0xf8ff) || code >= 0xfff0) return false;
    i += length;
  }
  return true;
}

}  // namespace

// What ops of a multi see of a node: what is there and what those before them did.
struct Znodes::Record {
  bool there = false;
  int32_t version = 0;
  int32_t made = 0;
  size_t children = 0;
  int64_t ephemeral_owner = 0;
  std::string owner;
};

class Znodes::Outstanding {
 public:
  Outstanding(const Znodes& znodes, const Transaction& transaction)
      : znodes_(znodes), transaction_(transaction) {}

  // On kOk `op` has its name, and *made the count of its parent.
  Code Do(Op* op, int32_t* made) {
    switch (op->kind()) {
      case Op::Kind::kCreate:
        return Create(op, made);
      case Op::Kind::kDelete:
        return Delete(*op);
      case Op::Kind::kSet:
      case Op::Kind::kCheck:
        break;
    }
    Record& record = At(op->path());
    if (!record.there) return Code::kNoNode;
    if (!May(record)) return Code::kNoAuth;
    if (op->version() != zookeeper::kAnyVersion && record.version != op->version()) return Code::kBadVersion;
    if (op->kind() == Op::Kind::kSet) record.version = znodes_.Next(record.version);
    return Code::kOk;
  }

 private:
  Code Create(Op* op, int32_t* made) {
    if (!Takes(op->path())) return Code::kRefused;
    if (op->path() == "/") return Code::kNodeExists;
    Record& parent = At(ParentOf(op->path()));
    if (!parent.there) return Code::kNoNode;
    if (!May(parent)) return Code::kNoAuth;
    if (op->mode() == Op::Mode::kSequential) {
      *op = Op::Create(absl::StrFormat("%s%010d", op->path(), parent.made), op->data());
    }
    Record& record = At(op->path());
    if (record.there) return Code::kNodeExists;
    if (parent.ephemeral_owner != 0) return Code::kRefused;
    ++parent.children;
    *made = parent.made = Plus1(parent.made);
    record = Record();
    record.there = true;
    if (op->mode() == Op::Mode::kEphemeral) record.ephemeral_owner = transaction_.session;
    if (transaction_.acl == SessionOptions::Acl::kCreator) record.owner = transaction_.credentials;
    return Code::kOk;
  }

  Code Delete(const Op& op) {
    if (op.path() == "/") return Code::kRefused;
    Record& parent = At(ParentOf(op.path()));
    Record& record = At(op.path());
    if (!record.there) return Code::kNoNode;
    if (!May(parent)) return Code::kNoAuth;
    if (op.version() != zookeeper::kAnyVersion && record.version != op.version()) return Code::kBadVersion;
    if (record.children != 0) return Code::kNotEmpty;
    --parent.children;
    record.there = false;
    return Code::kOk;
  }

  bool May(const Record& record) const {
    return record.owner.empty() || transaction_.session == 0 || record.owner == transaction_.credentials;
  }

  Record& At(const std::string& path) {
    const auto [it, fresh] = records_.try_emplace(path);
    const Znode* const node = fresh ? znodes_.Find(path) : nullptr;
    if (node != nullptr) {
      it->second = {
          true,       node->stat.version, node->made, node->children.size(), node->stat.ephemeral_owner,
          node->owner};
    }
    return it->second;
  }

  const Znodes& znodes_;
  const Transaction& transaction_;
  std::map<std::string, Record> records_;
};

Znodes::Znodes() {
  // As servers begin: one child that was never counted.
  nodes_["/"].children = {"zookeeper"};
  nodes_["/zookeeper"];
}

int32_t Znodes::Next(int32_t version) const { return skips_minus_one_ && version == -2 ? 0 : Plus1(version); }

MultiResult Znodes::Decide(Transaction* transaction) {
  MultiResult result;
  result.code = Code::kOk;
  switch (transaction->kind) {
    case Transaction::Kind::kMulti: {
      Outstanding outstanding(*this, *transaction);
      std::vector<Op> ops = transaction->ops;
      std::vector<int32_t> made(ops.size());
      for (size_t i = 0; i < ops.size(); ++i) {
        result.code = outstanding.Do(&ops[i], &made[i]);
        result.failed = i;
        if (result.code != Code::kOk) {
          transaction->kind = Transaction::Kind::kFailed;
          break;
        }
      }
      if (result.code != Code::kOk) break;
      result.failed = 0;
      transaction->ops = std::move(ops);
      transaction->parent_made = std::move(made);
      std::vector<std::string> changed;
      for (size_t i = 0; i < transaction->ops.size(); ++i) {
        result.results.push_back(
            Replay(transaction->ops[i], transaction->parent_made[i], *transaction, &changed));
      }
      zxid_ = transaction->zxid;
      return result;
    }
    case Transaction::Kind::kClose:
      for (const auto& [path, node] : nodes_) {
        if (node.stat.ephemeral_owner == transaction->session) transaction->gone.push_back(path);
      }
      break;
    case Transaction::Kind::kFailed:
    case Transaction::Kind::kOpen:
      break;
  }
  Replay(*transaction);
  return result;
}

std::vector<std::string> Znodes::Replay(const Transaction& transaction) {
  std::vector<std::string> changed;
  zxid_ = transaction.zxid;
  switch (transaction.kind) {
    case Transaction::Kind::kMulti:
      for (size_t i = 0; i < transaction.ops.size(); ++i) {
        Replay(transaction.ops[i], transaction.parent_made[i], transaction, &changed);
      }
      break;
    case Transaction::Kind::kFailed:
      break;
    case Transaction::Kind::kOpen:
      sessions_[transaction.session] = transaction.timeout;
      break;
    case Transaction::Kind::kClose:
      sessions_.erase(transaction.session);
      for (const std::string& path : transaction.gone) Remove(path, &changed);
      break;
  }
  return changed;
}

OpResult Znodes::Replay(const Op& op, int32_t parent_made, const Transaction& transaction,
                        std::vector<std::string>* changed) {
  OpResult result;
  const auto found = nodes_.find(op.path());
  switch (op.kind()) {
    case Op::Kind::kCheck:
      break;
    case Op::Kind::kSet: {
      if (found == nodes_.end()) break;
      Znode& node = found->second;
      node.data = op.data();
      node.stat.version = Next(node.stat.version);
      node.stat.mzxid = transaction.zxid;
      changed->push_back(op.path());
      result.stat = StatOf(node);
      break;
    }
    case Op::Kind::kCreate: {
      result.path = op.path();
      const auto parent = nodes_.find(ParentOf(op.path()));
      if (found != nodes_.end() || parent == nodes_.end()) break;
      parent->second.children.insert(NameIn(op.path()));
      parent->second.made = parent_made;
      Znode& node = nodes_[op.path()];
      node.data = op.data();
      node.stat.czxid = node.stat.mzxid = transaction.zxid;
      if (op.mode() == Op::Mode::kEphemeral) node.stat.ephemeral_owner = transaction.session;
      if (transaction.acl == SessionOptions::Acl::kCreator) node.owner = transaction.credentials;
      changed->push_back(op.path());
      break;
    }
    case Op::Kind::kDelete:
      Remove(op.path(), changed);
      break;
  }
  return result;
}

void Znodes::Remove(const std::string& path, std::vector<std::string>* changed) {
  if (nodes_.erase(path) == 0) return;
  const auto parent = nodes_.find(ParentOf(path));
  if (parent != nodes_.end()) parent->second.children.erase(NameIn(path));
  changed->push_back(path);
}

const Znode* Znodes::Find(const std::string& path) const {
  const auto found = nodes_.find(path);
  return found == nodes_.end() ? nullptr : &found->second;
}

Stat Znodes::StatOf(const Znode& node) {
  Stat stat = node.stat;
  stat.num_children = static_cast<int32_t>(node.children.size());
  stat.cversion = static_cast<int32_t>(2 * static_cast<uint32_t>(node.made) - node.children.size());
  stat.data_length = static_cast<int32_t>(node.data.size());
  return stat;
}

void Znodes::Age(const std::string& path, int32_t version, int32_t made) {
  Znode& node = nodes_.at(path);
  node.stat.version = version;
  node.made = made;
}

}  // namespace stm::sim
