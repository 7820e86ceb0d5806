// The EDN reader and printer.
#include "engine/values/edn.h"

#include <rapidcheck/catch.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <cstdio>
#include <limits>

#include "tests/engine/values/generators.h"

namespace stm {
namespace {

Value Read(std::string_view text) {
  const absl::StatusOr<Value> value = ReadEdn(text);
  INFO(text << ": " << std::string(value.status().message().data(), value.status().message().size()));
  REQUIRE(value.ok());
  return *value;
}

std::string ErrorOf(std::string_view text) {
  const absl::StatusOr<Value> value = ReadEdn(text);
  if (value.ok()) return "read as " + ToEdn(*value);
  REQUIRE(value.status().code() == absl::StatusCode::kInvalidArgument);
  return std::string(value.status().message().data(), value.status().message().size());
}

TEST_CASE("edn: what is printed reads back as the same value, in exactly edn_size() bytes, on one line") {
  rc::prop("value to EDN to value", [](const Value& value) {
    RC_ASSERT(Check(value).ok());
    const std::string text = ToEdn(value);
    RC_ASSERT(text.size() == value.edn_size());
    for (const char c : text) RC_ASSERT(static_cast<unsigned char>(c) >= 0x20);
    const absl::StatusOr<Value> again = ReadEdn(text);
    if (!again.ok()) RC_FAIL(text + ": " + again.status().ToString());
    RC_ASSERT(*again == value);
    RC_ASSERT(ToEdn(*again) == text);
    RC_ASSERT(again->depth() == value.depth());
  });
}

// Spacing, comments, discards, other spellings: text that means the same as the printed form.
std::string Loosened(const std::string& text) {
  std::string out;
  bool in_string = false, in_character = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      out += c;
      if (c == '\\') out += text[++i];
      if (c == '"') in_string = false;
      continue;
    }
    if (in_character) {  // whatever it is, up to what ends it
      in_character = false;
      out += c;
      continue;
    }
    if (c == '\\') in_character = true;
    if (c == '"') in_string = true;
    if (c != ' ') {
      out += c;
      if ((c == '[' || c == '(' || c == '{') && *rc::gen::inRange(0, 3) == 0) out += " #_[x #_y] ,";
      continue;
    }
    switch (*rc::gen::inRange(0, 5)) {
      case 0:
        out += "  \t\r\n,";
        break;
      case 1:
        out += " ;a comment ] \" \n ";
        break;
      case 2:
        out += " #_ #_ a {b \"]\"} ";
        break;
      default:
        out += ' ';
    }
  }
  return out;
}

TEST_CASE("edn: text to value to text to value is the same value, whatever stands between") {
  rc::prop("loose text", [](const Value& value) {
    const std::string text = Loosened(ToEdn(value));
    const absl::StatusOr<Value> read = ReadEdn(text);
    if (!read.ok()) RC_FAIL(text + "\n" + read.status().ToString());
    RC_ASSERT(*read == value);
    RC_ASSERT(ToEdn(*ReadEdn(ToEdn(*read))) == ToEdn(value));
  });
}

TEST_CASE("edn: any cut or spoilt text is a value or an error, never more") {
  rc::prop("mutations", [](const Value& value) {
    std::string text = ToEdn(value);
    const size_t at =
        static_cast<size_t>(*rc::gen::inRange<int64_t>(0, static_cast<int64_t>(text.size()) + 1));
    switch (*rc::gen::inRange(0, 3)) {
      case 0:
        text.resize(at);
        break;
      case 1:
        if (at < text.size()) text[at] = static_cast<char>(*rc::gen::inRange(0, 256));
        break;
      default:
        text.insert(at, 1,
                    *rc::gen::element('(', ')', '[', ']', '{', '}', '"', '\\', '#', ';', ' ', ':', '/', '1',
                                      '\n', '\xC3'));
    }
    const absl::StatusOr<Value> read = ReadEdn(text);
    if (read.ok()) {
      RC_ASSERT(Check(*read).ok());
      RC_ASSERT(*ReadEdn(ToEdn(*read)) == *read);
    } else {
      RC_ASSERT(read.status().message().substr(0, 4) == "EDN ");
    }
  });
}

TEST_CASE("edn: each type is read and printed") {
  const std::vector<std::pair<const char*, const char*>> cases = {
      // Text, and as it is printed.
      {"nil", "nil"},
      {"true", "true"},
      {" false ", "false"},
      {"0", "0"},
      {"-0", "0"},
      {"+7", "7"},
      {"123456789012345678", "123456789012345678"},
      {"9223372036854775807", "9223372036854775807"},
      {"-9223372036854775808", "-9223372036854775808"},
      {"+9223372036854775807", "9223372036854775807"},
      {"9223372036854775808N", "9223372036854775808N"},
      {"-0N", "0N"},
      {"+1N", "1N"},
      {"1.0", "1.0"},
      {"-0.0", "-0.0"},
      {"1e3", "1000.0"},
      {"1E+3", "1000.0"},
      {"+1.5e-3", "0.0015"},
      {"0.001", "0.001"},
      {"0.0009", "9.0E-4"},
      {"9999999.0", "9999999.0"},
      {"10000000.0", "1.0E7"},
      {"1e100", "1.0E100"},
      {"-1.25e-7", "-1.25E-7"},
      {"5e-324", "5.0E-324"},
      {"1e-400", "0.0"},
      {"-1e-400", "-0.0"},
      {"1.7976931348623157e308", "1.7976931348623157E308"},
      {"0.1", "0.1"},
      {"123456.789", "123456.789"},
      {"##Inf", "##Inf"},
      {"##-Inf", "##-Inf"},
      {"##NaN", "##NaN"},
      {"1.50M", "1.50M"},
      {"1M", "1M"},
      {"1e3M", "1E+3M"},
      {"-0.0M", "0.0M"},
      {"1E-9M", "1E-9M"},
      {"\\a", "\\a"},
      {"\\newline", "\\newline"},
      {"\\space", "\\space"},
      {"\\tab", "\\tab"},
      {"\\return", "\\return"},
      {"\\formfeed", "\\formfeed"},
      {"\\backspace", "\\backspace"},
      {"\\u", "\\u"},
      {"\\n", "\\n"},
      {"\\u0041", "\\A"},
      {"\\u000A", "\\newline"},
      {"\\u0000", "\\u0000"},
      {"\\u0085", "\\u0085"},
      {"\\u00e9", "\\é"},
      {"\\é", "\\é"},
      {"\\😀", "\\😀"},
      {"[\\(\\)\\;\\\"\\\\\\,]", "[\\( \\) \\; \\\" \\\\ \\,]"},
      {"\"\"", "\"\""},
      {"\"a\"", "\"a\""},
      {"\"a\nb\tc\"", "\"a\\nb\\tc\""},
      {R"("\t\r\n\\\"\b\f")", R"("\t\r\n\\\"\b\f")"},
      {R"("\u0000\u001b\u007F\u0041")", R"("\u0000\u001B\u007FA")"},
      {R"("\ud83d\ude00")", "\"😀\""},
      {"\"é語😀\"", "\"é語😀\""},
      {"#stm/bytes \"\"", "#stm/bytes \"\""},
      {"#stm/bytes \"AP8=\"", "#stm/bytes \"AP8=\""},
      {"#stm/bytes\"aGVsbG8h\"", "#stm/bytes \"aGVsbG8h\""},
      {":a", ":a"},
      {":a/b", ":a/b"},
      {":blog.post/title", ":blog.post/title"},
      {":1", ":1"},
      {":-1", ":-1"},
      {":a:b", ":a:b"},
      {":nil", ":nil"},
      {":é", ":é"},
      {"a", "a"},
      {"/", "/"},
      {"+", "+"},
      {"-", "-"},
      {"...", "..."},
      {"<=>", "<=>"},
      {"a/+", "a/+"},
      {"nil?", "nil?"},
      {"a#'%&", "a#'%&"},
      {"()", "()"},
      {"[]", "[]"},
      {"{}", "{}"},
      {"#{}", "#{}"},
      {"[1,2,,3]", "[1 2 3]"},
      {"(1(2)[3]{4 5}#{6})", "(1 (2) [3] {4 5} #{6})"},
      {"[\"a\"\"b\":c\"d\"]", "[\"a\" \"b\" :c \"d\"]"},
      {"{:b 1 :a 2}", "{:b 1, :a 2}"},
      {"{nil nil [1] (2)}", "{nil nil, [1] (2)}"},
      {"{1 :i 1.0 :d 1N :n 1M :m}", "{1 :i, 1.0 :d, 1N :n, 1M :m}"},
      {"#a 1", "#a 1"},
      {"#blog.CreateUser {:name \"Bob\"}", "#blog.CreateUser{:name \"Bob\"}"},
      {"#a/b(1)", "#a/b(1)"},
      {"#a[1]", "#a[1]"},
      {"#a #{1}", "#a #{1}"},
      {"#a #b nil", "#a #b nil"},
      {"#a #_skipped ;c\n 1", "#a 1"},
      {"#a\"s\"", "#a \"s\""},
      {"#a:k 1", "#a:k 1"},
      {"#inst \"2026-11-22T03:00:00.123456Z\"", "#inst \"2026-11-22T03:00:00.123456Z\""},
      {"#inst \"2026\"", "#inst \"2026-01-01T00:00:00Z\""},
      {"#inst \"2026-11\"", "#inst \"2026-11-01T00:00:00Z\""},
      {"#inst \"2026-11-22\"", "#inst \"2026-11-22T00:00:00Z\""},
      {"#inst \"2026-11-22T03\"", "#inst \"2026-11-22T03:00:00Z\""},
      {"#inst \"2026-11-22t03:04z\"", "#inst \"2026-11-22T03:04:00Z\""},
      {"#inst \"2026-11-22T03:04:05.1-00:00\"", "#inst \"2026-11-22T03:04:05.100Z\""},
      {"#inst \"2026-11-22T03:04:05.000001200+01:30\"", "#inst \"2026-11-22T01:34:05.000001200Z\""},
      {"#inst \"2026-11-22T03:04:05.1234567890000Z\"", "#inst \"2026-11-22T03:04:05.123456789Z\""},
      {"#inst \"2026-12-31T23:59:60Z\"", "#inst \"2027-01-01T00:00:00Z\""},
      {"#inst \"1969-12-31T23:59:59.999Z\"", "#inst \"1969-12-31T23:59:59.999Z\""},
      {"#inst \"0001-01-01T00:00:00Z\"", "#inst \"0001-01-01T00:00:00Z\""},
      {"#inst \"9999-12-31T23:59:59.999999999Z\"", "#inst \"9999-12-31T23:59:59.999999999Z\""},
      {"#inst \"2024-02-29\"", "#inst \"2024-02-29T00:00:00Z\""},
      {"#uuid \"F81D4FAE-7dec-11d0-a765-00a0c91e6bf6\"", "#uuid \"f81d4fae-7dec-11d0-a765-00a0c91e6bf6\""},
      {";only a comment before\n1;and after", "1"},
      {"#_1 #_[2 3] 4 #_5", "4"},
      {"#_ #_ 1 2 3", "3"},
      {"#_ #_ 1 #_ 2 3 4", "4"},
      {"[#_1]", "[]"},
      {"[1 #_2 3]", "[1 3]"},
  };
  for (const auto& [text, printed] : cases) {
    CHECK(ToEdn(Read(text)) == printed);
    CHECK(ToEdn(Read(printed)) == printed);
    CHECK(Read(text).edn_size() == std::string_view(printed).size());
  }
}

TEST_CASE("edn: errors say line, column, what was found and what was expected") {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "EDN 1:1: found the end of the text, expected a value"},
      {" ;x\n ", "EDN 2:2: found the end of the text, expected a value"},
      {"1 2", "EDN 1:3: found '2', expected the end of the text after one value"},
      {")", "EDN 1:1: found ')', expected a value"},
      {"[1\n 2\n)", "EDN 3:1: found ')', expected a value or ']' in the vector that began at 1:1"},
      {"\n [1 (2 3",
       "EDN 2:9: found the end of the text, expected a value or ')' in the list that began at 2:5"},
      {"{:a 1 :b}", "EDN 1:9: found '}', expected a value for the last key in the map that began at 1:1"},
      {"{:a 1\n :b 2 :a 3}",
       "EDN 2:7: found ':a' for the second time, expected distinct keys in the map that began at 1:1"},
      {"#{1 [2] #_3 [2]}",
       "EDN 1:13: found '[2]' for the second time, expected distinct items in the set that began at 1:1"},
      {"99999999999999999999",
       "EDN 1:1: found '99999999999999999999', expected an integer of 64 bits: append N for a bigint"},
      {"[1 01]",
       "EDN 1:4: found '01', expected a number in the vector that began at 1:1: a number has no leading "
       "zeros (there is no "
       "octal)"},
      {"1e999", "EDN 1:1: found '1e999', expected a number that a double holds: append M for a decimal"},
      {"1e9999999999M",
       "EDN 1:1: found '1e9999999999M', expected a decimal: a decimal's exponent is within 999999999 of 0"},
      {"1/2",
       "EDN 1:1: found '1/2', expected a number: there are no ratios in EDN: use a decimal or a double"},
      {"1x",
       "EDN 1:1: found '1x', expected a number: a number has digits, then a fraction, an exponent, N or M "
       "only"},
      {"1.", "EDN 1:1: found '1.', expected a number: a fraction has digits"},
      {"1e", "EDN 1:1: found '1e', expected a number: an exponent has digits"},
      {"1.5N",
       "EDN 1:1: found '1.5N', expected a number: a number has digits, then a fraction, an exponent, N or M "
       "only"},
      {"\"abc", "EDN 1:5: found the end of the text, expected '\"' to end the string that began at 1:1"},
      {"\"a\nbc", "EDN 2:3: found the end of the text, expected '\"' to end the string that began at 1:1"},
      {"\"a\\x\"", "EDN 1:3: found '\\x', expected one of the escapes \\t \\r \\n \\b \\f \\\\ \\\" \\uXXXX"},
      {"\"\\u12\"", "EDN 1:2: found '\\u12', expected \\u and four hexadecimal digits"},
      {"\"\\ud83d\"",
       "EDN 1:2: found '\\ud83d', expected a character, or both surrogates of one, high before low"},
      {"\"\\ude00\\ud83d\"",
       "EDN 1:2: found '\\ude00', expected a character, or both surrogates of one, high before low"},
      {"\"\\ud83d\\u0041\"",
       "EDN 1:2: found '\\ud83d\\u0041', expected a character, or both surrogates of one, high before low"},
      {"\"\\", "EDN 1:3: found the end of the text, expected the rest of an escape"},
      {"\"ab\xC3(\"",
       "EDN 1:4: found bytes that are not UTF-8, expected UTF-8 in the string that began at 1:1"},
      {"\"\xED\xA0\x80\"",
       "EDN 1:2: found bytes that are not UTF-8, expected UTF-8 in the string that began at 1:1"},
      {"\"0123456789\xF4\x90\x80\x80\"",
       "EDN 1:12: found bytes that are not UTF-8, expected UTF-8 in the string that began at 1:1"},
      {"##Foo", "EDN 1:1: found '##Foo', expected ##Inf, ##-Inf or ##NaN"},
      {"[#_]", "EDN 1:4: found ']', expected a value to discard after the #_ at 1:2"},
      {"#_", "EDN 1:3: found the end of the text, expected a value to discard after the #_ at 1:1"},
      {"[#a]", "EDN 1:4: found ']', expected a value after '#a'"},
      {"#a", "EDN 1:3: found the end of the text, expected a value in the tagged value that began at 1:1"},
      {"#inst 5", "EDN 1:7: found '5', expected a string after #inst"},
      {"#inst \"2026-02-29\"", "EDN 1:7: found '\"2026-02-29\"', expected a day that the month has"},
      {"#uuid \"1\"", "EDN 1:7: found '\"1\"', expected a uuid as \"f81d4fae-7dec-11d0-a765-00a0c91e6bf6\""},
      {"#stm/bytes \"A\"",
       "EDN 1:12: found '\"A\"', expected base64 (RFC 4648, padded, without line breaks)"},
      {"@a", "EDN 1:1: found '@', expected a value (EDN has no reader macros)"},
      {"#\"regex\"", "EDN 1:1: found '#\"', expected a tag, #{ or #_: the name is empty"},
      {"#1 2", "EDN 1:1: found '#1', expected a tag, #{ or #_: a name can't begin with a digit"},
      {"#:a{:b 1}", "EDN 1:1: found '#:a', expected a tag, #{ or #_: a name can't begin with ':'"},
      {":", "EDN 1:1: found ':', expected a keyword: the name is empty"},
      {"::a", "EDN 1:1: found '::a', expected a keyword: a name can't begin with ':'"},
      {":a/b/c", "EDN 1:1: found ':a/b/c', expected a keyword: a name has one '/' at most"},
      {":/", "EDN 1:1: found ':/', expected a keyword: nothing stands on one side of '/'"},
      {"[a/]",
       "EDN 1:2: found 'a/', expected a value in the vector that began at 1:1: nothing stands on one side of "
       "'/'"},
      {"\\abc",
       "EDN 1:1: found '\\abc', expected a character: \\a, \\newline, \\space, \\tab, \\return, \\formfeed, "
       "\\backspace "
       "or \\uXXXX"},
      {"\\uD800", "EDN 1:1: found '\\uD800', expected a character, not half of one"},
  };
  for (const auto& [text, message] : cases) CHECK(ErrorOf(text) == message);
}

TEST_CASE("edn: what is no EDN is refused") {
  for (const char* text : {"1#_2",
                           "-1a",
                           "+1/2",
                           "00",
                           "-01",
                           "0x10",
                           "1_000",
                           "1NN",
                           "1MN",
                           "1e5N",
                           ".5",
                           "a:",
                           "a::b",
                           ":a:",
                           "'a",
                           "#'a",
                           "`a",
                           "~a",
                           "^a b",
                           "#(a)",
                           "#a",
                           "#<x>",
                           "#/ 1",
                           "#+ 1",
                           "#nil 1",
                           "a/1",
                           ":a/1",
                           "/a",
                           "a//b",
                           "foo//",
                           "#inst nil",
                           "#inst #inst \"2026\"",
                           "#uuid",
                           "\\",
                           "\\ ",
                           "\\u12345",
                           "\\o101",
                           "\"\\101\"",
                           "a|b",
                           "a\x01",
                           "\x01",
                           "\x7f",
                           "a\xC2\xA0",
                           "\xE2\x80\x83",
                           "\xFF",
                           ":\xFF",
                           "\\\xFF",
                           "\\\xC3",
                           "#\xFF 1",
                           "{:a}",
                           "{1 2 3}",
                           "{1 1, 1 2}",
                           "#{nil nil}",
                           "{{:a 1 :b 2} 1, {:b 2 :a 1} 2}",
                           "]",
                           "}",
                           "[}",
                           "[1 2",
                           "(",
                           "{",
                           "#{",
                           "#inst \"2026-13\"",
                           "#inst \"2026-1-1\"",
                           "#inst \"0000-01-01\"",
                           "#inst \"10000\"",
                           "#inst \"\"",
                           "#inst \"2026-11-22T24\"",
                           "#inst \"2026-11-22T03:60\"",
                           "#inst \"2026-11-22T03:00:60\"",
                           "#inst \"2026-11-22T03:00:00.\"",
                           "#inst \"2026-11-22T03:00:00.1234567891\"",
                           "#inst \"2026-11-22T03:00:00+24:00\"",
                           "#inst \"2026-11-22 03:00\"",
                           "#inst \"0001-01-01T00:00:00+00:01\"",
                           "#inst \"9999-12-31T23:59:60Z\"",
                           "#inst \"2026Zx\"",
                           "#stm/bytes \"A===\"",
                           "#stm/bytes \"AB==\"",
                           "#stm/bytes \"AA= \"",
                           "#stm/bytes \"AA==AAAA\"",
                           "#stm/bytes \"_-==\"",
                           "##",
                           "##inf"}) {
    INFO(text << ": " << ErrorOf(text));
    CHECK(ErrorOf(text).substr(0, 4) == "EDN ");
  }
}

TEST_CASE("edn: numbers of every length up to 40 digits are told apart from what does not fit") {
  std::string digits;
  for (int length = 1; length <= 40; ++length) {
    digits += static_cast<char>('0' + (length % 9 + 1));
    for (const char* sign : {"", "-", "+"}) {
      const std::string text = sign + digits;
      const std::string canonical = (*sign == '+' ? "" : sign) + digits;
      if (length <= 18) CHECK(ToEdn(Read(text)) == canonical);
      if (length >= 20) CHECK(ErrorOf(text).find("append N") != std::string::npos);
      CHECK(ToEdn(Read(text + "N")) == canonical + "N");
      CHECK(ToEdn(Read(text + "M")) == canonical + "M");
      CHECK(Read(text + ".0").is(Type::kDouble));
    }
  }
}

TEST_CASE("edn: strings of every length and with an escape or a wide character at every place") {
  for (size_t length = 0; length < 40; ++length) {
    const std::string plain(length, 'x');
    CHECK(Read("\"" + plain + "\"").text() == plain);
    for (size_t at = 0; at < length; ++at) {
      for (const char* piece : {"\n", "\"", "\\", "\x01", "\x7F", "é", "語", "😀", " "}) {
        std::string text = plain;
        text.replace(at, 1, piece);
        const Value value = Value::String(text);
        const std::string printed = ToEdn(value);
        REQUIRE(printed.size() == value.edn_size());
        REQUIRE(Read(printed).text() == text);
        REQUIRE(Read(printed).edn_size() == printed.size());
        std::string quoted;
        AppendEdnString(text, &quoted);
        REQUIRE(quoted == printed);
        if (*piece != '"' && *piece != '\\') {  // raw, as an editor leaves it
          REQUIRE(Read("\"" + text + "\"") == value);
          REQUIRE(Read("\"" + text + "\"").edn_size() == printed.size());
        }
      }
    }
  }
}

TEST_CASE("edn: every character is printed so that it reads back") {
  for (char32_t c = 0; c <= 0x10FFFF; c += (c < 0x3000 ? 1 : 97)) {
    if (!lexical::IsScalarValue(c)) continue;
    const Value character = Value::Character(c);
    char bytes[4];
    const Value string = Value::String(std::string_view(bytes, lexical::EncodeUtf8(c, bytes)));
    if (!(Read(ToEdn(character)) == character)) FAIL("character " << static_cast<uint32_t>(c));
    if (!(Read(ToEdn(string)) == string)) FAIL("string of " << static_cast<uint32_t>(c));
    if (ToEdn(character).size() != character.edn_size()) FAIL("size of " << static_cast<uint32_t>(c));
  }
}

TEST_CASE("edn: doubles read back as the same bits and never look like integers") {
  rc::prop("double", [] {
    const double d = DrawDouble();
    const std::string text = ToEdn(Value::Double(d));
    RC_ASSERT(text.find_first_of(".#") != std::string::npos);
    RC_ASSERT(Read(text) == Value::Double(d));
  });
}

TEST_CASE("edn: instants round-trip at every scale, and days are counted right") {
  rc::prop("instant", [] {
    const Instant instant = DrawInstant();
    std::string text;
    AppendEdnInstant(instant, &text);
    RC_ASSERT(Read(text).instant() == instant);
    const auto parsed = ParseInstant(std::string_view(text).substr(7, text.size() - 8));
    RC_ASSERT(parsed.ok());
    RC_ASSERT(*parsed == instant);
  });
  // Every day of 800 years, against a calendar kept by hand.
  int year = 1600, month = 1, day = 1;
  for (int64_t seconds = -11676096000; year < 2400; seconds += 86400) {
    char text[16];
    std::snprintf(text, sizeof text, "%04d-%02d-%02d", year, month, day);
    const auto instant = ParseInstant(text);
    if (!instant.ok() || instant->seconds != seconds) FAIL(text << " is not " << seconds);
    const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    const int days = month == 2                                                ? (leap ? 29 : 28)
                     : (month == 4 || month == 6 || month == 9 || month == 11) ? 30
                                                                               : 31;
    if (++day > days) {
      day = 1;
      if (++month > 12) {
        month = 1;
        ++year;
      }
    }
  }
  CHECK_FALSE(ParseInstant("yesterday").ok());
}

std::string Nested(const char* open, const char* close, int levels) {
  std::string text;
  for (int i = 0; i < levels; ++i) text += open;
  text += "1";
  for (int i = 0; i < levels; ++i) text += close;
  return text;
}

TEST_CASE("edn: depth 64 is read, depth 65 refused, and a million brackets or discards cost no stack") {
  for (const auto& [open, close] : std::vector<std::pair<const char*, const char*>>{
           {"[", "]"}, {"(", ")"}, {"#{", "}"}, {"{0 ", "}"}, {"#t ", ""}, {"#t[", "]"}}) {
    const int levels_each = std::string(open) == "#t[" ? 2 : 1;
    const int most = (kValueDepthMax - 1) / levels_each;
    const Value value = Read(Nested(open, close, most));
    CHECK(value.depth() == most * levels_each + 1);
    CHECK(Check(value).ok());
    CHECK(ErrorOf(Nested(open, close, most + 1)).find("values nest 64 deep at most") != std::string::npos);
    CHECK(ErrorOf(Nested(open, close, 1'000'000)).find("values nest 64 deep at most") != std::string::npos);
  }
  CHECK(Read(Nested("[", "]", 63)).depth() == 64);
  std::string empty = std::string(64, '[') + std::string(64, ']');
  CHECK(Read(empty).depth() == 64);
  std::string discards;
  for (int i = 0; i < 1'000'000; ++i) discards += "#_";
  CHECK(ErrorOf(discards).find("to discard") != std::string::npos);
  for (int i = 0; i < 1'000'000; ++i) discards += " 1";
  CHECK(ToEdn(Read(discards + " 2")) == "2");
  std::string hidden;  // a discard inside of a tag inside of a discard
  for (int i = 0; i < 100'000; ++i) hidden += "#inst #_";
  CHECK(ErrorOf(hidden).substr(0, 4) == "EDN ");
}

TEST_CASE("edn: the reader takes values one after another and tells where it is") {
  EdnReader reader("1 #_x ;c\n  [2\n3] :k #_ #_ a b");
  CHECK_FALSE(reader.AtEnd());
  CHECK(*reader.Next() == Value::Integer(1));
  CHECK(reader.position() == 1);
  CHECK_FALSE(reader.AtEnd());
  CHECK(reader.LineAndColumn() == std::pair<int, int>(2, 3));
  CHECK(ToEdn(*reader.Next()) == "[2 3]");
  CHECK(*reader.Next() == Value::Keyword("k"));
  CHECK(reader.AtEnd());

  EdnReader bad("1\n  [2 } 3");
  CHECK(bad.Next().ok());
  for (int i = 0; i < 2; ++i) {
    const auto error = bad.Next();
    CHECK_FALSE(error.ok());
    CHECK(bad.LineAndColumn() == std::pair<int, int>(2, 3));
  }
  EdnReader discard("1 #_");
  CHECK(discard.Next().ok());
  CHECK_FALSE(discard.AtEnd());
  CHECK_FALSE(discard.Next().ok());
  EdnReader nothing(" ,\n;c");
  CHECK(nothing.AtEnd());
  CHECK_FALSE(nothing.Next().ok());
}

TEST_CASE("edn: Check refuses what was built by hand and could not be read back, and says where") {
  const auto message = [](const Value& value) {
    const absl::Status status = Check(value);
    CHECK(status.code() == absl::StatusCode::kInvalidArgument);
    // Even so it can be measured and printed, for a log or an error.
    CHECK(ToEdn(value).size() == value.edn_size());
    return std::string(status.message().data(), status.message().size());
  };
  CHECK(message(Value::String("\xFF")) == "value.text: not UTF-8 (bytes are a type of their own)");
  CHECK(message(Value::Character(0xD800)) == "value.character: not a Unicode scalar value");
  CHECK(message(Value::Character(0x110000)) == "value.character: not a Unicode scalar value");
  CHECK(message(Value::Keyword("a b")) == "value.keyword: a name can't have a space or a comma");
  CHECK(message(Value::Keyword("")) == "value.keyword: the name is empty");
  CHECK(message(Value::Symbol("nil")) == "value.symbol: nil, true and false are no symbols");
  CHECK(message(Value::Symbol("1")) == "value.symbol: a name can't begin with a digit");
  CHECK(message(Value::Symbol("a\xFF")) == "value.symbol: the name is not UTF-8");
  CHECK(message(Value::BigInt("twelve")) == "value.bigint: a number begins with a digit");
  CHECK(message(Value::BigInt("1.5")) == "value.bigint: a bigint has a sign and digits only");
  CHECK(message(Value::Decimal("1M")) == "value.decimal: a decimal's digits stand without N or M");
  CHECK(message(Value::Tagged("inst", Value())) ==
        "value.tagged.tag: the tag has a meaning of its own: use that type");
  CHECK(message(Value::Tagged("-a", Value())) == "value.tagged.tag: a tag begins with a letter");
  CHECK(message(Value::OfInstant({lexical::kInstantSecondsMax + 1, 0})).find("years 0001 to 9999") !=
        std::string::npos);
  CHECK(message(Value::OfInstant({0, -1})).find("value.instant: ") == 0);
  CHECK(message(Value::OfInstant({INT64_MIN, INT32_MAX})).find("value.instant: ") == 0);
  const Value bad = Value::String("\xFF");
  CHECK(message(Value::OfVector({Value(), bad})).find("value.vector.items[1].text: ") == 0);
  CHECK(message(Value::List({bad})).find("value.list.items[0].text: ") == 0);
  CHECK(message(Value::OfSet(Set({Value(), bad}))).find("value.set.items[1].text: ") == 0);
  CHECK(message(Value::OfMap(Map({{Value(), Value()}, {bad, Value()}})))
            .find("value.map.entries[1].key.text: ") == 0);
  CHECK(message(Value::Tagged("t", Value::OfMap(Map({{Value(), bad}}))))
            .find("value.tagged.value.map.entries[0].value.text: ") == 0);
  Value deep;
  for (int i = 0; i < 64; ++i) deep = Value::OfVector({deep});
  CHECK(message(deep).find("values nest 64 deep at most") != std::string::npos);
  CHECK(Check(deep.items().at(0)).ok());
}

}  // namespace
}  // namespace stm
