"""Containers in the client's process: the daemon asks down a stream that the client opened, and the client answers."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from typing import Any, Protocol

import grpc

from ._base import Bounds, ClientClosed, Deadline, Link, Outage, RpcFailed, Steps, StreamEnded, StreamSilent, transient
from ._core import LOOK_EVERY, Core, time_is_up
from ._proto import offer_service_pb2
from .codec import Codec
from .errors import Denied, LimitExceeded, StmError, Unavailable, ValueLost
from .values import ABSENT


class VersionedStateContainer(Protocol):
    """Keeps values of refs, each under a stamp that is used once. Called by several threads (or tasks) at once, and
    again with the same arguments, also late. The daemon gives a call up after its container-timeout (10 s). Names are
    the daemon's: with the client's prefix. What a method raises reaches the caller of the transaction: Unavailable (ask
    again), Denied, LimitExceeded (it is full), ValueLost (what is kept can't be read); whatever else as a failure."""

    def init(self, name: str) -> Any:
        """A ref of this name is about to be kept here. May come again for one that is."""

    def destroy(self, name: str) -> Any:
        """The ref was deleted: what is kept for the name itself may go, but nothing under a stamp."""

    def get_state_at(self, name: str, stamp: str) -> Any:
        """ABSENT: there is no such stamp."""

    def set_state_at(self, name: str, stamp: str, value: Any) -> Any:
        """As durable as its owner wants committed values to be, once it returns. The same stamp has the same value."""

    def delete_state_at(self, name: str, stamp: str) -> Any:
        """Well also where there is no such stamp."""


class StateContainer(Protocol):
    """Keeps copies of atoms: the commits have the values themselves."""

    def init(self, name: str) -> Any: ...

    def destroy(self, name: str, version: int) -> Any:
        """The atom was deleted by the commit `version`: a state of an older version goes, a newer one stays."""

    def get_state(self, name: str) -> Any:
        """ABSENT: it has none."""

    def set_state(self, name: str, value: Any, version: int) -> Any:
        """`version` grows; one below what is there already changes nothing and is well."""


_CODES: Mapping[type[BaseException], grpc.StatusCode] = {
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    Denied: grpc.StatusCode.PERMISSION_DENIED,
    LimitExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ValueLost: grpc.StatusCode.DATA_LOSS,
    NotImplementedError: grpc.StatusCode.UNIMPLEMENTED,
}
_OF_REFS = {"init", "destroy", "get_state_at", "set_state_at", "delete_state_at"}


class Offering:
    """An offer and what renews it, on one stream after another."""

    def __init__(
        self, core: Core, name: str, refs: VersionedStateContainer | None, atoms: StateContainer | None, calls_max: int
    ) -> None:
        self._core = core
        self._name = name
        self.container = f"offered:{name}"
        self._refs, self._atoms = refs, atoms
        self._codec = Codec()  # containers keep values as they are
        self._workers = core.io.workers(calls_max)
        self.standing = False
        self.failure: StmError | None = None
        self.withdrawn = False
        self._changed = core.io.signal()
        self._ending = core.io.signal()
        self._stream: Any = None
        self._keeper = core.io.spawn(self._keep(), "an offer")

    def await_standing(self, timeout: float, first: bool = False) -> Steps[bool]:
        """`first`: what the daemon refuses for good is told at once."""
        deadline = Deadline(timeout)
        while not self.standing and not deadline.passed():
            changed = self._changed
            if self.standing or (first and self.failure is not None and not transient(self.failure)):
                break
            yield self._core.io.wait(changed, deadline.at_most(LOOK_EVERY))
        return self.standing

    def withdraw(self) -> Steps[None]:
        """Calls under way are waited for."""
        self.withdrawn = True
        self._ending.set()
        if self._stream is not None:
            self._stream.cancel()
        yield self._core.io.join(self._keeper, 60.0)
        yield self._workers.close()

    def _say(self, standing: bool, failure: StmError | None) -> None:
        self.standing, self.failure = standing, failure
        changed, self._changed = self._changed, self._core.io.signal()
        changed.set()

    def _keep(self) -> Steps[None]:
        outage = Outage(None)
        while not self.withdrawn:
            try:
                link = yield from self._core.link(Deadline(None), Bounds())
                failure = yield from self._serve_on(link)
            except ClientClosed as error:
                self._say(False, error)
                return
            except Unavailable as error:
                failure = error
            if self.standing:
                outage.end()
            self._say(False, failure)
            outage.fail(failure)
            if not self.withdrawn:
                yield self._core.io.wait(self._ending, outage.pause())

    def _serve_on(self, link: Link) -> Steps[StmError]:
        stream = self._stream = self._core.io.both_ways(link, "OfferService/OfferContainer")
        stream.send(offer_service_pb2.OfferContainerRequest(offer=self._name))
        try:
            while not self.withdrawn:
                try:
                    question = yield stream.take(LOOK_EVERY)
                except StreamSilent:
                    # The client has another daemon by now.
                    if not link.alive:
                        return Unavailable(f"the connection to {link.address} is lost")
                    continue
                link.heard = time.monotonic()
                if question.WhichOneof("question") is None:
                    self._say(True, None)
                else:
                    self._workers.run(functools.partial(self._answer, stream, question))
        except StreamEnded:
            return Unavailable("the daemon ended the offer")
        except RpcFailed as error:
            failure = self._core._failure(link, "OfferService/OfferContainer", error, Deadline(None))
            return failure if isinstance(failure, StmError) else Unavailable(str(failure))
        finally:
            stream.cancel()
            self._stream = None
        return Unavailable("the offer was withdrawn")

    def _answer(self, stream: Any, question: offer_service_pb2.OfferContainerResponse) -> Steps[None]:
        answer = offer_service_pb2.OfferContainerRequest(call=question.call)
        try:
            yield from self._ask(question, answer)
        except Exception as error:
            # What an author wrote may raise, and is no reason to end the program.
            answer = offer_service_pb2.OfferContainerRequest(call=question.call)
            code = next((c for kind, c in _CODES.items() if isinstance(error, kind)), grpc.StatusCode.INTERNAL)
            answer.code = code.value[0]
            answer.message = str(error) if isinstance(error, StmError) else f"it raised {error!r}"
        stream.send(answer)

    def _ask(
        self, question: offer_service_pb2.OfferContainerResponse, answer: offer_service_pb2.OfferContainerRequest
    ) -> Steps[None]:
        verb = question.WhichOneof("question")
        assert verb is not None
        asked: Any = getattr(question, verb)
        of_refs = verb in _OF_REFS
        container: Any = self._refs if of_refs else self._atoms
        if container is None:
            raise NotImplementedError(f"{self.container} keeps no {'refs' if of_refs else 'atoms'}")
        decode = self._codec.decode

        def call() -> Any:
            match verb:
                case "init" | "init_atom":
                    return container.init(asked.name)
                case "destroy":
                    return container.destroy(asked.name)
                case "get_state_at":
                    return container.get_state_at(asked.name, asked.stamp)
                case "set_state_at":
                    return container.set_state_at(asked.name, asked.stamp, decode(asked.value, asked.name))
                case "delete_state_at":
                    return container.delete_state_at(asked.name, asked.stamp)
                case "destroy_atom":
                    return container.destroy(asked.name, asked.version)
                case "get_state":
                    return container.get_state(asked.name)
                case "set_state":
                    return container.set_state(asked.name, decode(asked.value, asked.name), asked.version)
            raise NotImplementedError(
                "the daemon asks what this client does not know: use a client as new as the daemon"
            )

        got = yield self._core.io.user(call)
        made: Any = getattr(answer, verb)
        made.SetInParent()
        if verb in ("get_state_at", "get_state") and got is not ABSENT:
            made.value.CopyFrom(self._codec.encode(got, asked.name))


def offer(
    core: Core,
    name: str,
    refs: VersionedStateContainer | None,
    atoms: StateContainer | None,
    calls_max: int,
    timeout: float,
) -> Steps[Offering]:
    core.check_outside("client.offer")
    offering = Offering(core, name, refs, atoms, calls_max)
    try:
        yield from offering.await_standing(timeout, first=True)
        if not offering.standing:
            raise offering.failure or time_is_up(Unavailable(f"{offering.container}: no daemon took it"))
    except BaseException:
        yield from offering.withdraw()
        raise
    return offering
