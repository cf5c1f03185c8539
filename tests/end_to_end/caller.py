"""A caller: calls at a steady pace, and logs when each call began and ended and its outcome.

    caller.py STORE_URL LIMIT KEY LOG_FILE TIMEOUT_MS PAUSE_MS [--asyncio] [NAME=VALUE...]

Prints `ready`, and then reads from its input when to begin, in nanoseconds of the host's monotonic
clock. Ends when there is a file `stop` beside the log. NAME=VALUE are further options of the
limiter. calls.py describes the log.
"""

from __future__ import annotations

import asyncio
import os
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

import tidegate

REFUSED, ADMITTED, OTHER = 0, 1, 9
CODES = {"store_error": 2, "store_timeout": 3}


def threads_that_decide() -> list[Path]:
    """The scheduler's statistics of this thread and of the limiter's I/O thread."""
    tasks = [task for task in Path("/proc/self/task").iterdir() if task.name != str(os.getpid())]
    io = [task for task in tasks if (task / "comm").read_text().strip() == "tidegate-io"]
    return [task / "schedstat" for task in (Path(f"/proc/self/task/{os.getpid()}"), *io)]


def waited(threads: list[Path]) -> int:
    """How long these threads could have run but had to wait for a processor, in nanoseconds."""
    return sum(int(thread.read_text().split()[1]) for thread in threads)


class Log:
    def __init__(self, file: str) -> None:
        self._file = open(file, "wb", buffering=0)  # noqa: SIM115 (open until the process ends)
        self._stop = Path(file).with_name("stop")
        self._threads: list[Path] = []

    @property
    def ends(self) -> bool:
        return self._stop.exists()

    def begin(self) -> tuple[int, int]:
        self._threads = self._threads or threads_that_decide()
        return waited(self._threads), time.monotonic_ns()

    def end(self, begun: tuple[int, int], code: int) -> None:
        ended = time.monotonic_ns()
        self._file.write(struct.pack("<QQQQ", begun[1], ended, waited(self._threads) - begun[0], code))


def code_of(call: Callable[[], tidegate.Decision]) -> int:
    try:
        return ADMITTED if call() else REFUSED
    except tidegate.TidegateError as error:
        return code_of_error(error)


def code_of_error(error: tidegate.TidegateError) -> int:
    if error.code not in CODES:
        print(f"{error.code}: {error}", file=sys.stderr, flush=True)
    return CODES.get(error.code, OTHER)


def wait_for_begin() -> int:
    print("ready", flush=True)
    return int(sys.stdin.readline())


def run(limiter: tidegate.Limiter, key: str, log: Log, pause: int) -> None:
    while code_of(lambda: limiter.check("warm-up")) > ADMITTED:
        time.sleep(0.05)  # a machine on which a whole fleet is starting may be late at first
    due = wait_for_begin()
    while not log.ends:
        time.sleep(max(0, due - time.monotonic_ns()) / 1e9)
        begun = log.begin()
        log.end(begun, code_of(lambda: limiter.check(key)))
        due = max(due + pause, time.monotonic_ns())


async def run_async(limiter: tidegate.AsyncLimiter, key: str, log: Log, pause: int) -> None:
    while True:
        try:
            await limiter.check("warm-up")
            break
        except tidegate.TidegateError:
            await asyncio.sleep(0.05)
    due = wait_for_begin()
    while not log.ends:
        await asyncio.sleep(max(0, due - time.monotonic_ns()) / 1e9)
        begun = log.begin()
        try:
            code = ADMITTED if await limiter.check(key) else REFUSED
        except tidegate.TidegateError as error:
            code = code_of_error(error)
        log.end(begun, code)
        due = max(due + pause, time.monotonic_ns())


def main() -> None:
    store, limit, key, log_file, timeout_ms, pause_ms, *options = sys.argv[1:]
    more = dict(option.split("=", 1) for option in options if "=" in option)
    common = {"store": store, "store_timeout": float(timeout_ms) / 1000, **more}
    log, pause = Log(log_file), int(float(pause_ms) * 1e6)
    if "--asyncio" in options:
        asyncio.run(run_async(tidegate.AsyncLimiter(limit, **common), key, log, pause))
    else:
        run(tidegate.Limiter(limit, **common), key, log, pause)


if __name__ == "__main__":
    main()
