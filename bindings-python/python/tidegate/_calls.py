"""How the operations of an `AsyncLimiter` are started, which depends on its store.

`calls_of` decides it once for each limiter: in memory they are carried out at once, over a URL the
I/O thread carries them out, and over a client that the program brings its transport does.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, TypeVar

from tidegate._completions import completions_of, running_loop
from tidegate._tidegate import Limiter, Reservation, _Completions

if TYPE_CHECKING:
    from tidegate._tidegate import Decision, _Cost, _Key, _Seconds

_P = ParamSpec("_P")
_T = TypeVar("_T")
_O = TypeVar("_O", Limiter, Reservation)


class Calls(Protocol):
    """Starts operations on one kind of store, without blocking the event loop."""

    def start(
        self,
        blocking: Callable[Concatenate[_O, _P], _T],
        starting: Callable[Concatenate[_Completions, asyncio.Future[_T], _O, _P], object],
        on: _O,
        /,
        *arguments: _P.args,
        **named: _P.kwargs,
    ) -> Awaitable[_T]:
        """Starts an operation `on` a limiter or a reservation.

        `blocking` is the method that carries it out, and `starting` the method of `_Completions`
        that starts it.
        """

    def check(self, limiter: Limiter, key: _Key, cost: _Cost) -> Awaitable[Decision]:
        """Starts a check that needs the store."""

    def reserve(
        self, limiter: Limiter, key: _Key, cost: _Cost, max_wait: _Seconds | None
    ) -> Awaitable[Reservation]:
        """Starts a reservation. It is given back if its caller is cancelled before it is made."""


    def use_running_loop(self) -> None:
        """Lets what a waiting line asks of the store be sent on the running event loop."""


class MemoryCalls:
    """Carries operations out at once, so that awaiting one does not leave the loop's turn."""

    async def start(
        self,
        blocking: Callable[Concatenate[_O, _P], _T],
        _starting: Callable[Concatenate[_Completions, asyncio.Future[_T], _O, _P], object],
        on: _O,
        /,
        *arguments: _P.args,
        **named: _P.kwargs,
    ) -> _T:
        return blocking(on, *arguments, **named)

    async def check(self, limiter: Limiter, key: _Key, cost: _Cost) -> Decision:
        return limiter.check(key, cost)

    async def reserve(
        self, limiter: Limiter, key: _Key, cost: _Cost, max_wait: _Seconds | None
    ) -> Reservation:
        return limiter.reserve(key, cost, max_wait=max_wait)

    def use_running_loop(self) -> None:
        pass


class RemoteCalls(ABC):
    """Starts operations on a store that answers later."""

    @abstractmethod
    def start(
        self,
        blocking: Callable[Concatenate[_O, _P], _T],
        starting: Callable[Concatenate[_Completions, asyncio.Future[_T], _O, _P], object],
        on: _O,
        /,
        *arguments: _P.args,
        **named: _P.kwargs,
    ) -> asyncio.Future[_T]: ...

    @abstractmethod
    def use_running_loop(self) -> None: ...

    def check(self, limiter: Limiter, key: _Key, cost: _Cost) -> Awaitable[Decision]:
        return self.start(Limiter.check, _Completions.check, limiter, key, cost)

    async def reserve(
        self, limiter: Limiter, key: _Key, cost: _Cost, max_wait: _Seconds | None
    ) -> Reservation:
        reserving = self.start(
            _reserve_blocking, _Completions.reserve, limiter, key, cost, max_wait
        )
        try:
            return await asyncio.shield(reserving)
        except BaseException:
            # No caller waits for the slot any more: it goes back when it comes.
            reserving.add_done_callback(_give_back)
            raise


class IoThreadCalls(RemoteCalls):
    """Lets the I/O thread of the native module carry operations out, for any number of loops."""

    def start(
        self,
        blocking: Callable[Concatenate[_O, _P], _T],
        starting: Callable[Concatenate[_Completions, asyncio.Future[_T], _O, _P], object],
        on: _O,
        /,
        *arguments: _P.args,
        **named: _P.kwargs,
    ) -> asyncio.Future[_T]:
        loop = running_loop()
        completions = completions_of(loop)
        if completions is None:
            # The loop cannot watch a socket. Threads serve any loop, only more slowly.
            return loop.run_in_executor(None, lambda: blocking(on, *arguments, **named))
        future: asyncio.Future[_T] = loop.create_future()
        starting(completions, future, on, *arguments, **named)
        return future

    def use_running_loop(self) -> None:
        pass


def calls_of(limiter: Limiter) -> Calls:
    """How the operations of this limiter, and of its reservations, are started."""
    if not limiter._is_remote:
        return MemoryCalls()
    transport: Calls | None = limiter._transport
    return transport if transport is not None else IoThreadCalls()


def _reserve_blocking(
    limiter: Limiter, key: _Key, cost: _Cost, max_wait: _Seconds | None
) -> Reservation:
    return limiter.reserve(key, cost, max_wait=max_wait)


def _give_back(reserving: asyncio.Future[Reservation]) -> None:
    if not reserving.cancelled() and reserving.exception() is None:
        reserving.result()._abandon()
