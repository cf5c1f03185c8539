"""Leases on a real Redis, by one process and its children."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import redis
import redis.asyncio
from conftest import RedisServer, in_child

from tidegate import AsyncLimiter, CostTooLarge, Decision, InvalidArgument, Limiter, StoreError

TTL = 0.4
DEADLINE = 60.0
PATIENT = 30.0


def leased(server: RedisServer, prefix: str, limit: str = "1000/s") -> Limiter:
    return Limiter(limit, store=server.url, prefix=prefix, store_timeout=PATIENT, lease={"ttl": TTL})


def warm(limiter: Limiter) -> tuple[Decision, int]:
    """Checks until a slice answers, and returns its answer and how many checks were made.

    A slice may end between two calls on a busy machine, so that no later call relies on it.
    """
    end = time.monotonic() + DEADLINE
    checks = 1
    while (decision := limiter.check("k")).source != "lease":
        assert time.monotonic() < end, "no slice came"
        time.sleep(0.001)
        checks += 1
    return decision, checks


async def warm_async(limiter: AsyncLimiter) -> None:
    """Checks until a slice answers."""
    end = time.monotonic() + DEADLINE
    while (await limiter.check("k")).source != "lease":
        assert time.monotonic() < end, "no slice came"
        await asyncio.sleep(0.001)


def test_a_hot_key_is_spent_from_a_slice(redis_server: RedisServer, prefix: str) -> None:
    with leased(redis_server, prefix) as limiter:
        decision, _ = warm(limiter)
        assert (decision.limit, decision.limit_name) == (1000, "1000/s")
        assert limiter.peek("k", 0).source == "redis"
        end = time.monotonic() + DEADLINE
        while limiter.peek("k").source != "lease":
            assert time.monotonic() < end
            warm(limiter)
        end = time.monotonic() + DEADLINE
        while [it.source for it in limiter.check_many(["k", "cold"])] != ["lease", "redis"]:
            assert time.monotonic() < end
            warm(limiter)
        with pytest.raises(CostTooLarge):
            limiter.check("k", 1001)
    with pytest.raises(StoreError):
        limiter.check("k")


def test_asyncio_needs_no_round_trip_either(redis_server: RedisServer, prefix: str) -> None:
    async def run() -> None:
        async with AsyncLimiter(
            "1000/s", store=redis_server.url, prefix=prefix, store_timeout=PATIENT, lease={"ttl": TTL}
        ) as limiter:
            await warm_async(limiter)

    asyncio.run(run())


def test_a_cost_for_each_limit_is_paid_by_a_budget(redis_server: RedisServer, prefix: str) -> None:
    """Most calls need no round trip, and at the end the bucket owes what was spent, to the token."""
    limits = ("50000000/s burst 100000000", "100000000000/100d window")
    on: dict[str, Any] = {"store": redis_server.url, "prefix": prefix, "store_timeout": PATIENT}
    spent = 0

    def pay(decision: Decision) -> bool:
        nonlocal spent
        assert decision.allowed and decision.retry_after == 0
        spent += 1
        return decision.source == "lease"

    with Limiter(*limits, lease={"ttl": 2.0}, **on) as limiter:
        for wanted in 100, 500:  # budgets are small at first
            paid = calls = 0
            end = time.monotonic() + DEADLINE
            while paid < wanted:
                assert time.monotonic() < end, f"{paid} of {calls} calls were paid by a budget"
                paid += pay(limiter.check("k", [1 + spent * 37 % 1000, 1]))
                calls += 1
                time.sleep(0.001)
        assert paid > calls / 2
        end = time.monotonic() + DEADLINE
        while not pay(limiter.check_many([("k", [1, 1])])[0]) or not pay(limiter.acquire("k", [1, 1])):
            assert time.monotonic() < end
        assert limiter.peek("k", [1, 1]).allowed

    async def run() -> None:
        async with AsyncLimiter(*limits, lease={"ttl": 2.0}, **on) as limiter:
            end = time.monotonic() + DEADLINE
            while not pay(await limiter.check("k", [100, 1])):
                assert time.monotonic() < end, "no budget paid"

    asyncio.run(run())
    with Limiter(*limits, **on) as direct:
        # An event loop does not wait until the budget has been given back.
        end = time.monotonic() + DEADLINE
        while (left := direct.peek("k", 0).tiers[1].remaining) != 100_000_000_000 - spent:
            assert time.monotonic() < end, f"{left} tokens are left, {spent} were spent"


def test_a_child_has_no_part_in_its_parents_slice(redis_server: RedisServer, prefix: str) -> None:
    limiter = leased(redis_server, prefix)
    warm(limiter)

    def child() -> bool:
        assert limiter.check("k").source == "redis"
        warm(limiter)
        limiter.close()
        return True

    in_child(child)
    warm(limiter)
    limiter.close()


def test_closing_gives_the_slice_back(redis_server: RedisServer, prefix: str) -> None:
    limiter = leased(redis_server, prefix, "100/s burst 100")
    _, spent = warm(limiter)
    limiter.close()
    with Limiter(
        "100/s burst 100", store=redis_server.url, prefix=prefix, store_timeout=PATIENT
    ) as direct:
        assert direct.peek("k", 0).remaining + spent >= 98


@pytest.mark.parametrize(
    "lease",
    [
        {},
        {"ttl": 0.05},
        {"ttl": 61},
        {"ttl": -1},
        {"ttl": float("nan")},
        {"ttl": float("inf")},
        {"ttl": 0.1234567},
        {"ttl": 1, "max_share": 0},
        {"ttl": 1, "max_share": 1.5},
        {"ttl": 1, "share": 1},
        {5: 1},
    ],
)
def test_options_out_of_bounds_are_named(lease: Any) -> None:
    with pytest.raises(InvalidArgument, match="lease"):
        Limiter("100/s", store="redis://127.0.0.1:1", lease=lease)


@pytest.mark.parametrize("lease", [1, "1", [1], {"ttl": "1"}, {"ttl": 1, "max_share": "1"}])
def test_options_of_a_wrong_type(lease: Any) -> None:
    with pytest.raises(TypeError):
        Limiter("100/s", store="redis://127.0.0.1:1", lease=lease)


def test_limits_that_cannot_be_sliced_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="10 tokens"):
        Limiter("9/s", store="redis://127.0.0.1:1", lease={"ttl": 1})


def test_a_client_of_the_program_leases(redis_server: RedisServer, prefix: str) -> None:
    with redis.Redis(port=redis_server.port) as client:
        limiter = Limiter("1000/s", store=client, prefix=prefix, store_timeout=PATIENT, lease={"ttl": TTL})
        with limiter:
            warm(limiter)


def test_a_client_for_asyncio_leases(redis_server: RedisServer, prefix: str) -> None:
    async def run() -> None:
        async with redis.asyncio.Redis(port=redis_server.port) as client:
            limiter = AsyncLimiter("1000/s", store=client, prefix=prefix, store_timeout=PATIENT, lease={"ttl": TTL})
            await warm_async(limiter)
            await limiter.close()

    asyncio.run(run())
