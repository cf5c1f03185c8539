"""A client middleware for aiohttp 3.12 and newer that keeps to the vendors' limits. It needs the package aiohttp.

>>> import aiohttp
>>> from tidegate import AsyncOutbound
>>> from tidegate.aiohttp import outbound_middleware
>>> async def main():
...     middlewares = (outbound_middleware(AsyncOutbound("10 in any 1s")),)
...     async with aiohttp.ClientSession(middlewares=middlewares) as session:
...         async with session.get("https://api.example.com/v1/things") as response:
...             return await response.json()
"""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
from aiohttp.payload import BytesPayload

from tidegate._async_outbound import AsyncOutbound, AsyncRun, task_of
from tidegate._outbound import MAX_USAGE_BODY, Attempt, CallOptions
from tidegate._responses import is_idempotent

__all__ = ["outbound_middleware"]

# From this status on a body may tell why a call was refused.
REFUSED = 400


def outbound_middleware(outbound: AsyncOutbound) -> aiohttp.ClientMiddlewareType:
    """A middleware that sends each request when it has a slot, and again as the vendor says.

    A request whose body is neither text nor bytes is sent once. One that is not idempotent (a POST without an
    Idempotency-Key, say) is repeated only where it cannot have had an effect. The session's own timeout is that of
    a whole request, waits and retries included. With a `usage` hook the body is read before the response is given
    to the caller.

    A slot that would come too late raises RateLimited.
    """
    if not isinstance(outbound, AsyncOutbound):
        raise TypeError(f"outbound must be an AsyncOutbound, not {type(outbound).__name__}")

    async def middleware(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        options = CallOptions(
            None,
            request,
            repeatable=not request.body or isinstance(request.body, (bytes, BytesPayload)),
            idempotent=is_idempotent(request.method, request.headers),
        )
        run = AsyncRun(outbound.at(options.host or "")._options, options)

        async def attempt(_: Attempt) -> aiohttp.ClientResponse:
            return await handler(request)

        response = await run.exchange(attempt, lambda response: (response.status, response.headers, None), parts_of)
        if run.wants_body and response.status < REFUSED:
            body = None
            try:
                body = (await response.read())[-MAX_USAGE_BODY:]
            finally:
                await run.finish(body)
        else:
            at_end_of(response, run)
        return response

    return middleware


async def parts_of(response: aiohttp.ClientResponse) -> tuple[Any, Any, Any]:
    """The status, headers and, of a refusal, the JSON. Reading it frees the connection for a retry."""
    body = None
    if response.status >= REFUSED:
        await response.read()
        if "json" in response.headers.get("content-type", "").lower():
            try:
                body = await response.json(content_type=None)
            except (ValueError, LookupError):
                # Nothing in a response may raise.
                body = None
    return response.status, response.headers, body if isinstance(body, (dict, list)) else None


def at_end_of(response: aiohttp.ClientResponse, run: AsyncRun) -> None:
    """Ends the call when the body has ended, or the response is released, closed or forgotten."""
    end = task_of(asyncio.get_running_loop(), lambda: run.finish(None))
    connection = response.connection
    if connection is None:
        end()
        return
    response.content.on_eof(end)
    # A response gives its connection back however it ends. A body that is not read, or is cut, has no end.
    connection.add_callback(end)
    run.end_with(response)
