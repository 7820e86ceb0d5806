// What programs build from refs again and again, on the public API alone. (Once is the option `once` of transact.)
import type { Client, Ref, Tx } from "./client.js";
import { StmError } from "./errors.js";
import type { AcquireOptions, Held } from "./locks.js";
import { op } from "./op.js";
import type { Class } from "./records.js";
import type { RecordOf } from "./streams.js";
import type { CallOptions, TransactOptions } from "./transact.js";

/**
 * One ref that holds a vector: first in, first out, whole within a transaction with whatever else it changes. A value is bounded
 * (value_bytes_max), and so is the queue: it is for work to be done, not for storage.
 */
export class Queue<T> {
  readonly #client: Client;
  readonly #ref: Ref<readonly T[]>;

  constructor(client: Client, name: string) {
    this.#client = client;
    this.#ref = client.ref<readonly T[]>(name, []);
  }
  /** Never conflicts with others that put. */
  put(tx: Tx, item: T): void {
    tx.commute(this.#ref, op.conj(item));
  }
  /** Sleeps until there is one. */
  async take(tx: Tx): Promise<T> {
    const [first, ...rest] = await tx.get(this.#ref);
    if (first === undefined) tx.retry();
    tx.set(this.#ref, rest);
    return first;
  }
  /** put, in a transaction of its own. */
  async add(item: T, options: TransactOptions = {}): Promise<void> {
    await this.#client.transact((tx) => {
      this.put(tx, item);
    }, options);
  }
  /** take, in a transaction of its own. */
  next(options: TransactOptions = {}): Promise<T> {
    return this.#client.transact((tx) => this.take(tx), options);
  }
  /** undefined: empty. */
  tryNext(options: TransactOptions = {}): Promise<T | undefined> {
    return this.#client.transact(
      (tx) =>
        tx.orElse(
          () => this.take(tx),
          () => undefined,
        ),
      options,
    );
  }
}

/** Holds `parties` callers back until all of them have come, and then is as new. */
export class Barrier {
  readonly #client: Client;
  readonly #parties: number;
  readonly #ref: Ref<readonly number[]>; // those who came, and the round

  constructor(client: Client, name: string, parties: number) {
    this.#client = client;
    this.#parties = parties;
    this.#ref = client.ref<readonly number[]>(name, [0, 0]);
  }
  /** A caller whose time is up has come all the same: it is counted once, and does not come again. */
  async await(options: TransactOptions = {}): Promise<void> {
    const mine = await this.#client.transact(async (tx) => {
      const [came = 0, round = 0] = (await tx.get(this.#ref)).map(Number);
      tx.set(this.#ref, came + 1 < this.#parties ? [came + 1, round] : [0, round + 1]);
      return round;
    });
    await this.#client.transact(async (tx) => {
      if (Number((await tx.get(this.#ref))[1]) === mine) tx.retry();
    }, options);
  }
}

/**
 * One leader at a time: who holds the lock `name`, and says so in the ref `name`, written under its fence and bound to its session,
 * so that it goes with it. What a leader does for others it fences by its Held.
 */
export class Election {
  readonly #client: Client;
  readonly #name: string;
  readonly #leader: Ref<string>;

  constructor(client: Client, name: string) {
    this.#client = client;
    this.#name = name;
    this.#leader = client.ref<string>(name);
  }
  /** Waits its turn and proclaims `id`, as which the lock is held, too. It leads until it resigns or the Held is lost. */
  async campaign(id: string, options: AcquireOptions = {}): Promise<Held> {
    const held = await this.#client.lock(this.#name, { owner: id }).acquire(options);
    try {
      await this.proclaim(held, id);
    } catch (error) {
      await held[globalThis.Symbol.asyncDispose]();
      throw error;
    }
    return held;
  }
  /** What observers see, anew. @throws LockLost: it leads no more, and nothing was changed. */
  async proclaim(held: Held, value: string): Promise<void> {
    await this.#client.transact((tx) => {
      tx.fence(held);
      tx.set(this.#leader, value);
      tx.define(this.#leader, { ephemeral: true });
    });
  }
  async resign(held: Held): Promise<void> {
    await this.#client.transact((tx) => {
      tx.fence(held);
      tx.delete(this.#leader);
    });
    await held.release();
  }
  /** Who leads now (undefined: nobody), then each change. */
  observe(options: CallOptions = {}): AsyncGenerator<string | undefined, void, undefined> {
    return this.#leader.follow(options);
  }
}

/** Follows records into a state of this process's own: an index, a read model, a triple store. */
export class Fold<State, C extends Class<unknown>[]> {
  readonly #client: Client;
  readonly #types: [...C];
  readonly #step: (state: State, record: InstanceType<C[number]>) => State;
  #state: State;
  #version = 0n;

  constructor(
    client: Client,
    state: State,
    types: [...C],
    step: (state: State, record: InstanceType<C[number]>) => State,
  ) {
    if (types.length === 0) throw new StmError("a Fold is of records of some class: name one");
    this.#client = client;
    this.#state = state;
    this.#types = types;
    this.#step = step;
  }
  /** Takes in what was recorded since. After an error the state is as it was before the call. */
  async update(options: CallOptions = {}): Promise<State> {
    let state = this.#state;
    let version = this.#version;
    const fromVersion = version === 0n ? undefined : version + 1n;
    const read = this.#client.records(...this.#types, { ...options, fromVersion });
    for await (const record of read as AsyncIterable<RecordOf<InstanceType<C[number]>>>) {
      state = this.#step(state, record.value);
      version = record.version;
    }
    this.#state = state;
    this.#version = version;
    return state;
  }
  get state(): State {
    return this.#state;
  }
  /** Of the newest record taken in. */
  get version(): bigint {
    return this.#version;
  }
}
