"""A million buckets are no longer used: Redis forgets all of them by itself."""

from __future__ import annotations

import time
from pathlib import Path

from fleet import free_port, wait_until
from redis_groups import Node

from tidegate import Limiter

KEYS, BATCH = 1_000_000, 5_000

# The bytes that docs/redis.md promises for a key of this length.
MOST_BYTES = 190


def test_a_million_idle_buckets_vanish(tmp_path: Path) -> None:
    server = Node(tmp_path, free_port(), "--save", "", "--appendonly", "no")
    store = f"redis://127.0.0.1:{server.port}"
    try:
        before = used_memory(server)
        with Limiter("1/s burst 600", store=store, store_timeout=20) as limiter:

            def charge(first: int, cost: int) -> None:
                checks = [(f"user:{number:06}", cost) for number in range(first, first + BATCH)]
                assert all(limiter.check_many(checks))

            began = time.monotonic()
            for first in range(0, KEYS // 50, BATCH):
                charge(first, 1)
            took = time.monotonic() - began
            time.sleep(1.1)  # these are full again
            # All buckets become full at this time, when all of them have been charged.
            full_at = time.monotonic() + 5 + 1.5 * 50 * took
            for first in range(0, KEYS, BATCH):
                charge(first, max(1, round(full_at - time.monotonic())))
        left, loaded = full_at - time.monotonic(), int(server.ask("DBSIZE"))
        bytes_each = (used_memory(server) - before) / loaded
        one = int(server.ask("MEMORY", "USAGE", f"tidegate:{{user:{KEYS - 1:06}}}"))
        print(f"{loaded} buckets {left:.0f} s before they are full; {bytes_each:.0f} bytes each, "
              f"{one} by MEMORY USAGE")
        assert loaded == KEYS
        assert bytes_each <= MOST_BYTES
        wait_until(lambda: server.ask("DBSIZE") == "0", "an empty Redis", deadline=max(left, 0) + 30)
        took = time.monotonic() - full_at
        print(f"empty {took:.1f} s after they were full; {used_memory(server) - before} bytes more than before")
    finally:
        server.stop()


def used_memory(server: Node) -> int:
    lines = server.ask("INFO", "memory").splitlines()
    return next(int(line.split(":")[1]) for line in lines if line.startswith("used_memory:"))
