"""Calls a language model under two limits at once: requests per minute and tokens per minute.

    pip install ./bindings-python httpx
    python examples/llm/llm.py

Each call is charged an estimate before it leaves, and what it has really used when its answer has ended. It brings a
model of its own, in this process, and shows what both limits have left. With store="redis://…" a fleet shares them.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import AsyncIterator

import httpx

from tidegate import AsyncOutbound, Decision, FakeClock
from tidegate.httpx import AsyncOutboundTransport

LIMITS = ("60/min", "20000/min")
CALLS = 90
ESTIMATE = 700


class Model(httpx.AsyncBaseTransport):
    """A model whose answers stream, and say at their end how many tokens they took."""

    def __init__(self) -> None:
        self.calls = self.tokens = 0
        self._random = random.Random(7)  # noqa: S311 (the same answers in each run)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:  # noqa: ARG002
        self.calls += 1
        used = self._random.randint(100, ESTIMATE)
        self.tokens += used
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=Answer(used))


class Answer(httpx.AsyncByteStream):
    """A stream of events; the last one has the usage."""

    def __init__(self, used: int) -> None:
        self._used = used

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for word in ("The", " tide", " is", " in"):
            yield f"data: {json.dumps({'delta': word})}\n\n".encode()
        yield f"data: {json.dumps({'usage': {'total_tokens': self._used}})}\n\n".encode()
        yield b"data: [DONE]\n\n"


def usage_of(body: bytes) -> tuple[int, int] | None:
    """What the call used of both limits: one request, and the tokens of the last event that says them."""
    for line in reversed(body.decode(errors="replace").splitlines()):
        if line.startswith("data: {") and "usage" in line:
            return 1, json.loads(line.removeprefix("data: "))["usage"]["total_tokens"]
    return None


async def main() -> int:
    # The example does not take a minute and a half: its clock jumps where a program would wait.
    clock = FakeClock()
    outbound = AsyncOutbound(*LIMITS, key="model", cost=(1, ESTIMATE), usage=usage_of, profile="openai", clock=clock)
    model = Model()
    began = time.monotonic()
    async with httpx.AsyncClient(transport=AsyncOutboundTransport(outbound, model)) as client:
        for number in range(1, CALLS + 1):
            wait = (await outbound.limiter.peek("model", cost=(1, ESTIMATE))).retry_after
            clock.advance(wait)
            response = await client.post("https://api.example.com/v1/chat", json={"prompt": f"question {number}"})
            response.raise_for_status()
            show(number, await outbound.limiter.peek("model", cost=0), clock, model)
    minutes = clock.now() / 60e9
    took = time.monotonic() - began
    print(f"\n{model.calls} calls and {model.tokens} tokens in {minutes:.2f} simulated minutes, {took:.1f} s of yours")
    allowed = [int(limit.split("/")[0]) * (1 + minutes) for limit in LIMITS]
    print(f"allowed in that time: {allowed[0]:.0f} calls and {allowed[1]:.0f} tokens")
    await outbound.close()
    return 0 if model.calls <= allowed[0] and model.tokens <= allowed[1] + ESTIMATE else 1


def show(number: int, state: Decision, clock: FakeClock, model: Model) -> None:
    requests, tokens = (tier.remaining for tier in state.tiers)
    left = f"left: {requests:3} requests, {tokens:6} tokens"
    line = f"call {number:3} at {clock.now() / 1e9:6.1f} s · {left} · used {model.tokens:6}"
    print(line, end="\r" if sys.stdout.isatty() else "\n", flush=True)


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
