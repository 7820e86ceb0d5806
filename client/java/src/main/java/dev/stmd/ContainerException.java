package dev.stmd;

import io.grpc.Status;

/** What a container's author throws to say more than "it failed". */
public final class ContainerException extends Exception {
  private static final long serialVersionUID = 1L;

  /** Why. */
  private final Status.Code code;

  /**
   * With a code of gRPC's.
   *
   * @param code UNAVAILABLE: ask again; PERMISSION_DENIED; RESOURCE_EXHAUSTED: it is full; ALREADY_EXISTS: another value is
   *     under the stamp; DATA_LOSS: what is kept can't be read
   * @param message what and where
   */
  public ContainerException(Status.Code code, String message) {
    super(message);
    this.code = code;
  }

  /** {@return the code} */
  public Status.Code code() {
    return code;
  }
}
