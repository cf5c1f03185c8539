"""A cost for each limit: requests and tokens of a language model in one atomic call, on every store."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
from conftest import PATIENT, RedisServer, options_for

from tidegate import AsyncLimiter, CostTooLarge, InvalidArgument, Limit, Limiter, RateLimited

LIMITS = (Limit("60/d", name="requests"), Limit("90000/d", name="tokens"))
KINDS = ["memory", "shm", "url", "client"]


@pytest.fixture(params=KINDS)
def limiter(request: pytest.FixtureRequest, redis_server: RedisServer, prefix: str) -> Iterator[Limiter]:
    with redis.Redis(port=redis_server.port) as client:
        yield Limiter(*LIMITS, **options_for(request.param, client, redis_server, prefix))


@pytest.fixture(params=KINDS)
async def awaited(
    request: pytest.FixtureRequest, redis_server: RedisServer, prefix: str
) -> AsyncIterator[AsyncLimiter]:
    async with redis.asyncio.Redis(port=redis_server.port) as client:
        yield AsyncLimiter(*LIMITS, **options_for(request.param, client, redis_server, prefix))


def left(limiter: Limiter, key: Any = "k") -> tuple[int, int]:
    """What the buckets of the two limits hold. A cost of 0 leaves the other limit's numbers out only
    where it holds more, so each is asked for all that it may hold."""
    held = []
    for tier, most in enumerate((60, 90_000)):
        low, high = 0, most
        while low < high:
            middle = (low + high + 1) // 2
            cost = [0, 0]
            cost[tier] = middle
            low, high = (middle, high) if limiter.peek(key, cost) else (low, middle - 1)
        held.append(low)
    return held[0], held[1]


def test_all_limits_are_charged_or_none(limiter: Limiter) -> None:
    assert limiter.check("k", [1, 1500])
    assert left(limiter) == (59, 88_500)
    refused = limiter.check("k", (1, 88_501))
    assert not refused and refused.limit_name == "tokens"
    assert left(limiter) == (59, 88_500), "a refusal charges neither"
    assert limiter.check("k", [0, 88_500]) and left(limiter) == (59, 0)
    assert limiter.check("k", [59, 0]) and left(limiter) == (0, 0)
    assert limiter.check("k", [0, 0]) and not limiter.check("k", [0, 1])


def test_every_operation_takes_a_cost_for_each_limit(limiter: Limiter) -> None:
    keys = ["user", "org"]
    assert limiter.peek(keys, [60, 90_000]) and left(limiter, keys) == (60, 90_000)
    reservation = limiter.reserve(keys, [2, 4000])
    assert reservation.cost == (2, 4000) and "cost=(2, 4000)" in repr(reservation)
    assert left(limiter, keys) == (58, 86_000)
    reservation.settle([2, 1000])
    assert left(limiter, keys) == (58, 89_000)
    assert limiter.reserve(keys, [58, 1]).cancel() and left(limiter, keys) == (58, 89_000)
    limiter.settle(keys, [0, 1000], [1, 500])
    assert left(limiter, keys) == (57, 89_500)
    limiter.credit(keys, [3, 100])
    assert left(limiter, keys) == (60, 89_600)
    decisions = limiter.check_many([(keys, [60, 1]), (keys, [1, 1]), (keys, [0, 2]), ("other", 5)])
    assert [decision.allowed for decision in decisions] == [True, False, True, True]
    assert limiter.acquire("waits", [1, 90_000], timeout=0)
    with pytest.raises(RateLimited) as caught:
        limiter.acquire("waits", [1, 10], timeout=0.01)
    assert caught.value.decision.limit_name == "tokens"
    with limiter.reserving("model", [1, 4000], timeout=0) as charge:
        assert charge.cost == (1, 4000)
        charge.settle([1, 1500])
    assert left(limiter, "model") == (59, 88_500)
    with pytest.raises(ZeroDivisionError), limiter.reserving("model", [1, 4000], timeout=0):
        raise ZeroDivisionError
    assert left(limiter, "model") == (59, 88_500)


async def test_async_operations_take_a_cost_for_each_limit(awaited: AsyncLimiter) -> None:
    assert await awaited.check("k", [1, 1500])
    assert not await awaited.check("k", [1, 88_501])
    reservation = await awaited.reserve("k", (1, 8500))
    assert reservation.cost == (1, 8500)
    await reservation.settle([1, 500])
    assert (await awaited.peek("k", [58, 88_000])).allowed
    assert not (await awaited.peek("k", [59, 0])).allowed
    await awaited.settle("k", [0, 1000], [0, 0])
    await awaited.credit("k", [2, 0])
    assert (await awaited.peek("k", [60, 89_000])).allowed
    assert await awaited.acquire("k", [60, 89_000], timeout=0)
    with pytest.raises(RateLimited):
        await awaited.acquire("k", [1, 0], timeout=0.01)
    async with awaited.reserving("model", [1, 4000], timeout=0) as charge:
        await charge.settle([1, 1500])
    assert (await awaited.peek("model", [59, 88_500])).allowed


def test_waiters_of_different_costs_are_served_in_order() -> None:
    limiter = Limiter("100/s burst 1", "10000/s burst 500")
    start = time.monotonic()
    for _ in range(10):
        limiter.acquire("k", [1, 400])
    # Nine times 400 tokens beyond the first 500 at 10,000/s.
    assert time.monotonic() - start >= 0.34


def test_a_wrong_cost_is_named(limiter: Limiter) -> None:
    with pytest.raises(CostTooLarge) as too_large:
        limiter.check("k", [1, 90_001])
    assert (too_large.value.cost, too_large.value.burst) == (90_001, 90_000)
    for wrong in ([1], [1, 1, 1], [], [1] * 5):
        with pytest.raises(InvalidArgument, match="cost"):
            limiter.check("k", wrong)
        with pytest.raises(InvalidArgument):
            limiter.settle("k", wrong, 0)
        with pytest.raises(InvalidArgument):
            limiter.credit("k", wrong)
    for number in (-1, 2**63, 2**70):
        with pytest.raises(InvalidArgument, match="cost"):
            limiter.check("k", [1, number])
    for value in ("12", b"12", [1, "2"], [1, 2.5], [True, 1], {1, 2}, None, 1.5):
        with pytest.raises(TypeError, match="cost"):
            limiter.check("k", value)  # type: ignore[arg-type]
    assert left(limiter) == (60, 90_000)


def test_one_call_of_a_script_decides_both(own_redis: RedisServer) -> None:
    limiter = Limiter(*LIMITS, store=own_redis.url, store_timeout=PATIENT)
    limiter.check("k", [1, 1500])
    with own_redis.client() as client:
        client.config_resetstat()
        for _ in range(10):
            limiter.check("k", [1, 1500])
        calls = client.info("commandstats")["cmdstat_evalsha"]["calls"]
    assert calls == 10


def test_beside_unlimited_the_costs_keep_their_places() -> None:
    limiter = Limiter("unlimited", "60/d", "90000/d")
    assert limiter.check("k", [10**9, 1, 1500])
    reservation = limiter.reserve("k", [7, 1, 4000])
    assert reservation.cost == (7, 1, 4000)
    assert reservation.settle([0, 1, 1500]).remaining == 58
    assert limiter.peek("k", [0, 58, 87_000]) and not limiter.peek("k", [0, 58, 87_001])
    with pytest.raises(InvalidArgument):
        limiter.check("k", [1, 1500])
    waits = Limiter("unlimited", "100/s burst 1")
    for _ in range(3):
        assert waits.acquire("k", [2**63 - 1, 1], timeout=PATIENT)
