"""pytest's fixtures of stm.testing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

import stm
import stm.testing

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def stm_daemon() -> Iterator[stm.testing.Daemon]:
    """A daemon in memory, for the session."""
    with stm.testing.daemon() as daemon:
        yield daemon


@pytest.fixture
def stm_client(stm_daemon: stm.testing.Daemon) -> Iterator[stm.Client]:
    """A client of it, below a prefix of its own."""
    with stm.connect(stm_daemon.address, prefix=f"/test{next(_numbers)}") as client:
        yield client
