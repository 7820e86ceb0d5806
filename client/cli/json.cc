#include "client/cli/json.h"

#include <charconv>
#include <cmath>
#include <cstdio>
#include <optional>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "engine/values/edn.h"
#include "engine/values/map.h"
#include "engine/values/vector.h"

namespace stm::cli {
namespace {

constexpr std::string_view kOurs = "stm/";

bool StartsWith(std::string_view text, std::string_view start) { return text.substr(0, start.size()) == start; }

// --- Printing ---

void AppendQuoted(std::string_view text, std::string* out) {
  out->push_back('"');
  for (char c : text) {
    switch (c) {
      case '"': out->append("\\\""); break;
      case '\\': out->append("\\\\"); break;
      case '\n': out->append("\\n"); break;
      case '\r': out->append("\\r"); break;
      case '\t': out->append("\\t"); break;
      default:
        if (static_cast<uint8_t>(c) < 0x20 || c == 0x7f) {
          char escaped[8];
          std::snprintf(escaped, sizeof escaped, "\\u%04x", static_cast<uint8_t>(c));
          out->append(escaped);
        } else {
          out->push_back(c);
        }
    }
  }
  out->push_back('"');
}

// A string's or keyword's JSON text, before quoting.
std::string Spelling(const Value& value) {
  if (value.is(Type::kKeyword)) return absl::StrCat(":", value.text());
  if (StartsWith(value.text(), ":")) return absl::StrCat(":", value.text());
  return value.text();
}

// The EDN that holds the text between quotes, without the tag before them.
void AppendQuotedPart(const Value& value, std::string* out) {
  std::string edn = ToEdn(value);
  out->append(edn, edn.find('"'), std::string::npos);
}

template <typename Items>
void AppendItems(const Items& items, std::string* out) {
  out->push_back('[');
  bool first = true;
  for (const Value& item : items) {
    if (!first) out->push_back(',');
    first = false;
    AppendJson(item, out);
  }
  out->push_back(']');
}

void AppendDouble(double d, std::string* out) {
  if (!std::isfinite(d)) {
    out->append("{\"#stm/double\":\"");
    out->append(std::isnan(d) ? "NaN" : d > 0 ? "Infinity" : "-Infinity");
    out->append("\"}");
    return;
  }
  char text[40];
  char* end = std::to_chars(text, text + sizeof text, d).ptr;
  std::string_view digits(text, end - text);
  out->append(digits);
  if (digits.find_first_of(".e") == std::string_view::npos) out->append(".0");
}

bool IsObject(const Map& map) {
  for (auto [key, value] : map) {
    if (!key.is(Type::kString) && !key.is(Type::kKeyword)) return false;
    if (map.size() == 1 && key.is(Type::kString) && StartsWith(key.text(), "#")) return false;
  }
  return true;
}

void AppendMap(const Map& map, std::string* out) {
  bool object = IsObject(map);
  out->append(object ? "{" : "{\"#stm/map\":[");
  bool first = true;
  for (auto [key, value] : map) {
    if (!first) out->push_back(',');
    first = false;
    if (object) {
      AppendQuoted(Spelling(key), out);
      out->push_back(':');
      AppendJson(value, out);
    } else {
      out->push_back('[');
      AppendJson(key, out);
      out->push_back(',');
      AppendJson(value, out);
      out->push_back(']');
    }
  }
  out->append(object ? "}" : "]}");
}

void AppendUtf8(char32_t c, std::string* out) {
  if (c < 0x80) {
    out->push_back(static_cast<char>(c));
  } else if (c < 0x800) {
    out->push_back(static_cast<char>(0xC0 | (c >> 6)));
    out->push_back(static_cast<char>(0x80 | (c & 0x3F)));
  } else if (c < 0x10000) {
    out->push_back(static_cast<char>(0xE0 | (c >> 12)));
    out->push_back(static_cast<char>(0x80 | ((c >> 6) & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (c & 0x3F)));
  } else {
    out->push_back(static_cast<char>(0xF0 | (c >> 18)));
    out->push_back(static_cast<char>(0x80 | ((c >> 12) & 0x3F)));
    out->push_back(static_cast<char>(0x80 | ((c >> 6) & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (c & 0x3F)));
  }
}

// --- Reading ---

// The one scalar value of well-formed UTF-8, or nullopt.
std::optional<char32_t> OnlyCharacter(std::string_view text) {
  if (text.empty()) return std::nullopt;
  uint8_t lead = static_cast<uint8_t>(text[0]);
  size_t size = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (text.size() != size) return std::nullopt;
  char32_t c = size == 1 ? lead : lead & (0x7F >> size);
  for (size_t i = 1; i < size; ++i) c = (c << 6) | (static_cast<uint8_t>(text[i]) & 0x3F);
  return c;
}

absl::StatusOr<Value> Plain(std::string text) {
  if (StartsWith(text, "::")) return Value::String(std::string_view(text).substr(1));
  if (StartsWith(text, ":")) {
    Value keyword = Value::Keyword(std::string_view(text).substr(1));
    if (Check(keyword).ok()) return keyword;
  }
  return Value::String(text);
}

absl::Status WrongJson(const std::string& key, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("JSON {\"", key, "\": ...}: ", what));
}

// What {"#...": inner} stands for.
absl::StatusOr<Value> Special(const std::string& key, const Value& inner) {
  std::string name = key.substr(1);
  auto text = [&]() -> absl::StatusOr<std::string> {
    if (inner.is(Type::kString)) return inner.text();
    return WrongJson(key, "expected a string");
  };
  auto quoted = [&]() -> absl::StatusOr<Value> {  // read by EDN's rules, which say what is wrong
    absl::StatusOr<std::string> inside = text();
    if (!inside.ok()) return inside.status();
    std::string edn = absl::StrCat("#", name, " ");
    AppendEdnString(*inside, &edn);
    absl::StatusOr<Value> value = ReadEdn(edn);
    if (!value.ok()) return WrongJson(key, value.status().message());
    return value;
  };
  if (name == "inst" || name == "uuid" || name == "stm/bytes") return quoted();
  if (!StartsWith(name, kOurs)) {
    Value value = Value::Tagged(name, inner);
    if (!Check(Value::Tagged(name, Value())).ok()) return WrongJson(key, "expected \"#\" and a tag, as \"#blog.User\"");
    return value;
  }
  if (name == "stm/list" || name == "stm/set") {
    if (!inner.is(Type::kVector)) return WrongJson(key, "expected an array");
    if (name == "stm/list") return Value::List(inner.items());
    std::vector<Value> items;
    for (const Value& item : inner.items()) items.push_back(item);
    Set set(items);
    if (set.size() != items.size()) return WrongJson(key, "two items are equal");
    return Value::OfSet(std::move(set));
  }
  if (name == "stm/map") {
    if (!inner.is(Type::kVector)) return WrongJson(key, "expected an array of [key, value]");
    std::vector<std::pair<Value, Value>> entries;
    for (const Value& entry : inner.items()) {
      if (!entry.is(Type::kVector) || entry.items().size() != 2) return WrongJson(key, "expected an array of [key, value]");
      entries.emplace_back(entry.items().at(0), entry.items().at(1));
    }
    size_t given = entries.size();
    Map map(std::move(entries));
    if (map.size() != given) return WrongJson(key, "two keys are equal");
    return Value::OfMap(std::move(map));
  }
  if (name == "stm/tagged") {
    if (!inner.is(Type::kVector) || inner.items().size() != 2 || !inner.items().at(0).is(Type::kString)) {
      return WrongJson(key, "expected [\"tag\", value]");
    }
    Value value = Value::Tagged(inner.items().at(0).text(), inner.items().at(1));
    if (!Check(Value::Tagged(inner.items().at(0).text(), Value())).ok()) return WrongJson(key, "that is no legal tag");
    return value;
  }
  if (name != "stm/double" && name != "stm/char" && name != "stm/symbol" && name != "stm/bigint" &&
      name != "stm/decimal") {
    return WrongJson(key, "no such form: expected list, set, map, bytes, bigint, decimal, symbol, char, double or tagged "
                      "after \"#stm/\"");
  }
  absl::StatusOr<std::string> inside = text();
  if (!inside.ok()) return inside.status();
  if (name == "stm/double") {
    if (*inside == "NaN") return Value::Double(std::nan(""));
    if (*inside == "Infinity") return Value::Double(INFINITY);
    if (*inside == "-Infinity") return Value::Double(-INFINITY);
    return WrongJson(key, "expected \"NaN\", \"Infinity\" or \"-Infinity\"");
  }
  if (name == "stm/char") {
    std::optional<char32_t> character = OnlyCharacter(*inside);
    if (!character) return WrongJson(key, "expected a string of one character");
    return Value::Character(*character);
  }
  if (name == "stm/symbol") {
    Value symbol = Value::Symbol(*inside);
    if (!Check(symbol).ok()) return WrongJson(key, "that is no legal symbol");
    return symbol;
  }
  bool integer = name == "stm/bigint";
  absl::StatusOr<Value> value = ReadEdn(absl::StrCat(*inside, integer ? "N" : "M"));
  if (!value.ok() || !value->is(integer ? Type::kBigInt : Type::kDecimal)) {
    return WrongJson(key, integer ? "expected digits, as \"123\"" : "expected digits, as \"1.50\"");
  }
  return value;
}

class Reader : public nlohmann::json_sax<nlohmann::json> {
 public:
  bool null() override { return Put(Value()); }
  bool boolean(bool b) override { return Put(Value::Boolean(b)); }
  bool number_integer(number_integer_t i) override { return Put(Value::Integer(i)); }
  bool number_unsigned(number_unsigned_t u) override {
    if (u > static_cast<uint64_t>(INT64_MAX)) return Put(Value::BigInt(std::to_string(u)));
    return Put(Value::Integer(static_cast<int64_t>(u)));
  }
  bool number_float(number_float_t d, const string_t& text) override {
    // nlohmann gives integers past 64 bits as doubles; their text is whole.
    if (text.find_first_of(".eE") == std::string::npos) return Put(Value::BigInt(text));
    return Put(Value::Double(d));
  }
  bool string(string_t& text) override { return Put(Plain(std::move(text))); }
  bool binary(binary_t&) override { return Fail(absl::InvalidArgumentError("JSON: binary is not text")); }
  bool start_object(size_t) override { return Open(true); }
  bool start_array(size_t) override { return Open(false); }
  bool key(string_t& text) override {
    frames_.back().keys.push_back(std::move(text));
    return true;
  }
  bool end_array() override {
    Frame frame = Close();
    return Put(Value::OfVector(std::move(frame.values)));
  }
  bool end_object() override {
    Frame frame = Close();
    if (frame.keys.size() == 1 && StartsWith(frame.keys[0], "#")) return Put(Special(frame.keys[0], frame.values[0]));
    std::vector<std::pair<Value, Value>> entries;
    entries.reserve(frame.keys.size());
    for (size_t i = 0; i < frame.keys.size(); ++i) {
      entries.emplace_back(*Plain(std::move(frame.keys[i])), std::move(frame.values[i]));
    }
    size_t given = entries.size();
    Map map(std::move(entries));
    if (map.size() != given) return Fail(absl::InvalidArgumentError("JSON: an object has a key twice: give each once"));
    return Put(Value::OfMap(std::move(map)));
  }
  bool parse_error(size_t, const std::string&, const nlohmann::json::exception& error) override {
    std::string_view what = error.what();
    size_t bracket = what.find("] ");
    if (bracket != std::string_view::npos) what.remove_prefix(bracket + 2);
    return Fail(absl::InvalidArgumentError(absl::StrCat("JSON: ", std::string(what))));
  }

  absl::StatusOr<Value> Take() {
    if (!status_.ok()) return status_;
    return std::move(*value_);
  }

 private:
  // Arrays within a "#stm/map" are not depth of the value: three a level.
  static constexpr size_t kFramesMax = 3 * kValueDepthMax;

  struct Frame {
    bool object = false;
    std::vector<std::string> keys;
    std::vector<Value> values;
  };

  bool Fail(absl::Status status) {
    status_ = std::move(status);
    return false;
  }
  absl::Status TooDeep() {
    return absl::InvalidArgumentError(
        absl::StrCat("JSON: value_depth_max=", kValueDepthMax, ": the value is nested deeper: flatten it"));
  }
  bool Open(bool object) {
    if (frames_.size() == kFramesMax) return Fail(TooDeep());
    frames_.push_back(Frame{object, {}, {}});
    return true;
  }
  Frame Close() {
    Frame frame = std::move(frames_.back());
    frames_.pop_back();
    return frame;
  }
  bool Put(absl::StatusOr<Value> value) {
    if (!value.ok()) return Fail(value.status());
    if (value->depth() > kValueDepthMax) return Fail(TooDeep());
    if (frames_.empty()) {
      value_ = *std::move(value);
    } else {
      frames_.back().values.push_back(*std::move(value));
    }
    return true;
  }

  std::vector<Frame> frames_;
  std::optional<Value> value_;
  absl::Status status_;
};

}  // namespace

void AppendJson(const Value& value, std::string* out) {
  switch (value.type()) {
    case Type::kNil:
      out->append("null");
      return;
    case Type::kBoolean:
      out->append(value.boolean() ? "true" : "false");
      return;
    case Type::kInteger:
      absl::StrAppend(out, value.integer());
      return;
    case Type::kDouble:
      AppendDouble(value.float64(), out);
      return;
    case Type::kBigInt:
    case Type::kDecimal:
      out->append(value.is(Type::kBigInt) ? "{\"#stm/bigint\":" : "{\"#stm/decimal\":");
      AppendQuoted(value.text(), out);
      out->push_back('}');
      return;
    case Type::kCharacter: {
      std::string text;
      AppendUtf8(value.character(), &text);
      out->append("{\"#stm/char\":");
      AppendQuoted(text, out);
      out->push_back('}');
      return;
    }
    case Type::kString:
    case Type::kKeyword:
      AppendQuoted(Spelling(value), out);
      return;
    case Type::kSymbol:
      out->append("{\"#stm/symbol\":");
      AppendQuoted(value.text(), out);
      out->push_back('}');
      return;
    case Type::kBytes:
    case Type::kInstant:
    case Type::kUuid:
      out->append(value.is(Type::kBytes) ? "{\"#stm/bytes\":" : value.is(Type::kUuid) ? "{\"#uuid\":" : "{\"#inst\":");
      AppendQuotedPart(value, out);
      out->push_back('}');
      return;
    case Type::kVector:
      AppendItems(value.items(), out);
      return;
    case Type::kList:
      out->append("{\"#stm/list\":");
      AppendItems(value.items(), out);
      out->push_back('}');
      return;
    case Type::kSet:
      out->append("{\"#stm/set\":");
      AppendItems(value.set(), out);
      out->push_back('}');
      return;
    case Type::kMap:
      AppendMap(value.map(), out);
      return;
    case Type::kTagged: {
      const std::string& tag = value.text();
      bool plain = tag != "inst" && tag != "uuid" && !StartsWith(tag, kOurs);
      out->append(plain ? "{" : "{\"#stm/tagged\":[");
      AppendQuoted(plain ? absl::StrCat("#", tag) : tag, out);
      out->push_back(plain ? ':' : ',');
      AppendJson(value.tagged_value(), out);
      out->append(plain ? "}" : "]}");
      return;
    }
  }
}

std::string ToJson(const Value& value) {
  std::string out;
  AppendJson(value, &out);
  return out;
}

absl::StatusOr<Value> ReadJson(std::string_view text) {
  Reader reader;
  nlohmann::json::sax_parse(text, &reader);
  return reader.Take();
}

}  // namespace stm::cli
