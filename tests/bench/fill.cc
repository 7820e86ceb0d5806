#include "tests/bench/fill.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "stm/v1/transaction_service.grpc.pb.h"
#include "tests/bench/call.h"
#include "tests/bench/load.h"
#include "tests/bench/process.h"

namespace stm::bench {
namespace {

constexpr int64_t kRefsADirectory = 1000;

// What all callers have to do between them.
struct Work {
  std::string prefix;
  int64_t refs = 0;
  Known known;
  std::atomic<int64_t> next{0};
  std::atomic<int64_t> bytes{0};
  std::atomic<int> callers{0};
};

// Takes the next refs, creates them in one commit, and again, until there are none.
class Filler {
 public:
  Filler(const std::string& address, Work* work)
      : work_(work), stub_(wire::TransactionService::NewStub(MakeChannel(address))) {
    work_->callers.fetch_add(1);
  }

  void Begin() {
    const int64_t first = work_->next.fetch_add(kRefsACommit);
    if (first >= work_->refs) {
      work_->callers.fetch_sub(1, std::memory_order_release);
      return;
    }
    request_.clear_writes();
    int64_t bytes = 0;
    for (int64_t number = first; number < std::min(first + kRefsACommit, work_->refs); ++number) {
      wire::Write* write = request_.add_writes();
      write->set_name(absl::StrCat(work_->prefix, RefName(number)));
      write->set_kind(wire::ENTRY_KIND_REF);
      write->mutable_create()->set_text(absl::StrFormat("%0*d", kValueBytes, number));
      bytes += static_cast<int64_t>(write->name().size()) + kValueBytes;
    }
    work_->bytes.fetch_add(bytes);
    ids_.Next(work_->known, request_.mutable_id());
    Ready(&context_);
    stub_->async()->Commit(&*context_, &request_, &response_, [this](const grpc::Status& status) {
      CheckOk(status, "Commit");
      work_->known.Learn(VersionOf(response_, "fill"));
      Begin();
    });
  }

 private:
  Work* const work_;
  const std::unique_ptr<wire::TransactionService::Stub> stub_;
  Ids ids_;
  std::optional<grpc::ClientContext> context_;
  wire::CommitRequest request_;
  wire::CommitResponse response_;
};

}  // namespace

std::string RefName(int64_t number) {
  return absl::StrFormat("%sday-%04d/order-%07d", kFilledDirectory, number / kRefsADirectory, number);
}

int64_t Fill(const std::string& address, const std::string& prefix, int64_t refs, int in_flight) {
  Work work;
  work.prefix = prefix;
  work.refs = refs;
  work.known.Ask(MakeChannel(address));
  std::vector<std::unique_ptr<Filler>> fillers;
  for (int i = 0; i < in_flight; ++i) fillers.push_back(std::make_unique<Filler>(address, &work));
  for (const auto& filler : fillers) filler->Begin();
  while (work.callers.load(std::memory_order_acquire) > 0) SleepSeconds(0.001);
  return work.bytes.load();
}

}  // namespace stm::bench
