package dev.stmd;

import java.util.List;

/**
 * A run of a body that begins since the one before came to nothing.
 *
 * @param run its number; 2 is the first re-run
 * @param causes what changed meanwhile, and by whom
 * @param why when no entry is to blame: "snapshot-too-old", "store-changed"; else ""
 */
public record Rerun(int run, List<ConflictCause> causes, String why) {}
