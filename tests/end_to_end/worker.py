"""A Python service that calls the vendor as often as its bucket allows.

    worker.py STORE_URL LIMIT KEY SECONDS ATTEMPTS_PER_SECOND [--asyncio]

Prints `ready` and begins when it reads `go`. From then on it prints its counts a few times a second,
as a line of JSON; `final` is true in the last one.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time

import tidegate


class Counts:
    def __init__(self) -> None:
        self.admitted = self.refused = self.errors = 0
        self.micros: list[float] = []
        self.longest = 0.0
        self.last_error = ""
        self.told = 0.0

    def took(self, began: float) -> None:
        micros = (time.perf_counter() - began) * 1e6
        self.micros.append(micros)
        self.longest = max(self.longest, micros)

    def answered(self, decision: tidegate.Decision) -> None:
        if decision.allowed:
            self.admitted += 1
        else:
            self.refused += 1

    def failed(self, error: tidegate.TidegateError) -> None:
        self.errors += 1
        self.last_error = f"{error.code}: {error}"

    def tell(self, final: bool = False) -> None:
        if not final and time.monotonic() - self.told < 0.25:
            return
        self.told = time.monotonic()
        p50 = statistics.median(self.micros[-2000:]) if self.micros else None
        print(json.dumps({
            "admitted": self.admitted, "refused": self.refused, "errors": self.errors,
            "p50_us": p50, "longest_us": self.longest, "last_error": self.last_error, "final": final,
        }), flush=True)


def wait_for_go() -> None:
    print("ready", flush=True)
    if sys.stdin.readline().strip() != "go":
        sys.exit("was not told to go")


def run(limiter: tidegate.Limiter, key: str, seconds: float, pause: float) -> None:
    limiter.check("warm-up")
    wait_for_go()
    counts, end = Counts(), time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        try:
            counts.answered(limiter.check(key))
        except tidegate.TidegateError as error:
            counts.failed(error)
        counts.took(began)
        counts.tell()
        time.sleep(max(0.0, pause - (time.perf_counter() - began)))
    counts.tell(final=True)


async def run_async(limiter: tidegate.AsyncLimiter, key: str, seconds: float, pause: float) -> None:
    await limiter.check("warm-up")
    wait_for_go()
    counts, end = Counts(), time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        try:
            counts.answered(await limiter.check(key))
        except tidegate.TidegateError as error:
            counts.failed(error)
        counts.took(began)
        counts.tell()
        await asyncio.sleep(max(0.0, pause - (time.perf_counter() - began)))
    counts.tell(final=True)


def main() -> None:
    store, limit, key, seconds, attempts = sys.argv[1:6]
    pause = 1 / float(attempts)
    if "--asyncio" in sys.argv:
        limiter = tidegate.AsyncLimiter(limit, store=store, store_timeout=2.0)
        asyncio.run(run_async(limiter, key, float(seconds), pause))
    else:
        run(tidegate.Limiter(limit, store=store, store_timeout=2.0), key, float(seconds), pause)


if __name__ == "__main__":
    main()
