// What a client holds locks and ephemeral entries by: one lease at a time, opened when it is first needed and kept by beats
// on a stream of its own. Always: a lease is believed in until the sending of the newest answered beat, and the TTL less a
// margin; then it is over for good, with every grant of it, and the next need opens another. Clocks count suspend. What a
// commit may do is decided by fences, whatever is believed here.
import { type ClientDuplexStream, Metadata, type ServiceError } from "@grpc/grpc-js";
import { setMaxListeners } from "node:events";
import { hostname } from "node:os";

import { CallId, type Core, Outage } from "./core.js";
import { LockLost } from "./errors.js";
import {
  cancelledFailure,
  closedFailure,
  deadlineFailure,
  durationMs,
  type Failure,
  fromGrpc,
  lockLost,
  toDuration,
  unavailable,
} from "./failure.js";
import {
  type KeepAliveRequest,
  type KeepAliveResponse,
  SessionServiceService,
} from "./proto/stm/v1/session_service.js";
import { after, bootTime, type Call, passed, sleep } from "./time.js";
import { Link, within } from "./transport.js";

const CLOSE_MS_MAX = 1000;
// Of closing, in the background, a session that this client believes in no more.
const CLOSE_DROPPED_MS_MAX = 10_000;
// The client stops believing so much of the TTL before the daemon does: for clocks that do not run alike.
const MARGIN_PART = 10;
const MARGIN_MS_MAX = 1000;
const BEATS_IN_TTL = 3;
// A beat that is not answered for so long, or for the time between beats if that is longer, broke its connection.
const ANSWER_MS_MIN = 1000;
// The longest sleep that a clock which stood still in suspend may prolong.
const SLEEP_MS_MAX = 1000;
// Streams in a row that ended by the daemon's own word before another daemon is tried.
const REFUSALS_MAX = 2;
const LOST_EARLY_MAX = 1024;
const CLIENT_BYTES_MAX = 256; // the daemon's bound

/** One session of the daemon's, as this client believes in it. */
export class Lease {
  readonly #marginMs: number;
  #until: number;
  #over = false;
  readonly #gone = new AbortController();

  /** `sent`: when the call that opened it was first sent, by bootTime. */
  constructor(
    readonly id: string,
    readonly ttlMs: number,
    sent: number,
  ) {
    this.#marginMs = Math.min(ttlMs / MARGIN_PART, MARGIN_MS_MAX);
    this.#until = sent + ttlMs - this.#marginMs;
    setMaxListeners(0, this.#gone.signal);
  }
  /** Once true it stays so, whatever is answered later. */
  get over(): boolean {
    if (!this.#over && bootTime() >= this.#until) this.end();
    return this.#over;
  }
  get until(): number {
    return this.#until;
  }
  get leftMs(): number {
    return this.over ? 0 : Math.max(this.#until - bootTime(), 0);
  }
  /** Aborted when it is over. */
  get gone(): AbortSignal {
    return this.#gone.signal;
  }
  /** A beat that was sent then is answered. */
  answered(sent: number): void {
    // Whoever asked may have been told that it is over.
    if (!this.over) this.#until = Math.max(this.#until, sent + this.ttlMs - this.#marginMs);
  }
  end(): void {
    this.#over = true;
    this.#gone.abort(new LockLost("the session is over, with all that it had: acquire the lock again"));
  }
}

/** What a Held shares with the session that may lose it. */
export class Grant {
  token: bigint;
  #lost = false;
  #released = false;
  readonly #gone = new AbortController();
  /** The one call that gives it back, over all who try. */
  readonly release: CallId = new CallId();
  releasing: Promise<unknown> = Promise.resolve();

  /** `lock` as the daemon names it, `name` as the client does. */
  constructor(
    readonly lease: Lease,
    readonly lock: string,
    readonly name: string,
    readonly owner: string,
    token: bigint,
  ) {
    this.token = token;
  }
  /** Lost or released. */
  get over(): boolean {
    return this.#lost || this.#released || this.lease.over;
  }
  get released(): boolean {
    return this.#released;
  }
  /** Aborted when it is lost; not by a release. */
  get signal(): AbortSignal {
    return this.#gone.signal;
  }
  lose(): void {
    if (this.#lost || this.#released) return;
    this.#lost = true;
    this.#gone.abort(lockLost(this.name, "is gone"));
  }
  setReleased(): void {
    this.#released = true;
  }
}

export class Session {
  #lease: Lease | undefined;
  #opening: Promise<Lease | Failure> | undefined;
  #closed = false;
  readonly #grants = new Map<string, Set<Grant>>();
  // Losses that were told before the grant was known here: its answer may still be on its way.
  readonly #lostEarly = new Set<string>();
  #keeping: Promise<void> = Promise.resolve();
  readonly #background = new Set<Promise<unknown>>();

  constructor(private readonly core: Core) {}

  /** A lease that is believed in, opened if there is none. */
  async get(call: Call): Promise<Lease | Failure> {
    for (;;) {
      if (this.#closed) return closedFailure();
      if (call.signal?.aborted) return cancelledFailure(call.signal);
      if (passed(call.deadline)) return deadlineFailure(undefined);
      const lease = this.#lease;
      if (lease !== undefined) {
        if (!lease.over) return lease;
        this.drop(lease, false);
      }
      // One opens for all, within its own bounds; who has more time opens again.
      const mine = this.#opening === undefined;
      this.#opening ??= this.#open(call).finally(() => (this.#opening = undefined));
      const opened = await (mine ? this.#opening : within(this.#opening, call));
      if (opened instanceof Lease || (mine && typeof opened === "object")) return opened;
    }
  }

  async #open(call: Call): Promise<Lease | Failure> {
    let sent = bootTime();
    const answer = await this.core.sendOnce(
      SessionServiceService.openSession,
      new CallId(),
      {
        call,
        outageMsMax: this.core.options.unavailableTimeoutMs,
        // Its lease began no earlier than the first send of its id.
        beforeSend: (isNew) => {
          if (isNew) sent = bootTime();
        },
      },
      (id) => ({
        id,
        client: clientText(this.core.options.clientName),
        ttl: this.core.options.sessionTtlMs === undefined ? undefined : toDuration(this.core.options.sessionTtlMs),
      }),
    );
    if (answer.failure !== undefined) return answer.failure;
    const lease = new Lease(answer.ok.sessionId, durationMs(answer.ok.ttl ?? { seconds: 0n, nanos: 0 }), sent);
    if (this.#closed) {
      lease.end();
      await this.#closeAtDaemon(lease.id, { deadline: after(CLOSE_MS_MAX), signal: undefined });
      return closedFailure();
    }
    this.#lease = lease;
    this.#keeping = this.#keep(lease);
    return lease;
  }

  /** It is over, with all that it had. `known`: the daemon said so; else it is closed there too, in the background. */
  drop(lease: Lease, known: boolean): void {
    lease.end();
    const lost = [...this.#grants.values()].flatMap((set) => [...set]).filter((grant) => grant.lease === lease);
    for (const grant of lost) this.remove(grant);
    const isNewest = this.#lease === lease;
    if (isNewest) this.#lease = undefined;
    for (const grant of lost) grant.lose();
    // Whoever dropped it first saw to its end at the daemon.
    if (known || !isNewest) return;
    this.inBackground(
      this.#closeAtDaemon(lease.id, { deadline: after(CLOSE_DROPPED_MS_MAX), signal: this.core.closing.signal }),
    );
  }

  /** What nobody awaits, and close() waits for. */
  inBackground(work: Promise<unknown>): void {
    const done = work.then(
      () => undefined,
      () => undefined,
    );
    this.#background.add(done);
    void done.then(() => this.#background.delete(done));
  }

  /** From now on the session may lose it, or has already. */
  add(grant: Grant): void {
    const key = keyOf(grant.lock, grant.token);
    // Its lease may have been dropped meanwhile.
    if (this.#lostEarly.has(key) || this.#lease !== grant.lease) {
      grant.lose();
      return;
    }
    const set = this.#grants.get(key);
    if (set === undefined) this.#grants.set(key, new Set([grant]));
    else set.add(grant);
  }

  remove(grant: Grant): void {
    const key = keyOf(grant.lock, grant.token);
    const set = this.#grants.get(key);
    if (set?.delete(grant) && set.size === 0) this.#grants.delete(key);
  }

  /** After a condition: the grant has another token now, for all who have a hold of it. */
  retoken(lock: string, from: bigint, to: bigint): void {
    const grants = [...(this.#grants.get(keyOf(lock, from)) ?? [])];
    this.#grants.delete(keyOf(lock, from));
    for (const grant of grants) {
      grant.token = to;
      this.add(grant);
    }
  }

  /** Every grant of this lock and token that is here. */
  lose(lock: string, token: bigint): void {
    const key = keyOf(lock, token);
    const lost = [...(this.#grants.get(key) ?? [])];
    this.#grants.delete(key);
    if (lost.length === 0) {
      this.#lostEarly.add(key);
      if (this.#lostEarly.size > LOST_EARLY_MAX) {
        for (const first of this.#lostEarly) {
          this.#lostEarly.delete(first);
          break;
        }
      }
    }
    for (const grant of lost) grant.lose();
  }

  /** Ends the session at the daemon, CLOSE_MS_MAX at most. Nothing works afterwards. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const lease = this.#lease;
    this.#lease = undefined;
    const grants = [...this.#grants.values()].flatMap((set) => [...set]);
    this.#grants.clear();
    if (lease !== undefined) {
      lease.end();
      for (const grant of grants) grant.lose();
      await this.#closeAtDaemon(lease.id, { deadline: after(CLOSE_MS_MAX), signal: undefined });
    }
  }
  /** After the core is closing. */
  async ended(): Promise<void> {
    await this.#keeping;
    await Promise.all(this.#background);
  }

  async #closeAtDaemon(sessionId: string, call: Call): Promise<void> {
    await this.core.sendOnce(
      SessionServiceService.closeSession,
      new CallId(),
      { call, outageMsMax: Infinity },
      (id) => ({ id, sessionId }),
    );
  }

  // ---- Beats

  async #keep(lease: Lease): Promise<void> {
    const outage = new Outage(Infinity);
    const closing = this.core.closing.signal;
    let refusals = 0;
    while (!closing.aborted && !this.#closed && !lease.over) {
      const link = await this.core.transport.get({ deadline: after(lease.leftMs), signal: lease.gone });
      let failure: Failure;
      if (link instanceof Link) {
        const before = lease.until;
        const ended = await this.#beatOn(link, lease);
        if (lease.until > before) {
          outage.end();
          refusals = 0;
        }
        if (ended === "over") {
          this.drop(lease, true);
          return;
        }
        failure = ended;
        if (++refusals >= REFUSALS_MAX && link.alive) {
          this.core.transport.leave(link, failure);
          refusals = 0;
        }
      } else failure = link;
      outage.fail(failure);
      await sleep(Math.min(outage.pauseMs, lease.leftMs), closing, lease.gone);
    }
    if (!closing.aborted && !this.#closed) this.drop(lease, false);
  }

  /** Until the stream breaks or the lease is over. "over": the daemon says that the session is. */
  #beatOn(link: Link, lease: Lease): Promise<Failure | "over"> {
    const everyMs = lease.ttlMs / BEATS_IN_TTL;
    const patienceMs = Math.max(everyMs, ANSWER_MS_MIN);
    const sent = new Map<bigint, number>(); // unanswered
    let beat = 0n;
    let next = bootTime();
    return new Promise((resolve) => {
      let timer: NodeJS.Timeout | undefined;
      let done = false;
      const method = SessionServiceService.keepAlive;
      const stream: ClientDuplexStream<KeepAliveRequest, KeepAliveResponse> = link.channel.makeBidiStreamRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        new Metadata(),
        {},
      );
      const end = (what: Failure | "over"): void => {
        if (done) return;
        done = true;
        clearTimeout(timer);
        stopWaiting();
        this.core.closing.signal.removeEventListener("abort", aborted);
        lease.gone.removeEventListener("abort", aborted);
        stream.cancel();
        resolve(what);
      };
      const aborted = (): void => {
        end(closedFailure());
      };
      const stopWaiting = link.wait(end, false);
      const turn = (): void => {
        clearTimeout(timer);
        const at = bootTime();
        if (lease.over) {
          end(unavailable("no beat was answered for the session's TTL"));
          return;
        }
        for (const first of sent.values()) {
          if (at - first >= patienceMs) {
            const failure = unavailable(`${link.address} did not answer a beat for ${Math.round(patienceMs)}ms`);
            end(failure);
            link.break(failure);
            return;
          }
          break;
        }
        if (at >= next) {
          sent.set(++beat, at);
          stream.write({ sessionId: lease.id, beat, seen: this.core.seen() });
          next = at + everyMs;
        }
        let wait = Math.min(next - at, lease.leftMs, SLEEP_MS_MAX);
        for (const first of sent.values()) {
          wait = Math.min(wait, first + patienceMs - at);
          break;
        }
        timer = setTimeout(turn, Math.max(wait, 1));
      };
      stream.on("data", (message: KeepAliveResponse) => {
        link.heard();
        this.core.position.observe(message.header);
        if (message.sessionId !== lease.id) return;
        if (message.expired) {
          end("over");
          return;
        }
        const was = sent.get(message.beat);
        if (was !== undefined) {
          lease.answered(was);
          for (const one of sent.keys()) if (one <= message.beat) sent.delete(one);
        }
        for (const fence of message.lost) this.lose(fence.lock, fence.token);
      });
      stream.on("end", () => {
        end(unavailable("the daemon ended the stream of beats"));
      });
      stream.on("error", (error: ServiceError) => {
        const failure = fromGrpc(error, this.core.names);
        if (failure.reason === "session-expired" || failure.reason === "store-changed") end("over");
        else end(failure);
      });
      this.core.closing.signal.addEventListener("abort", aborted);
      lease.gone.addEventListener("abort", aborted);
      turn();
    });
  }
}

function keyOf(lock: string, token: bigint): string {
  return `${token} ${lock}`;
}

function clientText(program: string): string {
  const text = `${hostname()}/${program}/${process.pid}`;
  return Buffer.from(text)
    .subarray(0, CLIENT_BYTES_MAX)
    .toString()
    .replace(/\uFFFD+$/, "");
}
