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
