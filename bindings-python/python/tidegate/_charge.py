"""`Limiter.reserving` and `AsyncLimiter.reserving`: a charge at an estimate, held while a block runs."""

from __future__ import annotations

import operator
import threading
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from tidegate._errors import InvalidArgument, StoreError

if TYPE_CHECKING:
    import asyncio

    from tidegate._async import AsyncLimiter
    from tidegate._tidegate import Decision, Limiter, _Cost, _Key, _Seconds


def _numbers(cost: _Cost) -> int | tuple[int, ...]:
    if hasattr(cost, "__index__"):
        return operator.index(cost)
    return tuple(operator.index(tokens) for tokens in cost)


class _Estimate:
    """What `Charge` and `AsyncCharge` share: one `settle` or `cancel` ends it, in whatever thread."""

    __slots__ = ("_cost", "_decision", "_ended", "_in_doubt", "_key")

    def __init__(self, key: _Key, cost: _Cost, decision: Decision) -> None:
        self._key = key
        self._cost = _numbers(cost)
        self._decision = decision
        # A lock that is taken once: of two threads that end the charge, one succeeds.
        self._ended = threading.Lock()
        self._in_doubt = False

    @property
    def decision(self) -> Decision:
        """The decision of `acquire`: the buckets after the charge."""
        return self._decision

    @property
    def cost(self) -> int | tuple[int, ...]:
        """The tokens that were charged, which is the estimate: a number, or one for each limit."""
        return self._cost

    def _end(self) -> bool:
        """Ends the charge, and says whether it had not ended before."""
        return self._ended.acquire(blocking=False)

    def _end_to_settle(self) -> None:
        if not self._end():
            message = "it has been cancelled or settled before, or its block has ended"
            raise InvalidArgument(f"invalid charge: {message}")

    def _reopen(self, error: Exception) -> None:
        """Lets a correction that failed be tried again."""
        self._in_doubt |= isinstance(error, StoreError)
        self._ended.release()

    def _end_block(self, exc_type: type[BaseException] | None, on_error: str) -> bool:
        """Ends the charge with its block, and says whether its tokens are to be given back.

        Nothing comes back after a correction that the store may have carried out: tokens must not
        come back twice.
        """
        return self._end() and exc_type is not None and on_error == "cancel" and not self._in_doubt

    def __repr__(self) -> str:
        return f"{type(self).__name__}(cost={self._cost}, decision={self._decision!r})"


class Charge(_Estimate):
    """Tokens that are charged at an estimate while a block runs. `Limiter.reserving` makes it.

    A call of `settle` or `cancel` corrects the charge, once, before the block ends. Otherwise the
    estimate stays charged, or is given back if an exception leaves the block.

    >>> limiter = Limiter("60000/min", clock=FakeClock())
    >>> with limiter.reserving("model", cost=4_000) as charge:
    ...     left = charge.decision.remaining
    ...     charge.settle(actual=1_500).remaining  # what the call turned out to cost
    58500
    >>> left, charge.cost
    (56000, 4000)
    """

    __slots__ = ("_limiter",)

    def __init__(self, limiter: Limiter, key: _Key, cost: _Cost, decision: Decision) -> None:
        super().__init__(key, cost, decision)
        self._limiter = limiter

    def settle(self, actual: _Cost) -> Decision:
        """Corrects the charge to the tokens that were used, as `Limiter.settle` does.

        What is given back goes to those who wait in `acquire`. After an error it can be called
        again; after StoreTimeout the store may have corrected the charge already.

        Raises InvalidArgument when it has been cancelled or settled before, or its block has
        ended, and the errors of `Limiter.settle`.
        """
        self._end_to_settle()
        try:
            return self._limiter.settle(self._key, self._cost, actual)
        except Exception as error:
            self._reopen(error)
            raise

    def cancel(self) -> bool:
        """Gives all of the tokens back, and says so.

        False when it has been cancelled or settled before, or its block has ended.

        Raises the errors of `Limiter.settle`, after which it can be called again.

        >>> limiter = Limiter("60000/min", clock=FakeClock())
        >>> with limiter.reserving("model", cost=4_000) as charge:
        ...     charge.cancel(), charge.cancel(), limiter.peek("model", 0).remaining
        (True, False, 60000)
        """
        if not self._end():
            return False
        try:
            self._limiter.settle(self._key, self._cost, 0)
        except Exception as error:
            self._reopen(error)
            raise
        return True


class AsyncCharge(_Estimate):
    """`Charge` for asyncio: the same fields, and methods that are awaitable.

    `AsyncLimiter.reserving` makes it.

    >>> import asyncio
    >>> limiter = AsyncLimiter("60000/min", clock=FakeClock())
    >>> async def main():
    ...     async with limiter.reserving("model", cost=4_000) as charge:
    ...         return await charge.settle(actual=1_500)  # what the call turned out to cost
    >>> asyncio.run(main()).remaining
    58500
    """

    __slots__ = ("_limiter",)

    def __init__(self, limiter: AsyncLimiter, key: _Key, cost: _Cost, decision: Decision) -> None:
        super().__init__(key, cost, decision)
        self._limiter = limiter

    async def settle(self, actual: _Cost) -> Decision:
        """Corrects the charge to the tokens that were used; see `Charge.settle`."""
        self._end_to_settle()
        try:
            return await self._limiter.settle(self._key, self._cost, actual)
        except Exception as error:
            self._reopen(error)
            raise

    async def cancel(self) -> bool:
        """Gives all of the tokens back, and says so; see `Charge.cancel`."""
        if not self._end():
            return False
        try:
            await self._limiter.settle(self._key, self._cost, 0)
        except Exception as error:
            self._reopen(error)
            raise
        return True


class _Block:
    """The arguments of one `reserving`, which is entered once."""

    __slots__ = ("_cost", "_entered", "_key", "_on_error", "_timeout")

    def __init__(
        self, key: _Key, cost: _Cost, timeout: _Seconds | None, on_error: Literal["cancel", "settle"]
    ) -> None:
        if on_error not in ("cancel", "settle"):
            raise InvalidArgument(f'invalid on_error: it must be "cancel" or "settle", but is {on_error!r}')
        # The caller may change a list before the charge is corrected.
        self._key = tuple(key) if isinstance(key, list) else key
        self._cost = cost
        self._timeout = timeout
        self._on_error = on_error
        self._entered = False

    def _enter(self) -> None:
        if self._entered:
            raise InvalidArgument("invalid reserving: it has been entered before; each block needs one of its own")
        self._entered = True


class Reserving(_Block):
    """The context manager that `Limiter.reserving` returns."""

    __slots__ = ("_charge", "_limiter")

    def __init__(
        self,
        limiter: Limiter,
        key: _Key,
        cost: _Cost,
        timeout: _Seconds | None,
        on_error: Literal["cancel", "settle"] = "cancel",
    ) -> None:
        super().__init__(key, cost, timeout, on_error)
        self._limiter = limiter

    def __enter__(self) -> Charge:
        self._enter()
        decision = self._limiter.acquire(self._key, self._cost, timeout=self._timeout)
        self._charge = Charge(self._limiter, self._key, self._cost, decision)
        return self._charge

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        charge = self._charge
        if charge._end_block(exc_type, self._on_error):
            # The exception that leaves the block matters more than that of the store.
            with suppress(Exception):
                self._limiter.settle(self._key, charge.cost, 0)


class AsyncReserving(_Block):
    """The context manager that `AsyncLimiter.reserving` returns."""

    __slots__ = ("_charge", "_limiter")

    def __init__(
        self,
        limiter: AsyncLimiter,
        key: _Key,
        cost: _Cost,
        timeout: _Seconds | None,
        on_error: Literal["cancel", "settle"],
    ) -> None:
        super().__init__(key, cost, timeout, on_error)
        self._limiter = limiter

    async def __aenter__(self) -> AsyncCharge:
        self._enter()
        decision = await self._limiter.acquire(self._key, self._cost, timeout=self._timeout)
        self._charge = AsyncCharge(self._limiter, self._key, self._cost, decision)
        return self._charge

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._charge._end_block(exc_type, self._on_error):
            return
        if exc_type is GeneratorExit:
            _start(self._give_back())
        else:
            await self._give_back()

    async def _give_back(self) -> None:
        # The exception that leaves the block matters more than that of the store.
        with suppress(Exception):
            await self._limiter.settle(self._key, self._charge.cost, 0)


def _start(call: Coroutine[asyncio.Future[Any], None, None]) -> None:
    """Starts a call and does not wait for it, because a coroutine that is closed may not wait."""
    try:
        answer = call.send(None)
    except StopIteration:
        return
    call.close()
    # An exception that nobody looks at would be logged.
    answer.add_done_callback(lambda done: done.cancelled() or done.exception())


for _public in (Charge, AsyncCharge):
    _public.__module__ = "tidegate"
