"""A leaseholder: asks for calls at the rate of its demand, under a lease, and logs when each was
allowed.

    leaseholder.py STORE_URL LIMIT KEY LEASE DEMANDS LOG_FILE

LEASE is the ttl in seconds, or 0 for none. DEMANDS is "<until>:<per second>,..." in seconds since
START; a rate of 0 asks for nothing. The program prints a line when it is ready, and then reads
"START END" from its input. All times are nanoseconds of the host's monotonic clock. For each allowed
call the log has two times, just before and just after it, written at once, so that a kill loses at
most one call. The last line of output counts all calls by their source.
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
    """Nanoseconds until the next call at the present demand; 0 if nothing is demanded."""
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
        # A process that was stalled makes up for 50 ms at most of the calls that it has missed.
        due = max(due + step, after - 5e7)
print(json.dumps(sources), flush=True)
