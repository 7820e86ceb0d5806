#include "server/http.h"

#include <httplib.h>

#include <chrono>
#include <future>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "backends/zookeeper/coordinator.h"

namespace stm::server {
namespace {

constexpr std::chrono::seconds kPatience(5);
constexpr size_t kThreads = 2;
constexpr size_t kRequestBytesMax = 64 << 10;

// What `ask` tells, or nullopt after kPatience. `ask` gets a promise that outlives this call.
template <typename T, typename Ask>
std::optional<T> Wait(Ask ask) {
  auto promise = std::make_shared<std::promise<T>>();
  std::future<T> future = promise->get_future();
  ask(std::move(promise));
  if (future.wait_for(kPatience) != std::future_status::ready) return std::nullopt;
  return future.get();
}

void Text(httplib::Response& response, int status, const std::string& text) {
  response.status = status;
  response.set_content(text, "text/plain; charset=utf-8");
}

std::optional<engine::Status> StatusOf(Node* node) {
  return Wait<engine::Status>([node](std::shared_ptr<std::promise<engine::Status>> promise) {
    node->loop->Post([node, promise = std::move(promise)] { promise->set_value(node->GetStatus()); });
  });
}

constexpr char kStuck[] = "the Loop did not run a task within 5 s\n";

}  // namespace

struct Http::Server {
  httplib::Server http;
  std::thread thread;
};

Http::Http() : server_(std::make_unique<Server>()) {}

absl::StatusOr<std::unique_ptr<Http>> Http::Start(Node* node, const std::string& address) {
  const std::optional<Address> parsed = ParseAddress(address);
  if (!parsed)
    return absl::InvalidArgumentError(absl::StrCat("http: ", address, ": expected host:port, or off"));
  const std::string& host = parsed->host;
  int port = parsed->port;

  std::unique_ptr<Http> http(new Http);
  httplib::Server& server = http->server_->http;
  server.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
  server.set_payload_max_length(kRequestBytesMax);
  server.set_read_timeout(kPatience);
  server.set_write_timeout(kPatience);
  server.set_keep_alive_timeout(1);
  // Not SO_REUSEPORT: two daemons must not share a port.
  server.set_socket_options([](socket_t socket) {
    const int on = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  });
  server.Get("/livez", [node](const httplib::Request&, httplib::Response& response) {
    const bool ticks = Wait<bool>([node](std::shared_ptr<std::promise<bool>> promise) {
                         node->loop->Post([promise = std::move(promise)] { promise->set_value(true); });
                       }).has_value();
    Text(response, ticks ? 200 : 503, ticks ? "ok\n" : kStuck);
  });
  server.Get("/readyz", [node](const httplib::Request&, httplib::Response& response) {
    const std::optional<engine::Status> status = StatusOf(node);
    if (!status) return Text(response, 503, kStuck);
    if (!status->ready)
      return Text(response, 503, absl::StrCat("not ready: ", status->not_ready_because, "\n"));
    if (!node->serving.load()) return Text(response, 503, "not ready: not listening yet\n");
    // A read of nothing takes a Barrier.
    const auto read = Wait<absl::Status>([node](std::shared_ptr<std::promise<absl::Status>> promise) {
      node->loop->Post([node, promise = std::move(promise)] {
        node->engine->Get(engine::GetRequest(), [promise](absl::StatusOr<engine::GetResult> result) {
          promise->set_value(result.status());
        });
      });
    });
    if (!read) return Text(response, 503, "not ready: a read did not come back within 5 s\n");
    if (!read->ok()) return Text(response, 503, absl::StrCat("not ready: ", read->message(), "\n"));
    Text(response, 200, "ok\n");
  });
  server.Get("/metrics", [node](const httplib::Request&, httplib::Response& response) {
    struct Seen {
      engine::Status status;
      LockStats locks;
      std::optional<OverZooKeeperStats> over;
      std::vector<ContainerState> containers;
    };
    const auto seen = Wait<Seen>([node](std::shared_ptr<std::promise<Seen>> promise) {
      node->loop->Post([node, promise = std::move(promise)] {
        Seen now{node->GetStatus(), {}, std::nullopt, node->Containers()};
        now.locks = {node->leases->sessions(), node->leases->expired(), node->locks->waiting()};
        if (node->cluster != nullptr) now.over = {node->cluster->holes(), node->cluster->archive_stats()};
        promise->set_value(std::move(now));
      });
    });
    if (!seen) return Text(response, 503, kStuck);
    response.set_content(node->metrics.Print(seen->status, seen->locks, node->LogMark(), seen->over, seen->containers),
                         "text/plain; version=0.0.4");
  });
  server.set_error_handler([](const httplib::Request&, httplib::Response& response) {
    if (response.status == 404) Text(response, 404, "there are /livez, /readyz and /metrics\n");
  });

  const bool bound = port == 0 ? (port = server.bind_to_any_port(host.c_str())) > 0
                               : server.bind_to_port(host.c_str(), port);
  if (!bound) {
    return absl::UnavailableError(absl::StrCat(
        "http: ", address, ": can't be bound: is another daemon there, or is the address not ours?"));
  }
  http->address_ = absl::StrCat(parsed->written_host, ":", port);
  http->server_->thread = std::thread([&server] { server.listen_after_bind(); });
  return http;
}

void Http::Stop() {
  if (!server_->thread.joinable()) return;
  // A stop before the accept loop has begun would be forgotten.
  while (!server_->http.is_running()) std::this_thread::yield();
  server_->http.stop();
  server_->thread.join();
}

Http::~Http() { Stop(); }

}  // namespace stm::server
