package dev.stmd;

import java.time.Instant;

/**
 * What a transaction was when it was durable.
 *
 * @param version its place in the commit order; 0: it only read, and had nothing to commit
 * @param at when; the epoch if nothing was committed
 * @param transactionId "" if nothing was committed
 * @param repeated a {@code once} key was spent already: the version is the first call's
 * @param resends how often, over all runs, it was sent again under the same id since no answer had come
 */
public record Committed(long version, Instant at, String transactionId, boolean repeated, long resends) {}
