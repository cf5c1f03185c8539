"""`AsyncLimiter`: in memory, and on a real Redis."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from conftest import RedisServer, in_child

from tidegate import (
    AsyncLimiter,
    CorruptBucket,
    CostTooLarge,
    Decision,
    FakeClock,
    InvalidArgument,
    Limiter,
    StoreError,
    StoreTimeout,
)

SLOW = "30/d"
PATIENT = 30.0
# See test_redis.py.
SLACK = 10.0


class TestInMemory:
    async def test_it_decides_as_the_limiter_does(self) -> None:
        clock, twin_clock = FakeClock(), FakeClock()
        limiter = AsyncLimiter("7/s burst 3", "20/min", clock=clock)
        twin = Limiter("7/s burst 3", "20/min", clock=twin_clock)
        assert limiter.limits == twin.limits
        for turn in range(50):
            assert await limiter.check("k", turn % 4) == twin.check("k", turn % 4)
            assert await limiter.peek("k", 0) == twin.peek("k", 0)
            clock.advance(0.05)
            twin_clock.advance(0.05)

    async def test_it_completes_without_leaving_the_loop(self) -> None:
        limiter = AsyncLimiter("10/s")
        others: list[str] = []
        asyncio.get_running_loop().call_soon(others.append, "another turn of the loop")
        await limiter.check("k")
        assert others == []

    async def test_closing(self) -> None:
        async with AsyncLimiter("1/s") as limiter:
            assert await limiter.check("k")
        await limiter.close()
        with pytest.raises(StoreError, match="closed"):
            await limiter.check("k")

    async def test_bad_arguments(self) -> None:
        limiter = AsyncLimiter("10/s")
        with pytest.raises(CostTooLarge):
            await limiter.check("k", 11)
        with pytest.raises(InvalidArgument):
            await limiter.check("\ud800")
        with pytest.raises(TypeError, match="cost must be"):
            await limiter.check("k", 1.0)  # type: ignore[arg-type]

    def test_repr(self) -> None:
        assert repr(AsyncLimiter("1/s")) == "<tidegate.AsyncLimiter(Limit('1/s')) in memory>"


async def test_100_at_once_share_a_bucket_exactly(redis_server: RedisServer, prefix: str) -> None:
    limiter = limiter_on(redis_server, prefix)
    decisions = await asyncio.gather(*(limiter.check("k") for _ in range(100)))
    allowed = [decision for decision in decisions if decision]
    assert sorted(decision.remaining for decision in allowed) == list(range(30))
    assert {decision.source for decision in decisions} == {"redis"}


async def test_100_at_a_time_share_batches(own_redis: RedisServer, prefix: str) -> None:
    limiter = AsyncLimiter("3000/d", store=own_redis.url, prefix=prefix, store_timeout=PATIENT)
    await limiter.check("k")

    async def check_some() -> None:
        for _ in range(20):
            await limiter.check("k")

    with own_redis.client() as client:
        before = script_calls(client)
        await asyncio.gather(*(check_some() for _ in range(100)))
        assert script_calls(client) - before <= 0.05 * 2000
    assert (await limiter.peek("k", 0)).remaining == 3000 - 2001


async def test_calls_are_decided_in_the_order_in_which_they_were_made(
    redis_server: RedisServer, prefix: str
) -> None:
    limiter = limiter_on(redis_server, prefix)
    calls = [
        limiter.check("first"),  # under way while the other calls are made
        limiter.check("k", 10),
        limiter.check(b"k", 10),
        limiter.check("k", 10),
        limiter.check("k", 1),
        limiter.check("k", 31),
        limiter.check("\ud800"),
        limiter.credit("k", 3),
        limiter.check("k", 1),
        limiter.check(["k"], 1),
        limiter.check("k\N{WATER WAVE}", 1),
        limiter.peek("k", 0),
        limiter.reserve("k", max_wait=0),
        limiter.check("k"),
        limiter.check_many(["k"]),
    ]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    refused, spent = (False, 0), (True, 0)
    assert [seen_in(answer) for answer in answers] == [
        *((True, 29), (True, 20), (True, 10), spent, refused, CostTooLarge, InvalidArgument),
        *((True, 3), (True, 2), (True, 1), (True, 29), (True, 1), spent, refused, [refused]),
    ]


def seen_in(answer: Any) -> Any:
    if isinstance(answer, BaseException):
        return type(answer)
    if isinstance(answer, list):
        return [seen_in(each) for each in answer]
    decision = answer if isinstance(answer, Decision) else answer.decision
    return decision.allowed, decision.remaining


async def test_a_check_made_before_closing_is_answered(
    redis_server: RedisServer, prefix: str
) -> None:
    limiter = limiter_on(redis_server, prefix)
    checks = [asyncio.create_task(limiter.check("k")) for _ in range(5)]
    await asyncio.sleep(0)
    await limiter.close()
    assert sorted([decision.remaining for decision in await asyncio.gather(*checks)]) == [*range(25, 30)]
    with pytest.raises(StoreError, match="closed"):
        await limiter.check("k")


def script_calls(client: redis.Redis) -> int:
    stats: dict[str, Any] = client.info("commandstats")
    return int(stats.get("cmdstat_evalsha", {"calls": 0})["calls"])


async def test_it_shares_with_a_limiter(redis_server: RedisServer, prefix: str) -> None:
    await limiter_on(redis_server, prefix).check("k", 10)
    other = Limiter(SLOW, store=redis_server.url, prefix=prefix, store_timeout=PATIENT)
    assert other.check("k").remaining == 19


async def test_checks_can_be_tasks(redis_server: RedisServer, prefix: str) -> None:
    limiter = limiter_on(redis_server, prefix)
    task = asyncio.create_task(limiter.check("k"))
    assert (await asyncio.wait_for(task, 30)).remaining == 29


async def test_bad_arguments(redis_server: RedisServer, prefix: str) -> None:
    limiter = limiter_on(redis_server, prefix)
    with pytest.raises(CostTooLarge):
        await limiter.check("k", 31)
    with pytest.raises(InvalidArgument, match="invalid key"):
        await limiter.check("\ud800")
    with pytest.raises(TypeError, match="key must be"):
        await limiter.check(None)  # type: ignore[arg-type]


async def test_a_corrupt_bucket(redis_server: RedisServer, prefix: str) -> None:
    limiter = limiter_on(redis_server, prefix)
    await limiter.check("k")
    with redis_server.client() as client:
        (name,) = client.keys(f"{prefix}:*")
        client.set(name, "garbage")
        with pytest.raises(CorruptBucket):
            await limiter.check("k")


async def test_the_loop_runs_while_a_check_waits(own_redis: RedisServer, prefix: str) -> None:
    limiter = limiter_on(own_redis, prefix, timeout=1.0)
    await works_within(PATIENT, limiter)
    own_redis.freeze()
    try:
        start = time.monotonic()
        checks = [asyncio.create_task(limiter.check("k")) for _ in range(10)]
        turns = 0
        while not all(check.done() for check in checks):
            turns += 1
            await asyncio.sleep(0.005)
        seconds = time.monotonic() - start
    finally:
        own_redis.thaw()
    assert [type(check.exception()) for check in checks] == [StoreTimeout] * 10
    assert 1.0 <= seconds < 1.0 + SLACK
    assert turns > 10, "a second of waiting leaves room for about 200 turns"
    await works_within(PATIENT, limiter)


async def test_a_server_killed_and_started_again(own_redis: RedisServer, prefix: str) -> None:
    limiter = limiter_on(own_redis, prefix, timeout=0.25)
    await works_within(PATIENT, limiter)
    own_redis.kill()
    start = time.monotonic()
    answers = await asyncio.gather(*(limiter.check("k") for _ in range(20)), return_exceptions=True)
    assert time.monotonic() - start < 0.25 + SLACK
    assert all(isinstance(answer, StoreError) for answer in answers), answers
    own_redis.start()
    await works_within(PATIENT, limiter)


async def test_cancelled_checks(own_redis: RedisServer, prefix: str) -> None:
    limiter = limiter_on(own_redis, prefix)
    await limiter.check("first")
    own_redis.freeze()
    try:
        checks = [asyncio.create_task(limiter.check("k")) for _ in range(10)]
        await asyncio.sleep(0)
        for check in checks[::2]:
            check.cancel()
        await asyncio.wait(checks[::2])
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(limiter.check("k"), 0.05)
    finally:
        own_redis.thaw()
    answers = await asyncio.gather(*checks, return_exceptions=True)
    assert all(isinstance(answer, asyncio.CancelledError) for answer in answers[::2])
    assert all(answer.allowed for answer in answers[1::2])  # type: ignore[union-attr]


def test_a_loop_closed_before_the_answer(own_redis: RedisServer, prefix: str) -> None:
    limiter = limiter_on(own_redis, prefix)
    asyncio.run(first_check(limiter))
    own_redis.freeze()
    try:
        loop = asyncio.new_event_loop()
        check = loop.create_task(limiter.check("k"))
        loop.run_until_complete(asyncio.sleep(0))
        check.cancel()
        loop.run_until_complete(asyncio.wait([check]))
        loop.close()
    finally:
        own_redis.thaw()
    # The closed loop's check is answered before this one, on the same connection.
    assert asyncio.run(first_check(limiter)).remaining == 27


def test_one_limiter_on_many_loops(redis_server: RedisServer, prefix: str) -> None:
    limiter = limiter_on(redis_server, prefix)

    async def spend() -> int:
        decisions = await asyncio.gather(*(limiter.check("k") for _ in range(20)))
        return sum(decision.allowed for decision in decisions)

    with ThreadPoolExecutor(4) as pool:
        spent = list(pool.map(lambda _: asyncio.run(spend()), range(8)))
    assert sum(spent) == 30


def test_loops_leave_no_files_open(redis_server: RedisServer, prefix: str) -> None:
    limiter = limiter_on(redis_server, prefix)

    def open_files() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    asyncio.run(first_check(limiter))
    before = open_files()
    for _ in range(20):
        asyncio.run(first_check(limiter))
    assert open_files() <= before


def test_a_loop_that_cannot_watch_sockets(redis_server: RedisServer, prefix: str) -> None:
    class Loop(asyncio.SelectorEventLoop):
        """A loop that cannot watch sockets, like the Proactor loop of Windows."""

        def add_reader(self, *arguments: Any) -> None:  # type: ignore[override]
            raise NotImplementedError

    limiter = limiter_on(redis_server, prefix)
    loop = Loop()
    try:
        assert loop.run_until_complete(first_check(limiter)).remaining == 29
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


def test_the_process_ends_while_checks_are_under_way(own_redis: RedisServer) -> None:
    program = (
        "import asyncio, sys, tidegate\n"
        "async def main():\n"
        "    limiter = tidegate.AsyncLimiter('9/s', store=sys.argv[1], store_timeout=0.2)\n"
        "    checks = [asyncio.create_task(limiter.check('k')) for _ in range(9)]\n"
        "    await asyncio.sleep(0)\n"
        "asyncio.run(main())\n"
        "print('ended')\n"
    )
    own_redis.freeze()
    try:
        run = subprocess.run(
            [sys.executable, "-X", "dev", "-c", program, own_redis.url],
            capture_output=True, text=True, timeout=30, check=False,
        )
    finally:
        own_redis.thaw()
    assert (run.returncode, run.stdout, run.stderr) == (0, "ended\n", "")


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_child_can_run_a_loop_of_its_own(redis_server: RedisServer, prefix: str) -> None:
    limiter = limiter_on(redis_server, prefix)
    assert asyncio.run(first_check(limiter)).remaining == 29
    in_child(lambda: asyncio.run(first_check(limiter)).remaining == 28)
    assert asyncio.run(first_check(limiter)).remaining == 27


def test_two_threads_with_a_loop_each(redis_server: RedisServer, prefix: str) -> None:
    limiter = limiter_on(redis_server, prefix)
    start = threading.Barrier(2)

    async def spend() -> int:
        start.wait()
        return sum([(await limiter.check("k")).allowed for _ in range(40)])

    with ThreadPoolExecutor(2) as pool:
        spent = list(pool.map(lambda _: asyncio.run(spend()), range(2)))
    assert sum(spent) == 30


def limiter_on(server: RedisServer, prefix: str, timeout: float = PATIENT) -> AsyncLimiter:
    return AsyncLimiter(SLOW, store=server.url, prefix=prefix, store_timeout=timeout)


async def first_check(limiter: AsyncLimiter) -> Any:
    return await limiter.check("k")


async def works_within(seconds: float, limiter: AsyncLimiter) -> None:
    """Waits until checks succeed, or fails at the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            await limiter.peek("k", 0)
            return
        except StoreError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.01)
