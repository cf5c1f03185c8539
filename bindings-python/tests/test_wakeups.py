"""Wake-ups between the native module and event loops: none is lost, whatever comes in between.

Each test forces the one interleaving in which a wake-up could be lost, and fails if the call that
depends on it is not answered.
"""

from __future__ import annotations

import asyncio
import gc
from typing import Any
from weakref import ref

import pytest
from conftest import RedisServer

from tidegate import AsyncLimiter, _completions

# No answer takes nearly this long, so a test that reaches it has lost a wake-up.
PATIENT = 30.0


def test_a_loop_is_never_given_the_completions_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = asyncio.new_event_loop(), asyncio.new_event_loop()
    try:
        own = _completions.completions_of(one)
        assert own is not None

        def one_while_another_thread_asks_for_the_other() -> asyncio.AbstractEventLoop:
            monkeypatch.undo()
            _completions.completions_of(other)
            return one

        latest = (one_while_another_thread_asks_for_the_other, ref(own))
        monkeypatch.setattr(_completions, "_latest", latest)
        assert _completions.completions_of(one) is own
    finally:
        one.close()
        other.close()


def test_an_interrupt_while_checks_are_gathered_stops_no_later_check(
    own_redis: RedisServer, prefix: str
) -> None:
    class Loop(asyncio.SelectorEventLoop):
        is_interrupted = False

        def call_soon(self, callback: Any, *arguments: Any, **options: Any) -> Any:
            if self.is_interrupted and getattr(callback, "__name__", "") == "send":
                self.is_interrupted = False
                raise KeyboardInterrupt
            return super().call_soon(callback, *arguments, **options)

    async def use() -> None:
        limiter = AsyncLimiter("30/d", store=own_redis.url, prefix=prefix, store_timeout=PATIENT)
        await limiter.peek("k", 0)
        own_redis.freeze()
        try:
            under_way = asyncio.create_task(limiter.check("k"))
            await asyncio.sleep(0)
            loop.is_interrupted = True
            with pytest.raises(KeyboardInterrupt):
                await limiter.check("k")
            assert not loop.is_interrupted
            later = asyncio.create_task(limiter.check("k"))
            await asyncio.sleep(0)
        finally:
            own_redis.thaw()
        assert await asyncio.wait_for(under_way, PATIENT)
        assert await asyncio.wait_for(later, PATIENT)

    loop = Loop()
    try:
        loop.run_until_complete(use())
    finally:
        loop.close()


async def test_a_mistake_in_many_checks_leaves_no_answer_that_nobody_takes(
    redis_server: RedisServer, prefix: str
) -> None:
    limiter = AsyncLimiter("30/d", store=redis_server.url, prefix=prefix, store_timeout=PATIENT)
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    with pytest.raises(TypeError, match="key must be"):
        await limiter.check_many([5])  # type: ignore[list-item]
    assert await limiter.check("k"), "by now, an answer to the other call has come"
    gc.collect()
    assert complaints == []
