// Bounds and times of the server's own, beside engine::Options. Names are those of the settings and of errors.
#ifndef STM_SERVER_OPTIONS_H_
#define STM_SERVER_OPTIONS_H_

#include <cstdint>

#include "absl/time/time.h"

namespace stm::server {

// Calls in one PipelineRequest. Not a setting: clients are built for it.
inline constexpr int64_t kPipelineCallsMax = 1024;
// A commit's event is cut into messages of about this size.
inline constexpr int64_t kEventBytesMax = 1 << 20;
// Label, client and traceparent of a Meta together.
inline constexpr int64_t kMetaBytesMax = 1024;
inline constexpr int64_t kHistoryPageMax = 1000;
inline constexpr int64_t kHistoryPageDefault = 100;
// Values of one GetHistory answer; fewer commits come where they would pass it.
inline constexpr int64_t kHistoryBytesMax = 4 << 20;
inline constexpr absl::Duration kProgressMin = absl::Milliseconds(100);
// What a call that finds the daemon not ready, or stopping, is told to wait.
inline constexpr absl::Duration kRetryAfter = absl::Milliseconds(100);

struct ServerOptions {
  // Calls of one Pipeline that are unanswered or whose answers are unsent: past it the stream is not read on.
  int64_t pipeline_in_flight_max = 1024;
  // AwaitChange calls of one Pipeline at once; they wait, so they count apart.
  int64_t pipeline_awaits_max = 1024;
  // A Pipeline whose reader leaves this much unread, and for slow_reader_grace takes no message at all, is cut.
  int64_t pipeline_unread_answers_max = 1024;
  int64_t pipeline_unread_bytes_max = 4 << 20;
  absl::Duration slow_reader_grace = absl::Seconds(5);
  // A watch that falls further behind is cut at once.
  int64_t watch_unread_events_max = 1024;
  int64_t watch_unread_bytes_max = 4 << 20;
  int64_t log_readers_max = 64;
  int64_t offers_max = 64;
  int64_t backups_max = 4;
  // A backup's reader holds the history that its version needs; past this the backup is ended.
  int64_t backup_history_bytes_max = 1 << 30;
  absl::Duration drain_grace = absl::Seconds(10);
};

}  // namespace stm::server

#endif  // STM_SERVER_OPTIONS_H_
