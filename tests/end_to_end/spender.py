"""Spends all that it can get of one bucket, and writes down when it got it.

    spender.py STORE_URL LIMIT LOG_FILE START END

START, END and the log's times are of the host's monotonic clock, in nanoseconds. Each admission is
one write of two times, just before and just after its call, so a kill loses one at most.
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
