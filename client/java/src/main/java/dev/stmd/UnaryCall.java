package dev.stmd;

import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/** One unary call that is under way. */
final class UnaryCall<R> extends ClientCall.Listener<R> {
  private final CountDownLatch done = new CountDownLatch(1);
  private final CountDownLatch woken = new CountDownLatch(1);
  private ClientCall<?, R> call;
  private R response;
  private Status status;
  private Metadata trailers;

  private UnaryCall() {}

  static <Q, R> UnaryCall<R> start(Channel channel, MethodDescriptor<Q, R> method, Q request, Deadline deadline) {
    UnaryCall<R> unary = new UnaryCall<>();
    CallOptions options = CallOptions.DEFAULT;
    if (!deadline.never()) options = options.withDeadlineAfter(deadline.left(), TimeUnit.NANOSECONDS);
    ClientCall<Q, R> call = channel.newCall(method, options);
    unary.call = call;
    call.start(unary, new Metadata());
    call.sendMessage(request);
    call.halfClose();
    call.request(2);
    return unary;
  }

  /** True: it is done. False: not within so many nanoseconds, the thread was interrupted, or it was woken. */
  boolean await(Call bounds, long nanos) {
    if (bounds.cancelled()) return done.getCount() == 0;
    try {
      woken.await(nanos, TimeUnit.NANOSECONDS);
    } catch (InterruptedException interrupted) {
      bounds.caught();
    }
    return done.getCount() == 0;
  }

  boolean done() {
    return done.getCount() == 0;
  }

  /** Whoever waits looks at what happened. */
  void wake() {
    woken.countDown();
  }

  void cancel() {
    if (!done()) call.cancel("nobody waits for it", null);
  }

  Status status() {
    return status;
  }

  Metadata trailers() {
    return trailers;
  }

  R response() {
    return response;
  }

  @Override
  public void onMessage(R message) {
    response = message;
  }

  @Override
  public void onClose(Status ended, Metadata with) {
    status = ended.isOk() && response == null ? Status.INTERNAL.withDescription("the daemon sent no answer") : ended;
    trailers = with;
    done.countDown();
    woken.countDown();
  }
}
