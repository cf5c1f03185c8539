"""Limits that come with a call: `limits=` of every method, on memory and on a real Redis."""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
import threading
from contextlib import suppress
from typing import Any

import pytest
from conftest import RedisServer

from tidegate import (
    AsyncLimiter,
    CostTooLarge,
    FakeClock,
    InvalidArgument,
    InvalidLimit,
    Limit,
    Limiter,
    Limits,
    RateLimited,
    StoreError,
)


@pytest.fixture(params=["memory", "redis"])
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Where the buckets live."""
    if request.param == "memory":
        return {}
    server: RedisServer = request.getfixturevalue("redis_server")
    return {"store": server.url, "prefix": request.getfixturevalue("prefix"), "store_timeout": 10}


def test_a_key_has_one_bucket_under_all_limits(options: dict[str, Any]) -> None:
    limiter = Limiter("10/d", **options)
    paid = Limits("1000/d")
    assert limiter.check("a", 4).remaining == 6
    decision = limiter.check("a", limits=paid)
    assert (decision.remaining, decision.limit, decision.limit_name) == (995, 1000, "1000/d")
    assert limiter.peek("a", 0).remaining == 5
    assert limiter.check("b", limits=paid).remaining == 999


def test_every_operation_takes_limits(options: dict[str, Any]) -> None:
    limiter = Limiter("none", **options)
    plan = ["100/d", "1000/d"]
    assert not limiter.check("k")
    assert limiter.check("k", [1, 500], limits=plan).limit_name == "100/d"
    assert [bool(each) for each in limiter.check_many(["k", ("k", 101 - 3)], limits="100/d")] == [True, True]
    assert not limiter.peek("k", limits=plan)
    assert limiter.credit("k", 50, limits=plan).remaining == 50
    reservation = limiter.reserve("k", 10, limits=plan)
    assert reservation.delay == 0
    assert reservation.cancel()
    assert limiter.settle("k", 0, 10, limits=plan).remaining == 40
    assert limiter.acquire("k", 10, limits=plan).remaining == 30
    with pytest.raises(RateLimited):
        limiter.acquire("k", 31, timeout=0.5, limits=plan)
    with limiter.reserving("k", 10, limits=plan) as charge:
        assert charge.settle(5).remaining == 25
    with pytest.raises(KeyError), limiter.reserving("k", 10, limits=plan):
        raise KeyError
    assert limiter.peek("k", 0, limits=plan).remaining == 25
    assert limiter.waiting("k", limits=plan).callers == 0
    assert limiter.hold("k", 1000, limits=plan).remaining == 0
    assert limiter.reset("k", limits=plan).remaining == 100


def test_every_operation_of_the_async_limiter_takes_limits(options: dict[str, Any]) -> None:
    async def main() -> None:
        async with AsyncLimiter("none", **options) as limiter:
            plan = Limits("100/d", "1000/d")
            assert not await limiter.check("k")
            assert (await limiter.check("k", [1, 500], limits=plan)).limit_name == "100/d"
            assert all(await limiter.check_many(["k", ("k", 98)], limits="100/d"))
            assert not await limiter.peek("k", limits=plan)
            assert (await limiter.credit("k", 50, limits=plan)).remaining == 50
            reservation = await limiter.reserve("k", 10, limits=plan)
            assert await reservation.cancel()
            assert (await limiter.settle("k", 0, 10, limits=plan)).remaining == 40
            assert (await limiter.acquire("k", 10, limits=plan)).remaining == 30
            with pytest.raises(RateLimited):
                await limiter.acquire("k", 31, timeout=0.5, limits=plan)
            async with limiter.reserving("k", 10, limits=plan) as charge:
                assert (await charge.settle(5)).remaining == 25
            assert limiter.waiting("k", limits=plan).callers == 0
            assert (await limiter.hold("k", 1000, limits=plan)).remaining == 0
            assert (await limiter.reset("k", limits=plan)).remaining == 100

    asyncio.run(main())


@pytest.mark.parametrize("kind", [Limiter, AsyncLimiter])
def test_no_method_on_a_key_goes_without_limits(kind: type[Limiter | AsyncLimiter]) -> None:
    methods = {name: method for name, method in vars(kind).items() if not name.startswith("_") and callable(method)}
    on_keys = {
        name for name, method in methods.items()
        if {"key", "checks"} & set(inspect.signature(method).parameters)
    }
    assert "check" in on_keys
    assert [name for name in on_keys if "limits" not in inspect.signature(methods[name]).parameters] == []


def test_one_round_trip_brings_checks_under_one_plan(redis_server: RedisServer, prefix: str) -> None:
    async def main() -> int:
        async with AsyncLimiter("10/d", store=redis_server.url, prefix=prefix, store_timeout=10) as limiter:
            plan = Limits("50/d")
            await limiter.check("warm", limits=plan)
            before = evalsha_calls(redis_server)
            decisions = await asyncio.gather(*(limiter.check("k", limits=plan) for _ in range(100)))
            assert sum(map(bool, decisions)) == 50
            return evalsha_calls(redis_server) - before

    assert asyncio.run(main()) <= 3


def evalsha_calls(server: RedisServer) -> int:
    with server.client() as client:
        return int(client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0))


def test_a_text_and_an_object_are_the_same_plan() -> None:
    limiter = Limiter("1/d")
    for limits in ("2/d", Limit("2/d"), Limits("2/d"), ["2/d"], (Limit("2/d"),)):
        assert limiter.peek("k", limits=limits).remaining == 1
    assert Limits("2/d") == Limits(Limit("2/d"))
    assert len({Limits("2/d"), Limits("2/d"), Limits(Limit("2/d", name="two"))}) == 2
    assert limiter.peek("k", limits=Limit("2/d", name="two")).limit_name == "two"


def test_limits_are_copied_and_pickled() -> None:
    plan = Limits("10/s burst 20", Limit("none", name="blocked"), "unlimited")
    assert repr(plan) == "Limits('10/s burst 20', Limit('none', name='blocked'), 'unlimited')"
    assert pickle.loads(pickle.dumps(plan)) == copy.deepcopy(plan) == plan
    assert [str(limit) for limit in plan] == ["10/s burst 20", "none", "unlimited"]
    assert plan[1].name == "blocked"


@pytest.mark.parametrize(
    ("limits", "error"),
    [
        ("10", InvalidLimit),
        ((), InvalidLimit),
        (["1/s"] * 5, InvalidLimit),
        (10, TypeError),
        ([10], TypeError),
        (b"10/s", TypeError),
        ({"10/s": 1}, TypeError),
    ],
)
def test_what_is_no_plan(limits: Any, error: type[Exception]) -> None:
    limiter = Limiter("10/s")
    with pytest.raises(error):
        limiter.check("k", limits=limits)
    assert limiter.peek("k", 0).remaining == 10


def test_costs_and_keys_are_those_of_the_plan() -> None:
    limiter = Limiter("10/s")
    with pytest.raises(CostTooLarge, match="burst of 2"):
        limiter.check("k", 3, limits="2/s")
    with pytest.raises(InvalidArgument):
        limiter.check("k", [1, 2], limits="20/s")
    assert limiter.check(["k", "l"], [1, 2], limits=["20/s", "2/s"])
    assert not limiter.check(["m", "l"], limits=["20/s", "2/s"])


def test_shm_says_that_it_takes_none(tmp_path: Any) -> None:
    limiter = Limiter("10/s", store=f"shm://plans?dir={tmp_path}")
    with pytest.raises(InvalidArgument, match="shm://"):
        limiter.check("k", limits="20/s")
    assert limiter.check("k")


def test_a_hold_reaches_those_who_wait_under_a_plan() -> None:
    limiter = Limiter("1000/s burst 1")
    plan = Limits("1000/s burst 1", "1000/d")
    limiter.hold("k", 0.3)
    admitted = threading.Event()

    def wait() -> None:
        with suppress(StoreError):
            limiter.acquire("k", limits=plan)
            admitted.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    while not limiter.waiting("k", limits=plan).callers:
        pass
    limiter.hold("k", 60)
    limiter.hold("k", 60, limits=plan)
    assert not admitted.wait(0.5)
    limiter.close()
    waiter.join()
    assert not admitted.is_set()
    with pytest.raises(StoreError):
        limiter.check("k", limits=plan)


def test_a_limiter_can_go_before_its_reservation() -> None:
    reservation = Limiter("none").reserve("k", 2, limits="2/d")
    assert reservation
    assert reservation.cancel()


def test_a_fake_clock_is_moved_under_a_plan() -> None:
    clock = FakeClock()
    limiter = Limiter("none", clock=clock)
    for _ in range(3):
        limiter.acquire("k", limits="2/s burst 1")
    assert clock.now() == 1_000_000_000


def test_a_key_is_another_bucket_in_each_place(options: dict[str, Any]) -> None:
    limiter = Limiter("10/d", "100/d", **options)
    limiter.check("any", limits="5/s")
    for user in range(50):
        limiter.check([f"{{o}}u{user}", "{o}7"])
    assert limiter.check(["{o}7", "{o}o"])


def test_a_call_that_fails_or_looks_changes_nothing(options: dict[str, Any]) -> None:
    limiter = Limiter("60/min", **options)
    two = Limits("1000/d", "1000/d")
    assert limiter.check("k", [0, 900], limits=two)
    with pytest.raises(CostTooLarge):
        limiter.check("k", 10, limits="100/s burst 7")
    limiter.peek("k")
    assert not limiter.check("k", [0, 500], limits=two)


def test_none_refuses_whatever_the_costs(options: dict[str, Any]) -> None:
    limiter = Limiter("60/min", "none", **options)
    for cost in (1, [1, 1500], [0, 1]):
        assert not limiter.check("k", cost)
        assert not limiter.check("k", cost, limits=["none", "60/min"])


def test_a_text_that_is_no_utf8_is_an_invalid_argument() -> None:
    with pytest.raises(InvalidArgument):
        Limiter("1/s").check("k", limits="5/s\ud800")
