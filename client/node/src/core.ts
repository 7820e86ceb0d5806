// Calls to the daemon, sent again as long as it is right to: `ask` what may be repeated, `commit` and `sendOnce` what takes
// effect once, under one id until there is a verdict.
import { Metadata, status, type ServiceError } from "@grpc/grpc-js";
import { randomUUID } from "node:crypto";
import { setMaxListeners } from "node:events";

import {
  asUnavailable,
  cancelledFailure,
  commitUnknownFailure,
  deadlineFailure,
  type Failure,
  fromGrpc,
  fromWire,
  headerOf,
  isTransient,
  retryAfterMs,
  storeChangedFailure,
  unavailable,
} from "./failure.js";
import type { Mode } from "./codec.js";
import type { Names } from "./names.js";
import { ErrorReason, type CommitId, type Header, type Meta, type Seen } from "./proto/stm/v1/common.js";
import {
  type CommitRequest,
  type CommitResponse,
  type PipelineAnswer,
  type PipelineCall,
  TransactionServiceService,
} from "./proto/stm/v1/transaction_service.js";
import { after, between, type Call, left, now, passed, sleep } from "./time.js";
import { Link, type Method, Position, Transport } from "./transport.js";

// A call that was under way for so long before it broke was no part of an outage.
const WAS_WELL_AFTER_MS = 1000;
// How long a commit whose caller's time is up is asked after.
const SETTLE_MS_MAX = 1000;

/** How long calls have failed, and when it is enough. */
export class Outage {
  #until: number | undefined;
  #wellAfter = Infinity;
  #failures = 0;
  cause: Failure | undefined;

  constructor(private readonly limitMs: number) {}

  /** When to give up: the limit after the first failure; without one, the limit from now. */
  get until(): number {
    return this.#until ?? after(this.limitMs);
  }
  /** Of each call, as it begins: one that fails after WAS_WELL_AFTER_MS or more was in no outage. */
  begin(): void {
    this.#wellAfter = now() + WAS_WELL_AFTER_MS;
  }
  fail(cause: Failure): void {
    if (passed(this.#wellAfter)) this.end();
    this.#wellAfter = Infinity;
    this.#until ??= after(this.limitMs);
    ++this.#failures;
    this.cause = cause;
  }
  end(): void {
    this.#until = undefined;
    this.#failures = 0;
  }
  get over(): boolean {
    return this.#until !== undefined && passed(this.#until);
  }
  /** Before the next try: none after the first failure, then 10 ms to 1 s. */
  get pauseMs(): number {
    if (this.#failures <= 1) return 0;
    const backoff = Math.min(10 * 2 ** Math.min(this.#failures - 2, 7), 1000);
    return between(backoff / 2, backoff);
  }
}

/** What became known of a commit beside its verdict. */
export interface Sent {
  transactionId: string;
  resends: number;
}

/** The id of a call, over all its sends. */
export class CallId {
  id: CommitId = { transactionId: "", writer: 0n, seen: undefined, resend: false };
  /** It may have reached a daemon, and no verdict came. */
  sent = false;
}

export interface OnceOptions {
  readonly call: Call;
  /** Milliseconds of one outage; Infinity: as long as the call may take. */
  readonly outageMsMax: number;
  /** What the call is for is over: it ends as UNAVAILABLE. */
  readonly over?: (() => boolean) | undefined;
  /** Called each time before it is sent, with whether the id is new. */
  readonly beforeSend?: ((isNew: boolean) => void) | undefined;
}

export type Answer<T> = { readonly ok: T; readonly failure?: undefined } | { readonly failure: Failure };

export function earlier(call: Call, moment: number): Call {
  return moment < call.deadline ? { deadline: moment, signal: call.signal } : call;
}

export interface CoreOptions {
  readonly addresses: readonly string[];
  readonly names: Names;
  readonly mode: Mode;
  readonly clientName: string;
  readonly unavailableTimeoutMs: number;
  /** undefined: the daemon's default. */
  readonly sessionTtlMs: number | undefined;
  readonly warn: (message: string) => void;
}

export class Core {
  readonly position = new Position();
  readonly transport: Transport;
  readonly closing = new AbortController();

  constructor(readonly options: CoreOptions) {
    setMaxListeners(0, this.closing.signal);
    this.transport = new Transport(options.addresses, this.position, this.closing.signal);
  }

  get names(): Names {
    return this.options.names;
  }
  get mode(): Mode {
    return this.options.mode;
  }

  seen(): Seen {
    return { version: this.position.seen, store: this.position.store };
  }

  meta(label = "", traceparent = ""): Meta {
    return { label, client: this.options.clientName, traceparent, principal: "" };
  }

  /** A call that may be repeated, until it is answered: gets, lists, awaits. `make` is called for each try. */
  async ask(make: () => PipelineCall["request"], call: Call): Promise<Answer<PipelineAnswer>> {
    const outage = new Outage(this.options.unavailableTimeoutMs);
    for (;;) {
      if (call.signal?.aborted) return { failure: cancelledFailure(call.signal) };
      if (passed(call.deadline)) return { failure: deadlineFailure(outage.cause) };
      const link = await this.#link(call, outage);
      if (!(link instanceof Link)) return { failure: link };
      outage.begin();
      const ended = await link.call(make(), call);
      let failure: Failure;
      switch (ended.end) {
        case "answered": {
          if (ended.answer.code === 0) return { ok: ended.answer };
          failure = fromWire(ended.answer.code, ended.answer.message, ended.answer.error, this.names);
          if (failure.reason === "store-changed") this.position.adopt(headerOf(failure));
          if (!isTransient(failure)) return { failure };
          break;
        }
        case "broken":
          failure = ended.cause;
          break;
        case "timeout":
          return { failure: deadlineFailure(outage.cause) };
        case "cancelled":
          return { failure: cancelledFailure(call.signal) };
      }
      const over = await this.#pause(outage, failure, call);
      if (over !== undefined) return { failure: over };
    }
  }

  /** A link within the outage; of its failures those of the caller's own bounds come first. */
  async #link(call: Call, outage: Outage): Promise<Link | Failure> {
    const link = await this.transport.get(earlier(call, outage.until));
    if (link instanceof Link || link.reason === "cancelled") return link;
    if (call.signal?.aborted) return cancelledFailure(call.signal);
    return passed(call.deadline) ? deadlineFailure(link) : link;
  }

  /** Before another try. Not undefined: there is none. */
  async #pause(outage: Outage, failure: Failure, call: Call): Promise<Failure | undefined> {
    outage.fail(failure);
    if (outage.over) return asUnavailable(failure);
    const pause = Math.max(outage.pauseMs, retryAfterMs(failure) ?? 0);
    const whole = await sleep(
      Math.min(pause, left(call.deadline), left(outage.until)),
      call.signal,
      this.closing.signal,
    );
    return whole || !call.signal?.aborted ? undefined : cancelledFailure(call.signal);
  }

  /**
   * `make` gives all but the id; the same content each time. `store`: whose snapshot it names; 0n: none. The answer is a
   * verdict: committed, conflict, rejected or fenceLost.
   */
  async commit(
    make: (id: CommitId) => CommitRequest,
    store: bigint,
    call: Call,
    told: Sent,
  ): Promise<Answer<CommitResponse>> {
    const outage = new Outage(this.options.unavailableTimeoutMs);
    let id: CommitId = { transactionId: randomUUID(), writer: 0n, seen: undefined, resend: false };
    let sent = false; // this id may have reached a daemon
    const newId = (): void => {
      sent = false;
      id = { transactionId: randomUUID(), writer: 0n, seen: undefined, resend: false };
    };
    // Gives up on this id: a verdict that comes in time after all, else `otherwise` if it was never sent.
    const settle = (otherwise: Failure): Answer<CommitResponse> | Promise<Answer<CommitResponse>> =>
      sent ? this.#settle(id, otherwise) : { failure: otherwise };
    for (;;) {
      if (call.signal?.aborted) return settle(cancelledFailure(call.signal));
      if (passed(call.deadline)) return settle(deadlineFailure(outage.cause));
      const link = await this.#link(call, outage);
      if (!(link instanceof Link)) {
        if (link.reason === "cancelled" || link.reason === "deadline") return settle(link);
        return { failure: sent ? commitUnknownFailure(id, link.error.message) : link };
      }
      if (!sent) {
        // Named by what is known now: the writer this id is first sent to alone may ever execute it.
        if (store !== 0n && this.position.store !== store) return { failure: storeChangedFailure() };
        id.writer = this.position.writer;
        id.seen = this.seen();
      }
      if (id.resend) ++told.resends;
      outage.begin();
      const ended = await link.call({ $case: "commit", value: make(id) }, call);
      sent ||= ended.sent;
      let failure: Failure;
      switch (ended.end) {
        case "answered": {
          if (ended.answer.code !== 0) {
            failure = fromWire(ended.answer.code, ended.answer.message, ended.answer.error, this.names);
            // A failure is a verdict on what was sent just now: nothing was changed. On what was sent before only if
            // the daemon got as far as looking the id up, or would have refused it then, too.
            const certain =
              !id.resend || failure.code === status.RESOURCE_EXHAUSTED || failure.code === status.INVALID_ARGUMENT;
            if (failure.reason === "store-changed") {
              this.position.adopt(headerOf(failure));
              if (!id.resend) return { failure };
              return { failure: commitUnknownFailure(id, "the store was changed (wiped or restored) meanwhile") };
            }
            if (!isTransient(failure)) {
              return { failure: certain ? failure : commitUnknownFailure(id, failure.error.message) };
            }
            if (certain) newId();
            break;
          }
          const response = ended.answer.response;
          if (response?.$case !== "commit") {
            return { failure: commitUnknownFailure(id, "the daemon's answer was of another call: report this") };
          }
          switch (response.value.outcome?.$case) {
            case "notCommitted":
              failure = unavailable("the daemon that the commit was sent to is gone");
              newId();
              break;
            case "idTooOld":
              if (id.resend) {
                return { failure: commitUnknownFailure(id, "it was sent too long ago for the daemon to tell") };
              }
              failure = unavailable("the commit's id was too old when it came");
              newId();
              break;
            default:
              told.transactionId = id.transactionId;
              return { ok: response.value };
          }
          break;
        }
        case "broken":
          failure = ended.cause;
          break;
        case "timeout":
          return settle(deadlineFailure(outage.cause));
        case "cancelled":
          return settle(cancelledFailure(call.signal));
      }
      if (sent) id.resend = true;
      const over = await this.#pause(outage, failure, call);
      if (over === undefined) continue;
      if (over.reason === "cancelled") return settle(over);
      return { failure: sent ? commitUnknownFailure(id, failure.error.message) : over };
    }
  }

  async #settle(id: CommitId, otherwise: Failure): Promise<Answer<CommitResponse>> {
    const call: Call = { deadline: after(SETTLE_MS_MAX), signal: undefined };
    let cause = "no answer in time";
    while (!passed(call.deadline)) {
      const outcome = await this.getOutcome({ ...id, resend: true }, call);
      if (outcome.failure === undefined) {
        switch (outcome.ok.outcome?.$case) {
          case "committed":
          case "rejected":
          case "fenceLost":
            return outcome;
          case "conflict":
          case "notCommitted":
            return { failure: otherwise };
          default:
            return { failure: commitUnknownFailure(id, "the daemon cannot tell any more") };
        }
      }
      cause = outcome.failure.error.message;
      if (!isTransient(outcome.failure)) break;
      await sleep(Math.min(20, left(call.deadline)), this.closing.signal);
    }
    return { failure: commitUnknownFailure(id, cause) };
  }

  /** Any outcome; idTooOld included. */
  async getOutcome(id: CommitId, call: Call): Promise<Answer<CommitResponse>> {
    const answer = await this.unary(TransactionServiceService.getOutcome, () => ({ id }), call);
    if (answer.failure !== undefined) return answer;
    const outcome = answer.ok.outcome;
    if (outcome === undefined) return { failure: unavailable("the daemon gave no outcome") };
    this.position.observe(outcome.header);
    return { ok: outcome };
  }

  /** Until it is answered: what may be repeated. */
  async unary<Request, Response>(
    method: Method<Request, Response>,
    make: () => Request,
    call: Call,
  ): Promise<Answer<Response>> {
    const outage = new Outage(this.options.unavailableTimeoutMs);
    for (;;) {
      if (call.signal?.aborted) return { failure: cancelledFailure(call.signal) };
      if (passed(call.deadline)) return { failure: deadlineFailure(outage.cause) };
      const link = await this.#link(call, outage);
      if (!(link instanceof Link)) return { failure: link };
      outage.begin();
      const ended = await this.#sendOn(link, method, make(), call, undefined);
      if (ended.failure === undefined) return ended;
      const { failure } = ended;
      if (failure.reason === "deadline") return { failure: deadlineFailure(outage.cause) };
      if (failure.reason === "store-changed") this.position.adopt(headerOf(failure));
      if (!ended.broken && !isTransient(failure)) return { failure };
      const over = await this.#pause(outage, failure, call);
      if (over !== undefined) return { failure: over };
    }
  }

  /**
   * Until there is a verdict: what changes something. `id` goes on where an earlier sendOnce left it. UNAVAILABLE and the
   * caller's own bounds leave id.sent as it is: the same call may be made again. Whatever else comes is a verdict on the
   * last send.
   */
  async sendOnce<Request, Response extends { header: Header | undefined }>(
    method: Method<Request, Response>,
    id: CallId,
    options: OnceOptions,
    make: (id: CommitId) => Request,
  ): Promise<Answer<Response>> {
    const { call } = options;
    const outage = new Outage(options.outageMsMax);
    for (;;) {
      if (call.signal?.aborted) return { failure: cancelledFailure(call.signal) };
      if (passed(call.deadline)) return { failure: deadlineFailure(outage.cause) };
      const link = await this.#link(call, outage);
      if (!(link instanceof Link)) return { failure: link };
      if (id.sent) id.id.resend = true;
      else {
        id.id = { transactionId: randomUUID(), writer: this.position.writer, seen: this.seen(), resend: false };
      }
      options.beforeSend?.(!id.sent);
      id.sent = true;
      outage.begin();
      const ended = await this.#sendOn(link, method, make(id.id), call, options.over);
      if (ended.failure === undefined) {
        id.sent = false;
        this.position.observe(ended.ok.header);
        return ended;
      }
      let { failure } = ended;
      if (failure.reason === "deadline") return { failure: deadlineFailure(outage.cause) };
      if (!ended.broken) {
        const header = headerOf(failure);
        if (failure.reason === "store-changed") this.position.adopt(header);
        else this.position.observe(header);
        const reason = failure.detail?.reason;
        if (reason === ErrorReason.ERROR_REASON_NOT_COMMITTED) {
          failure = unavailable("the daemon that the call was sent to is gone");
          id.sent = false;
        } else if (reason === ErrorReason.ERROR_REASON_ID_TOO_OLD) {
          id.sent = false;
          if (id.id.resend) {
            return { failure: commitUnknownFailure(id.id, "it was sent too long ago for the daemon to tell") };
          }
          failure = unavailable("the call's id was too old when it came");
        } else if (failure.reason === "cancelled") {
          return { failure };
        } else if (!isTransient(failure)) {
          id.sent = false;
          return { failure };
        }
      }
      // UNAVAILABLE may be the network's word: whether the daemon did it is found out by the same id.
      if (options.over?.()) return { failure };
      const over = await this.#pause(outage, failure, call);
      if (over !== undefined) return { failure: over };
    }
  }

  /** One send. `over`: what the call is for is over, and it ends as broken. */
  #sendOn<Request, Response>(
    link: Link,
    method: Method<Request, Response>,
    request: Request,
    call: Call,
    over: (() => boolean) | undefined,
  ): Promise<Answer<Response> & { broken?: boolean }> {
    return new Promise((resolve) => {
      let done = false;
      const end = (answer: Answer<Response> & { broken?: boolean }): void => {
        if (done) return;
        done = true;
        clearInterval(looker);
        stopWaiting();
        call.signal?.removeEventListener("abort", aborted);
        sent.cancel();
        resolve(answer);
      };
      const aborted = (): void => {
        end({ failure: cancelledFailure(call.signal) });
      };
      const stopWaiting = link.wait((cause) => {
        end({ failure: cause, broken: true });
      });
      const looker =
        over &&
        setInterval(() => {
          if (over()) end({ failure: unavailable("its session is over"), broken: true });
        }, 1000).unref();
      const options = call.deadline === Infinity ? {} : { deadline: Date.now() + Math.ceil(left(call.deadline)) };
      const sent = link.channel.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        new Metadata(),
        options,
        (error: ServiceError | null, response?: Response) => {
          if (error === null) {
            link.heard();
            end(response === undefined ? { failure: unavailable("no answer") } : { ok: response });
          } else end({ failure: fromGrpc(error, this.names) });
        },
      );
      call.signal?.addEventListener("abort", aborted);
    });
  }
}
