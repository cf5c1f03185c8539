"""`AsyncConcurrency`: concurrency permits for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from types import TracebackType
from typing import TYPE_CHECKING, Literal, SupportsIndex

from tidegate._completions import completions_of, running_loop
from tidegate._errors import NoPermit
from tidegate._tidegate import Concurrency, FakeClock, Permit

if TYPE_CHECKING:
    from typing_extensions import Self

    from tidegate._tidegate import _OneKey, _Seconds


class AsyncConcurrency:
    """`Concurrency` for asyncio: the same arguments, methods and errors, awaitable.

    It can be used from any number of event loops. A task that is cancelled while it waits leaves the
    line.

    >>> import asyncio
    >>> async def main():
    ...     async with AsyncConcurrency(2) as vendor:
    ...         async with vendor.acquire(timeout=5):
    ...             return await vendor.in_flight()
    >>> asyncio.run(main())
    1
    """

    __slots__ = ("__dict__", "__weakref__", "_concurrency")  # the dict is for mocks of methods

    def __init__(
        self,
        limit: SupportsIndex,
        *,
        ttl: _Seconds = 30,
        store: str = "memory://",
        prefix: str | None = None,
        store_timeout: _Seconds = 0.05,
        clock: FakeClock | None = None,
        on_store_error: Literal["raise", "allow", "deny"] | None = None,
        max_waiting: SupportsIndex | None = None,
    ) -> None:
        self._concurrency = Concurrency(
            limit,
            ttl=ttl,
            store=store,
            prefix=prefix,
            store_timeout=store_timeout,
            clock=clock,
            on_store_error=on_store_error,
            max_waiting=max_waiting,
        )

    @classmethod
    def of(cls, concurrency: Concurrency) -> Self:
        """The asyncio side of an existing `Concurrency`: both give out the same permits.

        >>> import asyncio
        >>> vendor = Concurrency(1)
        >>> permit = vendor.acquire()
        >>> asyncio.run(AsyncConcurrency.of(vendor).try_acquire()) is None
        True
        """
        if not isinstance(concurrency, Concurrency):
            raise TypeError(f"concurrency must be a Concurrency, not {type(concurrency).__name__}")
        made = cls.__new__(cls)
        made._concurrency = concurrency
        return made

    @property
    def limit(self) -> int:
        """The number of permits of each key."""
        return self._concurrency.limit

    @property
    def ttl(self) -> float:
        """How many seconds a permit lasts unless it is renewed."""
        return self._concurrency.ttl

    def acquire(self, key: _OneKey = "", *, timeout: _Seconds | None = None) -> Acquiring:
        """Waits until the caller holds a permit of `key`; see `Concurrency.acquire`.

        `async with` gives the permit back at the end of its block; `await` answers an `AsyncPermit`.

        >>> import asyncio
        >>> async def main():
        ...     vendor = AsyncConcurrency(1)
        ...     permit = await vendor.acquire("tenant:7")
        ...     try:
        ...         await vendor.acquire("tenant:7", timeout=0.01)
        ...     finally:
        ...         await permit.release()
        >>> asyncio.run(main())
        Traceback (most recent call last):
        tidegate.NoPermit: no permit: none of 1 came free within 10ms
        """
        return Acquiring(self._concurrency, key, timeout)

    async def try_acquire(self, key: _OneKey = "") -> AsyncPermit | None:
        """A permit of `key` if one is free and nobody waits for it, and otherwise None."""
        try:
            return await _acquire(self._concurrency, key, 0)
        except NoPermit:
            return None

    async def in_flight(self, key: _OneKey = "") -> int:
        """The number of permits of `key` that are held, over all processes."""
        loop = running_loop()
        completions = completions_of(loop)
        if completions is None:
            return await loop.run_in_executor(None, self._concurrency.in_flight, key)
        future: asyncio.Future[int] = loop.create_future()
        completions.in_flight(future, self._concurrency, key)
        return await future

    def waiting(self, key: _OneKey = "") -> int:
        """The number of callers of this process that wait for a permit of `key`."""
        return self._concurrency.waiting(key)

    def set_limit(self, limit: SupportsIndex) -> None:
        """Changes the number of permits of each key; see `Concurrency.set_limit`."""
        self._concurrency.set_limit(limit)

    async def close(self) -> None:
        """Closes it: later calls raise `StoreError`."""
        self._concurrency.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"Async{self._concurrency!r}"


class AsyncPermit:
    """`Permit` for asyncio: the same fields, and a `release` that is awaitable."""

    __slots__ = ("__weakref__", "_permit")

    def __init__(self, permit: Permit) -> None:
        self._permit = permit

    @property
    def key(self) -> _OneKey:
        """The key that was asked for."""
        return self._permit.key

    @property
    def lost(self) -> bool:
        """Whether the permit has expired before it could be renewed; see `Permit.lost`."""
        return self._permit.lost

    @property
    def source(self) -> Literal["memory", "redis", "fallback"]:
        """Where the permit was counted; see `Permit.source`."""
        return self._permit.source

    async def release(self) -> None:
        """Gives the permit back, and waits until the store has heard of it; see `Permit.release`."""
        loop = running_loop()
        completions = completions_of(loop)
        if completions is None:
            await loop.run_in_executor(None, self._permit.release)
            return
        future: asyncio.Future[None] = loop.create_future()
        completions.release(future, self._permit)
        await future

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.release()

    def __repr__(self) -> str:
        return f"Async{self._permit!r}"


class Acquiring:
    """A caller of `AsyncConcurrency.acquire`: to be awaited, or entered with `async with`."""

    __slots__ = ("_concurrency", "_key", "_permit", "_timeout")

    def __init__(self, concurrency: Concurrency, key: _OneKey, timeout: _Seconds | None) -> None:
        self._concurrency = concurrency
        self._key = key
        self._timeout = timeout
        self._permit: AsyncPermit | None = None

    def __await__(self) -> Generator[object, None, AsyncPermit]:
        return _acquire(self._concurrency, self._key, self._timeout).__await__()

    async def __aenter__(self) -> AsyncPermit:
        permit = await _acquire(self._concurrency, self._key, self._timeout)
        self._permit = permit
        return permit

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        permit, self._permit = self._permit, None
        if permit is not None:
            await permit.release()


async def _acquire(
    concurrency: Concurrency, key: _OneKey, timeout: _Seconds | None
) -> AsyncPermit:
    loop = running_loop()
    completions = completions_of(loop)
    if completions is None:
        # The loop cannot watch a socket. A thread waits instead.
        made = await loop.run_in_executor(None, lambda: concurrency.acquire(key, timeout=timeout))
        return AsyncPermit(made)
    future: asyncio.Future[Permit] = loop.create_future()
    waiter = completions.enter(future, concurrency, key, timeout)
    try:
        return AsyncPermit(await future)
    except BaseException:
        waiter.leave()
        if future.done() and not future.cancelled() and future.exception() is None:
            future.result()._abandon()
        raise


for _public in (AsyncConcurrency, AsyncPermit):
    _public.__module__ = "tidegate"
