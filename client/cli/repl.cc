// repl: stmctl's commands and EDN forms, a line each, with editing, history and completion on a terminal (libedit).
#include <editline/readline.h>
#include <sys/stat.h>

#include <cstdlib>
#include <cstring>
#include <istream>
#include <optional>
#include <ostream>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/app.h"
#include "client/cli/commands.h"
#include "engine/operation.h"
#include "engine/values/edn.h"
#include "engine/values/wire.h"
#include "stm/v1/value.pb.h"

namespace stm::cli {
namespace {

constexpr int kHistoryLines = 1000;
// Of a form that goes on over lines.
constexpr size_t kFormBytesMax = 8 << 20;

constexpr char kHelp[] =
    "@\"/r0\"                                 its value\n"
    "(alter \"/r0\" (add 1))                  one operation; its result\n"
    "(ref-set \"/r0\" 1)                      sets it\n"
    "(dosync (ref-set \"/a\" 1) (alter \"/n\" (add 1)) (delete \"/b\"))   one commit\n"
    "get /r0 --meta                         any command of stmctl: see help\n"
    "exit                                   so does the end of the input\n";

// Words that complete a line's last one. libedit asks by a plain function: there is one repl in a process.
std::set<std::string>* g_words = nullptr;

char* NextWord(const char* text, int state) {
  static std::set<std::string>::const_iterator at;
  if (state == 0) at = g_words->lower_bound(text);
  if (at == g_words->end() || at->compare(0, std::string(text).size(), text) != 0) return nullptr;
  return strdup((at++)->c_str());
}

char** Complete(const char* text, int, int) { return rl_completion_matches(text, NextWord); }

// As a POSIX shell splits them: quotes of both kinds, and backslashes outside single ones.
absl::StatusOr<std::vector<std::string>> WordsOf(const std::string& line) {
  std::vector<std::string> words;
  std::optional<std::string> word;
  char quote = 0;
  for (size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (c == '\\' && quote != '\'' && i + 1 < line.size()) {
      word = word.value_or("") + line[++i];
    } else if (quote != 0) {
      if (c == quote) {
        quote = 0;
      } else {
        *word += c;
      }
    } else if (c == '\'' || c == '"') {
      quote = c;
      word = word.value_or("");
    } else if (c == ' ' || c == '\t') {
      if (word) words.push_back(*std::move(word));
      word.reset();
    } else {
      word = word.value_or("") + c;
    }
  }
  if (quote != 0) return absl::InvalidArgumentError(absl::StrCat("a ", std::string(1, quote), " is not closed"));
  if (word) words.push_back(*std::move(word));
  return words;
}

// Do brackets and strings still wait for their ends?
bool IsOpen(const std::string& form) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < form.size(); ++i) {
    const char c = form[i];
    if (c == '\\') {
      ++i;
    } else if (c == '"') {
      in_string = !in_string;
    } else if (!in_string) {
      if (c == '(' || c == '[' || c == '{') ++depth;
      if (c == ')' || c == ']' || c == '}') --depth;
    }
  }
  return depth > 0 || in_string;
}

// (alter "/n" (add 1)), (ref-set "/a" 1), (delete "/a") as a write of a ref.
absl::StatusOr<v1::Write> WriteOf(const Value& form) {
  const auto wanted = [&] {
    return absl::InvalidArgumentError(absl::StrCat(
        "found ", engine::Excerpt(form), ", expected (alter \"/n\" (add 1)), (ref-set \"/a\" 1) or (delete \"/a\")"));
  };
  if (!form.is(Type::kList) || form.items().size() < 2) return wanted();
  const Vector& items = form.items();
  if (!items.at(0).is(Type::kSymbol) || !items.at(1).is(Type::kString)) return wanted();
  const std::string& verb = items.at(0).text();
  v1::Write write;
  write.set_name(items.at(1).text());
  absl::Status named = CheckNames({write.name()});
  if (!named.ok()) return named;
  write.set_kind(v1::ENTRY_KIND_REF);
  if (verb == "delete" && items.size() == 2) {
    write.set_delete_entry(true);
  } else if (verb == "ref-set" && items.size() == 3) {
    ToProto(items.at(2), write.mutable_set());
  } else if (verb == "alter" && items.size() == 3) {
    absl::StatusOr<engine::Operation> operation = engine::OperationFromEdnForm(items.at(2));
    if (!operation.ok()) return operation.status();
    engine::ToProto(*operation, write.mutable_apply());
  } else {
    return wanted();
  }
  return write;
}

absl::Status Evaluate(Shell& shell, const std::string& text) {
  if (text[0] == '@') {
    absl::StatusOr<Value> name = ReadEdn(text.substr(1));
    if (!name.ok()) return name.status();
    if (!name->is(Type::kString)) return absl::InvalidArgumentError("expected @\"/name\"");
    GetOptions get;
    get.names = {name->text()};
    return Get(shell, get);
  }
  absl::StatusOr<Value> form = ReadEdn(text);
  if (!form.ok()) return form.status();
  std::vector<Value> forms{*form};
  const bool several = form->is(Type::kList) && form->items().size() > 0 && form->items().at(0) == Value::Symbol("dosync");
  if (several) {
    forms.clear();
    for (size_t i = 1; i < form->items().size(); ++i) forms.push_back(form->items().at(i));
    if (forms.empty()) return absl::InvalidArgumentError("(dosync): nothing to do");
  }
  v1::CommitRequest request;
  for (const Value& one : forms) {
    absl::StatusOr<v1::Write> write = WriteOf(one);
    if (!write.ok()) return write.status();
    *request.add_writes() = *std::move(write);
  }
  absl::StatusOr<v1::Committed> committed = shell.Commit(std::move(request));
  if (!committed.ok()) return committed.status();
  if (!several && committed->results_size() == 1 && committed->results(0).kind_case() != v1::Value::KIND_NOT_SET) {
    absl::StatusOr<Value> result = ValueOf(committed->results(0));
    if (!result.ok()) return result.status();
    shell.printer().Print(*result);
  } else {
    shell.printer().Print(Value::Integer(committed->version()));
  }
  return absl::OkStatus();
}

class Lines {
 public:
  Lines(Io& io, std::set<std::string> words) : io_(io), words_(std::move(words)) {
    if (!terminal()) return;
    g_words = &words_;
    rl_readline_name = "stmctl";
    rl_initialize();
    rl_attempted_completion_function = Complete;
    using_history();
    stifle_history(kHistoryLines);
    if (const char* home = std::getenv("HOME")) file_ = absl::StrCat(home, "/.stmctl_history");
    if (!file_.empty()) read_history(file_.c_str());
  }
  ~Lines() {
    if (!terminal()) return;
    if (!file_.empty() && write_history(file_.c_str()) == 0) chmod(file_.c_str(), 0600);  // it may hold values
    g_words = nullptr;
  }

  // False: the input has ended.
  bool Next(const char* prompt, std::string* line) {
    if (!terminal()) return static_cast<bool>(std::getline(io_.in, *line));
    io_.out.flush();
    char* read = readline(prompt);
    if (read == nullptr) return false;
    *line = read;
    std::free(read);
    return true;
  }
  void Remember(const std::string& line) {
    if (terminal() && !line.empty()) add_history(line.c_str());
    for (size_t at = line.find('/'); at != std::string::npos; at = line.find('/', at + 1)) {
      if (at > 0 && line[at - 1] != ' ' && line[at - 1] != '"') continue;
      words_.insert(line.substr(at, line.find_first_of(" \")", at) - at));
    }
  }

 private:
  bool terminal() const { return io_.in_is_terminal && io_.out_is_terminal; }

  Io& io_;
  std::set<std::string> words_;
  std::string file_;
};

}  // namespace

absl::Status Repl(Shell& shell, const std::vector<std::string>& globals, const std::vector<std::string>& commands) {
  Io& io = shell.io();
  std::set<std::string> words(commands.begin(), commands.end());
  words.insert({"(alter", "(ref-set", "(delete", "(dosync", "exit"});
  Lines lines(io, std::move(words));
  absl::Status failed;
  std::string text;
  while (lines.Next("stm> ", &text)) {
    text.erase(0, text.find_first_not_of(" \t"));
    text.erase(text.find_last_not_of(" \t\r") + 1);
    if (text.empty() || text[0] == ';' || text[0] == '#') continue;
    const bool form = text[0] == '(' || text[0] == '@';
    std::string more;
    while (form && IsOpen(text) && text.size() < kFormBytesMax && lines.Next("...> ", &more)) text += "\n" + more;
    lines.Remember(text);
    if (text == "exit" || text == "quit") break;
    if (form) {
      absl::Status status = Evaluate(shell, text);
      shell.printer().Finish();
      if (status.ok()) status = shell.Flush();
      if (status.ok()) continue;
      io.err << "stmctl: " << Explain(status) << std::endl;
      failed = absl::Status(status.code(), "a line before failed");
      continue;
    }
    absl::StatusOr<std::vector<std::string>> arguments = WordsOf(text);
    if (!arguments.ok()) {
      io.err << "stmctl: " << arguments.status().message() << std::endl;
      failed = absl::InvalidArgumentError("a line before failed");
      continue;
    }
    if (arguments->front() == "repl") continue;
    if (text == "help") io.out << kHelp << "\n";
    arguments->insert(arguments->begin(), globals.begin(), globals.end());
    if (Run(*std::move(arguments), io) != kOk) failed = absl::UnknownError("a line before failed");
  }
  // At a terminal each was seen; a script must know.
  return io.in_is_terminal ? absl::OkStatus() : failed;
}

}  // namespace stm::cli
