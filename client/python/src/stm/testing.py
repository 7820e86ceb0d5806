"""A daemon for tests: in memory on a port of its own, or on a data directory so that it can be killed and started
again. It ends with the process that started it; one in memory even where that is killed.

    with stm.testing.daemon() as daemon, stm.connect(daemon.address) as client: ...

Under pytest the fixtures stm_daemon (one a session) and stm_client (below a prefix of its own for each test) are there
once this package is installed."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
import weakref
from collections.abc import Sequence

START_MAX = 30.0  # seconds that a daemon on a data directory has to listen


def binary() -> str:
    """Of stmd: STMD names it, else it is on PATH."""
    found = os.environ.get("STMD") or shutil.which("stmd")
    if not found:
        raise FileNotFoundError("no stmd: put it on PATH, or set STMD to where it lies")
    return found


class Daemon:
    """One stmd. Of one thread."""

    def __init__(self, program: str, flags: Sequence[str], data_dir: str | os.PathLike[str] | None) -> None:
        self._program = program
        self._flags = list(flags)
        self._data_dir = data_dir
        self.address = "127.0.0.1:0"  # where it listens, the same after restart()
        self.process: subprocess.Popen[str]
        self.restart()

    def restart(self) -> None:
        """After stop() or kill(): the same flags, data directory and address. Waits until it listens."""
        ephemeral = self._data_dir is None
        if not ephemeral and self.address.endswith(":0"):
            self.address = _free_address()
        where = ["--ephemeral"] if self._data_dir is None else ["--data-dir", os.fspath(self._data_dir)]
        self.process = subprocess.Popen(
            [self._program, *where, "--listen", self.address, "--http", "off", "--log-level", "error", *self._flags],
            # One in memory ends with its standard input.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if ephemeral else subprocess.DEVNULL,
            text=True,
            # A Ctrl-C at the terminal is not for it.
            start_new_session=True,
        )
        self._finish = weakref.finalize(self, _kill, self.process)
        if ephemeral:
            self._read_address()
        else:
            self._await_listening()

    def _read_address(self) -> None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r':stmd/address "([^"]+)"', line)
        if found is None:
            self.kill()
            raise RuntimeError(f"{self._program} did not say where it listens, but {line!r}: see what it wrote")
        self.address = found[1]

    def _await_listening(self) -> None:
        host, port = self.address.rsplit(":", 1)
        deadline = time.monotonic() + START_MAX
        while True:
            try:
                socket.create_connection((host, int(port)), timeout=1.0).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.kill()
                    raise RuntimeError(
                        f"{self._program} does not listen at {self.address}: see what it wrote"
                    ) from None
                time.sleep(0.01)

    def stop(self, timeout: float = 30.0) -> int:
        """Ends in order, within so many seconds. Its exit status."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        if self._data_dir is not None:
            self.process.terminate()
        try:
            return self.process.wait(timeout)
        finally:
            if self.process.stdout is not None:
                self.process.stdout.close()

    def kill(self) -> None:
        """kill -9, and is waited for."""
        self.process.kill()
        self.stop()

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, *of: object) -> None:
        if self.process.poll() is None:
            self.kill()


def _free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def _kill(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()


def daemon(
    *, program: str | None = None, flags: Sequence[str] = (), data_dir: str | os.PathLike[str] | None = None
) -> Daemon:
    """Starts one. `data_dir`: a durable store there instead of memory. `flags`: more of stmd's own."""
    return Daemon(program or binary(), flags, data_dir)
