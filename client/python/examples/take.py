"""Takes one job: an urgent one if there is any, else another, and sleeps until there is one."""

import stm

client = stm.connect()
client.transact(lambda tx: tx.commute(client.ref("/jobs/normal", []), stm.op.conj("sweep the floor")))

urgent, normal = client.ref("/jobs/urgent", []), client.ref("/jobs/normal", [])

@stm.transactional
def take(tx, queue):
    jobs = tx.get(queue)
    if not jobs:
        tx.retry()                           # sleep until queue changes, then run again
    tx.set(queue, jobs[1:])
    return jobs[0]

job = client.transact(
    lambda tx: tx.or_else(lambda: take(tx, urgent), lambda: take(tx, normal)), timeout=30)

print(job)
client.close()
