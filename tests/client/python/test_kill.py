"""What a daemon that is killed and started again does to a client: nothing but time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Background, until

import stm
import stm.testing


@pytest.fixture
def durable(tmp_path: Path) -> Iterator[stm.testing.Daemon]:
    with stm.testing.daemon(data_dir=tmp_path) as made:
        yield made


def test_commits_go_on_over_kill_9_and_each_happens_once(durable: stm.testing.Daemon) -> None:
    with stm.connect(durable.address, unavailable_timeout=30) as client:
        ref = client.ref("/n", 0)
        done: list[int] = []

        def work() -> None:
            for _ in range(300):
                done.append(client.transact(lambda tx: tx.alter(ref, lambda n: n + 1)))

        worker = Background(work)
        for count in (50, 150):
            until(lambda count=count: worker.error or len(done) >= count, f"{count} commits")  # type: ignore[misc]
            durable.kill()
            durable.restart()
        worker.result()
        assert done == list(range(1, 301)) and ref.get() == 300


def test_a_retry_that_sleeps_outlives_the_daemon(durable: stm.testing.Daemon) -> None:
    with stm.connect(durable.address) as client:
        ref = client.ref("/flag", False)
        runs: list[int] = []

        def body(tx: stm.Tx) -> int:
            runs.append(tx.run)
            if not tx.get(ref):
                tx.retry()
            return tx.run

        sleeper = Background(lambda: client.transact(body, timeout=60))
        until(lambda: runs, "the first run")
        durable.kill()
        durable.restart()
        client.transact(lambda tx: tx.set(ref, True))
        assert sleeper.result() >= 2
