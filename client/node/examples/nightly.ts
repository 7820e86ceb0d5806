import { connect } from "@stmd/client";
const client = await connect();
const build = (stop: AbortSignal) => Promise.resolve(stop.aborted ? "" : "report");

const last = client.ref("/nightly/last", "");
{
  await using held = await client.lock("/nightly").acquire();  // waits its turn; released at }
  const report = await build(held.signal);   // AbortSignal: aborted when the lease is gone
  await client.transact(async (tx) => {
    tx.fence(held);                          // commits only while this grant, held.token, stands
    tx.set(last, report);
  });                                        // rejects with LockLost instead of overwriting
}

console.log(await last.get()); // report
await client.close();
