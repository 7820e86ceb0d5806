// Prints what is under a prefix, then each commit that changes it, until interrupted: watch [PREFIX/]
#include <iostream>

#include "stm/client.h"

absl::Status Follow(stm::Client& client, const std::string& prefix) {
  stm::WatchOptions options;
  options.initial = true;                                   // first all as it is, then each commit once
  return client.Watch(prefix, options, [](const stm::Commit& commit) {
    for (const stm::Change& c : commit.changes)             // one commit's changes together
      std::cout << commit.version << " " << c.name << " " << c.before << " -> " << c.after << std::endl;
    return true;                                            // false ends the watch
  });                                                       // before, after: optional<Value>; none: absent
}

int main(int argc, char** argv) {
  absl::StatusOr<stm::Client> client = stm::Connect();
  absl::Status status = client.ok() ? Follow(*client, argc > 1 ? argv[1] : "/config/") : client.status();
  std::cerr << status << std::endl;
  return 1;
}
