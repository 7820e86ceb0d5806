// Two queues of jobs, one of them urgent. A worker with nothing to do sleeps in the daemon until a job comes:
//   job_queue put [urgent] JOB | take
#include <iostream>
#include <string>
#include <vector>

#include "stm/client.h"

using Queue = stm::Ref<std::vector<std::string>>;

std::string Take(stm::Tx& tx, const Queue& queue) {
  std::vector<std::string> jobs = tx.Get(queue);
  if (jobs.empty()) tx.Retry();                             // sleep until queue changes, then run again
  tx.Set(queue, {jobs.begin() + 1, jobs.end()});
  return jobs.front();
}

absl::StatusOr<std::string> Next(stm::Client& client, const Queue& urgent, const Queue& normal) {
  return client.Transact([&](stm::Tx& tx) {
    return tx.OrElse([&] { return Take(tx, urgent); }, [&] { return Take(tx, normal); });
  });
}

int main(int argc, char** argv) {
  std::vector<std::string> args(argv + 1, argv + argc);
  absl::StatusOr<stm::Client> client = stm::Connect();
  if (!client.ok()) {
    std::cerr << client.status() << std::endl;
    return 1;
  }
  Queue urgent = client->Ref<std::vector<std::string>>("/jobs/urgent", {});
  Queue normal = client->Ref<std::vector<std::string>>("/jobs/normal", {});
  absl::Status status;
  if (args.size() >= 2 && args[0] == "put") {
    const Queue& queue = args.size() > 2 && args[1] == "urgent" ? urgent : normal;
    status = client->Transact([&](stm::Tx& tx) { tx.Commute(queue, stm::Conj(args.back())); });  // never conflicts
  } else if (args.size() == 1 && args[0] == "take") {
    absl::StatusOr<std::string> job = Next(*client, urgent, normal);
    if (job.ok()) std::cout << *job << std::endl;
    status = job.status();
  } else {
    std::cerr << "usage: job_queue put [urgent] JOB | take" << std::endl;
    return 2;
  }
  if (!status.ok()) std::cerr << status << std::endl;
  return status.ok() ? 0 : 1;
}
