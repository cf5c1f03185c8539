"""What Python's own tools do with limiters and decisions: weak references, mocks, pickle, timedelta."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest

from tidegate import AsyncLimiter, Decision, FakeClock, InvalidArgument, Limit, Limiter, RateLimited

LIMITERS: list[Any] = [Limiter, AsyncLimiter]


@pytest.mark.parametrize("kind", LIMITERS)
def test_weak_references(kind: Any) -> None:
    limiter = kind("10/s")
    held = weakref.WeakValueDictionary({"vendor": limiter})
    assert held["vendor"] is limiter
    del limiter
    gc.collect()
    assert "vendor" not in held


def test_a_method_of_one_limiter_can_be_mocked() -> None:
    limiter, other = Limiter("1/d"), Limiter("1/d")
    refusal = Decision(allowed=False, retry_after=1.5)
    with mock.patch.object(limiter, "check", return_value=refusal) as check:
        assert limiter.check("key") is refusal
        assert other.check("key").allowed
    check.assert_called_once_with("key")
    assert limiter.check("key").allowed


async def test_a_method_of_one_async_limiter_can_be_mocked() -> None:
    limiter = AsyncLimiter("1/d")
    with mock.patch.object(limiter, "check", return_value=Decision(allowed=False)):
        assert not await limiter.check("key")
    assert await limiter.check("key")


def test_decisions_are_made_as_they_are_printed() -> None:
    clock = FakeClock()
    limiter = Limiter("2/s", Limit("10/d", name="day"), "none", clock=clock)
    for decision in [limiter.check("key", 0), Limiter("2/s").check("key"), limiter.check("key", 2)]:
        made = eval(repr(decision).replace("=inf", "=float('inf')"), {"Decision": Decision})
        assert made == decision
        assert hash(made) == hash(decision)
        assert repr(pickle.loads(pickle.dumps(made))) == repr(decision)
    assert repr(Decision(allowed=True)) == (
        "Decision(allowed=True, limit=0, remaining=0, retry_after=0.0, reset_after=0.0, limit_name='', source='memory')"
    )
    for wrong in [{"source": "disk"}, {"retry_after": -1}, {"remaining": -1}, {"retry_after": "soon"}]:
        with pytest.raises((InvalidArgument, TypeError, OverflowError)):
            Decision(allowed=True, **wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Decision()  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", LIMITERS)
@pytest.mark.parametrize("how", [pickle.dumps, copy.copy, copy.deepcopy])
def test_pickling_a_limiter_names_the_way(kind: Any, how: Any) -> None:
    with pytest.raises(TypeError, match=r"make one in each process.*shm://"):
        how(kind("10/s"))


def test_a_key_that_is_a_number_names_the_way() -> None:
    limiter = Limiter("10/s")
    with pytest.raises(TypeError, match=r"str\(key\)"):
        limiter.check(42)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"str\(key\)"):
        limiter.check(["a", 42])  # type: ignore[list-item]


def test_durations_may_be_timedeltas() -> None:
    clock = FakeClock()
    limiter = Limiter("1/s", clock=clock, store_timeout=timedelta(milliseconds=20))
    assert limiter.check("key")
    assert not limiter.reserve("key", max_wait=timedelta(milliseconds=999)).allowed
    with pytest.raises(RateLimited):
        limiter.acquire("key", timeout=timedelta(milliseconds=999))
    limiter.hold("key", timedelta(minutes=1))
    clock.advance(timedelta(seconds=60, microseconds=1))
    assert clock.now() == 60_000_001_000
    assert limiter.check("key")
    assert str(Limit(100, per=timedelta(minutes=1))) == "100/min"
    with pytest.raises(InvalidArgument):
        limiter.hold("key", timedelta(seconds=-1))


async def test_durations_of_an_async_limiter_may_be_timedeltas() -> None:
    async with AsyncLimiter("1/h") as limiter:
        assert await limiter.check("key")
        assert not (await limiter.reserve("key", max_wait=timedelta(seconds=1))).allowed
        with pytest.raises(RateLimited):
            await limiter.acquire("key", timeout=timedelta(seconds=1))
        with pytest.raises(RateLimited):
            async with limiter.reserving("key", 1, timeout=timedelta(seconds=1)):
                raise AssertionError
        assert (await limiter.hold("key", timedelta(hours=2))).reset_after > 3600


@pytest.mark.parametrize("store", ["memory://", "redis://127.0.0.1:1"])
def test_without_an_asyncio_loop_the_error_names_what_to_do(store: str) -> None:
    """Trio, for example, runs coroutines in a loop of its own."""
    limiter = AsyncLimiter("1/d", store=store)
    calls = [limiter.acquire("k", timeout=60) for _ in range(2)]
    with pytest.raises(RuntimeError, match=r"needs a running asyncio loop.*trio\.to_thread"):
        for call in calls:
            with pytest.raises(StopIteration):
                call.send(None)
    for call in calls:
        call.close()
