/** @packageDocumentation Client of stmd: see README.md. */
export {
  Atom,
  Client,
  connect,
  type ConnectOptions,
  type HistoryOptions,
  type OpenedSession,
  type ReadOptions,
  Ref,
  type SessionInfo,
  Tx,
  View,
  type Widen,
} from "./client.js";
export type { Change, ChangeKind, Commit, Committed, Definition, Entry, RefOptions } from "./entries.js";
export * from "./errors.js";
export {
  type AcquireOptions,
  Held,
  Lock,
  type LockHold,
  type LockInfo,
  type LockMode,
  type LockOptions,
} from "./locks.js";
export { type Container, Offer, type StateContainer, type VersionedStateContainer } from "./offer.js";
export { Op, op } from "./op.js";
export { Barrier, Election, Fold, Queue } from "./recipes.js";
export { type Class, record, type RecordOptions, register } from "./records.js";
export type { RecordOf, RecordsOptions, WatchOptions } from "./streams.js";
export { Daemon, startDaemon, type StartOptions } from "./testing.js";
export type { CallOptions, Finished, Rerun, TransactOptions } from "./transact.js";
export { Abandoned, CommuteResult, io } from "./tx.js";
export {
  BigInteger,
  Character,
  Decimal,
  Double,
  double,
  Edn,
  equals,
  Instant,
  Keyword,
  List,
  StmMap,
  StmSet,
  Symbol,
  Tagged,
  Uuid,
  type Value,
} from "./values.js";
