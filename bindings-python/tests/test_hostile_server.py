"""A server that sends without end harms only the limiters that use it: the process keeps its memory, and
limiters of other servers their answers."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import RedisServer

from tidegate import Limiter, StoreError

MIB = 1 << 20
# What the process may grow by: the bound of an answer, a few times over.
MOST_GROWTH = 128 * MIB




@pytest.fixture(
    params=[
        b"$2147483647\r\n",
        b"+",
        b"-ERR ",
        b"*3\r\n$1\r\n1\r\n$1\r\n1\r\n$536870912\r\n",
        b"*2147483647\r\n+x\r\n+",
    ],
    ids=["a long text", "an endless line", "an endless error", "a long value in an answer", "a long list"],
)
def hostile(request: pytest.FixtureRequest) -> Iterator[tuple[str, list[int]]]:
    """A server that answers so, and how many bytes each of its clients took."""
    listener = socket.create_server(("127.0.0.1", 0))
    done, taken = threading.Event(), [0]
    opening: bytes = request.param

    def serve(client: socket.socket) -> None:
        with client:
            try:
                client.recv(65536)
                client.sendall(opening)
                taken.append(0)
                place = len(taken) - 1
                more = b"x" * 65536
                while not done.is_set():
                    client.sendall(more)
                    taken[place] += len(more)
            except OSError:
                return

    def accept() -> None:
        while not done.is_set():
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield f"redis://127.0.0.1:{listener.getsockname()[1]}", taken
    done.set()
    listener.close()


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_a_server_that_sends_without_end_is_left(
    hostile: tuple[str, list[int]], own_redis: RedisServer, prefix: str
) -> None:
    url, taken = hostile
    healthy = Limiter("1000000/s", store=own_redis.url, prefix=prefix, store_timeout=20.0)
    assert healthy.check("k")
    before = resident()
    limiter = Limiter("10/s", store=url, store_timeout=20.0)
    with pytest.raises(StoreError):
        limiter.check("k")
    # The connection is closed long before the answer ends, also when nobody waits for it any more.
    hurried = Limiter("10/s", store=url, store_timeout=0.001)
    for _ in range(5):
        with pytest.raises(StoreError):
            hurried.check("k")
        assert healthy.check("k")
    assert resident() - before < MOST_GROWTH, (resident() - before, taken)
    assert max(taken) < 64 * MIB, taken
