#include "backends/local/log_format.h"

#include <charconv>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "backends/local/crc32c.h"
#include "engine/name.h"
#include "engine/values/edn.h"

namespace stm::local {
namespace {

// A line holds values of up to kValueDepthMax inside its maps, and inside operations: (at [path] (assoc key
// value)).
constexpr int kLineDepthMax = kValueDepthMax + 8;

using engine::CommitRecord;
using engine::Definition;
using engine::EntryChange;
using engine::EntryKind;
using engine::Version;
using Kind = EntryChange::Kind;

constexpr std::string_view kLogPrefix = "log-";
constexpr std::string_view kSnapshotPrefix = "snapshot-";
constexpr std::string_view kSuffix = ".edn";
constexpr size_t kVersionDigits = 19;
constexpr char kHexDigits[] = "0123456789abcdef";

absl::string_view Abs(std::string_view text) { return absl::string_view(text.data(), text.size()); }

void Put(std::string_view text, std::string* out) { out->append(text.data(), text.size()); }

void PutInteger(int64_t number, std::string* out) {
  char digits[20];
  auto end = std::to_chars(digits, digits + sizeof(digits), number).ptr;
  out->append(digits, static_cast<size_t>(end - digits));
}

template <int kDigits>
void PutHex(uint64_t number, std::string* out) {
  char digits[kDigits];
  for (int i = kDigits - 1; i >= 0; --i, number >>= 4) digits[i] = kHexDigits[number & 15];
  out->append(digits, kDigits);
}

void PutUuid(Uuid uuid, std::string* out) {
  char text[36];
  char* at = text;
  auto put = [&at](uint64_t number, int from, int digits) {
    for (int i = 0; i < digits; ++i) *at++ = kHexDigits[(number >> (from - 4 * i)) & 15];
  };
  put(uuid.high, 60, 8);
  *at++ = '-';
  put(uuid.high, 28, 4);
  *at++ = '-';
  put(uuid.high, 12, 4);
  *at++ = '-';
  put(uuid.low, 60, 4);
  *at++ = '-';
  put(uuid.low, 44, 12);
  out->append(text, sizeof(text));
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

// All of `text`, lower case.
std::optional<uint64_t> ReadHex(std::string_view text) {
  if (text.empty() || text.size() > 16) return std::nullopt;
  uint64_t number = 0;
  for (char c : text) {
    int digit = HexDigit(c);
    if (digit < 0) return std::nullopt;
    number = number << 4 | static_cast<uint64_t>(digit);
  }
  return number;
}

std::optional<int64_t> ReadInteger(std::string_view text) {
  int64_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

bool IsDefault(EntryKind kind, const Definition* definition) {
  if (kind == EntryKind::kAtom) return false;
  return definition == nullptr || (definition->container.empty() && definition->validator == nullptr &&
                                   definition->session_id.empty() && definition->ttl == absl::ZeroDuration());
}

// Pairs of a map, one after another.
class Pairs {
 public:
  explicit Pairs(std::string* out) : out_(out) { out_->push_back('{'); }
  void Key(std::string_view keyword) {
    Separate();
    Put(keyword, out_);
    out_->push_back(' ');
  }
  void Name(std::string_view name) {
    Separate();
    AppendEdnString(name, out_);
    out_->push_back(' ');
  }
  void Close() { out_->push_back('}'); }

 private:
  void Separate() {
    if (!first_) Put(", ", out_);
    first_ = false;
  }
  std::string* out_;
  bool first_ = true;
};

void PutDefinition(EntryKind kind, const Definition* definition, std::string* out) {
  Pairs pairs(out);
  if (kind == EntryKind::kAtom) {
    pairs.Key(":kind");
    Put(":atom", out);
  }
  if (definition != nullptr) {
    if (!definition->container.empty()) {
      pairs.Key(":container");
      AppendEdnString(definition->container, out);
    }
    if (definition->validator != nullptr) {
      pairs.Key(":validator");
      AppendEdn(definition->validator->form(), out);
    }
    if (!definition->session_id.empty()) {
      pairs.Key(":session");
      AppendEdnString(definition->session_id, out);
    }
    if (definition->ttl != absl::ZeroDuration()) {
      // Up: a TTL never ends before it was promised to.
      pairs.Key(":ttl-ms");
      PutInteger(absl::ToInt64Milliseconds(absl::Ceil(definition->ttl, absl::Milliseconds(1))), out);
    }
  }
  pairs.Close();
}

void PutMeta(const engine::Meta& meta, std::string* out) {
  Pairs pairs(out);
  auto put = [&](std::string_view key, const std::string& text) {
    if (text.empty()) return;
    pairs.Key(key);
    AppendEdnString(text, out);
  };
  put(":label", meta.label);
  put(":client", meta.client);
  put(":traceparent", meta.traceparent);
  put(":principal", meta.principal);
  pairs.Close();
}

bool IsEmpty(const engine::Meta* meta) {
  return meta == nullptr || (meta->label.empty() && meta->client.empty() && meta->traceparent.empty() &&
                             meta->principal.empty());
}

std::string FileName(std::string_view prefix, Version version) {
  std::string digits = std::to_string(version);
  std::string name(prefix);
  name.append(kVersionDigits - digits.size(), '0');
  name.append(digits);
  name.append(kSuffix);
  return name;
}

std::optional<Version> ParseFileName(std::string_view prefix, std::string_view name) {
  if (name.size() != prefix.size() + kVersionDigits + kSuffix.size() ||
      name.substr(0, prefix.size()) != prefix || name.substr(name.size() - kSuffix.size()) != kSuffix) {
    return std::nullopt;
  }
  std::string_view digits = name.substr(prefix.size(), kVersionDigits);
  for (char c : digits) {
    if (c < '0' || c > '9') return std::nullopt;
  }
  return ReadInteger(digits);
}

}  // namespace

std::string LogName(Version first) { return FileName(kLogPrefix, first); }
std::string SnapshotName(Version version) { return FileName(kSnapshotPrefix, version); }
std::optional<Version> ParseLogName(std::string_view name) { return ParseFileName(kLogPrefix, name); }
std::optional<Version> ParseSnapshotName(std::string_view name) {
  return ParseFileName(kSnapshotPrefix, name);
}

std::string Hex(uint64_t number) {
  std::string text;
  PutHex<16>(number, &text);
  return text;
}

// --- Writing ---

void AppendTrailer(size_t line_begin, Version durable, const std::vector<uint32_t>& hashes,
                   std::string* out) {
  Put(" ;", out);
  PutInteger(durable, out);
  out->push_back(' ');
  for (uint32_t hash : hashes) {
    PutHex<8>(hash, out);
    out->push_back(' ');
  }
  uint32_t crc = Crc32c(std::string_view(*out).substr(line_begin));
  PutHex<8>(crc, out);
  out->push_back('\n');
}

void LinePrinter::AppendInst(Instant at, std::string* out) {
  if (at.seconds != second_) {
    second_text_.clear();
    AppendEdnInstant(Instant{at.seconds, 0}, &second_text_);
    // Without what closes it: Z".
    second_text_.resize(second_text_.size() - 2);
    second_ = at.seconds;
  }
  Put(second_text_, out);
  if (at.nanos != 0) {
    char digits[10];
    uint32_t nanos = static_cast<uint32_t>(at.nanos);
    for (int i = 9; i >= 1; --i, nanos /= 10) digits[i] = static_cast<char>('0' + nanos % 10);
    digits[0] = '.';
    size_t shown = at.nanos % 1000000 == 0 ? 3 : at.nanos % 1000 == 0 ? 6 : 9;
    out->append(digits, shown + 1);
  }
  Put("Z\"", out);
}

void LinePrinter::Commit(const CommitRecord& commit, Version durable, RootedNames* rooted, std::string* out) {
  const size_t line_begin = out->size();
  hashes_.clear();
  forms_.clear();
  uint32_t kinds = 0;
  bool defines = false;
  constexpr uint32_t kApplyBit = 1u << 31;
  for (size_t i = 0; i < commit.changes.size(); ++i) {
    const EntryChange& change = commit.changes[i];
    if (change.definition != nullptr || change.kind == Kind::kDefine ||
        (change.kind == Kind::kCreate && change.entry_kind == EntryKind::kAtom)) {
      defines = true;
    }
    uint32_t bit = 1u << static_cast<uint8_t>(change.kind);
    if (rooted != nullptr) {
      if (change.operation != nullptr && change.kind == Kind::kSet &&
          change.value->edn_size() > kOperationValueBytesMin) {
        if (rooted->contains(change.name)) {
          Value form = ToEdnForm(*change.operation);
          if (form.edn_size() < change.value->edn_size()) {
            forms_.resize(commit.changes.size());
            forms_[i] = std::move(form);
            hashes_.push_back(static_cast<uint32_t>(change.value->hash()));
            bit = kApplyBit;
          }
        } else {
          rooted->insert(change.name);
        }
      } else if ((change.kind == Kind::kDelete || change.kind == Kind::kExpire) && !rooted->empty()) {
        rooted->erase(change.name);
      }
    }
    kinds |= bit;
  }

  Put("{:version ", out);
  PutInteger(commit.version, out);
  Put(" :at ", out);
  AppendInst(commit.at, out);
  if (commit.transaction_id) {
    Put(" :tx #uuid \"", out);
    PutUuid(*commit.transaction_id, out);
    out->push_back('"');
  }
  if (!IsEmpty(commit.meta.get())) {
    Put(" :by ", out);
    PutMeta(*commit.meta, out);
  }
  auto has = [kinds](Kind kind) { return (kinds & 1u << static_cast<uint8_t>(kind)) != 0; };
  auto is_form = [this](size_t i) { return i < forms_.size() && forms_[i].has_value(); };
  auto values = [&](std::string_view key, Kind kind) {
    Put(key, out);
    Pairs pairs(out);
    for (size_t i = 0; i < commit.changes.size(); ++i) {
      const EntryChange& change = commit.changes[i];
      if (change.kind != kind || is_form(i)) continue;
      pairs.Name(change.name);
      AppendEdn(*change.value, out);
    }
    pairs.Close();
  };
  if (has(Kind::kSet)) values(" :set ", Kind::kSet);
  if ((kinds & kApplyBit) != 0) {
    Put(" :apply ", out);
    Pairs pairs(out);
    for (size_t i = 0; i < forms_.size(); ++i) {
      if (!is_form(i)) continue;
      pairs.Name(commit.changes[i].name);
      AppendEdn(*forms_[i], out);
    }
    pairs.Close();
  }
  if (has(Kind::kCreate)) values(" :create ", Kind::kCreate);
  if (defines) {
    const size_t before = out->size();
    Put(" :define ", out);
    Pairs pairs(out);
    bool any = false;
    for (const EntryChange& change : commit.changes) {
      const Definition* definition = change.definition.get();
      bool shown = change.kind == Kind::kDefine || (change.kind == Kind::kSet && definition != nullptr) ||
                   (change.kind == Kind::kCreate && !IsDefault(change.entry_kind, definition));
      if (!shown) continue;
      pairs.Name(change.name);
      PutDefinition(change.entry_kind, definition, out);
      any = true;
    }
    pairs.Close();
    if (!any) out->resize(before);
  }
  auto names = [&](std::string_view key, Kind kind) {
    Put(key, out);
    char separator = '[';
    for (const EntryChange& change : commit.changes) {
      if (change.kind != kind) continue;
      out->push_back(separator);
      AppendEdnString(change.name, out);
      separator = ' ';
    }
    out->push_back(']');
  };
  if (has(Kind::kDelete)) names(" :delete ", Kind::kDelete);
  if (has(Kind::kExpire)) names(" :expire ", Kind::kExpire);
  if (!commit.records.empty()) {
    Put(" :records ", out);
    char separator = '[';
    for (const Value& record : commit.records) {
      out->push_back(separator);
      AppendEdn(record, out);
      separator = ' ';
    }
    out->push_back(']');
  }
  out->push_back('}');
  AppendTrailer(line_begin, durable, hashes_, out);
}

void LinePrinter::LogHeader(uint64_t store, Version first, Version durable, std::string* out) {
  const size_t line_begin = out->size();
  Put("{:stm/log ", out);
  PutInteger(kFormat, out);
  Put(" :store \"", out);
  PutHex<16>(store, out);
  Put("\" :first ", out);
  PutInteger(first, out);
  out->push_back('}');
  AppendTrailer(line_begin, durable, {}, out);
}

void LinePrinter::Start(Version version, Instant at, uint64_t writer, Version durable, std::string* out) {
  const size_t line_begin = out->size();
  Put("{:start ", out);
  PutInteger(version, out);
  Put(" :at ", out);
  AppendInst(at, out);
  Put(" :writer \"", out);
  PutHex<16>(writer, out);
  Put("\"}", out);
  AppendTrailer(line_begin, durable, {}, out);
}

void LinePrinter::Stop(Version version, Instant at, Version durable, std::string* out) {
  const size_t line_begin = out->size();
  Put("{:stop ", out);
  PutInteger(version, out);
  Put(" :at ", out);
  AppendInst(at, out);
  out->push_back('}');
  AppendTrailer(line_begin, durable, {}, out);
}

void LinePrinter::SnapshotHeader(uint64_t store, Version version, Instant at, std::string* out) {
  Put("{:stm/log ", out);
  PutInteger(kFormat, out);
  Put(" :store \"", out);
  PutHex<16>(store, out);
  Put("\" :snapshot ", out);
  PutInteger(version, out);
  Put(" :at ", out);
  AppendInst(at, out);
  Put("}\n", out);
}

void LinePrinter::Entry(const engine::ImageEntry& entry, std::string* out) {
  Put("{:name ", out);
  AppendEdnString(entry.name, out);
  if (entry.value) {
    Put(" :value ", out);
    AppendEdn(*entry.value, out);
  }
  Put(" :version ", out);
  PutInteger(entry.version, out);
  Put(" :at ", out);
  AppendInst(entry.written_at, out);
  if (!IsDefault(entry.kind, entry.definition.get())) {
    Put(" :define ", out);
    PutDefinition(entry.kind, entry.definition.get(), out);
  }
  Put("}\n", out);
}

void LinePrinter::Id(const engine::ImageId& id, std::string* out) {
  Put("{:tx #uuid \"", out);
  PutUuid(id.transaction_id, out);
  Put("\" :version ", out);
  PutInteger(id.version, out);
  Put(" :at ", out);
  AppendInst(id.at, out);
  Put("}\n", out);
}

void LinePrinter::SnapshotEnd(Version id_floor, int64_t entries, int64_t ids, uint32_t crc,
                              std::string* out) {
  Put("{:floor ", out);
  PutInteger(id_floor, out);
  Put(" :entries ", out);
  PutInteger(entries, out);
  Put(" :ids ", out);
  PutInteger(ids, out);
  Put("} ;", out);
  PutHex<8>(crc, out);
  out->push_back('\n');
}

// --- Reading ---

std::optional<Trailer> ReadTrailer(std::string_view line) {
  constexpr size_t kCrcDigits = 8;
  // The shortest: "{} ;0 12345678".
  if (line.size() < 14) return std::nullopt;
  const size_t crc_at = line.size() - kCrcDigits;
  std::optional<uint64_t> crc = ReadHex(line.substr(crc_at));
  if (!crc || line[crc_at - 1] != ' ' || Crc32c(line.substr(0, crc_at)) != *crc) return std::nullopt;
  // Back over the hashes and the version to the last ';'.
  size_t semicolon = line.rfind(';', crc_at - 1);
  if (semicolon == std::string_view::npos || semicolon == 0 || line[semicolon - 1] != ' ')
    return std::nullopt;
  std::string_view fields = line.substr(semicolon + 1, crc_at - 1 - (semicolon + 1));
  size_t space = fields.find(' ');
  std::optional<int64_t> durable = ReadInteger(fields.substr(0, space));
  if (!durable || *durable < 0) return std::nullopt;
  Trailer trailer;
  trailer.durable = *durable;
  trailer.body_size = semicolon - 1;
  while (space != std::string_view::npos) {
    fields.remove_prefix(space + 1);
    space = fields.find(' ');
    std::string_view field = fields.substr(0, space);
    std::optional<uint64_t> hash = ReadHex(field);
    if (field.size() != 8 || !hash) return std::nullopt;
    trailer.hashes.push_back(static_cast<uint32_t>(*hash));
  }
  return trailer;
}

bool IsBlank(std::string_view line) { return line.find_first_not_of(" \r") == std::string_view::npos; }

std::optional<LogLine::Kind> KindOf(std::string_view line) {
  auto begins = [line](std::string_view with) { return line.substr(0, with.size()) == with; };
  if (begins("{:version ")) return LogLine::Kind::kCommit;
  if (begins("{:start ")) return LogLine::Kind::kStart;
  if (begins("{:stop ")) return LogLine::Kind::kStop;
  if (begins("{:stm/log ")) return LogLine::Kind::kHeader;
  return std::nullopt;
}

std::optional<Version> VersionOf(std::string_view line) {
  constexpr std::string_view kBegin = "{:version ";
  if (line.substr(0, kBegin.size()) != kBegin) return std::nullopt;
  line.remove_prefix(kBegin.size());
  return ReadInteger(line.substr(0, line.find(' ')));
}

namespace {

absl::Status Malformed(absl::string_view what) { return absl::DataLossError(what); }

absl::Status Unknown(absl::string_view what) {
  return absl::UnimplementedError(absl::StrCat(what, " is not known to this build (format ", kFormat,
                                               "): start the version of stmd that wrote it"));
}

absl::Status Wanted(absl::string_view key, absl::string_view type, const Value& found) {
  return Malformed(absl::StrCat(key, ": found ", Abs(TypeName(found.type())), ", expected ", type));
}

// A refusal of a value's own reader or parser, as the fault of a key.
absl::Status Blame(absl::string_view key, const absl::Status& status) {
  std::string message = absl::StrCat(key, ": ", status.message());
  return status.code() == absl::StatusCode::kUnimplemented ? Unknown(message) : Malformed(message);
}

absl::StatusOr<std::string> TextOf(absl::string_view key, const Value& value) {
  if (!value.is(Type::kString)) return Wanted(key, "a string", value);
  return value.text();
}

absl::StatusOr<int64_t> IntegerOf(absl::string_view key, const Value& value) {
  if (!value.is(Type::kInteger)) return Wanted(key, "an integer", value);
  if (value.integer() < 0) return Malformed(absl::StrCat(key, ": ", value.integer(), " is below 0"));
  return value.integer();
}

absl::StatusOr<Instant> InstantOf(absl::string_view key, const Value& value) {
  if (!value.is(Type::kInstant)) return Wanted(key, "an instant", value);
  return value.instant();
}

absl::StatusOr<uint64_t> HexOf(absl::string_view key, const Value& value) {
  if (value.is(Type::kString) && value.text().size() == 16) {
    if (std::optional<uint64_t> number = ReadHex(value.text())) return *number;
  }
  return Malformed(absl::StrCat(key, ": expected a string of 16 lower-case hex digits"));
}

absl::StatusOr<std::shared_ptr<const engine::Meta>> MetaOf(const Value& value) {
  if (!value.is(Type::kMap)) return Wanted(":by", "a map", value);
  auto meta = std::make_shared<engine::Meta>();
  for (auto [key, text] : value.map()) {
    std::string* field = nullptr;
    if (key.is(Type::kKeyword)) {
      if (key.text() == "label") field = &meta->label;
      if (key.text() == "client") field = &meta->client;
      if (key.text() == "traceparent") field = &meta->traceparent;
      if (key.text() == "principal") field = &meta->principal;
    }
    if (field == nullptr) return Unknown(absl::StrCat(":by: key ", ToEdn(key)));
    absl::StatusOr<std::string> read = TextOf(absl::StrCat(":by ", ToEdn(key)), text);
    if (!read.ok()) return read.status();
    *field = *std::move(read);
  }
  return meta;
}

struct ReadDefinition {
  EntryKind kind = EntryKind::kRef;
  std::shared_ptr<const Definition> definition;
};

// Of :define's entry `name`.
absl::StatusOr<ReadDefinition> DefinitionOf(std::string_view name, const Value& value) {
  auto where = [name](absl::string_view key) { return absl::StrCat(":define ", Abs(name), " ", key); };
  if (!value.is(Type::kMap)) return Wanted(absl::StrCat(":define ", Abs(name)), "a map", value);
  ReadDefinition read;
  auto definition = std::make_shared<Definition>();
  for (auto [key, item] : value.map()) {
    const std::string printed = ToEdn(key);
    if (printed == ":kind") {
      if (!item.is(Type::kKeyword)) return Wanted(where(printed), ":ref or :atom", item);
      if (item.text() != "ref" && item.text() != "atom")
        return Unknown(where(absl::StrCat(":kind ", ToEdn(item))));
      read.kind = item.text() == "atom" ? EntryKind::kAtom : EntryKind::kRef;
    } else if (printed == ":container") {
      absl::StatusOr<std::string> text = TextOf(where(printed), item);
      if (!text.ok()) return text.status();
      definition->container = *std::move(text);
    } else if (printed == ":session") {
      absl::StatusOr<std::string> text = TextOf(where(printed), item);
      if (!text.ok()) return text.status();
      definition->session_id = *std::move(text);
    } else if (printed == ":ttl-ms") {
      absl::StatusOr<int64_t> milliseconds = IntegerOf(where(printed), item);
      if (!milliseconds.ok()) return milliseconds.status();
      definition->ttl = absl::Milliseconds(*milliseconds);
    } else if (printed == ":validator") {
      absl::StatusOr<std::shared_ptr<const engine::Validator>> validator = engine::Validator::Parse(item);
      if (!validator.ok()) return Blame(where(printed), validator.status());
      definition->validator = *std::move(validator);
    } else {
      return Unknown(where(absl::StrCat("key ", printed)));
    }
  }
  read.definition = std::move(definition);
  return read;
}

// Collects a commit's changes, section after section in the order they are printed in.
class Changes {
 public:
  explicit Changes(CommitRecord* commit) : changes_(&commit->changes) {}

  EntryChange& Add(std::string name, Kind kind) {
    EntryChange& change = changes_->emplace_back();
    change.name = std::move(name);
    change.kind = kind;
    return change;
  }

  // To the entry's :set, :apply or :create of the same line, else a change of its own.
  void Define(std::string_view name, ReadDefinition read) {
    EntryChange* change = Find(name);
    if (change == nullptr) change = &Add(std::string(name), Kind::kDefine);
    change->entry_kind = read.kind;
    change->definition = std::move(read.definition);
  }

 private:
  // All that may be defined stands before the first :define.
  EntryChange* Find(std::string_view name) {
    if (!indexed_) {
      indexed_ = true;
      for (size_t i = 0; i < changes_->size(); ++i) index_.emplace((*changes_)[i].name, i);
    }
    auto found = index_.find(Abs(name));
    return found == index_.end() ? nullptr : &(*changes_)[found->second];
  }

  std::vector<EntryChange>* changes_;
  absl::flat_hash_map<std::string, size_t> index_;
  bool indexed_ = false;
};

absl::Status AddOperation(Changes* changes, std::string name, const Value& form,
                          std::optional<uint32_t> hash) {
  absl::StatusOr<engine::Operation> operation = engine::OperationFromEdnForm(form);
  if (!operation.ok()) return Blame(absl::StrCat(":apply ", name), operation.status());
  EntryChange& change = changes->Add(std::move(name), Kind::kSet);
  change.operation = std::make_shared<const engine::Operation>(*std::move(operation));
  change.expected_hash = hash;
  return absl::OkStatus();
}

}  // namespace

// Reads what LinePrinter prints, left to right. Every method returns false when the text goes on otherwise;
// the line is then read the slow way, which also says what is wrong with it.
class LineParser::Scanner {
 public:
  explicit Scanner(std::string_view text) : at_(text.data()), end_(text.data() + text.size()) {}

  bool Take(std::string_view literal) {
    if (static_cast<size_t>(end_ - at_) < literal.size() ||
        std::string_view(at_, literal.size()) != literal) {
      return false;
    }
    at_ += literal.size();
    return true;
  }
  bool AtEnd() const { return at_ == end_; }

  bool Integer(int64_t* number) {
    auto [end, error] = std::from_chars(at_, end_, *number);
    if (error != std::errc()) return false;
    at_ = end;
    return true;
  }

  // #inst "..."
  bool Inst(LineParser* parser, Instant* instant) {
    constexpr size_t kSecondSize = 19;
    if (!Take("#inst \"") || static_cast<size_t>(end_ - at_) < kSecondSize + 2) return false;
    std::string_view second(at_, kSecondSize);
    if (second != parser->second_text_) {
      absl::StatusOr<stm::Instant> parsed = ParseInstant(std::string(second) + "Z");
      if (!parsed.ok()) return false;
      parser->second_text_.assign(second.data(), second.size());
      parser->second_ = parsed->seconds;
    }
    at_ += kSecondSize;
    instant->seconds = parser->second_;
    instant->nanos = 0;
    if (*at_ == '.') {
      ++at_;
      int32_t scale = 100000000;
      for (; at_ != end_ && *at_ >= '0' && *at_ <= '9' && scale > 0; ++at_, scale /= 10) {
        instant->nanos += (*at_ - '0') * scale;
      }
    }
    return Take("Z\"");
  }

  // #uuid "..."
  bool Id(Uuid* uuid) {
    if (!Take("#uuid \"") || static_cast<size_t>(end_ - at_) < 37) return false;
    std::optional<Uuid> parsed = ParseUuid(std::string_view(at_, 36));
    if (!parsed) return false;
    *uuid = *parsed;
    at_ += 36;
    return Take("\"");
  }

  // A quoted string: printable ASCII at once, others by their reader.
  bool Name(std::string* name) {
    if (at_ == end_ || *at_ != '"') return false;
    const char* begin = at_ + 1;
    const char* end = begin;
    while (end != end_ && *end >= ' ' && *end <= '~' && *end != '"' && *end != '\\') ++end;
    if (end != end_ && *end == '"') {
      name->assign(begin, static_cast<size_t>(end - begin));
      at_ = end + 1;
      return true;
    }
    Value value;
    if (!Edn(&value) || !value.is(Type::kString)) return false;
    *name = value.text();
    return true;
  }

  bool Edn(Value* value) {
    EdnReader reader(std::string_view(at_, static_cast<size_t>(end_ - at_)), kLineDepthMax);
    absl::StatusOr<Value> read = reader.Next();
    if (!read.ok()) return false;
    at_ += reader.position();
    *value = *std::move(read);
    return true;
  }

  // {"name" value, ...}: `each` takes what follows a name.
  template <typename Each>
  bool NamedMap(Each each) {
    if (!Take("{")) return false;
    do {
      std::string name;
      if (!Name(&name) || !Take(" ") || !each(std::move(name))) return false;
    } while (Take(", "));
    return Take("}");
  }

  // ["name" "name"]
  template <typename Each>
  bool Names(Each each) {
    if (!Take("[")) return false;
    do {
      std::string name;
      if (!Name(&name)) return false;
      each(std::move(name));
    } while (Take(" "));
    return Take("]");
  }

  std::string_view rest() const { return std::string_view(at_, static_cast<size_t>(end_ - at_)); }

 private:
  const char* at_;
  const char* end_;
};

bool LineParser::ParseCommitFast(std::string_view body, const std::vector<uint32_t>& hashes, Hashes mode,
                                 CommitRecord* commit) {
  Scanner scan(body);
  if (!scan.Take("{:version ") || !scan.Integer(&commit->version) || commit->version <= 0) return false;
  if (!scan.Take(" :at ") || !scan.Inst(this, &commit->at)) return false;
  if (scan.Take(" :tx ")) {
    Uuid uuid;
    if (!scan.Id(&uuid)) return false;
    commit->transaction_id = uuid;
  }
  if (scan.Take(" :by ")) {
    if (!by_text_.empty() && scan.Take(by_text_)) {
      commit->meta = by_;
    } else {
      std::string_view before = scan.rest();
      Value value;
      if (!scan.Edn(&value)) return false;
      absl::StatusOr<std::shared_ptr<const engine::Meta>> meta = MetaOf(value);
      if (!meta.ok()) return false;
      by_ = *std::move(meta);
      by_text_.assign(before.data(), before.size() - scan.rest().size());
      commit->meta = by_;
    }
  }
  Changes changes(commit);
  commit->changes.reserve(2);
  auto valued = [&](Kind kind) {
    return scan.NamedMap([&](std::string name) {
      Value value;
      if (!scan.Edn(&value)) return false;
      changes.Add(std::move(name), kind).value = std::move(value);
      return true;
    });
  };
  if (scan.Take(" :set ") && !valued(Kind::kSet)) return false;
  size_t applied = 0;
  if (scan.Take(" :apply ")) {
    bool read = scan.NamedMap([&](std::string name) {
      Value form;
      if (!scan.Edn(&form)) return false;
      std::optional<uint32_t> hash;
      if (applied < hashes.size()) hash = hashes[applied];
      ++applied;
      return AddOperation(&changes, std::move(name), form, hash).ok();
    });
    if (!read) return false;
  }
  if (mode == Hashes::kRequired && applied != hashes.size()) return false;
  if (scan.Take(" :create ") && !valued(Kind::kCreate)) return false;
  if (scan.Take(" :define ")) {
    bool read = scan.NamedMap([&](std::string name) {
      Value value;
      if (!scan.Edn(&value)) return false;
      absl::StatusOr<ReadDefinition> definition = DefinitionOf(name, value);
      if (!definition.ok()) return false;
      changes.Define(name, *std::move(definition));
      return true;
    });
    if (!read) return false;
  }
  auto named = [&](Kind kind) {
    return scan.Names([&](std::string name) { changes.Add(std::move(name), kind); });
  };
  if (scan.Take(" :delete ") && !named(Kind::kDelete)) return false;
  if (scan.Take(" :expire ") && !named(Kind::kExpire)) return false;
  if (scan.Take(" :records ")) {
    Value records;
    if (!scan.Edn(&records) || !records.is(Type::kVector)) return false;
    for (const Value& record : records.items()) commit->records.push_back(record);
  }
  return scan.Take("}") && scan.AtEnd();
}

absl::StatusOr<LogLine> LineParser::Parse(std::string_view body, const std::vector<uint32_t>& hashes,
                                          Hashes mode) {
  LogLine line;
  if (mode == Hashes::kRequired) {
    line.commit = std::make_shared<CommitRecord>();
    if (ParseCommitFast(body, hashes, mode, line.commit.get())) return line;
  }
  return ParseSlowly(body, hashes, mode);
}

absl::StatusOr<LogLine> LineParser::ParseSlowly(std::string_view body, const std::vector<uint32_t>& hashes,
                                                Hashes mode) {
  EdnReader reader(body, kLineDepthMax);
  absl::StatusOr<Value> read = reader.Next();
  if (!read.ok()) return Malformed(read.status().message());
  if (!reader.AtEnd()) return Malformed("there is more behind the line's map than a comment");
  if (!read->is(Type::kMap)) return Wanted("the line", "a map", *read);
  const Map& map = read->map();
  auto find = [&map](std::string_view keyword) { return map.Find(Value::Keyword(keyword)); };

  LogLine line;
  std::vector<std::string_view> keys;
  if (const Value* format = find("stm/log")) {
    line.kind = LogLine::Kind::kHeader;
    if (!format->is(Type::kInteger) || format->integer() != kFormat) {
      return Unknown(absl::StrCat(":stm/log ", ToEdn(*format)));
    }
    keys = {"stm/log", "store", "first"};
  } else if (find("version") != nullptr) {
    line.kind = LogLine::Kind::kCommit;
    keys = {"version", "at", "tx", "by", "set", "apply", "create", "define", "delete", "expire", "records"};
  } else if (find("start") != nullptr) {
    line.kind = LogLine::Kind::kStart;
    keys = {"start", "at", "writer"};
  } else if (find("stop") != nullptr) {
    line.kind = LogLine::Kind::kStop;
    keys = {"stop", "at"};
  } else if (map.empty()) {
    return Malformed("a line is a map with :version, :start, :stop or :stm/log: found none of them");
  }
  // Format 1 keeps :session, :stage, :settle and :floor for builds that know what to do with them.
  for (auto [key, value] : map) {
    bool known = false;
    for (std::string_view k : keys) known = known || (key.is(Type::kKeyword) && key.text() == k);
    if (!known) return Unknown(absl::StrCat("key ", ToEdn(key)));
  }

  auto must = [&](const char* keyword) -> absl::StatusOr<const Value*> {
    const Value* value = find(keyword);
    if (value == nullptr) return Malformed(absl::StrCat("the line has no :", keyword));
    return value;
  };
  if (line.kind != LogLine::Kind::kCommit) {
    const char* version_key = line.kind == LogLine::Kind::kHeader  ? "first"
                              : line.kind == LogLine::Kind::kStart ? "start"
                                                                   : "stop";
    absl::StatusOr<const Value*> version = must(version_key);
    if (!version.ok()) return version.status();
    absl::StatusOr<int64_t> number = IntegerOf(absl::StrCat(":", version_key), **version);
    if (!number.ok()) return number.status();
    line.version = *number;
    if (line.kind == LogLine::Kind::kHeader) {
      absl::StatusOr<const Value*> store = must("store");
      if (!store.ok()) return store.status();
      absl::StatusOr<uint64_t> hex = HexOf(":store", **store);
      if (!hex.ok()) return hex.status();
      line.store = *hex;
      return line;
    }
    absl::StatusOr<const Value*> at = must("at");
    if (!at.ok()) return at.status();
    absl::StatusOr<Instant> instant = InstantOf(":at", **at);
    if (!instant.ok()) return instant.status();
    line.at = *instant;
    if (line.kind == LogLine::Kind::kStart) {
      absl::StatusOr<const Value*> writer = must("writer");
      if (!writer.ok()) return writer.status();
      absl::StatusOr<uint64_t> hex = HexOf(":writer", **writer);
      if (!hex.ok()) return hex.status();
      line.writer = *hex;
    }
    return line;
  }

  line.commit = std::make_shared<CommitRecord>();
  CommitRecord& commit = *line.commit;
  absl::StatusOr<int64_t> version = IntegerOf(":version", *find("version"));
  if (!version.ok()) return version.status();
  if (*version == 0) return Malformed(":version: versions begin at 1");
  commit.version = *version;
  absl::StatusOr<const Value*> at = must("at");
  if (!at.ok()) return at.status();
  absl::StatusOr<Instant> instant = InstantOf(":at", **at);
  if (!instant.ok()) return instant.status();
  commit.at = *instant;
  if (const Value* tx = find("tx")) {
    if (!tx->is(Type::kUuid)) return Wanted(":tx", "a uuid", *tx);
    commit.transaction_id = tx->uuid();
  }
  if (const Value* by = find("by")) {
    absl::StatusOr<std::shared_ptr<const engine::Meta>> meta = MetaOf(*by);
    if (!meta.ok()) return meta.status();
    commit.meta = *std::move(meta);
  }

  Changes changes(&commit);
  // A map of names: `each` takes name and value.
  auto named_map = [&](const char* keyword, auto each) -> absl::Status {
    const Value* entries = find(keyword);
    if (entries == nullptr) return absl::OkStatus();
    const std::string key = absl::StrCat(":", keyword);
    if (!entries->is(Type::kMap)) return Wanted(key, "a map", *entries);
    for (auto [name, value] : entries->map()) {
      if (!name.is(Type::kString)) return Wanted(absl::StrCat(key, " names"), "a string", name);
      absl::Status added = each(name.text(), value);
      if (!added.ok()) return added;
    }
    return absl::OkStatus();
  };
  auto add_value = [&changes](Kind kind) {
    return [&changes, kind](const std::string& name, const Value& value) {
      changes.Add(name, kind).value = value;
      return absl::OkStatus();
    };
  };
  auto names = [&](const char* keyword, Kind kind) -> absl::Status {
    const Value* items = find(keyword);
    if (items == nullptr) return absl::OkStatus();
    const std::string key = absl::StrCat(":", keyword);
    if (!items->is(Type::kVector)) return Wanted(key, "a vector of names", *items);
    for (const Value& name : items->items()) {
      if (!name.is(Type::kString)) return Wanted(absl::StrCat(key, " names"), "a string", name);
      changes.Add(name.text(), kind);
    }
    return absl::OkStatus();
  };

  absl::Status status = named_map("set", add_value(Kind::kSet));
  size_t applied = 0;
  if (status.ok()) {
    status = named_map("apply", [&](const std::string& name, const Value& form) {
      std::optional<uint32_t> hash;
      if (mode == Hashes::kRequired && applied < hashes.size()) hash = hashes[applied];
      ++applied;
      return AddOperation(&changes, name, form, hash);
    });
  }
  if (status.ok() && mode == Hashes::kRequired && applied != hashes.size()) {
    status =
        Malformed(absl::StrCat(":apply has ", applied, " entries, the trailer ", hashes.size(), " hashes"));
  }
  if (status.ok()) status = named_map("create", add_value(Kind::kCreate));
  if (status.ok()) {
    status = named_map("define", [&](const std::string& name, const Value& value) -> absl::Status {
      absl::StatusOr<ReadDefinition> definition = DefinitionOf(name, value);
      if (!definition.ok()) return definition.status();
      changes.Define(name, *std::move(definition));
      return absl::OkStatus();
    });
  }
  if (status.ok()) status = names("delete", Kind::kDelete);
  if (status.ok()) status = names("expire", Kind::kExpire);
  if (!status.ok()) return status;
  if (const Value* records = find("records")) {
    if (!records->is(Type::kVector)) return Wanted(":records", "a vector", *records);
    for (const Value& record : records->items()) commit.records.push_back(record);
  }
  return line;
}

absl::StatusOr<SnapshotLine> LineParser::ParseSnapshot(std::string_view body) {
  SnapshotLine line;
  {
    // As printed.
    Scanner scan(body);
    if (scan.Take("{:tx ")) {
      line.kind = SnapshotLine::Kind::kId;
      if (scan.Id(&line.id.transaction_id) && scan.Take(" :version ") && scan.Integer(&line.id.version) &&
          scan.Take(" :at ") && scan.Inst(this, &line.id.at) && scan.Take("}") && scan.AtEnd()) {
        return line;
      }
    } else if (scan.Take("{:name ")) {
      line.kind = SnapshotLine::Kind::kEntry;
      engine::ImageEntry& entry = line.entry;
      Value value;
      bool good = scan.Name(&entry.name);
      if (good && scan.Take(" :value ")) {
        good = scan.Edn(&value);
        entry.value = std::move(value);
      }
      if (good && scan.Take(" :version ") && scan.Integer(&entry.version) && scan.Take(" :at ") &&
          scan.Inst(this, &entry.written_at) && scan.Take("}") && scan.AtEnd()) {
        return line;
      }
    }
  }

  line = SnapshotLine();
  EdnReader reader(body, kLineDepthMax);
  absl::StatusOr<Value> read = reader.Next();
  if (!read.ok()) return Malformed(read.status().message());
  if (!reader.AtEnd()) return Malformed("there is more behind the line's map");
  if (!read->is(Type::kMap)) return Wanted("the line", "a map", *read);
  const Map& map = read->map();
  if (map.Find(Value::Keyword("stm/log")) != nullptr) {
    line.kind = SnapshotLine::Kind::kHeader;
  } else if (map.Find(Value::Keyword("name")) != nullptr) {
    line.kind = SnapshotLine::Kind::kEntry;
  } else if (map.Find(Value::Keyword("tx")) != nullptr) {
    line.kind = SnapshotLine::Kind::kId;
  } else if (map.Find(Value::Keyword("floor")) != nullptr) {
    line.kind = SnapshotLine::Kind::kEnd;
  } else {
    return Malformed("a snapshot's line has :name, :tx, :floor or :stm/log: found none of them");
  }
  size_t needed = 0;  // keys that may not be missing, found
  for (const Map::Entry field : map) {
    const Value& value = field.value;
    const std::string name = ToEdn(field.key);
    auto integer = [&](int64_t* out) {
      absl::StatusOr<int64_t> number = IntegerOf(name, value);
      if (number.ok()) *out = *number;
      ++needed;
      return number.status();
    };
    auto instant = [&](Instant* out) {
      absl::StatusOr<Instant> at = InstantOf(name, value);
      if (at.ok()) *out = *at;
      ++needed;
      return at.status();
    };
    absl::Status status = Unknown(absl::StrCat("key ", name));
    switch (line.kind) {
      case SnapshotLine::Kind::kHeader:
        if (name == ":stm/log") {
          status = value.is(Type::kInteger) && value.integer() == kFormat
                       ? absl::OkStatus()
                       : Unknown(absl::StrCat(":stm/log ", ToEdn(value)));
          ++needed;
        }
        if (name == ":snapshot") status = integer(&line.version);
        if (name == ":at") status = instant(&line.at);
        if (name == ":store") {
          absl::StatusOr<uint64_t> store = HexOf(name, value);
          if (store.ok()) line.store = *store;
          status = store.status();
          ++needed;
        }
        break;
      case SnapshotLine::Kind::kEntry:
        if (name == ":name") {
          absl::StatusOr<std::string> text = TextOf(name, value);
          if (text.ok()) line.entry.name = *text;
          status = text.status();
          ++needed;
        }
        if (name == ":value") {
          line.entry.value = value;
          status = absl::OkStatus();
        }
        if (name == ":version") status = integer(&line.entry.version);
        if (name == ":at") status = instant(&line.entry.written_at);
        if (name == ":define") {
          absl::StatusOr<ReadDefinition> definition = DefinitionOf(line.entry.name, value);
          if (definition.ok()) {
            line.entry.kind = definition->kind;
            line.entry.definition = definition->definition;
          }
          status = definition.status();
        }
        break;
      case SnapshotLine::Kind::kId:
        if (name == ":tx") {
          if (value.is(Type::kUuid)) line.id.transaction_id = value.uuid();
          status = value.is(Type::kUuid) ? absl::OkStatus() : Wanted(name, "a uuid", value);
          ++needed;
        }
        if (name == ":version") status = integer(&line.id.version);
        if (name == ":at") status = instant(&line.id.at);
        break;
      case SnapshotLine::Kind::kEnd:
        if (name == ":floor") status = integer(&line.version);
        if (name == ":entries") status = integer(&line.entries);
        if (name == ":ids") status = integer(&line.ids);
        break;
    }
    if (!status.ok()) return status;
  }
  if (needed != (line.kind == SnapshotLine::Kind::kHeader ? 4u : 3u))
    return Malformed("the line lacks a key");
  return line;
}

absl::Status CheckCommit(const CommitRecord& commit) {
  absl::flat_hash_set<std::string_view> seen;
  for (const EntryChange& change : commit.changes) {
    absl::Status name = engine::CheckName(change.name);
    if (!name.ok()) return Malformed(name.message());
    if (change.value.has_value() && change.value->depth() > kValueDepthMax) {
      return Malformed(absl::StrCat(change.name, ": its value nests deeper than ", kValueDepthMax));
    }
    if (engine::IsMemory(change.name)) {
      return Malformed(absl::StrCat(change.name, ": names under /.memory/ are in no log: remove it"));
    }
    if (!seen.insert(change.name).second) {
      return Malformed(absl::StrCat(change.name, ": changed twice in one commit: keep one"));
    }
  }
  return absl::OkStatus();
}

}  // namespace stm::local
