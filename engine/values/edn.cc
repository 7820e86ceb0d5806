#include "engine/values/edn.h"

#include <algorithm>
#include <cassert>
#include <charconv>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/strings/charconv.h"
#include "absl/strings/str_cat.h"
#include "engine/values/check.h"
#include "engine/values/lexical.h"
#include "engine/values/value_access.h"

namespace stm {
namespace {

// ---- printing: into room that edn_size() measured

char* WriteText(std::string_view text, char* out) {
  std::memcpy(out, text.data(), text.size());
  return out + text.size();
}

template <size_t N>
char* WriteLiteral(const char (&text)[N], char* out) {
  std::memcpy(out, text, N - 1);
  return out + (N - 1);
}

char* WriteValue(const Value& value, char* out);

template <typename Items>
char* WriteItems(const Items& items, char close, char* out) {
  bool first = true;
  for (const Value& item : items) {
    if (!first) *out++ = ' ';
    first = false;
    out = WriteValue(item, out);
  }
  *out = close;
  return out + 1;
}

char* WriteValue(const Value& value, char* out) {
  switch (value.type()) {
    case Type::kNil:
      return WriteLiteral("nil", out);
    case Type::kBoolean:
      return value.boolean() ? WriteLiteral("true", out) : WriteLiteral("false", out);
    case Type::kInteger:
      return out + lexical::WriteInteger(value.integer(), out);
    case Type::kBigInt:
      out = WriteText(value.text(), out);
      *out = 'N';
      return out + 1;
    case Type::kDouble: {
      char digits[lexical::kDoubleBytesMax];
      return WriteText(std::string_view(digits, lexical::WriteDouble(value.float64(), digits)), out);
    }
    case Type::kDecimal:
      out = WriteText(value.text(), out);
      *out = 'M';
      return out + 1;
    case Type::kCharacter:
      *out++ = '\\';
      return out + lexical::WriteCharacter(value.character(), out);
    case Type::kString: {
      const std::string& text = value.text();
      *out++ = '"';
      out = value.edn_size() == text.size() + 2 ? WriteText(text, out) : lexical::WriteEscaped(text, out);
      *out = '"';
      return out + 1;
    }
    case Type::kBytes:
      out = WriteLiteral("#stm/bytes \"", out);
      out = lexical::WriteBase64(value.text(), out);
      *out = '"';
      return out + 1;
    case Type::kKeyword:
      *out++ = ':';
      return WriteText(value.text(), out);
    case Type::kSymbol:
      return WriteText(value.text(), out);
    case Type::kInstant:
      out = WriteLiteral("#inst \"", out);
      out += lexical::WriteInstant(value.instant(), out);
      *out = '"';
      return out + 1;
    case Type::kUuid:
      out = WriteLiteral("#uuid \"", out);
      lexical::WriteUuid(value.uuid(), out);
      out[lexical::kUuidBytes] = '"';
      return out + lexical::kUuidBytes + 1;
    case Type::kList:
      *out++ = '(';
      return WriteItems(value.items(), ')', out);
    case Type::kVector:
      *out++ = '[';
      return WriteItems(value.items(), ']', out);
    case Type::kMap: {
      *out++ = '{';
      bool first = true;
      for (const auto [key, mapped] : value.map()) {
        if (!first) out = WriteLiteral(", ", out);
        first = false;
        out = WriteValue(key, out);
        *out++ = ' ';
        out = WriteValue(mapped, out);
      }
      *out = '}';
      return out + 1;
    }
    case Type::kSet:
      out = WriteLiteral("#{", out);
      return WriteItems(value.set(), '}', out);
    case Type::kTagged: {
      *out++ = '#';
      out = WriteText(value.text(), out);
      if (!ValueAccess::TagTouches(value.tagged_value().type())) *out++ = ' ';
      return WriteValue(value.tagged_value(), out);
    }
  }
  return out;
}

// ---- reading

// What was found, for an error: a whole token, but not too much of it, and nothing unprintable.
std::string Quoted(std::string_view text) {
  constexpr size_t kFoundBytesMax = 40;
  const bool cut = text.size() > kFoundBytesMax;
  if (cut) {
    size_t end = kFoundBytesMax;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
    text = text.substr(0, end);
  }
  std::string out = "'";
  if (lexical::IsUtf8(text)) {
    for (char c : text) {
      const unsigned char byte = static_cast<unsigned char>(c);
      if (byte < 0x20 || byte == 0x7F) {
        absl::StrAppend(&out, "\\x", absl::Hex(byte, absl::kZeroPad2));
      } else {
        out += c;
      }
    }
  } else {
    out += "bytes that are not UTF-8";
  }
  out += cut ? "...'" : "'";
  return out;
}

std::pair<int, int> LineAndColumnOf(std::string_view text, size_t position) {
  const std::string_view before = text.substr(0, position);
  const size_t newline = before.rfind('\n');
  const size_t column = newline == std::string_view::npos ? position : position - newline - 1;
  return {static_cast<int>(std::count(before.begin(), before.end(), '\n')) + 1, static_cast<int>(column) + 1};
}

// Reads one text by recursive descent. open_ holds what is open, depth_max at most: that bounds the
// recursion. Functions return false after Fail, and the parser is spent then.
class Parser {
 public:
  Parser(std::string_view text, size_t position, int depth_max)
      : begin_(text.data()),
        end_(text.data() + text.size()),
        p_(text.data() + position),
        depth_max_(static_cast<size_t>(depth_max)) {}

  size_t position() const { return static_cast<size_t>(p_ - begin_); }
  bool at_end() const { return p_ == end_; }
  // White space, comments and discarded values.
  bool SkipBlank();
  bool Form(Value* out);
  bool Fail(const char* at, std::string found, std::string expected);
  bool FailHere(std::string expected) { return Fail(p_, Found(p_), std::move(expected)); }
  absl::Status status() const;

 private:
  struct Open {  // a collection that is being read
    const char* what;
    char close;
    const char* at;
  };

  std::string_view Text() const { return std::string_view(begin_, static_cast<size_t>(end_ - begin_)); }
  std::string Place(const char* at) const {
    const auto [line, column] = LineAndColumnOf(Text(), static_cast<size_t>(at - begin_));
    return absl::StrCat(line, ":", column);
  }
  // "in the vector that began at 3:2", for what is inside of something.
  std::string Inside() const {
    if (open_.empty()) return "";
    return absl::StrCat(" in the ", open_.back().what, " that began at ", Place(open_.back().at));
  }
  // The token or character at p, as an error tells it.
  std::string Found(const char* p) const;
  const char* TokenEnd(const char* p) const {
    while (p < end_ && (lexical::ClassOf(*p) & lexical::kDelimiter) == 0) ++p;
    return p;
  }
  static std::string_view View(const char* from, const char* to) {
    return std::string_view(from, static_cast<size_t>(to - from));
  }

  bool Items(char close, size_t* mark);
  bool Sequence(const char* what, char close, Value* out);
  bool MapForm(Value* out);
  bool SetForm(Value* out);
  bool Twice(const char* from, size_t mark, size_t index, bool map);
  bool StringText(std::string* out, std::string_view* plain, size_t* escaped_size);
  bool Escape(std::string* out);
  bool Hex4(const char* at, char32_t* c);
  bool StringForm(Value* out);
  bool CharacterForm(Value* out);
  bool NumberForm(Value* out);
  bool KeywordForm(Value* out);
  bool SymbolForm(Value* out);
  bool Dispatch(Value* out);
  bool BuiltinTag(std::string_view tag, Value* out);

  const char* const begin_;
  const char* const end_;
  const char* p_;
  const size_t depth_max_;
  absl::InlinedVector<Value, 32> stack_;  // items of open collections
  absl::InlinedVector<Open, 16> open_;
  const char* error_at_ = nullptr;
  std::string found_, expected_;
};

bool Parser::Fail(const char* at, std::string found, std::string expected) {
  error_at_ = at;
  found_ = std::move(found);
  expected_ = std::move(expected);
  return false;
}

absl::Status Parser::status() const {
  return absl::InvalidArgumentError(
      absl::StrCat("EDN ", Place(error_at_), ": found ", found_, ", expected ", expected_));
}

std::string Parser::Found(const char* p) const {
  if (p >= end_) return "the end of the text";
  const char* to = TokenEnd(p);
  if (to == p) to = p + 1;
  return Quoted(View(p, to));
}

bool Parser::SkipBlank() {
  size_t discards = 0;  // "#_" seen, whose values have not come yet
  const char* discard_at = nullptr;
  while (true) {
    while (p_ < end_ && (lexical::ClassOf(*p_) & lexical::kSpace) != 0) ++p_;
    if (p_ < end_ && *p_ == ';') {
      const void* newline = std::memchr(p_, '\n', static_cast<size_t>(end_ - p_));
      p_ = newline == nullptr ? end_ : static_cast<const char*>(newline);
      continue;
    }
    if (end_ - p_ >= 2 && p_[0] == '#' && p_[1] == '_') {
      discard_at = p_;
      p_ += 2;
      ++discards;
      continue;
    }
    if (discards == 0) return true;
    if (p_ == end_ || *p_ == ')' || *p_ == ']' || *p_ == '}') {
      return Fail(p_, Found(p_), absl::StrCat("a value to discard after the #_ at ", Place(discard_at)));
    }
    // It reads discards inside its own brackets only, so that open_ bounds this recursion, too.
    Value discarded;
    if (!Form(&discarded)) return false;
    --discards;
  }
}

bool Parser::Form(Value* out) {
  if (p_ == end_) return Fail(p_, Found(p_), "a value" + Inside());
  if (open_.size() >= depth_max_) {
    return Fail(p_, Found(p_), absl::StrCat("nothing here: values nest ", depth_max_, " deep at most"));
  }
  const char c = *p_;
  const uint8_t flags = lexical::ClassOf(c);
  if (flags & lexical::kLetter) return SymbolForm(out);
  if (flags & lexical::kDigit) return NumberForm(out);
  switch (c) {
    case '"':
      return StringForm(out);
    case ':':
      return KeywordForm(out);
    case '\\':
      return CharacterForm(out);
    case '(':
      return Sequence("list", ')', out);
    case '[':
      return Sequence("vector", ']', out);
    case '{':
      return MapForm(out);
    case '#':
      return Dispatch(out);
    case '+':
    case '-':
      if (p_ + 1 < end_ && lexical::IsDigit(p_[1])) return NumberForm(out);
      return SymbolForm(out);
    case ')':
    case ']':
    case '}':
      return Fail(p_, Found(p_), "a value" + Inside());
    case '^':
    case '@':
    case '`':
    case '~':
    case '\'':
      return Fail(p_, Quoted(View(p_, p_ + 1)), "a value" + Inside() + " (EDN has no reader macros)");
    default:
      return SymbolForm(out);
  }
}

// Items up to the closing bracket go on the stack from *mark on. p_ is behind the opening bracket.
bool Parser::Items(char close, size_t* mark) {
  *mark = stack_.size();
  while (true) {
    if (p_ < end_ && *p_ == ' ') ++p_;  // the usual separator
    if (p_ == end_ || (lexical::ClassOf(*p_) & lexical::kSpace) != 0 || *p_ == ';' || *p_ == '#') {
      if (!SkipBlank()) return false;
    }
    if (p_ < end_ && *p_ == close) {
      ++p_;
      return true;
    }
    if (p_ == end_ || *p_ == ')' || *p_ == ']' || *p_ == '}') {
      return Fail(p_, Found(p_), absl::StrCat("a value or '", std::string(1, close), "'", Inside()));
    }
    Value item;
    if (!Form(&item)) return false;
    stack_.push_back(std::move(item));
  }
}

bool Parser::Sequence(const char* what, char close, Value* out) {
  open_.push_back(Open{what, close, p_});
  ++p_;
  size_t mark;
  if (!Items(close, &mark)) return false;
  open_.pop_back();
  Vector items = Vector::Take(stack_.data() + mark, stack_.size() - mark);
  stack_.resize(mark);
  *out = close == ')' ? Value::List(std::move(items)) : Value::OfVector(std::move(items));
  return true;
}

bool Parser::MapForm(Value* out) {
  const char* from = p_;
  open_.push_back(Open{"map", '}', p_});
  ++p_;
  size_t mark;
  if (!Items('}', &mark)) return false;
  const size_t count = stack_.size() - mark;
  if (count % 2 != 0) return Fail(p_ - 1, "'}'", "a value for the last key" + Inside());
  Map map;
  const size_t twice = Map::TakeDistinct(stack_.data() + mark, count / 2, &map);
  if (twice != Map::kDistinct) return Twice(from + 1, mark, 2 * twice, true);
  open_.pop_back();
  stack_.resize(mark);
  *out = Value::OfMap(std::move(map));
  return true;
}

bool Parser::SetForm(Value* out) {
  const char* from = p_;
  open_.push_back(Open{"set", '}', p_});
  p_ += 2;
  size_t mark;
  if (!Items('}', &mark)) return false;
  Set set;
  const size_t twice = Set::TakeDistinct(stack_.data() + mark, stack_.size() - mark, &set);
  if (twice != Map::kDistinct) return Twice(from + 2, mark, twice, false);
  open_.pop_back();
  stack_.resize(mark);
  *out = Value::OfSet(std::move(set));
  return true;
}

// The collection's item `index` equals an earlier one. It is read again to find where that stands.
bool Parser::Twice(const char* from, size_t mark, size_t index, bool map) {
  stack_.resize(mark);
  p_ = from;
  Value item;
  for (size_t i = 0; i < index; ++i) {
    if (!SkipBlank() || !Form(&item)) return false;
  }
  if (!SkipBlank()) return false;
  const char* at = p_;
  if (!Form(&item)) return false;
  return Fail(at, Quoted(View(at, p_)) + " for the second time",
              (map ? "distinct keys" : "distinct items") + Inside());
}

// p_ is at the opening quote. Without escapes `plain` is the text where it stands, else `out` holds it.
bool Parser::StringText(std::string* out, std::string_view* plain, size_t* escaped_size) {
  const char* open = p_;
  const char* segment = ++p_;
  bool escapes = false;
  uint64_t high = 0;
  size_t controls = 0;  // bytes more that controls take in print
  while (true) {
    // To the next quote, backslash or control.
    while (true) {
      if (end_ - p_ >= 8) {
        const uint64_t word = lexical::LoadEight(p_);
        const uint64_t special = lexical::EscapeMask(word);
        high |= word;
        if (special == 0) {
          p_ += 8;
          continue;
        }
        p_ += __builtin_ctzll(special) / 8;
        break;
      }
      if (p_ == end_) {
        return Fail(p_, "the end of the text",
                    absl::StrCat("'\"' to end the string that began at ", Place(open)));
      }
      const unsigned char byte = static_cast<unsigned char>(*p_);
      if (lexical::kEscapedSizes[byte] != 1) break;
      high |= byte;
      ++p_;
    }
    if (*p_ != '"' && *p_ != '\\') {
      controls += lexical::kEscapedSizes[static_cast<unsigned char>(*p_)] - 1u;
      ++p_;
      continue;
    }
    if ((high & lexical::kTops) != 0) {
      const std::string_view text = View(segment, p_);
      const size_t legal = lexical::Utf8Prefix(text);
      if (legal != text.size()) {
        return Fail(segment + legal, "bytes that are not UTF-8",
                    absl::StrCat("UTF-8 in the string that began at ", Place(open)));
      }
    }
    if (*p_ == '"') {
      if (escapes) {
        out->append(segment, p_);
        *escaped_size = lexical::EscapedSize(*out);
      } else {
        *plain = View(segment, p_);
        *escaped_size = plain->size() + controls;
      }
      ++p_;
      return true;
    }
    escapes = true;
    out->append(segment, p_);
    if (!Escape(out)) return false;
    segment = p_;
    high = 0;
  }
}

bool Parser::Hex4(const char* at, char32_t* c) {
  *c = 0;
  for (int i = 0; i < 4; ++i, ++p_) {
    const char h = p_ < end_ ? *p_ : ' ';
    unsigned digit;
    if (h >= '0' && h <= '9') {
      digit = static_cast<unsigned>(h - '0');
    } else if (h >= 'a' && h <= 'f') {
      digit = static_cast<unsigned>(h - 'a') + 10;
    } else if (h >= 'A' && h <= 'F') {
      digit = static_cast<unsigned>(h - 'A') + 10;
    } else {
      return Fail(at, Quoted(View(at, p_)), "\\u and four hexadecimal digits");
    }
    *c = *c << 4 | digit;
  }
  return true;
}

bool Parser::Escape(std::string* out) {
  const char* at = p_++;
  if (p_ == end_) return Fail(p_, "the end of the text", "the rest of an escape");
  switch (*p_++) {
    case 't':
      out->push_back('\t');
      return true;
    case 'r':
      out->push_back('\r');
      return true;
    case 'n':
      out->push_back('\n');
      return true;
    case 'b':
      out->push_back('\b');
      return true;
    case 'f':
      out->push_back('\f');
      return true;
    case '\\':
      out->push_back('\\');
      return true;
    case '"':
      out->push_back('"');
      return true;
    case 'u': {
      char32_t c;
      if (!Hex4(at, &c)) return false;
      if (c >= 0xD800 && c < 0xDC00 && end_ - p_ >= 2 && p_[0] == '\\' &&
          p_[1] == 'u') {  // UTF-16, as Java writes
        const char* low_at = p_;
        p_ += 2;
        char32_t low;
        if (!Hex4(low_at, &low)) return false;
        if (low >= 0xDC00 && low < 0xE000) {
          c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
        }
      }
      if (!lexical::IsScalarValue(c)) {
        return Fail(at, Quoted(View(at, p_)), "a character, or both surrogates of one, high before low");
      }
      char bytes[4];
      out->append(bytes, lexical::EncodeUtf8(c, bytes));
      return true;
    }
    default:
      return Fail(at, Quoted(View(at, p_)), "one of the escapes \\t \\r \\n \\b \\f \\\\ \\\" \\uXXXX");
  }
}

bool Parser::StringForm(Value* out) {
  std::string text;
  std::string_view plain;
  size_t size = 0;
  if (!StringText(&text, &plain, &size)) return false;
  if (plain.data() != nullptr) text.assign(plain);
  *out = ValueAccess::TextOf(Type::kString, std::move(text), size + 2);
  return true;
}

bool Parser::CharacterForm(Value* out) {
  static constexpr char kExpected[] =
      "a character: \\a, \\newline, \\space, \\tab, \\return, \\formfeed, \\backspace or \\uXXXX";
  const char* at = p_++;
  if (p_ == end_) return Fail(p_, Found(p_), kExpected);
  if ((lexical::ClassOf(*p_) & lexical::kSpace) != 0 && *p_ != ',') return Fail(at, "a lone '\\'", kExpected);
  // The first character belongs to it whatever it is: \( and \;.
  size_t first = 1;
  while (first < 4 && p_ + first < end_ && (static_cast<unsigned char>(p_[first]) & 0xC0) == 0x80) ++first;
  const char* to = TokenEnd(p_ + first);
  const std::string_view token = View(p_, to);
  if (!lexical::IsUtf8(token)) return Fail(at, "bytes that are not UTF-8", kExpected);
  size_t bytes;
  char32_t c = lexical::DecodeUtf8(token, &bytes);
  if (token.size() != bytes) {
    if (token == "newline") {
      c = '\n';
    } else if (token == "space") {
      c = ' ';
    } else if (token == "tab") {
      c = '\t';
    } else if (token == "return") {
      c = '\r';
    } else if (token == "formfeed") {
      c = '\f';
    } else if (token == "backspace") {
      c = '\b';
    } else if (token[0] == 'u' && token.size() == 5) {
      ++p_;
      if (!Hex4(at, &c)) return false;
      if (!lexical::IsScalarValue(c)) return Fail(at, Quoted(View(at, to)), "a character, not half of one");
    } else {
      return Fail(at, Quoted(View(at, to)), kExpected);
    }
  }
  p_ = to;
  *out = Value::Character(c);
  return true;
}

bool Parser::NumberForm(Value* out) {
  // The usual integer: up to 18 digits.
  const char* p = p_;
  const bool negative = *p == '-';
  if (negative || *p == '+') ++p;
  const char* digits = p;
  int64_t n = 0;
  while (p < end_ && lexical::IsDigit(*p) && p - digits < 18) n = n * 10 + (*p++ - '0');
  const bool ended = p == end_ || (lexical::ClassOf(*p) & lexical::kDelimiter) != 0;
  if (ended && (*digits != '0' || p - digits == 1)) {
    p_ = p;
    *out = Value::Integer(negative ? -n : n);
    return true;
  }
  const char* to = TokenEnd(p_);
  const std::string_view token = View(p_, to);
  lexical::Number number;
  if (const char* problem = lexical::ParseNumber(token, &number)) {
    return Fail(p_, Quoted(token), absl::StrCat("a number", Inside(), ": ", problem));
  }
  std::string_view unsigned_token = token;
  if (unsigned_token[0] == '+') unsigned_token.remove_prefix(1);
  if (number.suffix == 'N') {
    *out = Value::BigInt(lexical::CanonicalBigInt(number));
  } else if (number.suffix == 'M') {
    std::string decimal;
    if (const char* problem = lexical::CanonicalDecimal(number, &decimal)) {
      return Fail(p_, Quoted(token), absl::StrCat("a decimal", Inside(), ": ", problem));
    }
    *out = Value::Decimal(decimal);
  } else if (number.point || number.exponential) {
    double d = 0;
    const char* from = unsigned_token.data();
    if (std::from_chars(from, to, d).ec == std::errc::result_out_of_range) {
      absl::from_chars(from, to, d);  // tells too large from too small
      if (d > 1 || d < -1) {
        return Fail(p_, Quoted(token), "a number that a double holds: append M for a decimal");
      }
    }
    *out = Value::Double(d);
  } else {
    if (std::from_chars(unsigned_token.data(), to, n).ec != std::errc()) {
      return Fail(p_, Quoted(token), "an integer of 64 bits: append N for a bigint");
    }
    *out = Value::Integer(n);
  }
  p_ = to;
  return true;
}

bool Parser::KeywordForm(Value* out) {
  const char* from = p_ + 1;
  const char* to = from;
  uint8_t odd = 0;  // not plainly a name
  while (to < end_) {
    const uint8_t flags = lexical::ClassOf(*to);
    if (flags & lexical::kDelimiter) break;
    odd |= (flags & lexical::kName) ^ lexical::kName;
    ++to;
  }
  const std::string_view name = View(from, to);
  if (odd != 0 || name.empty() || (lexical::ClassOf(name[0]) & lexical::kLetter) == 0) {
    if (const char* problem = lexical::KeywordProblem(name)) {
      return Fail(p_, Quoted(View(p_, to)), absl::StrCat("a keyword", Inside(), ": ", problem));
    }
  }
  p_ = to;
  *out = Value::Keyword(name);
  return true;
}

bool Parser::SymbolForm(Value* out) {
  const char* to = p_;
  uint8_t odd = 0;
  while (to < end_) {
    const uint8_t flags = lexical::ClassOf(*to);
    if (flags & lexical::kDelimiter) break;
    odd |= (flags & lexical::kName) ^ lexical::kName;
    ++to;
  }
  const std::string_view name = View(p_, to);
  if (name == "nil") {
    *out = Value();
  } else if (name == "true") {
    *out = Value::Boolean(true);
  } else if (name == "false") {
    *out = Value::Boolean(false);
  } else {
    if (odd != 0 || (lexical::ClassOf(name[0]) & lexical::kLetter) == 0) {
      if (const char* problem = lexical::SymbolProblem(name)) {
        return Fail(p_, Quoted(name), absl::StrCat("a value", Inside(), ": ", problem));
      }
    }
    *out = Value::Symbol(name);
  }
  p_ = to;
  return true;
}

bool Parser::Dispatch(Value* out) {
  const char* at = p_;
  const char next = p_ + 1 < end_ ? p_[1] : ' ';
  if (next == '{') return SetForm(out);
  if (next == '#') {
    const char* to = TokenEnd(p_);
    const std::string_view token = View(p_, to);
    if (token == "##Inf") {
      *out = Value::Double(std::numeric_limits<double>::infinity());
    } else if (token == "##-Inf") {
      *out = Value::Double(-std::numeric_limits<double>::infinity());
    } else if (token == "##NaN") {
      *out = Value::Double(std::numeric_limits<double>::quiet_NaN());
    } else {
      return Fail(p_, Quoted(token), "##Inf, ##-Inf or ##NaN");
    }
    p_ = to;
    return true;
  }
  const char* to = TokenEnd(p_ + 1);
  const std::string_view tag = View(p_ + 1, to);
  const bool builtin = tag == "inst" || tag == "uuid" || tag == "stm/bytes";
  if (!builtin) {
    if (const char* problem = lexical::TagProblem(tag)) {
      return Fail(at, Quoted(View(at, to == at + 1 && to < end_ ? to + 1 : to)),
                  absl::StrCat("a tag, #{ or #_", Inside(), ": ", problem));
    }
  }
  // What is tagged stands one level deeper; it is opened so that errors and discards know.
  open_.push_back(Open{"tagged value", ' ', at});
  p_ = to;
  if (!SkipBlank()) return false;
  if (builtin) {
    if (!BuiltinTag(tag, out)) return false;
    open_.pop_back();
    return true;
  }
  if (p_ < end_ && (*p_ == ')' || *p_ == ']' || *p_ == '}')) {
    return Fail(p_, Found(p_), absl::StrCat("a value after ", Quoted(View(at, to))));
  }
  Value value;
  if (!Form(&value)) return false;
  open_.pop_back();
  *out = Value::Tagged(tag, std::move(value));
  return true;
}

bool Parser::BuiltinTag(std::string_view tag, Value* out) {
  if (p_ == end_ || *p_ != '"')
    return Fail(p_, Found(p_), absl::StrCat("a string after #", std::string(tag)));
  const char* at = p_;
  std::string text;
  std::string_view plain;
  size_t size = 0;
  if (!StringText(&text, &plain, &size)) return false;
  if (plain.data() == nullptr) plain = text;
  if (tag == "inst") {
    Instant instant;
    if (const char* expected = lexical::ReadInstant(plain, &instant))
      return Fail(at, Quoted(View(at, p_)), expected);
    *out = Value::OfInstant(instant);
  } else if (tag == "uuid") {
    const std::optional<Uuid> uuid = ParseUuid(plain);
    if (!uuid) {
      return Fail(at, Quoted(View(at, p_)), "a uuid as \"f81d4fae-7dec-11d0-a765-00a0c91e6bf6\"");
    }
    *out = Value::OfUuid(*uuid);
  } else {
    std::string bytes;
    if (!lexical::ReadBase64(plain, &bytes)) {
      return Fail(at, Quoted(View(at, p_)), "base64 (RFC 4648, padded, without line breaks)");
    }
    *out = Value::Bytes(bytes);
  }
  return true;
}

}  // namespace

absl::StatusOr<Value> ReadEdn(std::string_view text) {
  Parser parser(text, 0, kValueDepthMax);
  Value value;
  if (!parser.SkipBlank() || !parser.Form(&value) || !parser.SkipBlank()) return parser.status();
  if (!parser.at_end()) {
    parser.FailHere("the end of the text after one value");
    return parser.status();
  }
  return value;
}

bool EdnReader::AtEnd() {
  Parser parser(text_, position_, depth_max_);
  if (parser.SkipBlank()) position_ = parser.position();
  return position_ == text_.size();
}

absl::StatusOr<Value> EdnReader::Next() {
  Parser parser(text_, position_, depth_max_);
  Value value;
  if (!parser.SkipBlank()) return parser.status();
  position_ = parser.position();
  if (!parser.Form(&value)) return parser.status();
  position_ = parser.position();
  return value;
}

std::pair<int, int> EdnReader::LineAndColumn() const { return LineAndColumnOf(text_, position_); }

std::string ToEdn(const Value& value) {
  std::string out;
  AppendEdn(value, &out);
  return out;
}

void AppendEdn(const Value& value, std::string* out) {
  const size_t before = out->size();
  out->resize(before + value.edn_size());
  const char* end = WriteValue(value, out->data() + before);
  assert(end == out->data() + out->size());
  (void)end;
}

void AppendEdnString(std::string_view text, std::string* out) {
  const size_t before = out->size();
  out->resize(before + lexical::EscapedSize(text) + 2);
  char* p = out->data() + before;
  *p++ = '"';
  p = lexical::WriteEscaped(text, p);
  *p = '"';
}

void AppendEdnInstant(Instant instant, std::string* out) { AppendEdn(Value::OfInstant(instant), out); }

absl::StatusOr<Instant> ParseInstant(std::string_view text) {
  Instant instant;
  if (const char* expected = lexical::ReadInstant(text, &instant)) {
    return absl::InvalidArgumentError(absl::StrCat("found ", Quoted(text), ", expected ", expected));
  }
  return instant;
}

absl::Status Check(const Value& value) {
  Problem problem;
  if (CheckValue(value, 1, &problem)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("value", problem.path, ": ", problem.text));
}

}  // namespace stm
