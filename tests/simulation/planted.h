// The planted bugs, by the names of their flags.
#ifndef STM_TESTS_SIMULATION_PLANTED_H_
#define STM_TESTS_SIMULATION_PLANTED_H_

#include <map>
#include <string>

#include "tests/simulation/simulation.h"

namespace stm::sim {

// Of one kind of run; with `containers` those alone that have to do with them.
inline std::map<std::string, Planted> PlantedByName(Run::Kind kind, bool containers = false) {
  std::map<std::string, Planted> all;
  if (containers) {
    all["reuse_stamp"].engine.reuse_stamp = true;
    all["commit_failed_write"].engine.commit_failed_write = true;
    all["erase_early"].engine.erase_early = true;
    all["read_newest_stored"].engine.read_newest_stored = true;
    return all;
  }
  if (kind == Run::Kind::kCluster) {
    all["skip_chain_check"].zookeeper.skip_chain_check = true;
    all["keep_writers_open"].zookeeper.keep_writers_open = true;
    all["skip_epoch_check"].zookeeper.skip_epoch_check = true;
    all["share_places"].zookeeper.share_places = true;
    all["read_past_holes"].zookeeper.tail.read_past_holes = true;
    // Not trust_any_connection: it was caught by a daemon that never became ready, for another reason than
    // its own.
    all["barrier_by_head"].zookeeper.tail.barrier_by_head = true;
    // What the engine owes its store, or the others.
    all["skip_read_check"].engine.skip_read_check = true;
    all["skip_list_check"].engine.skip_list_check = true;
    all["ignore_ensures"].engine.ignore_ensures = true;
    all["conflict_before_install"].engine.conflict_before_install = true;
    all["read_newest"].engine.read_newest = true;
    all["forget_ids_on_recovery"].engine.forget_ids_on_recovery = true;
    all["newest_before_on_resume"].engine.newest_before_on_resume = true;
    all["lose_event_on_resume"].engine.lose_event_on_resume = true;
    all["lose_wakes"].engine.lose_wakes = true;
    all["keep_reservations"].engine.keep_reservations = true;
    all["expire_early"].leases.expire_early = true;
    all["answer_unsure"].leases.answer_unsure = true;
    return all;
  }
  all["skip_read_check"].engine.skip_read_check = true;
  all["skip_write_skew_check"].engine.skip_write_skew_check = true;
  all["skip_list_check"].engine.skip_list_check = true;
  all["ignore_ensures"].engine.ignore_ensures = true;
  all["check_operations"].engine.check_operations = true;
  all["apply_to_installed"].engine.apply_to_installed = true;
  all["skip_validators"].engine.skip_validators = true;
  all["skip_kinds"].engine.skip_kinds = true;
  all["lose_records"].engine.lose_records = true;
  all["read_newest"].engine.read_newest = true;
  all["expired_as_deleted"].engine.expired_as_deleted = true;
  all["answer_before_append"].engine.answer_before_append = true;
  all["conflict_before_install"].engine.conflict_before_install = true;
  all["serve_trimmed_history"].engine.serve_trimmed_history = true;
  all["forget_ids"].engine.forget_ids = true;
  all["forget_queued_ids"].engine.forget_queued_ids = true;
  all["forget_ids_on_recovery"].engine.forget_ids_on_recovery = true;
  all["forget_id_floor"].engine.forget_id_floor = true;
  all["too_old_is_conflict"].engine.too_old_is_conflict = true;
  all["lose_event_on_resume"].engine.lose_event_on_resume = true;
  all["newest_before_on_resume"].engine.newest_before_on_resume = true;
  all["keep_lost_memory"].engine.keep_lost_memory = true;
  all["keep_reservations"].engine.keep_reservations = true;
  all["lose_wakes"].engine.lose_wakes = true;
  all["early_ttl"].engine.early_ttl = true;
  all["skip_fences"].engine.skip_fences = true;
  all["token_reused"].locks.token_reused = true;
  all["waiter_dropped"].locks.waiter_dropped = true;
  all["expire_early"].leases.expire_early = true;
  all["skip_sync"].local.skip_sync = true;
  all["answer_before_write"].local.answer_before_write = true;
  all["snapshot_before_sync"].local.snapshot_before_sync = true;
  all["accept_torn_lines"].local.accept_torn_lines = true;
  all["cut_acknowledged_line"].local.cut_acknowledged_line = true;
  all["drop_uncovered_segments"].local.drop_uncovered_segments = true;
  all["drop_above_floor"].local.drop_above_floor = true;
  all["restore_before_sync"].local.restore_before_sync = true;
  all["shorten_log_reads"].local.shorten_log_reads = true;
  return all;
}

}  // namespace stm::sim

#endif  // STM_TESTS_SIMULATION_PLANTED_H_
