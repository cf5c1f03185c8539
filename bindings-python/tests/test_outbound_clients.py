"""`Outbound` under httpx, requests and aiohttp, against the deterministic vendor of `tests/vendor`."""

from __future__ import annotations

import asyncio
import gc
import gzip
import io
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import aiohttp
import httpx
import pytest
import requests
import urllib3
from conftest import VendorProcess
from requests.adapters import BaseAdapter

from tidegate import AsyncOutbound, Outbound, RateLimited, Retry
from tidegate.aiohttp import outbound_middleware
from tidegate.httpx import AsyncOutboundTransport, OutboundTransport
from tidegate.requests import OutboundAdapter

# The host of the vendor.
HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def started_vendor() -> Iterator[VendorProcess]:
    with VendorProcess(limit=1_000_000, body='{"usage": {"total": 7}}') as vendor:
        yield vendor


@pytest.fixture
def vendor(started_vendor: VendorProcess) -> VendorProcess:
    """A vendor that allows everything until it is told otherwise."""
    started_vendor.set(fail=0, refuse=0, retry_after=0, style="retry-after", latency=0)
    return started_vendor


def by_httpx(outbound: Outbound, method: str, url: str, **options: Any) -> tuple[int, Any]:
    with httpx.Client(transport=OutboundTransport(outbound)) as client:
        response = client.request(method, url, **options)
        assert response.elapsed.total_seconds() >= 0
        return response.status_code, response.json()


def by_requests(outbound: Outbound, method: str, url: str, **options: Any) -> tuple[int, Any]:
    options["data"] = options.pop("content", None)
    with requests.Session() as session:
        session.mount("http://", OutboundAdapter(outbound))
        response = session.request(method, url, **options)
        return response.status_code, response.json()


async def by_async_httpx(outbound: AsyncOutbound, method: str, url: str, **options: Any) -> tuple[int, Any]:
    async with httpx.AsyncClient(transport=AsyncOutboundTransport(outbound)) as client:
        response = await client.request(method, url, **options)
        return response.status_code, response.json()


async def by_aiohttp(outbound: AsyncOutbound, method: str, url: str, **options: Any) -> tuple[int, Any]:
    options["data"] = options.pop("content", None)
    async with (
        aiohttp.ClientSession(middlewares=(outbound_middleware(outbound),)) as session,
        session.request(method, url, **options) as response,
    ):
        return response.status, await response.json()


class Client:
    """One client with its kind of Outbound."""

    def __init__(self, request: Callable[..., Any]) -> None:
        self.request = request
        self.kind = AsyncOutbound if asyncio.iscoroutinefunction(request) else Outbound

    def make(self, *limits: str, **options: Any) -> Any:
        return self.kind(*limits, **options)

    def __call__(self, outbound: Any, method: str, url: str, **options: Any) -> Any:
        made = self.request(outbound, method, url, **options)
        return asyncio.run(made) if asyncio.iscoroutine(made) else made

    def left(self, outbound: Any) -> Any:
        peeked = outbound.limiter.peek(HOST, 0)
        return asyncio.run(peeked) if asyncio.iscoroutine(peeked) else peeked


@pytest.fixture(params=[by_httpx, by_requests, by_async_httpx, by_aiohttp], ids=lambda by: by.__name__[3:])
def client(request: pytest.FixtureRequest) -> Client:
    return Client(request.param)


def sent(vendor: VendorProcess, path: str) -> list[dict[str, Any]]:
    return [entry for entry in vendor.log() if entry["path"] == path]


def test_a_request_takes_a_token_of_its_host(client: Client, vendor: VendorProcess) -> None:
    outbound = client.make("10/d")
    assert client(outbound, "GET", f"{vendor.url}/plain") == (200, {"usage": {"total": 7}})
    assert client.left(outbound).remaining == 9


@pytest.mark.parametrize("style", ["retry-after", "ratelimit", "reset"])
def test_a_refusal_is_obeyed_and_repeated(client: Client, vendor: VendorProcess, style: str) -> None:
    vendor.set(refuse=1, retry_after=1, style=style)
    path = f"/refused-{client.request.__name__}-{style}"
    assert client(client.make("100/s", retry=Retry(base=0)), "POST", vendor.url + path, content=b"x")[0] == 200
    first, second = sent(vendor, path)
    assert (first["status"], second["status"]) == (429, 200)
    # `Date` and the reset have whole seconds, of which one may have passed.
    assert second["at"] - first["at"] >= (0.9 if style == "reset" else 1.0)


def test_a_post_is_not_repeated_after_a_fault(client: Client, vendor: VendorProcess) -> None:
    vendor.set(fail=500)
    path = f"/fault-{client.request.__name__}"
    outbound = client.make("100/s", retry=Retry(attempts=3, base=0))
    assert client(outbound, "POST", vendor.url + path, content=b"x") == (500, {"error": {"code": "500"}})
    assert len(sent(vendor, path)) == 1
    client(outbound, "POST", vendor.url + path, content=b"x", headers={"Idempotency-Key": "1"})
    client(outbound, "GET", vendor.url + path)
    assert len(sent(vendor, path)) == 7


def test_a_body_that_is_a_stream_is_sent_once(client: Client, vendor: VendorProcess) -> None:
    vendor.set(fail=503)
    path = f"/stream-{client.request.__name__}"

    def chunks() -> Iterator[bytes]:
        yield b"a"
        yield b"b"

    async def async_chunks() -> Any:
        yield b"a"
        yield b"b"

    body = chunks() if client.kind is Outbound else async_chunks()
    assert client(client.make("100/s", retry=Retry(base=0)), "PUT", vendor.url + path, content=body)[0] == 503
    assert len(sent(vendor, path)) == 1


def test_a_vendor_that_is_not_there_is_tried_again(client: Client) -> None:
    outbound = client.make("100/d", retry=Retry(attempts=3, base=0))
    errors = (httpx.ConnectError, requests.ConnectionError, aiohttp.ClientConnectorError)
    with pytest.raises(errors):
        # Nobody listens on this port.
        client(outbound, "POST", "http://127.0.0.1:9/", content=b"x")
    assert client.left(outbound).remaining == 97


def test_a_slot_that_is_too_late_raises_and_sends_nothing(client: Client, vendor: VendorProcess) -> None:
    outbound = client.make("1/d", timeout=1)
    path = f"/late-{client.request.__name__}"
    client(outbound, "GET", vendor.url + path)
    with pytest.raises(RateLimited):
        client(outbound, "GET", vendor.url + path)
    assert len(sent(vendor, path)) == 1


def test_an_attempt_that_takes_too_long_is_repeated(client: Client, vendor: VendorProcess) -> None:
    vendor.set(latency=30)
    outbound = client.make("100/s", retry=Retry(attempts=2, base=0), attempt_timeout=0.3)
    timeouts = (httpx.TimeoutException, requests.Timeout, TimeoutError, asyncio.TimeoutError)
    path = f"/slow-{client.request.__name__}"
    with pytest.raises(timeouts):
        client(outbound, "GET", vendor.url + path)
    assert len(sent(vendor, path)) == 2


def test_usage_settles_when_the_body_has_ended(client: Client, vendor: VendorProcess) -> None:
    outbound = client.make("1000/d", cost=100, usage=lambda body: json.loads(body)["usage"]["total"])
    client(outbound, "GET", f"{vendor.url}/usage")
    assert client.left(outbound).remaining == 993
    vendor.set(fail=404)
    client(outbound, "GET", f"{vendor.url}/usage")
    assert client.left(outbound).remaining == 893


def test_a_streamed_response_keeps_its_place_until_it_ends(vendor: VendorProcess) -> None:
    outbound = Outbound("100/s", concurrency=1, timeout=0.05)
    with httpx.Client(transport=OutboundTransport(outbound)) as client:
        with client.stream("GET", f"{vendor.url}/open") as response:
            with pytest.raises(RateLimited, match="slot"):
                client.get(f"{vendor.url}/open")
            response.read()
        assert client.get(f"{vendor.url}/open").status_code == 200
    with requests.Session() as session:
        session.mount("http://", OutboundAdapter(outbound))
        streamed = session.get(f"{vendor.url}/open", stream=True)
        with pytest.raises(RateLimited, match="slot"):
            session.get(f"{vendor.url}/open")
        assert streamed.json() == {"usage": {"total": 7}}
        assert session.get(f"{vendor.url}/open", stream=True).content
        assert session.get(f"{vendor.url}/open").status_code == 200


def test_an_async_streamed_response_keeps_its_place_until_it_ends(vendor: VendorProcess) -> None:
    async def by_httpx(outbound: AsyncOutbound) -> None:
        async with httpx.AsyncClient(transport=AsyncOutboundTransport(outbound)) as client:
            async with client.stream("GET", f"{vendor.url}/open") as response:
                with pytest.raises(RateLimited, match="slot"):
                    await client.get(f"{vendor.url}/open")
                await response.aread()
            assert (await client.get(f"{vendor.url}/open")).status_code == 200

    async def by_aiohttp(outbound: AsyncOutbound) -> None:
        async with aiohttp.ClientSession(middlewares=(outbound_middleware(outbound),)) as session:
            # Each can only come once the one before has given its place back.
            for _ in range(3):
                response = await session.get(f"{vendor.url}/open")
                assert (await response.json())["usage"]

    asyncio.run(by_httpx(AsyncOutbound("100/s", concurrency=1, timeout=0.05)))
    asyncio.run(by_aiohttp(AsyncOutbound("100/s", concurrency=1, timeout=30)))


def usage_of(body: bytes) -> int:
    return int(json.loads(body)["usage"]["total"])


def test_send_returns_a_stream_that_was_not_read(vendor: VendorProcess) -> None:
    outbound = Outbound("1000/d", cost=100, usage=usage_of, concurrency=1, timeout=30)
    with httpx.Client() as client, requests.Session() as session:
        for number, read in enumerate((httpx.Response.read, httpx.Response.close)):
            request = client.build_request("GET", f"{vendor.url}/stream")
            response = outbound.send(lambda _: client.send(request, stream=True), request=request)  # noqa: B023
            read(response)
            assert outbound.limiter.peek(HOST, 0).remaining == 900 - 100 * number
        with outbound.send(lambda _: session.get(f"{vendor.url}/stream", stream=True), key=HOST) as streamed:
            assert streamed.raw.read() == b'{"usage": {"total": 7}}'
        assert outbound.limiter.peek(HOST, 0).remaining == 700
        outbound.send(lambda _: client.get(f"{vendor.url}/stream"), key=HOST)
    assert outbound.limiter.peek(HOST, 0).remaining == 693


def test_async_send_returns_a_stream_that_was_not_read(vendor: VendorProcess) -> None:
    async def main() -> None:
        outbound = AsyncOutbound("1000/d", cost=100, usage=usage_of, concurrency=1, timeout=30)
        async with httpx.AsyncClient() as client, aiohttp.ClientSession() as session, HalfVendor(closes=True) as half:
            for _ in range(2):
                request = client.build_request("GET", f"{vendor.url}/stream")
                response = await outbound.send(lambda _: client.send(request, stream=True), request=request)  # noqa: B023
                assert json.loads(await response.aread()) == {"usage": {"total": 7}}
            assert (await outbound.limiter.peek(HOST, 0)).remaining == 800
            # The body is cut, which is told to who reads it.
            cut = await outbound.send(lambda _: session.get(half), key=HOST)
            with pytest.raises(aiohttp.ClientPayloadError):
                await cut.read()
            assert (await outbound.limiter.peek(HOST, 0)).remaining == 700
            await outbound.send(lambda _: client.get(f"{vendor.url}/stream"), key=HOST)
            assert (await outbound.limiter.peek(HOST, 0)).remaining == 693

    asyncio.run(main())


class HalfVendor:
    """A vendor that sends the first half of a body, and then closes the connection or leaves it open."""

    def __init__(self, *, closes: bool = False) -> None:
        self._closes = closes
        self._answers: list[Any] = []

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._answer, HOST, 0)
        return f"http://{HOST}:{self._server.sockets[0].getsockname()[1]}/"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await asyncio.gather(*self._answers)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._answers.append(asyncio.current_task())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf ")
        await writer.drain()
        if not self._closes:
            with suppress(ConnectionError):
                await reader.read()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def leave_unread(response: aiohttp.ClientResponse) -> None:
    async with response:
        assert response.status == 200


async def close_unread(response: aiohttp.ClientResponse) -> None:
    response.close()


async def release_unread(response: aiohttp.ClientResponse) -> None:
    response.release()


@pytest.mark.parametrize("leave", [leave_unread, close_unread, release_unread])
def test_an_aiohttp_response_that_is_not_read_gives_its_place_back(leave: Callable[..., Any]) -> None:
    async def main() -> None:
        held = []
        middlewares = (outbound_middleware(AsyncOutbound(concurrency=1, timeout=30)),)
        async with HalfVendor() as url, aiohttp.ClientSession(middlewares=middlewares) as session:
            for _ in range(3):
                # It is kept, so that the garbage collector cannot be what ends it.
                held.append(await session.get(url))
                await leave(held[-1])

    asyncio.run(main())


def test_an_aiohttp_response_that_is_cut_gives_its_place_back() -> None:
    async def main() -> None:
        held = []
        middlewares = (outbound_middleware(AsyncOutbound(concurrency=1, timeout=30)),)
        async with HalfVendor(closes=True) as url, aiohttp.ClientSession(middlewares=middlewares) as session:
            for _ in range(3):
                held.append(await session.get(url))
                with pytest.raises(aiohttp.ClientPayloadError):
                    await held[-1].read()

    asyncio.run(main())


class MemoryAdapter(BaseAdapter):
    """An adapter of requests that answers a stream without a socket."""

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        response = requests.Response()
        response.status_code = 200
        response.raw = urllib3.HTTPResponse(io.BytesIO(b"{}"), preload_content=False)
        return response

    def close(self) -> None:
        pass


def test_a_forgotten_response_gives_its_place_back(vendor: VendorProcess) -> None:
    outbound = Outbound(concurrency=1, timeout=30)
    with httpx.Client(transport=OutboundTransport(outbound)) as client, requests.Session() as session:
        session.mount("http://", OutboundAdapter(outbound, MemoryAdapter()))
        for _ in range(2):
            request = client.build_request("GET", f"{vendor.url}/forgotten")
            assert client.send(request, stream=True).status_code == 200
            gc.collect()
            assert session.get("http://api.example.com/", stream=True).status_code == 200
            gc.collect()


def test_an_async_forgotten_response_gives_its_place_back(vendor: VendorProcess) -> None:
    async def main() -> None:
        transport = AsyncOutboundTransport(AsyncOutbound(concurrency=1, timeout=30))
        async with httpx.AsyncClient(transport=transport) as client:
            for _ in range(3):
                request = client.build_request("GET", f"{vendor.url}/forgotten")
                assert (await client.send(request, stream=True)).status_code == 200
                gc.collect()

    asyncio.run(main())


def test_a_compressed_body_is_read_for_its_usage() -> None:
    packed = gzip.compress(json.dumps({"usage": 5}).encode())

    def vendor(_: httpx.Request) -> httpx.Response:
        stream = httpx.ByteStream(packed)
        return httpx.Response(200, headers={"content-encoding": "gzip"}, stream=stream)

    outbound = Outbound("1000/d", cost=100, usage=lambda body: json.loads(body)["usage"])
    with httpx.Client(transport=OutboundTransport(outbound, httpx.MockTransport(vendor))) as client:
        assert client.get("https://127.0.0.1/").json() == {"usage": 5}
    assert outbound.limiter.peek(HOST, 0).remaining == 995


def test_wrong_arguments_are_named() -> None:
    for make in (OutboundTransport, AsyncOutboundTransport, OutboundAdapter, outbound_middleware):
        with pytest.raises(TypeError, match="outbound must be an "):
            make("10/s")  # type: ignore[operator]
