#!/usr/bin/env python3
"""Measures `acquire` in memory where no wait is needed: Python and Node.

    make bench-acquire ARGS="[--quick]"

In each round every contender runs once, in turn, so that what slows the machine down for a while
slows them all; figures are medians over the rounds, in nanoseconds a call. The peers are aiolimiter
and `check` of the same limiter: what `acquire` costs beyond the decision.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import aiolimiter

from tidegate import AsyncLimiter, Limiter

HERE = Path(__file__).resolve().parent
# More than a round can spend, so that nobody waits.
LIMIT = "1000000000/s"
PEER_RATE = 1e12


def main() -> None:
    is_quick = "--quick" in sys.argv[1:]
    rounds, calls = (1, 1_000) if is_quick else (25, 50_000)
    rows = [
        row("asyncio acquire", "aiolimiter", rounds, calls, asyncio_acquire, aiolimiter_acquire),
        row("asyncio acquire", "check", rounds, calls, asyncio_acquire, asyncio_check),
        row("sync acquire", "check", rounds, calls, sync_acquire, sync_check),
    ]
    rows.append(node(rounds, calls))
    print(f"{'case':<20} {'ours':>8} {'peer':>8}  {'ratio':>6}  peer")
    for each in rows:
        numbers = f"{each['ours']:>8.0f} {each['peer']:>8.0f}  {each['ratio']:>6.2f}"
        print(f"{each['case']:<20} {numbers}  {each['peer_name']}")
    for each in rows:
        print("BENCH " + json.dumps(each))


def row(
    case: str, peer_name: str, rounds: int, calls: int, ours: Callable[[int], int], peer: Callable[[int], int]
) -> dict[str, object]:
    times: list[tuple[int, int]] = [(ours(calls), peer(calls)) for _ in range(rounds)]
    return described(case, peer_name, *(statistics.median(each) / calls for each in zip(*times, strict=True)))


def described(case: str, peer_name: str, ours: float, peer: float) -> dict[str, object]:
    return {
        "suite": "acquire",
        "case": case,
        "ours": round(ours, 1),
        "peer": round(peer, 1),
        "peer_name": peer_name,
        "unit": "ns",
        "ratio": round(peer / ours, 3),
    }


def node(rounds: int, calls: int) -> dict[str, object]:
    command = ["node", str(HERE / "acquire.mjs"), str(rounds), str(calls)]
    ours, peer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return described("node acquire", "check", ours, peer)


def asyncio_acquire(calls: int) -> int:
    async def run() -> int:
        limiter = AsyncLimiter(LIMIT)
        await limiter.acquire("k")
        start = time.perf_counter_ns()
        for _ in range(calls):
            await limiter.acquire("k")
        return time.perf_counter_ns() - start

    return asyncio.run(run())


def asyncio_check(calls: int) -> int:
    async def run() -> int:
        limiter = AsyncLimiter(LIMIT)
        await limiter.check("k")
        start = time.perf_counter_ns()
        for _ in range(calls):
            await limiter.check("k")
        return time.perf_counter_ns() - start

    return asyncio.run(run())


def aiolimiter_acquire(calls: int) -> int:
    async def run() -> int:
        limiter = aiolimiter.AsyncLimiter(PEER_RATE, 1)
        await limiter.acquire()
        start = time.perf_counter_ns()
        for _ in range(calls):
            await limiter.acquire()
        return time.perf_counter_ns() - start

    return asyncio.run(run())


def sync_acquire(calls: int) -> int:
    limiter = Limiter(LIMIT)
    start = time.perf_counter_ns()
    for _ in range(calls):
        limiter.acquire("k")
    return time.perf_counter_ns() - start


def sync_check(calls: int) -> int:
    limiter = Limiter(LIMIT)
    start = time.perf_counter_ns()
    for _ in range(calls):
        limiter.check("k")
    return time.perf_counter_ns() - start


if __name__ == "__main__":
    main()
