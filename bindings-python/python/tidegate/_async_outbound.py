"""`AsyncOutbound`: `Outbound` for asyncio."""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from tidegate._async import AsyncLimiter
from tidegate._errors import InvalidArgument, RateLimited, StoreError
from tidegate._outbound import (
    MAX_U32,
    SECOND,
    Attempt,
    CallOptions,
    Options,
    Retry,
    Run,
    concurrency_of,
    found_in,
    open_run,
    seconds_or_none,
    table_of,
    whole,
)
from tidegate._responses import response_of
from tidegate._tidegate import Concurrency, Decision, Limiter, Signal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self, Unpack

    from tidegate._signals import ProfileRow
    from tidegate._tidegate import Limit, _AsyncLimiterOptions, _Cost, _Key, _Seconds, _Step

_T = TypeVar("_T")


class AsyncOutbound:
    """`Outbound` for asyncio: the same options and methods, awaitable.

    `limiter` is an `AsyncLimiter`, or a `Limiter` whose asyncio side is then used. `concurrency` is a number for
    each event loop, an object whose `acquire` may be awaited, such as an asyncio.Semaphore, or a function of the key
    that returns one. An attempt is cancelled when its time is over.

    >>> import asyncio
    >>> outbound = AsyncOutbound("10 in any 1s", clock=FakeClock())
    >>> async def main():
    ...     async with outbound.call("api.example.com") as call:
    ...         return await call.response(200, {"X-RateLimit-Remaining": "7"})  # of any client
    >>> asyncio.run(main()).remaining
    7
    """

    def __init__(
        self,
        *limits: Limit | str,
        limiter: AsyncLimiter | Limiter | None = None,
        key: _Key | Callable[[Any], _Key] | None = None,
        cost: _Cost | Callable[[Any], _Cost] = 1,
        usage: Callable[[bytes], _Cost | None] | None = None,
        profile: str | Sequence[ProfileRow] | None = "auto",
        retry: Retry | None = None,
        timeout: _Seconds | None = None,
        attempt_timeout: _Seconds | None = None,
        concurrency: Any = None,
        max_hold: _Seconds = 900.0,
        hosts: Mapping[str, Mapping[str, Any] | AsyncOutbound] | None = None,
        **limiter_options: Unpack[_AsyncLimiterOptions],
    ) -> None:
        given: dict[str, Any] = {
            "key": key, "cost": cost, "usage": usage, "profile": profile, "retry": retry, "timeout": timeout,
            "attempt_timeout": attempt_timeout, "concurrency": concurrency, "max_hold": max_hold,
        }  # fmt: skip
        self._hosts = table_of(type(self), hosts, given, dict(limiter_options))
        self._is_own = limiter is None
        if isinstance(concurrency, int):
            given["concurrency"] = LoopPlaces(whole("concurrency", concurrency, 1, MAX_U32))
        elif not awaits(concurrency):
            message = "its acquire must be awaitable, as of asyncio.Semaphore or AsyncConcurrency"
            raise InvalidArgument(f"invalid concurrency: {message}, but it is {concurrency!r:.80}")
        made = self._limiter_of(limits, limiter, limiter_options)
        self._options = Options(made, clock=limiter_options.get("clock"), **given)

    @staticmethod
    def _limiter_of(limits: Any, limiter: AsyncLimiter | Limiter | None, store: Any) -> AsyncLimiter:
        if limiter is None:
            return AsyncLimiter(*(limits or ("unlimited",)), **store)
        if limits or store:
            raise InvalidArgument("invalid limiter: it has limits and a store already, so give no others")
        return limiter if isinstance(limiter, AsyncLimiter) else AsyncLimiter.of(limiter)

    @property
    def limiter(self) -> AsyncLimiter:
        """The limiter whose tokens the calls take, except those to `hosts`."""
        return self._options.limiter

    def at(self, host: str) -> AsyncOutbound:
        """The AsyncOutbound of a host; see `Outbound.at`."""
        return found_in(self._hosts, host) or self

    def call(
        self,
        key: _Key | None = None,
        *,
        request: Any = None,
        cost: _Cost | None = None,
        timeout: _Seconds | None = None,
    ) -> AsyncCall:
        """An `async with` block for one attempt by any client; see `Outbound.call`."""
        options = CallOptions(key, request, cost=cost, timeout=timeout)
        return AsyncCall(self._of(options)._options, options)

    async def send(
        self,
        function: Callable[[Attempt], Awaitable[_T]],
        *,
        key: _Key | None = None,
        request: Any = None,
        cost: _Cost | None = None,
        timeout: _Seconds | None = None,
        idempotent: bool | None = None,
    ) -> _T:
        """Awaits `function` when there is a slot, and again as `retry` and the vendor say; see `Outbound.send`.

        >>> import asyncio
        >>> class Response:
        ...     def __init__(self, status, headers):
        ...         self.status, self.headers = status, headers
        >>> responses = iter([Response(429, {"Retry-After": "2"}), Response(200, {})])
        >>> outbound = AsyncOutbound("10 in any 1s", clock=FakeClock())
        >>> async def request(attempt):
        ...     return next(responses)
        >>> asyncio.run(outbound.send(request, key="api.example.com")).status
        200
        """
        options = CallOptions(key, request, cost=cost, timeout=timeout, idempotent=idempotent)
        run = AsyncRun(self._of(options)._options, options)
        response = await run.exchange(function, response_of)
        body = None
        try:
            body = await read_body(response) if run.wants_body else None
        finally:
            await run.finish(body)
        return response

    async def close(self) -> None:
        """Closes its limiters, except one that it was given."""
        for each in self._hosts.values():
            await each.close()
        if self._is_own:
            await self._options.limiter.close()

    def _of(self, options: CallOptions) -> AsyncOutbound:
        return self.at(options.host) if options.host and self._hosts else self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncOutbound({', '.join(repr(limit.name) for limit in self._options.limiter.limits)})"


class AsyncRun(Run):
    """A call whose steps are awaited."""

    __slots__ = ("_concurrency", "_limiter")

    def __init__(self, options: Options[AsyncLimiter], call: CallOptions, *, attempts: int | None = None) -> None:
        super().__init__(options, call, attempts=attempts)
        self._limiter = options.limiter
        self._concurrency = options.concurrency

    async def carry(self, step: _Step) -> _Step:
        """Carries steps out until the request is to be sent, or the call ends."""
        try:
            while True:
                do, amount, _ = step
                if do == "acquire":
                    step = self.next(await self._acquire(amount))
                elif do == "permit":
                    step = self.next(await self._enter(amount))
                elif do == "hold":
                    with suppress(StoreError):
                        await self._limiter.hold(self.key, amount / SECOND)
                    step = self.next("done")
                elif do == "release":
                    await self.leave()
                    step = self.next("done")
                elif do == "sleep":
                    await self._sleep(amount)
                    step = self.next("done")
                else:
                    return step
        except BaseException:
            await self.cancel()
            raise

    async def exchange(
        self,
        function: Callable[[Attempt], Awaitable[_T]],
        parts: Callable[[Any], tuple[Any, Any, Any] | None],
        reading: Callable[[Any], Awaitable[Any]] | None = None,
    ) -> _T:
        """Makes the call, again if need be, and returns the response."""
        step = await self.carry(self.start())
        error: BaseException | None = None
        response: Any = None
        while step[0] == "send":
            error = response = None
            attempt = self.attempt(step[1])
            try:
                response = await within(attempt.timeout, function(attempt))
                told = parts(response)
                if reading is not None and told is not None:
                    told = await reading(response)
            except Exception as raised:  # noqa: BLE001 (what is no failure of a client is raised below)
                error = raised
            except BaseException:
                await self.cancel()
                raise
            try:
                if error is not None:
                    after = self.raised(error)
                    if after is None:
                        raise error
                    step = after
                elif told is None:
                    raise TypeError("the function must return a response that has a status and headers")
                else:
                    step = self.told(self.read(*told))
            except BaseException:
                await self.cancel()
                raise
            step = await self.carry(step)
        if error is not None:
            await self.finish(None)
            raise error
        if response is None:
            await self.finish(None)
            raise self.gave_up(step[2])
        made: _T = response
        return made

    async def finish(self, body: bytes | None) -> None:
        """The response has ended: the charge is corrected and the permit given back."""
        if not self.end():
            return
        await self.leave()
        actual = self.actual_of(body)
        if actual is None:
            return
        try:
            await self._limiter.settle(self.key, self.cost, actual)
        except StoreError:
            pass
        except Exception:  # noqa: BLE001 (what the hook returns ends no call)
            self.warn_of_usage()

    async def cancel(self) -> None:
        self.next("cancelled")
        await self.leave()

    async def drop(self) -> None:
        """What the call belongs to was forgotten: the permit is given back."""
        self.end()
        await self.leave()

    def end_with(self, owner: Any) -> None:
        """Gives the permit back when the garbage collector takes `owner`, unless it was given back before."""
        if self.permit is None:
            return
        loop = asyncio.get_running_loop()
        end = task_of(loop, self.drop)
        # The garbage collector may run in any thread.
        weakref.finalize(owner, lambda: None if loop.is_closed() else loop.call_soon_threadsafe(end)).atexit = False

    async def leave(self) -> None:
        permit, self.permit = self.permit, None
        if permit is not None:
            left = permit()
            if inspect.isawaitable(left):
                await left

    async def _acquire(self, max_wait: int) -> str:
        try:
            self.decision = await self._limiter.acquire(self.key, self.cost, timeout=seconds_or_none(max_wait))
        except RateLimited as refusal:
            self.refusal = refusal
            return "denied"
        return "granted"

    async def _enter(self, max_wait: int) -> str:
        concurrency = concurrency_of(self._concurrency, self.key)
        try:
            # A lock of threads would stop the event loop.
            acquired = concurrency.acquire() if awaits(concurrency) else None
            if not inspect.isawaitable(acquired):
                raise InvalidArgument("invalid concurrency: its acquire must be awaitable for an AsyncOutbound")
            permit = await within(seconds_or_none(max_wait), acquired)
        except RateLimited as refusal:
            self.refusal = refusal
            return "denied"
        except (TimeoutError, asyncio.TimeoutError):
            return "denied"
        if permit is False:
            return "denied"
        self.permit = permit.release if hasattr(permit, "release") else concurrency.release
        return "granted"

    async def _sleep(self, wait: int) -> None:
        if self.clock is None:
            await asyncio.sleep(wait / SECOND)
        else:
            await asyncio.sleep(0)
            self.clock.advance(wait / SECOND)


class AsyncCall:
    """`Call` for asyncio: the same fields, and methods that are awaitable. `AsyncOutbound.call` makes it."""

    __slots__ = ("__weakref__", "_attempt", "_run")

    def __init__(self, options: Options[AsyncLimiter], call: CallOptions) -> None:
        self._run = AsyncRun(options, call, attempts=1)
        self._attempt: Attempt | None = None

    @property
    def timeout(self) -> float | None:
        """The seconds that are left for the attempt, from when the block began; None for any time."""
        return self._begun().timeout

    @property
    def decision(self) -> Decision:
        """The buckets after the tokens were taken."""
        return self._begun().decision

    async def response(self, status: Any, headers: Any, body: Any = None) -> Signal:
        """Reads what came back, and stores the hold that it asks for; see `Call.response`."""
        run = open_run(self._run, self._attempt)
        signal = run.read(status, headers, body)
        await run.carry(run.told(signal))
        return signal

    async def settle(self, actual: _Cost) -> Decision:
        """Corrects the charge to the tokens that the call has used; see `Call.settle`."""
        self._begun()
        run = self._run
        if not run.end():
            raise InvalidArgument("invalid call: it has been settled before, or its block has ended")
        return await run._limiter.settle(run.key, run.cost, actual)

    def _begun(self) -> Attempt:
        if self._attempt is None:
            raise InvalidArgument("invalid call: its block has not begun")
        return self._attempt

    async def __aenter__(self) -> Self:
        if self._attempt is not None:
            raise InvalidArgument("invalid call: it has been entered before; each block needs one of its own")
        run = self._run
        do, timeout, reason = await run.carry(run.start())
        if do != "send":
            raise run.gave_up(reason)
        self._attempt = run.attempt(timeout)
        run.end_with(self)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        run = self._run
        try:
            if run.signal is None:
                step = None if exc_value is None else run.raised(exc_value)
                await run.carry(run.next("cancelled") if step is None else step)
        finally:
            run.end()
            await run.leave()


class LoopPlaces:
    """The places of `concurrency` as a number. A semaphore belongs to one event loop, so each loop has its own."""

    __slots__ = ("_limit", "_lock", "_of_loops")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._of_loops: dict[asyncio.AbstractEventLoop, asyncio.Semaphore] = {}
        self._lock = threading.Lock()

    async def acquire(self) -> asyncio.Semaphore:
        loop = asyncio.get_running_loop()
        with self._lock:
            places = self._of_loops.get(loop)
            if places is None:
                # A loop that is closed gives out no places.
                self._of_loops = {each: kept for each, kept in self._of_loops.items() if not each.is_closed()}
                places = self._of_loops[loop] = asyncio.Semaphore(self._limit)
        await places.acquire()
        return places


def awaits(concurrency: Any) -> bool:
    """Whether an asyncio program can take places of this object, as far as its type tells."""
    kinds = (threading.Semaphore, threading.Condition, type(threading.Lock()), type(threading.RLock()), Concurrency)
    return not isinstance(concurrency, kinds)


def task_of(loop: asyncio.AbstractEventLoop, work: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """A callback of the loop's thread that does the work in a task, and nothing once the loop is closed."""
    tasks: set[asyncio.Task[None]] = set()

    def start() -> None:
        if not loop.is_closed():
            task = loop.create_task(work())
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    return start


async def within(timeout: float | None, awaitable: Awaitable[_T]) -> _T:
    """Awaits something for at most `timeout` seconds, or raises asyncio.TimeoutError.

    `asyncio.wait_for` is not used, because before Python 3.12 it loses a cancellation that comes with the result.
    """
    if timeout is None:
        return await awaitable
    if sys.version_info >= (3, 11):
        async with asyncio.timeout(timeout):
            return await awaitable
    return await within_by_timer(timeout, awaitable)


async def within_by_timer(timeout: float, awaitable: Awaitable[_T]) -> _T:
    """`within` for Python 3.10, which has no `asyncio.timeout`."""
    task = asyncio.current_task()
    is_over = False

    def cancel() -> None:
        nonlocal is_over
        is_over = True
        if task is not None:
            task.cancel()

    timer = asyncio.get_running_loop().call_later(timeout, cancel)
    try:
        return await awaitable
    except asyncio.CancelledError:
        if is_over:
            raise asyncio.TimeoutError from None
        raise
    finally:
        timer.cancel()


async def read_body(response: Any) -> bytes | None:
    """The body of a response; None if it is a stream that cannot be read here."""
    try:
        content = getattr(response, "content", None)
        if isinstance(content, bytes):
            return content
        body = response.read() if hasattr(response, "read") else None
        body = await body if inspect.isawaitable(body) else body
    except Exception:  # noqa: BLE001 (the program is to get the response, and its own error when it reads it)
        return None
    return body if isinstance(body, bytes) else None


for _public in (AsyncCall, AsyncOutbound):
    _public.__module__ = "tidegate"
