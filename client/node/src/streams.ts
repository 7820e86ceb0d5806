// What goes by calls of its own, beside the Pipeline: watches and the log. Each is one sequence over as many calls as it takes.
import { type ClientReadableStream, Metadata, type ServiceError } from "@grpc/grpc-js";

import { decode } from "./codec.js";
import { type Core, earlier, Outage } from "./core.js";
import { type Change, type Commit, commitOf, NO_META } from "./entries.js";
import { BadValue } from "./errors.js";
import {
  cancelledFailure,
  closedFailure,
  type Failure,
  fromGrpc,
  headerOf,
  isTransient,
  storeChangedFailure,
  toDuration,
  unavailable,
} from "./failure.js";
import { checkSelector } from "./names.js";
import { EntryKind, ErrorReason, type Selector } from "./proto/stm/v1/common.js";
import { LogServiceService, type ReadLogResponse } from "./proto/stm/v1/log_service.js";
import { WatchServiceService, type WatchResponse } from "./proto/stm/v1/watch_service.js";
import { type Class, tagOfInstance, tagsOf } from "./records.js";
import { after, at, type Call, left, now, passed, sleep } from "./time.js";
import type { CallOptions } from "./transact.js";
import { Link, type Method } from "./transport.js";
import { checkOutside } from "./tx.js";
import { Instant, Tagged } from "./values.js";

// A follower of the log is told nothing while nothing happens: after this much silence the daemon is asked.
const SILENCE_MS_MAX = 15_000;
const PROGRESS_EVERY_MS = 10_000;

type Next<T> =
  | { readonly message: T }
  /** undefined: by the daemon, without an error. */
  | { readonly ended: Failure | undefined }
  | "timeout"
  | "cancelled";

/** One call that answers with a stream; messages are read as they are taken. */
class ServerStream<T> {
  readonly #stream: ClientReadableStream<T>;
  readonly #stopWaiting: () => void;
  #over: { readonly ended: Failure | undefined } | undefined;
  #wake: () => void = () => undefined;

  constructor(core: Core, link: Link, start: (link: Link) => ClientReadableStream<T>) {
    this.#stream = start(link);
    this.#stopWaiting = link.wait((cause) => {
      this.#end(cause);
    }, false);
    this.#stream.on("readable", () => {
      link.heard();
      this.#wake();
    });
    this.#stream.on("end", () => {
      this.#end(undefined);
    });
    this.#stream.on("error", (error: ServiceError) => {
      this.#end(fromGrpc(error, core.names));
    });
  }
  #end(failure: Failure | undefined): void {
    this.#over ??= { ended: failure };
    this.#wake();
  }

  async take(deadline: number, ...signals: (AbortSignal | undefined)[]): Promise<Next<T>> {
    for (;;) {
      if (signals.some((signal) => signal?.aborted)) return "cancelled";
      const message = this.#stream.read() as T | null;
      if (message !== null) return { message };
      if (this.#over !== undefined) return this.#over;
      if (passed(deadline)) return "timeout";
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          cancelTimer();
          for (const signal of signals) signal?.removeEventListener("abort", wake);
          this.#wake = () => undefined;
          resolve();
        };
        const cancelTimer = at(deadline, wake);
        for (const signal of signals) signal?.addEventListener("abort", wake);
        this.#wake = wake;
      });
    }
  }

  close(): void {
    this.#stopWaiting();
    this.#stream.cancel();
  }
}

function start<Request, Response>(
  method: Method<Request, Response>,
  request: Request,
): (link: Link) => ClientReadableStream<Response> {
  return (link) =>
    link.channel.makeServerStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      request,
      new Metadata(),
      {},
    );
}

function timeIsUp(what: string): DOMException {
  return new DOMException(`${what}: its time is up: allow more time`, "TimeoutError");
}

export interface WatchOptions extends CallOptions {
  /** First all as it is, as one Commit marked initial; then each commit once. */
  readonly initial?: boolean | undefined;
  /** Commits after this version; undefined: from now. Not with initial. */
  readonly after?: bigint | undefined;
  /** For a slow reader: commits not yet sent are merged. */
  readonly conflate?: boolean | undefined;
  /** Milliseconds, at least 100: how often an idle watch is told how far it is. Default: 10 000. */
  readonly progressEveryMs?: number | undefined;
  /** While nothing selected changes: the version to resume after. */
  readonly onProgress?: ((version: bigint) => void) | undefined;
  /** Once, when the watch is set: every commit after `version` will be told. */
  readonly onSynced?: ((version: bigint) => void) | undefined;
}

/** Who reads a sequence further, and what ends it. */
function reading(core: Core, options: CallOptions): { call: Call; closing: AbortSignal } {
  return { call: { deadline: after(options.timeoutMs), signal: options.signal }, closing: core.closing.signal };
}
function throwIfOver(call: Call, closing: AbortSignal, what: string): void {
  if (closing.aborted) throw closedFailure().error;
  if (call.signal?.aborted) throw cancelledFailure(call.signal).error;
  if (passed(call.deadline)) throw timeIsUp(what);
}

export async function* watch(
  core: Core,
  selectors: readonly string[],
  options: WatchOptions,
): AsyncGenerator<Commit, void, undefined> {
  checkOutside("a watch");
  if (options.initial === true && options.after !== undefined) {
    throw new BadValue("a watch begins with the present state or after a version, not both: leave out one", {
      name: "after",
    });
  }
  const selector = selectorOf(core, selectors);
  const { call, closing } = reading(core, options);
  const progressEveryMs = options.progressEveryMs ?? PROGRESS_EVERY_MS;
  const outage = new Outage(core.options.unavailableTimeoutMs);
  let initial = options.initial === true;
  let afterVersion = options.after ?? 0n;
  let store = core.position.store;
  let synced = false;
  for (;;) {
    throwIfOver(call, closing, "the watch");
    const link = await core.transport.get(earlier(call, outage.until));
    throwIfOver(call, closing, "the watch");
    if (!(link instanceof Link)) throw link.error;
    // Versions of another store mean nothing; and without any, what came meanwhile is only in the present state.
    if (core.position.store !== store || (synced && afterVersion === 0n)) initial = true;
    store = core.position.store;
    const stream = new ServerStream<WatchResponse>(
      core,
      link,
      start(WatchServiceService.watch, {
        selector,
        afterVersion: initial ? 0n : afterVersion,
        initial,
        conflate: options.conflate === true,
        progressEvery: toDuration(progressEveryMs),
        seen: core.seen(),
      }),
    );
    let state: Change[] = []; // with initial, until it is whole
    let partial: Commit | undefined; // a commit of several messages
    try {
      reading: for (;;) {
        const silence = now() + progressEveryMs * 3 + 5000;
        const next = await stream.take(Math.min(call.deadline, silence), call.signal, closing);
        if (next === "cancelled" || next === "timeout") {
          throwIfOver(call, closing, "the watch");
          const failure = unavailable(`${link.address} sent no progress mark in time`);
          link.break(failure);
          outage.fail(failure);
          break;
        }
        if ("ended" in next) {
          const failure = next.ended ?? unavailable("the daemon ended the watch");
          if (failure.reason === "store-changed") {
            core.position.adopt(headerOf(failure));
            initial = true;
          } else if (failure.reason === "snapshot-too-old") initial = true;
          // Cut off as too slow: it goes on after what it was told last.
          else if (!isSlow(failure) && link.alive && !isTransient(failure)) throw failure.error;
          outage.fail(failure);
          if (outage.over) throw failure.error;
          break;
        }
        outage.end();
        const event = next.message.event;
        switch (event?.$case) {
          case "opened":
            core.position.observe(event.value);
            break;
          case "initial": {
            const name = core.names.short(event.value.name);
            state.push({
              name,
              kind: "set",
              before: undefined,
              after: decode(event.value.value, name, core.mode),
              beforeUnknown: false,
              isAtom: event.value.kind === EntryKind.ENTRY_KIND_ATOM,
            });
            break;
          }
          case "synced":
            afterVersion = event.value;
            core.position.observeVersion(store, afterVersion);
            if (!synced) options.onSynced?.(afterVersion);
            synced = true;
            if (initial) {
              initial = false;
              const changes = state;
              state = [];
              yield {
                version: afterVersion,
                at: new Instant(0n),
                transactionId: "",
                meta: NO_META,
                changes,
                records: [],
                initial: true,
              };
            }
            break;
          case "commit": {
            const commit: Commit = commitOf(event.value, core, partial);
            if (event.value.more) {
              partial = commit;
              break;
            }
            partial = undefined;
            afterVersion = commit.version;
            core.position.observeVersion(store, afterVersion);
            yield commit;
            break;
          }
          case "progress":
            afterVersion = event.value;
            core.position.observeVersion(store, afterVersion);
            options.onProgress?.(afterVersion);
            break;
          case "gap":
            if (event.value.store !== 0n) {
              core.position.adopt({
                store: event.value.store,
                writer: 0n,
                installedVersion: event.value.resumeVersion,
              });
            }
            initial = true;
            break reading;
          case undefined: // of a newer daemon, and not asked for
            break;
        }
      }
    } finally {
      stream.close();
    }
    await sleep(Math.min(outage.pauseMs, left(call.deadline)), call.signal, closing);
  }
}

function isSlow(failure: Failure): boolean {
  return failure.detail?.reason === ErrorReason.ERROR_REASON_SLOW_READER;
}

function selectorOf(core: Core, selectors: readonly string[]): Selector {
  const names: string[] = [];
  const prefixes: string[] = [];
  for (const one of selectors) {
    checkSelector(one);
    (one.endsWith("/") ? prefixes : names).push(core.names.full(one));
  }
  // Nothing named is all; below a prefix that is all of the prefix.
  if (selectors.length === 0 && core.names.prefix !== "") prefixes.push(core.names.full("/"));
  return { names, prefixes };
}

export interface RecordsOptions extends CallOptions {
  /** At it, not after; undefined: the oldest kept. Asked for less than is kept: SnapshotTooOld. */
  readonly fromVersion?: bigint | undefined;
  /** The last; undefined: the newest, or without an end with follow. */
  readonly toVersion?: bigint | undefined;
  /** After the newest, go on as commits come. */
  readonly follow?: boolean | undefined;
  /** Beside the classes: "blog.*" is every tag that begins with "blog.". Neither: all records. */
  readonly tags?: readonly string[] | undefined;
}

/** One record, with the commit that it is of. */
export interface RecordOf<T> {
  readonly value: T;
  readonly version: bigint;
  readonly at: Instant;
  readonly meta: Commit["meta"];
  readonly transactionId: string;
}

export async function* records(
  core: Core,
  types: readonly Class<unknown>[],
  options: RecordsOptions,
): AsyncGenerator<RecordOf<unknown>, void, undefined> {
  checkOutside("reading records");
  const tags = [...tagsOf(types), ...(options.tags ?? [])];
  const { call, closing } = reading(core, options);
  const outage = new Outage(core.options.unavailableTimeoutMs);
  let from = options.fromVersion ?? 0n;
  const to = options.toVersion ?? 0n;
  let store = 0n;
  for (;;) {
    throwIfOver(call, closing, "reading records");
    if (to !== 0n && from > to) return;
    const link = await core.transport.get(earlier(call, outage.until));
    throwIfOver(call, closing, "reading records");
    if (!(link instanceof Link)) throw link.error;
    const seen = core.seen();
    if (store !== 0n) seen.store = store;
    const stream = new ServerStream<ReadLogResponse>(
      core,
      link,
      start(LogServiceService.readLog, {
        fromVersion: from,
        toVersion: to,
        selector: undefined,
        tags,
        follow: options.follow === true,
        recordsOnly: true,
        seen,
      }),
    );
    let partial: Commit | undefined;
    try {
      for (;;) {
        const next = await stream.take(Math.min(call.deadline, now() + SILENCE_MS_MAX), call.signal, closing);
        if (next === "cancelled" || next === "timeout") {
          throwIfOver(call, closing, "reading records");
          if (await link.probe()) continue;
          break;
        }
        if ("ended" in next) {
          if (next.ended === undefined && options.follow !== true) return;
          const failure = next.ended ?? unavailable("the daemon ended the log");
          if (!isSlow(failure) && link.alive && !isTransient(failure)) throw failure.error;
          outage.fail(failure);
          if (outage.over) throw failure.error;
          break;
        }
        outage.end();
        const event = next.message.event;
        if (event?.$case === "opened") {
          core.position.observe(event.value.header);
          const opened = event.value.header?.store ?? 0n;
          if (store !== 0n && opened !== store) throw storeChangedFailure().error;
          store = opened;
        } else if (event?.$case === "commit") {
          const commit: Commit = commitOf({ ...event.value, changes: [] }, core, partial);
          if (event.value.more) {
            partial = commit;
            continue;
          }
          partial = undefined;
          from = commit.version + 1n;
          core.position.observeVersion(store, commit.version);
          const { version, meta, transactionId } = commit;
          for (const value of commit.records) {
            if (isSelected(value, types, tags)) yield { value, version, at: commit.at, meta, transactionId };
          }
        }
      }
    } finally {
      stream.close();
    }
    await sleep(Math.min(outage.pauseMs, left(call.deadline)), call.signal, closing);
  }
}

/** A commit has all its records, also those that were not asked for. */
function isSelected(value: unknown, types: readonly Class<unknown>[], tags: readonly string[]): boolean {
  if (tags.length === 0 || types.some((type) => value instanceof type)) return true;
  const tag = value instanceof Tagged ? value.tag : tagOfInstance(value);
  return (
    tag !== undefined && tags.some((one) => one === tag || (one.endsWith(".*") && tag.startsWith(one.slice(0, -1))))
  );
}
