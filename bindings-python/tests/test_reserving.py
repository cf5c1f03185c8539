"""`reserving`: an estimate that is charged while a block runs, on every kind of store."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
import redis.asyncio
from conftest import PATIENT, RedisServer, options_for

from tidegate import (
    AsyncCharge,
    AsyncLimiter,
    Charge,
    CostTooLarge,
    FakeClock,
    InvalidArgument,
    Limiter,
    RateLimited,
    StoreError,
)

POLLS = 3000


@pytest.fixture(params=["memory", "shm", "url", "client"])
def limiter(request: pytest.FixtureRequest, redis_server: RedisServer, prefix: str) -> Iterator[Limiter]:
    with redis.Redis(port=redis_server.port) as client:
        yield Limiter("100/d", **options_for(request.param, client, redis_server, prefix))


@pytest.fixture(params=["memory", "shm", "url", "client"])
async def awaited(
    request: pytest.FixtureRequest, redis_server: RedisServer, prefix: str
) -> AsyncIterator[AsyncLimiter]:
    async with redis.asyncio.Redis(port=redis_server.port) as client:
        yield AsyncLimiter("100/d", **options_for(request.param, client, redis_server, prefix))


on_redis = pytest.mark.parametrize("limiter", ["url", "client"], indirect=True)
awaited_on_redis = pytest.mark.parametrize("awaited", ["url", "client"], indirect=True)


class Spoiler:
    """Makes the buckets of a test what Tidegate cannot read, which is a StoreError, and good again."""

    def __init__(self, server: RedisServer, prefix: str) -> None:
        self._client = server.client()
        self._prefix = prefix
        self._good: dict[bytes, bytes] = {}

    def spoil(self) -> None:
        keys = list(self._client.scan_iter(f"{self._prefix}*"))
        assert keys
        for key in keys:
            self._good[key] = self._client.dump(key)  # type: ignore[assignment]
            self._client.set(key, b"not a bucket")

    def mend(self) -> None:
        for key, value in self._good.items():
            self._client.restore(key, 0, value, replace=True)

    def close(self) -> None:
        self._client.close()


@pytest.fixture
def spoiler(redis_server: RedisServer, prefix: str) -> Iterator[Spoiler]:
    made = Spoiler(redis_server, prefix)
    yield made
    made.close()


def left(limiter: Limiter, key: Any = "k") -> int:
    return limiter.peek(key, 0).remaining


async def left_of(awaited: AsyncLimiter, key: Any = "k") -> int:
    return (await awaited.peek(key, 0)).remaining


async def someone_waits(awaited: AsyncLimiter) -> None:
    """Waits until the store has told the slot of a caller."""
    for _ in range(POLLS):
        if awaited.waiting("k").until > 0:
            return
        await asyncio.sleep(0.01)
    pytest.fail("nobody waits")


async def all_are_back(awaited: AsyncLimiter) -> None:
    """Waits until a call that nobody awaits has been carried out."""
    for _ in range(POLLS):
        if await left_of(awaited) == 100:
            return
        await asyncio.sleep(0.01)
    pytest.fail("the tokens did not come back")


def test_what_is_settled_is_charged_at_its_true_size(limiter: Limiter) -> None:
    with limiter.reserving("k", cost=40) as charge:
        assert isinstance(charge, Charge)
        assert (charge.cost, charge.decision.allowed, charge.decision.remaining) == (40, True, 60)
        assert charge.settle(15).remaining == 85
    assert left(limiter) == 85
    with limiter.reserving("k", 10) as charge:
        assert charge.settle(actual=50).remaining == 35
    assert left(limiter) == 35


async def test_what_is_settled_is_charged_at_its_true_size_in_asyncio(awaited: AsyncLimiter) -> None:
    async with awaited.reserving("k", cost=40) as charge:
        assert isinstance(charge, AsyncCharge)
        assert (charge.cost, charge.decision.allowed, charge.decision.remaining) == (40, True, 60)
        assert (await charge.settle(15)).remaining == 85
    assert await left_of(awaited) == 85


def test_what_is_neither_settled_nor_cancelled_counts_at_the_estimate(limiter: Limiter) -> None:
    with limiter.reserving("k", 40):
        pass
    assert left(limiter) == 60


async def test_the_estimate_counts_in_asyncio(awaited: AsyncLimiter) -> None:
    async with awaited.reserving("k", 40):
        pass
    assert await left_of(awaited) == 60


def test_the_end_of_a_block_needs_no_call_on_the_store(own_redis: RedisServer, prefix: str) -> None:
    limiter = Limiter("100/d", store=own_redis.url, prefix=prefix, store_timeout=PATIENT)
    with limiter.reserving("k", 40):
        own_redis.kill()
    assert limiter.store_health.failures == 0


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_exception_gives_all_tokens_back(limiter: Limiter, error: type[BaseException]) -> None:
    with pytest.raises(error), limiter.reserving("k", 40):
        # Others are charged meanwhile, and all of the estimate comes back nevertheless.
        limiter.check("k", 10)
        raise error
    assert left(limiter) == 90


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, asyncio.CancelledError])
async def test_an_exception_gives_all_tokens_back_in_asyncio(
    awaited: AsyncLimiter, error: type[BaseException]
) -> None:
    with pytest.raises(error):
        async with awaited.reserving("k", 40):
            await awaited.check("k", 10)
            raise error
    assert await left_of(awaited) == 90


def test_on_error_can_keep_the_estimate(limiter: Limiter) -> None:
    with pytest.raises(ValueError, match="ours"), limiter.reserving("k", 40, on_error="settle"):
        raise ValueError("ours")
    with pytest.raises(ValueError, match="ours"), limiter.reserving("k", 40, None, on_error="settle") as charge:
        charge.cancel()
        raise ValueError("ours")
    assert left(limiter) == 60


async def test_on_error_can_keep_the_estimate_in_asyncio(awaited: AsyncLimiter) -> None:
    with pytest.raises(ValueError, match="ours"):
        async with awaited.reserving("k", 40, on_error="settle"):
            raise ValueError("ours")
    assert await left_of(awaited) == 60


def test_a_charge_is_corrected_once(limiter: Limiter) -> None:
    with pytest.raises(ValueError, match="ours"), limiter.reserving("k", 40) as charge:
        charge.settle(15)
        with pytest.raises(InvalidArgument, match="invalid charge: it has been cancelled or settled before"):
            charge.settle(5)
        assert charge.cancel() is False
        raise ValueError("ours")
    assert left(limiter) == 85, "an exception after a settle changes nothing"
    with limiter.reserving("k", 40) as charge:
        assert (charge.cancel(), charge.cancel()) == (True, False)
        with pytest.raises(InvalidArgument, match="cancelled or settled before"):
            charge.settle(5)
    assert left(limiter) == 85
    with limiter.reserving("k", 40) as charge:
        pass
    with pytest.raises(InvalidArgument, match="its block has ended"):
        charge.settle(5)
    assert charge.cancel() is False
    assert left(limiter) == 45


async def test_a_charge_is_corrected_once_in_asyncio(awaited: AsyncLimiter) -> None:
    with pytest.raises(ValueError, match="ours"):
        async with awaited.reserving("k", 40) as charge:
            await charge.settle(15)
            with pytest.raises(InvalidArgument, match="cancelled or settled before"):
                await charge.settle(5)
            assert await charge.cancel() is False
            raise ValueError("ours")
    async with awaited.reserving("k", 40) as charge:
        assert (await charge.cancel(), await charge.cancel()) == (True, False)
    with pytest.raises(InvalidArgument, match="cancelled or settled before"):
        await charge.settle(5)
    assert await left_of(awaited) == 85


def test_of_many_threads_that_settle_one_succeeds(limiter: Limiter) -> None:
    start = threading.Barrier(8)
    with limiter.reserving("k", 40) as charge, ThreadPoolExecutor(8) as pool:

        def settle(actual: int) -> bool:
            start.wait()
            try:
                charge.settle(actual)
            except InvalidArgument:
                return False
            return True

        settled = list(pool.map(settle, range(8)))
    assert settled.count(True) == 1
    assert left(limiter) == 100 - settled.index(True)


def test_entering_waits_as_acquire_does(limiter: Limiter) -> None:
    limiter.check("k", 100)
    entering = limiter.reserving("k", 2, timeout=10)
    with pytest.raises(RateLimited) as caught, entering:
        pytest.fail("the block began")
    assert caught.value.key == "k"
    with pytest.raises(CostTooLarge), limiter.reserving("k", 101):
        pytest.fail("the block began")
    for wrong in (5, ["k", "k"]):
        with pytest.raises((InvalidArgument, TypeError)), limiter.reserving(wrong, 1):  # type: ignore[arg-type]
            pytest.fail("the block began")


async def test_entering_waits_as_acquire_does_in_asyncio(awaited: AsyncLimiter) -> None:
    await awaited.check("k", 100)
    with pytest.raises(RateLimited):
        async with awaited.reserving("k", 2, timeout=10):
            pytest.fail("the block began")
    waiting = asyncio.ensure_future(awaited.reserving("k", 2).__aenter__())
    await someone_waits(awaited)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert awaited.waiting("k").callers == 0


def test_a_fake_clock_moves_to_the_slot() -> None:
    clock = FakeClock()
    limiter = Limiter("2/s burst 1", clock=clock)
    for _ in range(3):
        with limiter.reserving("k", 1):
            pass
    assert clock.now() == 10**9


@pytest.mark.parametrize("on_error", ["drop", None, 5, ["cancel"]])
def test_on_error_is_one_of_two_words(on_error: Any) -> None:
    limiter, awaited = Limiter("1/s"), AsyncLimiter("1/s")
    for reserve in (limiter.reserving, awaited.reserving):
        with pytest.raises(InvalidArgument, match='invalid on_error: it must be "cancel" or "settle"'):
            reserve("k", 1, on_error=on_error)


def test_a_block_is_entered_once() -> None:
    limiter = Limiter("100/d")
    reserving = limiter.reserving("k", 40)
    with reserving, pytest.raises(InvalidArgument, match="entered before"), reserving:
        pytest.fail("the block began")
    assert left(limiter) == 60


def test_the_caller_may_change_its_list_of_keys() -> None:
    limiter = Limiter("100/d", "100/d")
    keys = ["user", "org"]
    with limiter.reserving(keys, 40) as charge:
        keys.clear()
        charge.settle(15)
    assert left(limiter, ["user", "org"]) == 85


def test_a_settle_that_cannot_be_read_can_be_made_again() -> None:
    limiter = Limiter("100/d")
    with limiter.reserving("k", 40) as charge:
        with pytest.raises(InvalidArgument, match="actual"):
            charge.settle(-1)
        charge.settle(15)
    with pytest.raises(InvalidArgument), limiter.reserving("k", 40) as charge:
        charge.settle(-1)
    assert left(limiter) == 85


def test_a_charge_is_shown() -> None:
    with Limiter("100/d").reserving("k", 40) as charge:
        assert repr(charge).startswith("Charge(cost=40, decision=Decision(allowed=True, ")


@on_redis
def test_a_settle_that_the_store_failed_can_be_made_again(limiter: Limiter, spoiler: Spoiler) -> None:
    with limiter.reserving("k", 40) as charge:
        spoiler.spoil()
        with pytest.raises(StoreError):
            charge.settle(15)
        with pytest.raises(StoreError):
            charge.cancel()
        spoiler.mend()
        assert charge.settle(15).remaining == 85
        with pytest.raises(InvalidArgument):
            charge.settle(15)


@awaited_on_redis
async def test_a_settle_that_the_store_failed_can_be_made_again_in_asyncio(
    awaited: AsyncLimiter, spoiler: Spoiler
) -> None:
    async with awaited.reserving("k", 40) as charge:
        spoiler.spoil()
        with pytest.raises(StoreError):
            await charge.settle(15)
        with pytest.raises(StoreError):
            await charge.cancel()
        spoiler.mend()
        assert (await charge.settle(15)).remaining == 85
        with pytest.raises(InvalidArgument):
            await charge.settle(15)


@on_redis
def test_after_a_failed_settle_tokens_do_not_come_back_by_themselves(limiter: Limiter, spoiler: Spoiler) -> None:
    with pytest.raises(StoreError), limiter.reserving("k", 40) as charge:
        spoiler.spoil()
        try:
            charge.settle(15)
        finally:
            spoiler.mend()
    assert left(limiter) == 60, "the store may have carried out the settle"


@on_redis
def test_a_failure_of_the_store_does_not_hide_the_exception(limiter: Limiter, spoiler: Spoiler) -> None:
    with pytest.raises(ValueError, match="ours") as caught, limiter.reserving("k", 40):
        spoiler.spoil()
        raise ValueError("ours")
    assert caught.value.__context__ is None
    spoiler.mend()
    assert left(limiter) == 60
    with pytest.raises(ValueError, match="ours"), limiter.reserving("k", 40):
        limiter.close()
        raise ValueError("ours")


@awaited_on_redis
async def test_a_failure_of_the_store_does_not_hide_the_exception_in_asyncio(
    awaited: AsyncLimiter, spoiler: Spoiler
) -> None:
    with pytest.raises(ValueError, match="ours") as caught:
        async with awaited.reserving("k", 40):
            spoiler.spoil()
            raise ValueError("ours")
    assert caught.value.__context__ is None
    spoiler.mend()
    assert await left_of(awaited) == 60


async def test_a_coroutine_that_is_closed_gives_its_tokens_back(awaited: AsyncLimiter) -> None:
    # The block is entered before, so that the coroutine waits in the block at its first step.
    reserving = awaited.reserving("k", 40)
    await reserving.__aenter__()

    async def block() -> None:
        try:
            await asyncio.sleep(60)
        except BaseException as error:
            await reserving.__aexit__(type(error), error, error.__traceback__)
            raise

    running = block()
    running.send(None)
    running.close()
    await all_are_back(awaited)
    gc.collect()


async def test_an_abandoned_generator_gives_its_tokens_back(awaited: AsyncLimiter) -> None:
    async def stream() -> AsyncIterator[int]:
        async with awaited.reserving("k", 40):
            for word in range(10):
                yield word

    words = stream()
    assert await anext(words) == 0
    await words.aclose()  # type: ignore[attr-defined]
    await all_are_back(awaited)


async def test_tokens_that_come_back_go_to_those_who_wait(awaited: AsyncLimiter) -> None:
    async with awaited.reserving("k", 100) as charge:
        waiting = asyncio.ensure_future(awaited.acquire("k", 30))
        await someone_waits(awaited)
        await charge.settle(60)
        assert (await asyncio.wait_for(waiting, PATIENT)).allowed
    await awaited.reset("k")
    with pytest.raises(ValueError, match="ours"):
        async with awaited.reserving("k", 100):
            waiting = asyncio.ensure_future(awaited.acquire("k", 30))
            await someone_waits(awaited)
            raise ValueError("ours")
    assert (await asyncio.wait_for(waiting, PATIENT)).allowed


async def test_a_task_that_is_cancelled_in_its_block_gives_its_tokens_back(awaited: AsyncLimiter) -> None:
    entered = asyncio.Event()

    async def work() -> None:
        async with awaited.reserving("k", 40):
            entered.set()
            await asyncio.sleep(60)

    task = asyncio.ensure_future(work())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await left_of(awaited) == 100
