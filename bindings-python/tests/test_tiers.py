"""What each limit says to a call, in `decision.tiers`, on every store and from every method."""

from __future__ import annotations

import asyncio
import copy
import itertools
import pickle
import re
import time
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from conftest import PATIENT, RedisServer

from tidegate import AsyncLimiter, Decision, FakeClock, Limit, Limiter, RateLimited, TierDecision

LIMITS = ("10/d", "25/d window")
DEADLINE = 60.0
DOCS = Path(__file__).resolve().parents[2] / "docs" / "limits.md"
STORES = ["memory", "shm", "url", "client"]


def limiter_on(kind: str, server: RedisServer, prefix: str, folder: Path, *limits: str, **options: Any) -> Limiter:
    stores = {"memory": "memory://", "shm": f"shm://tiers?dir={folder}", "url": server.url, "client": server.client()}
    return Limiter(*limits, store=stores[kind], prefix=prefix, store_timeout=PATIENT, **options)


def left(decision: Decision) -> list[tuple[str, int, int]]:
    return [(tier.limit_name, tier.limit, tier.remaining) for tier in decision.tiers]


def waits(decision: Decision) -> list[bool]:
    """Whether each limit would refuse the call alone."""
    return [tier.retry_after > 0 for tier in decision.tiers]


def binding(decision: Decision) -> TierDecision:
    return TierDecision(
        limit=decision.limit,
        remaining=decision.remaining,
        retry_after=decision.retry_after,
        reset_after=decision.reset_after,
        limit_name=decision.limit_name,
    )


@pytest.mark.parametrize("kind", STORES)
def test_every_method_says_what_each_limit_says(
    kind: str, redis_server: RedisServer, prefix: str, tmp_path: Path
) -> None:
    # Without refusals that are remembered, which tell of the buckets as they were.
    with limiter_on(kind, redis_server, prefix, tmp_path, *LIMITS, deny_cache=0) as limiter:
        peeked = limiter.peek("k", 4)
        decision = limiter.check("k", 4)
        assert left(decision) == left(peeked) == [("10/d", 10, 6), ("25/d window", 25, 21)]
        assert decision.tiers[0] == binding(decision) and waits(decision) == [False, False]
        refused = limiter.check("k", 7)
        assert not refused and refused.tiers[0] == binding(refused)
        assert left(refused) == left(decision) and waits(refused) == [True, False]
        many = limiter.check_many(["k", ("k", 9), ("k", 0)])
        assert [left(one)[1][2] for one in many] == [20, 20, 20]
        assert [waits(one) for one in many] == [[False, False], [True, False], [False, False]]
        reservation = limiter.reserve("k", 2)
        assert left(reservation.decision) == [("10/d", 10, 3), ("25/d window", 25, 18)]
        assert left(reservation.settle(1)) == [("10/d", 10, 4), ("25/d window", 25, 19)]
        far = limiter.reserve("k", 5, max_wait=0)
        assert not far and waits(far.decision) == [True, False]
        assert left(limiter.acquire("k")) == [("10/d", 10, 3), ("25/d window", 25, 18)]
        assert left(limiter.settle("k", 1, 0)) == [("10/d", 10, 4), ("25/d window", 25, 19)]
        assert left(limiter.credit("k", 1)) == [("10/d", 10, 5), ("25/d window", 25, 20)]
        with pytest.raises(RateLimited) as caught:
            limiter.acquire("k", 9, timeout=0)
        assert caught.value.decision.tiers == (binding(caught.value.decision),)
        assert left(limiter.reset("k")) == [("10/d", 10, 10), ("25/d window", 25, 25)]
        each = limiter.check(["user", "org"], [1, 20])
        assert left(each) == [("10/d", 10, 9), ("25/d window", 25, 5)]


@pytest.mark.parametrize("kind", ["memory", "shm", "url", "client"])
def test_a_coroutine_says_what_each_limit_says(
    kind: str, redis_server: RedisServer, prefix: str, tmp_path: Path
) -> None:
    async def main() -> None:
        store: Any = {
            "memory": "memory://",
            "shm": f"shm://tiers?dir={tmp_path}",
            "url": redis_server.url,
            "client": redis.asyncio.Redis(port=redis_server.port),
        }[kind]
        async with AsyncLimiter(*LIMITS, store=store, prefix=prefix, store_timeout=PATIENT) as limiter:
            assert left(await limiter.check("k", 4)) == [("10/d", 10, 6), ("25/d window", 25, 21)]
            checks = await asyncio.gather(*(limiter.check("k") for _ in range(3)))
            assert sorted(left(one)[1][2] for one in checks) == [18, 19, 20]
            assert left(await limiter.peek("k", 0)) == [("10/d", 10, 3), ("25/d window", 25, 18)]
            assert [left(one)[0][2] for one in await limiter.check_many(["k", "k"])] == [2, 1]
            reservation = await limiter.reserve("k")
            assert left(reservation.decision) == [("10/d", 10, 0), ("25/d window", 25, 15)]
            assert left(await reservation.settle(0)) == [("10/d", 10, 1), ("25/d window", 25, 16)]
            assert left(await limiter.acquire("k")) == [("10/d", 10, 0), ("25/d window", 25, 15)]
            assert left(await limiter.credit("k", 1)) == [("10/d", 10, 1), ("25/d window", 25, 16)]
        if kind == "client":
            await store.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("kind", STORES)
def test_unlimited_keeps_its_place(kind: str, redis_server: RedisServer, prefix: str, tmp_path: Path) -> None:
    most = 2**64 - 1
    with limiter_on(kind, redis_server, prefix, tmp_path, "unlimited", "10/d", "unlimited", "25/d") as limiter:
        for decision in (limiter.check("k", 4), limiter.peek("k", 0), *limiter.check_many([("k", 0)])):
            expected = [("unlimited", most, most), ("10/d", 10, 6), ("unlimited", most, most), ("25/d", 25, 21)]
            assert left(decision) == expected and decision.limit_name == "10/d"
            assert [tier.reset_after > 0 for tier in decision.tiers] == [False, True, False, True]
    with limiter_on(kind, redis_server, prefix, tmp_path, "unlimited", "unlimited") as limiter:
        assert left(limiter.check("k")) == [("unlimited", most, most)] * 2
    # The buckets of the limits beside `none` are not asked.
    with limiter_on(kind, redis_server, prefix, tmp_path, "10/d", "none") as limiter:
        refused = limiter.check("k")
        assert left(refused) == [("none", 0, 0)] and refused.tiers == (binding(refused),)


@pytest.mark.parametrize("kind", ["memory", "url", "client"])
def test_limits_of_the_call_say_what_they_say(
    kind: str, redis_server: RedisServer, prefix: str, tmp_path: Path
) -> None:
    with limiter_on(kind, redis_server, prefix, tmp_path, "5/d") as limiter:
        decision = limiter.check("k", 4, limits=("20/d", "25/d"))
        assert left(decision) == [("20/d", 20, 16), ("25/d", 25, 21)]
        assert left(limiter.peek("k", 0, limits=["unlimited", "20/d"]))[1] == ("20/d", 20, 16)
        own = limiter.check("k")
        assert left(own) == [("5/d", 5, 0)] and own.tiers == (binding(own),)


def test_a_lease_knows_only_the_limit_it_was_leased_under(redis_server: RedisServer, prefix: str) -> None:
    options: Any = {"store": redis_server.url, "prefix": prefix, "store_timeout": PATIENT, "lease": {"ttl": 0.4}}
    with Limiter("1000/s", "100000/min", **options) as limiter:
        end = time.monotonic() + DEADLINE
        while (decision := limiter.check("k")).source != "lease":
            assert len(decision.tiers) == 2 and time.monotonic() < end, "no slice came"
            time.sleep(0.001)
        assert decision.tiers == (binding(decision),)


_databases = itertools.count(100)


@pytest.mark.parametrize("policy", ["allow", "deny", "local"])
def test_a_policy_says_what_each_limit_says(policy: str) -> None:
    store = f"redis://127.0.0.1:1/{next(_databases)}"
    peers = {"peers": 5} if policy == "local" else {}
    with Limiter("10/s burst 20", "100/s", store=store, on_store_error=policy, **peers) as limiter:
        decision = limiter.check("k")
        assert decision.source == "fallback"
        assert [tier.limit_name for tier in decision.tiers] == ["10/s burst 20", "100/s"]
        assert binding(decision) in decision.tiers
        limits = [tier.limit for tier in decision.tiers]
        assert limits == ([4, 20] if policy == "local" else [20, 100])
        if policy == "allow":
            assert [tier.remaining for tier in decision.tiers] == [19, 99]
        if policy == "deny":
            assert [tier.remaining for tier in decision.tiers] == [0, 0] and waits(decision) == [True, True]


def test_without_room_each_limit_says_what_it_holds(tmp_path: Path) -> None:
    limiter = Limiter("1/d", "2/d", max_keys=1, on_full="deny")
    while limiter.check(f"key {limiter.pressure.denied} {time.perf_counter_ns()}"):
        pass
    refused = limiter.check("yet another")
    assert not refused and binding(refused) in refused.tiers and len(refused.tiers) == 2


def test_the_tiers_are_values() -> None:
    clock = FakeClock()
    limiter = Limiter(Limit("2/s", name="second"), Limit("500/h", name="hour"), clock=clock)
    decision = limiter.check("k", 2)
    assert decision.tiers == (
        TierDecision(limit=2, remaining=0, reset_after=1.0, limit_name="second"),
        TierDecision(limit=500, remaining=498, reset_after=14.4, limit_name="hour"),
    )
    second = decision.tiers[0]
    assert repr(second) == "TierDecision(limit=2, remaining=0, retry_after=0.0, reset_after=1.0, limit_name='second')"
    assert eval(repr(second), {"TierDecision": TierDecision}) == second == decision.tiers[0]
    assert {second, decision.tiers[0]} == {second} and second != decision.tiers[1]
    for copied in (pickle.loads(pickle.dumps(decision)), copy.copy(decision), copy.deepcopy(decision)):
        assert copied == decision and copied.tiers == decision.tiers
    assert pickle.loads(pickle.dumps(second)) == second
    with pytest.raises(AttributeError):
        second.remaining = 5  # type: ignore[misc]
    # A test may compare with a decision of its own making, which knows the binding limit alone.
    made = Decision(allowed=True, limit=2, reset_after=1.0, limit_name="second")
    assert made == decision and made.tiers == (second,) and isinstance(decision, Decision)
    assert hash(made) == hash(decision) and repr(made) == repr(decision)
    single = Limiter("2/s", clock=clock).check("k")
    assert single.tiers == (binding(single),)
    assert pickle.loads(pickle.dumps(single)).tiers == single.tiers


def test_the_header_fields_of_the_documentation() -> None:
    section = DOCS.read_text(encoding="utf-8").split("### What each limit says")[1].split("\n## ")[0]
    (block,) = re.findall(r"^```python\n(.*?)^```", section, re.M | re.S)
    exec(compile(block, str(DOCS), "exec"), {})


def test_a_refusal_that_is_remembered_says_what_each_limit_says(redis_server: RedisServer, prefix: str) -> None:
    options: Any = {"store": redis_server.url, "prefix": prefix, "store_timeout": PATIENT, "deny_cache": 60}
    with Limiter(*LIMITS, **options) as limiter:
        limiter.check("k", 4)
        refused = limiter.check("k", 7)
        asked = redis_server.client().info("commandstats")
        again = limiter.check("k", 8)
        assert left(again) == left(refused) == [("10/d", 10, 6), ("25/d window", 25, 21)]
        assert waits(again) == [True, False]
        commands = redis_server.client().info("commandstats")
        assert commands["cmdstat_evalsha"] == asked["cmdstat_evalsha"], "it was asked"
