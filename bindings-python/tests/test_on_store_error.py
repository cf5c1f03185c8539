"""What a limiter answers while its Redis fails."""

from __future__ import annotations

import asyncio
import itertools
import pickle
import re
import time
from typing import Any

import pytest
from conftest import PATIENT, RedisServer

from tidegate import (
    AsyncLimiter,
    InvalidArgument,
    Limiter,
    RateLimited,
    StoreError,
    StoreHealth,
    StoreTimeout,
)

TIMEOUT = 0.05
FAILURES_TO_OPEN = 3
DEADLINE = 60.0


_databases = itertools.count()


def nobody() -> str:
    """The URL of a server that refuses connections, and of a store that no other test has used:
    limiters on one URL share what is known of its failures."""
    return f"redis://127.0.0.1:1/{next(_databases)}"


def until(condition: Any, what: str) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen"


def failure_of(limiter: Limiter) -> StoreError:
    with pytest.raises(StoreError) as caught:
        limiter.check("k")
    return caught.value


def test_raise_is_the_default_and_soon_stops_asking() -> None:
    for limiter in (Limiter("5/s", store=nobody()), Limiter("5/s", store=nobody(), on_store_error="raise")):
        for _ in range(FAILURES_TO_OPEN):
            failure_of(limiter)
        assert limiter.store_health == StoreHealthOf("open", FAILURES_TO_OPEN, 0)
        told = re.compile(r"not asked, as it keeps failing \(.*\); again in \d+ ms")
        # On a busy machine its time to ask again may have come.
        until(lambda: told.search(str(failure_of(limiter))), "a call that asks nobody")  # noqa: B023


class StoreHealthOf:  # noqa: PLW1641 (nothing hashes it)
    """Equals the StoreHealth with these fields; tests cannot make one of those."""

    def __init__(self, *fields: object) -> None:
        self.fields = fields

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, StoreHealth)
        return (other.state, other.failures, other.fallbacks) == self.fields


def test_allow() -> None:
    limiter = Limiter("5/s", store=nobody(), on_store_error="allow")
    decisions = [limiter.check("k", 2) for _ in range(20)]
    assert {(d.allowed, d.remaining, d.source) for d in decisions} == {(True, 3, "fallback")}
    assert pickle.loads(pickle.dumps(decisions[0])) == decisions[0]
    assert limiter.reserve("k", 5).cancel()
    assert limiter.acquire("k", 5)
    assert all(limiter.check_many(["a", ("a", 5)]))
    for fact in (lambda: limiter.settle("k", 1, 2), lambda: limiter.hold("k", 1), lambda: limiter.reset("k")):
        with pytest.raises(StoreError):
            fact()


def test_deny() -> None:
    limiter = Limiter("5/s", store=nobody(), on_store_error="deny")
    refused = limiter.check("k")
    assert not refused and 0 < refused.retry_after <= 1 and refused.source == "fallback"
    assert limiter.peek("k", 0).remaining == 0
    with pytest.raises(RateLimited):
        limiter.acquire("k", timeout=100)


def test_local() -> None:
    limiter = Limiter("60/s", store=nobody(), on_store_error="local", peers=3)
    began = time.monotonic()
    assert not limiter.check("k"), "the share begins empty, now"
    decision = limiter.acquire("k", 5)
    assert decision.source == "fallback" and decision.limit == 20
    assert time.monotonic() - began >= 5 / 20
    with pytest.raises(RateLimited):
        limiter.acquire("k", 21)


def test_asyncio() -> None:
    async def main() -> None:
        async with AsyncLimiter("60/s", store=nobody(), on_store_error="local", peers=3) as limiter:
            assert (await limiter.check("k")).source == "fallback"
            assert (await limiter.acquire("k")).source == "fallback"
            assert limiter.store_health.fallbacks == 2
        async with AsyncLimiter("60/s", store=nobody(), on_store_error="deny") as limiter:
            many = await limiter.check_many(["a", "b"])
            assert [(d.allowed, d.source) for d in many] == [(False, "fallback")] * 2

    asyncio.run(main())


def test_a_hung_server_is_not_waited_for_and_comes_back(own_redis: RedisServer, prefix: str) -> None:
    limiter = Limiter(
        "100/d", store=own_redis.url, prefix=prefix, store_timeout=TIMEOUT, on_store_error="local", peers=2
    )
    until(lambda: limiter.peek("k", 0).source == "redis", "the first answer")
    own_redis.freeze()
    until(lambda: not limiter.check("k") and limiter.store_health.state == "open", "its failure")
    began = time.monotonic()
    for _ in range(1_000):
        assert limiter.check("k").source == "fallback"
    # A thousand timeouts would be 50 s; only two or three calls a second ask meanwhile.
    assert time.monotonic() - began < 1_000 * TIMEOUT / 2
    own_redis.thaw()
    until(lambda: limiter.peek("k", 0).source == "redis", "its return")
    assert limiter.store_health.state == "closed"


def test_a_timeout_is_told_from_not_being_asked(own_redis: RedisServer) -> None:
    limiter = Limiter("100/d", store=own_redis.url, store_timeout=TIMEOUT)
    own_redis.freeze()
    for _ in range(FAILURES_TO_OPEN):
        assert isinstance(failure_of(limiter), StoreTimeout)
    # On a busy machine its time to ask again may have come.
    until(lambda: type(failure_of(limiter)) is StoreError, "a call that asks nobody")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"on_store_error": "ignore"}, 'on_store_error: it must be "raise", "allow", "deny" or "local"'),
        ({"on_store_error": "local"}, 'peers: on_store_error "local" needs the number of processes'),
        ({"on_store_error": "local", "peers": 0}, "peers: it must be 1 to 1000000, but is 0"),
        ({"on_store_error": "local", "peers": -1}, "peers: it must be 1 to 1000000"),
        ({"on_store_error": "local", "peers": 2**70}, "peers: it must be 1 to 1000000"),
        ({"on_store_error": "local", "peers": 1_000_000}, 'peers: "5/d" cannot be shared among 1000000'),
        ({"on_store_error": "deny", "peers": 2}, 'peers: it is for on_store_error "local" only'),
        ({"peers": 2}, 'peers: it is for on_store_error "local" only'),
        ({"on_store_error": "ignore", "store": "memory://"}, "on_store_error: it must be"),
        ({"on_store_error": "local", "peers": 0, "store": "memory://"}, "peers: it must be 1 to 1000000"),
        ({"deny_cache": 61, "store": "memory://"}, "deny_cache: it must be 0 to 60 s"),
        ({"store_timeout": 0, "store": "memory://"}, "store_timeout: it must be"),
        ({"lease": {"ttl": 0.01}, "store": "memory://"}, "lease: the ttl must be"),
        ({"lease": {"ttl": 1, "max_share": 2}, "store": "memory://"}, "lease: the largest share must be"),
        ({"max_keys": 0}, "max_keys: it must be 1 to 100000000"),
    ],
)
@pytest.mark.parametrize("make", [Limiter, AsyncLimiter])
def test_mistakes_are_named(make: Any, options: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidArgument, match=told.replace("(", r"\(")):
        make("5/d", **{"store": nobody(), **options})


@pytest.mark.parametrize("options", [{"on_store_error": 5}, {"peers": "8"}, {"peers": True}, {"peers": 1.5}])
def test_wrong_types(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        Limiter("5/d", store=nobody(), **options)


def test_memory_does_not_fail() -> None:
    health = Limiter("5/s", on_store_error="raise").store_health
    assert health == StoreHealthOf("closed", 0, 0)
    assert (health.last_error, health.since) == (None, 0)


ALL_OPTIONS: list[dict[str, Any]] = [
    {"on_store_error": "allow"},
    {"on_store_error": "deny"},
    {"on_store_error": "local", "peers": 3},
    {"deny_cache": 0},
    {"lease": {"ttl": 1, "max_share": 0.5}},
    {"store_timeout": 0.2},
]


@pytest.mark.parametrize("options", ALL_OPTIONS)
@pytest.mark.parametrize("make", [Limiter, AsyncLimiter])
def test_options_of_a_redis_have_no_effect_on_memory(make: Any, options: dict[str, Any], prefix: str) -> None:
    for store in ("memory://", f"shm://{prefix}?max_keys=100"):
        with Limiter("5/d", store=store, **options) as limiter:
            assert [bool(limiter.check("k")) for _ in range(6)] == [True] * 5 + [False]
            assert limiter.check("k").source == store.partition(":")[0]
            limiter.reset("k")
        asyncio.run(make_and_close(make, store, options))


async def make_and_close(make: Any, store: str, options: dict[str, Any]) -> None:
    closed = make("5/d", store=store, **options).close()
    if closed is not None:
        await closed


@pytest.mark.parametrize("options", [{"max_keys": 5}, {"on_full": "deny"}, {"max_keys": 5, "on_full": "evict_idlest"}])
def test_the_room_for_keys_has_no_effect_on_redis(
    redis_server: RedisServer, prefix: str, options: dict[str, Any]
) -> None:
    with redis_server.client() as client:
        for store in (redis_server.url, client):
            limiter = Limiter("1/d", store=store, prefix=prefix, store_timeout=PATIENT, **options)
            answers = limiter.check_many([f"{type(store).__name__}:{n}" for n in range(50)])
            assert all(answer.allowed for answer in answers)
            assert (limiter.pressure.evicted, limiter.pressure.denied) == (0, 0)
