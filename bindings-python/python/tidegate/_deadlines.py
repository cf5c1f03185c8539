"""When callers on an event loop have waited for the store as long as their limiters allow."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidegate._tidegate import _Batch, _Completions, _PendingQueue

# A timer that comes later than this, in seconds, shows that the loop was busy with something else. A loop at rest
# is late by a fraction of it.
LATE = 0.002

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

    The time for which the loop was blocked by something else is not the store's. A timer that comes
    late is set again for as long as it was late, and in any case the loop has a turn between a deadline
    and the failure of its callers, in which replies are read that have come meanwhile. A loop that is
    always late does not put failures off for ever: only a longer delay than the last one counts.
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
        # The seconds for which the timer was set again because it had come late.
        self._granted = 0.0
        # Nobody is failed before this time of the loop, because the loop was blocked.
        self._excused_until = 0.0

    def excuse(self, blocked: float) -> None:
        """Fails nobody for as long as the loop was blocked, in seconds."""
        self._excused_until = max(self._excused_until, self._loop.time() + blocked)

    def is_excused(self) -> bool:
        """Whether nobody is failed now, because the loop was blocked."""
        return self._excused_until > 0 and self._loop.time() < self._excused_until

    def watch(self, callers: BatchCallers) -> None:
        """Keeps the deadlines of a batch that is about to be sent."""
        self._batches.add(callers)
        if self._excused_until > 0 and (left := self._excused_until - self._loop.time()) > 0:
            self._ring_within(left)
            return
        # When no caller waits even now, the batch has nothing to send and ends before the timer.
        self._ring_within(callers.batch.expire() or 0)

    def forget(self, callers: BatchCallers) -> None:
        """Ends `watch`: the batch has its replies."""
        self._batches.discard(callers)
        self._granted = 0.0
        if not self._batches and len(self._queue) == 0:
            self._excused_until = 0.0

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
        self._timer = self._loop.call_at(due, self._ring, due)

    def _ring(self, due: float) -> None:
        self._timer = None
        now = self._loop.time()
        late = now - due
        if late > max(LATE, self._granted):
            self._granted = late
            self.excuse(late)
            self._ring_within(late)
            return
        if now < self._excused_until:
            self._ring_within(self._excused_until - now)
            return
        self._granted = 0.0
        # A reply that was read in this turn reaches its task in the next one, ahead of this.
        self._loop.call_soon(self._expire)

    def _expire(self) -> None:
        waiting = self._queue.expire()
        self._completions.deliver()
        for left in [waiting, *(callers.expire() for callers in list(self._batches))]:
            if left is not None:
                self._ring_within(left)
