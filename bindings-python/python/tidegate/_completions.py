"""What completes the futures of each event loop with answers from the I/O thread."""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary, ref

from tidegate._tidegate import _Completions

# Each loop's own, for as long as the loop watches it, which ends when the loop is closed. The
# references are weak because pending futures keep their loop, and would so keep their answers.
_by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, ref[_Completions]] = WeakKeyDictionary()

# The loop that was asked for last, and its completions: most programs have only one loop.
_latest: tuple[ref[asyncio.AbstractEventLoop], ref[_Completions]] | None = None


def running_loop() -> asyncio.AbstractEventLoop:
    """The asyncio loop that runs here. Its absence is an error that names what to do instead."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        message = (
            "AsyncLimiter needs a running asyncio loop, and there is none; in trio use a Limiter in a "
            "thread: trio.to_thread.run_sync(limiter.check, key)"
        )
        raise RuntimeError(message) from None


def completions_of(loop: asyncio.AbstractEventLoop) -> _Completions | None:
    """The completions of an event loop, or None where the loop cannot watch a socket."""
    global _latest
    # The variable is read once, because another thread may replace it between two reads.
    latest = _latest
    if latest is not None and latest[0]() is loop:
        completions = latest[1]()
        if completions is not None:
            return completions
    known = _by_loop.get(loop)
    completions = known() if known is not None else None
    if completions is None:
        completions = _Completions(watched=True)
        try:
            loop.add_reader(completions.fileno(), completions.deliver)
        except NotImplementedError:
            return None
        _by_loop[loop] = ref(completions)
    _latest = ref(loop), ref(completions)
    return completions
