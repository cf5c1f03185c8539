"""What queues and handlers share: `Message`, the protocol `Queue`, and the exceptions with which a
handler says what became of a call."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Protocol

from tidegate._errors import InvalidArgument

if TYPE_CHECKING:
    from tidegate._tidegate import _Reason


@dataclass(frozen=True)
class Message:
    """A message of a queue.

    `body` is what the queue has: a text for SQS, a dict of fields for Redis Streams. `attempts` counts
    the deliveries, this one included. `sent_at` is the time at which the message was put into the
    queue, in seconds since 1970; None if the queue does not say. `group` is the message group of a
    FIFO queue.
    """

    id: str
    body: Any
    attempts: int = 1
    sent_at: float | None = None
    group: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    receipt: Any = None


class PermanentFailure(Exception):
    """A handler raises it for a message that would fail again: it is dead-lettered at once."""


class RetryLater(Exception):
    """A handler raises it when the vendor asks for no calls for `wait` seconds, 0 or more, or for a
    `timedelta`.

    All workers pause for that long, and the message returns to its queue.
    """

    def __init__(self, wait: float | timedelta = 0.0) -> None:
        seconds = wait.total_seconds() if isinstance(wait, timedelta) else wait
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < math.inf:
            raise InvalidArgument(f"invalid wait: it must be seconds, 0 or more, or a timedelta, but is {wait!r:.80}")
        super().__init__(f"no calls for {seconds} s")
        self.wait = float(seconds)


class Queue(Protocol):
    """What `Egress` needs of a queue. Durations are in seconds."""

    order: Literal["none", "key"]
    """"key" if the queue keeps the order of its message groups."""
    max_batch: int
    """The most messages of one receive."""
    visibility: float
    """How long a message is kept from others after a receive or an extension."""
    max_visibility: float
    """How long extensions can keep a message, from its receive."""

    ahead: float
    """For how long the messages in hand that wait for tokens last. It is longer than a receive takes,
    or tokens are lost."""

    async def open(self) -> None:
        """Prepares the queue, before the first receive."""

    async def receive(self, count: int) -> Sequence[Message]:
        """Waits a while for messages, and receives at most `count`."""

    async def ack(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Deletes messages that are done, and answers those that could not be deleted."""

    async def give_back(self, message: Message, delay: float, *, counted: bool) -> None:
        """Lets the message come again after the delay; `counted` as an attempt that failed, if the
        queue can tell."""

    async def extend(self, message: Message, by: float) -> None:
        """Keeps the message from others for so long from now."""

    async def dead_letter(self, message: Message, reason: _Reason) -> None:
        """Moves the message to the dead-letter queue."""

    async def backlog(self) -> int | None:
        """The messages that nobody has received yet; None if the queue does not say."""

    async def close(self) -> None:
        """Ends what `open` began. The client stays open."""
