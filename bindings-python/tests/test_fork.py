"""A forked child uses the limiters that it inherits, whatever the parent's threads were doing."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time

import pytest
from conftest import RedisServer, in_child

from tidegate import AsyncLimiter, Limiter, StoreError

# When children shared their parent's locks, one of the first ten hung.
CHILDREN = 20
# The number of calls that fail together: enough to keep the I/O thread at the locks for a while.
CALLS = 2000


def refusing_url() -> str:
    """A port of this host at which connections are refused."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"redis://127.0.0.1:{free.getsockname()[1]}"


class FailingCalls(threading.Thread):
    """Makes calls that fail, on a new limiter each time: the old one would soon not be asked."""

    def __init__(self) -> None:
        super().__init__()
        self._url = refusing_url()
        self._done = threading.Event()
        self.limiter = self._new_limiter()

    def __enter__(self) -> FailingCalls:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join()

    def run(self) -> None:
        asyncio.run(self._keep_failing())

    async def _keep_failing(self) -> None:
        while not self._done.is_set():
            self.limiter = limiter = self._new_limiter()
            assert await all_fail(limiter, CALLS)

    def _new_limiter(self) -> AsyncLimiter:
        return AsyncLimiter("1000000/s", store=self._url, store_timeout=60.0)


async def all_fail(limiter: AsyncLimiter, calls: int) -> bool:
    checks = [limiter.check("k") for _ in range(calls)]
    answers = await asyncio.gather(*checks, return_exceptions=True)
    return all(isinstance(answer, StoreError) for answer in answers)


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_children_forked_while_failures_are_told_can_check() -> None:
    with FailingCalls() as failing:
        for _ in range(CHILDREN):
            limiter = failing.limiter

            def can_check(limiter: AsyncLimiter = limiter) -> bool:
                # The parent's loop goes as well, and with it what it had to complete.
                gc.collect()
                return asyncio.run(all_fail(limiter, 1))

            in_child(can_check)


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_child_has_one_connection_for_what_it_inherits_and_what_it_makes(
    own_redis: RedisServer, prefix: str
) -> None:
    def limiter() -> Limiter:
        return Limiter("5/d", store=own_redis.url, prefix=prefix, store_timeout=20.0)

    def connections() -> int:
        with own_redis.client() as client:
            return sum(other["cmd"] != "client|list" for other in client.client_list())

    inherited = limiter()
    assert inherited.check("k").remaining == 4

    def shares() -> bool:
        made = limiter()
        return [inherited.check("k").remaining, made.check("k").remaining, connections()] == [3, 2, 2]

    in_child(shares)
    assert limiter().check("k").remaining == 1
    deadline = time.monotonic() + 20
    while connections() != 1:
        assert time.monotonic() < deadline
        time.sleep(0.005)
