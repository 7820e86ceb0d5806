// A container in this process: values of refs and atoms whose container is "offered:NAME" are kept here, while the offer stands.
// A lost connection or a restarted daemon only interrupts it; meanwhile those entries alone are Unavailable. An offer is to
// the client's daemon: another daemon of the same store asks its own clients, so what is kept should be a store that all share.
import { type ClientDuplexStream, Metadata, type ServiceError, status } from "@grpc/grpc-js";

import { decode, encode } from "./codec.js";
import { type Core, Outage } from "./core.js";
import { StmError, Unsupported } from "./errors.js";
import {
  cancelledFailure,
  closedFailure,
  deadlineFailure,
  type Failure,
  fromGrpc,
  isTransient,
  unavailable,
} from "./failure.js";
import {
  OfferServiceService,
  type OfferContainerRequest,
  type OfferContainerResponse,
} from "./proto/stm/v1/offer_service.js";
import { after, at, FOREVER, sleep } from "./time.js";
import type { CallOptions } from "./transact.js";
import { Link } from "./transport.js";

type Maybe<T> = T | Promise<T>;

/**
 * Keeps values of refs, each under a stamp that is used once. Its methods may be called at once with others, and again with the
 * same arguments, also late. The daemon gives a call up after its container-timeout (10 s). Names are the daemon's: with the
 * client's prefix. What they throw reaches the transaction's caller: Unavailable: ask again; Denied; LimitExceeded: full;
 * ValueLost: what is kept can't be read.
 */
export interface VersionedStateContainer {
  /** A ref of this name is about to be kept here. May come again for one that is. */
  init(name: string): Maybe<void>;
  /** The ref was deleted: what is kept for the name itself may go, but nothing under a stamp. */
  destroy(name: string): Maybe<void>;
  /** undefined: there is no such stamp. */
  getStateAt(name: string, stamp: string): Maybe<unknown>;
  /** As durable as committed values are to be, once it is done. The same stamp comes with the same value. */
  setStateAt(name: string, stamp: string, value: unknown): Maybe<void>;
  /** Also when there is no such stamp. */
  deleteStateAt(name: string, stamp: string): Maybe<void>;
}

/** Keeps copies of atoms: the commits have the values themselves. */
export interface StateContainer {
  init(name: string): Maybe<void>;
  /** The atom was deleted by the commit `version`: a state of an older version goes, a newer one stays. */
  destroy(name: string, version: bigint): Maybe<void>;
  /** undefined: it has none. */
  getState(name: string): Maybe<unknown>;
  /** One whose version is below the version that is there changes nothing. */
  setState(name: string, value: unknown, version: bigint): Maybe<void>;
}

/** For refs, for atoms, or for both. */
export type Container =
  | VersionedStateContainer
  | StateContainer
  | { readonly refs?: VersionedStateContainer | undefined; readonly atoms?: StateContainer | undefined };

interface Both {
  readonly refs: VersionedStateContainer | undefined;
  readonly atoms: StateContainer | undefined;
}
function bothOf(container: Container): Both {
  if ("getStateAt" in container) return { refs: container, atoms: undefined };
  if ("getState" in container) return { refs: undefined, atoms: container };
  return { refs: container.refs, atoms: container.atoms };
}

const CODES = new Map<string, number>([
  ["unavailable", status.UNAVAILABLE],
  ["denied", status.PERMISSION_DENIED],
  ["limit-exceeded", status.RESOURCE_EXHAUSTED],
  ["no-space", status.RESOURCE_EXHAUSTED],
  ["value-lost", status.DATA_LOSS],
  ["unsupported", status.UNIMPLEMENTED],
  ["bad-value", status.INVALID_ARGUMENT],
]);

/** Stands until it is closed: `await using offer = await client.offer(...)`. */
export class Offer implements AsyncDisposable {
  /** What refs choose it by: client.ref(name, init, { container: offer.container }). */
  readonly container: string;
  readonly #core: Core;
  readonly #name: string;
  readonly #both: Both;
  readonly #ending = new AbortController();
  readonly #keeper: Promise<void>;
  #standing = false;
  #failure: Failure | undefined;
  readonly #changed = new Set<() => void>();

  /** @internal */
  constructor(core: Core, name: string, container: Container) {
    this.#core = core;
    this.#name = name;
    this.#both = bothOf(container);
    this.container = `offered:${name}`;
    core.closing.signal.addEventListener("abort", this.#withdraw);
    this.#keeper = this.#keep();
  }
  readonly #withdraw = (): void => {
    this.#ending.abort(new StmError(`${this.container} was withdrawn`));
  };

  /** The daemon asks here. */
  get standing(): boolean {
    return this.#standing;
  }
  /** Why it does not stand; undefined: it does, or nothing came in its way yet. */
  get error(): Error | undefined {
    return this.#standing ? undefined : this.#failure?.error;
  }

  /** Until the daemon has taken it, for the first time; what the daemon refuses for good is thrown at once. @internal */
  async first(options: CallOptions): Promise<void> {
    const call = { deadline: after(options.timeoutMs), signal: options.signal };
    const over = await new Promise<Failure | undefined>((resolve) => {
      const end = (failure: Failure | undefined): void => {
        cancelTimer();
        call.signal?.removeEventListener("abort", aborted);
        this.#changed.delete(look);
        resolve(failure);
      };
      const aborted = (): void => {
        end(cancelledFailure(call.signal));
      };
      const look = (): void => {
        if (this.#standing) end(undefined);
        else if (this.#failure !== undefined && !isTransient(this.#failure)) end(this.#failure);
      };
      const cancelTimer = at(call.deadline, () => {
        end(this.#failure ?? deadlineFailure(unavailable(`${this.container}: no daemon took it`)));
      });
      call.signal?.addEventListener("abort", aborted);
      this.#changed.add(look);
      look();
      if (call.signal?.aborted) aborted();
    });
    if (over === undefined) return;
    await this.close();
    throw over.error;
  }

  /** Withdraws it. */
  async close(): Promise<void> {
    this.#withdraw();
    this.#core.closing.signal.removeEventListener("abort", this.#withdraw);
    await this.#keeper;
  }
  [globalThis.Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #set(standing: boolean, failure: Failure | undefined): void {
    this.#standing = standing;
    this.#failure = failure;
    for (const look of [...this.#changed]) look();
  }

  async #keep(): Promise<void> {
    const outage = new Outage(Infinity);
    const { signal } = this.#ending;
    while (!signal.aborted) {
      const link = await this.#core.transport.get({ ...FOREVER, signal });
      let failure: Failure;
      if (link instanceof Link) {
        failure = await this.#serveOn(link);
        if (this.#standing) outage.end();
      } else failure = link;
      this.#set(false, failure);
      outage.fail(failure);
      await sleep(outage.pauseMs, signal);
    }
  }

  #serveOn(link: Link): Promise<Failure> {
    return new Promise((resolve) => {
      const method = OfferServiceService.offerContainer;
      const stream: ClientDuplexStream<OfferContainerRequest, OfferContainerResponse> =
        link.channel.makeBidiStreamRequest(
          method.path,
          method.requestSerialize,
          method.responseDeserialize,
          new Metadata(),
          {},
        );
      let done = false;
      const end = (failure: Failure): void => {
        if (done) return;
        done = true;
        stopWaiting();
        this.#ending.signal.removeEventListener("abort", aborted);
        stream.cancel();
        resolve(failure);
      };
      const aborted = (): void => {
        end(closedFailure());
      };
      const stopWaiting = link.wait(end, false);
      stream.on("data", (question: OfferContainerResponse) => {
        link.heard();
        if (question.question === undefined) {
          this.#set(true, undefined);
          return;
        }
        void this.#answerTo(question).then((answer) => {
          if (!done) stream.write(answer);
        });
      });
      stream.on("end", () => {
        end(unavailable("the daemon ended the offer"));
      });
      stream.on("error", (error: ServiceError) => {
        end(fromGrpc(error, this.#core.names));
      });
      this.#ending.signal.addEventListener("abort", aborted);
      stream.write({ offer: this.#name, call: 0n, code: 0, message: "", answer: undefined });
    });
  }

  async #answerTo({ call, question }: OfferContainerResponse): Promise<OfferContainerRequest> {
    try {
      return { offer: "", call, code: 0, message: "", answer: await this.#ask(question) };
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      const code = error instanceof StmError ? CODES.get(error.reason) : undefined;
      return { offer: "", call, code: code ?? status.INTERNAL, message, answer: undefined };
    }
  }

  async #ask(question: OfferContainerResponse["question"]): Promise<OfferContainerRequest["answer"]> {
    const { mode } = this.#core;
    const refs = (): VersionedStateContainer => this.#both.refs ?? unsupported(`${this.container} keeps no refs`);
    const atoms = (): StateContainer => this.#both.atoms ?? unsupported(`${this.container} keeps no atoms`);
    const wire = (value: unknown, name: string) => (value === undefined ? undefined : encode(value, name, mode));
    switch (question?.$case) {
      case "init":
        await refs().init(question.value.name);
        return { $case: "init", value: {} };
      case "destroy":
        await refs().destroy(question.value.name);
        return { $case: "destroy", value: {} };
      case "getStateAt": {
        const { name, stamp } = question.value;
        return { $case: "getStateAt", value: { value: wire(await refs().getStateAt(name, stamp), name) } };
      }
      case "setStateAt": {
        const { name, stamp, value } = question.value;
        await refs().setStateAt(name, stamp, decode(value, name, mode));
        return { $case: "setStateAt", value: {} };
      }
      case "deleteStateAt":
        await refs().deleteStateAt(question.value.name, question.value.stamp);
        return { $case: "deleteStateAt", value: {} };
      case "initAtom":
        await atoms().init(question.value.name);
        return { $case: "initAtom", value: {} };
      case "destroyAtom":
        await atoms().destroy(question.value.name, question.value.version);
        return { $case: "destroyAtom", value: {} };
      case "getState": {
        const { name } = question.value;
        return { $case: "getState", value: { value: wire(await atoms().getState(name), name) } };
      }
      case "setState": {
        const { name, value, version } = question.value;
        await atoms().setState(name, decode(value, name, mode), version);
        return { $case: "setState", value: {} };
      }
      case undefined:
        return unsupported("the daemon asks what this client does not know: use a client as new as the daemon");
    }
  }
}

function unsupported(message: string): never {
  throw new Unsupported(message);
}
