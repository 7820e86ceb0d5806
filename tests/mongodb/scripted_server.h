// ScriptedServer speaks MongoDB's wire and answers what a test has it answer: errors that no server here
// gives, and a replica set's primary, which FerretDB is not. It keeps every command that it was sent. One
// thread makes it; `answer` comes from its own, one command at a time.
#ifndef STM_TESTS_MONGODB_SCRIPTED_SERVER_H_
#define STM_TESTS_MONGODB_SCRIPTED_SERVER_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace stm::mongodb {

enum class Role { kStandalone, kPrimary };

class ScriptedServer {
 public:
  // Commands and answers are extended JSON; {"ok": 1} is a success that says nothing. "" breaks the
  // connection. Handshakes are answered by the server itself.
  using Answer = std::function<std::string(const std::string& name, const std::string& command)>;
  ScriptedServer(Role role, Answer answer);
  ~ScriptedServer();

  std::string uri() const;
  // What it was asked, handshakes and goodbyes left out.
  std::vector<std::string> commands() const;

 private:
  class Rep;
  std::unique_ptr<Rep> rep_;
};

}  // namespace stm::mongodb

#endif  // STM_TESTS_MONGODB_SCRIPTED_SERVER_H_
