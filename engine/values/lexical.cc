#include "engine/values/lexical.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

namespace stm::lexical {

// ---- text

size_t Utf8Prefix(std::string_view text) {
  const char* p = text.data();
  const char* end = p + text.size();
  while (true) {
    while (end - p >= 8 && (LoadEight(p) & kTops) == 0) p += 8;
    while (p < end && static_cast<signed char>(*p) >= 0) ++p;
    const size_t legal = static_cast<size_t>(p - text.data());
    if (p == end) return legal;
    const unsigned char lead = static_cast<unsigned char>(*p);
    // The table of well-formed sequences, Unicode 3.9: the second byte's range keeps out overlong forms,
    // surrogates and what is above U+10FFFF.
    int more;
    unsigned char low = 0x80, high = 0xBF;
    if (lead >= 0xC2 && lead <= 0xDF) {
      more = 1;
    } else if (lead >= 0xE0 && lead <= 0xEF) {
      more = 2;
      if (lead == 0xE0) low = 0xA0;
      if (lead == 0xED) high = 0x9F;
    } else if (lead >= 0xF0 && lead <= 0xF4) {
      more = 3;
      if (lead == 0xF0) low = 0x90;
      if (lead == 0xF4) high = 0x8F;
    } else {
      return legal;
    }
    if (end - p <= more) return legal;
    for (int i = 1; i <= more; ++i) {
      const unsigned char c = static_cast<unsigned char>(p[i]);
      if (c < low || c > high) return legal;
      low = 0x80;
      high = 0xBF;
    }
    p += more + 1;
  }
}

size_t EncodeUtf8(char32_t c, char* out) {
  if (!IsScalarValue(c)) c = 0xFFFD;
  if (c < 0x80) {
    out[0] = static_cast<char>(c);
    return 1;
  }
  if (c < 0x800) {
    out[0] = static_cast<char>(0xC0 | (c >> 6));
    out[1] = static_cast<char>(0x80 | (c & 0x3F));
    return 2;
  }
  if (c < 0x10000) {
    out[0] = static_cast<char>(0xE0 | (c >> 12));
    out[1] = static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    out[2] = static_cast<char>(0x80 | (c & 0x3F));
    return 3;
  }
  out[0] = static_cast<char>(0xF0 | (c >> 18));
  out[1] = static_cast<char>(0x80 | ((c >> 12) & 0x3F));
  out[2] = static_cast<char>(0x80 | ((c >> 6) & 0x3F));
  out[3] = static_cast<char>(0x80 | (c & 0x3F));
  return 4;
}

char32_t DecodeUtf8(std::string_view text, size_t* bytes) {
  auto at = [&](size_t i) { return static_cast<char32_t>(static_cast<unsigned char>(text[i])); };
  const char32_t lead = at(0);
  if (lead < 0x80) {
    *bytes = 1;
    return lead;
  }
  if (lead < 0xE0) {
    *bytes = 2;
    return ((lead & 0x1F) << 6) | (at(1) & 0x3F);
  }
  if (lead < 0xF0) {
    *bytes = 3;
    return ((lead & 0x0F) << 12) | ((at(1) & 0x3F) << 6) | (at(2) & 0x3F);
  }
  *bytes = 4;
  return ((lead & 0x07) << 18) | ((at(1) & 0x3F) << 12) | ((at(2) & 0x3F) << 6) | (at(3) & 0x3F);
}

size_t EscapedSize(std::string_view text) {
  const char* p = text.data();
  const char* end = p + text.size();
  size_t size = text.size();
  while (end - p >= 8) {
    if (EscapeMask(LoadEight(p)) != 0) {
      for (int i = 0; i < 8; ++i) size += kEscapedSizes[static_cast<unsigned char>(p[i])] - 1u;
    }
    p += 8;
  }
  for (; p < end; ++p) size += kEscapedSizes[static_cast<unsigned char>(*p)] - 1u;
  return size;
}

namespace {

constexpr char kHexDigits[] = "0123456789ABCDEF";

char* WriteHexEscape(unsigned c, char* out) {
  out[0] = 'u';
  for (int i = 0; i < 4; ++i) out[1 + i] = kHexDigits[(c >> (12 - 4 * i)) & 15];
  return out + 5;
}

char* WriteEscapedByte(char c, char* out) {
  if (kEscapedSizes[static_cast<unsigned char>(c)] == 1) {
    *out = c;
    return out + 1;
  }
  *out++ = '\\';
  switch (c) {
    case '\n':
      *out = 'n';
      return out + 1;
    case '\t':
      *out = 't';
      return out + 1;
    case '\r':
      *out = 'r';
      return out + 1;
    case '\f':
      *out = 'f';
      return out + 1;
    case '\b':
      *out = 'b';
      return out + 1;
    case '"':
    case '\\':
      *out = c;
      return out + 1;
    default:
      return WriteHexEscape(static_cast<unsigned char>(c), out);
  }
}

}  // namespace

char* WriteEscaped(std::string_view text, char* out) {
  const char* p = text.data();
  const char* end = p + text.size();
  while (end - p >= 8) {
    if (EscapeMask(LoadEight(p)) != 0) {
      for (int i = 0; i < 8; ++i) out = WriteEscapedByte(p[i], out);
    } else {
      std::memcpy(out, p, 8);
      out += 8;
    }
    p += 8;
  }
  for (; p < end; ++p) out = WriteEscapedByte(*p, out);
  return out;
}

size_t WriteCharacter(char32_t c, char* out) {
  std::string_view name;
  switch (c) {
    case '\n':
      name = "newline";
      break;
    case ' ':
      name = "space";
      break;
    case '\t':
      name = "tab";
      break;
    case '\r':
      name = "return";
      break;
    case '\f':
      name = "formfeed";
      break;
    case '\b':
      name = "backspace";
      break;
    default:
      if (c < 0x20 || (c >= 0x7F && c < 0xA0)) return static_cast<size_t>(WriteHexEscape(c, out) - out);
      return EncodeUtf8(c, out);
  }
  std::memcpy(out, name.data(), name.size());
  return name.size();
}

// ---- names

namespace {

// Spaces and what can't be seen: Clojure would end the name there, or a person would not find the difference.
bool IsBlank(char32_t c) {
  return (c >= 0x80 && c <= 0xA0) || c == 0x1680 || (c >= 0x2000 && c <= 0x200F) ||
         (c >= 0x2028 && c <= 0x202F) || (c >= 0x205F && c <= 0x2064) || c == 0x3000 || c == 0xFEFF;
}

// One side of the '/'. `lone_keyword`: a keyword without a namespace may look like a number (:1).
const char* PartProblem(std::string_view part, bool lone_keyword) {
  if (part.empty()) return "nothing stands on one side of '/'";
  const char first = part[0];
  if (!lone_keyword) {
    if (IsDigit(first)) return "a name can't begin with a digit";
    if ((first == '-' || first == '+' || first == '.') && part.size() > 1 && IsDigit(part[1]))
      return "a name can't begin as a number does";
  }
  if (first == '#' || first == '\'') return "a name can't begin with '#' or '\\''";
  if (first == ':') return "a name can't begin with ':'";
  if (part.back() == ':') return "a name can't end with ':'";
  for (size_t i = 0; i < part.size();) {
    const uint8_t flags = ClassOf(part[i]);
    if (flags & kName) {
      ++i;
    } else if (part[i] == ':') {
      if (part[i + 1] == ':') return "a name can't have '::'";
      ++i;
    } else if (flags & kHigh) {
      size_t bytes;
      if (IsBlank(DecodeUtf8(part.substr(i), &bytes)))
        return "a name can't have a space or an invisible character";
      i += bytes;
    } else if (flags & kSpace) {
      return "a name can't have a space or a comma";
    } else {
      return "a name has letters, digits and . * + ! - _ ? $ % & = < > # ' : only";
    }
  }
  return nullptr;
}

const char* NameProblem(std::string_view name, bool keyword) {
  if (name.empty()) return "the name is empty";
  if (!IsUtf8(name)) return "the name is not UTF-8";
  const size_t slash = name.find('/');
  if (slash == std::string_view::npos) return PartProblem(name, keyword);
  if (name.find('/', slash + 1) != std::string_view::npos) return "a name has one '/' at most";
  if (const char* problem = PartProblem(name.substr(0, slash), false)) return problem;
  return PartProblem(name.substr(slash + 1), false);
}

}  // namespace

const char* SymbolProblem(std::string_view name) {
  if (name == "/") return nullptr;
  if (name == "nil" || name == "true" || name == "false") return "nil, true and false are no symbols";
  return NameProblem(name, false);
}

const char* KeywordProblem(std::string_view name) { return NameProblem(name, true); }

const char* TagProblem(std::string_view tag) {
  if (tag == "inst" || tag == "uuid" || tag == "stm/bytes")
    return "the tag has a meaning of its own: use that type";
  if (const char* problem = SymbolProblem(tag)) return problem;
  if ((ClassOf(tag[0]) & (kLetter | kHigh)) == 0) return "a tag begins with a letter";
  return nullptr;
}

// ---- numbers

const char* ParseNumber(std::string_view token, Number* number) {
  const char* p = token.data();
  const char* end = p + token.size();
  if (p < end && (*p == '-' || *p == '+')) number->negative = *p++ == '-';
  auto digits = [&] {
    const char* from = p;
    while (p < end && IsDigit(*p)) ++p;
    return std::string_view(from, static_cast<size_t>(p - from));
  };
  number->whole = digits();
  if (number->whole.empty()) return "a number begins with a digit";
  if (number->whole.size() > 1 && number->whole[0] == '0')
    return "a number has no leading zeros (there is no octal)";
  if (p < end && *p == '.') {
    ++p;
    number->point = true;
    number->fraction = digits();
    if (number->fraction.empty()) return "a fraction has digits";
  }
  if (p < end && (*p == 'e' || *p == 'E')) {
    ++p;
    number->exponential = true;
    bool negative = false;
    if (p < end && (*p == '-' || *p == '+')) negative = *p++ == '-';
    const std::string_view exponent = digits();
    if (exponent.empty()) return "an exponent has digits";
    for (char c : exponent) {
      if (number->exponent < kDecimalExponentMax * 100) number->exponent = number->exponent * 10 + (c - '0');
    }
    if (negative) number->exponent = -number->exponent;
  }
  const bool whole = !number->point && !number->exponential;
  if (p < end && (*p == 'M' || (*p == 'N' && whole))) number->suffix = *p++;
  if (p < end && *p == '/') return "there are no ratios in EDN: use a decimal or a double";
  if (p < end) return "a number has digits, then a fraction, an exponent, N or M only";
  return nullptr;
}

std::string CanonicalBigInt(const Number& number) {
  std::string out;
  out.reserve(number.whole.size() + 1);
  if (number.negative && number.whole != "0") out += '-';
  out += number.whole;
  return out;
}

const char* CanonicalDecimal(const Number& number, std::string* out) {
  std::string digits(number.whole);
  digits += number.fraction;
  digits.erase(0, std::min(digits.find_first_not_of('0'), digits.size() - 1));
  const int64_t scale = static_cast<int64_t>(number.fraction.size()) - number.exponent;
  const int64_t adjusted = static_cast<int64_t>(digits.size()) - 1 - scale;
  auto out_of_bounds = [](int64_t e) { return e < -kDecimalExponentMax || e > kDecimalExponentMax; };
  if (out_of_bounds(scale) || out_of_bounds(adjusted)) return "a decimal's exponent is within 999999999 of 0";
  out->clear();
  if (number.negative && digits != "0") *out += '-';
  if (scale >= 0 && adjusted >= -6) {
    if (scale == 0) {
      *out += digits;
    } else if (adjusted >= 0) {
      const size_t whole = static_cast<size_t>(adjusted) + 1;
      out->append(digits, 0, whole);
      *out += '.';
      out->append(digits, whole, std::string::npos);
    } else {
      *out += "0.";
      out->append(static_cast<size_t>(-adjusted - 1), '0');
      *out += digits;
    }
    return nullptr;
  }
  *out += digits[0];
  if (digits.size() > 1) {
    *out += '.';
    out->append(digits, 1, std::string::npos);
  }
  if (adjusted != 0) {
    *out += adjusted > 0 ? "E+" : "E-";
    *out += std::to_string(adjusted > 0 ? adjusted : -adjusted);
  }
  return nullptr;
}

const char* CanonicalBigInt(std::string_view digits, std::string* out) {
  Number number;
  if (const char* problem = ParseNumber(digits, &number)) return problem;
  if (number.suffix != 0 || number.point || number.exponential) return "a bigint has a sign and digits only";
  *out = CanonicalBigInt(number);
  return nullptr;
}

const char* CanonicalDecimal(std::string_view digits, std::string* out) {
  Number number;
  if (const char* problem = ParseNumber(digits, &number)) return problem;
  if (number.suffix != 0) return "a decimal's digits stand without N or M";
  return CanonicalDecimal(number, out);
}

size_t WriteDouble(double d, char* out) {
  auto literal = [out](std::string_view text) {
    std::memcpy(out, text.data(), text.size());
    return text.size();
  };
  if (std::isnan(d)) return literal("##NaN");
  if (std::isinf(d)) return literal(d > 0 ? "##Inf" : "##-Inf");
  if (d == 0) return literal(std::signbit(d) ? "-0.0" : "0.0");
  char shortest[kDoubleBytesMax];
  const char* end = std::to_chars(shortest, shortest + sizeof shortest, d, std::chars_format::scientific).ptr;
  const char* p = shortest;
  char* to = out;
  if (*p == '-') *to++ = *p++;
  char digits[24];
  size_t count = 0;
  for (; *p != 'e'; ++p) {
    if (*p != '.') digits[count++] = *p;
  }
  ++p;
  if (*p == '+') ++p;
  int exponent = 0;
  std::from_chars(p, end, exponent);
  // Java's choice of forms, so that a value looks the same here and in Clojure.
  if (exponent >= -3 && exponent < 7) {
    if (exponent >= 0) {
      const size_t whole = static_cast<size_t>(exponent) + 1;
      for (size_t i = 0; i < whole; ++i) *to++ = i < count ? digits[i] : '0';
      *to++ = '.';
      if (count <= whole) *to++ = '0';
      for (size_t i = whole; i < count; ++i) *to++ = digits[i];
    } else {
      *to++ = '0';
      *to++ = '.';
      for (int i = -1; i > exponent; --i) *to++ = '0';
      for (size_t i = 0; i < count; ++i) *to++ = digits[i];
    }
    return static_cast<size_t>(to - out);
  }
  *to++ = digits[0];
  *to++ = '.';
  if (count == 1) *to++ = '0';
  for (size_t i = 1; i < count; ++i) *to++ = digits[i];
  *to++ = 'E';
  to = std::to_chars(to, out + kDoubleBytesMax, exponent).ptr;
  return static_cast<size_t>(to - out);
}

size_t WriteInteger(int64_t i, char* out) {
  return static_cast<size_t>(std::to_chars(out, out + kIntegerBytesMax, i).ptr - out);
}

size_t IntegerSize(int64_t i) {
  uint64_t u = static_cast<uint64_t>(i);
  size_t size = 1;
  if (i < 0) {
    u = 0 - u;
    ++size;
  }
  for (; u >= 10000; u /= 10000) size += 4;
  return size + (u >= 10) + (u >= 100) + (u >= 1000);
}

// ---- instants

namespace {

// Days since 1970-01-01, proleptic Gregorian: years counted from March, so that a leap day ends its year.
// (Hinnant, "chrono-Compatible Low-Level Date Algorithms".)
int64_t DaysOf(int year, int month, int day) {
  const int y = month <= 2 ? year - 1 : year;
  const int era = (y >= 0 ? y : y - 399) / 400;
  const int year_of_era = y - era * 400;
  const int day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
  const int day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
  return static_cast<int64_t>(era) * 146097 + day_of_era - 719468;
}

void DateOf(int64_t days, int* year, int* month, int* day) {
  days += 719468;
  const int64_t era = (days >= 0 ? days : days - 146096) / 146097;
  const int day_of_era = static_cast<int>(days - era * 146097);
  const int year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
  const int day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const int shifted = (5 * day_of_year + 2) / 153;
  *day = day_of_year - (153 * shifted + 2) / 5 + 1;
  *month = shifted < 10 ? shifted + 3 : shifted - 9;
  *year = static_cast<int>(year_of_era + era * 400) + (*month <= 2 ? 1 : 0);
}

int DaysInMonth(int year, int month) {
  static constexpr int kDays[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
  return month == 2 && leap ? 29 : kDays[month - 1];
}

char* WriteDigits(int64_t n, int count, char* out) {
  for (int i = count - 1; i >= 0; --i) {
    out[i] = static_cast<char>('0' + n % 10);
    n /= 10;
  }
  return out + count;
}

Instant Clamp(Instant instant) {
  if (instant.seconds < kInstantSecondsMin) return Instant{kInstantSecondsMin, 0};
  if (instant.seconds > kInstantSecondsMax) return Instant{kInstantSecondsMax, 999'999'999};
  if (instant.nanos < 0) instant.nanos = 0;
  if (instant.nanos > 999'999'999) instant.nanos = 999'999'999;
  return instant;
}

int FractionDigits(int32_t nanos) {
  if (nanos == 0) return 0;
  if (nanos % 1'000'000 == 0) return 3;
  return nanos % 1'000 == 0 ? 6 : 9;
}

}  // namespace

size_t WriteInstant(Instant instant, char* out) {
  instant = Clamp(instant);
  int64_t days = instant.seconds / 86400;
  int64_t second = instant.seconds % 86400;
  if (second < 0) {
    second += 86400;
    --days;
  }
  int year, month, day;
  DateOf(days, &year, &month, &day);
  char* p = WriteDigits(year, 4, out);
  *p++ = '-';
  p = WriteDigits(month, 2, p);
  *p++ = '-';
  p = WriteDigits(day, 2, p);
  *p++ = 'T';
  p = WriteDigits(second / 3600, 2, p);
  *p++ = ':';
  p = WriteDigits(second / 60 % 60, 2, p);
  *p++ = ':';
  p = WriteDigits(second % 60, 2, p);
  if (const int digits = FractionDigits(instant.nanos); digits > 0) {
    *p++ = '.';
    p = WriteDigits(digits == 3   ? instant.nanos / 1'000'000
                    : digits == 6 ? instant.nanos / 1'000
                                  : instant.nanos,
                    digits, p);
  }
  *p++ = 'Z';
  return static_cast<size_t>(p - out);
}

size_t InstantSize(Instant instant) {
  const int digits = FractionDigits(Clamp(instant).nanos);
  return digits == 0 ? 20 : 21 + static_cast<size_t>(digits);
}

const char* ReadInstant(std::string_view text, Instant* instant) {
  static constexpr char kForm[] =
      "an instant as \"2026-11-22T03:00:00.123Z\" (RFC 3339; parts may be left off its end)";
  const char* p = text.data();
  const char* end = p + text.size();
  auto digits = [&](int count, int* n) {
    if (end - p < count) return false;
    *n = 0;
    for (int i = 0; i < count; ++i, ++p) {
      if (!IsDigit(*p)) return false;
      *n = *n * 10 + (*p - '0');
    }
    return true;
  };
  // One more part, if `mark` stands before it.
  auto part = [&](char mark, int* n, bool* there) {
    *there = p < end && (*p == mark || (mark == 'T' && *p == 't'));
    if (!*there) return true;
    ++p;
    return digits(2, n);
  };
  int year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0;
  int64_t nanos = 0;
  bool there = false;
  if (!digits(4, &year) || !part('-', &month, &there)) return kForm;
  if (there && !part('-', &day, &there)) return kForm;
  if (there && !part('T', &hour, &there)) return kForm;
  if (there && !part(':', &minute, &there)) return kForm;
  if (there && !part(':', &second, &there)) return kForm;
  if (there && p < end && *p == '.') {
    const char* from = ++p;
    int64_t unit = 100'000'000;
    for (; p < end && IsDigit(*p); ++p) {
      if (unit == 0 && *p != '0') return "an instant with nanoseconds at most (9 digits of a fraction)";
      nanos += (*p - '0') * unit;
      unit /= 10;
    }
    if (p == from) return kForm;
  }
  int64_t offset = 0;
  if (p < end && (*p == 'Z' || *p == 'z')) {
    ++p;
  } else if (p < end && (*p == '+' || *p == '-')) {
    const bool west = *p++ == '-';
    int hours = 0, minutes = 0;
    if (!digits(2, &hours) || p == end || *p++ != ':' || !digits(2, &minutes)) return kForm;
    if (hours > 23 || minutes > 59) return "an offset from UTC of 23:59 at most";
    offset = (hours * 60 + minutes) * 60;
    if (west) offset = -offset;
  }
  if (p != end) return kForm;
  if (month < 1 || month > 12) return "a month from 01 to 12";
  if (day < 1 || day > DaysInMonth(year, month)) return "a day that the month has";
  if (hour > 23) return "an hour from 00 to 23";
  if (minute > 59) return "a minute from 00 to 59";
  // A leap second is the same moment as the next minute's first, as POSIX has it.
  if (second > (minute == 59 ? 60 : 59)) return "a second from 00 to 59 (60 at the end of an hour)";
  Instant read{DaysOf(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset,
               static_cast<int32_t>(nanos)};
  if (!IsInstant(read)) return "an instant within the years 0001 to 9999 UTC";
  *instant = read;
  return nullptr;
}

// ---- uuids, bytes

void WriteUuid(Uuid uuid, char* out) {
  static constexpr char kDigits[] = "0123456789abcdef";
  for (int i = 0; i < 32; ++i) {
    if (i == 8 || i == 12 || i == 16 || i == 20) *out++ = '-';
    const uint64_t half = i < 16 ? uuid.high : uuid.low;
    *out++ = kDigits[(half >> (60 - 4 * (i % 16))) & 15];
  }
}

namespace {

constexpr char kBase64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

constexpr std::array<int8_t, 256> MakeBase64Values() {
  std::array<int8_t, 256> values{};
  for (auto& v : values) v = -1;
  for (int i = 0; i < 64; ++i) values[static_cast<unsigned char>(kBase64[i])] = static_cast<int8_t>(i);
  return values;
}
constexpr std::array<int8_t, 256> kBase64Values = MakeBase64Values();

}  // namespace

char* WriteBase64(std::string_view bytes, char* out) {
  auto at = [&](size_t i) { return static_cast<uint32_t>(static_cast<unsigned char>(bytes[i])); };
  size_t i = 0;
  for (; i + 3 <= bytes.size(); i += 3) {
    const uint32_t word = at(i) << 16 | at(i + 1) << 8 | at(i + 2);
    for (int shift = 18; shift >= 0; shift -= 6) *out++ = kBase64[(word >> shift) & 63];
  }
  if (i < bytes.size()) {
    const bool two = i + 1 < bytes.size();
    const uint32_t word = at(i) << 16 | (two ? at(i + 1) << 8 : 0);
    *out++ = kBase64[(word >> 18) & 63];
    *out++ = kBase64[(word >> 12) & 63];
    *out++ = two ? kBase64[(word >> 6) & 63] : '=';
    *out++ = '=';
  }
  return out;
}

bool ReadBase64(std::string_view text, std::string* bytes) {
  if (text.size() % 4 != 0) return false;
  bytes->clear();
  bytes->reserve(text.size() / 4 * 3);
  for (size_t i = 0; i < text.size(); i += 4) {
    const bool last = i + 4 == text.size();
    const int padding = !last ? 0 : (text[i + 3] != '=' ? 0 : (text[i + 2] != '=' ? 1 : 2));
    uint32_t word = 0;
    for (int j = 0; j < 4; ++j) {
      const int v =
          j >= 4 - padding ? 0 : kBase64Values[static_cast<unsigned char>(text[i + static_cast<size_t>(j)])];
      if (v < 0) return false;
      word = word << 6 | static_cast<uint32_t>(v);
    }
    if ((padding == 1 && (word & 0xFF) != 0) || (padding == 2 && (word & 0xFFFF) != 0)) return false;
    bytes->push_back(static_cast<char>(word >> 16));
    if (padding < 2) bytes->push_back(static_cast<char>(word >> 8));
    if (padding < 1) bytes->push_back(static_cast<char>(word));
  }
  return true;
}

}  // namespace stm::lexical
