package dev.stmd;

import java.time.Instant;

/**
 * A record, as a transaction attached it by {@link Tx#record}.
 *
 * @param <T> what it is here
 * @param version of its commit
 * @param at when
 * @param transactionId of its commit
 * @param by who and why
 * @param value the record
 */
public record Recorded<T>(long version, Instant at, String transactionId, Meta by, T value) {}
