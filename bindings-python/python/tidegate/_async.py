"""`AsyncLimiter`: the limiter for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Concatenate, Literal, ParamSpec, SupportsIndex, TypeVar
from weakref import WeakKeyDictionary, ref

from tidegate._clients import async_store
from tidegate._errors import StoreError
from tidegate._tidegate import (
    Decision,
    FakeClock,
    Limit,
    Limiter,
    Pressure,
    Reservation,
    StoreHealth,
    _Completions,
)

if TYPE_CHECKING:
    from tidegate._tidegate import _AsyncClient, _Check, _Key, _Lease

_P = ParamSpec("_P")
_T = TypeVar("_T")


class AsyncLimiter:
    """`Limiter` for asyncio: the same arguments, methods and errors, awaitable.

    It can be used from any number of event loops. A call in memory completes at
    once, but for `acquire`, which sleeps until its slot; a call on Redis leaves the loop
    free. Cancelling one does not call it back: what was asked for may still be charged.
    Only a slot is given back, when `reserve` or `acquire` is cancelled.

    >>> import asyncio
    >>> async def main():
    ...     async with AsyncLimiter("10/s") as limiter:
    ...         return await limiter.check("user:42", cost=3)
    >>> asyncio.run(main()).remaining
    7
    """

    __slots__ = ("_limiter",)

    def __init__(
        self,
        *limits: Limit | str,
        store: str | _AsyncClient = "memory://",
        prefix: str = "tidegate",
        store_timeout: float = 0.05,
        clock: FakeClock | None = None,
        max_keys: SupportsIndex | None = None,
        on_full: Literal["evict_idlest", "deny"] | None = None,
        on_store_error: Literal["raise", "allow", "deny", "local"] | None = None,
        peers: SupportsIndex | None = None,
        deny_cache: float | None = None,
        lease: _Lease | None = None,
    ) -> None:
        self._limiter = Limiter(
            *limits,
            store=async_store(store),
            prefix=prefix,
            store_timeout=store_timeout,
            clock=clock,
            max_keys=max_keys,
            on_full=on_full,
            on_store_error=on_store_error,
            peers=peers,
            deny_cache=deny_cache,
            lease=lease,
        )

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits, in the order given."""
        return self._limiter.limits

    @property
    def pressure(self) -> Pressure:
        """What could not be kept for want of room; see `Limiter.pressure`."""
        return self._limiter.pressure

    @property
    def store_health(self) -> StoreHealth:
        """How the store has done; see `Limiter.store_health`."""
        return self._limiter.store_health

    async def check(self, key: _Key, cost: SupportsIndex = 1) -> Decision:
        """Spends `cost` tokens of `key` if every limit allows; see `Limiter.check`."""
        limiter = self._limiter
        if not limiter._is_remote:
            return limiter.check(key, cost)
        if limiter._is_leased:
            decision = limiter._check_leased(key, cost)
            if decision is not None:
                return decision
        carrier = limiter._carrier
        if carrier is not None:
            over_client: Decision = await carrier.check(limiter, key, cost)
            return over_client
        loop = asyncio.get_running_loop()
        completions = _completions_of(loop)
        if completions is None:
            return await _start(limiter.check, _Completions.check, limiter, key, cost)
        future: asyncio.Future[Decision] = loop.create_future()
        completions.check(future, limiter, key, cost)
        return await future

    async def check_many(self, checks: Iterable[_Check]) -> list[Decision]:
        """Many checks in one go, each decided by itself; see `Limiter.check_many`."""
        limiter = self._limiter
        if not limiter._is_remote:
            return limiter.check_many(checks)
        return await _start(limiter.check_many, _Completions.check_many, limiter, checks)

    async def peek(self, key: _Key) -> Decision:
        """What `check` with a cost of 0 answers: always allowed, spends nothing."""
        return await self.check(key, 0)

    async def reserve(
        self, key: _Key, cost: SupportsIndex = 1, *, max_wait: float | None = None
    ) -> AsyncReservation:
        """Takes the next slot if it is at most `max_wait` away; see `Limiter.reserve`."""
        return AsyncReservation(await self._reserve(key, cost, max_wait))

    async def acquire(
        self, key: _Key, cost: SupportsIndex = 1, *, timeout: float | None = None
    ) -> Decision:
        """Waits until `cost` tokens may be spent, and spends them; see `Limiter.acquire`.

        It reserves its slot once and sleeps once, with `asyncio.sleep`, so that callers go first
        come, first served. A slot later than `timeout` seconds raises `RateLimited` at once.
        Cancelled, it gives its slot back. With a `FakeClock` nobody sleeps: the clock is moved
        on to the slot, after the loop's other tasks have had a turn.

        >>> import asyncio
        >>> clock = FakeClock()
        >>> limiter = AsyncLimiter("2/s burst 1", clock=clock)
        >>> async def main():
        ...     await asyncio.gather(*(limiter.acquire("vendor") for _ in range(5)))
        >>> asyncio.run(main())
        >>> clock.now() / 1e9
        2.0
        """
        reservation = await self._reserve(key, cost, timeout)
        reservation._require(key)
        try:
            if reservation._is_fake:
                await asyncio.sleep(0)
                reservation._advance()
            elif reservation.delay > 0:
                await asyncio.sleep(reservation.delay)
        except asyncio.CancelledError:
            # Awaited, so that the slot is back when the cancelled task ends.
            with suppress(StoreError):
                await AsyncReservation(reservation).cancel()
            raise
        except BaseException:
            reservation._abandon()
            raise
        return reservation.decision

    async def settle(self, key: _Key, charged: SupportsIndex, actual: SupportsIndex) -> Decision:
        """Corrects a charge once its true size is known; see `Limiter.settle`."""
        limiter = self._limiter
        if not limiter._is_remote:
            return limiter.settle(key, charged, actual)
        return await _start(limiter.settle, _Completions.settle, limiter, key, charged, actual)

    async def credit(self, key: _Key, tokens: SupportsIndex) -> Decision:
        """Gives `tokens` back, never above full; see `Limiter.credit`."""
        limiter = self._limiter
        if not limiter._is_remote:
            return limiter.credit(key, tokens)
        return await _start(limiter.credit, _Completions.credit, limiter, key, tokens)

    async def hold(self, key: _Key, wait: float) -> Decision:
        """Pauses for `wait` seconds, because the far side said so; see `Limiter.hold`."""
        limiter = self._limiter
        if not limiter._is_remote:
            return limiter.hold(key, wait)
        return await _start(limiter.hold, _Completions.hold, limiter, key, wait)

    async def reset(self, key: _Key) -> Decision:
        """Forgets all that the buckets owe, holds included; see `Limiter.reset`."""
        limiter = self._limiter
        if not limiter._is_remote:
            return limiter.reset(key)
        return await _start(limiter.reset, _Completions.reset, limiter, key)

    async def close(self) -> None:
        """Lets go of the limiter: later calls raise `StoreError`."""
        completions = _completions_of(asyncio.get_running_loop())
        if completions is not None:
            completions.send()
        if self._limiter._is_leased:
            # It gives back what is leased, and waits for the store.
            await asyncio.to_thread(self._limiter.close)
        else:
            self._limiter.close()

    async def __aenter__(self) -> AsyncLimiter:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return repr(self._limiter).replace("Limiter", "AsyncLimiter", 1)

    async def _reserve(
        self, key: _Key, cost: SupportsIndex, max_wait: float | None
    ) -> Reservation:
        limiter = self._limiter
        if not limiter._is_remote:
            return limiter.reserve(key, cost, max_wait=max_wait)

        def blocking(key: _Key, cost: SupportsIndex, max_wait: float | None) -> Reservation:
            return limiter.reserve(key, cost, max_wait=max_wait)

        reserving = _start(blocking, _Completions.reserve, limiter, key, cost, max_wait)
        try:
            return await asyncio.shield(reserving)
        except BaseException:
            # The slot that nobody waits for any more goes back when it comes.
            reserving.add_done_callback(_give_back)
            raise


class AsyncReservation:
    """`Reservation` for asyncio: the same fields, and methods that are awaitable.

    Made by `AsyncLimiter.reserve`. Like it, it is true when it is allowed.

    >>> import asyncio
    >>> limiter = AsyncLimiter("60000/min", clock=FakeClock())
    >>> async def main():
    ...     reservation = await limiter.reserve("model", cost=4_000)
    ...     await asyncio.sleep(reservation.delay)
    ...     return await reservation.settle(actual=1_500)  # what the call turned out to cost
    >>> asyncio.run(main()).remaining
    58500
    """

    __slots__ = ("_reservation",)

    def __init__(self, reservation: Reservation) -> None:
        self._reservation = reservation

    @property
    def allowed(self) -> bool:
        """Whether the tokens were charged."""
        return self._reservation.allowed

    @property
    def delay(self) -> float:
        """Seconds to wait before spending, from when it was made; infinite when it is refused."""
        return self._reservation.delay

    @property
    def decision(self) -> Decision:
        """The buckets after the charge, or the refusal; see `Reservation.decision`."""
        return self._reservation.decision

    @property
    def cost(self) -> int:
        """The tokens that were asked for."""
        return self._reservation.cost

    async def cancel(self) -> bool:
        """Gives an unused slot back, and says whether all of it came back; see `Reservation.cancel`."""
        reservation = self._reservation
        if not reservation._is_remote:
            return reservation.cancel()
        return await _start(reservation.cancel, _Completions.cancel_reservation, reservation)

    async def settle(self, actual: SupportsIndex) -> Decision:
        """Corrects the charge once its true size is known; see `Reservation.settle`."""
        reservation = self._reservation
        if not reservation._is_remote:
            return reservation.settle(actual)
        return await _start(
            reservation.settle, _Completions.settle_reservation, reservation, actual
        )

    def __bool__(self) -> bool:
        return self._reservation.allowed

    def __repr__(self) -> str:
        return f"Async{self._reservation!r}"


for _public in (AsyncLimiter, AsyncReservation):
    _public.__module__ = "tidegate"

_O = TypeVar("_O", Limiter, Reservation)


def _start(
    blocking: Callable[_P, _T],
    starting: Callable[Concatenate[_Completions, asyncio.Future[_T], _O, _P], object],
    on: _O,
    *arguments: _P.args,
    **named: _P.kwargs,
) -> asyncio.Future[_T]:
    """Starts an operation on the store, whose answer comes without blocking the loop."""
    loop = asyncio.get_running_loop()
    carrier = on._carrier
    if carrier is not None:
        future: asyncio.Future[_T] = loop.create_future()
        starting(carrier.completions, future, on, *arguments, **named)
        # What needs no trip, such as a mistake in the arguments, is answered already.
        carrier.completions.deliver()
        return future
    completions = _completions_of(loop)
    if completions is None:
        # Threads serve any loop, if slower.
        return loop.run_in_executor(None, lambda: blocking(*arguments, **named))
    future = loop.create_future()
    starting(completions, future, on, *arguments, **named)
    return future


def _give_back(reserving: asyncio.Future[Reservation]) -> None:
    if not reserving.cancelled() and reserving.exception() is None:
        reserving.result()._abandon()


# Each loop's own, for as long as the loop watches it, which ends when it is closed: pending
# futures would keep the loop itself, and so their answers.
_completions: WeakKeyDictionary[asyncio.AbstractEventLoop, ref[_Completions]] = WeakKeyDictionary()


# The loop that was asked for last, and its completions: most programs have only one loop.
_latest: tuple[ref[asyncio.AbstractEventLoop], ref[_Completions]] | None = None


def _completions_of(loop: asyncio.AbstractEventLoop) -> _Completions | None:
    """What completes the loop's futures; None where the loop cannot watch a socket."""
    global _latest
    # Read once: another thread may replace it between two reads.
    latest = _latest
    if latest is not None and latest[0]() is loop:
        completions = latest[1]()
        if completions is not None:
            return completions
    watched = _completions.get(loop)
    completions = watched() if watched is not None else None
    if completions is None:
        completions = _Completions(watched=True)
        try:
            loop.add_reader(completions.fileno(), completions.deliver)
        except NotImplementedError:
            return None
        _completions[loop] = ref(completions)
    _latest = ref(loop), ref(completions)
    return completions
