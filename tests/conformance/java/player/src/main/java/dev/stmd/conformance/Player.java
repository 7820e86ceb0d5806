package dev.stmd.conformance;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.gson.JsonPrimitive;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.util.JsonFormat;
import dev.stmd.AcquireOptions;
import dev.stmd.Atom;
import dev.stmd.Change;
import dev.stmd.Commit;
import dev.stmd.Committed;
import dev.stmd.ConflictCause;
import dev.stmd.ConnectOptions;
import dev.stmd.Definition;
import dev.stmd.Entry;
import dev.stmd.Follow;
import dev.stmd.Held;
import dev.stmd.Isolation;
import dev.stmd.JavaValues;
import dev.stmd.LockInfo;
import dev.stmd.Op;
import dev.stmd.ReadOptions;
import dev.stmd.Recorded;
import dev.stmd.Records;
import dev.stmd.Ref;
import dev.stmd.Stm;
import dev.stmd.StmException;
import dev.stmd.TransactOptions;
import dev.stmd.TransactionClosedException;
import dev.stmd.Tx;
import dev.stmd.Watch;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.health.v1.HealthCheckRequest;
import io.grpc.health.v1.HealthGrpc;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;

/**
 * Plays what tests/conformance/play.py says by the Java client: a command a line on standard input, answers and events a
 * line each on standard output (README.md there has the words). Each command has a thread of its own.
 */
public final class Player {
  private static final JavaValues VALUES = new JavaValues();
  private static final PrintStream OUT = new PrintStream(new java.io.FileOutputStream(java.io.FileDescriptor.out), false,
      StandardCharsets.UTF_8);

  private record HeldBy(String client, Held held) {}

  /** What a body threw itself. */
  private static final class BodyFailed extends RuntimeException {
    private static final long serialVersionUID = 1L;

    BodyFailed(String message) {
      super(message);
    }
  }

  private static final class Running {
    final Thread thread = Thread.currentThread();
    long goneOn; // how often "go" was said

    synchronized void go(long times) {
      goneOn += times;
      notifyAll();
    }

    synchronized void await(long times) {
      boolean interrupted = false;
      while (goneOn < times) {
        try {
          wait();
        } catch (InterruptedException stopped) {
          interrupted = true;
        }
      }
      if (interrupted) Thread.currentThread().interrupt();
    }
  }

  private static final class Body {
    final long id;
    final Running running;
    final Stm client;
    int runs;
    long pauses;
    int onCommits;
    JsonArray results = new JsonArray();
    Tx kept;

    Body(long id, Running running, Stm client) {
      this.id = id;
      this.running = running;
      this.client = client;
    }
  }

  // Guarded by this.
  private final Map<String, Stm> clients = new HashMap<>();
  private final Map<String, HeldBy> held = new HashMap<>();
  private final Map<String, ManagedChannel> channels = new HashMap<>();
  private final Map<Long, Running> running = new HashMap<>();

  private Player() {}

  /** Until standard input ends. */
  public static void main(String[] arguments) throws IOException, InterruptedException {
    Player player = new Player();
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line; (line = in.readLine()) != null; ) {
      JsonObject command = JsonParser.parseString(line).getAsJsonObject();
      String verb = text(command, "do");
      if (verb.equals("go") || verb.equals("stop")) {
        player.steer(command, verb);
      } else {
        player.begin(command);
      }
    }
    player.end();
    System.exit(0);
  }

  // ---- JSON

  private static String text(JsonObject object, String name) {
    JsonElement found = object.get(name);
    return found == null || found.isJsonNull() ? "" : found.getAsString();
  }

  private static long number(JsonObject object, String name) {
    JsonElement found = object.get(name);
    return found == null || found.isJsonNull() ? 0 : found.getAsLong();
  }

  private static boolean flag(JsonObject object, String name) {
    JsonElement found = object.get(name);
    return found != null && !found.isJsonNull() && found.getAsBoolean();
  }

  /** Null: the command has none. */
  private static Duration millis(JsonObject object, String name) {
    return object.has(name) ? Duration.ofMillis(number(object, name)) : null;
  }

  /** A native value. */
  private static Object value(JsonElement json) {
    stmd.v1.Value message = message(json);
    if (message.getKindCase() == stmd.v1.Value.KindCase.KIND_NOT_SET) return Stm.ABSENT;
    return VALUES.decode(message, Object.class);
  }

  /** Protocol Buffers' own JSON, but that its reader takes the sign from -0.0. */
  private static stmd.v1.Value message(JsonElement json) {
    stmd.v1.Value.Builder message = stmd.v1.Value.newBuilder();
    try {
      JsonFormat.parser().merge(json.toString(), message);
    } catch (InvalidProtocolBufferException broken) {
      throw new IllegalArgumentException("no value: " + json, broken);
    }
    return json.toString().contains("-0") ? signed(message.build(), json.getAsJsonObject()) : message.build();
  }

  private static stmd.v1.Value signed(stmd.v1.Value value, JsonObject json) {
    stmd.v1.Value.Builder out = value.toBuilder();
    switch (value.getKindCase()) {
      case FLOAT64 -> out.setFloat64(Double.parseDouble(json.get("float64").getAsString()));
      case LIST -> out.setList(signed(value.getList(), json.getAsJsonObject("list")));
      case VECTOR -> out.setVector(signed(value.getVector(), json.getAsJsonObject("vector")));
      case SET -> out.setSet(signed(value.getSet(), json.getAsJsonObject("set")));
      case TAGGED -> out.getTaggedBuilder().setValue(
          signed(value.getTagged().getValue(), json.getAsJsonObject("tagged").getAsJsonObject("value")));
      case MAP -> {
        for (int i = 0; i < value.getMap().getEntriesCount(); ++i) {
          JsonObject entry = json.getAsJsonObject("map").getAsJsonArray("entries").get(i).getAsJsonObject();
          out.getMapBuilder().getEntriesBuilder(i)
              .setKey(signed(value.getMap().getEntries(i).getKey(), entry.getAsJsonObject("key")))
              .setValue(signed(value.getMap().getEntries(i).getValue(), entry.getAsJsonObject("value")));
        }
      }
      default -> {}
    }
    return out.build();
  }

  private static stmd.v1.Items signed(stmd.v1.Items items, JsonObject json) {
    stmd.v1.Items.Builder out = stmd.v1.Items.newBuilder();
    for (int i = 0; i < items.getItemsCount(); ++i) {
      out.addItems(signed(items.getItems(i), json.getAsJsonArray("items").get(i).getAsJsonObject()));
    }
    return out.build();
  }

  private static Object value(JsonObject object, String name) {
    return object.has(name) ? value(object.get(name)) : Stm.ABSENT;
  }

  /** {}: absent. */
  private static JsonElement json(Object value) {
    if (value == Stm.ABSENT) return new JsonObject();
    try {
      return JsonParser.parseString(JsonFormat.printer().print(VALUES.encode(value)));
    } catch (InvalidProtocolBufferException broken) {
      throw new IllegalStateException(broken);
    }
  }

  private static JsonArray array(JsonElement... items) {
    JsonArray array = new JsonArray();
    for (JsonElement item : items) array.add(item);
    return array;
  }

  private static JsonElement string(String text) {
    return new JsonPrimitive(text);
  }

  private static void say(long id, String name, JsonElement value, Object... more) {
    JsonObject line = new JsonObject();
    line.addProperty("id", id);
    line.add(name, value);
    for (int i = 0; i < more.length; i += 2) line.add((String) more[i], (JsonElement) more[i + 1]);
    synchronized (OUT) {
      OUT.println(line);
      OUT.flush();
    }
  }

  private static JsonObject error(StmException failure) {
    JsonObject error = new JsonObject();
    error.addProperty("reason", failure.reason().word());
    error.addProperty("message", failure.getMessage());
    error.addProperty("name", failure.name());
    error.addProperty("limit", failure.limit());
    error.addProperty("word", failure.outcomeWord());
    error.addProperty("cause", failure.rejectCause());
    JsonArray causes = new JsonArray();
    for (ConflictCause cause : failure.causes()) {
      causes.add(array(string(cause.name()), string(cause.by().label()), string(cause.by().client())));
    }
    error.add("causes", causes);
    return error;
  }

  private static JsonObject json(Commit commit) {
    JsonObject out = new JsonObject();
    out.addProperty("version", Long.toString(commit.version()));
    out.addProperty("initial", commit.initial());
    out.addProperty("label", commit.by().label());
    out.addProperty("by", commit.by().client());
    JsonArray changes = new JsonArray();
    for (Change change : commit.changes()) {
      changes.add(array(string(change.name()), json(change.before()), json(change.after())));
    }
    JsonArray records = new JsonArray();
    for (Object record : commit.records()) records.add(json(record));
    out.add("changes", changes);
    out.add("records", records);
    return out;
  }

  // ---- Commands under way

  private void begin(JsonObject command) {
    long id = number(command, "id");
    Object started = new Object();
    boolean[] known = {false};
    Thread thread = new Thread(() -> {
      Running mine = new Running();
      synchronized (this) {
        running.put(id, mine);
      }
      synchronized (started) {
        known[0] = true;
        started.notifyAll();
      }
      try {
        say(id, "ok", run(id, mine, command));
      } catch (BodyFailed failed) {
        JsonObject error = new JsonObject();
        error.addProperty("reason", "body");
        error.addProperty("message", failed.getMessage());
        say(id, "error", error);
      } catch (StmException failed) {
        say(id, "error", error(failed));
      } catch (Exception | Error broken) {
        if (!(broken instanceof IllegalArgumentException)) broken.printStackTrace();
        say(id, "broken", string(broken.toString()));
      } finally {
        synchronized (this) {
          running.remove(id);
          notifyAll();
        }
      }
    }, "command-" + id);
    thread.start();
    // A "stop" that comes next finds it.
    synchronized (started) {
      while (!known[0]) {
        try {
          started.wait();
        } catch (InterruptedException impossible) {
          throw new IllegalStateException(impossible);
        }
      }
    }
  }

  /** "go", "stop": of a command under way, not answered. */
  private synchronized void steer(JsonObject command, String verb) {
    Running found = running.get(number(command, "of"));
    if (found == null) return;
    if (verb.equals("stop")) {
      found.thread.interrupt();
    } else {
      found.go(1);
    }
  }

  private void end() throws InterruptedException {
    List<Stm> last;
    synchronized (this) {
      for (Running one : running.values()) {
        one.thread.interrupt();
        one.go(1_000_000);
      }
      while (!running.isEmpty()) wait();
      last = new ArrayList<>(clients.values());
    }
    last.forEach(Stm::close);
  }

  private synchronized Stm client(JsonObject command) {
    Stm found = clients.get(text(command, "client"));
    if (found == null) throw new IllegalArgumentException("no such client: " + text(command, "client"));
    return found;
  }

  private synchronized Held held(String name) {
    HeldBy found = held.get(name);
    if (found == null) throw new IllegalArgumentException("nothing is held as " + name);
    return found.held();
  }

  // ---- Words

  private static Ref<Object> ref(Stm client, String name) {
    return client.refOf(name, Object.class, Stm.ABSENT, null);
  }

  private static Op op(JsonArray step, int from) {
    String verb = step.get(from).getAsString();
    List<Object> arguments = new ArrayList<>();
    for (JsonElement argument : step.get(from + 1).getAsJsonArray()) arguments.add(value(argument));
    Object[] all = arguments.toArray();
    return switch (verb) {
      case "set" -> Op.set(all[0]);
      case "add" -> Op.add(all[0]);
      case "min" -> Op.min(all[0]);
      case "max" -> Op.max(all[0]);
      case "append" -> Op.append(all[0]);
      case "conj" -> Op.conj(all);
      case "disj" -> Op.disj(all);
      case "pop" -> Op.pop();
      case "shift" -> Op.shift();
      case "assoc" -> Op.assoc(all);
      case "dissoc" -> Op.dissoc(all);
      case "toggle" -> Op.toggle();
      default -> throw new IllegalArgumentException("no such operation: " + verb);
    };
  }

  private static Definition definition(JsonObject command) {
    Definition definition = Definition.NONE;
    if (command.has("validator")) definition = definition.validator(value(command, "validator"));
    if (command.has("ttl_ms")) definition = definition.ttl(millis(command, "ttl_ms"));
    return definition.ephemeral(flag(command, "ephemeral"));
  }

  private static Object plus(Object value, long by) {
    return (Long) value + by;
  }

  /** What transactions do, step by step. */
  private void runBody(Body body, Tx tx, JsonArray steps) {
    for (JsonElement element : steps) {
      JsonArray step = element.getAsJsonArray();
      String verb = step.get(0).getAsString();
      String name = step.size() > 1 && step.get(1).isJsonPrimitive() ? step.get(1).getAsString() : "";
      switch (verb) {
        case "get" -> body.results.add(json(tx.get(body.client.<Object>refOf(name, Object.class,
            step.size() > 2 ? value(step.get(2)) : Stm.ABSENT, null))));
        case "find" -> body.results.add(json(tx.getOr(ref(body.client, name), Stm.ABSENT)));
        case "set" -> tx.set(ref(body.client, name), value(step.get(2)));
        case "alter-add" -> {
          long by = step.get(2).getAsLong();
          body.results.add(json(tx.alter(ref(body.client, name), before -> plus(before, by))));
        }
        case "commute" -> tx.commute(ref(body.client, name), op(step, 2));
        case "delete" -> tx.delete(ref(body.client, name));
        case "ensure" -> tx.ensure(ref(body.client, name));
        case "list" -> body.results.add(json(tx.list(name)));
        case "record" -> tx.record(value(step.get(1)));
        case "fence" -> tx.fence(held(name));
        case "retry" -> tx.retry();
        case "retry-if" -> {
          if (VALUES.encode(tx.get(ref(body.client, name))).equals(VALUES.encode(value(step.get(2))))) tx.retry();
        }
        case "or-else" -> {
          JsonArray before = body.results.deepCopy();
          tx.orElse(() -> runBody(body, tx, step.get(1).getAsJsonArray()), () -> {
            body.results = before;
            runBody(body, tx, step.get(2).getAsJsonArray());
          });
        }
        case "swallow" -> swallow(body, tx, step.get(1).getAsJsonArray());
        case "join" -> {
          JsonObject given = step.get(1).getAsJsonObject();
          TransactOptions options = given.has("label") ? TransactOptions.DEFAULT.label(text(given, "label"))
              : TransactOptions.DEFAULT;
          try {
            body.client.transact(options, inner -> runBody(body, inner, step.get(2).getAsJsonArray()));
          } catch (StmException failed) {
            body.results.add(failed.reason().word());
          }
        }
        case "try-join" -> {
          try {
            body.client.transact(inner -> runBody(body, inner, step.get(1).getAsJsonArray()));
          } catch (BodyFailed failed) {
            body.results.add("failed");
          }
        }
        case "fail" -> throw new BodyFailed(name);
        case "io" -> {
          try {
            ref(body.client, name).get();
            body.results.add("none");
          } catch (StmException failed) {
            body.results.add(failed.reason().word());
          }
        }
        case "on-commit" -> tx.onCommit(() -> ++body.onCommits);
        case "keep-tx" -> body.kept = tx;
        case "pause" -> {
          ++body.pauses;
          say(body.id, "event", string("paused"), "run", new JsonPrimitive(body.runs));
          body.running.await(body.pauses);
        }
        default -> throw new IllegalArgumentException("no such step: " + verb);
      }
    }
  }

  private void swallow(Body body, Tx tx, JsonArray steps) {
    try {
      runBody(body, tx, steps);
    } catch (Throwable swallowed) {
      body.results.add("swallowed");
    }
  }

  private static JsonArray json(List<Entry> entries) {
    JsonArray out = new JsonArray();
    for (Entry entry : entries) out.add(array(string(entry.name()), json(entry.value())));
    return out;
  }

  private JsonElement transact(long id, Running mine, JsonObject command) {
    Stm client = client(command);
    Body body = new Body(id, mine, client);
    Committed[] committed = {null};
    JsonArray causes = new JsonArray();
    TransactOptions options = TransactOptions.DEFAULT.timeout(millis(command, "timeout_ms")).label(text(command, "label"))
        .once(text(command, "once")).runsMax((int) number(command, "runs_max")).staleOk(flag(command, "stale_ok"))
        .rerunCheck(flag(command, "rerun_check")).onCommitted(told -> committed[0] = told)
        .onRerun(rerun -> rerun.causes().forEach(cause -> causes.add(cause.name())));
    if (text(command, "isolation").equals("snapshot")) options = options.isolation(Isolation.SNAPSHOT);
    try {
      client.transactResult(options, tx -> {
        ++body.runs;
        body.results = new JsonArray();
        runBody(body, tx, command.getAsJsonArray("body"));
        return 0L;
      });
    } finally {
      if (body.kept != null) {
        try {
          body.kept.getOr(ref(client, "/kept"), Stm.ABSENT);
          body.results.add("used");
        } catch (TransactionClosedException closed) {
          body.results.add("transaction-closed");
        }
      }
    }
    JsonObject answer = new JsonObject();
    answer.add("results", body.results);
    answer.addProperty("version", Long.toString(committed[0].version()));
    answer.addProperty("runs", body.runs);
    answer.addProperty("on_commits", body.onCommits);
    answer.addProperty("repeated", committed[0].repeated());
    answer.add("causes", causes);
    return answer;
  }

  // ---- What "repeat" repeats, with its command read once

  private interface Once {
    void run() throws Exception;
  }

  private interface Step {
    void run(Tx tx);
  }

  private Once nullCall(JsonObject command) {
    ManagedChannel channel;
    synchronized (this) {
      channel = channels.get(text(command, "client"));
    }
    HealthGrpc.HealthBlockingStub stub = HealthGrpc.newBlockingStub(channel);
    return () -> stub.check(HealthCheckRequest.getDefaultInstance());
  }

  private static Step stepOf(Stm client, JsonArray step) {
    Ref<Object> ref = ref(client, step.get(1).getAsString());
    switch (step.get(0).getAsString()) {
      case "get" -> {
        return tx -> tx.get(ref);
      }
      case "set" -> {
        Object value = value(step.get(2));
        return tx -> tx.set(ref, value);
      }
      case "commute" -> {
        Op op = op(step, 2);
        return tx -> tx.commute(ref, op);
      }
      default -> throw new IllegalArgumentException("no such step is repeated: " + step);
    }
  }

  private Once callOf(JsonObject command) {
    String verb = text(command, "do");
    String name = text(command, "name");
    if (verb.equals("null")) return nullCall(command);
    Stm client = client(command);
    switch (verb) {
      case "get" -> {
        Ref<Object> ref = client.refOf(name, Object.class, value(command, "init"), null);
        return ref::get;
      }
      case "set" -> {
        Ref<Object> ref = client.refOf(name, Object.class, Stm.ABSENT, definition(command));
        Object value = value(command, "value");
        return () -> client.transact(tx -> tx.set(ref, value));
      }
      case "apply" -> {
        Atom<Object> atom = client.atomOf(name, Object.class, value(command, "init"), null);
        Op op = op(command.getAsJsonArray("op"), 0);
        return () -> atom.apply(op);
      }
      case "lock-unlock" -> {
        return () -> client.lock(name).acquire().release();
      }
      case "watch" -> {
        String[] names = strings(command, "names");
        return () -> {
          try (Watch watch = client.watch(names)) {
            watch.onSynced(version -> watch.close()).next();
          }
        };
      }
      case "transact" -> {
        List<Step> steps = new ArrayList<>();
        for (JsonElement step : command.getAsJsonArray("body")) steps.add(stepOf(client, step.getAsJsonArray()));
        return () -> client.transact(tx -> {
          for (Step step : steps) step.run(tx);
        });
      }
      default -> throw new IllegalArgumentException("no such command is repeated: " + verb);
    }
  }

  private JsonElement repeat(JsonObject command) throws InterruptedException {
    JsonObject inner = command.getAsJsonObject("command");
    if (!inner.has("client")) inner.addProperty("client", text(command, "client"));
    Once call = callOf(inner);
    long times = Math.max(1, number(command, "times"));
    int callers = (int) Math.max(1, number(command, "callers"));
    AtomicLong begun = new AtomicLong();
    AtomicInteger failed = new AtomicInteger();
    JsonElement[] first = {JsonNull.INSTANCE};
    double[] all = new double[(int) times];
    List<Thread> threads = new ArrayList<>();
    long from = System.nanoTime();
    for (int i = 0; i < callers; ++i) {
      Thread thread = new Thread(() -> {
        for (long n; (n = begun.getAndIncrement()) < times; ) {
          long began = System.nanoTime();
          try {
            call.run();
          } catch (Exception thrown) {
            if (failed.getAndIncrement() == 0) {
              first[0] = thrown instanceof StmException stm ? error(stm) : string(thrown.toString());
            }
          }
          all[(int) n] = (System.nanoTime() - began) / 1e3;
        }
      });
      threads.add(thread);
      thread.start();
    }
    for (Thread thread : threads) thread.join();
    double seconds = (System.nanoTime() - from) / 1e9;
    Arrays.sort(all);
    JsonObject answer = new JsonObject();
    answer.addProperty("p50_us", all[(int) (0.5 * (all.length - 1))]);
    answer.addProperty("p99_us", all[(int) (0.99 * (all.length - 1))]);
    answer.addProperty("seconds", seconds);
    answer.addProperty("failed", failed.get());
    answer.add("first_error", first[0]);
    return answer;
  }

  private static String[] strings(JsonObject command, String name) {
    List<String> all = new ArrayList<>();
    for (JsonElement one : command.getAsJsonArray(name)) all.add(one.getAsString());
    return all.toArray(new String[0]);
  }

  // ---- Commands

  private JsonElement connect(long id, JsonObject command) {
    ConnectOptions options = new ConnectOptions().address(text(command, "address")).prefix(text(command, "prefix"))
        .clientName(text(command, "client_name"))
        .warn(message -> say(id, "event", string("warning"), "text", string(message)));
    if (command.has("unavailable_ms")) options = options.unavailableTimeout(millis(command, "unavailable_ms"));
    if (command.has("session_ttl_ms")) options = options.sessionTtl(millis(command, "session_ttl_ms"));
    Stm client = Stm.connect(options);
    String first = text(command, "address").split(",", -1)[0];
    synchronized (this) {
      clients.put(text(command, "client"), client);
      channels.put(text(command, "client"), Grpc.newChannelBuilder(first, InsecureChannelCredentials.create()).build());
    }
    return JsonNull.INSTANCE;
  }

  private JsonElement close(JsonObject command) {
    String name = text(command, "client");
    Stm closed;
    ManagedChannel channel;
    synchronized (this) {
      closed = clients.remove(name);
      channel = channels.remove(name);
      held.values().removeIf(one -> one.client().equals(name));
    }
    if (closed == null) throw new IllegalArgumentException("no such client: " + name);
    channel.shutdownNow();
    closed.close();
    return JsonNull.INSTANCE;
  }

  private JsonElement acquire(Stm client, JsonObject command) {
    AcquireOptions options = AcquireOptions.DEFAULT.shared(flag(command, "shared")).owner(text(command, "owner"))
        .permits((int) number(command, "permits"), (int) number(command, "permits_max"))
        .waitAtMost(millis(command, "wait_ms")).timeout(millis(command, "timeout_ms"));
    Held got = client.lock(text(command, "name")).acquire(options);
    synchronized (this) {
      held.put(text(command, "held"), new HeldBy(text(command, "client"), got));
    }
    return string(Long.toString(got.token()));
  }

  private JsonElement run(long id, Running mine, JsonObject command) throws Exception {
    String verb = text(command, "do");
    switch (verb) {
      case "connect" -> {
        return connect(id, command);
      }
      case "close" -> {
        return close(command);
      }
      case "transact" -> {
        return transact(id, mine, command);
      }
      case "repeat" -> {
        return repeat(command);
      }
      case "null" -> {
        nullCall(command).run();
        return JsonNull.INSTANCE;
      }
      case "release" -> {
        held(text(command, "held")).release();
        return JsonNull.INSTANCE;
      }
      case "lost" -> {
        return new JsonPrimitive(held(text(command, "held")).awaitLost(Duration.ofMillis(number(command, "wait_ms"))));
      }
      default -> {
        return entries(id, client(command), command, verb);
      }
    }
  }

  private JsonElement entries(long id, Stm client, JsonObject command, String verb) {
    String name = text(command, "name");
    Object init = value(command, "init");
    Duration timeout = millis(command, "timeout_ms");
    ReadOptions read = ReadOptions.DEFAULT.timeout(timeout);
    TransactOptions write = TransactOptions.DEFAULT.timeout(timeout).label(text(command, "label"));
    long by = number(command, "by");
    Ref<Object> ref = client.refOf(name, Object.class, init, null);
    Atom<Object> atom = client.atomOf(name, Object.class, init, null);
    switch (verb) {
      case "get" -> {
        return json(flag(command, "atom") ? atom.get(read) : ref.get(read));
      }
      case "find" -> {
        return json(ref.getOr(Stm.ABSENT, read));
      }
      case "set" -> {
        Ref<Object> made = client.refOf(name, Object.class, Stm.ABSENT, definition(command));
        client.transact(write, tx -> tx.set(made, value(command, "value")));
      }
      case "delete" -> client.transact(write, tx -> tx.delete(ref));
      case "define" -> ref.define(definition(command), write);
      case "move-point" -> {
        Ref<Point> point = client.ref(name, Point.class);
        client.transact(write, tx -> {
          tx.alter(point, before -> new Point(before.x() + by, before.yAxis()));
        });
        return json(ref.get(read));
      }
      case "reset" -> atom.reset(value(command, "value"), write);
      case "swap-add" -> {
        return json(atom.swap(before -> plus(before, by), write));
      }
      case "compare-and-set" -> {
        Object expected = value(command, "expected");
        Object value = value(command, "value");
        return new JsonPrimitive(
            expected == Stm.ABSENT ? atom.setIfAbsent(value, write) : atom.compareAndSet(expected, value, write));
      }
      case "apply" -> {
        return json(atom.apply(op(command.getAsJsonArray("op"), 0), write));
      }
      case "list" -> {
        return json(client.list(name));
      }
      case "history" -> {
        JsonArray commits = new JsonArray();
        for (Commit commit : ref.history()) commits.add(json(commit));
        return commits;
      }
      case "at" -> {
        return json(client.at(number(command, "version")).getOr(ref, Stm.ABSENT));
      }
      case "records" -> {
        JsonArray records = new JsonArray();
        try (Records<Object> all = client.recordsTagged(strings(command, "tags"))) {
          for (Recorded<Object> record : all) records.add(json(record.value()));
        }
        return records;
      }
      case "watch" -> {
        try (Watch watch = client.watch(strings(command, "names"))) {
          if (flag(command, "initial")) watch.initial();
          watch.after(number(command, "after")).timeout(timeout)
              .onSynced(version -> say(id, "event", string("synced"), "version", string(Long.toString(version))));
          if (command.has("progress_ms")) watch.progressEvery(millis(command, "progress_ms"));
          for (Commit commit : watch) say(id, "event", string("commit"), "commit", json(commit));
        }
      }
      case "follow" -> {
        try (Follow<Object> follow = ref.follow()) {
          for (Follow.Newest<Object> newest : follow) {
            say(id, "event", string("value"), "value", json(newest.exists() ? newest.value() : Stm.ABSENT));
          }
        }
      }
      case "acquire" -> {
        return acquire(client, command);
      }
      case "lock" -> {
        LockInfo info = client.lock(name).info();
        return array(new JsonPrimitive(info.holders().size()), new JsonPrimitive(info.queue().size()));
      }
      case "outcome" -> {
        return string(client.outcome(text(command, "word")).isPresent() ? "committed" : "not-committed");
      }
      default -> throw new IllegalArgumentException("no such command: " + verb);
    }
    return JsonNull.INSTANCE;
  }
}
