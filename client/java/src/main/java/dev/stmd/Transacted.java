package dev.stmd;

import java.time.Duration;

/**
 * How a transaction went.
 *
 * @param label as its options gave it; "": none
 * @param runs how often its body ran
 * @param took from its call to its end, sleeps included
 * @param error what it ended by; null: it succeeded
 */
public record Transacted(String label, int runs, Duration took, Throwable error) {}
