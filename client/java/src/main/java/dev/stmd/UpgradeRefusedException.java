package dev.stmd;

/** Others read: release the shared hold before the exclusive one is acquired. */
public final class UpgradeRefusedException extends StmException {
  private static final long serialVersionUID = 1L;

  UpgradeRefusedException(String message, Details details) {
    super(Reason.UPGRADE_REFUSED, message, details);
  }
}
