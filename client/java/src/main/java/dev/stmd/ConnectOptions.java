package dev.stmd;

import java.time.Duration;
import java.util.Objects;
import java.util.function.Consumer;

/** How {@link Stm#connect} connects. Immutable: each method that sets something gives another. */
public final class ConnectOptions {
  private final String address;
  private final String prefix;
  private final String clientName;
  private final Duration unavailableTimeout;
  private final int asyncThreadsMax;
  private final Duration sessionTtl;
  private final Consumer<String> warn;
  private final Consumer<Transacted> onTransaction;
  private final ValueMapper mapper;

  /** The defaults. */
  public ConnectOptions() {
    this("", "", "", Duration.ofSeconds(10), 64, Duration.ZERO, null, null, new JavaValues());
  }

  private ConnectOptions(String address, String prefix, String clientName, Duration unavailableTimeout, int asyncThreadsMax,
      Duration sessionTtl, Consumer<String> warn, Consumer<Transacted> onTransaction, ValueMapper mapper) {
    this.address = address;
    this.prefix = prefix;
    this.clientName = clientName;
    this.unavailableTimeout = unavailableTimeout;
    this.asyncThreadsMax = asyncThreadsMax;
    this.sessionTtl = sessionTtl;
    this.warn = warn;
    this.onTransaction = onTransaction;
    this.mapper = mapper;
  }

  /**
   * Where stmd is: the first that answers is kept until it fails.
   *
   * @param address "host:port" or "unix:/path", several by comma; "": STM_ADDRESS, else 127.0.0.1:7440
   * @return with it
   */
  public ConnectOptions address(String address) {
    return new ConnectOptions(Objects.requireNonNull(address), prefix, clientName, unavailableTimeout, asyncThreadsMax,
        sessionTtl, warn, onTransaction, mapper);
  }

  /**
   * Every name is below it; the client sees names without it.
   *
   * @param prefix as "/team-a"; "": none
   * @return with it
   */
  public ConnectOptions prefix(String prefix) {
    return new ConnectOptions(address, Objects.requireNonNull(prefix), clientName, unavailableTimeout, asyncThreadsMax,
        sessionTtl, warn, onTransaction, mapper);
  }

  /**
   * Who this is, kept with each commit.
   *
   * @param clientName "": the program's name
   * @return with it
   */
  public ConnectOptions clientName(String clientName) {
    return new ConnectOptions(address, prefix, Objects.requireNonNull(clientName), unavailableTimeout, asyncThreadsMax,
        sessionTtl, warn, onTransaction, mapper);
  }

  /**
   * How long calls, and connecting, wait out an outage.
   *
   * @param timeout 10 s unless it is set; zero: one try
   * @return with it
   */
  public ConnectOptions unavailableTimeout(Duration timeout) {
    return new ConnectOptions(address, prefix, clientName, Objects.requireNonNull(timeout), asyncThreadsMax, sessionTtl, warn, onTransaction,
        mapper);
  }

  /**
   * Threads of the async forms, made as they are needed; one that sleeps in retry holds one.
   *
   * @param threads at least 1; 64 unless it is set
   * @return with it
   */
  public ConnectOptions asyncThreadsMax(int threads) {
    return new ConnectOptions(address, prefix, clientName, unavailableTimeout, Math.max(1, threads), sessionTtl, warn, onTransaction, mapper);
  }

  /**
   * How long locks and ephemeral entries outlive what the daemon heard of this client last.
   *
   * @param ttl zero: the daemon's default, 15 s; else 2 s to 10 min
   * @return with it
   */
  public ConnectOptions sessionTtl(Duration ttl) {
    return new ConnectOptions(address, prefix, clientName, unavailableTimeout, asyncThreadsMax, Objects.requireNonNull(ttl),
        warn, onTransaction, mapper);
  }

  /**
   * Hears of each transaction as it ends, for metrics: on the thread that called it.
   *
   * @param onTransaction null: nobody
   * @return with it
   */
  public ConnectOptions onTransaction(Consumer<Transacted> onTransaction) {
    return new ConnectOptions(address, prefix, clientName, unavailableTimeout, asyncThreadsMax, sessionTtl, warn,
        onTransaction, mapper);
  }

  /**
   * Takes the client's own warnings, as of a transaction at its 10th run.
   *
   * @param warn null: the logger "dev.stmd"
   * @return with it
   */
  public ConnectOptions warn(Consumer<String> warn) {
    return new ConnectOptions(address, prefix, clientName, unavailableTimeout, asyncThreadsMax, sessionTtl, warn, onTransaction, mapper);
  }

  /**
   * How values become native ones.
   *
   * @param mapper {@link JavaValues} unless it is set
   * @return with it
   */
  public ConnectOptions mapper(ValueMapper mapper) {
    return new ConnectOptions(address, prefix, clientName, unavailableTimeout, asyncThreadsMax, sessionTtl, warn,
        onTransaction, Objects.requireNonNull(mapper));
  }

  /** {@return the address as it was given} */
  public String address() {
    return address;
  }

  /** {@return the prefix as it was given} */
  public String prefix() {
    return prefix;
  }

  /** {@return the name as it was given} */
  public String clientName() {
    return clientName;
  }

  /** {@return how long an outage is waited out} */
  public Duration unavailableTimeout() {
    return unavailableTimeout;
  }

  /** {@return the most threads of the async forms} */
  public int asyncThreadsMax() {
    return asyncThreadsMax;
  }

  /** {@return the session's TTL; zero: the daemon's default} */
  public Duration sessionTtl() {
    return sessionTtl;
  }

  /** {@return who hears of each transaction's end; null: nobody} */
  public Consumer<Transacted> onTransaction() {
    return onTransaction;
  }

  /** {@return what takes warnings; null: the logger} */
  public Consumer<String> warn() {
    return warn;
  }

  /** {@return how values become native ones} */
  public ValueMapper mapper() {
    return mapper;
  }
}
