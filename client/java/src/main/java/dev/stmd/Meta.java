package dev.stmd;

/**
 * Who and why, as it is kept with a commit. What was not said is "".
 *
 * @param label why: {@link TransactOptions#label}
 * @param client who: {@link ConnectOptions#clientName}
 * @param traceparent W3C trace context
 * @param principal who, as the daemon knows it
 */
public record Meta(String label, String client, String traceparent, String principal) {}
