"""Of programs: a child after fork() has a connection and a session of its own; what the parent holds, it does not. A
program that ends gives up what it holds."""

from __future__ import annotations

import os
import subprocess
import sys

import stm

PROGRAM = """
import os, sys, stm

client = stm.connect()
ref = client.ref("/n", 0)
client.transact(lambda tx: tx.alter(ref, lambda n: n + 1))
held = client.lock("/l").acquire()
session = client.session().id
child = os.fork()
if child == 0:
    try:
        assert held.lost.is_set()
        try:
            client.transact(lambda tx: tx.fence(held))
        except stm.LockLost:
            pass
        else:
            raise AssertionError("the parent's grant is a child's")
        try:
            held.release()
        except stm.LockLost:
            pass
        else:
            raise AssertionError("a child releases what its parent holds")
        client.transact(lambda tx: tx.alter(ref, lambda n: n + 1))
        assert client.session().id != session
        client.close()
        os._exit(0)
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
assert os.waitpid(child, 0)[1] == 0
assert not held.lost.is_set()
client.transact(lambda tx: (tx.fence(held), tx.alter(ref, lambda n: n + 1)))
held.release()
assert ref.get() == 3
client.close()
print("well")
"""


def test_a_child_opens_its_own_and_does_not_hold_what_its_parent_holds(address: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "STM_ADDRESS": address},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0 and ran.stdout.endswith("well\n"), ran.stdout


ENDS = """
import stm

client = stm.connect(session_ttl=600)
held = client.lock("/l").acquire()
client.transact(lambda tx: tx.set(client.ref("/e", definition=stm.Definition(ephemeral=True)), 1))
"""


def test_a_program_that_ends_without_closing_its_client_gives_its_locks_up(address: str, client: stm.Client) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", ENDS],
        env={**os.environ, "STM_ADDRESS": address},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert (ran.returncode, ran.stdout) == (0, "")
    client.lock("/l").acquire(timeout=60).release()
    assert client.ref("/e").find() is stm.ABSENT
