package dev.stmd;

/**
 * What stood in a commit's way.
 *
 * @param name an entry, or a prefix that was listed
 * @param version of the commit that changed it
 * @param by who and why
 */
public record ConflictCause(String name, long version, Meta by) {}
