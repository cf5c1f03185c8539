"""The operations on a real Redis, for threads and for asyncio."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from conftest import RedisServer

from tidegate import AsyncLimiter, InvalidArgument, Limiter, RateLimited, StoreError, StoreTimeout

HOUR = 3600.0
PATIENT = 30.0
DEADLINE = 60.0
SLACK = 10.0


def limiter_on(
    server: RedisServer, prefix: str, *limits: str, timeout: float = PATIENT
) -> tuple[Limiter, AsyncLimiter]:
    """The two kinds of limiter on the same buckets."""
    options: dict[str, Any] = {"store": server.url, "prefix": prefix, "store_timeout": timeout}
    return Limiter(*limits, **options), AsyncLimiter(*limits, **options)


async def test_both_kinds_share_every_operation(redis_server: RedisServer, prefix: str) -> None:
    limiter, awaited = limiter_on(redis_server, prefix, "20/d")
    assert [it.remaining for it in limiter.check_many(["k", ("k", 2), ("other", 3)])] == [19, 17, 17]
    assert [it.remaining for it in await awaited.check_many([("k", 1), "k"])] == [16, 15]
    assert limiter.settle("k", charged=2, actual=4).remaining == 13
    assert (await awaited.settle("k", charged=4, actual=2)).remaining == 15
    assert limiter.credit("k", 1).remaining == 16
    assert (await awaited.credit("k", 1)).remaining == 17
    assert limiter.acquire("k", 3).remaining == 14
    assert (await awaited.acquire("k", 4)).remaining == 10
    assert (await awaited.hold("k", HOUR)).remaining == 0
    assert HOUR - 60 < limiter.check("k").retry_after <= HOUR
    assert (await awaited.reset("k")).remaining == 20
    limiter.hold("k", HOUR)
    assert limiter.reset("k").remaining == 20
    assert (await awaited.peek("k", 0)).source == "redis"


def test_many_checks_keep_their_order(redis_server: RedisServer, prefix: str) -> None:
    limiter, _ = limiter_on(redis_server, prefix, "100/d", "100/d")
    checks: list[Any] = [("a", 1), "b", ("a", 2), ("a", 3), (["k", "k"], 1), (["k", "j"], 2), "b"]
    assert [it.remaining for it in limiter.check_many(checks)] == [99, 99, 97, 94, 99, 97, 98]
    with pytest.raises(InvalidArgument, match="invalid key"):
        limiter.check_many(["d", ["k", "k", "k"]])
    assert limiter.peek("d", 0).remaining == 100, "a mistake charges nothing"
    assert [it.remaining for it in limiter.check_many(["c"] * 100)] == list(range(99, -1, -1))
    assert limiter.check_many([]) == []


async def test_reservations(redis_server: RedisServer, prefix: str) -> None:
    limiter, awaited = limiter_on(redis_server, prefix, "1/h")
    first = limiter.reserve("k")
    assert (first.allowed, first.delay, first.decision.source) == (True, 0.0, "redis")
    second = await awaited.reserve("k")
    assert HOUR - 60 < second.delay <= HOUR
    refused = limiter.reserve("k", max_wait=HOUR)
    assert not refused and refused.cancel() is False
    assert first.cancel() is False, "the second stands behind it"
    assert (await second.cancel(), await second.cancel()) == (True, False)
    third = await awaited.reserve("k")
    assert HOUR - 60 < third.delay <= HOUR
    await third.settle(actual=0)
    assert limiter.reserve("k").settle(2).remaining == 0


async def test_a_key_per_limit(redis_server: RedisServer, prefix: str) -> None:
    limiter, awaited = limiter_on(redis_server, prefix, "10/d", "15/d")
    assert limiter.check(["a", "org"], 10)
    refused = await awaited.check([b"b", "org"], 6)
    assert (refused.allowed, refused.limit_name) == (False, "15/d")
    assert limiter.peek(["b", "other"], 0).remaining == 10
    reservation = await awaited.reserve(["b", "org"], 5)
    assert await reservation.cancel()
    assert limiter.peek("a", 0).remaining == 10, "buckets under one key are apart"
    decisions = await awaited.check_many([(["b", "org"], 5), ("b", "org"), ("c", "org")])
    assert [it.allowed for it in decisions] == [True, False, False]


def test_a_slot_later_than_the_timeout(redis_server: RedisServer, prefix: str) -> None:
    limiter, awaited = limiter_on(redis_server, prefix, "1/h")
    limiter.acquire("k")
    with pytest.raises(RateLimited) as caught:
        limiter.acquire("k", timeout=60)
    assert caught.value.decision.source == "redis"
    with pytest.raises(RateLimited):
        asyncio.run(awaited.acquire("k", timeout=60))
    assert limiter.reserve("k").delay <= HOUR, "the refusals charged nothing"


async def test_100_waiters_of_two_processes_worth_of_limiters(
    redis_server: RedisServer, prefix: str
) -> None:
    _, one = limiter_on(redis_server, prefix, "50/s")
    _, other = limiter_on(redis_server, prefix, "50/s")
    start = time.monotonic()

    async def wait(number: int) -> float:
        await (one if number % 2 else other).acquire("k")
        return time.monotonic() - start

    came = sorted(await asyncio.gather(*(wait(number) for number in range(100))))
    for place, at in enumerate(came):
        # The clock of Redis has a resolution of a microsecond.
        assert at >= (place - 49) / 50 - 1e-6, f"{place} came at {at}"
    assert came[-1] < 1 + SLACK


def test_threads_wait_in_turn(redis_server: RedisServer, prefix: str) -> None:
    limiter, _ = limiter_on(redis_server, prefix, "50/s burst 5")
    start = time.monotonic()

    def wait(_: int) -> float:
        limiter.acquire("k")
        return time.monotonic() - start

    with ThreadPoolExecutor(8) as pool:
        came = sorted(pool.map(wait, range(20)))
    for place, at in enumerate(came):
        assert at >= (place - 4) / 50 - 1e-6, f"{place} came at {at}"


def test_an_interrupted_sleep_gives_the_slot_back(
    redis_server: RedisServer, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sleep(seconds: float) -> None:
        raise KeyboardInterrupt

    limiter, _ = limiter_on(redis_server, prefix, "1/h")
    limiter.acquire("k")
    monkeypatch.setattr(time, "sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        limiter.acquire("k")
    assert limiter.reserve("k").delay <= HOUR


async def test_cancelling_a_sleeper_gives_the_slot_back(
    redis_server: RedisServer, prefix: str
) -> None:
    limiter, awaited = limiter_on(redis_server, prefix, "1/h")
    limiter.acquire("k")
    await cancel_a_sleeper(awaited)
    assert (await awaited.reserve("k")).delay <= HOUR


async def cancel_a_sleeper(limiter: AsyncLimiter) -> None:
    """Cancels an `acquire` of the second slot of "k" once it has reserved it."""
    asked = asyncio.create_task(limiter.acquire("k"))
    end = time.monotonic() + DEADLINE
    while (await limiter.peek("k", 0)).reset_after <= HOUR:
        assert time.monotonic() < end, "the slot was never taken"
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked


@pytest.mark.parametrize("method", ["acquire", "reserve"])
async def test_a_slot_whose_caller_has_gone_is_given_back(
    own_redis: RedisServer, prefix: str, method: str
) -> None:
    _, awaited = limiter_on(own_redis, prefix, "1/h")
    await awaited.peek("k", 0)
    own_redis.freeze()
    try:
        asked = asyncio.create_task(getattr(awaited, method)("k"))
        await asyncio.sleep(0.05)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
    finally:
        own_redis.thaw()
    deadline = time.monotonic() + DEADLINE
    # The frozen server has not seen the reserve, which comes before this peek on the connection.
    while not (await awaited.peek("k", 0)).remaining:
        assert time.monotonic() < deadline, "the slot was not given back"
        await asyncio.sleep(0.01)


def test_a_slot_whose_loop_is_closed_is_given_back(own_redis: RedisServer, prefix: str) -> None:
    limiter, awaited = limiter_on(own_redis, prefix, "1/h")
    limiter.peek("k", 0)
    own_redis.freeze()
    try:
        loop = asyncio.new_event_loop()
        asked = loop.create_task(awaited.acquire("k"))
        loop.run_until_complete(asyncio.sleep(0.05))
        asked.cancel()
        loop.run_until_complete(asyncio.wait([asked]))
        loop.close()
        del loop, asked
        gc.collect()
    finally:
        own_redis.thaw()
    deadline = time.monotonic() + DEADLINE
    with own_redis.client() as server:
        while "cmdstat_set" not in server.info("commandstats"):
            assert time.monotonic() < deadline, "the slot was never taken"
            time.sleep(0.01)
    while not limiter.peek("k", 0).remaining:
        assert time.monotonic() < deadline, "the slot was not given back"
        time.sleep(0.01)


def test_a_loop_that_cannot_watch_sockets(redis_server: RedisServer, prefix: str) -> None:
    class Loop(asyncio.SelectorEventLoop):
        """A loop that cannot watch sockets, like the Proactor loop of Windows."""

        def add_reader(self, *arguments: Any) -> None:  # type: ignore[override]
            raise NotImplementedError

    async def use() -> None:
        await awaited.acquire("k")
        reservation = await awaited.reserve("k")
        assert reservation.delay > 0
        assert await reservation.cancel()
        await cancel_a_sleeper(awaited)
        assert (await awaited.reserve("k")).delay <= HOUR

    _, awaited = limiter_on(redis_server, prefix, "1/h")
    loop = Loop()
    try:
        loop.run_until_complete(use())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


async def test_a_hung_server_is_a_timeout(own_redis: RedisServer, prefix: str) -> None:
    # Each on a store of its own: after three failures in a row a store is asked no more.
    limiter, _ = limiter_on(own_redis, prefix, "10/d", timeout=0.25)
    other, _ = limiter_on(own_redis, prefix, "10/d", timeout=0.26)
    _, awaited = limiter_on(own_redis, prefix, "10/d", timeout=0.27)
    reservation = await once_it_works(lambda: awaited.reserve("k"))
    held = await once_it_works(lambda: asyncio.to_thread(limiter.reserve, "k"))
    own_redis.freeze()
    try:
        calls: list[Any] = [
            lambda: limiter.reserve("k"), lambda: limiter.acquire("k"), held.cancel,
            lambda: other.credit("k", 1), lambda: other.check_many(["k", "j"]),
        ]  # fmt: skip
        for call in calls:
            with pytest.raises(StoreTimeout):
                call()
        waits: list[Any] = [
            awaited.reserve("k"), awaited.acquire("k"), awaited.hold("k", 1), awaited.reset("k"),
            awaited.settle("k", 1, 2), awaited.check_many(["k"]), reservation.settle(2),
        ]  # fmt: skip
        answers = await asyncio.gather(*waits, return_exceptions=True)
    finally:
        own_redis.thaw()
    assert [type(answer) for answer in answers] == [StoreTimeout] * len(waits)
    assert held.cancel() is False, "what became of it is not known, so it is used up"


async def once_it_works(call: Callable[[], Awaitable[Any]]) -> Any:
    """The answer of the first call that a busy machine does not delay beyond its timeout."""
    end = time.monotonic() + DEADLINE
    while True:
        try:
            return await call()
        except StoreError:
            assert time.monotonic() < end
            await asyncio.sleep(0.01)


async def test_a_reservation_outlives_a_store_that_fails(own_redis: RedisServer, prefix: str) -> None:
    """A failed `settle` or `cancel` can be called again."""
    limiter, awaited = limiter_on(own_redis, prefix, "1000/36500d window")
    slots = [limiter.reserve("a", 400), limiter.reserve("b", 400)]
    awaited_slots = [await awaited.reserve("c", 400), await awaited.reserve("d", 400)]
    own_redis.kill()
    for call in (lambda: slots[0].settle(100), slots[1].cancel):
        with pytest.raises(StoreError):
            call()
    for answer in (lambda: awaited_slots[0].settle(100), awaited_slots[1].cancel):
        with pytest.raises(StoreError):
            await answer()
    own_redis.start()
    deadline = time.monotonic() + DEADLINE
    while True:
        try:
            limiter.check("a", 1000)
            break
        except StoreError:
            assert time.monotonic() < deadline
    # What the server held is lost; the calls take place all the same.
    assert slots[0].settle(100).remaining == 300
    assert isinstance(slots[1].cancel(), bool)
    assert (await awaited_slots[0].settle(100)).remaining == 1000
    assert isinstance(await awaited_slots[1].cancel(), bool)
    with pytest.raises(InvalidArgument):
        slots[0].settle(100)
    assert await awaited_slots[1].cancel() is False
