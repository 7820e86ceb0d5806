// Waiting. Moments are milliseconds of performance.now(); Infinity: never. Nothing here keeps the process alive by itself but
// a sleep that somebody awaits.
import { uptime } from "node:os";

/** The caller's bounds of a call. */
export interface Call {
  /** A moment. */
  readonly deadline: number;
  readonly signal: AbortSignal | undefined;
}

export const FOREVER: Call = { deadline: Infinity, signal: undefined };

const TIMER_MS_MAX = 2 ** 31 - 1;

export function now(): number {
  return performance.now();
}
/** The moment `ms` from now; undefined: never. */
export function after(ms: number | undefined): number {
  return ms === undefined || ms === Infinity ? Infinity : now() + ms;
}
export function passed(deadline: number): boolean {
  return deadline !== Infinity && now() >= deadline;
}
export function left(deadline: number): number {
  return deadline === Infinity ? Infinity : Math.max(deadline - now(), 0);
}

const SUSPEND_MS_MIN = process.platform === "linux" ? 50 : 1100; // what os.uptime can tell
const began = uptime() * 1000 - now();
/** A clock that counts suspend. */
export function bootTime(): number {
  const running = now();
  const suspended = uptime() * 1000 - running - began;
  return suspended > SUSPEND_MS_MIN ? running + suspended : running;
}

/** Calls back at the moment; the result takes that back. */
export function at(deadline: number, callback: () => void): () => void {
  if (deadline === Infinity) return () => undefined;
  let timer: NodeJS.Timeout;
  const set = (): void => {
    timer = setTimeout(
      () => {
        if (passed(deadline)) callback();
        else set();
      },
      Math.min(Math.ceil(left(deadline)), TIMER_MS_MAX),
    );
  };
  set();
  return () => {
    clearTimeout(timer);
  };
}

/** False: a signal was aborted meanwhile. */
export function sleep(ms: number, ...signals: (AbortSignal | undefined)[]): Promise<boolean> {
  if (signals.some((signal) => signal?.aborted)) return Promise.resolve(false);
  if (ms <= 0) return Promise.resolve(true);
  return new Promise((resolve) => {
    const end = (whole: boolean): void => {
      cancel();
      for (const signal of signals) signal?.removeEventListener("abort", aborted);
      resolve(whole);
    };
    const aborted = (): void => {
      end(false);
    };
    const cancel = at(now() + ms, () => {
      end(true);
    });
    for (const signal of signals) signal?.addEventListener("abort", aborted);
  });
}

export function between(min: number, max: number): number {
  return min + Math.random() * (max - min);
}
