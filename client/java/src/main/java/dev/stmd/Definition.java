package dev.stmd;

import java.time.Duration;
import stmd.v1.Value;

/**
 * What an entry is beside its value: fixed by the first to create it, changed by {@code define}. Immutable: each method
 * that sets something gives another.
 */
public final class Definition {
  /** No rule, no TTL, no session, kept inline. */
  public static final Definition NONE = new Definition(null, false, null, Duration.ZERO, false, "");

  private final Object validator;
  private final boolean hasValidator;
  private final Value validatorValue;
  private final Duration ttl;
  private final boolean ephemeral;
  private final String container;

  private Definition(Object validator, boolean hasValidator, Value validatorValue, Duration ttl, boolean ephemeral,
      String container) {
    this.validator = validator;
    this.hasValidator = hasValidator;
    this.validatorValue = validatorValue;
    this.ttl = ttl;
    this.ephemeral = ephemeral;
    this.container = container;
  }

  /**
   * A rule that the daemon checks at each write.
   *
   * @param rule an EDN value, as {@code List.of(Keyword.of("and"), Keyword.of("int"))}
   * @return with it
   */
  public Definition validator(Object rule) {
    return new Definition(rule, true, null, ttl, ephemeral, container);
  }

  /**
   * The same as EDN text.
   *
   * @param edn as {@code "[:and :int [:min 0]]"}
   * @return with it
   */
  public Definition validatorEdn(String edn) {
    return new Definition(null, true, Value.newBuilder().setEdn(edn).build(), ttl, ephemeral, container);
  }

  /**
   * How long it lives after its last write.
   *
   * @param ttl at least 1 ms; zero: for ever
   * @return with it
   */
  public Definition ttl(Duration ttl) {
    return new Definition(validator, hasValidator, validatorValue, ttl, ephemeral, container);
  }

  /**
   * Bound to the client's session, whose end deletes it.
   *
   * @param ephemeral whether it is
   * @return with it
   */
  public Definition ephemeral(boolean ephemeral) {
    return new Definition(validator, hasValidator, validatorValue, ttl, ephemeral, container);
  }

  /**
   * What keeps the value; {@code define} does not change it.
   *
   * @param container as "mongo" or "offered:mine"; "": inline
   * @return with it
   */
  public Definition container(String container) {
    return new Definition(validator, hasValidator, validatorValue, ttl, ephemeral, container);
  }

  /** {@return the rule, as a native value; null if there is none or it was given as text} */
  public Object validator() {
    return validator;
  }

  /** {@return the time to live; zero: for ever} */
  public Duration ttl() {
    return ttl;
  }

  /** {@return whether it is bound to a session} */
  public boolean ephemeral() {
    return ephemeral;
  }

  /** {@return the container; "": inline} */
  public String container() {
    return container;
  }

  boolean hasValidator() {
    return hasValidator;
  }

  Value validatorValue() {
    return validatorValue;
  }

  /** With the rule as a value of the wire. */
  Definition encoded(ValueMapper mapper, String name) {
    if (!hasValidator || validatorValue != null) return this;
    return new Definition(validator, true, Wire.encode(mapper, validator, name), ttl, ephemeral, container);
  }

  static Definition of(stmd.v1.Definition message, ValueMapper mapper, String name) {
    boolean has = message.hasValidator();
    return new Definition(has ? Wire.decode(mapper, message.getValidator(), Object.class, name) : null, has,
        has ? message.getValidator() : null, message.hasTtl() ? Wire.duration(message.getTtl()) : Duration.ZERO,
        !message.getSessionId().isEmpty(), message.getContainer());
  }
}
