// The connection to one daemon at a time: a Link is a channel with its Pipeline, on which many calls are in flight in each
// message; Transport makes a new one, to the next daemon that is ready, when it breaks.
import {
  credentials,
  Client as Channel,
  type ClientDuplexStream,
  type ServiceError,
  status,
  Metadata,
} from "@grpc/grpc-js";

import { closedFailure, type Failure, fromGrpc, unavailable, cancelledFailure } from "./failure.js";
import { Unavailable } from "./errors.js";
import { Names } from "./names.js";
import { AdminServiceService, type GetStatusResponse } from "./proto/stm/v1/admin_service.js";
import type { Header } from "./proto/stm/v1/common.js";
import {
  PipelineCall,
  PipelineResponse,
  type PipelineAnswer,
  TransactionServiceService,
} from "./proto/stm/v1/transaction_service.js";
import { at, between, type Call, left, now, passed, sleep } from "./time.js";

const BACKOFF_MS_MIN = 10;
const BACKOFF_MS_MAX = 1000;
const CONNECT_ATTEMPT_MS_MAX = 3000;
const PROBE_AFTER_MS = 5000;
const PROBE_TIMEOUT_MS = 5000;
const LOOK_EVERY_MS = 1000;
// The daemon refuses more calls in a message.
const MESSAGE_CALLS_MAX = 1024;
// Calls are gathered up to this; one that is larger goes alone.
const MESSAGE_BYTES_MAX = 1 << 20;
// An answer is at most what one transaction may read: the daemon bounds it, and tells its own limits by name.
const RECEIVE_BYTES_MAX = 256 << 20;

/** A method of a generated service. */
export interface Method<Request, Response> {
  readonly path: string;
  readonly requestSerialize: (request: Request) => Buffer;
  readonly responseDeserialize: (bytes: Buffer) => Response;
}

const NO_NAMES = new Names("");

/**
 * What the client knows of the daemon's time: the store, the writer that new ids name, and the newest version in any
 * answer. Seen only grows within one store; another store is only taken by `adopt`.
 */
export class Position {
  store = 0n;
  writer = 0n;
  seen = 0n;

  /** Of an answer on the connection that is in use. Headers of another store are ignored. */
  observe(header: Header | undefined): void {
    if (header?.store !== this.store) return;
    if (header.installedVersion > this.seen) this.seen = header.installedVersion;
    if (header.writer !== 0n) this.writer = header.writer;
  }
  observeVersion(store: bigint, version: bigint): void {
    if (store === this.store && version > this.seen) this.seen = version;
  }
  /** Of a new connection, or of an answer STORE_CHANGED: versions of another store mean nothing any more. */
  adopt(header: Header | undefined): void {
    if (header === undefined) return;
    if (header.store !== this.store) {
      this.store = header.store;
      this.writer = 0n;
      this.seen = 0n;
    }
    this.observe(header);
  }
}

/** How a call ended. `sent`: it may have reached the daemon. */
export type CallEnd =
  | { readonly end: "answered"; readonly sent: true; readonly answer: PipelineAnswer }
  | { readonly end: "broken"; readonly sent: boolean; readonly cause: Failure }
  | { readonly end: "timeout" | "cancelled"; readonly sent: boolean };

interface Pending {
  bytes: Uint8Array;
  readonly number: bigint;
  readonly isCommit: boolean;
  readonly end: (end: CallEnd) => void;
}

/** One connection. Once it is broken it stays so. */
export class Link {
  readonly channel: Channel;
  readonly #stream: ClientDuplexStream<Uint8Array[], PipelineResponse>;
  #nextCall = 1n;
  #queue: Pending[] = [];
  readonly #sent = new Map<bigint, Pending>();
  #writing = false;
  #scheduled = false;
  #broken: Failure | undefined;
  readonly #onBreak = new Set<(cause: Failure) => void>();
  #heard = now();
  #waiting = 0;
  #looker: NodeJS.Timeout | undefined;
  #probing = false;

  constructor(
    readonly address: string,
    channel: Channel,
    private readonly position: Position,
  ) {
    this.channel = channel;
    // Open from the first, so that its end tells of a lost connection, also to who only watches.
    this.#stream = this.#open();
  }

  get alive(): boolean {
    return this.#broken === undefined;
  }

  /** Something came from the daemon. */
  heard(): void {
    this.#heard = now();
  }

  break(cause: Failure): void {
    if (this.#broken !== undefined) return;
    this.#broken = cause;
    const queue = this.#queue;
    const sent = [...this.#sent.values()];
    this.#queue = [];
    this.#sent.clear();
    this.#stream.cancel();
    clearInterval(this.#looker);
    for (const pending of queue) pending.end({ end: "broken", sent: false, cause });
    for (const pending of sent) pending.end({ end: "broken", sent: true, cause });
    for (const callback of [...this.#onBreak]) callback(cause);
    this.#onBreak.clear();
    this.channel.close();
  }

  /** Somebody waits for the daemon; the result says that it is over. `broken` is called if the link breaks meanwhile. */
  wait(broken: (cause: Failure) => void, probe = true): () => void {
    if (this.#broken !== undefined) {
      const cause = this.#broken;
      queueMicrotask(() => {
        broken(cause);
      });
      return () => undefined;
    }
    this.#onBreak.add(broken);
    if (probe) this.#beginWait();
    let over = false;
    return () => {
      if (over) return;
      over = true;
      this.#onBreak.delete(broken);
      if (probe) --this.#waiting;
    };
  }

  #beginWait(): void {
    if (this.#waiting++ > 0) return;
    this.#heard = now();
    this.#looker ??= setInterval(() => {
      this.#look();
    }, LOOK_EVERY_MS).unref();
  }

  #look(): void {
    if (this.#waiting === 0) {
      clearInterval(this.#looker);
      this.#looker = undefined;
    } else if (now() - this.#heard >= PROBE_AFTER_MS) void this.probe();
  }

  /** Asks a daemon that is silent for its status; without an answer the link is broken. */
  async probe(): Promise<boolean> {
    if (this.#probing || this.#broken !== undefined || now() - this.#heard < PROBE_AFTER_MS) return this.alive;
    this.#probing = true;
    const answer = await statusOf(this.channel, PROBE_TIMEOUT_MS);
    this.#probing = false;
    if ("ready" in answer) this.heard();
    else {
      const seconds = (PROBE_AFTER_MS + PROBE_TIMEOUT_MS) / 1000;
      this.break(unavailable(`${this.address} did not answer for ${seconds}s`));
    }
    return this.alive;
  }

  /** One call of the Pipeline. */
  call(request: PipelineCall["request"], bounds: Call): Promise<CallEnd> {
    const cause = this.#broken;
    if (cause !== undefined) return Promise.resolve({ end: "broken", sent: false, cause });
    const number = this.#nextCall++;
    return new Promise((resolve) => {
      this.#beginWait();
      const end = (what: CallEnd): void => {
        --this.#waiting;
        cancelTimer();
        bounds.signal?.removeEventListener("abort", aborted);
        resolve(what);
      };
      const aborted = (): void => {
        end({ end: "cancelled", sent: this.#giveUp(pending) });
      };
      const pending: Pending = {
        bytes: PipelineCall.encode({ call: number, request }).finish(),
        number,
        isCommit: request?.$case === "commit",
        end,
      };
      const cancelTimer = at(bounds.deadline, () => {
        end({ end: "timeout", sent: this.#giveUp(pending) });
      });
      bounds.signal?.addEventListener("abort", aborted);
      this.#enqueue(pending);
    });
  }

  #enqueue(pending: Pending): void {
    this.#queue.push(pending);
    if (this.#writing || this.#scheduled) return;
    this.#scheduled = true;
    // What becomes ready in one turn goes into one message.
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#write();
    });
  }

  /** The caller waits no longer. False: it was never sent, and never will be. */
  #giveUp(pending: Pending): boolean {
    const queued = this.#queue.indexOf(pending);
    if (queued >= 0) {
      this.#queue.splice(queued, 1);
      return false;
    }
    if (this.#sent.delete(pending.number) && !pending.isCommit) {
      const bytes = PipelineCall.encode({
        call: this.#nextCall++,
        request: { $case: "cancel", value: pending.number },
      }).finish();
      this.#enqueue({ bytes, number: 0n, isCommit: false, end: () => undefined });
    }
    return true;
  }

  #write(): void {
    if (this.#writing || this.#queue.length === 0 || this.#broken !== undefined) return;
    const parts: Uint8Array[] = [];
    let bytes = 0;
    let taken = 0;
    for (const pending of this.#queue) {
      if (taken === MESSAGE_CALLS_MAX || (taken > 0 && bytes + pending.bytes.length > MESSAGE_BYTES_MAX)) break;
      bytes += pending.bytes.length;
      parts.push(pending.bytes);
      if (pending.number !== 0n) {
        this.#sent.set(pending.number, pending);
        pending.bytes = NOTHING;
      }
      ++taken;
    }
    this.#queue.splice(0, taken);
    this.#writing = true;
    this.#stream.write(parts, () => {
      this.#writing = false;
      this.#write();
    });
  }

  #open(): ClientDuplexStream<Uint8Array[], PipelineResponse> {
    const method = TransactionServiceService.pipeline;
    const stream = this.channel.makeBidiStreamRequest(
      method.path,
      serializeCalls,
      method.responseDeserialize,
      new Metadata(),
      {},
    );
    stream.on("data", (response: PipelineResponse) => {
      this.#answered(response);
    });
    stream.on("error", (error: ServiceError) => {
      this.break(fromGrpc(error, NO_NAMES));
    });
    stream.on("end", () => {
      this.break(unavailable("the daemon ended the stream"));
    });
    return stream;
  }

  #answered(response: PipelineResponse): void {
    this.heard();
    let newest: Header | undefined;
    for (const answer of response.answers) {
      const header = answer.error?.header ?? answer.response?.value.header;
      if (header !== undefined && (newest === undefined || header.installedVersion >= newest.installedVersion)) {
        newest = header;
      }
    }
    this.position.observe(newest);
    for (const answer of response.answers) {
      const pending = this.#sent.get(answer.call);
      if (pending === undefined) continue; // given up
      this.#sent.delete(answer.call);
      pending.end({ end: "answered", sent: true, answer });
    }
  }
}

const NOTHING = new Uint8Array();

/** A PipelineRequest of calls that are encoded already. */
function serializeCalls(calls: Uint8Array[]): Buffer {
  const parts: Uint8Array[] = [];
  for (const call of calls) {
    const head: number[] = [0x0a];
    let length = call.length;
    for (; length > 0x7f; length >>>= 7) head.push((length & 0x7f) | 0x80);
    head.push(length);
    parts.push(Uint8Array.from(head), call);
  }
  return Buffer.concat(parts);
}

function statusOf(channel: Channel, timeoutMs: number): Promise<GetStatusResponse | Failure> {
  const method = AdminServiceService.getStatus;
  return new Promise((resolve) => {
    channel.makeUnaryRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      {},
      new Metadata(),
      { deadline: Date.now() + timeoutMs },
      (error, response) => {
        resolve(error !== null ? fromGrpc(error, NO_NAMES) : (response ?? unavailable("no answer")));
      },
    );
  });
}

export class Transport {
  #pinned = 0;
  #link: Link | undefined;
  #connecting: Promise<Link | Failure> | undefined;
  #closed = false;
  #last = "connecting took too long";

  constructor(
    private readonly addresses: readonly string[],
    private readonly position: Position,
    private readonly closing: AbortSignal,
  ) {}

  /** The daemon in use. */
  get address(): string {
    return this.addresses[this.#pinned] ?? "";
  }

  /** The link, made anew where it is broken. */
  async get(bounds: Call): Promise<Link | Failure> {
    for (;;) {
      if (this.#isClosed()) return closedFailure();
      if (this.#link?.alive) return this.#link;
      // One connects for all who wait, for as long as it wants itself; who has more time goes on.
      const mine = this.#connecting === undefined;
      this.#connecting ??= this.#connect(bounds).finally(() => (this.#connecting = undefined));
      const made = await within(this.#connecting, mine ? { ...bounds, deadline: Infinity } : bounds);
      if (this.#isClosed()) return closedFailure();
      if (made === "timeout") return this.#noDaemon(0, this.#last);
      if (made === "cancelled") return cancelledFailure(bounds.signal);
      if (made instanceof Link ? made.alive : mine) return made;
      if (passed(bounds.deadline)) return this.#noDaemon(0, this.#last);
    }
  }

  /** Another daemon is tried next, if there is one. */
  leave(link: Link, cause: Failure): void {
    if (this.addresses.length === 1) return;
    if (this.#link === link) this.#pinned = (this.#pinned + 1) % this.addresses.length;
    link.break(cause);
  }

  #isClosed(): boolean {
    return this.#closed || this.closing.aborted;
  }

  close(): void {
    this.#closed = true;
    this.#link?.break(closedFailure());
  }

  #noDaemon(ms: number, why: string): Failure {
    const name = this.addresses.join(",");
    const waited = ms > 0 ? ` for ${Math.round(ms)}ms` : "";
    return {
      code: status.UNAVAILABLE,
      reason: "unavailable",
      error: new Unavailable(
        `no stmd at ${name}${waited}: ${why}: start stmd there, or set STM_ADDRESS to where it runs`,
        { name, found: why },
      ),
    };
  }

  async #connect(bounds: Call): Promise<Link | Failure> {
    const began = now();
    const first = this.#pinned;
    let backoff = BACKOFF_MS_MIN;
    for (;;) {
      for (let i = 0; i < this.addresses.length; ++i) {
        const index = (first + i) % this.addresses.length;
        const link = await this.#try(this.addresses[index] ?? "", bounds);
        if (this.#isClosed()) {
          if (link instanceof Link) link.break(closedFailure());
          return closedFailure();
        }
        if (link instanceof Link) {
          this.#pinned = index;
          this.#link = link;
          return link;
        }
        this.#last = link;
        if (bounds.signal?.aborted) return cancelledFailure(bounds.signal);
        if (passed(bounds.deadline)) break;
      }
      const pause = between(backoff / 2, backoff);
      if (passed(bounds.deadline) || pause >= left(bounds.deadline)) return this.#noDaemon(now() - began, this.#last);
      if (!(await sleep(pause, bounds.signal, this.closing))) {
        return this.closing.aborted ? closedFailure() : cancelledFailure(bounds.signal);
      }
      backoff = Math.min(backoff * 2, BACKOFF_MS_MAX);
    }
  }

  /** A text: why not. */
  async #try(address: string, bounds: Call): Promise<Link | string> {
    const channel = new Channel(address, credentials.createInsecure(), {
      // The backing off is ours: each try is a connection of its own.
      "grpc.use_local_subchannel_pool": 1,
      "grpc.max_receive_message_length": RECEIVE_BYTES_MAX,
      "grpc.max_send_message_length": -1, // the daemon names the bound that is passed
      "grpc.enable_http_proxy": 0,
      "grpc.enable_retries": 0,
      "grpc.enable_channelz": 0, // it would keep something of each connection
      "grpc.service_config_disable_resolution": 1,
    });
    const ended = await statusOf(channel, Math.min(left(bounds.deadline), CONNECT_ATTEMPT_MS_MAX));
    if ("ready" in ended && ended.ready) {
      this.position.adopt(ended.header);
      return new Link(address, channel, this.position);
    }
    channel.close();
    if ("ready" in ended) return `${address} is not ready: ${ended.notReadyBecause}`;
    return `${address}: ${ended.error.message}`;
  }
}

/** What comes first. */
export function within<T>(promise: Promise<T>, bounds: Call): Promise<T | "timeout" | "cancelled"> {
  if (bounds.deadline === Infinity && bounds.signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    const end = (): void => {
      cancelTimer();
      bounds.signal?.removeEventListener("abort", aborted);
    };
    const aborted = (): void => {
      end();
      resolve("cancelled");
    };
    const cancelTimer = at(bounds.deadline, () => {
      end();
      resolve("timeout");
    });
    bounds.signal?.addEventListener("abort", aborted);
    promise.then(
      (value) => {
        end();
        resolve(value);
      },
      (error: unknown) => {
        end();
        reject(error instanceof Error ? error : new Error(String(error)));
      },
    );
  });
}
