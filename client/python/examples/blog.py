"""A database of tagged records: each is in the log with the commit that it made, and can be replayed."""

from datetime import datetime
from typing import NamedTuple

import stm

client = stm.connect()

@stm.record("blog.CreateUser")               # logs #blog.CreateUser{:name "Bob", :email ...
class CreateUser(NamedTuple):
    name: str; email: str; start_date: datetime
    def update(self, users): return [*users, self]
@stm.record("blog.DeleteUser")
class DeleteUser(NamedTuple):
    email: str; remove_date: datetime
    def update(self, users): return [u for u in users if u.email != self.email]

users = client.ref("/blog/users", [])
@stm.transactional
def record(tx, event): tx.alter(users, event.update); tx.record(event)

record(client, CreateUser("Bob", "bob@example.com", stm.now()))   # durable when it returns
rebuilt: list = []                           # after a restart users.get() is there; or replay:
for r in client.records(CreateUser, DeleteUser): rebuilt = r.value.update(rebuilt)

assert tuple(rebuilt) == users.get()
record(client, DeleteUser("bob@example.com", stm.now()))
print([user.name for user in rebuilt], len(users.get()))
client.close()
