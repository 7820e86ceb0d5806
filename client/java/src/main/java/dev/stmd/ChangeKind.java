package dev.stmd;

/** What a commit did to an entry. */
public enum ChangeKind {
  /** It was written. */
  SET,
  /** It was deleted. */
  DELETED,
  /** It was deleted by its TTL or its session's end. */
  EXPIRED,
  /** Only its definition changed: validator, TTL or session. */
  DEFINED
}
