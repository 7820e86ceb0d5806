import { connect } from "@stmd/client";

const client = await connect();              // STM_ADDRESS, else 127.0.0.1:7440
const r0 = client.ref("/r0", 0);             // made with 0 if absent; never reset
const r1 = client.ref<number[]>("/r1", []);

await client.transact(async (tx) => {
  const n = await tx.alter(r0, (n) => n + 1);
  await tx.alter(r1, (v) => [...v, n]);
});
console.log(await r0.get(), await r1.get()); // 1 [ 1 ]

await client.close();
