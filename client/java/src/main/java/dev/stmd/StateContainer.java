package dev.stmd;

import java.util.Optional;
import stmd.v1.Value;

/**
 * Keeps copies of atoms in this process: the commits have the values themselves. As {@link VersionedStateContainer} else.
 */
public interface StateContainer {
  /**
   * An atom of this name is about to be kept here; may come again for one that is.
   *
   * @param name the atom
   * @throws Exception to refuse
   */
  void init(String name) throws Exception;

  /**
   * The atom was deleted: a state of an older version goes, a newer one stays.
   *
   * @param name the atom
   * @param version of the commit that deleted it
   * @throws Exception to be called again
   */
  void destroy(String name, long version) throws Exception;

  /**
   * What is kept.
   *
   * @param name the atom
   * @return empty: it has none
   * @throws Exception if it can't be read
   */
  Optional<Value> getState(String name) throws Exception;

  /**
   * One whose version is below what is there already changes nothing.
   *
   * @param name the atom
   * @param value what is to be kept
   * @param version of the commit that made it so; grows
   * @throws Exception if it can't be kept
   */
  void setState(String name, Value value, long version) throws Exception;
}
