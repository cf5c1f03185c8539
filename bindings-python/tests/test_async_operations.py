"""`AsyncLimiter`'s operations, in memory."""

from __future__ import annotations

import asyncio
import time

import pytest

from tidegate import (
    AsyncLimiter,
    AsyncReservation,
    FakeClock,
    InvalidArgument,
    RateLimited,
    StoreError,
)

# How much later than its time a busy machine may let a waiter run.
SLACK = 10.0


async def test_every_operation() -> None:
    limiter = AsyncLimiter("10/s", "600/min", clock=FakeClock())
    key = ["user", "org"]
    assert [it.remaining for it in await limiter.check_many([key, (key, 2)])] == [9, 7]
    assert (await limiter.settle(key, charged=2, actual=4)).remaining == 5
    assert (await limiter.credit(key, 3)).remaining == 8
    assert (await limiter.acquire(key, 2)).remaining == 6
    reservation = await limiter.reserve(key, 6)
    assert (reservation.allowed, reservation.delay, reservation.cost) == (True, 0.0, 6)
    assert (await reservation.settle(actual=1)).remaining == 5
    assert (await limiter.hold(key, 2)).remaining == 0
    assert (await limiter.check(key)).retry_after == 2.0
    assert (await limiter.reset(key)).remaining == 10


async def test_a_reservation_is_used_up_once() -> None:
    limiter = AsyncLimiter("1/s", clock=FakeClock())
    reservation = await limiter.reserve("k")
    refused = await limiter.reserve("k", max_wait=0.5)
    assert isinstance(reservation, AsyncReservation)
    assert reservation and not refused and not refused.decision
    assert repr(refused).startswith("AsyncReservation(allowed=False, delay=inf, cost=1, ")
    assert (await refused.cancel(), await reservation.cancel(), await reservation.cancel()) == (
        False, True, False,
    )  # fmt: skip
    with pytest.raises(InvalidArgument, match="cancelled or settled before"):
        await reservation.settle(1)


async def test_100_waiters_go_in_order_and_keep_the_pace() -> None:
    limiter = AsyncLimiter("50/s")
    start = time.monotonic()
    ended: list[tuple[int, float]] = []

    async def wait(number: int) -> None:
        assert await limiter.acquire("k")
        ended.append((number, time.monotonic() - start))

    await asyncio.gather(*(wait(number) for number in range(100)))
    assert [number for number, _ in ended] == list(range(100))
    for number, at in ended:
        # asyncio may fire a timer early, by up to the resolution of its clock.
        early = time.get_clock_info("monotonic").resolution
        assert at >= max(0, number - 49) / 50 - early, f"{number} came at {at}"
    assert ended[-1][1] < 1 + SLACK


async def test_a_slot_later_than_the_timeout_raises_at_once() -> None:
    limiter = AsyncLimiter("1/h")
    await limiter.acquire("k")
    with pytest.raises(RateLimited) as caught:
        await asyncio.wait_for(limiter.acquire("k", timeout=3000), 30)
    assert 599 < caught.value.decision.retry_after <= 600
    assert caught.value.key == "k"


async def test_cancelling_gives_the_slot_back() -> None:
    limiter = AsyncLimiter("1/h")
    await limiter.acquire("k")
    waiting = asyncio.create_task(limiter.acquire("k"))
    await asyncio.sleep(0)
    assert (await limiter.reserve("k", max_wait=0)).decision.retry_after > 3600
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await limiter.reserve("k")).delay < 3600


async def test_a_time_limit_gives_the_slot_back() -> None:
    limiter = AsyncLimiter("1/h")
    await limiter.acquire("k")
    for _ in range(3):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(limiter.acquire("k"), 0.01)
    assert (await limiter.reserve("k")).delay < 3600


async def test_a_waiter_that_is_thrown_away_gives_its_slot_back() -> None:
    limiter = AsyncLimiter("1/h")
    await limiter.acquire("k")
    waiting = limiter.acquire("k")
    waiting.send(None)
    waiting.close()
    assert (await limiter.reserve("k")).delay < 3600


async def test_cancelling_on_a_closed_limiter() -> None:
    limiter = AsyncLimiter("1/h")
    await limiter.acquire("k")
    waiting = asyncio.create_task(limiter.acquire("k"))
    await asyncio.sleep(0)
    await limiter.close()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(StoreError, match="closed"):
        await limiter.acquire("k")


async def test_a_fake_clock_is_moved_after_the_others_had_a_turn() -> None:
    clock = FakeClock()
    limiter = AsyncLimiter("10/s burst 1", clock=clock)
    order: list[int] = []

    async def wait(number: int) -> None:
        await limiter.acquire("k")
        order.append(number)

    await asyncio.gather(*(wait(number) for number in range(50)))
    assert (order, clock.now()) == (list(range(50)), 49 * 10**8)

    waiting = asyncio.create_task(limiter.acquire("k"))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert clock.now() == 49 * 10**8
    assert (await limiter.reserve("k")).delay == 0.1
