package dev.stmd;

import java.util.Optional;
import stmd.v1.Value;

/**
 * Keeps values of refs, each under a stamp that is used once, in this process: {@link Stm#offer}. Methods block, are called by
 * several threads at once, and may be called again with the same arguments, also late. The daemon gives a call up after its
 * container-timeout (10 s). Names are the daemon's: with the client's prefix. Values are the wire's, which lose nothing;
 * {@link Stm#mapper} makes them native. What is thrown reaches the caller of the transaction: a {@link ContainerException} by
 * its code, anything else as INTERNAL.
 */
public interface VersionedStateContainer {
  /**
   * A ref of this name is about to be kept here; may come again for one that is.
   *
   * @param name the ref
   * @throws Exception to refuse
   */
  void init(String name) throws Exception;

  /**
   * The ref was deleted: what is kept for the name itself may go, but nothing under a stamp.
   *
   * @param name the ref
   * @throws Exception to be called again
   */
  void destroy(String name) throws Exception;

  /**
   * What is kept under a stamp.
   *
   * @param name the ref
   * @param stamp at most 64 of a-z, 0-9 and "-"
   * @return empty: there is no such stamp
   * @throws Exception if it can't be read
   */
  Optional<Value> getStateAt(String name, String stamp) throws Exception;

  /**
   * As durable as its owner wants committed values to be, once it returns. The same stamp comes with the same value.
   *
   * @param name the ref
   * @param stamp at most 64 of a-z, 0-9 and "-"
   * @param value what is to be kept
   * @throws Exception if it can't be kept
   */
  void setStateAt(String name, String stamp, Value value) throws Exception;

  /**
   * Fine also when there is no such stamp.
   *
   * @param name the ref
   * @param stamp at most 64 of a-z, 0-9 and "-"
   * @throws Exception to be called again
   */
  void deleteStateAt(String name, String stamp) throws Exception;
}
