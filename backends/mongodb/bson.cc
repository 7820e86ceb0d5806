#include "backends/mongodb/bson.h"

#include <bson/bson.h>

#include <cassert>
#include <cmath>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/error.h"
#include "engine/values/absl_view.h"
#include "engine/values/check.h"
#include "engine/values/edn.h"
#include "engine/values/lexical.h"
#include "engine/values/map.h"
#include "engine/values/vector.h"

namespace stm::mongodb {
namespace {

constexpr char kEdn[] = "#edn";
constexpr char kList[] = "#list";
constexpr char kSet[] = "#set";
constexpr char kVector[] = "#vector";
constexpr char kStrings[] = "#strings";
constexpr char kMap[] = "#map";
constexpr char kTag[] = "#tag";
constexpr char kKey[] = "key";
constexpr char kValue[] = "value";

constexpr int64_t kNanosPerMs = 1'000'000;
constexpr int64_t kMsPerSecond = 1000;
constexpr size_t kUuidBytes = 16;

// A value printed takes at least an eighth of what it takes as text in BSON, "\u0001" at most: what is larger
// needs no trying, and what is tried stays below libbson's own bound of 2 GiB (a small item takes ten times
// its print).
constexpr size_t kPrintedBytesMax = 8 * kDocumentBytesMax;

// ---- writing. libbson refuses nothing of what comes here: lengths are below its bound.

enum class Within { kDocument, kArray };

void Append(const Value& value, std::string_view key, Within within, bson_t* to);

int Length(std::string_view text) { return static_cast<int>(text.size()); }

void Took([[maybe_unused]] bool took) { assert(took); }

void AppendString(std::string_view text, std::string_view key, bson_t* to) {
  Took(bson_append_utf8(to, key.data(), Length(key), text.data(), Length(text)));
}

// {"#edn": text} at the key.
void AppendEdnOf(const Value& value, std::string_view key, bson_t* to) {
  bson_t document;
  Took(bson_append_document_begin(to, key.data(), Length(key), &document));
  AppendString(ToEdn(value), kEdn, &document);
  Took(bson_append_document_end(to, &document));
}

// Calls `append(place, array)` with "0", "1", ... for each item.
template <typename Items, typename AppendItem>
void AppendArray(const Items& items, std::string_view key, bson_t* to, const AppendItem& append) {
  bson_t array;
  Took(bson_append_array_begin(to, key.data(), Length(key), &array));
  uint32_t i = 0;
  for (const auto& item : items) {
    char room[16];
    const char* place;
    const size_t length = bson_uint32_to_string(i++, &place, room, sizeof(room));
    append(item, std::string_view(place, length), &array);
  }
  Took(bson_append_array_end(to, &array));
}

template <typename Items>
void AppendItems(const Items& items, std::string_view key, bson_t* to) {
  AppendArray(items, key, to, [](const Value& item, std::string_view place, bson_t* array) {
    Append(item, place, Within::kArray, array);
  });
}

// {tag: [...]} at the key.
template <typename Items>
void AppendTaggedItems(const char* tag, const Items& items, std::string_view key, bson_t* to) {
  bson_t document;
  Took(bson_append_document_begin(to, key.data(), Length(key), &document));
  AppendItems(items, tag, &document);
  Took(bson_append_document_end(to, &document));
}

bool IsPlainKey(const std::string& key) {
  return !key.empty() && key[0] != '$' && key[0] != '#' && key.find('.') == std::string::npos &&
         key.find('\0') == std::string::npos;
}

bool AllPlainKeys(const Map& map, Type type) {
  for (const auto [key, value] : map) {
    if (!key.is(type) || !IsPlainKey(key.text())) return false;
  }
  return true;
}

void AppendEntries(const Map& map, std::string_view key, bson_t* to) {
  bson_t document;
  Took(bson_append_document_begin(to, key.data(), Length(key), &document));
  for (const auto [name, value] : map) Append(value, name.text(), Within::kDocument, &document);
  Took(bson_append_document_end(to, &document));
}

void AppendMap(const Map& map, std::string_view key, bson_t* to) {
  if (AllPlainKeys(map, Type::kKeyword)) {
    AppendEntries(map, key, to);
    return;
  }
  bson_t document;
  Took(bson_append_document_begin(to, key.data(), Length(key), &document));
  if (AllPlainKeys(map, Type::kString)) {
    AppendEntries(map, kStrings, &document);
  } else {
    AppendArray(map, kMap, &document, [](const Map::Entry& entry, std::string_view place, bson_t* array) {
      bson_t pair;
      Took(bson_append_document_begin(array, place.data(), Length(place), &pair));
      Append(entry.key, kKey, Within::kDocument, &pair);
      Append(entry.value, kValue, Within::kDocument, &pair);
      Took(bson_append_document_end(array, &pair));
    });
  }
  Took(bson_append_document_end(to, &document));
}

void AppendBytes(std::string_view bytes, bson_subtype_t subtype, std::string_view key, bson_t* to) {
  // Never null: libbson takes that for a mistake even of no bytes.
  Took(bson_append_binary(to, key.data(), Length(key), subtype,
                          reinterpret_cast<const uint8_t*>(bytes.empty() ? "" : bytes.data()),
                          static_cast<uint32_t>(bytes.size())));
}

void AppendUuid(Uuid uuid, std::string_view key, bson_t* to) {
  char bytes[kUuidBytes];
  for (size_t i = 0; i < kUuidBytes; ++i) {
    const uint64_t half = i < kUuidBytes / 2 ? uuid.high : uuid.low;
    bytes[i] = static_cast<char>(half >> (56 - 8 * (i % 8)));
  }
  AppendBytes(std::string_view(bytes, kUuidBytes), BSON_SUBTYPE_UUID, key, to);
}

void Append(const Value& value, std::string_view key, Within within, bson_t* to) {
  switch (value.type()) {
    case Type::kNil:
      return Took(bson_append_null(to, key.data(), Length(key)));
    case Type::kBoolean:
      return Took(bson_append_bool(to, key.data(), Length(key), value.boolean()));
    case Type::kInteger:
      return Took(bson_append_int64(to, key.data(), Length(key), value.integer()));
    case Type::kDouble: {
      const double d = value.float64();
      if (!std::isfinite(d) || (d == 0 && std::signbit(d))) return AppendEdnOf(value, key, to);
      return Took(bson_append_double(to, key.data(), Length(key), d));
    }
    case Type::kString:
      return AppendString(value.text(), key, to);
    case Type::kBytes:
      return AppendBytes(value.text(), BSON_SUBTYPE_BINARY, key, to);
    case Type::kUuid:
      return AppendUuid(value.uuid(), key, to);
    case Type::kInstant: {
      const Instant instant = value.instant();
      if (instant.nanos % kNanosPerMs != 0) return AppendEdnOf(value, key, to);
      return Took(bson_append_date_time(to, key.data(), Length(key),
                                        instant.seconds * kMsPerSecond + instant.nanos / kNanosPerMs));
    }
    case Type::kVector:
      if (within == Within::kArray) return AppendTaggedItems(kVector, value.items(), key, to);
      return AppendItems(value.items(), key, to);
    case Type::kList:
      return AppendTaggedItems(kList, value.items(), key, to);
    case Type::kSet:
      return AppendTaggedItems(kSet, value.set(), key, to);
    case Type::kMap:
      return AppendMap(value.map(), key, to);
    case Type::kTagged: {
      bson_t document;
      Took(bson_append_document_begin(to, key.data(), Length(key), &document));
      AppendString(value.text(), kTag, &document);
      Append(value.tagged_value(), kValue, Within::kDocument, &document);
      return Took(bson_append_document_end(to, &document));
    }
    case Type::kBigInt:
    case Type::kDecimal:
    case Type::kCharacter:
    case Type::kKeyword:
    case Type::kSymbol:
      return AppendEdnOf(value, key, to);
  }
  assert(false);
}

// ---- reading

const char* BsonName(bson_type_t type) {
  switch (type) {
    case BSON_TYPE_UNDEFINED:
      return "undefined";
    case BSON_TYPE_OID:
      return "an ObjectId";
    case BSON_TYPE_REGEX:
      return "a regular expression";
    case BSON_TYPE_DBPOINTER:
      return "a DBPointer";
    case BSON_TYPE_CODE:
    case BSON_TYPE_CODEWSCOPE:
      return "code";
    case BSON_TYPE_SYMBOL:
      return "a BSON symbol";
    case BSON_TYPE_TIMESTAMP:
      return "a timestamp";
    case BSON_TYPE_MINKEY:
      return "MinKey";
    case BSON_TYPE_MAXKEY:
      return "MaxKey";
    default:
      return "of a type that is unknown here";
  }
}

std::string_view KeyOf(const bson_iter_t& at) { return {bson_iter_key(&at), bson_iter_key_len(&at)}; }

// Goes through an array's or a document's elements. `read` returns false to end it with its Problem.
template <typename Read>
bool ForEach(const bson_iter_t& parent, Problem* problem, const Read& read) {
  bson_iter_t at;
  if (!bson_iter_recurse(&parent, &at)) return problem->Say("it is cut off or damaged");
  size_t index = 0;
  while (bson_iter_next(&at)) {
    if (!read(at, index++)) return false;
  }
  return at.err_off == 0 || problem->Say("it is cut off or damaged");
}

bool Read(const bson_iter_t& at, int level, Value* value, Problem* problem);

// Of an element that is a string.
bool ReadText(const bson_iter_t& at, std::string_view* text, Problem* problem) {
  if (bson_iter_type(&at) != BSON_TYPE_UTF8) return problem->Say("a string belongs here");
  uint32_t length = 0;
  const char* bytes = bson_iter_utf8(&at, &length);
  *text = std::string_view(bytes, length);
  return lexical::IsUtf8(*text) || problem->Say("it is not UTF-8");
}

bool ReadEdnText(std::string_view text, int level, Value* value, Problem* problem) {
  const absl::StatusOr<Value> read = ReadEdn(text);
  if (!read.ok()) return problem->Say(std::string(read.status().message()));
  if (!CheckLevel(level + read->depth() - 1, problem)) return false;
  *value = *read;
  return true;
}

bool ReadItems(const bson_iter_t& at, int level, std::vector<Value>* items, Problem* problem) {
  if (bson_iter_type(&at) != BSON_TYPE_ARRAY) return problem->Say("an array belongs here");
  return ForEach(at, problem, [&](const bson_iter_t& item, size_t index) {
    items->emplace_back();
    return Read(item, level + 1, &items->back(), problem) || problem->In("items", index);
  });
}

bool TakeMap(std::vector<Value>* alternating, Value* value, Problem* problem) {
  Map map;
  const size_t count = alternating->size() / 2;
  const size_t equal = Map::TakeDistinct(alternating->data(), count, &map);
  if (equal != Map::kDistinct) {
    problem->Say("equals an earlier key");
    return problem->In("entries", equal, ".key");
  }
  *value = Value::OfMap(std::move(map));
  return true;
}

// A document whose keys are names of keywords, or strings.
bool ReadNamed(const bson_iter_t& at, Type type, int level, Value* value, Problem* problem) {
  if (bson_iter_type(&at) != BSON_TYPE_DOCUMENT) return problem->Say("a document belongs here");
  std::vector<Value> alternating;
  return ForEach(at, problem,
                 [&](const bson_iter_t& entry, size_t index) {
                   const std::string_view key = KeyOf(entry);
                   if (!lexical::IsUtf8(key)) {
                     problem->Say("it is not UTF-8");
                     return problem->In("entries", index, ".key");
                   }
                   if (type == Type::kKeyword) {
                     if (const char* what = lexical::KeywordProblem(key)) {
                       problem->Say(absl::StrCat("the key \"", Absl(key), "\" names no keyword: ", what,
                                                 " (a map of strings is {\"", kStrings, "\": {...}})"));
                       return problem->In("entries", index, ".key");
                     }
                   }
                   alternating.push_back(type == Type::kKeyword ? Value::Keyword(key) : Value::String(key));
                   alternating.emplace_back();
                   return Read(entry, level + 1, &alternating.back(), problem) || problem->In(key);
                 }) &&
         CheckLevel(alternating.empty() ? level : level + 1, problem) &&
         TakeMap(&alternating, value, problem);
}

// A document's fields. No array nor vector of iterators would keep libbson's alignment of them.
struct Fields {
  bson_iter_t first, second;
};

// Of a document that holds fields of these names, one or two, in this order, and no other.
bool ReadFields(const bson_iter_t& at, const std::vector<std::string_view>& names, Fields* fields,
                Problem* problem) {
  if (bson_iter_type(&at) != BSON_TYPE_DOCUMENT) return problem->Say("a document belongs here");
  size_t count = 0;
  const bool read = ForEach(at, problem, [&](const bson_iter_t& field, size_t index) {
    if (index >= names.size() || KeyOf(field) != names[index]) {
      return problem->Say(absl::StrCat("the field \"", Absl(KeyOf(field)), "\" does not belong here"));
    }
    (count++ == 0 ? fields->first : fields->second) = field;
    return true;
  });
  if (!read) return false;
  if (count == names.size()) return true;
  return problem->Say(absl::StrCat("the field \"", Absl(names[count]), "\" is missing"));
}

bool ReadPairs(const bson_iter_t& at, int level, Value* value, Problem* problem) {
  if (bson_iter_type(&at) != BSON_TYPE_ARRAY) return problem->Say("an array belongs here");
  std::vector<Value> alternating;
  return ForEach(at, problem,
                 [&](const bson_iter_t& pair, size_t index) {
                   Fields fields;
                   Value key, of_key;
                   if (!ReadFields(pair, {kKey, kValue}, &fields, problem))
                     return problem->In("entries", index);
                   if (!Read(fields.first, level + 1, &key, problem))
                     return problem->In("entries", index, ".key");
                   if (!Read(fields.second, level + 1, &of_key, problem))
                     return problem->In("entries", index, ".value");
                   alternating.push_back(std::move(key));
                   alternating.push_back(std::move(of_key));
                   return true;
                 }) &&
         TakeMap(&alternating, value, problem);
}

// A document whose first key begins with "#".
bool ReadTagged(const bson_iter_t& at, std::string_view first, int level, Value* value, Problem* problem) {
  Fields fields;
  if (first == kTag) {
    std::string_view tag;
    if (!ReadFields(at, {kTag, kValue}, &fields, problem)) return false;
    if (!ReadText(fields.first, &tag, problem)) return problem->In(kTag);
    if (const char* what = lexical::TagProblem(tag)) {
      problem->Say(what);
      return problem->In(kTag);
    }
    Value tagged;
    if (!Read(fields.second, level + 1, &tagged, problem)) return problem->In(kValue);
    *value = Value::Tagged(tag, std::move(tagged));
    return true;
  }
  if (!ReadFields(at, {first}, &fields, problem)) return false;
  const bson_iter_t& content = fields.first;
  if (first == kEdn) {
    std::string_view text;
    return (ReadText(content, &text, problem) && ReadEdnText(text, level, value, problem)) ||
           problem->In(first);
  }
  if (first == kStrings)
    return ReadNamed(content, Type::kString, level, value, problem) || problem->In(first);
  if (first == kMap) return ReadPairs(content, level, value, problem) || problem->In(first);
  if (first != kList && first != kVector && first != kSet) {
    return problem->Say(absl::StrCat("a document that begins with \"", Absl(first),
                                     "\" has no meaning here (a newer stmd's?)"));
  }
  std::vector<Value> items;
  if (!ReadItems(content, level, &items, problem)) return problem->In(first);
  if (first == kList) {
    *value = Value::List(std::move(items));
  } else if (first == kVector) {
    *value = Value::OfVector(std::move(items));
  } else {
    Set set;
    const size_t equal = Set::TakeDistinct(items.data(), items.size(), &set);
    if (equal != Map::kDistinct) {
      problem->Say("equals an earlier item");
      problem->In("items", equal);
      return problem->In(first);
    }
    *value = Value::OfSet(std::move(set));
  }
  return true;
}

bool ReadBytes(const bson_iter_t& at, Value* value, Problem* problem) {
  bson_subtype_t subtype;
  uint32_t length = 0;
  const uint8_t* bytes = nullptr;
  bson_iter_binary(&at, &subtype, &length, &bytes);
  if (bytes == nullptr && length > 0) return problem->Say("it is cut off or damaged");
  if (subtype == BSON_SUBTYPE_BINARY) {
    *value = Value::Bytes(std::string_view(reinterpret_cast<const char*>(bytes), length));
    return true;
  }
  if (subtype != BSON_SUBTYPE_UUID) {
    return problem->Say(
        absl::StrCat("binary of subtype ", static_cast<int>(subtype), " is no value: 0 is bytes, 4 a uuid"));
  }
  if (length != kUuidBytes) return problem->Say("a uuid has 16 bytes");
  Uuid uuid;
  for (size_t i = 0; i < kUuidBytes; ++i) {
    uint64_t& half = i < kUuidBytes / 2 ? uuid.high : uuid.low;
    half = half << 8 | bytes[i];
  }
  *value = Value::OfUuid(uuid);
  return true;
}

bool ReadDate(int64_t ms, Value* value, Problem* problem) {
  int64_t seconds = ms / kMsPerSecond;
  int64_t rest = ms % kMsPerSecond;
  if (rest < 0) {
    --seconds;
    rest += kMsPerSecond;
  }
  const Instant instant{seconds, static_cast<int32_t>(rest * kNanosPerMs)};
  if (!lexical::IsInstant(instant)) return problem->Say("an instant is within the years 0001 to 9999");
  *value = Value::OfInstant(instant);
  return true;
}

bool ReadDecimal(const bson_iter_t& at, Value* value, Problem* problem) {
  bson_decimal128_t decimal;
  char text[BSON_DECIMAL128_STRING];
  if (!bson_iter_decimal128(&at, &decimal)) return problem->Say("it is cut off or damaged");
  bson_decimal128_to_string(&decimal, text);
  std::string digits;
  if (const char* what = lexical::CanonicalDecimal(text, &digits)) return problem->Say(what);
  *value = Value::Decimal(digits);
  return true;
}

bool ReadDocument(const bson_iter_t& at, int level, Value* value, Problem* problem) {
  bson_iter_t first;
  if (bson_iter_recurse(&at, &first) && bson_iter_next(&first) && bson_iter_key(&first)[0] == '#') {
    return ReadTagged(at, KeyOf(first), level, value, problem);
  }
  return ReadNamed(at, Type::kKeyword, level, value, problem);
}

bool Read(const bson_iter_t& at, int level, Value* value, Problem* problem) {
  if (!CheckLevel(level, problem)) return false;
  switch (bson_iter_type(&at)) {
    case BSON_TYPE_NULL:
      *value = Value();
      return true;
    case BSON_TYPE_BOOL:
      *value = Value::Boolean(bson_iter_bool(&at));
      return true;
    case BSON_TYPE_INT32:
      *value = Value::Integer(bson_iter_int32(&at));
      return true;
    case BSON_TYPE_INT64:
      *value = Value::Integer(bson_iter_int64(&at));
      return true;
    case BSON_TYPE_DOUBLE:
      *value = Value::Double(bson_iter_double(&at));
      return true;
    case BSON_TYPE_DECIMAL128:
      return ReadDecimal(at, value, problem);
    case BSON_TYPE_UTF8: {
      std::string_view text;
      if (!ReadText(at, &text, problem)) return false;
      *value = Value::String(text);
      return true;
    }
    case BSON_TYPE_BINARY:
      return ReadBytes(at, value, problem);
    case BSON_TYPE_DATE_TIME:
      return ReadDate(bson_iter_date_time(&at), value, problem);
    case BSON_TYPE_ARRAY: {
      std::vector<Value> items;
      if (!ReadItems(at, level, &items, problem)) return false;
      *value = Value::OfVector(std::move(items));
      return true;
    }
    case BSON_TYPE_DOCUMENT:
      return ReadDocument(at, level, value, problem);
    default:
      return problem->Say(
          absl::StrCat("it is ", BsonName(bson_iter_type(&at)), ", which no value is written as"));
  }
}

absl::Status Damaged(std::string_view what) { return absl::DataLossError(Absl(what)); }

}  // namespace

absl::StatusOr<std::string> ToBson(const std::vector<Field>& fields, std::string_view what) {
  const auto too_large = [&](size_t bytes) {
    return engine::LimitReached("mongodb_document_bytes_max", static_cast<int64_t>(kDocumentBytesMax), what,
                                static_cast<int64_t>(bytes),
                                "MongoDB keeps no larger document: split the value");
  };
  size_t printed = 0;
  for (const Field& field : fields) printed += field.value.edn_size();
  if (printed > kPrintedBytesMax) return too_large(printed);
  bson_t document = BSON_INITIALIZER;
  for (const Field& field : fields) {
    assert(IsPlainKey(std::string(field.name)));
    if (field.value.depth() > kStructureDepthMax) {
      AppendEdnOf(field.value, field.name, &document);
    } else {
      Append(field.value, field.name, Within::kDocument, &document);
    }
  }
  absl::StatusOr<std::string> bytes =
      document.len > kDocumentBytesMax
          ? absl::StatusOr<std::string>(too_large(document.len))
          : absl::StatusOr<std::string>(
                std::string(reinterpret_cast<const char*>(bson_get_data(&document)), document.len));
  bson_destroy(&document);
  return bytes;
}

absl::StatusOr<std::optional<Value>> FieldOf(std::string_view document, std::string_view name) {
  bson_t static_document;
  bson_iter_t at;
  if (!bson_init_static(&static_document, reinterpret_cast<const uint8_t*>(document.data()),
                        document.size()) ||
      !bson_iter_init(&at, &static_document)) {
    return Damaged("the document is cut off or damaged");
  }
  while (bson_iter_next(&at)) {
    if (KeyOf(at) != name) continue;
    Value value;
    Problem problem;
    if (Read(at, 1, &value, &problem)) return value;
    return Damaged(absl::StrCat(Absl(name), problem.path, ": ", problem.text));
  }
  if (at.err_off != 0) return Damaged("the document is cut off or damaged");
  return std::nullopt;
}

}  // namespace stm::mongodb
