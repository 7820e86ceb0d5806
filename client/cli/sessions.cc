// session: who has what for as long as its beats come.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"
#include "stm/client.h"

namespace stm::cli {
namespace {

Value Milliseconds(absl::Duration duration) { return Value::Integer(absl::ToInt64Milliseconds(duration)); }

Value Names(const std::vector<std::string>& names) {
  std::vector<Value> values;
  for (const std::string& name : names) values.push_back(Value::String(name));
  return Value::OfVector(std::move(values));
}

Fields SessionFields(const Printer& printer, const SessionInfo& session) {
  Fields row{{"session", printer.Plain(session.session_id)},
             {"client", Value::String(session.client)},
             {"ttl-ms", Milliseconds(session.ttl)}};
  if (session.left) row.emplace_back("left-ms", Milliseconds(*session.left));
  row.emplace_back("since", Value::OfInstant(session.since));
  row.emplace_back("locks", Names(session.locks));
  row.emplace_back("entries", Names(session.entries));
  return row;
}

absl::StatusOr<SessionInfo> Find(const Client& client, const std::string& id) {
  absl::StatusOr<std::vector<SessionInfo>> sessions = client.Sessions();
  if (!sessions.ok()) return sessions.status();
  auto found = std::find_if(sessions->begin(), sessions->end(),
                            [&](const SessionInfo& session) { return session.session_id == id; });
  if (found != sessions->end()) return *found;
  return absl::NotFoundError(
      absl::StrCat(id, ": there is no such session, or no more: see all with: stmctl session list"));
}

}  // namespace

absl::Status SessionList(Shell& shell) {
  absl::StatusOr<Client> client = shell.NewClient();
  if (!client.ok()) return client.status();
  absl::StatusOr<std::vector<SessionInfo>> sessions = client->Sessions();
  if (!sessions.ok()) return sessions.status();
  for (const SessionInfo& session : *sessions) shell.printer().Row(SessionFields(shell.printer(), session));
  return absl::OkStatus();
}

absl::Status SessionShow(Shell& shell, const std::string& id) {
  absl::StatusOr<Client> client = shell.NewClient();
  if (!client.ok()) return client.status();
  absl::StatusOr<SessionInfo> session = Find(*client, id);
  if (!session.ok()) return session.status();
  shell.printer().Sheet(SessionFields(shell.printer(), *session));
  return absl::OkStatus();
}

absl::Status SessionExpire(Shell& shell, const std::string& id) {
  absl::StatusOr<Client> client = shell.NewClient();
  if (!client.ok()) return client.status();
  absl::StatusOr<SessionInfo> session = Find(*client, id);
  if (!session.ok()) return session.status();
  absl::Status status = client->ExpireSession(id, shell.globals().label);
  if (!status.ok()) return status;
  shell.printer().Print(shell.printer().Word("expired"));
  return absl::OkStatus();
}

}  // namespace stm::cli
