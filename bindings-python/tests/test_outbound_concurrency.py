"""`Outbound` under the permits of a `Concurrency`, and of its asyncio form."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from tidegate import AsyncConcurrency, AsyncOutbound, Concurrency, InvalidArgument, Outbound, RateLimited

PERMITS = 2
CALLS = 8
RESPONSE = SimpleNamespace(status_code=200, headers={})


class Vendor:
    """Counts the calls that are under way, and answers none before as many as there are permits have come."""

    def __init__(self) -> None:
        self.calls = self.now = self.most = 0

    def begin(self) -> None:
        self.calls += 1
        self.now += 1
        self.most = max(self.most, self.now)


def test_threads_make_as_many_calls_at_a_time_as_there_are_permits() -> None:
    vendor, lock, together = Vendor(), threading.Lock(), threading.Barrier(PERMITS)

    def work(attempt: Any) -> Any:
        with lock:
            vendor.begin()
        together.wait(30)
        with lock:
            vendor.now -= 1
        return RESPONSE

    with Concurrency(PERMITS) as permits, Outbound("unlimited", concurrency=permits, timeout=60) as outbound:
        with ThreadPoolExecutor(CALLS) as threads:
            list(threads.map(lambda _: outbound.send(work, key="k"), range(CALLS)))
        assert (vendor.calls, vendor.most, permits.in_flight()) == (CALLS, PERMITS, 0)
        with permits.acquire(), permits.acquire(), pytest.raises(RateLimited):
            outbound.send(work, key="k", timeout=0.01)
    assert vendor.calls == CALLS


def test_tasks_make_as_many_calls_at_a_time_as_there_are_permits() -> None:
    vendor = Vendor()

    async def main() -> None:
        together = asyncio.Event()

        async def work(attempt: Any) -> Any:
            nonlocal together
            vendor.begin()
            mine = together
            if vendor.now == PERMITS:
                together = asyncio.Event()
                mine.set()
            await mine.wait()
            vendor.now -= 1
            return RESPONSE

        async with AsyncConcurrency(PERMITS) as permits:
            outbound = AsyncOutbound("unlimited", concurrency=permits, timeout=60)
            await asyncio.gather(*(outbound.send(work, key="k") for _ in range(CALLS)))
            assert (vendor.calls, vendor.most, await permits.in_flight()) == (CALLS, PERMITS, 0)
            async with permits.acquire(), permits.acquire():
                with pytest.raises(RateLimited):
                    await outbound.send(work, key="k", timeout=0.01)

    asyncio.run(main())
    assert vendor.calls == CALLS


def test_a_number_bounds_the_calls_of_each_event_loop() -> None:
    outbound = AsyncOutbound("unlimited", concurrency=1, timeout=30)

    async def main() -> None:
        now = most = 0

        async def work(attempt: Any) -> Any:
            nonlocal now, most
            now += 1
            most = max(most, now)
            await asyncio.sleep(0)
            now -= 1
            return RESPONSE

        await asyncio.gather(*(outbound.send(work, key="k") for _ in range(3)))
        assert most == 1

    for _ in range(3):
        asyncio.run(main())


@pytest.mark.parametrize("kind", [threading.Lock, threading.Semaphore, threading.BoundedSemaphore])
@pytest.mark.parametrize("timeout", [None, 30, 1e10])
def test_a_lock_of_threads_gives_places(kind: Any, timeout: float | None) -> None:
    lock = kind()
    outbound = Outbound("unlimited", concurrency=lock, timeout=timeout)
    for _ in range(2):
        assert outbound.send(lambda _: RESPONSE, key="k") is RESPONSE
    with lock, pytest.raises(RateLimited):
        outbound.send(lambda _: RESPONSE, key="k", timeout=0.01)


@pytest.mark.parametrize("make", [threading.Lock, threading.RLock, threading.Semaphore, lambda: Concurrency(1)])
def test_places_of_threads_are_refused_by_asyncio(make: Any) -> None:
    with pytest.raises(InvalidArgument, match="invalid concurrency: its acquire must be awaitable"):
        AsyncOutbound(concurrency=make())

    async def main() -> None:
        places = make()
        outbound = AsyncOutbound(concurrency=lambda key: places)
        for _ in range(2):
            with pytest.raises(InvalidArgument, match="invalid concurrency: its acquire must be awaitable"):
                await outbound.send(lambda _: asyncio.sleep(0, RESPONSE), key="k")

    asyncio.run(main())


@pytest.mark.parametrize("make", [lambda: asyncio.Semaphore(1), lambda: AsyncConcurrency(1)])
def test_places_of_asyncio_are_refused_by_threads(make: Any) -> None:
    for concurrency in (make(), lambda key: make()):
        with pytest.raises(InvalidArgument, match="invalid concurrency: its acquire is for asyncio"):
            Outbound(concurrency=concurrency).send(lambda _: RESPONSE, key="k")
