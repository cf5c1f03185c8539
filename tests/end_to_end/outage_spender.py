"""A spender during an outage: spends all it can get from one bucket, or from its own share while
Redis fails, and logs each call's answer.

    outage_spender.py STORE_URL LIMIT PEERS LOG_FILE END

A record has the times before and after the call, in nanoseconds of the host's monotonic clock,
whether it was allowed, and whether Redis answered. The program prints "ready" once Redis has
answered.
"""

import struct
import sys
import time

from tidegate import Limiter

store, limit, peers, log_file, end = sys.argv[1:]
with (
    Limiter(limit, store=store, on_store_error="local", peers=int(peers)) as limiter,
    open(log_file, "wb", buffering=0) as log,
):
    while limiter.peek("elsewhere", 0).source != "redis":
        time.sleep(0.01)
    print("ready", flush=True)
    while (before := time.monotonic_ns()) < int(end):
        decision = limiter.check("hot")
        told = decision.allowed, decision.source == "redis"
        log.write(struct.pack("<QQ??", before, time.monotonic_ns(), *told))
        if not decision:
            time.sleep(min(decision.retry_after, 0.005))
