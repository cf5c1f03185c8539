"""`AsyncLimiter`: the limiter for asyncio."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import SupportsIndex
from weakref import WeakKeyDictionary

from tidegate._tidegate import Decision, FakeClock, Limit, Limiter, _Completions


class AsyncLimiter:
    """`Limiter` for asyncio: the same arguments, methods and errors, awaitable.

    It can be used from any number of event loops. A check in memory completes at
    once; a check on Redis leaves the loop free. Cancelling one does not call it
    back: what was asked for may still be charged.

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
        store: str = "memory://",
        prefix: str = "tidegate",
        store_timeout: float = 0.05,
        clock: FakeClock | None = None,
    ) -> None:
        self._limiter = Limiter(
            *limits, store=store, prefix=prefix, store_timeout=store_timeout, clock=clock
        )

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits, in the order given."""
        return self._limiter.limits

    async def check(self, key: str | bytes, cost: SupportsIndex = 1) -> Decision:
        """Spends `cost` tokens of `key` if every limit allows; see `Limiter.check`."""
        limiter = self._limiter
        if not limiter._is_remote:
            return limiter.check(key, cost)
        loop = asyncio.get_running_loop()
        completions = _completions.get(loop)
        if completions is None:
            try:
                completions = _watch(loop)
            except NotImplementedError:
                # This loop cannot watch a socket; threads serve any loop, if slower.
                return await loop.run_in_executor(None, limiter.check, key, cost)
        future: asyncio.Future[Decision] = loop.create_future()
        limiter._start(completions, future, key, cost)
        return await future

    async def peek(self, key: str | bytes) -> Decision:
        """What `check` with a cost of 0 answers: always allowed, spends nothing."""
        return await self.check(key, 0)

    async def close(self) -> None:
        """Lets go of the limiter: later checks raise `StoreError`."""
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


AsyncLimiter.__module__ = "tidegate"

# Each loop's own, for as long as the loop lives.
_completions: WeakKeyDictionary[asyncio.AbstractEventLoop, _Completions] = WeakKeyDictionary()


def _watch(loop: asyncio.AbstractEventLoop) -> _Completions:
    completions = _Completions()
    loop.add_reader(completions.fileno(), completions.deliver)
    _completions[loop] = completions
    return completions
