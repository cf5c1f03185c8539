"""`SqsQueue`: a queue of SQS, over a boto3 client of the program's own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal

from tidegate._errors import InvalidArgument
from tidegate.egress._message import Message

if TYPE_CHECKING:
    from tidegate._tidegate import _Reason

# SQS deletes at most so many messages in a request.
MAX_BATCH = 10
# A message may have so many attributes.
MAX_ATTRIBUTES = 10
TWELVE_HOURS = 43_200.0
WORKERS = 8


class SqsQueue:
    """A queue of SQS, standard or FIFO, as a queue of an `Egress`.

    `client` is `boto3.client("sqs")`, which threads may share. A message's `body` is its text, its
    `attributes` are SQS's message attributes. Durations are in seconds.

    - `dead_letters`: the URL of the dead-letter queue, to which messages are sent with the attributes
      `tidegate-reason`, `tidegate-attempts` and `tidegate-id`. None leaves them to `dead_letter` of
      the egress.
    - `visibility`: how long SQS keeps a message from others, 2 or more; it is extended while the
      message is in hand, up to the 12 hours that SQS allows.
    - `wait_time`: how long a receive waits for messages, 0 to 20. A stop waits for as long.

    A queue whose URL ends in `.fifo` keeps the order of each message group. The queue's own redrive
    policy needs a `maxReceiveCount` above `max_attempts` of the egress plus the holds and crashes that
    may come, because SQS counts each receive.
    """

    max_batch = MAX_BATCH
    ahead = 1.0
    max_visibility = TWELVE_HOURS

    def __init__(
        self,
        client: Any,
        queue_url: str,
        *,
        dead_letters: str | None = None,
        visibility: float = 30.0,
        wait_time: int = 20,
    ) -> None:
        if not 2 <= visibility <= TWELVE_HOURS or not 0 <= wait_time <= 20:
            raise InvalidArgument("invalid visibility or wait_time: 2 s to 12 h, and 0 to 20 s")
        self._client = client
        self._url = queue_url
        self._dead_letters = dead_letters
        self._wait_time = wait_time
        self._is_fifo = queue_url.endswith(".fifo")
        self.order: Literal["none", "key"] = "key" if self._is_fifo else "none"
        self.visibility = visibility
        self._receiver: ThreadPoolExecutor | None = None
        self._workers: ThreadPoolExecutor | None = None

    async def open(self) -> None:
        # A receive that waits must not hold up the rest.
        self._receiver = ThreadPoolExecutor(1, thread_name_prefix="tidegate-receive")
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="tidegate-sqs")

    async def receive(self, count: int) -> Sequence[Message]:
        answer = await self._run(
            "receive_message",
            is_receive=True,
            QueueUrl=self._url,
            MaxNumberOfMessages=min(count, MAX_BATCH),
            VisibilityTimeout=round(self.visibility),
            WaitTimeSeconds=self._wait_time,
            AttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        return [message_of(found) for found in answer.get("Messages", ())]

    async def ack(self, messages: Sequence[Message]) -> Sequence[Message]:
        entries = [{"Id": str(number), "ReceiptHandle": each.receipt} for number, each in enumerate(messages)]
        answer = await self._run("delete_message_batch", QueueUrl=self._url, Entries=entries)
        failed = {entry["Id"] for entry in answer.get("Failed", ())}
        return [each for number, each in enumerate(messages) if str(number) in failed]

    async def give_back(self, message: Message, delay: float, *, counted: bool) -> None:  # noqa: ARG002 (SQS counts)
        await self._keep(message, delay)

    async def extend(self, message: Message, by: float) -> None:
        await self._keep(message, by)

    async def dead_letter(self, message: Message, reason: _Reason) -> None:
        if self._dead_letters is None:
            raise InvalidArgument("invalid dead_letters: SqsQueue needs a URL, or the egress its dead_letter")
        await self._run("send_message", **dead_letter_of(message, reason, self._dead_letters))
        await self._run("delete_message", QueueUrl=self._url, ReceiptHandle=message.receipt)

    async def backlog(self) -> int | None:
        name = "ApproximateNumberOfMessages"
        answer = await self._run("get_queue_attributes", QueueUrl=self._url, AttributeNames=[name])
        return int(answer["Attributes"][name])

    async def close(self) -> None:
        for pool in (self._receiver, self._workers):
            if pool is not None:
                pool.shutdown(wait=False)
        self._receiver = self._workers = None

    async def _keep(self, message: Message, seconds: float) -> None:
        await self._run(
            "change_message_visibility",
            QueueUrl=self._url,
            ReceiptHandle=message.receipt,
            # SQS counts in whole seconds, and an early return would meet the hold again.
            VisibilityTimeout=min(int(-(-seconds // 1)), int(TWELVE_HOURS)),
        )

    async def _run(self, operation: str, *, is_receive: bool = False, **parameters: Any) -> Any:
        call = getattr(self._client, operation)
        pool = self._receiver if is_receive else self._workers
        return await asyncio.get_running_loop().run_in_executor(pool, lambda: call(**parameters))


def message_of(found: dict[str, Any]) -> Message:
    """The message of a receive, or the record of an event of Lambda in the spelling of a receive."""
    system = found.get("Attributes", {})
    sent_at = system.get("SentTimestamp")
    return Message(
        id=found["MessageId"],
        body=found["Body"],
        attempts=int(system.get("ApproximateReceiveCount", 1)),
        sent_at=None if sent_at is None else int(sent_at) / 1000,
        group=system.get("MessageGroupId"),
        attributes=found.get("MessageAttributes", {}),
        receipt=found["ReceiptHandle"],
    )


def dead_letter_of(message: Message, reason: _Reason, url: str) -> dict[str, Any]:
    """The parameters of `send_message` for a dead letter."""
    own = {"tidegate-reason": reason, "tidegate-attempts": str(message.attempts), "tidegate-id": message.id}
    kept = list(message.attributes.items())[: MAX_ATTRIBUTES - len(own)]
    # A receive has lists beside these fields, which a send refuses.
    fields = ("DataType", "StringValue", "BinaryValue")
    attributes = {name: {field: value[field] for field in fields if field in value} for name, value in kept}
    attributes.update({name: {"DataType": "String", "StringValue": value} for name, value in own.items()})
    parameters = {"QueueUrl": url, "MessageBody": message.body, "MessageAttributes": attributes}
    if url.endswith(".fifo"):
        parameters |= {"MessageGroupId": message.group or "tidegate", "MessageDeduplicationId": message.id}
    return parameters
