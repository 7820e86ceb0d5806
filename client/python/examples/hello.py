"""Hello World: two entries, changed together."""

import stm

client = stm.connect()                       # STM_ADDRESS, else 127.0.0.1:7440
r0 = client.ref("/r0", 0)                    # made with 0 if absent; never reset
r1: stm.Ref[list[int]] = client.ref("/r1", [])

@stm.transactional
def hello(tx):
    n = tx.alter(r0, lambda n: n + 1)
    tx.alter(r1, lambda v: [*v, n])

hello(client)                                # a Client runs it; a Tx joins it
print(r0.get(), r1.get())                    # 1 [1]
