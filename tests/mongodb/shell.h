// Shell is a plain client of MongoDB: its own library and nothing of ours. Aborts when it is refused. One
// thread.
#ifndef STM_TESTS_MONGODB_SHELL_H_
#define STM_TESTS_MONGODB_SHELL_H_

#include <memory>
#include <string>
#include <vector>

namespace stm::mongodb {

class Shell {
 public:
  // Of the URI's database.
  explicit Shell(const std::string& uri);
  ~Shell();

  // Documents as relaxed extended JSON, as MongoDB's shell shows them, in order of _id.
  std::vector<std::string> Find(const std::string& collection, const std::string& filter = "{}");
  void Insert(const std::string& collection, const std::string& document);
  // Fields of the document of this _id, as an update's $set.
  void Set(const std::string& collection, const std::string& id, const std::string& fields);
  void DropDatabase();

 private:
  class Rep;
  std::unique_ptr<Rep> rep_;
};

}  // namespace stm::mongodb

#endif  // STM_TESTS_MONGODB_SHELL_H_
