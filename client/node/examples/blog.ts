import { connect } from "@stmd/client";
const client = await connect();

import { record, Instant } from "@stmd/client";
class CreateUser { constructor(readonly name: string, readonly email: string, readonly startDate: Instant) {}
  update(users: CreateUser[]) { return [...users, this]; } }
class DeleteUser { constructor(readonly email: string, readonly removeDate: Instant) {}
  update(users: CreateUser[]) { return users.filter((u) => u.email !== this.email); } }
record("blog.CreateUser", CreateUser);       // logs #blog.CreateUser{:name "Bob", :email ...
record("blog.DeleteUser", DeleteUser);
const users = client.ref<CreateUser[]>("/blog/users", []);
const save = (event: CreateUser | DeleteUser) => client.transact(async (tx) => {
  await tx.alter(users, (us) => event.update(us)); tx.record(event); });

await save(new CreateUser("Bob", "bob@example.com", Instant.now())); // durable when it resolves
let rebuilt: CreateUser[] = [];              // after a restart users.get() is there; or replay:
for await (const r of client.records(CreateUser, DeleteUser)) rebuilt = r.value.update(rebuilt);

console.log(rebuilt.map((user) => user.name), (await users.get()).length); // [ 'Bob' ] 1
await save(new DeleteUser("bob@example.com", Instant.now()));
await client.close();
