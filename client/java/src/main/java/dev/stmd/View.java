package dev.stmd;

import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.function.Function;
import stmd.v1.GetRefsRequest;
import stmd.v1.GetRefsResponse;
import stmd.v1.ListRefsRequest;
import stmd.v1.ListRefsResponse;
import stmd.v1.ReadPoint;
import stmd.v1.Value;

/**
 * The past, at one version: as far as history is kept, else SnapshotTooOldException. Made by {@link Stm#at}. Any thread.
 */
public final class View {
  private final ClientCore core;
  private final long store; // the versions are of this one
  private final Instant instant;
  private volatile long version; // 0: not known yet

  View(ClientCore core, long version, Instant instant) {
    this.core = core;
    this.store = core.position().get().store();
    this.version = version;
    this.instant = instant;
  }

  /** {@return the version; of a moment 0, until something was read} */
  public long version() {
    return version;
  }

  /** The first answer settles the version for all later ones; until then one asks at a time. */
  private <R> R ask(Function<ReadPoint, R> ask, Function<R, Long> snapshot) {
    Transaction.checkOutside("reading a View");
    ReadPoint.Builder at = ReadPoint.newBuilder().setSeen(core.position().seenOf(store));
    if (version != 0 || instant == null) return ask.apply(at.setVersion(version).build());
    synchronized (this) {
      if (version != 0) return ask.apply(at.setVersion(version).build());
      R response = ask.apply(at.setInstant(Wire.instant(instant)).build());
      version = snapshot.apply(response);
      return response;
    }
  }

  private Value read(Handle<?> handle) {
    Names.checkName(handle.name);
    GetRefsResponse response = ask(at -> core.ask(out -> out.setGet(
        GetRefsRequest.newBuilder().addNames(core.names().full(handle.name)).setAt(at)), Call.until(null)).getGet(),
        GetRefsResponse::getSnapshot);
    if (response.getEntriesCount() != 1) {
      throw Errors.internal(handle.name + ": the daemon's answer lacks it: report this");
    }
    return Wire.entry(response.getEntries(0), core.names()).value();
  }

  /**
   * The value then.
   *
   * @param <T> its type
   * @param handle a ref or an atom
   * @return null: nil
   * @throws AbsentException if it was absent; the handle's init is of no account
   */
  public <T> T get(Handle<T> handle) {
    Value value = read(handle);
    if (value == null) throw Errors.absent(handle.name);
    return handle.decode(value);
  }

  /**
   * The value then, or nothing.
   *
   * @param <T> its type
   * @param handle a ref or an atom
   * @return empty: absent. Of nil BadValueException: {@link #getOr} tells them apart
   */
  public <T> Optional<T> find(Handle<T> handle) {
    Value value = read(handle);
    return value == null ? Optional.empty() : Optional.of(handle.notNil(handle.decode(value)));
  }

  /**
   * The value then, or another.
   *
   * @param <T> its type
   * @param handle a ref or an atom
   * @param otherwise what is returned if it was absent
   * @return null: nil
   */
  public <T> T getOr(Handle<T> handle, T otherwise) {
    Value value = read(handle);
    return value == null ? otherwise : handle.decode(value);
  }

  /**
   * Entries under a prefix then.
   *
   * @param prefix ends in "/"
   * @return in byte order of names
   */
  public List<Entry> list(String prefix) {
    List<Entry> entries = new ArrayList<>();
    for (Wire.Found found : pages(prefix, false)) {
      entries.add(new Entry(found.name(), Wire.decode(core.mapper(), found.value(), Object.class, found.name()), found.version(),
          found.isAtom()));
    }
    UnknownFields.take();
    return List.copyOf(entries);
  }

  /**
   * Names under a prefix then.
   *
   * @param prefix ends in "/"
   * @return in byte order
   */
  public List<String> names(String prefix) {
    return pages(prefix, true).stream().map(Wire.Found::name).toList();
  }

  private List<Wire.Found> pages(String prefix, boolean namesOnly) {
    Names.checkPrefix(prefix);
    List<Wire.Found> entries = new ArrayList<>();
    String token = "";
    do {
      String page = token;
      ListRefsResponse response = ask(at -> core.ask(out -> out.setList(
          ListRefsRequest.newBuilder().setPrefix(core.names().full(prefix)).setNamesOnly(namesOnly).setPageToken(page)
              .setAt(at)), Call.until(null)).getList(), ListRefsResponse::getSnapshot);
      for (stmd.v1.Entry message : response.getEntriesList()) entries.add(Wire.entry(message, core.names()));
      token = response.getNextPageToken();
    } while (!token.isEmpty());
    return entries;
  }
}
