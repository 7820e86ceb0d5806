package dev.stmd;

import stmd.v1.Header;
import stmd.v1.Seen;

/**
 * What the client knows of the daemon's time: the store, the writer that new ids name, and the newest version in any
 * answer. Seen only grows within one store; another store is only taken by {@link #adopt}. Any thread.
 */
final class Position {
  record Known(long store, long writer, long seen) {}

  private volatile Known known = new Known(0, 0, 0);

  Known get() {
    return known;
  }

  Seen seen() {
    Known now = known;
    return Seen.newBuilder().setVersion(now.seen).setStore(now.store).build();
  }

  /** Seen, of versions of this store. */
  Seen seenOf(long store) {
    return Seen.newBuilder().setVersion(known.seen).setStore(store).build();
  }

  /** Of an answer on the connection that is in use. Headers of another store are ignored. */
  void observe(Header header) {
    Known now = known;
    if (header.getStore() != now.store) return;
    boolean newWriter = header.getWriter() != 0 && header.getWriter() != now.writer;
    if (header.getInstalledVersion() > now.seen || newWriter) take(header, false);
  }

  void observe(long store, long version) {
    Known now = known;
    if (store != now.store || version <= now.seen) return;
    synchronized (this) {
      now = known;
      if (store == now.store) known = new Known(store, now.writer, Math.max(now.seen, version));
    }
  }

  /** Of a new connection, or of an answer STORE_CHANGED: versions of another store mean nothing any more. */
  void adopt(Header header) {
    take(header, true);
  }

  private synchronized void take(Header header, boolean adopt) {
    Known now = known;
    if (header.getStore() != now.store) {
      if (!adopt) return;
      now = new Known(header.getStore(), 0, 0);
    }
    known = new Known(now.store, header.getWriter() != 0 ? header.getWriter() : now.writer,
        Math.max(now.seen, header.getInstalledVersion()));
  }
}
