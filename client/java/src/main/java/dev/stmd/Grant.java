package dev.stmd;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.locks.ReentrantLock;

/** What a Held shares with the session that may lose it. Any thread. */
final class Grant {
  private final Lease lease;
  private final String lock; // as the daemon names it
  private final String name; // as the client does
  private final String owner;
  private volatile long token;
  private volatile boolean lost;
  private volatile boolean released;
  private final CompletableFuture<Void> lostFuture = new CompletableFuture<>();

  /** The one call that gives it back, over all who try. */
  final ReentrantLock releasing = new ReentrantLock();
  final ClientCore.OnceId release = new ClientCore.OnceId();

  Grant(Lease lease, String lock, String name, String owner, long token) {
    this.lease = lease;
    this.lock = lock;
    this.name = name;
    this.owner = owner;
    this.token = token;
  }

  Lease lease() {
    return lease;
  }

  String lock() {
    return lock;
  }

  String name() {
    return name;
  }

  String owner() {
    return owner;
  }

  long token() {
    return token;
  }

  void setToken(long token) {
    this.token = token;
  }

  /** Lost or released. */
  boolean over() {
    return lost || released || lease.over();
  }

  boolean released() {
    return released;
  }

  CompletableFuture<Void> lostFuture() {
    return lostFuture;
  }

  /** True: who waits for the loss is to be told. */
  boolean lose() {
    boolean first = !lost;
    lost = true;
    return first && !released;
  }

  /** Nobody is told of a loss any more. */
  void release() {
    released = true;
  }
}
