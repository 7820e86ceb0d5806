package dev.stmd;

import java.util.concurrent.locks.ReadWriteLock;

/**
 * A {@link ReadWriteLock} between threads of all clients: fair, reentrant. A thread that writes may read too and then stop
 * writing (downgrade). One that reads and asks to write is refused while others read: {@link UpgradeRefusedException}.
 */
public final class JavaReadWriteLock implements ReadWriteLock {
  private final JavaLock read;
  private final JavaLock write;

  JavaReadWriteLock(Stm client, String name) {
    read = new JavaLock(client, name, true);
    write = new JavaLock(client, name, false);
  }

  @Override
  public JavaLock readLock() {
    return read;
  }

  @Override
  public JavaLock writeLock() {
    return write;
  }

  /** {@return how often this thread reads; 0: not at all} */
  public int getReadHoldCount() {
    return read.getHoldCount();
  }

  /** {@return how often this thread writes; 0: not at all} */
  public int getWriteHoldCount() {
    return write.getHoldCount();
  }

  /** {@return the thread of this program that writes; null: none} */
  public Thread getOwner() {
    return write.getOwner();
  }

  /** {@return whether this thread writes, and that is not lost} */
  public boolean isWriteLockedByCurrentThread() {
    return write.isHeldByCurrentThread();
  }

  @Override
  public String toString() {
    return "JavaReadWriteLock " + write.name();
  }
}
