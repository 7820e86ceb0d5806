package dev.stmd;

/** A ref was used as an atom, or an atom as a ref. */
public final class WrongKindException extends StmException {
  private static final long serialVersionUID = 1L;

  WrongKindException(String message, Details details) {
    super(Reason.WRONG_KIND, message, details);
  }
}
