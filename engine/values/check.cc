#include "engine/values/check.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/values/lexical.h"
#include "engine/values/map.h"
#include "engine/values/vector.h"

namespace stm {

bool Problem::In(std::string_view part, size_t index, std::string_view rest) {
  std::string whole(part);
  absl::StrAppend(&whole, "[", index, "]");
  whole += rest;
  return In(whole);
}

bool CheckLevel(int level, Problem* problem) {
  if (level <= kValueDepthMax) return true;
  return problem->Say(absl::StrCat("values nest ", kValueDepthMax, " deep at most"));
}

bool CheckValue(const Value& value, int level, Problem* problem) {
  if (!CheckLevel(level, problem)) return false;
  const auto check_text = [&](const char* part, const char* wrong) {
    if (wrong == nullptr) return true;
    problem->Say(wrong);
    return problem->In(part);
  };
  const auto check_digits = [&](const char* part, const char* wrong, const std::string& canonical) {
    if (wrong == nullptr && canonical == value.text()) return true;
    problem->Say(wrong != nullptr ? wrong : absl::StrCat("these digits are written ", canonical));
    return problem->In(part);
  };
  switch (value.type()) {
    case Type::kNil:
    case Type::kBoolean:
    case Type::kInteger:
    case Type::kDouble:
    case Type::kBytes:
    case Type::kUuid:
      return true;
    case Type::kBigInt: {
      std::string canonical;
      const char* wrong = lexical::CanonicalBigInt(value.text(), &canonical);
      return check_digits("bigint", wrong, canonical);
    }
    case Type::kDecimal: {
      std::string canonical;
      const char* wrong = lexical::CanonicalDecimal(value.text(), &canonical);
      return check_digits("decimal", wrong, canonical);
    }
    case Type::kCharacter:
      return check_text("character",
                        lexical::IsScalarValue(value.character()) ? nullptr : "not a Unicode scalar value");
    case Type::kString:
      return check_text(
          "text", lexical::IsUtf8(value.text()) ? nullptr : "not UTF-8 (bytes are a type of their own)");
    case Type::kKeyword:
      return check_text("keyword", lexical::KeywordProblem(value.text()));
    case Type::kSymbol:
      return check_text("symbol", lexical::SymbolProblem(value.text()));
    case Type::kInstant:
      return check_text("instant",
                        lexical::IsInstant(value.instant())
                            ? nullptr
                            : "an instant is within the years 0001 to 9999, with 0 to 999999999 nanoseconds");
    case Type::kList:
    case Type::kVector: {
      size_t i = 0;
      for (const Value& item : value.items()) {
        if (!CheckValue(item, level + 1, problem)) {
          return problem->In(value.is(Type::kList) ? "list.items" : "vector.items", i);
        }
        ++i;
      }
      return true;
    }
    case Type::kMap: {
      size_t i = 0;
      for (const auto [key, mapped] : value.map()) {
        if (!CheckValue(key, level + 1, problem)) return problem->In("map.entries", i, ".key");
        if (!CheckValue(mapped, level + 1, problem)) return problem->In("map.entries", i, ".value");
        ++i;
      }
      return true;
    }
    case Type::kSet: {
      size_t i = 0;
      for (const Value& item : value.set()) {
        if (!CheckValue(item, level + 1, problem)) return problem->In("set.items", i);
        ++i;
      }
      return true;
    }
    case Type::kTagged:
      if (!check_text("tagged.tag", lexical::TagProblem(value.text()))) return false;
      if (!CheckValue(value.tagged_value(), level + 1, problem)) return problem->In("tagged.value");
      return true;
  }
  return true;
}

}  // namespace stm
