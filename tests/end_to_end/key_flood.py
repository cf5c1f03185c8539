"""A flood of distinct keys on a limiter in memory, each of which owes a token for a day.

    key_flood.py KEYS MAX_KEYS

Prints JSON: the longest check, and the longest round of a loop that does the same without a limiter,
both in milliseconds without the time for which the thread had no processor; the memory in bytes before
the flood, when the table is full, and at the end; and which honest callers had a wrong answer.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tidegate import Limiter

CHUNK, HONEST, BURST = 500, 10, 3
keys, max_keys = map(int, sys.argv[1:])
statistics = os.open("/proc/thread-self/schedstat", os.O_RDONLY)


def waited() -> int:
    """For how many nanoseconds this thread could have run but had no processor."""
    return int(os.pread(statistics, 100, 0).split()[1])


def memory() -> int:
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) * 1024


def longest(first: int, last: int, call: Callable[[str], object], between: Callable[[int], None]) -> float:
    """The longest call for one of these keys."""
    worst = 0
    for begin in range(first, last, CHUNK):
        waited_before, used, most = waited(), time.thread_time_ns(), 0
        for number in range(begin, min(begin + CHUNK, last)):
            key = f"user:{number}"
            began = time.perf_counter_ns()
            call(key)
            most = max(most, time.perf_counter_ns() - began)
        # A virtual machine may lose its processor unseen, so that no call counts for more than was used.
        worst = max(worst, min(most - (waited() - waited_before), time.thread_time_ns() - used))
        between(begin)
    return worst / 1e6


limiter = Limiter(f"{BURST}/d", max_keys=max_keys)
for honest in range(HONEST):
    assert all(limiter.check(f"honest:{honest}") for _ in range(BURST))
wrong: list[str] = []


def ask_as_honest(number: int) -> None:
    spent, fresh = f"honest:{number // CHUNK % HONEST}", f"fresh:{number}"
    if limiter.check(spent):
        wrong.append(spent)
    if not limiter.check(fresh):
        wrong.append(fresh)


def ignore(_: object) -> None:
    """Does the same without a limiter."""


before = memory()
full = min(keys, 2 * max_keys)
worst = longest(0, full, limiter.check, ask_as_honest)
when_full = memory()
worst = max(worst, longest(full, keys, limiter.check, ask_as_honest))
at_the_end = memory()
print(json.dumps({
    "worst": worst, "control": longest(0, keys, ignore, ignore),
    "memory": [before, when_full, at_the_end], "wrong": wrong,
}))
