// A daemon for tests: in memory, on a port of its own, gone with the test's process.
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";

import { type Client, connect, type ConnectOptions } from "./client.js";
import { Unavailable } from "./errors.js";

const START_MS_MAX = 30_000;
const STOP_MS_MAX = 10_000;

export interface StartOptions {
  /** The program. undefined: the environment's STMD, else stmd on PATH. */
  readonly program?: string | undefined;
  /** More arguments. */
  readonly args?: readonly string[] | undefined;
}

/** A daemon that runs. `await using daemon = await startDaemon()` ends it. */
export class Daemon implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #exited: Promise<void>;

  /** @internal */
  constructor(
    child: ChildProcess,
    exited: Promise<void>,
    /** "127.0.0.1:PORT". */
    readonly address: string,
  ) {
    this.#child = child;
    this.#exited = exited;
  }
  /** A client of it. */
  connect(options: Omit<ConnectOptions, "address"> = {}): Promise<Client> {
    return connect({ ...options, address: this.address });
  }
  /** Ends it. */
  async stop(): Promise<void> {
    this.#child.stdin?.end();
    const killer = setTimeout(() => this.#child.kill("SIGKILL"), STOP_MS_MAX);
    await this.#exited;
    clearTimeout(killer);
  }
  [globalThis.Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }
}

/** Starts `stmd --ephemeral`. It ends with this process at the latest. @throws Unavailable: it does not start; says why. */
export async function startDaemon(options: StartOptions = {}): Promise<Daemon> {
  const program = options.program ?? process.env["STMD"] ?? "stmd";
  const args = ["--ephemeral", "--listen", "127.0.0.1:0", "--http", "off", ...(options.args ?? [])];
  const child = spawn(program, args, { stdio: ["pipe", "pipe", "pipe"] });
  let log = "";
  child.stderr.on("data", (bytes: Buffer) => (log = (log + bytes.toString()).slice(-4000)));
  const exited = new Promise<void>((resolve) => {
    child.on("exit", () => {
      resolve();
    });
    child.on("error", () => {
      resolve();
    });
  });
  const address = await new Promise<string>((resolve, reject) => {
    const fail = (why: string): void => {
      clearTimeout(timer);
      child.kill("SIGKILL");
      reject(
        new Unavailable(
          `${program} did not start: ${why}: ${log.trim()}: set STMD to the program, or put stmd on PATH`,
          {
            name: program,
          },
        ),
      );
    };
    const timer = setTimeout(() => {
      fail(`it said no address for ${START_MS_MAX / 1000} s`);
    }, START_MS_MAX);
    child.on("error", (error) => {
      fail(error.message);
    });
    child.on("exit", (code) => {
      fail(`it ended with ${code ?? "a signal"}`);
    });
    createInterface({ input: child.stdout }).on("line", (line) => {
      const found = /:stmd\/address\s+"([^"]+)"/.exec(line)?.[1];
      if (found === undefined) return;
      clearTimeout(timer);
      resolve(found);
    });
  });
  child.stdin.on("error", () => undefined);
  // The daemon alone keeps no test run alive.
  child.unref();
  return new Daemon(child, exited, address);
}
