// Plays what tests/conformance/play.py says by the Node client: a command a line on standard input, answers and events a line each
// on standard output (README.md there has the words). Each command runs beside the others.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { setMaxListeners } from "node:events";

import * as stm from "../../../client/node/dist/index.js";

const grpc = createRequire(new URL("../../../client/node/package.json", import.meta.url))("@grpc/grpc-js");

// The user's type that every driver has.
class Point {
  constructor(x, yAxis) {
    this.x = x;
    this.yAxis = yAxis;
  }
}
stm.record("conf.Point", Point);
const KEYWORDS = new Map([["yAxis", "y-axis"]]);

// ---- Values: Protocol Buffers' JSON and the client's own

function native(json) {
  const [kind] = Object.keys(json);
  const value = json[kind];
  switch (kind) {
    case undefined:
      return undefined;
    case "nil":
      return null;
    case "boolean":
    case "text":
      return value;
    case "integer":
      return BigInt(value);
    case "float64":
      return stm.double(Number(value));
    case "blob":
      return new Uint8Array(Buffer.from(value, "base64"));
    case "character":
      return new stm.Character(String.fromCodePoint(value));
    case "keyword":
      return new stm.Keyword(value);
    case "symbol":
      return new stm.Symbol(value);
    case "instant":
      return stm.Instant.parse(value);
    case "uuid":
      return new stm.Uuid(value);
    case "bigint":
      return new stm.BigInteger(value);
    case "decimal":
      return new stm.Decimal(value);
    case "list":
      return new stm.List((value.items ?? []).map(native));
    case "vector":
      return (value.items ?? []).map(native);
    case "set":
      return new stm.StmSet((value.items ?? []).map(native));
    case "map":
      return new stm.StmMap((value.entries ?? []).map((entry) => [native(entry.key), native(entry.value)]));
    case "tagged":
      return new stm.Tagged(value.tag, native(value.value));
    default:
      throw new Error(`no value: ${JSON.stringify(json)}`);
  }
}

function float(value) {
  if (Object.is(value, -0)) return { float64: "-0.0" };
  return { float64: Number.isFinite(value) ? value : String(value) };
}
function map(entries) {
  return { map: { entries: [...entries].map(([key, value]) => ({ key: toJson(key), value: toJson(value) })) } };
}

function toJson(value) {
  switch (typeof value) {
    case "undefined":
      return {};
    case "boolean":
      return { boolean: value };
    case "string":
      return { text: value };
    case "bigint":
      return { integer: value.toString() };
    case "number":
      return float(value);
  }
  if (value === null) return { nil: true };
  if (Array.isArray(value)) return { vector: { items: value.map(toJson) } };
  if (value instanceof Uint8Array) return { blob: Buffer.from(value).toString("base64") };
  if (value instanceof Point) {
    const fields = Object.entries(value).map(([name, field]) => [new stm.Keyword(KEYWORDS.get(name) ?? name), field]);
    return { tagged: { tag: "conf.Point", value: map(fields) } };
  }
  switch (value.type) {
    case "double":
      return float(value.value);
    case "bigint":
    case "decimal":
    case "keyword":
    case "symbol":
    case "uuid":
      return { [value.type]: value.text };
    case "character":
      return { character: value.text.codePointAt(0) };
    case "instant":
      return { instant: value.toString() };
    case "list":
      return { list: { items: value.items.map(toJson) } };
    case "set":
      return { set: { items: [...value].map(toJson) } };
    case "map":
      return map(value);
    case "tagged":
      return { tagged: { tag: value.tag, value: toJson(value.value) } };
  }
  return map(Object.entries(value));
}

const optional = (json) => (json === undefined ? undefined : native(json));

// ---- What goes out

function say(id, fields) {
  process.stdout.write(`${JSON.stringify({ id, ...fields })}\n`);
}

class BodyFailed extends Error {}

function errorOf(error) {
  if (error instanceof BodyFailed) return { reason: "body", message: error.message };
  if (error instanceof DOMException) {
    const reason = error.name === "TimeoutError" ? "deadline" : error.name === "AbortError" ? "cancelled" : "other";
    return { reason, message: error.message, name: "", limit: "", word: "", cause: "", causes: [] };
  }
  if (!(error instanceof stm.StmError)) throw error;
  return {
    reason: error.reason,
    message: error.message,
    name: error.name === error.constructor.name ? "" : error.name,
    limit: error.limit,
    word: error.word,
    cause: error.rejectedBecause,
    causes: error.causes.map((cause) => [cause.name, cause.by.label, cause.by.client]),
  };
}

function commitOf(commit) {
  return {
    version: String(commit.version),
    initial: commit.initial,
    label: commit.meta.label,
    by: commit.meta.client,
    changes: commit.changes.map((change) => [change.name, toJson(change.before), toJson(change.after)]),
    records: commit.records.map(toJson),
  };
}

// ---- Clients, what they hold, and commands that are under way

const clients = new Map();
const channels = new Map(); // of each client, for "null"
const held = new Map();
const running = new Map();

function clientOf(command) {
  const client = clients.get(command.client);
  if (client === undefined) throw new Error(`no such client: ${command.client}`);
  return client;
}
function heldOf(name) {
  const found = held.get(name);
  if (found === undefined) throw new Error(`nothing is held as ${name}`);
  return found.held;
}

function opOf(verb, args) {
  const values = args.map(native);
  if (verb === "pop" || verb === "shift") return stm.op[verb]();
  return stm.op[verb](...values);
}

function definitionOf(command) {
  return {
    validator: optional(command.validator),
    ttlMs: command.ttl_ms === undefined ? undefined : Number(command.ttl_ms),
    ephemeral: command.ephemeral === true,
  };
}

async function runBody(body, tx, steps) {
  const { client } = body;
  for (const [verb, name, ...rest] of steps) {
    const ref = () => client.ref(name);
    switch (verb) {
      case "get":
        body.results.push(toJson(await tx.get(client.ref(name, optional(rest[0])))));
        break;
      case "find":
        body.results.push(toJson(await tx.find(ref())));
        break;
      case "set":
        tx.set(ref(), native(rest[0]));
        break;
      case "alter-add":
        body.results.push(toJson(await tx.alter(ref(), (value) => value + BigInt(rest[0]))));
        break;
      case "commute":
        tx.commute(ref(), opOf(rest[0], rest[1]));
        break;
      case "delete":
        tx.delete(ref());
        break;
      case "ensure":
        await tx.ensure(ref());
        break;
      case "list":
        body.results.push((await tx.list(name)).map((entry) => [entry.name, toJson(entry.value)]));
        break;
      case "record":
        tx.record(native(name));
        break;
      case "fence":
        tx.fence(heldOf(name));
        break;
      case "retry":
        tx.retry();
        break;
      case "retry-if":
        if (stm.equals(await tx.get(ref()), native(rest[0]))) tx.retry();
        break;
      case "or-else": {
        const before = [...body.results];
        await tx.orElse(
          () => runBody(body, tx, name),
          () => {
            body.results = before;
            return runBody(body, tx, rest[0]);
          },
        );
        break;
      }
      case "swallow":
        try {
          await runBody(body, tx, name);
        } catch {
          body.results.push("swallowed");
        }
        break;
      case "join":
        try {
          await client.transact((inner) => runBody(body, inner, rest[0]), { label: name.label });
        } catch (error) {
          if (!(error instanceof stm.StmError)) throw error;
          body.results.push(error.reason);
        }
        break;
      case "try-join":
        try {
          await client.transact((inner) => runBody(body, inner, name));
        } catch (error) {
          if (!(error instanceof BodyFailed)) throw error;
          body.results.push("failed");
        }
        break;
      case "fail":
        throw new BodyFailed(name);
      case "io":
        try {
          await ref().get();
          body.results.push("none");
        } catch (error) {
          if (!(error instanceof stm.StmError)) throw error;
          body.results.push(error.reason);
        }
        break;
      case "on-commit":
        tx.onCommit(() => ++body.onCommits);
        break;
      case "keep-tx":
        body.kept = tx;
        break;
      case "pause": {
        const pauses = ++body.pauses;
        say(body.id, { event: "paused", run: body.runs });
        await body.running.goneOn(pauses);
        break;
      }
      default:
        throw new Error(`no such step: ${verb}`);
    }
  }
}

async function transact(id, state, command) {
  const client = clientOf(command);
  const body = { id, running: state, client, runs: 0, pauses: 0, onCommits: 0, results: [], kept: undefined };
  let committed;
  const causes = [];
  await client.transact(
    async (tx) => {
      ++body.runs;
      body.results = [];
      await runBody(body, tx, command.body);
      return 0n;
    },
    {
      timeoutMs: command.timeout_ms,
      signal: state.controller.signal,
      label: command.label,
      once: command.once,
      runsMax: command.runs_max,
      staleOk: command.stale_ok,
      rerunCheck: command.rerun_check,
      isolation: command.isolation,
      onCommitted: (what) => (committed = what),
      onRerun: (rerun) => causes.push(...rerun.causes.map((cause) => cause.name)),
    },
  );
  if (body.kept !== undefined) {
    try {
      await body.kept.find(client.ref("/kept"));
      body.results.push("used");
    } catch (error) {
      if (!(error instanceof stm.TransactionClosed)) throw error;
      body.results.push("transaction-closed");
    }
  }
  return {
    results: body.results,
    version: String(committed.version),
    runs: body.runs,
    on_commits: body.onCommits,
    repeated: committed.repeated,
    causes,
  };
}

// The null RPC of this language: what any call costs at least.
function nullCall(command) {
  const channel = channels.get(command.client);
  const serialize = () => Buffer.alloc(0);
  const deserialize = (bytes) => bytes;
  return () =>
    new Promise((resolve, reject) => {
      channel.makeUnaryRequest("/grpc.health.v1.Health/Check", serialize, deserialize, null, (error) => {
        if (error) reject(new stm.Unavailable(error.message));
        else resolve(null);
      });
    });
}

// A step of a body that is repeated, read once.
function stepOf(client, [verb, name, ...rest]) {
  const ref = client.ref(name);
  if (verb === "get") return (tx) => tx.get(ref);
  if (verb === "set") {
    const value = native(rest[0]);
    return (tx) => tx.set(ref, value);
  }
  if (verb === "commute") {
    const op = opOf(rest[0], rest[1]);
    return (tx) => tx.commute(ref, op);
  }
  throw new Error(`no such step is repeated: ${verb}`);
}

// One call of what "repeat" repeats, with its command read once.
function callOf(command) {
  const { name } = command;
  if (command.do === "null") return nullCall(command);
  const client = clientOf(command);
  switch (command.do) {
    case "get": {
      const ref = client.ref(name, optional(command.init));
      return () => ref.get();
    }
    case "set": {
      const ref = client.ref(name, undefined, definitionOf(command));
      const value = native(command.value);
      return () => client.transact((tx) => tx.set(ref, value));
    }
    case "apply": {
      const atom = client.atom(name, optional(command.init));
      const op = opOf(command.op[0], command.op[1]);
      return () => atom.apply(op);
    }
    case "lock-unlock": {
      const lock = client.lock(name);
      return async () => (await lock.acquire()).release();
    }
    case "watch":
      return async () => {
        const controller = new AbortController();
        const options = { signal: controller.signal, onSynced: () => controller.abort() };
        try {
          for await (const commit of client.watch(command.names, options)) void commit;
        } catch (error) {
          if (!controller.signal.aborted) throw error;
        }
      };
    case "transact": {
      const steps = command.body.map((step) => stepOf(client, step));
      return () =>
        client.transact(async (tx) => {
          for (const step of steps) await step(tx);
        });
    }
    default:
      throw new Error(`no such command is repeated: ${command.do}`);
  }
}

async function repeat(command) {
  const call = callOf({ client: command.client, ...command.command });
  const times = Number(command.times ?? 1);
  const took = [];
  let begun = 0;
  let failed = 0;
  let first = null;
  const began = performance.now();
  const caller = async () => {
    while (begun++ < times) {
      const from = performance.now();
      try {
        await call();
      } catch (error) {
        if (failed++ === 0) first = errorOf(error);
      }
      took.push((performance.now() - from) * 1000);
    }
  };
  await Promise.all(Array.from({ length: Number(command.callers ?? 1) }, caller));
  const seconds = (performance.now() - began) / 1000;
  took.sort((a, b) => a - b);
  const at = (share) => (took.length === 0 ? 0 : took[Math.floor(share * (took.length - 1))]);
  return { p50_us: at(0.5), p99_us: at(0.99), seconds, failed, first_error: first };
}

async function act(id, state, command) {
  const { name } = command;
  const { signal } = state.controller;
  const call = { timeoutMs: command.timeout_ms, signal };
  switch (command.do) {
    case "connect": {
      const client = await stm.connect({
        address: command.address,
        prefix: command.prefix,
        clientName: command.client_name,
        unavailableTimeoutMs: command.unavailable_ms,
        sessionTtlMs: command.session_ttl_ms,
        ints: "bigint",
        warn: (text) => say(id, { event: "warning", text }),
      });
      clients.set(command.client, client);
      const [address] = (command.address ?? client.address).split(",");
      channels.get(command.client)?.close();
      channels.set(command.client, new grpc.Client(address, grpc.credentials.createInsecure()));
      return null;
    }
    case "close":
      await clientOf(command).close();
      clients.delete(command.client);
      channels.get(command.client)?.close();
      channels.delete(command.client);
      for (const [key, one] of held) if (one.client === command.client) held.delete(key);
      return null;
    case "transact":
      return transact(id, state, command);
    case "repeat":
      return repeat(command);
    case "null":
      return nullCall(command)();
    case "release":
      await heldOf(command.held).release();
      return null;
    case "lost": {
      const one = heldOf(command.held);
      if (one.lost) return true;
      return new Promise((resolve) => {
        const timer = setTimeout(() => resolve(one.lost), Number(command.wait_ms));
        one.signal.addEventListener("abort", () => {
          clearTimeout(timer);
          resolve(true);
        });
      });
    }
  }
  const client = clientOf(command);
  const ref = client.ref(name, optional(command.init), definitionOf(command));
  const atom = () => client.atom(name, optional(command.init));
  const write = { ...call, label: command.label };
  switch (command.do) {
    case "get":
      return toJson(await (command.atom ? atom() : ref).get(call));
    case "find":
      return toJson(await ref.find(call));
    case "set":
      await client.transact((tx) => tx.set(ref, native(command.value)), write);
      return null;
    case "delete":
      await ref.delete(write);
      return null;
    case "move-point": {
      const points = client.ref(name, undefined, {
        type: Point,
        parse: (point) => {
          for (const field of [point.x, point.yAxis]) {
            if (typeof field !== "bigint") throw new TypeError(`a Point has integers, not ${String(field)}`);
          }
          return point;
        },
      });
      const move = (point) => new Point(point.x + BigInt(command.by), point.yAxis);
      await client.transact((tx) => tx.alter(points, move), write);
      return toJson(await ref.get(call));
    }
    case "define":
      await ref.define(definitionOf(command), write);
      return null;
    case "reset":
      await atom().reset(native(command.value), write);
      return null;
    case "swap-add":
      return toJson(await atom().swap((value) => value + BigInt(command.by), write));
    case "compare-and-set":
      return atom().compareAndSet(optional(command.expected), native(command.value), write);
    case "apply":
      return toJson(await atom().apply(opOf(command.op[0], command.op[1]), write));
    case "list":
      return (await client.list(name)).map((entry) => [entry.name, toJson(entry.value)]);
    case "history":
      return (await ref.history()).map(commitOf);
    case "at":
      return toJson(await client.at(BigInt(command.version)).find(ref));
    case "records": {
      const found = [];
      for await (const record of client.records({ tags: command.tags })) found.push(toJson(record.value));
      return found;
    }
    case "watch":
      for await (const commit of client.watch(command.names, {
        ...call,
        initial: command.initial,
        after: command.after === undefined ? undefined : BigInt(command.after),
        progressEveryMs: command.progress_ms,
        onSynced: (version) => say(id, { event: "synced", version: String(version) }),
      })) {
        say(id, { event: "commit", commit: commitOf(commit) });
      }
      return null;
    case "follow":
      for await (const value of ref.follow({ signal })) say(id, { event: "value", value: toJson(value) });
      return null;
    case "acquire": {
      const lock = client.lock(name, {
        shared: command.shared,
        owner: command.owner,
        permitsMax: command.permits_max,
        permits: command.permits,
      });
      const got = await lock.acquire({ ...call, waitMs: command.wait_ms });
      held.set(command.held, { client: command.client, held: got });
      return String(got.token);
    }
    case "lock": {
      const lock = await client.lockInfo(name);
      return [lock.holders.length, lock.queue.length];
    }
    case "outcome":
      return (await client.outcome(command.word)) === undefined ? "not-committed" : "committed";
    default:
      throw new Error(`no such command: ${command.do}`);
  }
}

class Running {
  controller = new AbortController();
  #gone = 0;
  #waiting = [];
  constructor() {
    setMaxListeners(0, this.controller.signal);
  }
  goneOn(times) {
    return new Promise((resolve) => {
      this.#waiting.push({ times, resolve });
      this.go(0);
    });
  }
  go(times = 1) {
    this.#gone += times;
    this.#waiting = this.#waiting.filter(({ times: wanted, resolve }) => {
      if (wanted > this.#gone) return true;
      resolve();
      return false;
    });
  }
}

async function begin(command) {
  const { id } = command;
  const state = new Running();
  running.set(id, state);
  try {
    say(id, { ok: await act(id, state, command) });
  } catch (error) {
    try {
      say(id, { error: errorOf(error) });
    } catch (broken) {
      say(id, { broken: broken?.stack ?? String(broken) });
    }
  }
  running.delete(id);
}

const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const command = JSON.parse(line);
  if (command.do === "go") running.get(command.of)?.go();
  else if (command.do === "stop") running.get(command.of)?.controller.abort();
  else void begin(command);
});
lines.on("close", async () => {
  for (const state of running.values()) {
    state.controller.abort();
    state.go(1_000_000);
  }
  await Promise.all([...clients.values()].map((client) => client.close()));
  process.exit(0);
});
