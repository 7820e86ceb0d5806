package dev.stmd;

import java.util.List;

/**
 * A lock as an operator sees it.
 *
 * @param name its name
 * @param holders who hold it
 * @param queue who wait, in order; the first 1000, and none in a listing
 * @param permitsMax 0: it is no semaphore
 * @param lastToken the last that was given
 */
public record LockInfo(String name, List<LockHold> holders, List<LockHold> queue, int permitsMax, long lastToken) {}
