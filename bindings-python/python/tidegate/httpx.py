"""Transports for httpx that keep to the vendors' limits. They need the package httpx.

>>> import httpx
>>> from tidegate import Outbound
>>> from tidegate.httpx import OutboundTransport
>>> vendor = httpx.MockTransport(lambda request: httpx.Response(200, json={"ok": True}))  # only for this example
>>> with httpx.Client(transport=OutboundTransport(Outbound("10 in any 1s"), vendor)) as client:
...     client.get("https://api.example.com/v1/things").json()
{'ok': True}
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import httpx

from tidegate._async_outbound import AsyncOutbound, AsyncRun
from tidegate._outbound import MAX_USAGE_BODY, Attempt, CallOptions, Outbound, SyncRun
from tidegate._responses import body_of, is_idempotent

__all__ = ["AsyncOutboundTransport", "OutboundTransport"]

# From this status on a body may tell why a call was refused.
REFUSED = 400


class OutboundTransport(httpx.BaseTransport):
    """Sends each request of an httpx.Client when it has a slot, and again as the vendor says.

    `outbound` says how, and `transport` sends, an `httpx.HTTPTransport()` unless given. A request whose body is a
    stream is sent once. One that is not idempotent (a POST without an Idempotency-Key, say) is repeated only where
    it cannot have had an effect. The client's own timeouts still count, and none is longer than what the call's
    has left.

    A slot that would come too late raises RateLimited.
    """

    def __init__(self, outbound: Outbound, transport: httpx.BaseTransport | None = None) -> None:
        if not isinstance(outbound, Outbound):
            raise TypeError(f"outbound must be an Outbound, not {type(outbound).__name__}")
        self._outbound = outbound
        self._transport = httpx.HTTPTransport() if transport is None else transport

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Sends one request; the client calls it."""
        options = options_of(request)
        run = SyncRun(self._outbound.at(request.url.host)._options, options)

        def attempt(attempt: Attempt) -> httpx.Response:
            response = self._transport.handle_request(bounded(request, attempt.timeout))
            if response.status_code >= REFUSED and isinstance(response.stream, httpx.SyncByteStream):
                # It may be repeated, and then the connection is needed.
                body = b"".join(response.stream)
                response.stream.close()
                response.stream = httpx.ByteStream(body)
            return response

        response, _ = run.exchange(attempt, parts_of_response, lambda _: None)
        if response.status_code >= REFUSED:
            run.finish(None)
        elif isinstance(response.stream, httpx.SyncByteStream):
            response.stream = Body(response, response.stream, run)
        return response

    def close(self) -> None:
        """Closes the transport that sends; the Outbound stays open."""
        self._transport.close()


class AsyncOutboundTransport(httpx.AsyncBaseTransport):
    """Sends each request of an httpx.AsyncClient when it has a slot; see `OutboundTransport`."""

    def __init__(self, outbound: AsyncOutbound, transport: httpx.AsyncBaseTransport | None = None) -> None:
        if not isinstance(outbound, AsyncOutbound):
            raise TypeError(f"outbound must be an AsyncOutbound, not {type(outbound).__name__}")
        self._outbound = outbound
        self._transport = httpx.AsyncHTTPTransport() if transport is None else transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Sends one request; the client calls it."""
        options = options_of(request)
        run = AsyncRun(self._outbound.at(request.url.host)._options, options)

        async def attempt(attempt: Attempt) -> httpx.Response:
            response = await self._transport.handle_async_request(bounded(request, attempt.timeout))
            if response.status_code >= REFUSED and isinstance(response.stream, httpx.AsyncByteStream):
                body = b"".join([chunk async for chunk in response.stream])
                await response.stream.aclose()
                response.stream = httpx.ByteStream(body)
            return response

        response = await run.exchange(attempt, parts_of_response)
        if response.status_code >= REFUSED:
            await run.finish(None)
        elif isinstance(response.stream, httpx.AsyncByteStream):
            response.stream = AsyncBody(response, response.stream, run)
        return response

    async def aclose(self) -> None:
        """Closes the transport that sends; the AsyncOutbound stays open."""
        await self._transport.aclose()


class Tail:
    """The end of a body, as far as the `usage` hook sees it, decoded as the response says."""

    def __init__(self, response: httpx.Response, run: Any) -> None:
        self._kept = bytearray()
        self._wants = run.wants_body
        # A decoder has a state, so the response keeps its own.
        copy = httpx.Response(response.status_code, headers=response.headers)
        self._decoder = copy._get_content_decoder() if self._wants else None

    def add(self, chunk: bytes) -> None:
        if self._decoder is not None:
            self._kept += self._decoder.decode(chunk)
            del self._kept[:-MAX_USAGE_BODY]

    def bytes(self) -> bytes | None:
        return bytes(self._kept) if self._wants else None


class Body(httpx.SyncByteStream):
    """A response's body. The call ends when it is closed or forgotten."""

    def __init__(self, response: httpx.Response, stream: httpx.SyncByteStream, run: SyncRun) -> None:
        self._stream, self._run, self._tail = stream, run, Tail(response, run)
        self._is_whole = False
        run.end_with(self)

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            self._tail.add(chunk)
            yield chunk
        self._is_whole = True

    def close(self) -> None:
        try:
            self._stream.close()
        finally:
            self._run.finish(self._tail.bytes() if self._is_whole else None)


class AsyncBody(httpx.AsyncByteStream):
    """A response's body. The call ends when it is closed or forgotten."""

    def __init__(self, response: httpx.Response, stream: httpx.AsyncByteStream, run: AsyncRun) -> None:
        self._stream, self._run, self._tail = stream, run, Tail(response, run)
        self._is_whole = False
        run.end_with(self)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            self._tail.add(chunk)
            yield chunk
        self._is_whole = True

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            await self._run.finish(self._tail.bytes() if self._is_whole else None)


def options_of(request: httpx.Request) -> CallOptions:
    return CallOptions(
        None,
        request,
        # httpx makes this stream of a body that it has in memory, and it can be read again.
        repeatable=isinstance(request.stream, httpx.ByteStream),
        idempotent=is_idempotent(request.method, request.headers),
    )


def bounded(request: httpx.Request, timeout: float | None) -> httpx.Request:
    """The request with timeouts that are no longer than `timeout` seconds."""
    if timeout is None:
        return request
    given = request.extensions.get("timeout") or {}
    names = ("connect", "read", "write", "pool")
    bounds = {name: timeout if given.get(name) is None else min(timeout, given[name]) for name in names}
    return httpx.Request(
        request.method,
        request.url,
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "timeout": bounds},
    )


def parts_of_response(response: httpx.Response) -> tuple[Any, Any, Any]:
    body = None
    if response.status_code >= REFUSED and isinstance(response.stream, httpx.ByteStream):
        copy = httpx.Response(response.status_code, headers=response.headers, stream=response.stream)
        with suppress(httpx.DecodingError):
            copy.read()
            body = body_of(copy)
    return response.status_code, response.headers, body
