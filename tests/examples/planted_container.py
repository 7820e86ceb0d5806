"""The container of examples/containers/python, with a bug: `stmctl container check` must find each.

usage: planted_container.py BUG URL
"""
import sys

import container
import grpc
from container import pb, services, state
from stm.v1.value_pb2 import Value

Sound = container.Container


class AnotherValue(Sound):
    def GetStateAt(self, request, context):
        answer = super().GetStateAt(request, context)
        return pb.GetStateAtResponse(value=Value(integer=7)) if answer.HasField("value") else answer


class Newest(Sound):
    """A get does not look at the stamp."""

    def __init__(self, url):
        super().__init__(url)
        self.stamps = {}

    def SetStateAt(self, request, context):
        self.stamps[request.name] = request.stamp
        return super().SetStateAt(request, context)

    def GetStateAt(self, request, context):
        request.stamp = self.stamps.get(request.name, request.stamp)
        return super().GetStateAt(request, context)


class Forgets(Sound):
    def SetStateAt(self, request, context):
        return pb.SetStateAtResponse()


class Overwrites(Sound):
    def SetStateAt(self, request, context):
        super().DeleteStateAt(request, context)
        return super().SetStateAt(request, context)


class RefusesTwice(Sound):
    def SetStateAt(self, request, context):
        if super().GetStateAt(request, context).HasField("value"):
            context.abort(grpc.StatusCode.ALREADY_EXISTS, "it is there")
        return super().SetStateAt(request, context)


class DeletesMore(Sound):
    """All stamps of the name."""

    def __init__(self, url):
        super().__init__(url)
        self.stamps = {}

    def SetStateAt(self, request, context):
        self.stamps.setdefault(request.name, set()).add(request.stamp)
        return super().SetStateAt(request, context)

    def DeleteStateAt(self, request, context):
        for request.stamp in list(self.stamps.get(request.name, ())):
            super().DeleteStateAt(request, context)
        return pb.DeleteStateAtResponse()


class DestroysStamps(DeletesMore):
    def Destroy(self, request, context):
        super().DeleteStateAt(pb.DeleteStateAtRequest(name=request.name), context)
        return pb.DestroyResponse()

    def DeleteStateAt(self, request, context):
        return Sound.DeleteStateAt(self, request, context)


class DeletesNothing(Sound):
    def DeleteStateAt(self, request, context):
        return pb.DeleteStateAtResponse()


class ForgetsNames(Sound):
    """One stamp, one value, whoever's it is."""

    def __getattribute__(self, verb):
        method = super().__getattribute__(verb)
        if not verb.endswith("StateAt"):
            return method

        def without_name(request, context):
            request.name = "/"
            return method(request, context)

        return without_name


class IgnoresCase(ForgetsNames):
    def __getattribute__(self, verb):
        method = Sound.__getattribute__(self, verb)
        if not verb.endswith("StateAt"):
            return method

        def lower(request, context):
            request.name = request.name.lower()
            return method(request, context)

        return lower


class LosesNanoseconds(Sound):
    def put(self, context, path, value):
        if value.WhichOneof("kind") == "instant":
            value.instant.nanos -= value.instant.nanos % 1000
        super().put(context, path, value)


class NilIsNothing(Sound):
    def GetStateAt(self, request, context):
        answer = super().GetStateAt(request, context)
        return pb.GetStateAtResponse() if answer.value.nil else answer


class KeepsForOneConnection(Sound):
    """Kept in memory for who wrote it; others see nothing."""

    def __init__(self, url):
        super().__init__(url)
        self.kept = {}

    def SetStateAt(self, request, context):
        self.kept[context.peer(), state(request)] = request.value
        return pb.SetStateAtResponse()

    def GetStateAt(self, request, context):
        return pb.GetStateAtResponse(value=self.kept.get((context.peer(), state(request))))


class OlderWins(Sound):
    def SetState(self, request, context):
        self.ask(context, "DELETE", f"{container.atom(request)}?version={10**17}")
        return super().SetState(request, context)


class DestroysNewer(Sound):
    def DestroyAtom(self, request, context):
        request.version = 10**17
        return super().DestroyAtom(request, context)


class KeepsDestroyed(Sound):
    def DestroyAtom(self, request, context):
        return pb.DestroyAtomResponse()


class RefsAlone(Sound):
    """No bug: it keeps no atoms."""

    serves = (services.add_ContainerServiceServicer_to_server,)


class Nothing(Sound):
    serves = ()


if __name__ == "__main__":
    planted = globals()[sys.argv[1]]
    if "serves" in vars(planted):
        for name in ("add_ContainerServiceServicer_to_server", "add_AtomContainerServiceServicer_to_server"):
            if getattr(services, name) not in planted.serves:
                setattr(services, name, lambda *_: None)
    container.serve(planted(sys.argv[2]), "127.0.0.1:0")
