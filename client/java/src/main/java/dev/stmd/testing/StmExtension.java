package dev.stmd.testing;

import dev.stmd.ConnectOptions;
import dev.stmd.Stm;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.extension.AfterEachCallback;
import org.junit.jupiter.api.extension.ExtensionContext;
import org.junit.jupiter.api.extension.ExtensionContext.Namespace;
import org.junit.jupiter.api.extension.ParameterContext;
import org.junit.jupiter.api.extension.ParameterResolver;

/**
 * For JUnit 5: {@code @ExtendWith(StmExtension.class)} gives test methods an {@link Stm}, below a prefix of each test's own,
 * and the {@link StmDaemon} that all tests of the run share. Clients end with their test.
 */
public final class StmExtension implements ParameterResolver, AfterEachCallback {
  private static final Namespace NAMESPACE = Namespace.create(StmExtension.class);
  private static final AtomicLong TESTS = new AtomicLong();

  /** JUnit makes it. */
  public StmExtension() {}

  private static final class SharedDaemon implements ExtensionContext.Store.CloseableResource, AutoCloseable {
    final StmDaemon daemon = StmDaemon.start();

    @Override
    public void close() {
      daemon.close();
    }
  }

  private static StmDaemon daemon(ExtensionContext context) {
    return context.getRoot().getStore(NAMESPACE)
        .getOrComputeIfAbsent(SharedDaemon.class, any -> new SharedDaemon(), SharedDaemon.class).daemon;
  }

  @Override
  public boolean supportsParameter(ParameterContext parameter, ExtensionContext context) {
    Class<?> type = parameter.getParameter().getType();
    return type == Stm.class || type == StmDaemon.class;
  }

  @Override
  public Object resolveParameter(ParameterContext parameter, ExtensionContext context) {
    if (parameter.getParameter().getType() == StmDaemon.class) return daemon(context);
    return context.getStore(NAMESPACE).getOrComputeIfAbsent(Stm.class, any -> Stm.connect(new ConnectOptions()
        .address(daemon(context).address()).prefix("/test-" + TESTS.incrementAndGet())), Stm.class);
  }

  @Override
  public void afterEach(ExtensionContext context) {
    Stm client = context.getStore(NAMESPACE).remove(Stm.class, Stm.class);
    if (client != null) client.close();
  }
}
