"""One limiter for the threads and the event loop of a program: `AsyncLimiter.of`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import redis
from conftest import PATIENT, RedisServer

from tidegate import AsyncLimiter, FakeClock, InvalidArgument, Limiter, RateLimited, StoreError

REQUESTS = 60
ADMITTED = 17


@pytest.fixture(params=["memory", "shm", "url"])
def options(
    request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer, prefix: str
) -> dict[str, Any]:
    if request.param == "memory":
        return {}
    if request.param == "shm":
        return {"store": f"shm://sides?dir={tmp_path}"}
    return {"store": redis_server.url, "prefix": prefix, "store_timeout": PATIENT}


async def test_endpoints_on_threads_and_on_the_loop_share_a_bucket(options: dict[str, Any]) -> None:
    """An application serves `def` endpoints on threads, and `async def` endpoints on its loop."""
    limiter = Limiter(f"{ADMITTED}/d", **options)
    async_limiter = AsyncLimiter.of(limiter)

    def endpoint() -> bool:
        return bool(limiter.check("user:42"))

    async def async_endpoint() -> bool:
        return bool(await async_limiter.check("user:42"))

    requests = [
        asyncio.to_thread(endpoint) if number % 2 else async_endpoint() for number in range(REQUESTS)
    ]
    assert sum(await asyncio.gather(*requests)) == ADMITTED
    assert limiter.peek("user:42", 0).remaining == 0
    assert (await async_limiter.peek("user:42", 0)).remaining == 0
    assert async_limiter.limits == limiter.limits
    limiter.close()


async def test_both_sides_wait_in_one_line(options: dict[str, Any]) -> None:
    limiter = Limiter("1/d", max_waiting=2, **options)
    async_limiter = AsyncLimiter.of(limiter)
    await async_limiter.check("vendor")
    waiting = [
        asyncio.ensure_future(async_limiter.acquire("vendor")),
        asyncio.ensure_future(asyncio.to_thread(limiter.acquire, "vendor")),
    ]
    while limiter.waiting("vendor").callers < 2:  # noqa: ASYNC110 (nothing signals it)
        await asyncio.sleep(0.001)
    assert async_limiter.waiting("vendor").callers == 2
    with pytest.raises(RateLimited):
        await async_limiter.acquire("vendor")
    await async_limiter.credit("vendor", 1)
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    assert any(task.result() for task in done)
    # Closing one side closes the other, and tells whoever still waits.
    limiter.close()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert any(isinstance(result, StoreError) for result in results)
    with pytest.raises(StoreError):
        await async_limiter.check("vendor")


async def test_what_one_side_reserves_the_other_sees() -> None:
    limiter = Limiter("2/s burst 1", clock=FakeClock())
    async_limiter = AsyncLimiter.of(limiter)
    reservation = await async_limiter.reserve("vendor")
    assert limiter.reserve("vendor").delay == 0.5
    await reservation.cancel()
    async with async_limiter.reserving("other", 1) as charge:
        assert not limiter.check("other")
        await charge.cancel()
    assert limiter.check("other")


def test_a_subclass_stays_one() -> None:
    class OwnLimiter(AsyncLimiter):
        pass

    assert isinstance(OwnLimiter.of(Limiter("1/s")), OwnLimiter)
    assert repr(AsyncLimiter.of(Limiter("1/s"))) == repr(AsyncLimiter("1/s"))


def test_what_has_no_asyncio_side_is_refused() -> None:
    with redis.Redis(port=1) as client:
        limiter = Limiter("1/s", store=client)
        with pytest.raises(InvalidArgument, match=r"invalid limiter: .*redis\.asyncio"):
            AsyncLimiter.of(limiter)
    for other in [AsyncLimiter("1/s"), "10/s", None]:
        with pytest.raises(TypeError, match="limiter must be a Limiter, not"):
            AsyncLimiter.of(other)  # type: ignore[arg-type]
