package dev.stmd;

import java.time.Instant;
import java.util.List;

/**
 * One commit, whole: as watches and histories show it.
 *
 * @param version its place in the commit order
 * @param at when
 * @param transactionId "": committed without an id
 * @param by who and why
 * @param changes those that were selected
 * @param records what its transaction recorded
 * @param initial it is no commit, but all that is there at {@code version}: what was known before is void
 */
public record Commit(
    long version, Instant at, String transactionId, Meta by, List<Change> changes, List<Object> records, boolean initial) {}
