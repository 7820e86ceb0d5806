#!/usr/bin/env python3
"""A container of stmd that keeps values in a RESTful web service: each verb is a GET, PUT or DELETE of a resource.

states.py is such a service. A value is JSON there, as protobuf writes it: {"vector": {"items": [{"integer": "1"}]}}.
"""
import argparse
import concurrent.futures
import http.client
import signal
import threading
from urllib.parse import quote, urlsplit

import grpc
from google.protobuf import json_format
from grpc import StatusCode
from stm.v1 import container_service_pb2 as pb
from stm.v1 import container_service_pb2_grpc as services
from stm.v1.value_pb2 import Value

CALLS_MAX = 32  # at once; others wait their turn
ANSWER_SECONDS_MAX = 10  # of the web service, when the caller waits for longer
STOP_SECONDS_MAX = 5
OPTIONS = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
CODE = {400: StatusCode.INVALID_ARGUMENT, 401: StatusCode.PERMISSION_DENIED, 403: StatusCode.PERMISSION_DENIED,
        413: StatusCode.RESOURCE_EXHAUSTED, 500: StatusCode.INTERNAL,
        507: StatusCode.RESOURCE_EXHAUSTED}
TAKEN = object()


def state(request):
    return f"/states/{quote(request.name, safe='')}/{quote(request.stamp, safe='')}"


def atom(request):
    return f"/atoms/{quote(request.name, safe='')}"


def plain(value):
    """The same of equal values: maps and sets have no order."""
    kind = value.WhichOneof("kind")
    if kind in ("list", "vector", "set"):
        return kind, (frozenset if kind == "set" else tuple)(map(plain, getattr(value, kind).items))
    if kind == "map":
        return kind, frozenset((plain(entry.key), plain(entry.value)) for entry in value.map.entries)
    return (kind, value.tagged.tag, plain(value.tagged.value)) if kind == "tagged" else json_format.MessageToJson(value)


class Container(services.ContainerServiceServicer, services.AtomContainerServiceServicer):
    """Called by CALLS_MAX threads at once, each with a connection to the web service of its own."""

    def __init__(self, url):
        self.url = urlsplit(url.rstrip("/"))
        self.kind = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}[self.url.scheme]
        self.thread = threading.local()

    def Init(self, request, context):
        return pb.InitResponse()  # nothing is kept for a name itself

    def Destroy(self, request, context):
        return pb.DestroyResponse()

    def GetStateAt(self, request, context):
        return pb.GetStateAtResponse(value=self.get(context, state(request)))

    def SetStateAt(self, request, context):
        if self.put(context, state(request), request.value) is TAKEN:
            there = self.get(context, state(request))
            if there is None or plain(there) != plain(request.value):
                context.abort(StatusCode.ALREADY_EXISTS, "another value is, or was, under that stamp")
        return pb.SetStateAtResponse()

    def DeleteStateAt(self, request, context):
        self.ask(context, "DELETE", state(request))
        return pb.DeleteStateAtResponse()

    def InitAtom(self, request, context):
        return pb.InitAtomResponse()

    def DestroyAtom(self, request, context):
        self.ask(context, "DELETE", f"{atom(request)}?version={request.version}")
        return pb.DestroyAtomResponse()

    def GetState(self, request, context):
        return pb.GetStateResponse(value=self.get(context, atom(request)))

    def SetState(self, request, context):
        self.put(context, f"{atom(request)}?version={request.version}", request.value)
        return pb.SetStateResponse()

    def get(self, context, path):
        text = self.ask(context, "GET", path)
        try:
            return None if text is None else json_format.Parse(text, Value())
        except json_format.ParseError as error:
            context.abort(StatusCode.DATA_LOSS, f"{self.url.geturl()}{path}: is no value: {error}")

    def put(self, context, path, value):
        size = value.ByteSize()
        value.DiscardUnknownFields()
        if value.WhichOneof("kind") is None or value.ByteSize() != size:  # it would not be kept whole
            context.abort(StatusCode.INVALID_ARGUMENT, "value: of a kind that this container does not know")
        return self.ask(context, "PUT", path, json_format.MessageToJson(value, indent=None, ensure_ascii=False).encode())

    def ask(self, context, method, path, body=None):
        """What was answered; None: there is no such resource; TAKEN: it is another. Anything else ends the call with the code that fits."""
        left = context.time_remaining()
        seconds = ANSWER_SECONDS_MAX if left is None else max(0.001, min(left, ANSWER_SECONDS_MAX))
        if not hasattr(self.thread, "connection"):
            self.thread.connection = self.kind(self.url.netloc)
        connection = self.thread.connection
        while True:
            reused = connection.sock is not None
            try:
                connection.timeout = seconds
                if reused:
                    connection.sock.settimeout(seconds)
                connection.request(method, self.url.path + path, body)
                answer = connection.getresponse()
                text = answer.read().decode()
                break
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                # The service may have closed a connection that idled. Every verb may come twice.
                if not reused or isinstance(error, TimeoutError):
                    context.abort(StatusCode.UNAVAILABLE, f"{self.url.geturl()}: {method}: {error}")
        if answer.status in (200, 204, 409):
            return TAKEN if answer.status == 409 else text
        if answer.status == 404 and text == "null" and method != "PUT":  # any other 404 is not of such a service
            return None
        code = CODE.get(answer.status, StatusCode.UNAVAILABLE if answer.status > 500 else StatusCode.UNKNOWN)
        context.abort(code, f"{self.url.geturl()}: {method}: {answer.status} {answer.reason}: {text[:200]}")


def serve(container, listen):
    """Until SIGTERM or SIGINT, and until the calls that are under way have ended. Before there is another thread."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(CALLS_MAX), options=OPTIONS)
    services.add_ContainerServiceServicer_to_server(container, server)
    services.add_AtomContainerServiceServicer_to_server(container, server)
    port = server.add_insecure_port(listen)
    server.start()
    print(f"container: serving on {listen.rsplit(':', 1)[0]}:{port}", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    server.stop(STOP_SECONDS_MAX).wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="keeps values of stmd in a web service")
    parser.add_argument("--listen", default="127.0.0.1:7777", help="host:port")
    parser.add_argument("--states", default="http://127.0.0.1:8080", help="the web service")
    arguments = parser.parse_args()
    serve(Container(arguments.states), arguments.listen)
