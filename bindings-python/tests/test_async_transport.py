"""The transport over a client for asyncio: who sends requests, through each change of that.

A gate in front of a real client holds requests back, so that each test can force what comes while
a request is under way.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis.asyncio
from conftest import RedisServer

from tidegate import AsyncLimiter, Decision, Limiter, StoreError, StoreTimeout
from tidegate._async_transport import AsyncTransport, Sender

# No answer takes nearly this long, so a test that reaches it has lost a wake-up.
PATIENT = 30.0
LONG_ALONE = 50  # calls of a lone caller, after which it sends its requests itself


class GatedClient:
    """A client that sends nothing while its gate is shut, or that fails with an exception."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._client: redis.asyncio.Redis | None = None
        self._gate: asyncio.Future[None] | None = None
        self.sending = 0
        self.failure: BaseException | None = None
        self.loops: set[asyncio.AbstractEventLoop] = set()

    async def execute_command(self, *words: Any, **options: Any) -> Any:
        self.loops.add(asyncio.get_running_loop())
        self.sending += 1
        try:
            if self.failure is not None:
                failure, self.failure = self.failure, None
                raise failure
            assert self._client is not None
            if self._gate is not None:
                await asyncio.shield(self._gate)
            return await self._client.execute_command(*words, **options)
        finally:
            self.sending -= 1

    def pipeline(self, transaction: bool) -> Any:
        assert self._client is not None
        return self._client.pipeline(transaction)

    def shut(self) -> None:
        self._gate = asyncio.get_running_loop().create_future()

    def open(self) -> None:
        if self._gate is not None:
            self._gate.set_result(None)
        self._gate = None

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """With connections of the running loop, to which they belong, and with an open gate."""
        self._gate = None
        async with redis.asyncio.Redis(port=self._server.port, socket_timeout=PATIENT) as self._client:
            yield


@pytest.fixture
async def gated(redis_server: RedisServer) -> AsyncIterator[GatedClient]:
    gated = GatedClient(redis_server)
    async with gated.connected():
        yield gated


def limiter_on(client: GatedClient, prefix: str, timeout: float = PATIENT) -> AsyncLimiter:
    return AsyncLimiter("1000/d", store=client, prefix=prefix, store_timeout=timeout)  # type: ignore[arg-type]


def transport_of(limiter: AsyncLimiter) -> AsyncTransport:
    transport = limiter._calls
    assert isinstance(transport, AsyncTransport)
    return transport


def state_of(limiter: AsyncLimiter) -> Sender:
    sender = transport_of(limiter)._sender
    assert sender is not None
    return sender.state


async def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENT
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.001)


async def answer(waiting: asyncio.Future[Decision]) -> Decision:
    return await asyncio.wait_for(waiting, PATIENT)


async def alone_for_long(limiter: AsyncLimiter) -> None:
    """Calls until the caller sends its requests itself."""
    for _ in range(LONG_ALONE):
        await limiter.peek("k", 0)


async def test_a_task_sends_until_the_queue_is_empty(gated: GatedClient, prefix: str) -> None:
    limiter = limiter_on(gated, prefix)
    gated.shut()
    first = asyncio.create_task(limiter.check("k"))
    await until(lambda: gated.sending == 1)
    assert state_of(limiter) is Sender.TASK
    during = [asyncio.create_task(limiter.check("k")) for _ in range(5)]
    await until(lambda: len(transport_of(limiter).queue) == 5)
    assert gated.sending == 1, "they wait for the next batch"
    gated.open()
    assert (await answer(first)).remaining == 999
    assert [(await answer(each)).remaining for each in during] == [998, 997, 996, 995, 994]
    assert state_of(limiter) is Sender.NOBODY


async def test_a_lone_caller_sends_its_request_itself(gated: GatedClient, prefix: str) -> None:
    limiter = limiter_on(gated, prefix)
    await alone_for_long(limiter)
    gated.shut()
    tasks = asyncio.all_tasks()
    check = asyncio.create_task(limiter.check("k"))
    await until(lambda: gated.sending == 1)
    assert state_of(limiter) is Sender.CALLER_SENDING
    assert asyncio.all_tasks() - tasks == {check}, "no other task sends"
    gated.open()
    assert await answer(check)
    assert state_of(limiter) is Sender.NOBODY


async def test_a_lone_caller_that_needs_no_request(gated: GatedClient, prefix: str) -> None:
    limiter = limiter_on(gated, prefix)
    await alone_for_long(limiter)
    with pytest.raises(ValueError, match="above the burst"):
        await limiter.check("k", 1001)
    with pytest.raises(TypeError, match="cost must be"):
        await limiter.check("k", 1.5)  # type: ignore[arg-type]
    assert state_of(limiter) is Sender.NOBODY
    assert await limiter.check("k")


async def test_requests_that_come_while_a_lone_caller_waits(gated: GatedClient, prefix: str) -> None:
    limiter = limiter_on(gated, prefix)
    await alone_for_long(limiter)
    gated.shut()
    lone = asyncio.create_task(limiter.check("k"))
    await until(lambda: state_of(limiter) is Sender.CALLER_SENDING)
    others = [asyncio.create_task(limiter.check("k")) for _ in range(3)]
    await until(lambda: len(transport_of(limiter).queue) == 3)
    assert state_of(limiter) is Sender.CALLER_SENDING
    gated.open()
    assert (await answer(lone)).remaining == 999
    assert [(await answer(each)).remaining for each in others] == [998, 997, 996]
    assert state_of(limiter) is Sender.NOBODY
    assert not transport_of(limiter)._sender._is_alone()  # type: ignore[union-attr]


async def test_a_lone_caller_that_is_not_alone_any_more_when_it_asks(
    gated: GatedClient, prefix: str
) -> None:
    limiter = limiter_on(gated, prefix)
    await alone_for_long(limiter)
    sender = transport_of(limiter)._sender
    assert sender is not None
    reservation = await limiter.reserve("slot")
    await alone_for_long(limiter)
    checks = sender._completions

    class WithAnother:
        """A reservation that is given back just when the caller asks, as by the garbage collector."""

        def check(self, *arguments: Any) -> None:
            assert sender is not None and sender.state is Sender.CALLER_ASKING
            reservation._reservation._abandon()
            checks.check(*arguments)

        def deliver(self) -> None:
            checks.deliver()

    sender._completions = WithAnother()  # type: ignore[assignment]
    try:
        assert (await answer(asyncio.ensure_future(limiter.check("k")))).remaining == 999
    finally:
        sender._completions = checks
    assert (await limiter.peek("slot", 0)).remaining == 1000
    assert state_of(limiter) is Sender.NOBODY


async def test_a_cancelled_lone_caller_leaves_the_rest_to_a_task(
    gated: GatedClient, prefix: str
) -> None:
    limiter = limiter_on(gated, prefix)
    await alone_for_long(limiter)
    gated.shut()
    lone = asyncio.create_task(limiter.check("k"))
    await until(lambda: state_of(limiter) is Sender.CALLER_SENDING)
    other = asyncio.create_task(limiter.check("k"))
    await until(lambda: len(transport_of(limiter).queue) == 1)
    lone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await lone
    assert state_of(limiter) is Sender.TASK
    gated.open()
    assert await answer(other)
    assert state_of(limiter) is Sender.NOBODY
    assert (limiter.store_health.state, limiter.store_health.failures) == ("closed", 0)


async def test_a_lone_caller_that_times_out_is_no_cancelled_task(
    gated: GatedClient, prefix: str
) -> None:
    limiter = limiter_on(gated, prefix)
    await alone_for_long(limiter)
    hasty = limiter_on(gated, prefix, timeout=0.05)
    gated.shut()

    async def check() -> int:
        with pytest.raises(StoreError, match="50 ms"):
            await hasty.check("k")
        await asyncio.sleep(0)  # It would be cancelled here.
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling() if hasattr(task, "cancelling") else 0

    assert await asyncio.wait_for(asyncio.create_task(check()), PATIENT) == 0
    assert state_of(hasty) is Sender.NOBODY
    gated.open()
    assert await limiter.check("k")


async def test_a_task_cancelled_before_its_first_step(gated: GatedClient, prefix: str) -> None:
    """A program may cancel all tasks of its loop and go on."""
    limiter = limiter_on(gated, prefix, timeout=0.3)
    before = asyncio.all_tasks()
    check = asyncio.create_task(limiter.check("k"))
    await asyncio.sleep(0)
    (sender,) = asyncio.all_tasks() - before - {check}
    sender.cancel()
    with pytest.raises(StoreError):
        await answer(check)
    assert state_of(limiter) is Sender.NOBODY
    await until_it_works(limiter)


async def test_a_task_cancelled_while_others_wait(gated: GatedClient, prefix: str) -> None:
    limiter = limiter_on(gated, prefix, timeout=0.3)
    gated.shut()
    first = asyncio.create_task(limiter.check("k"))
    await until(lambda: gated.sending == 1)
    waiting = asyncio.create_task(limiter.check("k"))
    await until(lambda: len(transport_of(limiter).queue) == 1)
    sender = transport_of(limiter)._sender
    assert sender is not None and sender._task is not None
    sender._task.cancel()
    gated.open()
    for each in (first, waiting):
        with pytest.raises(StoreError):
            await answer(each)
    assert state_of(limiter) is Sender.NOBODY
    await until_it_works(limiter)


def test_an_interrupted_task_answers_its_callers(redis_server: RedisServer, prefix: str) -> None:
    gated = GatedClient(redis_server)
    limiter = limiter_on(gated, prefix)

    async def interrupted() -> asyncio.Task[Decision]:
        gated.failure = KeyboardInterrupt()
        checks.append(asyncio.create_task(limiter.check("k")))
        await asyncio.sleep(PATIENT)
        raise AssertionError("the interrupt ends the loop before")

    async def go_on() -> None:
        async with gated.connected():
            with pytest.raises(StoreError) as caught:
                await answer(checks[0])
            assert isinstance(caught.value.__cause__, KeyboardInterrupt)
            assert await limiter.check("k")

    checks: list[asyncio.Task[Decision]] = []
    loop = asyncio.new_event_loop()
    try:
        main = loop.create_task(interrupted())
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(main)
        loop.run_until_complete(go_on())
        main.cancel()
        loop.run_until_complete(asyncio.wait([main]))
    finally:
        loop.close()


async def test_an_interrupted_lone_caller_gets_the_interrupt(
    gated: GatedClient, prefix: str
) -> None:
    class Interrupt(BaseException):
        """An exception such as KeyboardInterrupt, but one that does not end the loop."""

    limiter = limiter_on(gated, prefix)
    await alone_for_long(limiter)
    gated.failure = Interrupt()
    with pytest.raises(Interrupt):
        await limiter.check("k")
    assert (limiter.store_health.state, limiter.store_health.failures) == ("closed", 0)
    assert await limiter.check("k")


@pytest.mark.parametrize("method", ["check", "reserve", "reset"])
async def test_an_interrupt_while_the_transport_is_woken(
    gated: GatedClient, redis_server: RedisServer, prefix: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call that woke it gets the interrupt, and no later one of this thread."""

    def wake(_: AsyncTransport) -> None:
        raise KeyboardInterrupt

    limiter = limiter_on(gated, prefix)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(AsyncTransport, "wake", wake)
        await getattr(limiter, method)("k")
    other = Limiter("1000/d", store=redis_server.url, prefix=prefix, store_timeout=PATIENT)
    assert other.check("k")
    assert await limiter.check("k")


async def until_it_works(limiter: AsyncLimiter) -> None:
    end = time.monotonic() + PATIENT
    while True:
        try:
            assert await limiter.check("k")
            return
        except StoreError:
            assert time.monotonic() < end


def test_a_loop_left_while_a_lone_caller_waits(redis_server: RedisServer, prefix: str) -> None:
    gated = GatedClient(redis_server)
    limiter = limiter_on(gated, prefix)

    async def leave() -> asyncio.Task[Decision]:
        async with gated.connected():
            await alone_for_long(limiter)
            gated.shut()
            check = asyncio.create_task(limiter.check("k"))
            await until(lambda: gated.sending == 1)
            return check

    async def go_on() -> None:
        async with gated.connected():
            for _ in range(3):
                assert await answer(asyncio.create_task(limiter.check("k")))

    loop = asyncio.new_event_loop()
    left = loop.run_until_complete(leave())
    loop.close()
    asyncio.run(go_on())
    left._log_destroy_pending = False  # type: ignore[attr-defined]


@pytest.mark.parametrize("elsewhere", ["on another loop", "without a loop"])
async def test_a_reservation_thrown_away_in_another_thread(
    gated: GatedClient, prefix: str, elsewhere: str
) -> None:
    """It goes back over the loop that the client's connections belong to."""
    limiter = limiter_on(gated, prefix)
    reservation = await limiter.reserve("slot", 1000)
    await asyncio.sleep(0)
    assert state_of(limiter) is Sender.NOBODY

    async def throw_away() -> None:
        reservation._reservation._abandon()

    if elsewhere == "on another loop":
        await asyncio.to_thread(lambda: asyncio.run(throw_away()))
    else:
        await asyncio.to_thread(reservation._reservation._abandon)
    end = time.monotonic() + PATIENT
    while (await limiter.peek("slot", 0)).remaining < 1000:
        assert time.monotonic() < end, "the slot was not given back"
    assert gated.loops == {asyncio.get_running_loop()}


BUSY_TIMEOUT = 0.5


@pytest.mark.parametrize("turns", range(4))
async def test_a_blocked_loop_is_not_the_servers_fault(
    redis_server: RedisServer, prefix: str, turns: int
) -> None:
    """The program blocks the loop for longer than the timeout, before or after requests are sent."""
    async with redis.asyncio.Redis(port=redis_server.port) as client:
        limiter = AsyncLimiter("100/d", store=client, prefix=prefix, store_timeout=BUSY_TIMEOUT)
        await limiter.check("key")
        checks = [asyncio.ensure_future(limiter.check("key")) for _ in range(10)]
        for _ in range(turns):
            await asyncio.sleep(0)
        time.sleep(2.5 * BUSY_TIMEOUT)  # noqa: ASYNC251 (this is what programs do)
        assert all(decision.source == "redis" for decision in await asyncio.gather(*checks))
        assert (limiter.store_health.state, limiter.store_health.failures) == ("closed", 0)


async def test_a_silent_server_is_found_out_on_a_loop_that_is_always_late(
    own_redis: RedisServer, prefix: str
) -> None:
    async with redis.asyncio.Redis(port=own_redis.port) as client:
        limiter = AsyncLimiter("100/d", store=client, prefix=prefix, store_timeout=PATIENT)
        await limiter.check("key")
        limiter = AsyncLimiter("100/d", store=client, prefix=prefix, store_timeout=0.05)
        own_redis.freeze()
        try:
            check = asyncio.ensure_future(limiter.check("key"))
            blocked_until = time.monotonic() + PATIENT
            while not check.done() and time.monotonic() < blocked_until:
                time.sleep(0.01)  # noqa: ASYNC251
                await asyncio.sleep(0)
            assert check.done()
            with pytest.raises(StoreTimeout):
                await check
        finally:
            own_redis.thaw()
