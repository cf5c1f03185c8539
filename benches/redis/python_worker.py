"""The Python side of compare.py: reads its lines, makes the calls that each line asks for, and
answers with a line of JSON that says what they took. See benches/src/redis/main.rs for the lines.

Every contender keeps to one limit per kind of load; the peers run their cheapest algorithm.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import redis
import redis.asyncio

import tidegate

URL = os.environ["REDIS_URL"]
DAY = 86_400
HOT, SPREAD, EXHAUSTED = (10_000_000, 1), (100_000, DAY), (1, DAY)  # tokens per seconds
MOST_HOT_KEYS = 64
# How long any contender waits for the server. No measured call comes near it; it only has to be
# longer than a busy machine may leave a process without the processor.
PATIENCE = 30

Check = Callable[[str], bool]
AsyncCheck = Callable[[str], Awaitable[bool]]


def tidegate_sync(tokens: int, seconds: int) -> Check:
    limiter = tidegate.Limiter(
        f"{tokens}/{seconds}s", store=URL, prefix=f"py-{tokens}", store_timeout=PATIENCE, deny_cache=0
    )
    return lambda key: limiter.check(key).allowed


def tidegate_async(tokens: int, seconds: int) -> AsyncCheck:
    limiter = tidegate.AsyncLimiter(
        f"{tokens}/{seconds}s", store=URL, prefix=f"pya-{tokens}", store_timeout=PATIENCE, deny_cache=0
    )

    async def check(key: str) -> bool:
        return (await limiter.check(key)).allowed

    return check


def tidegate_redis_py(tokens: int, seconds: int) -> Check:
    client = redis.Redis.from_url(URL, socket_timeout=PATIENCE)
    limiter = tidegate.Limiter(
        f"{tokens}/{seconds}s", store=client, prefix=f"pyc-{tokens}", store_timeout=PATIENCE, deny_cache=0
    )
    return lambda key: limiter.check(key).allowed


def tidegate_redis_py_async(tokens: int, seconds: int) -> AsyncCheck:
    client = redis.asyncio.Redis.from_url(URL, socket_timeout=PATIENCE)
    limiter = tidegate.AsyncLimiter(
        f"{tokens}/{seconds}s", store=client, prefix=f"pyac-{tokens}", store_timeout=PATIENCE, deny_cache=0
    )

    async def check(key: str) -> bool:
        return (await limiter.check(key)).allowed

    return check


def limits_sync(tokens: int, seconds: int) -> Check:
    from limits import RateLimitItemPerSecond
    from limits.storage import storage_from_string
    from limits.strategies import FixedWindowRateLimiter

    item = RateLimitItemPerSecond(tokens, seconds, namespace=f"limits-{tokens}")
    limiter = FixedWindowRateLimiter(storage_from_string(URL))
    return lambda key: limiter.hit(item, key)


def limits_async(tokens: int, seconds: int) -> AsyncCheck:
    from limits import RateLimitItemPerSecond
    from limits.aio.strategies import FixedWindowRateLimiter
    from limits.storage import storage_from_string

    item = RateLimitItemPerSecond(tokens, seconds, namespace=f"limits-aio-{tokens}")
    limiter = FixedWindowRateLimiter(storage_from_string(f"async+{URL}", implementation="redispy"))

    async def check(key: str) -> bool:
        return await limiter.hit(item, key)

    return check


def throttled_sync(tokens: int, seconds: int) -> Check:
    from datetime import timedelta

    from throttled import RedisStore, Throttled, per_duration

    quota = per_duration(timedelta(seconds=seconds), limit=tokens)
    store = RedisStore(server=URL)
    limiter = Throttled(key=None, using="fixed_window", quota=quota, store=store)
    return lambda key: not limiter.limit(f"{tokens}:{key}").limited


def throttled_async(tokens: int, seconds: int) -> AsyncCheck:
    from datetime import timedelta

    from throttled import per_duration
    from throttled.asyncio import RedisStore, Throttled

    quota = per_duration(timedelta(seconds=seconds), limit=tokens)
    store = RedisStore(server=URL)
    limiter = Throttled(key=None, using="fixed_window", quota=quota, store=store)

    async def check(key: str) -> bool:
        return not (await limiter.limit(f"a{tokens}:{key}")).limited

    return check


def self_limiters(tokens: int, seconds: int) -> AsyncCheck:
    """Waits for the next refill (here every millisecond) even with tokens left, or raises where that
    takes too long. Its latencies are therefore not those of round trips."""
    from self_limiters import MaxSleepExceededError, TokenBucket

    refill = 0.001
    buckets: dict[str, Any] = {}

    async def check(key: str) -> bool:
        bucket = buckets.get(key)
        if bucket is None:
            bucket = buckets[key] = TokenBucket(
                name=f"{tokens}:{key}",
                capacity=tokens,
                refill_frequency=refill if tokens > 1 else seconds,
                refill_amount=max(1, int(tokens * refill / seconds)),
                redis_url=URL,
                max_sleep=None if tokens > 1 else 0.001,
            )
        try:
            async with bucket:
                return True
        except MaxSleepExceededError:
            return False

    return check


def bare(_tokens: int, _seconds: int) -> Check:
    """A script that does nothing: what the client and the server take without any limiter."""
    client = redis.Redis.from_url(URL, socket_timeout=PATIENCE)
    script = client.script_load("return 1")
    return lambda key: client.evalsha(script, 1, key) == 1


def bare_async(_tokens: int, _seconds: int) -> AsyncCheck:
    script = redis.Redis.from_url(URL, socket_timeout=PATIENCE).script_load("return 1")
    client = redis.asyncio.Redis.from_url(URL, socket_timeout=PATIENCE)

    async def check(key: str) -> bool:
        return (await client.evalsha(script, 1, key)) == 1

    return check


SYNC = {
    "tidegate": tidegate_sync,
    "tidegate-redis-py": tidegate_redis_py,
    "limits": limits_sync,
    "throttled-py": throttled_sync,
    "bare": bare,
}
ASYNC = {
    "tidegate-async": tidegate_async,
    "tidegate-redis-py-async": tidegate_redis_py_async,
    "limits-async": limits_async,
    "throttled-py-async": throttled_async,
    "self-limiters": self_limiters,
    "bare-async": bare_async,
}


class Worker:
    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.made: dict[tuple[str, tuple[int, int]], Any] = {}

    def answer(self, line: str) -> dict[str, float]:
        match line.split():
            case ["exhaust", name, keys]:
                self.exhaust(name, int(keys))
                return {}
            case ["run", name, keys, outcome, concurrency, milliseconds]:
                limit = EXHAUSTED if outcome == "deny" else HOT if int(keys) <= MOST_HOT_KEYS else SPREAD
                seconds = int(milliseconds) / 1000
                return self.run(name, limit, int(keys), int(concurrency), seconds)
        raise ValueError(line)

    def exhaust(self, name: str, keys: int) -> None:
        check = self.contender(name, EXHAUSTED)
        if name in SYNC:
            for key in range(keys):
                check(f"user:{key}")
        else:
            numbers = iter(range(keys))

            async def exhaust_some() -> None:
                for key in numbers:
                    await check(f"user:{key}")

            self.loop.run_until_complete(_together(exhaust_some, 64))

    def run(
        self, name: str, limit: tuple[int, int], keys: int, concurrency: int, seconds: float
    ) -> dict[str, float]:
        check = self.contender(name, limit)
        spent: list[float] = []
        allowed = 0
        cpu, start = time.process_time(), time.perf_counter()
        end = start + seconds
        if name in SYNC:
            before = start
            # At least one call: on a busy machine all of the time may pass before it begins.
            while before < end or not spent:
                allowed += check(f"user:{len(spent) * 1_000_003 % keys}")
                after = time.perf_counter()
                spent.append(after - before)
                before = after
        else:
            begun = 0

            async def call_until_end() -> None:
                nonlocal allowed, begun
                before = time.perf_counter()
                while before < end or begun == 0:
                    begun += 1
                    is_allowed = await check(f"user:{begun * 1_000_003 % keys}")
                    allowed += is_allowed
                    after = time.perf_counter()
                    spent.append(after - before)
                    before = after

            self.loop.run_until_complete(_together(call_until_end, concurrency))
        took, cpu = time.perf_counter() - start, time.process_time() - cpu
        spent.sort()
        last = len(spent) - 1
        return {
            "calls": len(spent),
            "allowed": allowed,
            "seconds": took,
            "cpu_seconds": cpu,
            "p50_us": spent[round(last * 0.5)] * 1e6,
            "p99_us": spent[round(last * 0.99)] * 1e6,
        }

    def contender(self, name: str, limit: tuple[int, int]) -> Any:
        made = self.made.get((name, limit))
        if made is None:
            build = SYNC.get(name) or ASYNC[name]
            made = self.made[name, limit] = build(*limit)
        return made


async def _together(task: Callable[[], Awaitable[None]], count: int) -> None:
    await asyncio.gather(*(task() for _ in range(count)))


def main() -> None:
    worker = Worker()
    for line in sys.stdin:
        print(json.dumps(worker.answer(line)), flush=True)


main()
