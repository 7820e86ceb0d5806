"""A daemon of its own for each test, and a wire to it that can be cut."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator

import pytest

import stm

STMD = os.environ["STMD"]


def start(*arguments: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [STMD, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    found = re.search(r':stmd/address "([^"]+)"', process.stdout.readline())
    assert found is not None, "the daemon printed no address"
    return process, found[1]


@pytest.fixture
def address() -> Iterator[str]:
    process, address = start("--ephemeral")
    yield address
    assert process.stdin is not None
    process.stdin.close()
    process.wait(30)


@pytest.fixture
def client(address: str) -> Iterator[stm.Client]:
    with stm.connect(address) as made:
        yield made


class Wire:
    """Passes bytes on. When `cut_if(bytes to the daemon)` says so: they go through, and then no answer comes back."""

    def __init__(self, to: str) -> None:
        host, port = to.rsplit(":", 1)
        self.to = (host, int(port))
        self.cut_if: Callable[[bytes], bool] = lambda _: False
        self.cuts = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return  # closed: the test is over
            far = socket.create_connection(self.to)
            muted = threading.Event()
            threading.Thread(target=self._pass_up, args=(near, far, muted), daemon=True).start()
            threading.Thread(target=self._pass_down, args=(far, near, muted), daemon=True).start()

    def _pass_up(self, near: socket.socket, far: socket.socket, muted: threading.Event) -> None:
        try:
            while data := near.recv(65536):
                if self.cut_if(data):
                    self.cuts += 1
                    muted.set()
                far.sendall(data)
        except OSError:
            pass  # an end was closed, as the other end is below
        finally:
            if not muted.is_set():
                far.close()

    def _pass_down(self, far: socket.socket, near: socket.socket, muted: threading.Event) -> None:
        try:
            while data := far.recv(65536):
                if muted.is_set():
                    break  # the daemon has answered, so it has done what was sent
                near.sendall(data)
        except OSError:
            pass
        finally:
            for end in (near, far):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # closed already
                end.close()


@pytest.fixture
def wire(address: str) -> Iterator[Wire]:
    made = Wire(address)
    yield made
    made.listener.close()
