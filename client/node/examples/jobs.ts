import { connect } from "@stmd/client";
const client = await connect();

import type { Ref, Tx } from "@stmd/client";
const urgent = client.ref<string[]>("/jobs/urgent", []), normal = client.ref<string[]>("/jobs/normal", []);

async function take(tx: Tx, queue: Ref<string[]>) {
  const [job, ...rest] = await tx.get(queue);
  if (job === undefined) tx.retry();         // sleep until queue changes, then run again
  tx.set(queue, rest);
  return job;
}
setTimeout(() => void client.transact((tx) => { tx.set(normal, ["mop"]); }), 100); // somebody puts one
const job = await client.transact(
  (tx) => tx.orElse(() => take(tx, urgent), () => take(tx, normal)), { timeoutMs: 30_000 });

console.log(job); // mop
await client.close();
