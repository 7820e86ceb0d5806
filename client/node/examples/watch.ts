import { connect } from "@stmd/client";
const client = await connect();
const colour = client.ref<string | null>("/config/colour");
await client.transact((tx) => { tx.set(colour, "red"); });
// The loop has no end; here what it tells first is answered by blue, and it ends when it has told of that.
let answer: Promise<unknown> | undefined;
const told = () => { answer = answer?.then(() => client.close()) ?? client.transact((tx) => { tx.set(colour, "blue"); }); };
const console = { log: (...line: unknown[]) => { globalThis.console.log(...line); told(); } };

try {
for await (const commit of client.watch("/config/", { initial: true })) {  // all as it is, then each commit once
  for (const { name, before, after } of commit.changes) {                  // one commit's changes together
    console.log(commit.version, name, before, "->", after);                // undefined: absent; null: nil
  }
}
} catch (error) {
  globalThis.console.log(String(error)); // AbortError: the client is closed: connect again
}
