"""Limiters over Redis clients that the program brings: redis-py and redis.asyncio."""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from conftest import RedisServer
from test_vectors import CHANGES, ERRORS_BY_CODE, OPERATIONS, VECTORS, in_seconds, operate

from tidegate import (
    AsyncLimiter,
    CorruptBucket,
    CostTooLarge,
    InvalidArgument,
    Limit,
    Limiter,
    RateLimited,
    Reservation,
    StoreError,
    StoreTimeout,
)
from tidegate._async_transport import Sender

HOUR = 3600.0
PATIENT = 30.0
# See test_redis.py.
SLACK = 10.0


@pytest.fixture(params=[False, True], ids=["bytes", "decoded"])
def blocking(redis_server: RedisServer, request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    with redis.Redis(port=redis_server.port, decode_responses=request.param) as client:
        yield client


@pytest.fixture(params=[False, True], ids=["bytes", "decoded"])
async def awaitable(
    redis_server: RedisServer, request: pytest.FixtureRequest
) -> AsyncIterator[redis.asyncio.Redis]:
    async with redis.asyncio.Redis(
        port=redis_server.port, decode_responses=request.param
    ) as client:
        yield client


def native(server: RedisServer, prefix: str, *limits: str) -> Limiter:
    return Limiter(*limits, store=server.url, prefix=prefix, store_timeout=PATIENT)


def calls(client: redis.Redis) -> dict[str, int]:
    """How often the server has got each command that runs scripts."""
    stats: dict[str, Any] = client.info("commandstats")
    return {name: stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("evalsha", "eval")}


def test_every_operation_shares_the_bucket_with_the_native_client(
    redis_server: RedisServer, blocking: redis.Redis, prefix: str
) -> None:
    limiter = Limiter("20/d", store=blocking, prefix=prefix, store_timeout=PATIENT)
    other = native(redis_server, prefix, "20/d")
    assert [it.remaining for it in limiter.check_many(["k", ("k", 2), ("other", 3)])] == [19, 17, 17]
    assert [it.remaining for it in other.check_many([("k", 1), "k"])] == [16, 15]
    assert limiter.settle("k", charged=2, actual=4).remaining == 13
    assert limiter.settle("k", charged=4, actual=2).remaining == 15
    assert limiter.credit("k", 1).remaining == 16
    assert limiter.acquire("k", 3).remaining == 13
    assert other.peek("k", 0).remaining == 13
    other.hold("k", HOUR)
    assert HOUR - 60 < limiter.check("k").retry_after <= HOUR
    assert limiter.reset("k").remaining == 20
    decision = limiter.peek("k", 0)
    assert (decision.source, decision.limit_name) == ("redis", "20/d")
    assert other.check("k", 20)
    assert not limiter.check("k")


async def test_every_operation_in_asyncio(
    redis_server: RedisServer, awaitable: redis.asyncio.Redis, prefix: str
) -> None:
    limiter = AsyncLimiter("20/d", store=awaitable, prefix=prefix, store_timeout=PATIENT)
    other = native(redis_server, prefix, "20/d")
    decisions = await limiter.check_many(["k", ("k", 2), ("other", 3)])
    assert [it.remaining for it in decisions] == [19, 17, 17]
    assert [it.remaining for it in other.check_many([("k", 1), "k"])] == [16, 15]
    assert (await limiter.settle("k", charged=2, actual=4)).remaining == 13
    assert (await limiter.settle("k", charged=4, actual=2)).remaining == 15
    assert (await limiter.credit("k", 1)).remaining == 16
    assert (await limiter.acquire("k", 3)).remaining == 13
    assert other.peek("k", 0).remaining == 13
    await limiter.hold("k", HOUR)
    assert HOUR - 60 < other.check("k").retry_after <= HOUR
    assert (await limiter.reset("k")).remaining == 20
    assert (await limiter.peek("k", 0)).source == "redis"


async def test_reservations_and_keys_per_limit(
    awaitable: redis.asyncio.Redis, redis_server: RedisServer, prefix: str
) -> None:
    with redis.Redis(port=redis_server.port) as client:
        limiter = Limiter("1/h", store=client, prefix=prefix, store_timeout=PATIENT)
        awaited = AsyncLimiter("1/h", store=awaitable, prefix=prefix, store_timeout=PATIENT)
        first = limiter.reserve("k")
        assert (first.allowed, first.delay) == (True, 0.0)
        second = await awaited.reserve("k")
        assert HOUR - 60 < second.delay <= HOUR
        assert not limiter.reserve("k", max_wait=HOUR)
        assert first.cancel() is False, "the second stands behind it"
        assert (await second.cancel(), await second.cancel()) == (True, False)
        with pytest.raises(RateLimited):
            limiter.acquire("k", timeout=1)
        with pytest.raises(RateLimited):
            await awaited.acquire("k", timeout=1)
        third = await awaited.reserve("k")
        await third.settle(actual=0)
        assert limiter.reserve("k").settle(2).remaining == 0

        tiers = AsyncLimiter("10/d", "15/d", store=awaitable, prefix=prefix, store_timeout=PATIENT)
        assert Limiter("10/d", "15/d", store=client, prefix=prefix, store_timeout=PATIENT).check(["a", "org"], 10)
        assert (await tiers.check([b"b", "org"], 6)).limit_name == "15/d"
        assert (await tiers.peek(["b", "other"], 0)).remaining == 10


class ClockedClient:
    """A client whose server tells the time that the test has set. No key expires."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.micros = 0

    def execute_command(self, name: str, script: bytes, *words: Any, **options: Any) -> Any:
        if name == "EVALSHA":
            raise redis.exceptions.NoScriptError("a script that names its clock is never kept")
        seconds, micros = divmod(self.micros, 1_000_000)
        clock = f"{{'{seconds}','{micros}'}}"
        text = script.decode().replace("redis.call('TIME')", clock).replace("'PX'", "'EX'")
        return self.client.execute_command(name, text, *words, **options)

    def pipeline(self, transaction: bool) -> ClockedPipeline:
        assert not transaction
        return ClockedPipeline(self)


class ClockedPipeline:
    """Sends the commands of a batch one after the other, which only a hold and a reset have."""

    def __init__(self, client: ClockedClient) -> None:
        self.client = client
        self.commands: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def __enter__(self) -> ClockedPipeline:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def execute_command(self, *words: Any, **options: Any) -> None:
        self.commands.append((words, options))

    def execute(self, raise_on_error: bool) -> list[Any]:
        assert not raise_on_error
        return [self._reply(words, options) for words, options in self.commands]

    def _reply(self, words: tuple[Any, ...], options: dict[str, Any]) -> Any:
        try:
            return self.client.execute_command(*words, **options)
        except redis.RedisError as error:
            return error


IN_MICROS = [
    trace
    for trace in OPERATIONS + CHANGES
    if all(int(step.get("at", 0)) % 1000 == 0 for step in trace["steps"])
]


def test_there_are_vectors_in_microseconds() -> None:
    assert len(IN_MICROS) >= 25  # The others are in nanoseconds, finer than the clock of Redis.
    assert sum(trace in CHANGES for trace in IN_MICROS) >= 10


def has_as_many_limits_throughout(trace: dict[str, Any]) -> bool:
    counts = {len(step["limits"]) for step in trace["steps"] if step["op"] == "change"}
    return counts <= {len(trace["limits"])}


# The buckets of one limit and of several have other keys if each limit has a key.
IN_FORMS = [(trace, "one key") for trace in IN_MICROS] + [
    (trace, "a key per limit") for trace in IN_MICROS if has_as_many_limits_throughout(trace)
]


@pytest.mark.parametrize(
    ("trace", "form"), IN_FORMS, ids=[f"{trace['name']}-{form}" for trace, form in IN_FORMS]
)
def test_vectors(blocking: redis.Redis, prefix: str, trace: dict[str, Any], form: str) -> None:
    client = ClockedClient(blocking)

    def limiter_and_key(texts: list[str]) -> tuple[Limiter, Any]:
        limits = [Limit(text, name=str(tier)) for tier, text in enumerate(texts)]
        # The test's clock stands still, unlike that of the deny cache.
        limiter = Limiter(*limits, store=client, prefix=prefix, deny_cache=0)
        return limiter, "k" if form == "one key" else ["user", b"org", "region", "all"][: len(limits)]

    limiter, key = limiter_and_key(trace["limits"])
    reservations: dict[str, Reservation] = {}
    for number, written in enumerate(trace["steps"]):
        step = written
        if "at" in step:
            client.micros = int(step["at"]) // 1000
        place = f"step {number} of {trace['name']}"
        if step["op"] == "change":
            limiter, key = limiter_and_key(step["limits"])
            if "expect" not in step:
                continue  # The next step is the first to see the buckets.
            step = {**step, "op": "check", "cost": 0}
        if "error" in step:
            with pytest.raises(ERRORS_BY_CODE[step["error"]]):
                operate(limiter, key, step, reservations)
            continue
        answer = operate(limiter, key, step, reservations)
        if step["op"] == "reset":
            assert answer["remaining"] == answer["limit"], place
        else:
            assert answer == in_seconds(step["expect"]), place


def test_one_call_for_one_check_and_for_many(own_redis: RedisServer, prefix: str) -> None:
    with own_redis.client() as client:
        limiter = Limiter("1000/d", store=client, prefix=prefix, store_timeout=PATIENT)
        limiter.check("k")
        before = calls(client)
        limiter.check("k")
        limiter.check_many([f"user:{number}" for number in range(100)] * 2)
        assert calls(client)["evalsha"] - before["evalsha"] == 2
        assert calls(client)["eval"] == before["eval"]


async def test_checks_of_one_turn_form_a_batch(own_redis: RedisServer, prefix: str) -> None:
    with own_redis.client() as counting:
        async with redis.asyncio.Redis(port=own_redis.port) as client:
            one = AsyncLimiter("60/d", store=client, prefix=prefix, store_timeout=PATIENT)
            await one.peek("warm", 0)
            before = calls(counting)
            decisions = await asyncio.gather(*(one.check("k") for _ in range(100)))
            assert [it.allowed for it in decisions] == [True] * 60 + [False] * 40
            assert [it.remaining for it in decisions[:60]] == list(range(59, -1, -1))
            await asyncio.gather(*(one.check(f"user:{number}") for number in range(100)))
            assert calls(counting)["evalsha"] - before["evalsha"] == 2


async def test_what_comes_during_a_batch_forms_the_next(own_redis: RedisServer, prefix: str) -> None:
    with own_redis.client() as counting:
        async with redis.asyncio.Redis(port=own_redis.port) as client:
            limiter = AsyncLimiter("500/d", store=client, prefix=prefix, store_timeout=PATIENT)
            await limiter.peek("warm", 0)
            before = calls(counting)
            own_redis.freeze()
            try:
                queue: Any = limiter._calls.queue  # type: ignore[attr-defined]
                first = asyncio.create_task(limiter.check("k"))
                await until(lambda: limiter._calls._sender.state is Sender.TASK and not len(queue))  # type: ignore[attr-defined]
                rest = [asyncio.create_task(limiter.check("k")) for _ in range(50)]
                await until(lambda: len(queue) == 50)
            finally:
                own_redis.thaw()
            assert (await first).remaining == 499
            assert [(await each).remaining for each in rest] == list(range(498, 448, -1))
            assert calls(counting)["evalsha"] - before["evalsha"] == 2


async def test_a_refusal_is_kept_and_a_credit_forgets_it(own_redis: RedisServer, prefix: str) -> None:
    with own_redis.client() as counting:
        async with redis.asyncio.Redis(port=own_redis.port) as client:
            one = AsyncLimiter("1/d", store=client, prefix=prefix, store_timeout=PATIENT)
            assert await one.check("k")
            assert not await one.check("k")
            before = calls(counting)
            for _ in range(20):
                assert not await one.check("k")
            assert calls(counting)["evalsha"] - before["evalsha"] <= 2
            await one.credit("k", 1)
            assert await one.check("k")


async def test_limiters_of_one_client_know_what_each_gives_back(
    awaitable: redis.asyncio.Redis, prefix: str
) -> None:
    one, other = (
        AsyncLimiter("1/d", store=awaitable, prefix=prefix, store_timeout=PATIENT) for _ in range(2)
    )
    assert await one.check("k")
    assert not await other.check("k")
    await one.credit("k", 1)
    assert await other.check("k"), "its refusal is forgotten"


async def test_no_caller_times_out_before_its_time(
    awaitable: redis.asyncio.Redis, prefix: str
) -> None:
    limiter = AsyncLimiter("1000000/d", store=awaitable, prefix=prefix, store_timeout=0.5)
    end = time.monotonic() + 1.2

    async def call_again_and_again(number: int) -> None:
        while (begun := time.monotonic()) < end:
            try:
                await limiter.check("k")
            except StoreTimeout:  # on a busy machine
                assert time.monotonic() - begun >= 0.5
            # Out of step, so that a caller waits whenever a batch ends.
            await asyncio.sleep(number / 10_000)

    await asyncio.gather(*map(call_again_and_again, range(20)))


def test_forgotten_scripts_are_sent_again(own_redis: RedisServer, prefix: str) -> None:
    async def use() -> None:
        async with redis.asyncio.Redis(port=own_redis.port) as awaited:
            limiter = AsyncLimiter("10/d", store=awaited, prefix=prefix, store_timeout=PATIENT)
            assert (await limiter.check("k")).remaining == 8
            own_redis.client().script_flush()
            # One of two scripts in a pipeline is known to the server, and the other is not.
            await limiter.check("k")
            held = limiter.hold("other", 1)
            assert [it.remaining for it in await asyncio.gather(limiter.check("k"), held)] == [6, 0]

    with own_redis.client() as client:
        limiter = Limiter("10/d", store=client, prefix=prefix, store_timeout=PATIENT)
        assert limiter.check("k").remaining == 9
        client.script_flush()
        asyncio.run(use())
        client.script_flush()
        assert limiter.check("k").remaining == 5


def test_a_foreign_value_is_corrupt(
    redis_server: RedisServer, blocking: redis.Redis, prefix: str
) -> None:
    limiter = Limiter("10/s", store=blocking, prefix=prefix, store_timeout=PATIENT)
    raw = redis_server.client()
    for value in (b"hello", b"\xff\x00\xfe", b""):
        raw.set(f"{prefix}:{{k}}", value)
        for use in (limiter.check, limiter.reset):
            with pytest.raises(CorruptBucket, match=prefix):
                use("k")
        with pytest.raises(CorruptBucket):
            limiter.check_many(["fine", "k"])
    raw.delete(f"{prefix}:{{k}}")
    raw.lpush(f"{prefix}:{{k}}", "x")
    with pytest.raises(CorruptBucket):
        limiter.check("k")
    assert limiter.check("fine")


async def test_a_foreign_value_fails_nobody_else(
    redis_server: RedisServer, awaitable: redis.asyncio.Redis, prefix: str
) -> None:
    redis_server.client().set(f"{prefix}:{{bad}}", b"\xff")
    limiter = AsyncLimiter("10/d", store=awaitable, prefix=prefix, store_timeout=PATIENT)
    good, bad, held = await asyncio.gather(
        limiter.check("good"), limiter.check("bad"), limiter.hold("bad", 1), return_exceptions=True
    )
    assert not isinstance(good, BaseException) and good.remaining == 9
    assert isinstance(bad, CorruptBucket) and isinstance(held, CorruptBucket)


@pytest.mark.parametrize("method", ["check", "reset", "reserve", "acquire", "check_many"])
def test_the_clients_exception_is_the_cause(
    own_redis: RedisServer, prefix: str, method: str
) -> None:
    with redis.Redis(port=own_redis.port, retry=None) as client:
        limiter = Limiter("10/s", store=client, prefix=prefix, store_timeout=PATIENT)
        assert limiter.check("k")
        own_redis.kill()
        with pytest.raises(StoreError, match="ConnectionError") as caught:
            getattr(limiter, method)(["a", "b"] if method == "check_many" else "k")
        assert isinstance(caught.value.__cause__, redis.ConnectionError)
        with pytest.raises(CostTooLarge) as mistaken:
            limiter.check("k", 11)
        assert mistaken.value.__cause__ is None
        limiter.close()
        with pytest.raises(StoreError, match="closed") as closed:
            limiter.check("k")
        assert closed.value.__cause__ is None


async def test_the_cause_in_asyncio(own_redis: RedisServer, prefix: str) -> None:
    async with redis.asyncio.Redis(port=own_redis.port, retry=None) as client:
        limiter = AsyncLimiter("10/s", store=client, prefix=prefix, store_timeout=PATIENT)
        assert await limiter.check("k")
        own_redis.kill()
        failed = await asyncio.gather(*(limiter.check("k") for _ in range(3)), return_exceptions=True)
        for error in failed:
            assert isinstance(error, StoreError)
            assert isinstance(error.__cause__, redis.ConnectionError)
        own_redis.start()
        assert await limiter.check("k")


def test_the_policies_hold_over_a_client(own_redis: RedisServer, prefix: str) -> None:
    with redis.Redis(port=own_redis.port, retry=None) as client:
        limiter = Limiter("10/s", store=client, prefix=prefix, on_store_error="local", peers=2)
        assert limiter.check("k").source == "redis"
        own_redis.kill()
        decision = limiter.check("k")
        assert (decision.source, decision.limit) == ("fallback", 5)
        assert limiter.store_health.failures == 1

    async def use() -> None:
        async with redis.asyncio.Redis(port=own_redis.port, retry=None) as client:
            denying = AsyncLimiter("10/s", store=client, prefix=prefix, on_store_error="deny")
            decision = await denying.check("k")
            assert (decision.allowed, decision.source) == (False, "fallback")

    asyncio.run(use())


def test_a_server_that_refuses(own_redis: RedisServer, prefix: str) -> None:
    with own_redis.client() as admin, own_redis.client() as client:
        admin.execute_command("ACL", "SETUSER", "default", "-evalsha", "-eval")
        limiter = Limiter("10/s", store=client, prefix=prefix, store_timeout=PATIENT)
        with pytest.raises(StoreError, match="permission") as caught:
            limiter.check("k")
        assert isinstance(caught.value.__cause__, redis.exceptions.NoPermissionError)


def test_the_blocking_clients_own_timeout(own_redis: RedisServer, prefix: str) -> None:
    with redis.Redis(port=own_redis.port, socket_timeout=0.2, retry=None) as client:
        limiter = Limiter("10/d", store=client, prefix=prefix, store_timeout=PATIENT)
        assert limiter.check("k")
        own_redis.freeze()
        try:
            start = time.monotonic()
            with pytest.raises(StoreTimeout) as caught:
                limiter.check("k")
            assert time.monotonic() - start < 0.2 + SLACK
            assert isinstance(caught.value.__cause__, redis.TimeoutError)
        finally:
            own_redis.thaw()


async def each_waits_for_its_own_timeout(limiter: AsyncLimiter) -> None:
    """Two callers begin a tenth of a second apart. The store timeout is 300 ms, and no answer comes."""
    start = time.monotonic()
    first = asyncio.create_task(limiter.check("k"))
    await asyncio.sleep(0.1)
    later = asyncio.create_task(limiter.check("k"))
    with pytest.raises(StoreTimeout, match="300 ms"):
        await first
    assert 0.29 < time.monotonic() - start < 0.3 + SLACK
    with pytest.raises(StoreTimeout, match="300 ms"):
        await later
    assert 0.39 < time.monotonic() - start < 0.4 + SLACK


async def test_the_store_timeout_in_asyncio(own_redis: RedisServer, prefix: str) -> None:
    async with redis.asyncio.Redis(port=own_redis.port) as client:
        limiter = AsyncLimiter("1000/d", store=client, prefix=prefix, store_timeout=0.3)
        await works(limiter)
        own_redis.freeze()
        try:
            await each_waits_for_its_own_timeout(limiter)
        finally:
            own_redis.thaw()
        await works(limiter)


async def works(limiter: AsyncLimiter) -> None:
    """Waits until a check is answered in time."""
    deadline = time.monotonic() + PATIENT
    while True:
        try:
            assert await limiter.check("k")
            return
        except StoreTimeout:
            assert time.monotonic() < deadline


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENT
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


async def test_the_shorter_of_two_timeouts_on_one_client_holds(
    own_redis: RedisServer, prefix: str
) -> None:
    async with redis.asyncio.Redis(port=own_redis.port) as client:
        patient = AsyncLimiter("100/d", store=client, prefix=prefix, store_timeout=PATIENT)
        hasty = AsyncLimiter("100/d", store=client, prefix=prefix, store_timeout=0.3)
        await works(hasty)
        own_redis.freeze()
        try:
            together = [asyncio.create_task(it.check("k")) for it in (patient, hasty)]
            start = time.monotonic()
            await asyncio.sleep(0.1)
            later = asyncio.create_task(hasty.check("k"))
            with pytest.raises(StoreTimeout, match="300 ms"):
                await together[1]
            assert 0.29 < time.monotonic() - start < 0.3 + SLACK
            with pytest.raises(StoreTimeout, match="300 ms"):
                await later
            assert 0.39 < time.monotonic() - start < 0.4 + SLACK
            assert not together[0].done()
        finally:
            own_redis.thaw()
        assert await together[0]


async def test_a_cancelled_check_disturbs_no_other(own_redis: RedisServer, prefix: str) -> None:
    async with redis.asyncio.Redis(port=own_redis.port) as client:
        limiter = AsyncLimiter("100/d", store=client, prefix=prefix, store_timeout=PATIENT)
        await limiter.peek("k", 0)
        own_redis.freeze()
        try:
            gone = asyncio.create_task(limiter.check("k"))
            stays = asyncio.create_task(limiter.check("k"))
            slot = asyncio.create_task(limiter.reserve("slot", 100))
            await asyncio.sleep(0)
            gone.cancel()
            slot.cancel()
            with pytest.raises(asyncio.CancelledError):
                await slot
        finally:
            own_redis.thaw()
        assert (await stays).remaining == 98
        deadline = time.monotonic() + PATIENT
        while (await limiter.peek("slot", 0)).remaining < 100:
            assert time.monotonic() < deadline, "the slot was not given back"
            await asyncio.sleep(0.01)


LONG_ALONE = 50


async def alone_for_long(limiter: AsyncLimiter) -> None:
    """Calls until a lone caller sends its requests itself."""
    for _ in range(LONG_ALONE):
        await limiter.peek("k", 0)


async def test_a_lone_caller_is_answered_in_time(own_redis: RedisServer, prefix: str) -> None:
    async with redis.asyncio.Redis(port=own_redis.port) as client:
        await alone_for_long(
            AsyncLimiter("1000/d", store=client, prefix=prefix, store_timeout=PATIENT)
        )
        limiter = AsyncLimiter("1000/d", store=client, prefix=prefix, store_timeout=0.3)
        own_redis.freeze()
        try:
            await each_waits_for_its_own_timeout(limiter)
        finally:
            own_redis.thaw()


async def test_a_cancelled_lone_caller_says_nothing_about_the_store(
    own_redis: RedisServer, prefix: str
) -> None:
    async with redis.asyncio.Redis(port=own_redis.port) as client:
        limiter = AsyncLimiter("1000/d", store=client, prefix=prefix, store_timeout=PATIENT)
        for _ in range(5):  # more failures than the breaker takes
            await alone_for_long(limiter)
            own_redis.freeze()
            try:
                gone = asyncio.create_task(limiter.check("k"))
                for _ in range(100):  # turns of the loop, until redis-py has sent the command
                    await asyncio.sleep(0)
                stays = asyncio.create_task(limiter.check("k"))
                await until(lambda: len(limiter._calls.queue) == 1)  # type: ignore[attr-defined]
                gone.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await gone
            finally:
                own_redis.thaw()
            assert await stays
        assert (limiter.store_health.state, limiter.store_health.failures) == ("closed", 0)


async def test_two_at_a_time_form_batches(
    awaitable: redis.asyncio.Redis, redis_server: RedisServer, prefix: str
) -> None:
    limiter = AsyncLimiter("1000000/d", store=awaitable, prefix=prefix, store_timeout=PATIENT)
    await alone_for_long(limiter)
    # These two show the transport that there are several callers.
    await asyncio.gather(limiter.check("a"), limiter.check("b"))
    with redis.Redis(port=redis_server.port) as client:
        before = calls(client)
        for _ in range(100):
            await asyncio.gather(limiter.check("a"), limiter.check("b"))
        after = calls(client)
    assert after["evalsha"] - before["evalsha"] <= 110


def test_one_client_in_one_loop_after_another(redis_server: RedisServer, prefix: str) -> None:
    client = redis.asyncio.Redis(port=redis_server.port, single_connection_client=False)

    async def use() -> int:
        limiter = AsyncLimiter("10/d", store=client, prefix=prefix, store_timeout=PATIENT)
        remaining = (await limiter.check("k")).remaining
        await client.aclose()
        return remaining

    assert [asyncio.run(use()) for _ in range(3)] == [9, 8, 7]


def test_threads_share_a_client_exactly(redis_server: RedisServer, prefix: str) -> None:
    with redis.Redis(port=redis_server.port) as client:
        limiter = Limiter("20/d", store=client, prefix=prefix, store_timeout=PATIENT)
        with ThreadPoolExecutor(8) as pool:
            allowed = list(pool.map(lambda _: limiter.check("k").allowed, range(80)))
        assert sum(allowed) == 20


def test_ctrl_c_while_the_client_waits(own_redis: RedisServer, prefix: str) -> None:
    with redis.Redis(port=own_redis.port, retry=None) as client:
        limiter = Limiter("10/d", store=client, prefix=prefix, store_timeout=PATIENT)
        assert limiter.check("k")
        own_redis.freeze()
        timer = threading.Timer(0.2, signal.raise_signal, [signal.SIGINT])
        timer.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                limiter.check("k")
        finally:
            timer.join()
            own_redis.thaw()
        assert limiter.check("k")


def test_what_is_no_client(redis_server: RedisServer) -> None:
    for wrong in (5, None, object(), b"redis://h", redis.Redis):
        for kind in (Limiter, AsyncLimiter):
            with pytest.raises(TypeError, match="store must be a URL or a Redis client"):
                kind("1/s", store=wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="use AsyncLimiter"):
        Limiter("1/s", store=redis.asyncio.Redis())  # type: ignore[arg-type]
    with redis.Redis() as client, pytest.raises(InvalidArgument, match=r"redis\.asyncio"):
        AsyncLimiter("1/s", store=client)  # type: ignore[arg-type]


def test_a_client_goes_with_its_last_limiter(redis_server: RedisServer, prefix: str) -> None:
    from tidegate._clients import _connections

    client = redis.Redis(port=redis_server.port)
    one, two = (Limiter("10/d", store=client, prefix=prefix, store_timeout=PATIENT) for _ in range(2))
    assert one.check("k") and two.check("k")
    assert id(client) in _connections
    del one, two
    gc.collect()
    assert id(client) not in _connections


def test_the_key_is_that_of_the_table(redis_server: RedisServer, prefix: str) -> None:
    table = json.loads((VECTORS / "redis.json").read_text())["keys"]
    with redis.Redis(port=redis_server.port) as client:
        for case in table:
            assert Limiter("1/h", store=client, prefix=case["prefix"]).check(case["key"])
            assert client.delete(case["redis_key"]) == 1


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[list[RedisServer]]:
    """Three masters without replicas."""
    servers = []
    try:
        for number in range(3):
            folder = tmp_path / str(number)
            folder.mkdir()
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                bus = free.getsockname()[1]
            options = ["--cluster-enabled", "yes", "--cluster-port", str(bus)]
            servers.append(RedisServer(folder, *options))
            servers[-1].start()
        addresses = [f"127.0.0.1:{server.port}" for server in servers]
        create = ["redis-cli", "--cluster", "create", *addresses, "--cluster-yes"]
        subprocess.run(create, check=True, stdout=subprocess.DEVNULL, timeout=60)
        yield servers
    finally:
        for server in servers:
            server.kill()


def test_a_cluster(cluster: list[RedisServer], prefix: str) -> None:
    port = cluster[0].port
    users = [f"user:{number}" for number in range(30)]
    with redis.RedisCluster(host="127.0.0.1", port=port) as client:
        limiter = Limiter("5/d", "10/d", store=client, prefix=prefix, store_timeout=PATIENT)
        assert [it.remaining for it in limiter.check_many(users * 2)] == [4] * 30 + [3] * 30
        assert limiter.reserve("user:1").cancel()
        assert limiter.credit("user:1", 1).remaining == 4
        with pytest.raises(StoreError, match="slot"):
            limiter.check(["a", "b"])

    async def use() -> None:
        async with redis.asyncio.RedisCluster(host="127.0.0.1", port=port) as client:
            limiter = AsyncLimiter("5/d", "10/d", store=client, prefix=prefix, store_timeout=PATIENT)
            decisions = await asyncio.gather(*map(limiter.check, users[2:]))
            assert [it.remaining for it in decisions] == [2] * 28
            assert [it.remaining for it in await limiter.check_many(users[2:] * 2)] == [1] * 28 + [0] * 28

    asyncio.run(use())
