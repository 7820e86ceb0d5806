// The letters of values: what is legal in names, numbers and text, and how scalars are spelled. One place, so
// that the reader, the printer, the wire and the sizes can't differ. Pure; any thread.
#ifndef STM_ENGINE_VALUES_LEXICAL_H_
#define STM_ENGINE_VALUES_LEXICAL_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "engine/values/value.h"

namespace stm::lexical {

// ---- characters

enum : uint8_t {
  kSpace = 1,      // white space and comma
  kDelimiter = 2,  // ends a token: space, brackets, '"', ';', '\\'
  kDigit = 4,
  kName = 8,     // may stand anywhere in a name, ASCII, digits included
  kLetter = 16,  // ASCII a-z A-Z
  kHigh = 32,    // not ASCII
};

constexpr std::array<uint8_t, 256> MakeClasses() {
  std::array<uint8_t, 256> classes{};
  for (int c = 0; c < 256; ++c) {
    uint8_t flags = 0;
    if (c == ' ' || c == ',' || (c >= '\t' && c <= '\r')) flags |= kSpace | kDelimiter;
    if (c == '(' || c == ')' || c == '[' || c == ']' || c == '{' || c == '}' || c == '"' || c == ';' ||
        c == '\\')
      flags |= kDelimiter;
    if (c >= '0' && c <= '9') flags |= kDigit | kName;
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) flags |= kLetter | kName;
    if (c == '.' || c == '*' || c == '+' || c == '!' || c == '-' || c == '_' || c == '?' || c == '$' ||
        c == '%' || c == '&' || c == '=' || c == '<' || c == '>' || c == '#' || c == '\'')
      flags |= kName;
    if (c >= 0x80) flags |= kHigh;
    classes[static_cast<size_t>(c)] = flags;
  }
  return classes;
}
inline constexpr std::array<uint8_t, 256> kClasses = MakeClasses();
inline uint8_t ClassOf(char c) { return kClasses[static_cast<unsigned char>(c)]; }
inline bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// ---- text

inline bool IsScalarValue(uint64_t c) { return c < 0xD800 || (c >= 0xE000 && c <= 0x10FFFF); }
// Bytes of the longest prefix that is UTF-8.
size_t Utf8Prefix(std::string_view text);
inline bool IsUtf8(std::string_view text) { return Utf8Prefix(text) == text.size(); }
// 1 to 4 bytes. What is no scalar value becomes U+FFFD.
size_t EncodeUtf8(char32_t c, char* out);
// One scalar value from the front of legal UTF-8, and its bytes.
char32_t DecodeUtf8(std::string_view text, size_t* bytes);

// Eight bytes at once, the first lowest; a byte's top bit is set where the byte is special. (Mycroft's trick:
// exact up to and with the first that is special, which is all that is asked of it.)
inline constexpr uint64_t kOnes = 0x0101010101010101u;
inline constexpr uint64_t kTops = 0x8080808080808080u;
inline uint64_t LoadEight(const char* p) {
  uint64_t word;
  std::memcpy(&word, p, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
  word = __builtin_bswap64(word);
#endif
  return word;
}
inline uint64_t ZeroBytes(uint64_t word) { return (word - kOnes) & ~word & kTops; }
// Marks bytes that must be escaped in print: a control, DEL, '"' or '\\'.
inline uint64_t EscapeMask(uint64_t word) {
  const uint64_t controls = (word - kOnes * 0x20) & ~word & kTops;
  return controls | ZeroBytes(word ^ (kOnes * 0x7F)) | ZeroBytes(word ^ (kOnes * '"')) |
         ZeroBytes(word ^ (kOnes * '\\'));
}
// How many bytes each byte of a string takes in print: 1, 2 (\n) or 6 (\u0001).
inline constexpr std::array<uint8_t, 256> MakeEscapedSizes() {
  std::array<uint8_t, 256> sizes{};
  for (size_t c = 0; c < 256; ++c) sizes[c] = (c < 0x20 || c == 0x7F) ? 6 : 1;
  for (char c : {'"', '\\', '\n', '\t', '\r', '\f', '\b'}) sizes[static_cast<unsigned char>(c)] = 2;
  return sizes;
}
inline constexpr std::array<uint8_t, 256> kEscapedSizes = MakeEscapedSizes();
// Without the quotes.
size_t EscapedSize(std::string_view text);
// Writes EscapedSize(text) bytes; returns the end.
char* WriteEscaped(std::string_view text, char* out);

// How a character is printed after its backslash. At most 9 bytes.
size_t WriteCharacter(char32_t c, char* out);

// ---- names. Null: legal; else what is wrong, as a clause: "it has a space".

const char* SymbolProblem(std::string_view name);
const char* KeywordProblem(std::string_view name);
// A symbol that begins with a letter and is not one of the tags that EDN or stmd give a meaning to.
const char* TagProblem(std::string_view tag);

// ---- numbers

// Decimals beyond are refused: Java's BigDecimal holds no more either.
inline constexpr int64_t kDecimalExponentMax = 999'999'999;

struct Number {
  bool negative = false;
  std::string_view whole, fraction;
  int64_t exponent = 0;  // capped far above kDecimalExponentMax
  bool point = false, exponential = false;
  char suffix = 0;  // 'N', 'M' or 0
};
// Null: `number` is set; else what is wrong, as a clause.
const char* ParseNumber(std::string_view token, Number* number);

std::string CanonicalBigInt(const Number& number);
const char* CanonicalDecimal(const Number& number, std::string* out);
// Of digits without the N or M. Null: `out` is set.
const char* CanonicalBigInt(std::string_view digits, std::string* out);
const char* CanonicalDecimal(std::string_view digits, std::string* out);

inline constexpr size_t kDoubleBytesMax = 32;
// As Clojure prints it: 1.0, 1.0E100, ##NaN. Reads back as the same double.
size_t WriteDouble(double d, char* out);
inline constexpr size_t kIntegerBytesMax = 20;
size_t WriteInteger(int64_t i, char* out);
size_t IntegerSize(int64_t i);

// ---- instants, bytes, uuids

inline constexpr int64_t kInstantSecondsMin = -62135596800;  // 0001-01-01T00:00:00Z
inline constexpr int64_t kInstantSecondsMax = 253402300799;  // 9999-12-31T23:59:59Z
inline bool IsInstant(Instant instant) {
  return instant.seconds >= kInstantSecondsMin && instant.seconds <= kInstantSecondsMax &&
         instant.nanos >= 0 && instant.nanos < 1'000'000'000;
}
inline constexpr size_t kInstantBytesMax = 30;
// 2026-11-22T03:00:00.123456Z, without quotes. What is no instant is clamped to one.
size_t WriteInstant(Instant instant, char* out);
size_t InstantSize(Instant instant);
// Null: `instant` is set; else what was expected.
const char* ReadInstant(std::string_view text, Instant* instant);

inline constexpr size_t kUuidBytes = 36;
void WriteUuid(Uuid uuid, char* out);

inline size_t Base64Size(size_t bytes) { return (bytes + 2) / 3 * 4; }
char* WriteBase64(std::string_view bytes, char* out);
// Strict: padded, nothing else in it, spare bits zero.
bool ReadBase64(std::string_view text, std::string* bytes);

}  // namespace stm::lexical

#endif  // STM_ENGINE_VALUES_LEXICAL_H_
