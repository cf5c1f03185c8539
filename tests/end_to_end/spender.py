"""A spender: spends all it can get from one bucket, and logs when it got it.

    spender.py STORE_URL LIMIT LOG_FILE START END

All times are nanoseconds of the host's monotonic clock. For each admission the log has two times,
just before and just after its call, written at once, so that a kill loses one at most.
"""

import os
import struct
import sys
import time

from tidegate import Limiter

store, limit, log_file, start, end = sys.argv[1:]
with Limiter(limit, store=store) as limiter, open(log_file, "wb", buffering=0) as log:
    time.sleep(max(0, int(start) - time.monotonic_ns()) / 1e9)
    while (before := time.monotonic_ns()) < int(end):
        if limiter.check("hot"):
            log.write(struct.pack("<QQ", before, time.monotonic_ns()))
        else:
            os.sched_yield()
