// What no scenario can say as data, or is JavaScript's own. Against a daemon that the package's fixture starts.
import assert from "node:assert/strict";
import { AsyncLocalStorage } from "node:async_hooks";
import { after, before, test } from "node:test";

import * as stm from "@stmd/client";

let daemon: stm.Daemon;
let client: stm.Client;
before(async () => {
  daemon = await stm.startDaemon();
  client = await daemon.connect({ clientName: "test" });
});
after(async () => {
  await client.close();
  await daemon.stop();
});

let entries = 0;
const fresh = (): string => `/t/${++entries}`;
const bigClient = (options: stm.ConnectOptions = {}): Promise<stm.Client> =>
  daemon.connect({ ints: "bigint", ...options });
/** By a client that reads integers as bigint and doubles as number: what kind is it? */
async function exact(name: string): Promise<unknown> {
  await using other = await bigClient();
  return await other.ref<unknown>(name).get();
}
async function put(name: string, value: unknown): Promise<void> {
  await client.transact((tx) => {
    tx.set(client.ref<unknown>(name), value);
  });
}

test("whole numbers are integers and others doubles, and double() forces", async () => {
  const name = fresh();
  await put(name, [1, 1.5, stm.double(1), -0, 2 ** 60]);
  assert.deepEqual(await exact(name), [1n, 1.5, 1, -0, 2 ** 60]);
});

test("a number keeps the kind that it had where an alter puts it", async () => {
  const name = fresh();
  await put(name, { price: stm.double(10), count: 3, deep: [stm.double(2), { x: stm.double(0) }] });
  const ref = client.ref<{ price: number; count: number; deep: unknown[] }>(name);
  await client.transact(async (tx) => {
    await tx.alter(ref, (v) => ({ ...v, price: v.price + 1, count: v.count + 1, deep: [4, { x: 1 }, 5] }));
  });
  assert.deepEqual(await exact(name), { price: 11, count: 4n, deep: [4, { x: 1 }, 5n] });
});

test("what was read and moved elsewhere unchanged is the same value", async () => {
  const name = fresh();
  await put(name, [[stm.double(1)], [2]]);
  await client.transact(async (tx) => {
    await tx.alter(client.ref<unknown[]>(name), (v) => [...v].reverse());
  });
  assert.deepEqual(await exact(name), [[2n], [1]]);
});

test("an integer past 2^53 is BadValue that names the ref, and a bigint with ints: bigint", async () => {
  const name = fresh();
  await put(name, [2n ** 53n]);
  await assert.rejects(client.ref(name).get(), (error) => {
    assert.ok(error instanceof stm.BadValue);
    assert.equal(error.name, name);
    assert.match(error.message, /ints: "bigint"$/);
    return true;
  });
  assert.deepEqual(await exact(name), [2n ** 53n]);
});

test("what has no EDN form is BadValue that names the entry, and nothing is changed", async () => {
  const name = fresh();
  class Unregistered {
    readonly x = 1;
  }
  const cycle: unknown[] = [];
  cycle.push(cycle);
  for (const value of [
    undefined,
    [undefined],
    () => 1,
    2n ** 63n,
    "\ud800",
    new Unregistered(),
    cycle,
    new Date(NaN),
  ]) {
    await assert.rejects(put(name, value), (error) => error instanceof stm.BadValue && error.name === name);
  }
  assert.equal(await client.ref(name).find(), undefined);
});

test("absence is undefined and nil is null", async () => {
  const name = fresh();
  const ref = client.ref<null>(name);
  assert.equal(await ref.find(), undefined);
  await assert.rejects(ref.get(), stm.Absent);
  await put(name, null);
  assert.equal(await ref.get(), null);
});

test("decoded composites are frozen", async () => {
  const name = fresh();
  await put(name, { list: [1] });
  const value = await client.ref<{ list: number[] }>(name).get();
  assert.throws(() => value.list.push(2), TypeError);
  await assert.rejects(
    client.transact(async (tx) => {
      await tx.alter(client.ref<{ list: number[] }>(name), (v) => {
        v.list.push(2);
        return v;
      });
    }),
    TypeError,
  );
  assert.deepEqual(await client.ref(name).get(), { list: [1] });
});

test("an alter whose function gives nothing, or a promise, is BadValue", async () => {
  const name = fresh();
  const ref = client.ref<unknown>(name, 1);
  for (const change of [() => undefined, () => Promise.resolve(2)]) {
    await assert.rejects(
      client.transact((tx) => tx.alter(ref, change)),
      stm.BadValue,
    );
  }
  assert.equal(await ref.find(), undefined);
});

test("maps of other keys are StmMap and sets are StmSet, equal by content", async () => {
  const name = fresh();
  const map = new stm.StmMap<unknown, unknown>([
    [new stm.Keyword("a"), 1],
    [[1, stm.double(1)], new stm.StmSet([1, stm.double(1)])],
    ["__proto__", 2],
  ]);
  await put(name, map);
  const read = (await client.ref(name).get()) as stm.StmMap<unknown, unknown>;
  assert.ok(stm.equals(read.get(new stm.Keyword("a")), 1));
  assert.equal((read.get([1, stm.double(1)]) as stm.StmSet).size, 2);
  await put(name, { ["__proto__"]: 1, b: 2 });
  assert.deepEqual(Object.entries(await client.ref<object>(name).get()), [
    ["__proto__", 1],
    ["b", 2],
  ]);
});

test('keys: "keyword" makes the keys of plain objects keywords, both ways', async () => {
  const name = fresh();
  await using keyed = await daemon.connect({ keys: "keyword" });
  await keyed.transact((tx) => {
    tx.set(keyed.ref<unknown>(name), { firstName: "a", n: 1 });
  });
  assert.deepEqual(await keyed.ref(name).get(), { firstName: "a", n: 1 });
  const plain = (await client.ref(name).get()) as stm.StmMap<unknown, unknown>;
  assert.equal(plain.get(new stm.Keyword("firstName")), "a");
});

class Person {
  constructor(
    readonly fullName: string,
    readonly bornAt: stm.Instant,
  ) {}
}
stm.record("test.Person", Person);

test("a registered class is read back as its instance, and fields that it does not know are kept in place", async () => {
  const name = fresh();
  const kw = (text: string): stm.Keyword => new stm.Keyword(text);
  const born = stm.Instant.parse("1969-12-31T23:59:59.999999999Z");
  const fields = new stm.StmMap<unknown, unknown>([
    [kw("full-name"), "Ann"],
    [kw("born-at"), born],
    [kw("shoe-size"), stm.double(40)],
    [kw("other/odd"), 1],
  ]);
  await put(name, [new stm.Tagged("test.Person", fields)]);
  const ref = client.ref<Person[]>(name);
  const [ann] = await ref.get();
  assert.ok(ann instanceof Person);
  assert.equal(ann.fullName, "Ann");
  assert.equal(ann.bornAt.epochNanoseconds, -1n);
  await client.transact((tx) => tx.alter(ref, ([one]) => (one ? [new Person("Bea", one.bornAt), one] : [])));
  await using other = await bigClient();
  const [bea, same] = await other.ref<Record<string, unknown>[]>(name).get();
  assert.equal(same?.["shoeSize"], 40);
  assert.equal(bea?.["fullName"], "Bea");
  assert.equal(bea["shoeSize"], undefined, "Ann was moved as she was: what was hers is not grafted on another");
  await client.transact((tx) =>
    tx.alter(ref, ([one, two]) => [one, two && new Person("Ann B", two.bornAt)] as Person[]),
  );
  const [, annB] = await other.ref<Record<string, unknown>[]>(name).get();
  assert.equal(annB?.["shoeSize"], 40);
});

test("two fields of one class that spell one keyword are an error at registration", () => {
  class Twice {
    startDate = 1;
    start_date = 2;
  }
  assert.throws(() => {
    stm.record("test.Twice", Twice, { fields: ["startDate", "start_date"] });
  }, stm.BadValue);
});

test("register() takes any encoding", async () => {
  class Money {
    constructor(readonly cents: bigint) {}
  }
  stm.register(
    "test.Money",
    Money,
    (money) => money.cents,
    (value) => new Money(BigInt(value as number)),
  );
  const name = fresh();
  await put(name, [new Money(5n)]);
  const [money] = await client.ref<Money[]>(name).get();
  assert.ok(money instanceof Money);
  assert.equal(money.cents, 5n);
});

test("a value that is not what the handle asks for is BadValue", async () => {
  const name = fresh();
  await put(name, 1);
  await assert.rejects(client.ref(name, undefined, { type: Person }).get(), stm.BadValue);
  const parse = (value: unknown): string => {
    if (typeof value !== "string") throw new Error("no string");
    return value;
  };
  await assert.rejects(client.ref<string>(name, undefined, { parse }).get(), { reason: "bad-value", name });
});

test("reads of one turn are one snapshot, asked for together", async () => {
  const names = [fresh(), fresh(), fresh()];
  for (const name of names) await put(name, name);
  const got = await client.transact((tx) => Promise.all(names.map((name) => tx.get(client.ref<string>(name)))));
  assert.deepEqual(got, names);
});

test("an alter that was not awaited fails the transaction, and nothing is changed", async () => {
  const ref = client.ref(fresh(), 0);
  await assert.rejects(
    client.transact((tx) => {
      void tx.alter(ref, (n) => n + 1).catch(() => undefined);
    }),
    stm.TransactionClosed,
  );
  assert.equal(await ref.find(), undefined);
});

test("two joined transactions at once in one body are refused", async () => {
  const ref = client.ref(fresh(), 0);
  const add = (): Promise<number> => client.transact((tx) => tx.alter(ref, (n) => n + 1));
  await assert.rejects(
    client.transact(() => Promise.all([add(), add()])),
    stm.BadValue,
  );
  assert.equal(await ref.find(), undefined);
});

test("a transaction of another task is its own, not joined", async () => {
  const [a, b] = [client.ref(fresh(), 0), client.ref(fresh(), 0)];
  await Promise.all([a, b].map((ref) => client.transact((tx) => tx.alter(ref, (n) => n + 1))));
  assert.deepEqual([await a.get(), await b.get()], [1, 1]);
});

test("I/O inside a body is InTransaction, and io() fails it", async () => {
  await assert.rejects(
    client.transact(() => client.list("/")),
    stm.InTransaction,
  );
  await assert.rejects(
    client.transact(() => {
      try {
        stm.io();
      } catch {
        // Swallowed, and the transaction fails all the same.
      }
    }),
    stm.InTransaction,
  );
  stm.io();
});

test("an abort ends a sleeping transaction with the signal's reason, a timeout with TimeoutError", async () => {
  const ref = client.ref(fresh(), 0);
  const sleeping = (options: stm.TransactOptions): Promise<unknown> =>
    client.transact(async (tx) => {
      await tx.get(ref);
      tx.retry();
    }, options);
  const reason = new Error("enough");
  const controller = new AbortController();
  const slept = sleeping({ signal: controller.signal });
  controller.abort(reason);
  await assert.rejects(slept, reason);
  await assert.rejects(sleeping({ timeoutMs: 20 }), { name: "TimeoutError" });
  await assert.rejects(sleeping({ signal: AbortSignal.timeout(20) }), { name: "TimeoutError" });
});

test("once: a second call returns the first one's result and runs nothing", async () => {
  const ref = client.ref(fresh(), 0);
  const once = `key-${entries}`;
  let runs = 0;
  const order = (): Promise<{ n: number }> =>
    client.transact(
      async (tx) => {
        ++runs;
        return { n: await tx.alter(ref, (n) => n + 1) };
      },
      { once },
    );
  assert.deepEqual([await order(), await order(), runs], [{ n: 1 }, { n: 1 }, 1]);
});

test("rerunCheck shows where two runs of a body differ", async () => {
  const ref = client.ref(fresh(), 0);
  let n = 0;
  const body = (tx: stm.Tx): void => {
    tx.set(ref, ++n);
  };
  await assert.rejects(client.transact(body, { rerunCheck: true }), stm.RerunDiffers);
  await client.transact((tx) => tx.alter(ref, (v) => v + 1), { rerunCheck: true });
  assert.equal(await ref.get(), 1);
});

test("hooks hear of reruns with their causes, and of each transaction's end", async () => {
  const finished: stm.Finished[] = [];
  await using hooked = await daemon.connect({ onTransaction: (one) => finished.push(one) });
  const ref = hooked.ref(fresh(), 0);
  const reruns: stm.Rerun[] = [];
  await hooked.transact(
    async (tx) => {
      const n = await tx.get(ref);
      if (tx.run === 1) await put2(ref.name, 5);
      tx.set(ref, n + 1);
    },
    { label: "count", onRerun: (rerun) => reruns.push(rerun) },
  );
  assert.equal(reruns[0]?.causes[0]?.name, ref.name);
  assert.deepEqual([finished.at(-1)?.label, finished.at(-1)?.runs, finished.at(-1)?.error], ["count", 2, undefined]);
  assert.equal(await ref.get(), 6);
});
/** From within a body, where put itself would join. */
const put2 = (name: string, value: number): Promise<void> => outside(() => put(name, value));
const outside = AsyncLocalStorage.snapshot() as <T>(work: () => T) => T;

test("a commute's result is there when the transaction is committed, a pop's is what was removed", async () => {
  const ref = client.ref(fresh(), [1, 2]);
  const popped = await client.transact((tx) => tx.commute(ref, stm.op.pop()));
  assert.equal(popped.value, 2);
  const counter = client.atom(fresh(), 0);
  assert.equal(await counter.apply(stm.op.add(5)), 5);
  assert.equal(await counter.swap((n) => n * 2), 10);
  assert.deepEqual([await counter.compareAndSet(10, 1), await counter.compareAndSet(10, 2)], [true, false]);
});

test("an atom's compareAndSet compares a whole double as the number that it was read as", async () => {
  const atom = client.atom<unknown>(fresh());
  await atom.reset(stm.double(10));
  assert.equal(await atom.compareAndSet(10, 11), true);
  assert.equal(await exactAtom(atom.name), 11);
});
async function exactAtom(name: string): Promise<unknown> {
  await using other = await bigClient();
  return await other.atom<unknown>(name).get();
}

test("a validator is EDN text or a value, and Rejected names the rule", async () => {
  const ref = client.ref(fresh(), 0, { validator: "[:and :int [:min 0]]" });
  await client.transact((tx) => tx.alter(ref, (n) => n + 1));
  await assert.rejects(
    client.transact((tx) => tx.alter(ref, (n) => n - 5)),
    (error) => error instanceof stm.Rejected && error.rejectedBecause === "validator" && error.name === ref.name,
  );
  assert.ok(Array.isArray((await ref.definition())?.validator));
});

test("a lock is released at the block's end, and its signal is aborted when an operator breaks it", async () => {
  const lock = client.lock(fresh());
  {
    await using held = await lock.acquire();
    assert.ok(held.token > 0n);
    await assert.rejects(client.lock(lock.name, { owner: "b" }).acquire({ waitMs: 0 }), stm.LockBusy);
  }
  const held = await lock.acquire({ waitMs: 0 });
  const lost = new Promise((resolve) => {
    held.signal.addEventListener("abort", resolve);
  });
  assert.equal(await client.breakLock(lock.name), true);
  await lost;
  assert.ok(held.signal.reason instanceof stm.LockLost);
  await assert.rejects(
    client.transact((tx) => {
      tx.fence(held);
    }),
    stm.LockLost,
  );
  await assert.rejects(held.release(), stm.LockLost);
});

test("a condition is awaited and notified", async () => {
  const lock = fresh();
  const waiting = await client.lock(lock, { owner: "a" }).acquire();
  const signalled = waiting.await("ready");
  const other = await client.lock(lock, { owner: "b" }).acquire();
  assert.equal(await other.notifyAll("ready"), 1);
  await other.release();
  assert.equal(await signalled, true);
  await waiting.release();
});

test("a watch ends when its loop is left, and follow gives the newest values", async () => {
  const ref = client.ref(fresh(), 0);
  await put(ref.name, 1);
  const seen: unknown[] = [];
  for await (const value of ref.follow()) {
    seen.push(value);
    if (value === 2) break;
    await put(ref.name, 2);
  }
  assert.deepEqual(seen, [1, 2]);
  for await (const commit of client.watch(ref.name, { initial: true })) {
    assert.equal(commit.initial, true);
    break;
  }
});

test("the past is read by version and by instant", async () => {
  const ref = client.ref(fresh(), 0);
  const commits: stm.Committed[] = [];
  const add = (): Promise<number> =>
    client.transact((tx) => tx.alter(ref, (n) => n + 1), { onCommitted: (committed) => commits.push(committed) });
  await add();
  await add();
  const [first, second] = commits;
  assert.ok(first && second);
  assert.equal(await client.at(first.version).get(ref), 1);
  assert.equal(await client.at(second.at).find(ref), 2);
  assert.deepEqual(
    (await ref.history()).map((commit) => commit.changes[0]?.after),
    [2, 1],
  );
});

test("prefix is a chroot, in errors too", async () => {
  await using team = await daemon.connect({ prefix: "/team-a" });
  await team.transact((tx) => {
    tx.set(team.ref<number>("/x"), 1);
  });
  assert.equal(await client.ref("/team-a/x").get(), 1);
  assert.deepEqual(await team.names("/"), ["/x"]);
  await assert.rejects(team.ref("/none").get(), { name: "/none" });
});

test("an offer keeps values in this process, and what it throws reaches the caller", async () => {
  const kept = new Map<string, unknown>();
  let full = false;
  const container: stm.VersionedStateContainer = {
    init: () => undefined,
    destroy: () => undefined,
    getStateAt: (name, stamp) => kept.get(`${name} ${stamp}`),
    setStateAt: (name, stamp, value) => {
      if (full) throw new stm.Denied("not now");
      kept.set(`${name} ${stamp}`, value);
    },
    deleteStateAt: (name, stamp) => void kept.delete(`${name} ${stamp}`),
  };
  await using offer = await client.offer("node-test", container, { timeoutMs: 10_000 });
  const ref = client.ref(fresh(), "", { container: offer.container });
  await client.transact((tx) => {
    tx.set(ref, "mine");
  });
  assert.deepEqual([...kept.values()], ["mine"]);
  assert.equal(await ref.get(), "mine");
  full = true;
  await assert.rejects(
    client.transact((tx) => {
      tx.set(ref, "more");
    }),
    stm.Denied,
  );
});

test("recipes: a queue, a barrier, an election, a fold", async () => {
  const queue = new stm.Queue<string>(client, fresh());
  assert.equal(await queue.tryNext(), undefined);
  const next = queue.next();
  await queue.add("a");
  assert.equal(await next, "a");

  const barrier = new stm.Barrier(client, fresh(), 2);
  await Promise.all([barrier.await(), barrier.await()]);

  const election = new stm.Election(client, fresh());
  const held = await election.campaign("n1");
  for await (const leader of election.observe()) {
    assert.equal(leader, "n1");
    break;
  }
  await election.resign(held);

  const fold = new stm.Fold(client, 0, [Person], (n: number) => n + 1);
  await client.transact((tx) => {
    tx.record(new Person("x", stm.Instant.now()));
  });
  assert.equal(await fold.update(), 1);
  assert.equal(await fold.update(), 1);
});

test("an address without a port, and one where nobody is, are errors that name it", async () => {
  await assert.rejects(stm.connect("localhost"), stm.BadValue);
  await assert.rejects(
    stm.connect({ address: "127.0.0.1:1", unavailableTimeoutMs: 50 }),
    (error) =>
      error instanceof stm.Unavailable && error.name === "127.0.0.1:1" && error.message.includes("STM_ADDRESS"),
  );
});

test("after close every call ends with an error that says so", async () => {
  const closed = await daemon.connect();
  const ref = closed.ref(fresh(), 0);
  const waiting = closed.transact(async (tx) => {
    await tx.get(ref);
    tx.retry();
  });
  const watching = (async () => {
    for await (const commit of closed.watch("/")) assert.equal(commit.initial, false);
  })();
  const ends = Promise.all([
    assert.rejects(waiting, /the client is closed/),
    assert.rejects(watching, /the client is closed/),
  ]);
  await closed.close();
  await ends;
  await assert.rejects(ref.get(), /the client is closed/);
});
