"""Real servers that inputs are sent to through real channels, and what every answer must be."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

from embedscale.servicekit.lifecycle import Application, Server
from embedscale.servicekit.settings import ServerSettings
from embedscale.servicekit.status import TABLE
from embedscale.v1 import types_pb2 as wire

ResultT = TypeVar("ResultT")

SECONDS = 15.0
_MOST_ANSWERS = 1000
_LOOP = asyncio.new_event_loop()
_SERVERS: list[Server] = []
_REASONS = {wire.ErrorReason.Name(reason).removeprefix("ERROR_REASON_"): code for code, reason in TABLE.values()}


def wait(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Wait for work on the loop that all servers here live on."""
    return _LOOP.run_until_complete(work)


def served(build: Callable[[], Application], settings: ServerSettings) -> str:
    """Serve until the process ends; returns the address."""
    return wait(_started(build, settings))


async def _started(build: Callable[[], Application], settings: ServerSettings) -> str:
    server = Server(build(), settings)
    await server.listen()
    await server.become_ready()
    _SERVERS.append(server)
    return f"127.0.0.1:{server.port}"


@dataclass(frozen=True)
class Answer:
    """What a call ended with: `request` is None if the bytes are no message of the method's type."""

    method: str
    request: Message | None
    code: grpc.StatusCode
    reason: str
    responses: list[Any]


class Caller:
    """Calls the methods of the services in a file with raw bytes."""

    def __init__(self, address: str, *files: FileDescriptor) -> None:
        services = [service for file in files for service in file.services_by_name.values()]
        self.methods: list[MethodDescriptor] = [method for service in services for method in service.methods]
        self._address = address
        self._channel: grpc.aio.Channel | None = None

    def kind(self, number: int) -> type[Message]:
        """Type of the requests of a method, by any number."""
        return GetMessageClass(self._method(number).input_type)

    def call(self, number: int, data: bytes) -> Answer:
        """Call a method, by any number, and check its status: one of the table, with its reason, never INTERNAL."""
        method = self._method(number)
        code, reason, responses = wait(self._called(method, data))
        answer = Answer(method.name, _message(self.kind(number), data), code, reason, responses)
        if code is not grpc.StatusCode.OK:
            assert _REASONS.get(reason) == code, (method.name, code, reason)
            assert code is not grpc.StatusCode.INTERNAL
        assert answer.request is not None or code is grpc.StatusCode.INVALID_ARGUMENT
        return answer

    def _method(self, number: int) -> MethodDescriptor:
        return self.methods[number % len(self.methods)]

    async def _called(self, method: MethodDescriptor, data: bytes) -> tuple[grpc.StatusCode, str, list[Any]]:
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(self._address)
        path = f"/{method.containing_service.full_name}/{method.name}"
        shape = f"stream_{'stream' if method.server_streaming else 'unary'}"
        read = GetMessageClass(method.output_type).FromString
        call = getattr(self._channel, shape)(path, response_deserializer=read)(_once(data), timeout=SECONDS)
        responses: list[Any] = []
        try:
            if method.server_streaming:
                async for response in call:
                    responses.append(response)
                    assert len(responses) < _MOST_ANSWERS
            else:
                responses.append(await call)
        except grpc.aio.AioRpcError as error:
            return error.code(), _reason(error), responses
        return grpc.StatusCode.OK, "", responses


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _message(kind: type[Message], data: bytes) -> Message | None:
    try:
        return kind.FromString(data)
    except DecodeError:
        return None


def _reason(error: grpc.aio.AioRpcError) -> str:
    status = rpc_status.from_call(error)
    info = ErrorInfo()
    found = status is not None and any(detail.Unpack(info) for detail in status.details)
    return info.reason if found else ""
