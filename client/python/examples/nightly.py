"""Work under a lock, whose result is kept only while the lock is held."""

import threading

import stm

client = stm.connect()


def build(stop: threading.Event) -> str:
    return "interrupted" if stop.is_set() else "all is well"

last = client.ref("/nightly/last", "")

with client.lock("/nightly") as held:        # waits its turn; .acquire(timeout=5) to give up
    report = build(stop=held.lost)           # threading.Event: set when the lease is gone

    @stm.transactional
    def save(tx):
        tx.fence(held)                       # commits only while this grant, held.token, stands
        tx.set(last, report)
    save(client)                             # raises stm.LockLost instead of overwriting

print(last.get())
client.close()
