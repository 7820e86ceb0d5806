import { connect } from "@stmd/client";
const client = await connect();
const colour = client.ref<string | null>("/config/colour");
await client.transact((tx) => { tx.set(colour, "red"); });
void client.transact((tx) => { tx.set(colour, "blue"); });
// The loop has no end; here it ends when it has told of blue.
const console = { log: (...told: unknown[]) => { globalThis.console.log(...told); if (told[4] === "blue") void client.close(); } };

try {
for await (const commit of client.watch("/config/", { initial: true })) {  // all as it is, then each commit once
  for (const { name, before, after } of commit.changes) {                  // one commit's changes together
    console.log(commit.version, name, before, "->", after);                // undefined: absent; null: nil
  }
}
} catch (error) {
  globalThis.console.log(String(error)); // AbortError: the client is closed: connect again
}
