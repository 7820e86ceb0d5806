package dev.stmd;

import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import java.util.ArrayDeque;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;

/**
 * One stream: messages come to one reader, the next is asked for when one was taken, so that a slow reader slows the
 * daemon. Sends come from any thread.
 */
final class StreamCall<Q, R> extends ClientCall.Listener<R> {
  enum Next { MESSAGE, ENDED, TIMEOUT, WOKEN }

  private final ClientCall<Q, R> call;
  private final ReentrantLock lock = new ReentrantLock();
  private final Condition changed = lock.newCondition();
  private final ArrayDeque<R> queue = new ArrayDeque<>();
  private R taken;
  private boolean done;
  private boolean woken;
  private Status status;
  private Metadata trailers;

  StreamCall(Channel channel, MethodDescriptor<Q, R> method) {
    call = channel.newCall(method, CallOptions.DEFAULT);
  }

  /** Two are on their way at most. */
  StreamCall<Q, R> start() {
    call.start(this, new Metadata());
    call.request(2);
    return this;
  }

  /** A call of one request. */
  StreamCall<Q, R> start(Q request) {
    start();
    send(request);
    try {
      call.halfClose();
    } catch (IllegalStateException ended) {
      // The status says why.
    }
    return this;
  }

  void send(Q message) {
    synchronized (call) {
      try {
        call.sendMessage(message);
      } catch (IllegalStateException ended) {
        // The status says why.
      }
    }
  }

  /** MESSAGE: {@link #message} has it. WOKEN: by {@link #wake}, or the thread was interrupted. */
  Next take(Call bounds, long nanos) {
    Deadline until = Deadline.earlier(bounds.deadline, Deadline.inNanos(nanos));
    lock.lock();
    try {
      for (;;) {
        if (woken || bounds.cancelled()) return Next.WOKEN;
        if (!queue.isEmpty()) {
          taken = queue.remove();
          call.request(1);
          return Next.MESSAGE;
        }
        if (done) return Next.ENDED;
        if (until.passed()) return Next.TIMEOUT;
        try {
          changed.await(until.left(), TimeUnit.NANOSECONDS);
        } catch (InterruptedException interrupted) {
          bounds.caught();
        }
      }
    } finally {
      lock.unlock();
    }
  }

  R message() {
    return taken;
  }

  void wake() {
    lock.lock();
    try {
      woken = true;
      changed.signalAll();
    } finally {
      lock.unlock();
    }
  }

  void cancel() {
    call.cancel("nobody reads it", null);
  }

  Status status() {
    return status;
  }

  Metadata trailers() {
    return trailers;
  }

  @Override
  public void onMessage(R message) {
    lock.lock();
    try {
      queue.add(message);
      changed.signalAll();
    } finally {
      lock.unlock();
    }
  }

  @Override
  public void onClose(Status ended, Metadata with) {
    lock.lock();
    try {
      status = ended;
      trailers = with;
      done = true;
      changed.signalAll();
    } finally {
      lock.unlock();
    }
  }
}
