"""The vendor's server: HTTP/1.1 with kept connections, a limit, a latency, and a log of its own."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import time
from collections import Counter
from email.utils import formatdate
from urllib.parse import parse_qsl, urlsplit

from vendor.windows import window_of

KINDS = ("fixed", "sliding", "bucket")
STYLES = ("retry-after", "ratelimit", "reset", "none")


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("vendor")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--limit", type=int, default=10)
    parser.add_argument("--window", type=float, default=1.0)
    parser.add_argument("--kind", choices=KINDS, default="sliding")
    parser.add_argument("--burst", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--style", choices=STYLES, default="retry-after")
    parser.add_argument("--retry-after", type=float, default=0.0)
    parser.add_argument("--count-refused", action="store_true")
    parser.add_argument("--refuse", type=int, default=0)
    parser.add_argument("--fail", type=int, default=0)
    parser.add_argument("--body", default='{"ok": true}')
    return parser


class Server:
    """One vendor."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.began = time.monotonic()
        self.log: list[dict[str, object]] = []
        self.in_flight = self.most_in_flight = 0
        self._limit_again()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers the requests of one connection."""
        try:
            while (head := await reader.readuntil(b"\r\n\r\n")) is not None:
                now = time.monotonic() - self.began
                first, *lines = head.decode("latin-1").split("\r\n")
                method, target, _ = first.split(" ", 2)
                fields = (line.partition(":") for line in lines if line)
                headers = {name.strip().lower(): value.strip() for name, _, value in fields}
                await read_body(reader, headers)
                status, extra, body = await self.answer(now, method, target, headers)
                writer.write(written(status, extra, body, is_head=method == "HEAD"))
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError, ValueError):
            pass
        finally:
            writer.close()

    async def answer(
        self, now: float, method: str, target: str, headers: dict[str, str]
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        url = urlsplit(target)
        if url.path == "/_log":
            return 200, [], json.dumps(self.log).encode()
        if url.path == "/_counts":
            return 200, [], json.dumps(self.counts()).encode()
        if url.path == "/_set":
            return self.set(dict(parse_qsl(url.query)))
        status, extra = self.decide(now)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self.log.append({
            "at": now,
            "status": status,
            "method": method,
            "path": url.path,
            "client": headers.get("x-client", ""),
            "in_flight": self.in_flight,
        })
        try:
            # A refusal is quick, as it is at most vendors.
            await asyncio.sleep(0 if status == 429 else self.given.latency)
        finally:
            self.in_flight -= 1
        body = self.given.body if status < 400 else json.dumps({"error": {"code": str(status)}})
        return status, extra, body.encode()

    def decide(self, now: float) -> tuple[int, list[tuple[str, str]]]:
        """The status of a request that came at `now`, and the headers that tell about the limit."""
        if self.given.fail:
            return self.given.fail, []
        wait = self.window.wait(now)
        if self.given.refuse > 0:
            self.given.refuse -= 1
            wait = max(wait, self.given.retry_after, 1e-9)
        if wait <= 0 or self.given.count_refused:
            self.window.count(now)
        if wait <= 0:
            return 200, [("X-RateLimit-Limit", str(self.given.limit))]
        return 429, self.refusal(self.given.retry_after or wait)

    def refusal(self, wait: float) -> list[tuple[str, str]]:
        given = self.given
        if given.style == "retry-after":
            return [("Retry-After", str(math.ceil(wait)))]
        if given.style == "ratelimit":
            policy = f'"default";q={given.limit};w={math.ceil(given.window)}'
            return [("RateLimit", f'"default";r=0;t={math.ceil(wait)}'), ("RateLimit-Policy", policy)]
        if given.style == "reset":
            now = time.time()
            return [
                ("Date", formatdate(now, usegmt=True)),
                ("X-RateLimit-Limit", str(given.limit)),
                ("X-RateLimit-Remaining", "0"),
                # `Date` has whole seconds, from which the reset is counted.
                ("X-RateLimit-Reset", str(math.ceil(int(now) + wait + 1))),
            ]
        return []

    def set(self, changes: dict[str, str]) -> tuple[int, list[tuple[str, str]], bytes]:
        for flag, value in changes.items():
            name = flag.replace("-", "_")
            old = getattr(self.given, name, None)
            if old is None:
                return 400, [], b'{"error": "there is no such option"}'
            setattr(self.given, name, type(old)(value))
        if changes.keys() & {"limit", "window", "kind", "burst"}:
            self._limit_again()
        return 200, [], b"{}"

    def counts(self) -> dict[str, object]:
        by_status = Counter(str(entry["status"]) for entry in self.log)
        return {
            "requests": len(self.log), "refused": by_status["429"], "by_status": by_status,
            "most_in_flight": self.most_in_flight,
        }  # fmt: skip

    def _limit_again(self) -> None:
        given = self.given
        self.window = window_of(given.kind, given.limit, given.window, given.burst)


async def read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> None:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            await reader.readexactly(size + 2)
        await reader.readuntil(b"\r\n")
    else:
        await reader.readexactly(int(headers.get("content-length", 0)))


def written(status: int, extra: list[tuple[str, str]], body: bytes, *, is_head: bool) -> bytes:
    lines = [f"HTTP/1.1 {status} Status", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in extra]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (b"" if is_head else body)
