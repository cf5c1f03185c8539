"""Asks for calls as its demand says, under a lease, and writes down when it was allowed them.

    leaseholder.py STORE_URL LIMIT KEY LEASE DEMANDS LOG_FILE

LEASE is the ttl in seconds, or 0 for none. DEMANDS is "<until>:<per second>,..." in seconds since
START; a rate of 0 asks for nothing. The program prints a line when it is ready, and then reads
"START END" from its input. These times and those of the log are nanoseconds of the host's monotonic
clock. Each call that was allowed is one write of two times, just before and just after it, so a
kill loses at most one call. The last line of output sums up all calls.
"""

import json
import struct
import sys
import time

from tidegate import Limiter

store, limit, key, ttl, demands, log_file = sys.argv[1:]
phases = [(float(until), float(rate)) for until, rate in (d.split(":") for d in demands.split(","))]
lease = {"ttl": float(ttl)} if float(ttl) else None


def gap(now: int, start_at: int) -> float:
    """Nanoseconds to the next call at this time's demand; 0 if there is none."""
    since = (now - start_at) / 1e9
    rate = next((rate for until, rate in phases if since < until), phases[-1][1])
    return 1e9 / rate if rate else 0.0


sources: dict[str, int] = {}
with (
    Limiter(limit, store=store, store_timeout=5, lease=lease) as limiter,
    open(log_file, "wb", buffering=0) as log,
):
    print("ready", flush=True)
    start_at, end_at = map(int, sys.stdin.readline().split())
    due = float(start_at)
    while True:
        time.sleep(max(0.0, min(due, end_at) - time.monotonic_ns()) / 1e9)
        before = time.monotonic_ns()
        if before >= end_at:
            break
        step = gap(before, start_at)
        if not step:
            due = before + 1e7
            continue
        decision = limiter.check(key)
        after = time.monotonic_ns()
        if decision:
            log.write(struct.pack("<QQ", before, after))
        sources[decision.source] = sources.get(decision.source, 0) + 1
        # What a stalled process has missed is not made up for at once.
        due = max(due + step, after - 5e7)
print(json.dumps(sources), flush=True)
