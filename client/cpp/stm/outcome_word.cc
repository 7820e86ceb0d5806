#include "stm/outcome_word.h"

#include <cassert>
#include <charconv>
#include <cstdio>
#include <vector>

#include "absl/strings/str_cat.h"

namespace stm {
namespace {

constexpr size_t kIdDigits = 32;

std::string Hex(uint64_t n, int digits) {
  char text[17];
  std::snprintf(text, sizeof text, "%0*llx", digits, static_cast<unsigned long long>(n));
  return text;
}

// FNV-1a, folded to 16 bits.
std::string CheckOf(std::string_view text) {
  uint32_t hash = 2166136261u;
  for (char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 16777619u;
  return Hex((hash >> 16) ^ (hash & 0xffff), 4);
}

bool IsHex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); }

template <typename Integer>
bool Read(std::string_view text, int base, Integer* out) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out, base);
  return !text.empty() && error == std::errc() && end == text.data() + text.size();
}

absl::Status Wrong(std::string_view text, const char* what) {
  return absl::InvalidArgumentError(absl::StrCat("outcome word \"", absl::string_view(text.data(), text.size()), "\": ",
                                                 what, ": copy the whole word that the error printed"));
}

}  // namespace

std::string PrintOutcomeWord(const OutcomeWord& word) {
  std::string text;
  for (char c : word.transaction_id) {
    if (c != '-') text.push_back(c);
  }
  assert(text.size() == kIdDigits);
  absl::StrAppend(&text, ".", Hex(word.writer, 16), ".", word.seen_version, ".", Hex(word.store, 16));
  absl::StrAppend(&text, ".", CheckOf(text));
  return text;
}

absl::StatusOr<OutcomeWord> ParseOutcomeWord(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return Wrong(text, "empty");
  text = text.substr(first, text.find_last_not_of(kSpace) - first + 1);

  std::vector<std::string_view> parts;
  for (size_t at = 0;;) {
    size_t dot = text.find('.', at);
    parts.push_back(text.substr(at, dot == std::string_view::npos ? dot : dot - at));
    if (dot == std::string_view::npos) break;
    at = dot + 1;
  }
  if (parts.size() != 5) return Wrong(text, "expected five parts joined by dots");
  if (CheckOf(text.substr(0, text.size() - parts[4].size() - 1)) != parts[4]) {
    return Wrong(text, "its check (the last part) does not fit the rest");
  }
  OutcomeWord word;
  if (parts[0].size() != kIdDigits) return Wrong(text, "expected 32 digits of a transaction id");
  for (char c : parts[0]) {
    if (!IsHex(c)) return Wrong(text, "expected hexadecimal digits of a transaction id");
    size_t size = word.transaction_id.size();
    if (size == 8 || size == 13 || size == 18 || size == 23) word.transaction_id.push_back('-');
    word.transaction_id.push_back(c);
  }
  if (!Read(parts[1], 16, &word.writer)) return Wrong(text, "expected a writer in hexadecimal digits");
  if (!Read(parts[2], 10, &word.seen_version) || word.seen_version < 0) return Wrong(text, "expected a version");
  if (!Read(parts[3], 16, &word.store)) return Wrong(text, "expected a store in hexadecimal digits");
  return word;
}

}  // namespace stm
