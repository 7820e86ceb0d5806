// The user database of the second seed: each change is a tagged record, kept in the log with the commit that makes it.
// The state is there after a restart, and the records alone are enough to build it again, even by a new program:
//   user_database create NAME EMAIL | delete EMAIL | list | replay
#include <algorithm>
#include <chrono>
#include <iostream>
#include <string>
#include <vector>

#include "stm/client.h"

struct CreateUser { std::string name, email; stm::Instant start_date; };
struct DeleteUser { std::string email; stm::Instant remove_date; };
STM_RECORD(CreateUser, "blog.CreateUser", name, email, start_date);  // logs #blog.CreateUser{:name ...
STM_RECORD(DeleteUser, "blog.DeleteUser", email, remove_date);
using Users = std::vector<CreateUser>;

Users Update(Users us, const CreateUser& e) { us.push_back(e); return us; }
Users Update(Users us, const DeleteUser& e) {
  us.erase(std::remove_if(us.begin(), us.end(), [&](auto& u) { return u.email == e.email; }), us.end()); return us; }

template <class Event> absl::Status Save(stm::Client& c, stm::Ref<Users> users, const Event& e) {
  return c.Transact([&](stm::Tx& tx) { tx.Alter(users, [&](Users us) { return Update(us, e); }); tx.Record(e); }); }

Users Rebuild(stm::Client& c) {                             // after a restart users.Get() is there; or replay:
  Users us;
  for (auto& r : c.Records<CreateUser, DeleteUser>()) std::visit([&](auto& e) { us = Update(us, e); }, r.value);
  return us; }

namespace {

stm::Instant Now() {
  int64_t nanos = std::chrono::nanoseconds(std::chrono::system_clock::now().time_since_epoch()).count();
  return stm::Instant{nanos / 1000000000, static_cast<int32_t>(nanos % 1000000000)};
}

void Print(const Users& users) {
  for (const CreateUser& user : users) std::cout << stm::Encode(user) << "\n";
}

absl::Status Run(const std::vector<std::string>& args) {
  absl::StatusOr<stm::Client> client = stm::Connect();
  if (!client.ok()) return client.status();
  auto users = client->Ref<Users>("/blog/users", {});

  if (args.size() == 3 && args[0] == "create") return Save(*client, users, CreateUser{args[1], args[2], Now()});
  if (args.size() == 2 && args[0] == "delete") return Save(*client, users, DeleteUser{args[1], Now()});
  if (args.size() == 1 && args[0] == "list") {
    absl::StatusOr<Users> present = users.Get();
    if (!present.ok()) return present.status();
    Print(*present);
    return absl::OkStatus();
  }
  if (args.size() == 1 && args[0] == "replay") {
    Print(Rebuild(*client));
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError("usage: user_database create NAME EMAIL | delete EMAIL | list | replay");
}

}  // namespace

int main(int argc, char** argv) try {
  absl::Status status = Run(std::vector<std::string>(argv + 1, argv + argc));
  if (!status.ok()) std::cerr << status << std::endl;
  return status.ok() ? 0 : absl::IsInvalidArgument(status) ? 2 : 1;
} catch (const stm::StatusError& e) {  // of a replay that could not be read to its end
  std::cerr << e.status() << std::endl;
  return 1;
}
