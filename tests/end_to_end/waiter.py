"""A waiter: callers with a deadline of their own come at the rate of its demand, wait in `acquire`,
and those who were served are logged.

    waiter.py STORE_URL LIMIT KEY DEMAND PATIENCE

DEMAND is callers per second, PATIENCE how many seconds each of them waits at most. The program prints
a line when it is ready, and then reads "START END" from its input, in nanoseconds of the host's
monotonic clock. Its output is the times at which callers were served, as a JSON array.
"""

import asyncio
import json
import sys
import time

from tidegate import AsyncLimiter

store, limit, key, demand, patience = sys.argv[1:]


async def main() -> None:
    served: list[int] = []
    async with AsyncLimiter(limit, store=store, store_timeout=5) as limiter:
        await limiter.peek(key)
        print("ready", flush=True)
        start, end = map(int, (await asyncio.to_thread(sys.stdin.readline)).split())

        async def call() -> None:
            try:
                await asyncio.wait_for(limiter.acquire(key), float(patience))
            except asyncio.TimeoutError:
                return
            served.append(time.monotonic_ns())

        calls: set[asyncio.Task[None]] = set()
        due = float(start)
        while due < end:
            await asyncio.sleep(max(0.0, due - time.monotonic_ns()) / 1e9)
            task = asyncio.create_task(call())
            calls.add(task)
            task.add_done_callback(calls.discard)
            due += 1e9 / float(demand)
        await asyncio.gather(*calls)
    print(json.dumps(served), flush=True)


asyncio.run(main())
