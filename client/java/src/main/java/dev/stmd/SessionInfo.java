package dev.stmd;

import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Optional;

/**
 * A session as an operator sees it.
 *
 * @param sessionId its id
 * @param client "host/program/pid"
 * @param ttl how long it outlives what was heard of its client
 * @param left until it expires if nothing is heard; empty: another daemon knows
 * @param daemon that has its lease
 * @param since when it was opened
 * @param locks that it holds, waits for, or awaits a condition of
 * @param entries bound to it
 */
public record SessionInfo(String sessionId, String client, Duration ttl, Optional<Duration> left, long daemon, Instant since,
    List<String> locks, List<String> entries) {}
