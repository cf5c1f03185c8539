"""When callers on an event loop have waited for the store as long as their limiters allow."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidegate._tidegate import _Batch, _Completions, _PendingQueue

# Before Python 3.11 a task could not tell its own cancellation from that by others.
CAN_UNCANCEL = sys.version_info >= (3, 11)


class BatchCallers:
    """The callers of the batch that the current task sends.

    Each is answered by its deadline. When none of them waits any more, the task is cancelled.
    """

    def __init__(self, batch: _Batch, completions: _Completions) -> None:
        self.batch = batch
        self._completions = completions
        self._is_cancelling = False
        self._task = asyncio.current_task()
        self._cancelled_before = 0
        if sys.version_info >= (3, 11) and self._task is not None:
            self._cancelled_before = self._task.cancelling()

    def expire(self) -> float | None:
        """Answers the callers whose deadline has passed with a timeout.

        Returns the seconds until the next deadline, or None when no caller waits any more.
        """
        left = self.batch.expire()
        self._completions.deliver()
        if left is None and self._task is not None:
            self._is_cancelling = True
            self._task.cancel()
        return left

    def have_cancelled(self, interrupt: BaseException) -> bool:
        """Whether `expire` alone has cancelled the task, so that it may go on."""
        if not self._is_cancelling or not isinstance(interrupt, asyncio.CancelledError):
            return False
        if sys.version_info >= (3, 11) and self._task is not None:
            return self._task.uncancel() <= self._cancelled_before
        return True


class Deadlines:
    """The deadlines of all callers on one event loop, in the queue and in batches under way.

    One timer serves all of them, and it is left to run out: setting and cancelling a timer for
    each batch would take as long as planning the batch.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        queue: _PendingQueue,
        completions: _Completions,
    ) -> None:
        self._loop = loop
        self._queue = queue
        self._completions = completions
        self._batches: set[BatchCallers] = set()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, callers: BatchCallers) -> None:
        """Keeps the deadlines of a batch that is about to be sent."""
        self._batches.add(callers)
        # When no caller waits even now, the batch has nothing to send and ends before the timer.
        self._ring_within(callers.batch.expire() or 0)

    def forget(self, callers: BatchCallers) -> None:
        """Ends `watch`: the batch has its replies."""
        self._batches.discard(callers)

    def watch_queue(self) -> None:
        """Keeps the deadlines of the requests that wait for the next batch."""
        left = self._queue.left()
        if left is not None:
            self._ring_within(left)

    def _ring_within(self, seconds: float) -> None:
        due = self._loop.time() + seconds
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._ring)

    def _ring(self) -> None:
        self._timer = None
        waiting = self._queue.expire()
        self._completions.deliver()
        for left in [waiting, *(callers.expire() for callers in list(self._batches))]:
            if left is not None:
                self._ring_within(left)
