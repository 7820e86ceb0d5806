package dev.stmd;

import java.time.Instant;

/**
 * One who holds a lock, or waits for it.
 *
 * @param sessionId of its client
 * @param owner "": the client itself
 * @param mode how
 * @param token what a fence names; 0: it waits
 * @param holds how often
 * @param permits of a semaphore
 * @param since when it was granted, or began to wait
 */
public record LockHold(String sessionId, String owner, LockMode mode, long token, int holds, int permits, Instant since) {}
