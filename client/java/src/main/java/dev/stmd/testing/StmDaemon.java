package dev.stmd.testing;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * An stmd of a test's own: in memory, on a free port. It ends when it is closed, or with this program. The program is that of
 * the variable STMD, else "stmd" on the PATH.
 */
public final class StmDaemon implements AutoCloseable {
  private static final Pattern ADDRESS = Pattern.compile(":stmd/address \"([^\"]+)\"");
  private static final long END_SECONDS_MAX = 10;

  private final Process process;
  private final String address;

  private StmDaemon(Process process, String address) {
    this.process = process;
    this.address = address;
  }

  /** {@return a daemon that is ready} */
  public static StmDaemon start() {
    String named = System.getenv("STMD");
    String program = named == null || named.isEmpty() ? "stmd" : named;
    Path said = null;
    try {
      said = Files.createTempFile("stmd", ".log");
      Process process = new ProcessBuilder(List.of(program, "--ephemeral", "--listen", "127.0.0.1:0", "--http", "off"))
          .redirectError(said.toFile()).start();
      BufferedReader out = new BufferedReader(new InputStreamReader(process.getInputStream(), StandardCharsets.UTF_8));
      for (String line; (line = out.readLine()) != null; ) {
        Matcher found = ADDRESS.matcher(line);
        if (found.find()) return new StmDaemon(process, found.group(1));
      }
      throw new IllegalStateException(program + " ended without saying its address: " + Files.readString(said));
    } catch (IOException failed) {
      throw new UncheckedIOException("starting " + program + ": set STMD to where stmd is", failed);
    } finally {
      if (said != null) said.toFile().delete();
    }
  }

  /** {@return as Stm.connect takes it} */
  public String address() {
    return address;
  }

  /** Ends it, and waits for its end. */
  @Override
  public void close() {
    try {
      process.getOutputStream().close();
      if (!process.waitFor(END_SECONDS_MAX, TimeUnit.SECONDS)) process.destroyForcibly().waitFor();
    } catch (IOException gone) {
      process.destroyForcibly();
    } catch (InterruptedException interrupted) {
      process.destroyForcibly();
      Thread.currentThread().interrupt();
    }
  }
}
