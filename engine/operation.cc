#include "engine/operation.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <iterator>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/values/edn.h"
#include "engine/values/wire.h"
#include "stm/v1/common.pb.h"

namespace stm::engine {
namespace {

using Verb = Operation::Verb;

// In the order of Verb: the heads of the EDN forms.
constexpr const char* kVerbNames[] = {"set", "add",   "min",   "max",    "append", "conj", "disj",
                                      "pop", "shift", "assoc", "dissoc", "toggle", "cas"};
constexpr const char* kCompareAbsent = "cas-absent";
static_assert(std::size(kVerbNames) == static_cast<size_t>(Verb::kCompareAndSet) + 1);

const char* NameOf(const Operation& operation) {
  if (operation.verb == Verb::kCompareAndSet && !operation.expected) return kCompareAbsent;
  return kVerbNames[static_cast<size_t>(operation.verb)];
}

// May it go where nothing is?
bool MakesAbsent(const Operation& operation) {
  return operation.verb == Verb::kSet || (operation.verb == Verb::kCompareAndSet && !operation.expected);
}

// "an integer", "nil".
std::string A(Type type) {
  if (type == Type::kNil) return "nil";
  if (type == Type::kBytes) return "bytes";
  if (type == Type::kTagged) return "a tagged value";
  std::string name(TypeName(type));
  bool vowel = std::string_view("aeiou").find(name[0]) != std::string_view::npos;
  if (type == Type::kUuid) vowel = false;
  return absl::StrCat(vowel ? "an " : "a ", name);
}

bool IsSequence(const Value& value) { return value.is(Type::kVector) || value.is(Type::kList); }
bool IsAddend(const Value& value) { return value.is(Type::kInteger) || value.is(Type::kDouble); }
bool IsOrdered(const Value& value) {
  return IsAddend(value) || value.is(Type::kString) || value.is(Type::kInstant);
}
bool IsAppendable(const Value& value) {
  return IsSequence(value) || value.is(Type::kString) || value.is(Type::kBytes);
}

// --- Reading ---

absl::Status Wrong(const char* verb, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(verb, ": ", what));
}

// What both forms refuse: arguments with which the operation could never succeed.
absl::Status CheckArguments(const Operation& operation) {
  const char* name = NameOf(operation);
  if (operation.path.size() > kPathItemsMax) {
    return Wrong(name, absl::StrCat("path of ", operation.path.size(), " items, at most ", kPathItemsMax,
                                    " (value_depth_max - 1)"));
  }
  const Value& argument = operation.argument;
  switch (operation.verb) {
    case Verb::kAdd:
      if (IsAddend(argument)) break;
      return Wrong(name,
                   absl::StrCat("found ", A(argument.type()), ", expected an integer or double to add"));
    case Verb::kMin:
    case Verb::kMax:
      if (IsOrdered(argument)) break;
      return Wrong(name, absl::StrCat("found ", A(argument.type()),
                                      ", expected an integer, double, string or instant to compare with"));
    case Verb::kAppend:
      if (IsAppendable(argument)) break;
      return Wrong(name, absl::StrCat("found ", A(argument.type()),
                                      ", expected a list, vector, string or bytes to append"));
    default:
      break;
  }
  return absl::OkStatus();
}

absl::Status At(absl::string_view field, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(field, ": ", status.message()));
}

absl::Status Read(const v1::Value& message, const char* field, Value* out) {
  absl::StatusOr<Value> value = stm::FromProto(message);
  if (!value.ok()) return At(field, value.status());
  *out = *std::move(value);
  return absl::OkStatus();
}

template <typename Messages>
absl::Status ReadAll(const Messages& messages, const char* field, std::vector<Value>* out) {
  out->reserve(messages.size());
  for (int i = 0; i < messages.size(); ++i) {
    absl::StatusOr<Value> value = stm::FromProto(messages[i]);
    if (!value.ok()) return At(absl::StrCat(field, "[", i, "]"), value.status());
    out->push_back(*std::move(value));
  }
  return absl::OkStatus();
}

absl::Status ReadEntries(const v1::Map& message, Map* out) {
  std::vector<std::pair<Value, Value>> entries;
  entries.reserve(message.entries_size());
  for (int i = 0; i < message.entries_size(); ++i) {
    absl::StatusOr<Value> key = stm::FromProto(message.entries(i).key());
    if (!key.ok()) return At(absl::StrCat("assoc.entries[", i, "].key"), key.status());
    absl::StatusOr<Value> value = stm::FromProto(message.entries(i).value());
    if (!value.ok()) return At(absl::StrCat("assoc.entries[", i, "].value"), value.status());
    entries.emplace_back(*std::move(key), *std::move(value));
  }
  *out = Map(std::move(entries));
  if (out->size() != static_cast<size_t>(message.entries_size())) {
    return absl::InvalidArgumentError("assoc.entries: two keys are equal; send each once");
  }
  return absl::OkStatus();
}

// A field that this build does not know may change what the operation means, so it may not be passed over.
absl::Status CheckKnown(const char* where, const google::protobuf::Message& message) {
  const google::protobuf::UnknownFieldSet& fields = message.GetReflection()->GetUnknownFields(message);
  if (fields.empty()) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat(where, ": field ", fields.field(0).number(),
                                               " is from a newer version than this one: upgrade the daemon"));
}

// --- Excerpts ---

// The longest start of `text` of at most `bytes` that does not cut a UTF-8 sequence.
std::string_view CutUtf8(std::string_view text, size_t bytes) {
  if (text.size() <= bytes) return text;
  while (bytes > 0 && (static_cast<uint8_t>(text[bytes]) & 0xC0) == 0x80) --bytes;
  return text.substr(0, bytes);
}

// Appends the start of value's EDN, at least until `out` is `limit` long; then it need not be well formed.
void AppendStart(const Value& value, size_t limit, std::string* out) {
  if (out->size() >= limit) return;
  size_t room = limit - out->size();
  if (value.edn_size() <= room) {
    AppendEdn(value, out);
    return;
  }
  bool first = true;
  auto item = [&](const Value& v) {
    if (!first) out->push_back(' ');
    first = false;
    AppendStart(v, limit, out);
    return out->size() < limit;
  };
  switch (value.type()) {
    case Type::kVector:
    case Type::kList: {
      out->push_back(value.is(Type::kVector) ? '[' : '(');
      const Vector& items = value.items();
      for (size_t i = 0; i < items.size(); ++i) {
        if (!item(items.at(i))) break;
      }
      return;
    }
    case Type::kMap:
      out->push_back('{');
      value.map().ForEach([&](const Value& k, const Value& v) {
        if (!first) out->push_back(',');
        return item(k) && item(v);
      });
      return;
    case Type::kSet:
      out->append("#{");
      value.set().ForEach([&](const Value& v) { return item(v); });
      return;
    case Type::kTagged:
      out->push_back('#');
      out->append(CutUtf8(value.text(), room));
      if (!IsSequence(value.tagged_value()) && !value.tagged_value().is(Type::kMap)) out->push_back(' ');
      AppendStart(value.tagged_value(), limit, out);
      return;
    case Type::kString:
      AppendEdnString(CutUtf8(value.text(), room), out);
      return;
    case Type::kBytes:
      AppendEdn(Value::Bytes(std::string_view(value.text()).substr(0, room)), out);
      return;
    case Type::kKeyword:
      out->push_back(':');
      out->append(CutUtf8(value.text(), room));
      return;
    case Type::kSymbol:
    case Type::kBigInt:
    case Type::kDecimal:
      out->append(CutUtf8(value.text(), room));
      return;
    default:
      AppendEdn(value, out);
      return;
  }
}

// --- Applying ---

using Outcome = std::variant<Applied, Rejection>;

// "add", or "add at [:a 0]".
std::string Title(const Operation& operation) {
  if (operation.path.empty()) return NameOf(operation);
  return absl::StrCat(NameOf(operation), " at ", Excerpt(Value::OfVector(operation.path)));
}

Rejection Mismatch(const Operation& operation, std::string found, absl::string_view expected) {
  Rejection rejection;
  rejection.cause = RejectCause::kType;
  rejection.message = absl::StrCat(Title(operation), ": found ", found, ", expected ", expected);
  rejection.found = std::move(found);
  return rejection;
}

Rejection Mismatch(const Operation& operation, const Value& found, absl::string_view expected) {
  Rejection rejection = Mismatch(operation, A(found.type()), expected);
  rejection.found = std::string(TypeName(found.type()));
  return rejection;
}

Rejection Missing(const Operation& operation, absl::string_view what) {
  Rejection rejection;
  rejection.cause = RejectCause::kAbsent;
  rejection.found = "absent";
  rejection.message = absl::StrCat(Title(operation), ": ", what);
  return rejection;
}

Rejection PastEnd(const Operation& operation, int64_t index, size_t size, absl::string_view bound) {
  Rejection rejection =
      Missing(operation, absl::StrCat("index ", index, " of a vector of ", size, ", expected ", bound));
  rejection.found = absl::StrCat("vector of ", size);
  return rejection;
}

// What an operation makes of the place that its path leads to. `result` is only of pop and shift.
Applied Made(Value value) { return Applied{std::move(value), Value()}; }

Outcome Add(const Operation& operation, const Value& target) {
  const Value& argument = operation.argument;
  if (target.is(Type::kInteger)) {
    if (!argument.is(Type::kInteger)) {
      return Mismatch(operation, target, absl::StrCat("a double, to add ", A(argument.type())));
    }
    int64_t sum = 0;
    if (__builtin_add_overflow(target.integer(), argument.integer(), &sum)) {
      Rejection rejection;
      rejection.cause = RejectCause::kOverflow;
      rejection.found = absl::StrCat(target.integer());
      rejection.message = absl::StrCat(Title(operation), ": ", target.integer(), " + ", argument.integer(),
                                       " is past 64 bits");
      return rejection;
    }
    return Made(Value::Integer(sum));
  }
  if (target.is(Type::kDouble) && IsAddend(argument)) {
    // An integer may come from a language whose numbers are all alike; the entry stays the double that it is.
    double addend = argument.is(Type::kDouble) ? argument.float64() : static_cast<double>(argument.integer());
    return Made(Value::Double(target.float64() + addend));
  }
  return Mismatch(operation, target, "an integer or double");
}

// Below, in an order in which NaN is under (for min) or over (for max) all else, so that the outcome of
// several min or max is the same in any order.
bool Below(double a, double b, bool nan_is_below) {
  if (std::isnan(a) || std::isnan(b)) return nan_is_below ? std::isnan(a) && !std::isnan(b) : !std::isnan(a);
  if (a == b) return std::signbit(a) && !std::signbit(b);
  return a < b;
}

Outcome MinMax(const Operation& operation, const Value& target) {
  const Value& argument = operation.argument;
  if (!IsOrdered(argument) || target.type() != argument.type()) {
    return Mismatch(operation, target,
                    IsOrdered(argument)
                        ? absl::StrCat(A(argument.type()), ", as the argument is")
                        : std::string("an argument that is an integer, double, string or instant"));
  }
  bool min = operation.verb == Verb::kMin;
  auto below = [&](const Value& a, const Value& b) {
    switch (a.type()) {
      case Type::kInteger:
        return a.integer() < b.integer();
      case Type::kDouble:
        return Below(a.float64(), b.float64(), min);
      case Type::kString:
        return a.text() < b.text();  // char_traits<char>: as unsigned bytes
      default:
        return a.instant() < b.instant();
    }
  };
  bool take = min ? below(argument, target) : below(target, argument);
  return Made(take ? argument : target);
}

Outcome Append(const Operation& operation, const Value& target) {
  const Value& argument = operation.argument;
  if (IsSequence(target) && IsSequence(argument)) {
    Vector items = target.items().Concat(argument.items());
    return Made(target.is(Type::kList) ? Value::List(std::move(items)) : Value::OfVector(std::move(items)));
  }
  bool text = target.is(Type::kString);
  if ((text || target.is(Type::kBytes)) && target.type() == argument.type()) {
    std::string joined;
    joined.reserve(target.text().size() + argument.text().size());
    joined.append(target.text()).append(argument.text());
    return Made(text ? Value::String(joined) : Value::Bytes(joined));
  }
  if (!IsAppendable(argument))
    return Mismatch(operation, target, "an argument that is a list, vector, string or bytes");
  return Mismatch(operation, target,
                  IsSequence(argument) ? std::string("a list or vector, to append a list or vector")
                                       : absl::StrCat(A(argument.type()), ", as the argument is"));
}

Outcome Conj(const Operation& operation, const Value& target) {
  const std::vector<Value>& items = operation.arguments;
  switch (target.type()) {
    case Type::kVector:
      if (items.size() == 1) return Made(Value::OfVector(target.items().Push(items[0])));
      return Made(Value::OfVector(target.items().Concat(Vector(items))));
    case Type::kList:
      // Each at the front in its turn, so the last comes first.
      return Made(Value::List(target.items().PushFront(std::vector<Value>(items.rbegin(), items.rend()))));
    case Type::kSet: {
      Set set = target.set();
      for (const Value& item : items) set = set.Conj(item);
      return Made(Value::OfSet(std::move(set)));
    }
    case Type::kMap: {
      Map map = target.map();
      for (const Value& item : items) {
        if (!item.is(Type::kVector)) return Mismatch(operation, item, "a [key value] vector for a map");
        if (item.items().size() != 2) {
          return Mismatch(operation, absl::StrCat("a vector of ", item.items().size()),
                          "a [key value] vector for a map");
        }
        map = map.Assoc(item.items().at(0), item.items().at(1));
      }
      return Made(Value::OfMap(std::move(map)));
    }
    default:
      return Mismatch(operation, target, "a list, vector, set or map");
  }
}

Outcome Remove(const Operation& operation, const Value& target) {
  if (operation.verb == Verb::kDisj) {
    if (!target.is(Type::kSet)) return Mismatch(operation, target, "a set");
    Set set = target.set();
    for (const Value& item : operation.arguments) set = set.Disj(item);
    return Made(Value::OfSet(std::move(set)));
  }
  if (!target.is(Type::kMap)) return Mismatch(operation, target, "a map");
  Map map = target.map();
  for (const Value& key : operation.arguments) map = map.Dissoc(key);
  return Made(Value::OfMap(std::move(map)));
}

Outcome Take(const Operation& operation, const Value& target) {
  if (!IsSequence(target)) return Mismatch(operation, target, "a list or vector");
  const Vector& items = target.items();
  size_t count = operation.count;
  if (count > items.size()) {
    Rejection rejection;
    rejection.cause = RejectCause::kAbsent;
    rejection.found = absl::StrCat(std::string(TypeName(target.type())), " of ", items.size());
    rejection.message =
        absl::StrCat(NameOf(operation), " ", count, " of ", A(target.type()), " of ", items.size());
    if (!operation.path.empty())
      absl::StrAppend(&rejection.message, " at ", Excerpt(Value::OfVector(operation.path)));
    return rejection;
  }
  bool back = operation.verb == Verb::kPop && target.is(Type::kVector);
  size_t first = back ? items.size() - count : 0;
  Value removed;
  if (count == 1) {
    removed = items.at(first);
  } else {
    std::vector<Value> taken;
    taken.reserve(count);
    for (size_t i = 0; i < count; ++i) taken.push_back(items.at(first + i));
    removed = Value::OfVector(std::move(taken));
  }
  Vector rest = back ? items.DropBack(count) : items.DropFront(count);
  return Applied{target.is(Type::kList) ? Value::List(std::move(rest)) : Value::OfVector(std::move(rest)),
                 std::move(removed)};
}

Outcome AssocVector(const Operation& operation, const Value& target) {
  // Lowest index first: the order of a map's entries means nothing, so it may not decide what fits.
  std::vector<std::pair<int64_t, Value>> entries;
  entries.reserve(operation.entries.size());
  const Value* wrong = nullptr;
  operation.entries.ForEach([&](const Value& key, const Value& value) {
    if (!key.is(Type::kInteger)) {
      wrong = &key;
      return false;
    }
    entries.emplace_back(key.integer(), value);
    return true;
  });
  if (wrong != nullptr) return Mismatch(operation, *wrong, "an integer as index of a vector");
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  Vector items = target.items();
  for (auto& [index, value] : entries) {
    size_t size = items.size();
    if (index < 0 || static_cast<uint64_t>(index) > size) {
      return PastEnd(operation, index, size, absl::StrCat("0 to ", size));
    }
    bool end = static_cast<uint64_t>(index) == size;
    items = end ? items.Push(std::move(value)) : items.Assoc(static_cast<size_t>(index), std::move(value));
  }
  return Made(Value::OfVector(std::move(items)));
}

Outcome Assoc(const Operation& operation, const Value& target) {
  if (target.is(Type::kVector)) return AssocVector(operation, target);
  if (!target.is(Type::kMap)) return Mismatch(operation, target, "a map or vector");
  Map map = target.map();
  operation.entries.ForEach([&](const Value& key, const Value& value) {
    map = map.Assoc(key, value);
    return true;
  });
  return Made(Value::OfMap(std::move(map)));
}

Outcome CompareAndSet(const Operation& operation, const Value& target) {
  if (operation.expected && *operation.expected == target) return Made(operation.argument);
  Rejection rejection;
  rejection.cause = RejectCause::kCompare;
  rejection.found = Excerpt(target);
  rejection.message = absl::StrCat(Title(operation), ": found ", rejection.found, ", expected ",
                                   operation.expected ? Excerpt(*operation.expected) : "absent");
  return rejection;
}

Outcome ApplyTo(const Operation& operation, const Value& target) {
  switch (operation.verb) {
    case Verb::kSet:
      return Made(operation.argument);
    case Verb::kAdd:
      return Add(operation, target);
    case Verb::kMin:
    case Verb::kMax:
      return MinMax(operation, target);
    case Verb::kAppend:
      return Append(operation, target);
    case Verb::kConj:
      return Conj(operation, target);
    case Verb::kDisj:
    case Verb::kDissoc:
      return Remove(operation, target);
    case Verb::kPop:
    case Verb::kShift:
      return Take(operation, target);
    case Verb::kAssoc:
      return Assoc(operation, target);
    case Verb::kToggle:
      if (!target.is(Type::kBoolean)) return Mismatch(operation, target, "a boolean");
      return Made(Value::Boolean(!target.boolean()));
    case Verb::kCompareAndSet:
      return CompareAndSet(operation, target);
  }
  assert(false && "a verb without a rule");
  return Rejection();
}

// At a key that its map does not have, or at an absent entry. Null: not there.
std::optional<Value> MakeAbsent(const Operation& operation) {
  if (MakesAbsent(operation)) return operation.argument;
  if (operation.verb == Verb::kAssoc) return Value::OfMap(operation.entries);
  if (operation.verb == Verb::kConj) return Value::OfVector(operation.arguments);
  return std::nullopt;
}

Outcome TooDeep(const Operation& operation, size_t depth) {
  return Mismatch(operation, absl::StrCat("a value that would be ", depth, " deep"),
                  absl::StrCat("at most ", kValueDepthMax, " (value_depth_max)"));
}

}  // namespace

absl::StatusOr<Operation> FromProto(const v1::Operation& message) {
  absl::Status status = CheckKnown("operation", message);
  if (!status.ok()) return status;
  Operation operation;
  if (message.path_size() > 0) {
    status = ReadAll(message.path(), "path", &operation.path);
    if (!status.ok()) return status;
  }
  switch (message.operation_case()) {
    case v1::Operation::kSet:
      operation.verb = Verb::kSet;
      status = Read(message.set(), "set", &operation.argument);
      break;
    case v1::Operation::kAdd:
      operation.verb = Verb::kAdd;
      status = Read(message.add(), "add", &operation.argument);
      break;
    case v1::Operation::kMin:
      operation.verb = Verb::kMin;
      status = Read(message.min(), "min", &operation.argument);
      break;
    case v1::Operation::kMax:
      operation.verb = Verb::kMax;
      status = Read(message.max(), "max", &operation.argument);
      break;
    case v1::Operation::kAppend:
      operation.verb = Verb::kAppend;
      status = Read(message.append(), "append", &operation.argument);
      break;
    case v1::Operation::kConj:
      operation.verb = Verb::kConj;
      status = ReadAll(message.conj().items(), "conj.items", &operation.arguments);
      break;
    case v1::Operation::kDisj:
      operation.verb = Verb::kDisj;
      status = ReadAll(message.disj().items(), "disj.items", &operation.arguments);
      break;
    case v1::Operation::kPop:
      operation.verb = Verb::kPop;
      operation.count = std::max(1u, message.pop());
      break;
    case v1::Operation::kShift:
      operation.verb = Verb::kShift;
      operation.count = std::max(1u, message.shift());
      break;
    case v1::Operation::kAssoc:
      operation.verb = Verb::kAssoc;
      status = ReadEntries(message.assoc(), &operation.entries);
      break;
    case v1::Operation::kDissoc:
      operation.verb = Verb::kDissoc;
      status = ReadAll(message.dissoc().items(), "dissoc.items", &operation.arguments);
      break;
    case v1::Operation::kToggle:
      operation.verb = Verb::kToggle;
      if (!message.toggle())
        return absl::InvalidArgumentError("toggle: false, expected true (leave it unset otherwise)");
      break;
    case v1::Operation::kCompareAndSet: {
      const v1::CompareAndSet& compare = message.compare_and_set();
      status = CheckKnown("compare_and_set", compare);
      if (!status.ok()) return status;
      operation.verb = Verb::kCompareAndSet;
      // A Value without a kind is ABSENT, so it says the same as no Value at all.
      if (compare.has_expected() && compare.expected().kind_case() != v1::Value::KIND_NOT_SET) {
        operation.expected.emplace();
        status = Read(compare.expected(), "compare_and_set.expected", &*operation.expected);
        if (!status.ok()) return status;
      }
      status = Read(compare.value(), "compare_and_set.value", &operation.argument);
      break;
    }
    case v1::Operation::OPERATION_NOT_SET:
      return absl::InvalidArgumentError(
          "operation: none is set; set one of set, add, min, max, append, conj, disj, "
          "pop, shift, assoc, dissoc, toggle, compare_and_set");
  }
  if (!status.ok()) return status;
  status = CheckArguments(operation);
  if (!status.ok()) return status;
  return operation;
}

void ToProto(const Operation& operation, v1::Operation* message) {
  message->Clear();
  for (const Value& key : operation.path) stm::ToProto(key, message->add_path());
  auto items = [&](v1::Items* out) {
    out->mutable_items()->Reserve(static_cast<int>(operation.arguments.size()));
    for (const Value& item : operation.arguments) stm::ToProto(item, out->add_items());
  };
  switch (operation.verb) {
    case Verb::kSet:
      stm::ToProto(operation.argument, message->mutable_set());
      return;
    case Verb::kAdd:
      stm::ToProto(operation.argument, message->mutable_add());
      return;
    case Verb::kMin:
      stm::ToProto(operation.argument, message->mutable_min());
      return;
    case Verb::kMax:
      stm::ToProto(operation.argument, message->mutable_max());
      return;
    case Verb::kAppend:
      stm::ToProto(operation.argument, message->mutable_append());
      return;
    case Verb::kConj:
      items(message->mutable_conj());
      return;
    case Verb::kDisj:
      items(message->mutable_disj());
      return;
    case Verb::kPop:
      message->set_pop(operation.count);
      return;
    case Verb::kShift:
      message->set_shift(operation.count);
      return;
    case Verb::kAssoc: {
      v1::Map* map = message->mutable_assoc();
      operation.entries.ForEach([&](const Value& key, const Value& value) {
        v1::MapEntry* entry = map->add_entries();
        stm::ToProto(key, entry->mutable_key());
        stm::ToProto(value, entry->mutable_value());
        return true;
      });
      return;
    }
    case Verb::kDissoc:
      items(message->mutable_dissoc());
      return;
    case Verb::kToggle:
      message->set_toggle(true);
      return;
    case Verb::kCompareAndSet: {
      v1::CompareAndSet* compare = message->mutable_compare_and_set();
      if (operation.expected) stm::ToProto(*operation.expected, compare->mutable_expected());
      stm::ToProto(operation.argument, compare->mutable_value());
      return;
    }
  }
}

Value ToEdnForm(const Operation& operation) {
  std::vector<Value> form;
  form.reserve(2 + operation.arguments.size());
  form.push_back(Value::Symbol(NameOf(operation)));
  switch (operation.verb) {
    case Verb::kSet:
    case Verb::kAdd:
    case Verb::kMin:
    case Verb::kMax:
    case Verb::kAppend:
      form.push_back(operation.argument);
      break;
    case Verb::kConj:
    case Verb::kDisj:
    case Verb::kDissoc:
      form.insert(form.end(), operation.arguments.begin(), operation.arguments.end());
      break;
    case Verb::kPop:
    case Verb::kShift:
      if (operation.count != 1) form.push_back(Value::Integer(operation.count));
      break;
    case Verb::kAssoc:
      operation.entries.ForEach([&](const Value& key, const Value& value) {
        form.push_back(key);
        form.push_back(value);
        return true;
      });
      break;
    case Verb::kToggle:
      break;
    case Verb::kCompareAndSet:
      if (operation.expected) form.push_back(*operation.expected);
      form.push_back(operation.argument);
      break;
  }
  Value plain = Value::List(std::move(form));
  if (operation.path.empty()) return plain;
  return Value::List(
      std::vector<Value>{Value::Symbol("at"), Value::OfVector(operation.path), std::move(plain)});
}

absl::StatusOr<Operation> OperationFromEdnForm(const Value& form) {
  auto head_of = [](const Value& list) {
    return list.is(Type::kList) && !list.items().empty() && list.items().at(0).is(Type::kSymbol);
  };
  constexpr const char* kShape = ", expected a list that begins with a symbol, as in (add 1)";
  if (!head_of(form))
    return absl::InvalidArgumentError(absl::StrCat("operation: found ", Excerpt(form), kShape));

  Operation operation;
  const Vector* items = &form.items();
  if (items->at(0).text() == "at") {
    if (items->size() != 3 || !items->at(1).is(Type::kVector)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "at: found ", Excerpt(form), ", expected a path and an operation, as in (at [:a 0] (add 1))"));
    }
    for (const Value& key : items->at(1).items()) operation.path.push_back(key);
    const Value& inner = items->at(2);
    if (!head_of(inner))
      return absl::InvalidArgumentError(absl::StrCat("at: found ", Excerpt(inner), kShape));
    items = &inner.items();
    if (items->at(0).text() == "at") {
      return absl::InvalidArgumentError("at: found another at inside, expected one path of all keys");
    }
  }

  const std::string& name = items->at(0).text();
  size_t verb = 0;
  if (name == kCompareAbsent) {
    verb = static_cast<size_t>(Verb::kCompareAndSet);
  } else {
    while (verb < std::size(kVerbNames) && name != kVerbNames[verb]) ++verb;
    if (verb == std::size(kVerbNames)) {
      return absl::UnimplementedError(absl::StrCat("operation ", std::string(CutUtf8(name, kExcerptBytesMax)),
                                                   ": unknown to this version, which has set, add, min, max, "
                                                   "append, conj, disj, pop, shift, assoc, dissoc, "
                                                   "toggle, cas, cas-absent and at"));
    }
  }
  operation.verb = static_cast<Verb>(verb);
  size_t arguments = items->size() - 1;
  auto takes = [&](size_t least, size_t most, const char* what) {
    if (arguments >= least && arguments <= most) return absl::OkStatus();
    return Wrong(name.c_str(), absl::StrCat("found ", arguments, " arguments, expected ", what));
  };
  absl::Status status;
  switch (operation.verb) {
    case Verb::kSet:
    case Verb::kAdd:
    case Verb::kMin:
    case Verb::kMax:
    case Verb::kAppend:
      status = takes(1, 1, "1");
      if (status.ok()) operation.argument = items->at(1);
      break;
    case Verb::kConj:
    case Verb::kDisj:
    case Verb::kDissoc:
      operation.arguments.reserve(arguments);
      for (size_t i = 1; i < items->size(); ++i) operation.arguments.push_back(items->at(i));
      break;
    case Verb::kPop:
    case Verb::kShift: {
      status = takes(0, 1, "none or a count");
      if (!status.ok() || arguments == 0) break;
      const Value& count = items->at(1);
      constexpr int64_t kCountMax = std::numeric_limits<uint32_t>::max();
      if (!count.is(Type::kInteger) || count.integer() < 1 || count.integer() > kCountMax) {
        return Wrong(name.c_str(),
                     absl::StrCat("found ", Excerpt(count), ", expected a count from 1 to ", kCountMax));
      }
      operation.count = static_cast<uint32_t>(count.integer());
      break;
    }
    case Verb::kAssoc: {
      if (arguments % 2 != 0) {
        return Wrong("assoc",
                     absl::StrCat("found ", arguments, " arguments, expected keys and values in turn"));
      }
      std::vector<std::pair<Value, Value>> entries;
      entries.reserve(arguments / 2);
      for (size_t i = 1; i < items->size(); i += 2) entries.emplace_back(items->at(i), items->at(i + 1));
      operation.entries = Map(std::move(entries));
      if (operation.entries.size() * 2 != arguments)
        return Wrong("assoc", "two keys are equal; give each once");
      break;
    }
    case Verb::kToggle:
      status = takes(0, 0, "none");
      break;
    case Verb::kCompareAndSet:
      if (name == kCompareAbsent) {
        status = takes(1, 1, "the new value");
      } else {
        status = takes(2, 2, "the expected and the new value");
        if (status.ok()) operation.expected = items->at(1);
      }
      if (status.ok()) operation.argument = items->at(arguments);
      break;
  }
  if (!status.ok()) return status;
  status = CheckArguments(operation);
  if (!status.ok()) return status;
  return operation;
}

std::string Excerpt(const Value& value) {
  constexpr std::string_view kCut = "...";
  std::string text;
  AppendStart(value, kExcerptBytesMax + 1, &text);
  if (text.size() <= kExcerptBytesMax) return text;
  text.resize(CutUtf8(text, kExcerptBytesMax - kCut.size()).size());
  text.append(kCut);
  return text;
}

std::variant<Applied, Rejection> Apply(const Operation& operation, const std::optional<Value>& before) {
  const std::vector<Value>& path = operation.path;
  if (path.size() > kPathItemsMax) return TooDeep(operation, path.size() + 1);
  if (!before && !MakesAbsent(operation)) return Missing(operation, "the entry is absent: create it first");

  // Down: the collections along the path, up to the first that does not have its key.
  std::array<const Value*, kPathItemsMax> along;
  size_t found = 0;  // collections in `along`
  const Value* target = before ? &*before : nullptr;
  while (target != nullptr && found < path.size()) {
    const Value& key = path[found];
    along[found] = target;
    if (target->is(Type::kMap)) {
      target = target->map().Find(key);
      ++found;
      continue;
    }
    auto here = [&]() -> std::string {
      if (found == 0) return "";
      std::vector<Value> followed(path.begin(), path.begin() + static_cast<std::ptrdiff_t>(found));
      return absl::StrCat(" at ", Excerpt(Value::OfVector(std::move(followed))));
    };
    if (!target->is(Type::kVector)) {
      return Mismatch(operation, *target, absl::StrCat("a map or vector", here(), ", to follow the path"));
    }
    const Vector& items = target->items();
    if (!key.is(Type::kInteger)) {
      return Mismatch(operation, key, absl::StrCat("an integer as index of the vector", here()));
    }
    if (key.integer() < 0 || static_cast<uint64_t>(key.integer()) >= items.size()) {
      return PastEnd(operation, key.integer(), items.size(),
                     items.empty() ? std::string("none") : absl::StrCat("0 to ", items.size() - 1));
    }
    target = &items.at(static_cast<size_t>(key.integer()));
    ++found;
  }

  // There: the operation itself.
  Applied applied;
  if (target != nullptr) {
    Outcome outcome = ApplyTo(operation, *target);
    if (Rejection* rejection = std::get_if<Rejection>(&outcome)) return std::move(*rejection);
    applied = std::get<Applied>(std::move(outcome));
  } else {
    std::optional<Value> made = MakeAbsent(operation);
    if (!made) {
      return Missing(operation, absl::StrCat("nothing there, key ", Excerpt(path[found - 1]), " is absent"));
    }
    applied.value = *std::move(made);
    for (size_t i = path.size(); i > found; --i) {
      std::vector<std::pair<Value, Value>> entry;
      entry.emplace_back(path[i - 1], std::move(applied.value));
      applied.value = Value::OfMap(Map(std::move(entry)));
    }
  }

  // And back up: each collection with its one key anew.
  for (size_t i = found; i > 0; --i) {
    const Value& outer = *along[i - 1];
    const Value& key = path[i - 1];
    if (outer.is(Type::kMap)) {
      applied.value = Value::OfMap(outer.map().Assoc(key, std::move(applied.value)));
    } else {
      applied.value =
          Value::OfVector(outer.items().Assoc(static_cast<size_t>(key.integer()), std::move(applied.value)));
    }
  }
  if (applied.value.depth() > kValueDepthMax)
    return TooDeep(operation, static_cast<size_t>(applied.value.depth()));
  if (operation.verb != Verb::kPop && operation.verb != Verb::kShift) applied.result = applied.value;
  return applied;
}

}  // namespace stm::engine
