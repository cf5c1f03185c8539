"""A rate limit service (envoy.service.ratelimit.v3) that answers as a test tells it to.

It is a real gRPC server. It encodes and decodes its few messages by hand, so that the filter's
encoding is checked against an independent one.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc

OK, OVER_LIMIT = 1, 2


@dataclasses.dataclass(frozen=True)
class Descriptor:
    entries: list[tuple[str, str]]
    hits_addend: int | None = None
    """Negative hits are given back."""


@dataclasses.dataclass(frozen=True)
class Request:
    domain: str
    entries: list[tuple[str, str]]
    """The entries of all descriptors."""
    hits_addend: int
    descriptors: list[Descriptor] = dataclasses.field(default_factory=list, compare=False)
    is_report: bool = False


@dataclasses.dataclass
class Response:
    code: int = OK
    limit: int | None = None
    remaining: int = 0
    reset_seconds: float | None = None
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    body: bytes = b""


@dataclasses.dataclass
class Failure(Exception):
    """Raised by a responder to end the call with this gRPC status."""

    status: grpc.StatusCode


class Silence(Exception):
    """Raised by a responder to leave the request unanswered."""


class RlsServer:
    """Serves while entered. `respond` maps each request to its response."""

    def __init__(self, respond: Callable[[Request], Response], port: int = 0) -> None:
        self.requests: list[Request] = []
        self.respond = respond
        self._stopping = threading.Event()
        self._server = grpc.server(
            futures.ThreadPoolExecutor(max_workers=16), options=[("grpc.so_reuseport", 0)]
        )
        self._server.add_generic_rpc_handlers((_Handler(self._answer),))
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")

    def __enter__(self) -> RlsServer:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._server.stop(grace=None).wait()

    def _answer(self, message: bytes, context: grpc.ServicerContext) -> bytes:
        metadata = dict(context.invocation_metadata())
        request = dataclasses.replace(_read_request(message), is_report="tidegate-report" in metadata)
        self.requests.append(request)
        try:
            return _write_response(self.respond(request))
        except Failure as failure:
            context.abort(failure.status, "as the test says")
            raise
        except Silence:
            self._stopping.wait()
            context.abort(grpc.StatusCode.UNAVAILABLE, "stopping")
            raise


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, answer: Callable[[bytes, grpc.ServicerContext], bytes]) -> None:
        self._answer = answer

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        if details.method != "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit":
            return None
        return grpc.unary_unary_rpc_method_handler(self._answer)


def _read_request(message: bytes) -> Request:
    domain, descriptors, hits = "", [], 0
    for field, value in _fields(message):
        if field == 1:
            domain = value.decode()
        elif field == 2:
            descriptors.append(_read_descriptor(value))
        elif field == 3:
            hits = value
    entries = [entry for descriptor in descriptors for entry in descriptor.entries]
    return Request(domain, entries, hits, descriptors)


def _read_descriptor(message: bytes) -> Descriptor:
    entries, hits, is_negative = [], None, False
    for field, value in _fields(message):
        if field == 1:
            parts = {number: part.decode() for number, part in _fields(value)}
            entries.append((parts[1], parts[2]))
        elif field == 3:
            hits = dict(_fields(value)).get(1, 0)
        elif field == 4:
            is_negative = bool(value)
    return Descriptor(entries, -hits if is_negative and hits else hits)


def _write_response(response: Response) -> bytes:
    status = _number(1, response.code)
    if response.limit is not None:
        status += _bytes(2, _number(1, response.limit) + _number(2, 1))
    status += _number(3, response.remaining)
    if response.reset_seconds is not None:
        seconds = int(response.reset_seconds)
        nanos = round((response.reset_seconds - seconds) * 1e9)
        status += _bytes(4, _number(1, seconds) + _number(2, nanos))
    message = _number(1, response.code) + _bytes(2, status)
    for name, value in response.headers.items():
        message += _bytes(3, _bytes(1, name.encode()) + _bytes(2, value.encode()))
    if response.body:
        message += _bytes(5, response.body)
    return message


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    at = 0

    def varint() -> int:
        nonlocal at
        number = shift = 0
        while True:
            byte = message[at]
            at += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
            shift += 7

    while at < len(message):
        tag = varint()
        if tag & 7 == 0:
            yield tag >> 3, varint()
        elif tag & 7 == 2:
            size = varint()
            if at + size > len(message):
                raise ValueError("a field longer than its message")
            yield tag >> 3, message[at : at + size]
            at += size
        else:
            raise ValueError(f"a field of wire type {tag & 7}")


def _varint(number: int) -> bytes:
    written = bytearray()
    while number >= 0x80:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*written, number])


def _number(field: int, number: int) -> bytes:
    return _varint(field << 3) + _varint(number)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value
