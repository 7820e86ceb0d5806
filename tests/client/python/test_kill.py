"""A daemon with a data directory that is killed by -9 and started again under its clients."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from conftest import STMD

import stm


class Daemon:
    def __init__(self, directory: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.command = [STMD, "--data-dir", str(directory), "--listen", self.address, "--http", "off"]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)


def wait_until(holds: Any, what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.002)


def test_commits_go_on_over_kill_9_and_each_happens_once(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    try:
        with stm.connect(daemon.address, unavailable_timeout=30) as client:
            ref = client.ref("/n", 0)
            done: list[int] = []
            failed: list[BaseException] = []

            def work() -> None:
                try:
                    for _ in range(300):
                        done.append(client.transact(lambda tx: tx.alter(ref, lambda n: n + 1)))
                except BaseException as error:
                    failed.append(error)

            worker = threading.Thread(target=work)
            worker.start()
            for count in (50, 150):
                wait_until(lambda count=count: failed or len(done) >= count, f"{count} commits")  # type: ignore[misc]
                daemon.kill()
                daemon.start()
            worker.join(60)
            assert not failed and done == list(range(1, 301)) and ref.get() == 300
    finally:
        daemon.kill()


def test_a_retry_that_sleeps_outlives_the_daemon(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    try:
        with stm.connect(daemon.address) as client:
            ref = client.ref("/flag", False)
            runs: list[int] = []
            out: list[int] = []

            def body(tx: stm.Tx) -> int:
                runs.append(tx.run)
                if not tx.get(ref):
                    tx.retry()
                return tx.run

            sleeper = threading.Thread(target=lambda: out.append(client.transact(body, timeout=60)))
            sleeper.start()
            wait_until(lambda: runs, "the first run")
            daemon.kill()
            daemon.start()
            client.transact(lambda tx: tx.set(ref, True))
            sleeper.join(60)
            assert len(out) == 1
    finally:
        daemon.kill()
