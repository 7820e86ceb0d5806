package dev.stmd;

/**
 * An entry of one snapshot.
 *
 * @param name its name
 * @param value null is nil
 * @param version of the commit that wrote it; 0: not committed yet
 * @param isAtom whether it is an atom
 */
public record Entry(String name, Object value, long version, boolean isAtom) {}
