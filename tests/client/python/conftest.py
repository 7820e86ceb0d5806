"""A daemon of its own for each test, and a wire to it that does what a network may do."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import stm
import stm.testing

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "conformance"))
from proxy import Proxy

DEADLINE_S = 60.0  # of whatever must come


def until(holds: Callable[[], Any], what: str) -> Any:
    """What `holds` gives once that is true."""
    deadline = time.monotonic() + DEADLINE_S
    while not (found := holds()):
        assert time.monotonic() < deadline, f"not within {DEADLINE_S} s: {what}"
        time.sleep(0.002)
    return found


class Background:
    """A function in a thread of its own, and what it came to."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.value: Any = None
        self.error: BaseException | None = None
        self.function = function
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.value = self.function()
        except BaseException as error:
            self.error = error

    def result(self) -> Any:
        self.thread.join(DEADLINE_S)
        assert not self.thread.is_alive(), "it goes on"
        if self.error is not None:
            raise self.error
        return self.value


@pytest.fixture
def daemon() -> Iterator[stm.testing.Daemon]:
    with stm.testing.daemon() as made:
        yield made


@pytest.fixture
def address(daemon: stm.testing.Daemon) -> str:
    return daemon.address


@pytest.fixture
def client(address: str) -> Iterator[stm.Client]:
    with stm.connect(address) as made:
        yield made


@pytest.fixture
def wire(address: str) -> Iterator[Proxy]:
    made = Proxy(int(address.rsplit(":", 1)[1]))
    yield made
    made.close()
