package dev.stmd;

/**
 * What one commit did to one entry.
 *
 * @param name the entry
 * @param kind what was done
 * @param before the value before; null is nil, {@link Stm#ABSENT}: there was none, or it is not known
 * @param after the value after; null is nil, {@link Stm#ABSENT}: there is none
 * @param beforeUnknown the value before can't be had: history was trimmed, or another daemon's commit does not tell it
 * @param isAtom whether it is an atom
 */
public record Change(String name, ChangeKind kind, Object before, Object after, boolean beforeUnknown, boolean isAtom) {}
