"""`AsyncLimiter`: the limiter for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

from tidegate._calls import calls_of
from tidegate._charge import AsyncReserving
from tidegate._clients import async_store
from tidegate._completions import completions_of, running_loop
from tidegate._errors import InvalidArgument, StoreError
from tidegate._tidegate import (
    Decision,
    FakeClock,
    Limit,
    Limiter,
    Pressure,
    Reservation,
    StoreHealth,
    Waiting,
    _Completions,
)

if TYPE_CHECKING:
    from typing_extensions import Self

    from tidegate._calls import Calls
    from tidegate._tidegate import (
        _AsyncClient,
        _Check,
        _Cost,
        _Key,
        _Lease,
        _Limits,
        _Seconds,
    )



class AsyncLimiter:
    """`Limiter` for asyncio: the same arguments, methods and errors, awaitable.

    It can be used from any number of event loops. A call in memory completes at once, except
    `acquire`, which waits for tokens; a call on Redis leaves the loop free. Cancelling a call
    does not undo it: what was asked for may still be charged. Only a slot is given back when
    `reserve` or `acquire` is cancelled.

    >>> import asyncio
    >>> async def main():
    ...     async with AsyncLimiter("10/s") as limiter:
    ...         return await limiter.check("user:42", cost=3)
    >>> asyncio.run(main()).remaining
    7
    """

    __slots__ = ("__dict__", "__weakref__", "_calls", "_limiter")  # the dict is for mocks of methods

    def __init__(
        self,
        *limits: Limit | str,
        store: str | _AsyncClient = "memory://",
        prefix: str | None = None,
        store_timeout: _Seconds = 0.05,
        clock: FakeClock | None = None,
        max_keys: SupportsIndex | None = None,
        on_full: Literal["evict_idlest", "deny"] | None = None,
        on_store_error: Literal["raise", "allow", "deny", "local"] | None = None,
        peers: SupportsIndex | None = None,
        deny_cache: _Seconds | None = None,
        lease: _Lease | None = None,
        max_waiting: SupportsIndex | None = None,
        per_key_calls: bool = False,
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
            max_waiting=max_waiting,
            per_key_calls=per_key_calls,
        )
        self._calls = calls_of(self._limiter)

    @classmethod
    def of(cls, limiter: Limiter) -> Self:
        """The asyncio side of an existing `Limiter`: both spend from the same buckets.

        It is for a program that has threads and an event loop, such as a web application with
        `def` and `async def` endpoints. In memory, two limiters of their own would have a bucket
        each. Callers that wait in `acquire` stand in one line for each key, whichever side they use.
        Closing one side closes the other.

        Raises `InvalidArgument` for a limiter over a Redis client of the program's own, which
        blocks: give each side its own client, and both the same `prefix`.

        >>> import asyncio
        >>> limiter = Limiter("2/d")
        >>> limiter.check("user:42").remaining
        1
        >>> asyncio.run(AsyncLimiter.of(limiter).check("user:42")).remaining
        0
        """
        if not isinstance(limiter, Limiter):
            raise TypeError(f"limiter must be a Limiter, not {type(limiter).__name__}")
        if limiter._transport is not None:
            raise InvalidArgument(
                "invalid limiter: its store is a client that blocks, which would stop the event loop; "
                "make an AsyncLimiter with a client of redis.asyncio and the same prefix"
            )
        made = cls.__new__(cls)
        made._limiter = limiter
        made._calls = calls_of(limiter)
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return self._limiter.__reduce__()

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits, in the order given."""
        return self._limiter.limits

    @property
    def pressure(self) -> Pressure:
        """Counts what could not be kept because there was no room; see `Limiter.pressure`."""
        return self._limiter.pressure

    @property
    def store_health(self) -> StoreHealth:
        """How the store has done; see `Limiter.store_health`."""
        return self._limiter.store_health

    async def check(
        self, key: _Key, cost: _Cost = 1, *, limits: _Limits | None = None
    ) -> Decision:
        """Spends `cost` tokens of `key` if every limit allows; see `Limiter.check`."""
        if limits is not None:
            return await self._under(limits).check(key, cost)
        limiter = self._limiter
        decision = limiter._check_without_store(key, cost)
        if decision is not None:
            return decision
        return await self._calls.check(limiter, key, cost)

    async def check_many(
        self, checks: Iterable[_Check], *, limits: _Limits | None = None
    ) -> list[Decision]:
        """Makes many checks in one go, each decided by itself; see `Limiter.check_many`."""
        if limits is not None:
            return await self._under(limits).check_many(checks)
        return await self._calls.start(
            Limiter.check_many, _Completions.check_many, self._limiter, checks
        )

    async def peek(
        self, key: _Key, cost: _Cost = 1, *, limits: _Limits | None = None
    ) -> Decision:
        """Answers what `check` would answer now, and spends nothing; see `Limiter.peek`.

        >>> import asyncio
        >>> limiter = AsyncLimiter("2/d")
        >>> async def main():
        ...     await limiter.check("job", cost=2)
        ...     return [await limiter.peek("job", cost) for cost in (0, 1)]
        >>> [decision.allowed for decision in asyncio.run(main())]
        [True, False]
        """
        if limits is not None:
            return await self._under(limits).peek(key, cost)
        return await self._calls.start(
            Limiter.peek, _Completions.peek, self._limiter, key, cost
        )

    async def reserve(
        self,
        key: _Key,
        cost: _Cost = 1,
        *,
        max_wait: _Seconds | None = None,
        limits: _Limits | None = None,
    ) -> AsyncReservation:
        """Takes the next slot if it is at most `max_wait` away; see `Limiter.reserve`."""
        if limits is not None:
            return await self._under(limits).reserve(key, cost, max_wait=max_wait)
        reservation = await self._calls.reserve(self._limiter, key, cost, max_wait)
        return AsyncReservation(reservation, self._calls)

    async def acquire(
        self,
        key: _Key,
        cost: _Cost = 1,
        *,
        timeout: _Seconds | None = None,
        limits: _Limits | None = None,
    ) -> Decision:
        """Waits until `cost` tokens may be spent, and spends them; see `Limiter.acquire`.

        Callers for one key wait in a line, first come, first served, whatever their event loop.
        Tokens that would come later than `timeout` seconds raise `RateLimited` at once. When it is
        cancelled, by `asyncio.timeout` for example, it leaves the line, and those behind it move up.
        With a `FakeClock` nobody waits: the clock is moved to the slot, after the loop's other
        tasks have had a turn.

        >>> import asyncio
        >>> clock = FakeClock()
        >>> limiter = AsyncLimiter("2/s burst 1", clock=clock)
        >>> async def main():
        ...     await asyncio.gather(*(limiter.acquire("vendor") for _ in range(5)))
        >>> asyncio.run(main())
        >>> clock.now() / 1e9
        2.0
        """
        if limits is not None:
            return await self._under(limits).acquire(key, cost, timeout=timeout)
        limiter = self._limiter
        decision = limiter._acquire_now(key, cost)
        if decision is not None:
            return decision
        loop = running_loop()
        completions = None if limiter._has_fake_clock else completions_of(loop)
        if completions is None:
            return await self._acquire_alone(key, cost, timeout)
        self._calls.use_running_loop()
        future: asyncio.Future[Decision] = loop.create_future()
        waiter = completions.acquire(future, limiter, key, cost, timeout)
        try:
            return await future
        except BaseException:
            claimed = future.done() and not future.cancelled() and future.exception() is None
            waiter.leave(claimed=claimed)
            raise

    async def _acquire_alone(
        self, key: _Key, cost: _Cost, timeout: _Seconds | None
    ) -> Decision:
        """Reserves a slot and sleeps until then: on a `FakeClock`, on which nobody waits, and on a
        loop that cannot watch a socket, so that no line can wake it."""
        reservation = await self._calls.reserve(self._limiter, key, cost, timeout)
        reservation._require(key)
        try:
            if self._limiter._has_fake_clock:
                await asyncio.sleep(0)
                reservation._advance()
            elif reservation.delay > 0:
                await asyncio.sleep(reservation.delay)
        except asyncio.CancelledError:
            # Awaited, so that the slot is back when the cancelled task ends.
            with suppress(StoreError):
                await AsyncReservation(reservation, self._calls).cancel()
            raise
        except BaseException:
            reservation._abandon()
            raise
        return reservation.decision

    def reserving(
        self,
        key: _Key,
        cost: _Cost,
        timeout: _Seconds | None = None,
        *,
        on_error: Literal["cancel", "settle"] = "cancel",
        limits: _Limits | None = None,
    ) -> AsyncReserving:
        """Charges an estimate for an `async with` block; see `Limiter.reserving`.

        A task that is cancelled in the block cancels the charge too.

        >>> import asyncio
        >>> limiter = AsyncLimiter("60000/min", clock=FakeClock())
        >>> async def main():
        ...     async with limiter.reserving("model", cost=4_000, timeout=10) as charge:
        ...         used = 1_500  # call the model here
        ...         return await charge.settle(used)
        >>> asyncio.run(main()).remaining
        58500
        """
        if limits is not None:
            return self._under(limits).reserving(key, cost, timeout, on_error=on_error)
        return AsyncReserving(self, key, cost, timeout, on_error)

    def waiting(self, key: _Key, *, limits: _Limits | None = None) -> Waiting:
        """The callers that wait for `key` in `acquire`; see `Limiter.waiting`."""
        if limits is not None:
            return self._under(limits).waiting(key)
        return self._limiter.waiting(key)

    async def settle(
        self, key: _Key, charged: _Cost, actual: _Cost, *, limits: _Limits | None = None
    ) -> Decision:
        """Corrects a charge once its true size is known; see `Limiter.settle`."""
        if limits is not None:
            return await self._under(limits).settle(key, charged, actual)
        return await self._calls.start(
            Limiter.settle, _Completions.settle, self._limiter, key, charged, actual
        )

    async def credit(
        self, key: _Key, tokens: _Cost, *, limits: _Limits | None = None
    ) -> Decision:
        """Gives `tokens` back, never above full; see `Limiter.credit`."""
        if limits is not None:
            return await self._under(limits).credit(key, tokens)
        return await self._calls.start(
            Limiter.credit, _Completions.credit, self._limiter, key, tokens
        )

    async def hold(
        self, key: _Key, wait: _Seconds, *, limits: _Limits | None = None
    ) -> Decision:
        """Pauses for `wait` seconds, because the far side said so; see `Limiter.hold`."""
        if limits is not None:
            return await self._under(limits).hold(key, wait)
        return await self._calls.start(Limiter.hold, _Completions.hold, self._limiter, key, wait)

    async def reset(self, key: _Key, *, limits: _Limits | None = None) -> Decision:
        """Makes the buckets full, holds included; see `Limiter.reset`."""
        if limits is not None:
            return await self._under(limits).reset(key)
        return await self._calls.start(Limiter.reset, _Completions.reset, self._limiter, key)

    async def ping(self) -> None:
        """Asks the store once whether it serves this limiter, or raises; see `Limiter.ping`."""
        await self._calls.start(Limiter.ping, _Completions.ping, self._limiter)

    def _under(self, limits: _Limits) -> AsyncLimiter:
        """The same buckets under the limits of a call."""
        under = object.__new__(type(self))
        under._limiter = self._limiter._under(limits)
        under._calls = calls_of(under._limiter)
        return under

    async def close(self) -> None:
        """Closes the limiter: later calls raise `StoreError`."""
        completions = completions_of(running_loop())
        if completions is not None:
            completions.send()
        if self._limiter._is_leased:
            # This gives the leased tokens back, and waits for the store.
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


class AsyncReservation:
    """`Reservation` for asyncio: the same fields, and methods that are awaitable.

    `AsyncLimiter.reserve` makes it. Like a `Reservation`, it is true when it is allowed.

    >>> import asyncio
    >>> limiter = AsyncLimiter("60000/min", clock=FakeClock())
    >>> async def main():
    ...     reservation = await limiter.reserve("model", cost=4_000)
    ...     await asyncio.sleep(reservation.delay)
    ...     return await reservation.settle(actual=1_500)  # what the call turned out to cost
    >>> asyncio.run(main()).remaining
    58500
    """

    __slots__ = ("_calls", "_reservation")

    def __init__(self, reservation: Reservation, calls: Calls) -> None:
        self._reservation = reservation
        self._calls = calls

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
    def cost(self) -> int | tuple[int, ...]:
        """The tokens that were asked for."""
        return self._reservation.cost

    async def cancel(self) -> bool:
        """Gives an unused slot back, and says whether all of it came back; see `Reservation.cancel`."""
        return await self._calls.start(
            Reservation.cancel, _Completions.cancel_reservation, self._reservation
        )

    async def settle(self, actual: _Cost) -> Decision:
        """Corrects the charge once its true size is known; see `Reservation.settle`."""
        return await self._calls.start(
            Reservation.settle, _Completions.settle_reservation, self._reservation, actual
        )

    def __bool__(self) -> bool:
        return self._reservation.allowed

    def __repr__(self) -> str:
        return f"Async{self._reservation!r}"


for _public in (AsyncLimiter, AsyncReservation):
    _public.__module__ = "tidegate"
