"""Redis clients that the program brings: redis-py and redis.asyncio, or what behaves alike.

They do the I/O. What is sent, and what follows from the replies, is decided below.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, SupportsIndex
from weakref import WeakValueDictionary

from tidegate._errors import InvalidArgument
from tidegate._tidegate import _Carriage, _Completions, _Outbox

if TYPE_CHECKING:
    from tidegate._tidegate import Decision, Limiter, _Key, _Trip


class _BlockingCarrier:
    """Makes each call on the caller's thread, in a trip of its own."""

    outbox = None

    def __init__(self, client: Any) -> None:
        self._client = client
        self.apart = _is_cluster(client)

    def carry(self, trip: _Trip) -> None:
        try:
            commands = trip.commands()
            while commands:
                more = trip.take([_reply(value) for value in self._send(commands)])
                commands = trip.commands() if more else []
        except Exception as error:
            _fail(trip, error)

    def _send(self, commands: list[list[str | bytes]]) -> list[Any]:
        if len(commands) == 1:
            try:
                return [self._client.execute_command(*commands[0], NEVER_DECODE=True)]
            except Exception as error:
                return [error]
        with self._client.pipeline(transaction=False) as pipeline:
            for words in commands:
                pipeline.execute_command(*words, NEVER_DECODE=True)
            return list(pipeline.execute(raise_on_error=False))


# After so many trips for one caller each, nobody else is expected to ask at the same time.
_TRIPS_ALONE = 16
# Before Python 3.11 a task could not tell its own cancellation from others'.
_CAN_UNCANCEL = sys.version_info >= (3, 11)


class _AsyncCarrier:
    """Gathers the calls of one turn of the event loop, and sends those that come while a trip
    is under way with the next.

    A task of the carrier's own makes the trips, but for those of a caller who has been alone for a
    while: its own task does, as another one takes two more turns of the loop.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self.apart = _is_cluster(client)
        self.outbox = _Outbox()
        # No socket: what a trip brings is delivered in the turn in which it comes.
        self.completions = _Completions(watched=False)
        self._task: asyncio.Task[None] | None = None
        # How many trips in a row have been for one caller each, with nobody waiting at their end.
        self._alone = 0
        # Whether a caller sees to what waits, and no task is needed; and whether its trip is
        # under way.
        self._is_held = False
        self._is_riding = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._deadlines = _Deadlines(self.outbox, self.completions)

    async def check(self, limiter: Limiter, key: _Key, cost: SupportsIndex) -> Decision:
        """A check over the client."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Decision] = loop.create_future()
        holds = self._can_hold(loop)
        self._is_held |= holds
        try:
            self.completions.check(future, limiter, key, cost)
            # What needs no trip, such as a mistake in the arguments, is answered already.
            self.completions.deliver()
            if holds and len(self.outbox) == 1 and not future.done():
                (trip,) = self.outbox.depart(apart=self.apart)
                self._is_riding = True
                await self._carry(trip, caller=future)
        finally:
            if holds:
                self._is_held = self._is_riding = False
                if len(self.outbox) > 0:
                    self._alone = 0
                    self.wake()
        return future.result() if future.done() else await future

    def _can_hold(self, loop: asyncio.AbstractEventLoop) -> bool:
        is_idle = not self._is_held and (self._task is None or self._task.done())
        is_alone = self._alone >= _TRIPS_ALONE and len(self.outbox) == 0
        return _CAN_UNCANCEL and is_idle and is_alone and self._loop is loop

    def wake(self) -> None:
        """Sees to it that what waits is carried."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            # A slot that nobody holds any more goes back from wherever that was noticed.
            if self._loop is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self.wake)
            return
        if self._is_held and self._loop is loop:
            if self._is_riding:
                self._deadlines.watch_waiting()
        elif self._task is None or self._task.done() or self._loop is not loop:
            if self._loop is not loop:
                self._loop = loop
                # Another loop's caller holds nothing here; after a fork it does not exist.
                self._is_held = self._is_riding = False
                self._deadlines = _Deadlines(self.outbox, self.completions)
            self._task = loop.create_task(self._travel())
        else:
            self._deadlines.watch_waiting()

    async def _travel(self) -> None:
        while (count := len(self.outbox)) > 0:
            trips = self.outbox.depart(apart=self.apart)
            if len(trips) == 1:
                await self._carry(trips[0])
            else:
                await asyncio.gather(*map(self._carry, trips))
            self._alone = self._alone + 1 if count == 1 and len(self.outbox) == 0 else 0

    async def _carry(self, trip: _Trip, caller: asyncio.Future[Any] | None = None) -> None:
        callers = _Callers(trip, self.completions)
        deadlines = self._deadlines
        deadlines.watch(callers)
        try:
            commands = trip.commands()
            while commands:
                if len(commands) == 1:
                    replies = [await self._send(commands[0])]
                else:
                    replies = await self._send_all(commands)
                more = trip.take([_reply(value) for value in replies])
                commands = trip.commands() if more else []
        except asyncio.CancelledError as cancelled:
            if not callers.have_cancelled():
                if caller is None:
                    _fail(trip, cancelled)
                else:
                    caller.cancel()
                    trip.abandon()
                raise
        except Exception as error:
            _fail(trip, error)
        finally:
            deadlines.forget(callers)
            self.completions.deliver()

    async def _send(self, words: list[str | bytes]) -> Any:
        try:
            return await self._client.execute_command(*words, NEVER_DECODE=True)
        except Exception as error:
            return error

    async def _send_all(self, commands: list[list[str | bytes]]) -> list[Any]:
        async with self._client.pipeline(transaction=False) as pipeline:
            for words in commands:
                pipeline.execute_command(*words, NEVER_DECODE=True)
            return list(await pipeline.execute(raise_on_error=False))


class _Callers:
    """Those who wait for a trip that this task makes: each is answered in time, and when nobody
    is left the task is cancelled."""

    def __init__(self, trip: _Trip, completions: _Completions) -> None:
        self.are_gone = False
        self.trip = trip
        self._completions = completions
        self._task = asyncio.current_task()
        self._cancelled_before = 0
        if sys.version_info >= (3, 11) and self._task is not None:
            self._cancelled_before = self._task.cancelling()

    def have_cancelled(self) -> bool:
        """Whether it is for them alone that this task has been cancelled."""
        if sys.version_info >= (3, 11) and self.are_gone and self._task is not None:
            return self._task.uncancel() <= self._cancelled_before
        return self.are_gone

    def expire(self) -> float | None:
        """Answers those who have waited long enough; seconds until the next one will have."""
        left = self.trip.expire()
        self._completions.deliver()
        if left is None and self._task is not None:
            self.are_gone = True
            self._task.cancel()
        return left


class _Deadlines:
    """When those who wait on a loop, for a trip to begin or to end, have waited long enough.

    One timer for all of them, which is left to run out: setting and cancelling one for each trip
    takes as long as planning it.
    """

    def __init__(self, outbox: _Outbox, completions: _Completions) -> None:
        self._outbox = outbox
        self._completions = completions
        self._watched: set[_Callers] = set()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, callers: _Callers) -> None:
        self._watched.add(callers)
        # If nobody waits even now, a trip with nothing to send is over before that.
        self._look_in(callers.trip.expire() or 0)

    def forget(self, callers: _Callers) -> None:
        self._watched.discard(callers)

    def watch_waiting(self) -> None:
        """Those who wait for the next trip may not want to for as long as this one takes."""
        left = self._outbox.left()
        if left is not None:
            self._look_in(left)

    def _look_in(self, left: float) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + left
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = loop.call_at(due, self._look)

    def _look(self) -> None:
        self._timer = None
        waiting = self._outbox.expire()
        self._completions.deliver()
        for left in [waiting, *(callers.expire() for callers in list(self._watched))]:
            if left is not None:
                self._look_in(left)


def _reply(value: Any) -> Any:
    """What the trip takes: a script's answer, or the server's refusal with its text."""
    if not isinstance(value, Exception):
        return value
    if not _is(value, "ResponseError"):
        raise value
    # The one code that redis-py leaves out of the text and that matters.
    return value, f"NOSCRIPT {value}" if _is(value, "NoScriptError") else str(value)


def _fail(trip: _Trip, error: BaseException) -> None:
    message = f"{type(error).__name__}: {error}"
    trip.fail(message, error, timed_out=_is(error, "TimeoutError"))


def _is(error: BaseException, name: str) -> bool:
    return any(of.__name__ == name for of in type(error).__mro__)


# By the id of the client, which lives as long as its carriage: one for each client, so that its
# limiters' calls travel together.
_carriages: WeakValueDictionary[int, _Carriage] = WeakValueDictionary()


def carriage_of(store: Any) -> _Carriage:
    """How `Limiter` reaches a client."""
    if isinstance(store, _Carriage):
        return store
    kind = _kind_of(store)
    if kind is _AsyncCarrier:
        raise InvalidArgument("invalid store: it is a client for asyncio; use AsyncLimiter")
    return _carriage(kind, store)


def async_store(store: Any) -> Any:
    """What `AsyncLimiter` gives to `Limiter` as its store."""
    if isinstance(store, str):
        return store
    kind = _kind_of(store)
    if kind is _BlockingCarrier:
        raise InvalidArgument(
            "invalid store: it is a client that blocks, which would stop the event loop; "
            "give AsyncLimiter one of redis.asyncio"
        )
    return _carriage(kind, store)


def _carriage(kind: Callable[[Any], Any], client: Any) -> _Carriage:
    carriage = _carriages.get(id(client))
    if carriage is None:
        carriage = _carriages[id(client)] = _Carriage(kind(client))
    return carriage


def _kind_of(store: Any) -> type[_BlockingCarrier | _AsyncCarrier]:
    execute = getattr(type(store), "execute_command", None)
    if not callable(execute) or not callable(getattr(type(store), "pipeline", None)):
        raise TypeError(f"store must be a URL or a Redis client, not {type(store).__name__}")
    return _AsyncCarrier if inspect.iscoroutinefunction(execute) else _BlockingCarrier


def _is_cluster(client: Any) -> bool:
    return callable(getattr(type(client), "get_node_from_key", None))
