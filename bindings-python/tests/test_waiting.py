"""`acquire` waits in a line: who leaves, what comes back, holds and closing, on every kind of store."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from bisect import bisect
from collections.abc import AsyncIterator
from itertools import accumulate
from math import inf

import pytest
import redis.asyncio
from conftest import RedisServer, in_child

from tidegate import AsyncLimiter, InvalidArgument, Limiter, Limits, RateLimited, StoreError

# A busy machine answers late; what is tested here is not how fast Redis answers.
PATIENT = 5.0


@pytest.fixture(params=["memory", "shm", "url", "client"])
async def made(
    request: pytest.FixtureRequest, redis_server: RedisServer, prefix: str
) -> AsyncIterator[Maker]:
    client = redis.asyncio.Redis(port=redis_server.port)
    stores: dict[str, dict[str, object]] = {
        "memory": {},
        "shm": {"store": f"shm://{prefix}", "prefix": prefix},
        "url": {"store": redis_server.url, "prefix": prefix, "store_timeout": PATIENT},
        "client": {"store": client, "prefix": prefix, "store_timeout": PATIENT},
    }
    yield Maker(request.param, stores[request.param])
    await client.aclose()


class Maker:
    """Makes limiters on one kind of store."""

    def __init__(self, store: str, options: dict[str, object]) -> None:
        # The limits of a bucket in shared memory are those of its file.
        self.takes_limits = store != "shm"
        # A forked child has its parent's connection of a client.
        self.can_fork = store != "client"
        self._options = options

    def limiter(self, limit: str, **more: object) -> AsyncLimiter:
        return AsyncLimiter(limit, **self._options, **more)  # type: ignore[arg-type]


async def serve(limiter: AsyncLimiter, demand: int, seconds: int, patience: float) -> list[float]:
    """When callers were served of whom `demand` come in each second, each for so long."""
    start = time.monotonic()
    served: list[float] = []

    async def call() -> None:
        try:
            await asyncio.wait_for(limiter.acquire("v"), patience)
        except asyncio.TimeoutError:
            return
        served.append(time.monotonic() - start)

    async with asyncio.TaskGroup() if hasattr(asyncio, "TaskGroup") else Gathering() as group:
        for number in range(demand * seconds):
            due = start + number / demand
            if (rest := due - time.monotonic()) > 0:
                await asyncio.sleep(rest)
            group.create_task(call())
    return sorted(served)


class Gathering:
    """A TaskGroup for Python 3.10, as far as it is needed here."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Gathering:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*self._tasks)

    def create_task(self, call: object) -> None:
        self._tasks.append(asyncio.ensure_future(call))  # type: ignore[arg-type]


async def test_deadlines_from_outside_waste_no_slot(made: Maker) -> None:
    # A1: before, the slots of who had left were lost, and after a second nobody was served.
    limiter = made.limiter("100/s burst 1")
    # A busy machine may stop this process for longer than its callers wait.
    for _ in range(3):
        served = await serve(limiter, 150, 4, 0.3)
        for place, at in enumerate(served):
            assert at >= place * 0.01 - 0.01, f"{place} came early, at {at}"
        counts = [sum(second <= at < second + 1 for at in served) for second in range(4)]
        if len(served) >= 4 * 95 and min(counts) >= 80:
            return
    pytest.fail(f"served in each second: {counts}")


async def test_who_leaves_together_leaves_nothing_behind(made: Maker) -> None:
    # A2: before, the next caller waited for the slots of all who had left.
    limiter = made.limiter("10/s burst 1")
    group = [asyncio.ensure_future(limiter.acquire("v")) for _ in range(100)]
    await asyncio.sleep(0.3)
    assert limiter.waiting("v").callers >= 90
    for task in group:
        task.cancel()
    await asyncio.gather(*group, return_exceptions=True)
    started = time.monotonic()
    await limiter.acquire("v")
    assert time.monotonic() - started < 0.35
    assert limiter.waiting("v").callers == 0


def callers_of(limiter: AsyncLimiter, number: int) -> tuple[list[asyncio.Future[None]], list[float]]:
    """Starts callers of "v", and gives them and the times at which they are served."""
    served: list[float] = []

    async def call() -> None:
        await limiter.acquire("v")
        served.append(time.monotonic())

    return [asyncio.ensure_future(call()) for _ in range(number)], served


async def test_nobody_is_served_during_a_hold(made: Maker) -> None:
    # A3: before, slots that had been reserved kept their time.
    limiter = made.limiter("20/s burst 1")
    callers, served = callers_of(limiter, 20)
    await asyncio.sleep(0.12)
    before = time.monotonic()
    await limiter.hold("v", 1.0)
    held = time.monotonic()
    await asyncio.gather(*callers)
    during = [at - held for at in served if held + 0.005 < at < before + 1.0]
    assert during == []
    # At the normal pace after it, nobody starved: at most 18 of them at 20/s.
    assert max(served) < before + 1.0 + 2.0


async def test_a_hold_of_another_limiter_reaches_those_who_wait(
    redis_server: RedisServer, prefix: str
) -> None:
    # Two limiters with different timeouts share no store: they stand for two processes.
    on = {"store": redis_server.url, "prefix": prefix}
    waiting = AsyncLimiter("20/s burst 1", store_timeout=PATIENT, **on)  # type: ignore[arg-type]
    other = AsyncLimiter("20/s burst 1", store_timeout=PATIENT - 1, **on)  # type: ignore[arg-type]
    callers, served = callers_of(waiting, 30)
    await asyncio.sleep(0.32)
    before = time.monotonic()
    await other.hold("v", 1.0)
    held = time.monotonic()
    await asyncio.gather(*callers)
    # A caller that is due within 0.1 s may not have heard of it: two of them at 20/s, and one whose
    # slot had come before.
    during = [at - held for at in served if held + 0.005 < at < before + 1.0]
    assert len(during) <= 3 and all(at < 0.15 for at in during), during
    assert len(served) == 30


async def test_tokens_that_come_back_move_waiters_up(made: Maker) -> None:
    # A4: before, a quarter of the limit was used.
    limiter = made.limiter("60000/s burst 4000")

    async def job() -> None:
        await limiter.acquire("model", 4000)
        await asyncio.sleep(0.001)
        await limiter.settle("model", charged=4000, actual=1000)

    started = time.monotonic()
    await asyncio.gather(*(job() for _ in range(120)))
    took = time.monotonic() - started
    # 120,000 tokens at 60,000/s; with the late slots of before it takes 8 s.
    assert 1.85 < took < 2.6, took


async def until_waiting(limiter: AsyncLimiter, callers: int) -> None:
    """Waits until so many callers have slots."""
    while True:
        waiting = limiter.waiting("k")
        if waiting.callers == callers and waiting.until > 60 * (callers - 1):
            return
        await asyncio.sleep(0.001)


async def test_who_waits_is_told_that_the_limiter_is_closed(made: Maker) -> None:
    # A7: before, a caller was served by a closed limiter.
    limiter = made.limiter("1/min")
    await limiter.acquire("k")
    callers = [asyncio.ensure_future(limiter.acquire("k")) for _ in range(3)]
    await until_waiting(limiter, 3)
    await limiter.close()
    for answer in await asyncio.gather(*callers, return_exceptions=True):
        assert isinstance(answer, StoreError) and "closed" in str(answer)
    with pytest.raises(StoreError, match="closed"):
        await limiter.acquire("k")


async def test_a_full_line_refuses_at_once(made: Maker) -> None:
    limiter = made.limiter("1/min", max_waiting=2)
    await limiter.acquire("k")
    callers = [asyncio.ensure_future(limiter.acquire("k")) for _ in range(2)]
    await until_waiting(limiter, 2)
    assert (limiter.waiting("k").callers, limiter.waiting("k").tokens) == (2, 2)
    with pytest.raises(RateLimited) as refused:
        await limiter.acquire("k")
    assert refused.value.decision.retry_after > 100
    assert refused.value.key == "k"
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    assert limiter.waiting("k").callers == 0


async def test_threads_and_tasks_wait_in_one_line(redis_server: RedisServer, prefix: str) -> None:
    limiter = Limiter("50/s burst 1", store=redis_server.url, prefix=prefix, store_timeout=PATIENT)
    served: list[float] = []

    def call() -> None:
        limiter.acquire("v")
        served.append(time.monotonic())

    threads = [threading.Thread(target=call) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    served.sort()
    assert served[-1] - served[0] >= 19 * 0.02 - 0.02


def test_acquire_spends_a_lease_first(redis_server: RedisServer, prefix: str) -> None:
    on = {"store": redis_server.url, "prefix": prefix, "store_timeout": PATIENT}
    with Limiter("1000/s", lease={"ttl": 1}, **on) as limiter:  # type: ignore[arg-type]
        deadline = time.monotonic() + 30
        while limiter.acquire("v").source != "lease":
            assert time.monotonic() < deadline, "no acquire was paid by the lease"
            limiter.check("v")


@pytest.mark.parametrize("wrong", [0, 1_000_001, -1, 2**70])
def test_a_bound_of_the_line_out_of_bounds_is_named(wrong: int) -> None:
    with pytest.raises(InvalidArgument, match="max_waiting: it must be 1 to 1000000"):
        Limiter("1/min", max_waiting=wrong)


def asks_in_child(made: Maker, limit: str) -> bool:
    """Whether a limiter of a forked child answers, under limits of the call too, on a key of its own."""

    async def ask() -> bool:
        limiter = made.limiter(limit)
        key = f"child-{os.getpid()}"
        await limiter.acquire(key, 5)
        # Nothing may wait here for a lock or a thread that only the parent has.
        plan = [limit, "1000000/min"] if made.takes_limits else None
        decision = await limiter.acquire(key, 1, limits=plan)
        return decision.allowed

    answers: list[bool] = []
    # The parent's loop is running, as far as this thread knows.
    thread = threading.Thread(target=lambda: answers.append(asyncio.run(ask())))
    thread.start()
    thread.join()
    return answers == [True]


class Heartbeat:
    """Measures how late an answer may be: by what the event loop was busy, and the store."""

    def __init__(self, limiter: AsyncLimiter) -> None:
        self._limiter = limiter
        self._late = 0.0
        self._task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        before = time.monotonic()
        while True:
            await asyncio.sleep(0.001)
            await self._limiter.peek("heartbeat")
            now = time.monotonic()
            self._late, before = max(self._late, now - before), now

    async def stop(self) -> float:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        return self._late


def least_margin(
    served: list[tuple[float, int]],
    returned: list[tuple[float, int]],
    rate: int,
    burst: int,
    late: float,
    longest: float,
) -> float:
    """How many tokens fewer than `burst` and what `rate` gives the fullest of all stretches of time had.

    A caller runs up to `late` after its slot. Tokens that came back before a stretch may have slots
    in it, as far ahead as somebody waited.
    """
    times = [at for at, _ in returned]
    back = [0, *accumulate(tokens for _, tokens in returned)]
    fewest, highest, used = inf, -inf, 0
    for at, cost in served:
        highest = max(highest, rate * at + back[bisect(times, at - longest - 2 * late)] - used)
        used += cost
        fewest = min(fewest, rate * at + back[bisect(times, at)] - used - highest)
    return fewest + burst + rate * late


@pytest.mark.parametrize("seed", range(3))
async def test_a_mixture_keeps_the_bound_and_leaves_nobody_waiting(
    made: Maker, seed: int
) -> None:
    """Arrivals, deadlines, group cancels, settles, credits, holds, plans and forks at random.

    The plans have one rate, so that the bound of the bucket is theirs, whoever comes.
    """
    seconds = 200.0 if os.environ.get("TIDEGATE_TEST_LONG") else 2.0
    chance = random.Random(seed)
    rate, burst = 200, 5
    own = f"{rate}/s burst {burst}"
    plans = [None, None, Limits(own), Limits(own, "1000000/min")] if made.takes_limits else [None]
    limiter = made.limiter(own)
    beat = Heartbeat(limiter)
    forked_last = time.monotonic()
    served: list[tuple[float, int]] = []
    returned: list[tuple[float, int]] = []
    given_up: list[tuple[float, int]] = []
    holds: list[tuple[float, float]] = []
    longest = 0.0

    async def call(cost: int, timeout: float | None) -> None:
        nonlocal longest
        plan = chance.choice(plans)
        asked = time.monotonic()
        try:
            await limiter.acquire("v", cost, timeout=timeout, limits=plan)
        except RateLimited:
            return
        served.append((time.monotonic(), cost))
        longest = max(longest, time.monotonic() - asked)
        if cost > 1 and chance.random() < 0.3:
            back = chance.randrange(cost)
            returned.append((time.monotonic(), back))
            await limiter.settle("v", charged=cost, actual=cost - back, limits=plan)

    start = time.monotonic()
    callers: list[asyncio.Future[None]] = []
    while time.monotonic() - start < seconds:
        action = chance.random()
        if action < 0.8:
            timeout = None if chance.random() < 0.3 else chance.random() / 2
            callers.append(asyncio.ensure_future(call(chance.randint(1, burst), timeout)))
        elif action < 0.9:
            for caller in chance.sample(callers, min(len(callers), 20)):
                # It may have been served already, and its tokens are then given back.
                if caller.cancel():
                    given_up.append((time.monotonic(), burst))
        elif action < 0.91:
            before, wait = time.monotonic(), chance.random() / 5
            await limiter.hold("v", wait)
            holds.append((time.monotonic(), before + wait))
        elif action < 0.93:
            returned.append((time.monotonic(), 1))
            await limiter.credit("v", 1, limits=chance.choice(plans))
        elif action < 0.94 and made.can_fork and time.monotonic() - forked_last > 0.5:
            in_child(lambda: asks_in_child(made, own))
            forked_last = time.monotonic()
        await asyncio.sleep(chance.random() / 100)
    await asyncio.wait_for(asyncio.gather(*callers, return_exceptions=True), 60)
    late = await beat.stop()

    assert [limiter.waiting("v", limits=plan).callers for plan in plans] == [0] * len(plans)
    used, back = sum(cost for _, cost in served), sum(tokens for _, tokens in returned)
    assert used <= burst + rate * (served[-1][0] - start) + back
    # Callers of each plan are a line, which keeps tokens for a first one that needs several.
    most = burst + len(plans) * (burst - 1)
    margin = least_margin(served, returned, rate, most, late, longest)
    print(
        f"\n{len(callers)} callers, {len(served)} admitted with {used} tokens, {back} came back, {len(holds)} holds, "
        f"late by at most {late * 1000:.0f} ms, longest wait {longest:.2f} s, least margin {margin:.1f} tokens"
    )
    assert margin >= 0
    for held, end in holds:
        # Tokens that come back shorten a hold, or serve somebody who came after it. A caller that was
        # served before it runs after it.
        back_since = sum(tokens for at, tokens in returned + given_up if held - 0.1 - late < at < end)
        shorter = end - back_since / rate
        during = [(at - held, cost) for at, cost in served if held + 0.05 + late < at < shorter]
        assert sum(cost for _, cost in during) <= back_since, during
    for caller in callers:
        error = None if caller.cancelled() else caller.exception()
        assert error is None, error
    # Nothing is left of the line: the bucket is full once time has paid.
    deadline = time.monotonic() + 30
    while (await limiter.peek("v", 0)).remaining < burst:
        assert time.monotonic() < deadline, await limiter.peek("v", 0)
        await asyncio.sleep(0.01)
