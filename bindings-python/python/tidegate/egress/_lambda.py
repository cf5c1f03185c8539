"""`sqs_batch_handler`: a Lambda handler for batches of SQS, under the vendor's limit."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from tidegate._async import AsyncLimiter
from tidegate._tidegate import Limiter
from tidegate.egress._message import Message
from tidegate.egress._outcome import outcome_of_result
from tidegate.egress._runner import Egress, Outcome
from tidegate.egress._sqs import TWELVE_HOURS, dead_letter_of, message_of

if TYPE_CHECKING:
    from tidegate._tidegate import _Reason

LambdaHandler = Callable[[Mapping[str, Any], Any], dict[str, list[dict[str, str]]]]


def sqs_batch_handler(
    handler: Callable[[Message], Any],
    *,
    limiter: Limiter | AsyncLimiter | str,
    key: str | Callable[[Message], str] = "egress",
    concurrency: int = 10,
    margin: float = 3.0,
    load: Callable[[Message], Any] | None = None,
    reply: Callable[[Message, Any], Any] | None = None,
    on_outcome: Callable[[Outcome], None] | None = None,
    client: Any = None,
    queue_url: str | None = None,
    dead_letters: str | None = None,
    **options: Any,
) -> LambdaHandler:
    """Makes the handler of a Lambda function that SQS invokes, with partial batch responses.

    The event source mapping needs `FunctionResponseTypes: [ReportBatchItemFailures]`. Each message of
    the batch is called as `Egress` does, with the same handler, limiter, key and other options. What is
    not done in the time that is left returns to the queue and costs no token; of a FIFO queue, so does
    what stands behind it in its group.

    - `margin`: the seconds before the function's timeout at which no more calls begin; longer than a
      call takes.
    - `load`: a function of the message that gives its body, such as the object of S3 that a large
      payload's message names (claim check). It is called before the handler, after the token.
    - `reply`: is called with the message and the handler's result when the call is done, to send it on
      to SNS for example. If it fails, the message returns and the vendor is called again.
    - `on_outcome`: is called with an `Outcome` for each message.
    - `client`, `queue_url`: a boto3 client of SQS and the queue's URL. With them, a message that
      returns is delayed for the hold; otherwise it comes when its visibility ends.
    - `dead_letters`: the URL of the dead-letter queue, which needs `client`. Without it and without
      the option `dead_letter`, messages end by the redrive policy of their queue.

    >>> handle = sqs_batch_handler(lambda message: None, limiter="100/s")
    >>> record = {"messageId": "1", "receiptHandle": "r", "body": "{}", "attributes": {}}
    >>> handle({"Records": [record]}, None)
    {'batchItemFailures': []}
    """
    if dead_letters is not None and client is None:
        raise TypeError("dead_letters needs a client")

    # One limiter for all invocations, or each would begin with a full bucket.
    shared = Limiter(limiter) if isinstance(limiter, str) else limiter

    async def call(message: Message) -> Any:
        if load is not None:
            message = dataclasses.replace(message, body=await _called(load, message))
        result = await _called(handler, message)
        if reply is not None and outcome_of_result(result, options.get("profile", "generic"))[0] == "done":
            await _called(reply, message, result)
        return result

    def handle(event: Mapping[str, Any], context: Any) -> dict[str, list[dict[str, str]]]:
        batch = Batch(event["Records"], client, queue_url, dead_letters)
        egress = Egress(
            batch, call, limiter=shared, key=key, concurrency=concurrency, on_outcome=on_outcome, **options
        )
        batch.egress = egress
        remaining = None if context is None else context.get_remaining_time_in_millis() / 1000
        asyncio.run(_run(egress, batch, None if remaining is None else max(0.0, remaining - margin)))
        return {"batchItemFailures": [{"itemIdentifier": id} for id in batch.unfinished]}

    return handle


class Batch:
    """The records of one invocation as a queue that ends."""

    max_batch = 10
    ahead = 1.0
    # The function's timeout is shorter than the visibility, so nothing is extended.
    visibility = 0.0
    max_visibility = TWELVE_HOURS

    def __init__(
        self, records: Sequence[Mapping[str, Any]], client: Any, queue_url: str | None, dead_letters: str | None
    ) -> None:
        self._records = [_message_of_record(record) for record in records]
        self._client = client
        self._queue_url = queue_url
        self._dead_letters = dead_letters
        self._under_way = 0
        self.egress: Egress | None = None
        # Until it is known how a message ends, it is one to return.
        self.unfinished = {message.id: None for message in self._records}
        self.is_over = asyncio.Event()
        is_fifo = any(str(record.get("eventSourceARN", "")).endswith(".fifo") for record in records)
        self.order: Literal["none", "key"] = "key" if is_fifo else "none"

    async def open(self) -> None:
        pass

    async def receive(self, count: int) -> Sequence[Message]:
        taken, self._records = self._records[:count], self._records[count:]
        self._under_way += len(taken)
        if not taken:
            if self._under_way == 0:
                self._end()
            await self.is_over.wait()
        return taken

    async def ack(self, messages: Sequence[Message]) -> Sequence[Message]:
        for message in messages:
            self._ended(message, is_done=True)
        return []

    async def give_back(self, message: Message, delay: float, *, counted: bool) -> None:  # noqa: ARG002 (SQS counts)
        if self.order == "key":
            # What stands behind it in its group stays behind it.
            self._records = [other for other in self._records if other.group != message.group]
        self._ended(message, is_done=False)
        if self._client is not None and self._queue_url is not None and delay > 0:
            await asyncio.to_thread(
                self._client.change_message_visibility,
                QueueUrl=self._queue_url,
                ReceiptHandle=message.receipt,
                VisibilityTimeout=min(int(-(-delay // 1)), int(TWELVE_HOURS)),
            )

    async def extend(self, message: Message, by: float) -> None:
        pass

    async def dead_letter(self, message: Message, reason: _Reason) -> None:
        if self._dead_letters is None:
            raise LookupError("there is no dead-letter queue, so the redrive policy decides")
        await asyncio.to_thread(self._client.send_message, **dead_letter_of(message, reason, self._dead_letters))
        self._ended(message, is_done=True)

    async def backlog(self) -> int | None:
        return len(self._records)

    async def close(self) -> None:
        pass

    def _ended(self, message: Message, *, is_done: bool) -> None:
        if is_done:
            self.unfinished.pop(message.id, None)
        self._under_way -= 1
        if self._under_way == 0 and not self._records:
            self._end()

    def _end(self) -> None:
        self.is_over.set()
        if self.egress is not None:
            self.egress.stop()


async def _run(egress: Egress, batch: Batch, seconds: float | None) -> None:
    def out_of_time() -> None:
        egress.stop()
        batch.is_over.set()

    timer = None if seconds is None else asyncio.get_running_loop().call_later(seconds, out_of_time)
    try:
        await egress.run_async()
    finally:
        if timer is not None:
            timer.cancel()


async def _called(function: Callable[..., Any], *arguments: Any) -> Any:
    if inspect.iscoroutinefunction(function):
        return await function(*arguments)
    return await asyncio.to_thread(function, *arguments)


def _message_of_record(record: Mapping[str, Any]) -> Message:
    attributes = {}
    for name, value in record.get("messageAttributes", {}).items():
        # Lambda begins these names in lower case, and SQS wants them otherwise.
        written = {field[:1].upper() + field[1:]: content for field, content in value.items() if content}
        attributes[name] = written
    return message_of({
        "MessageId": record["messageId"],
        "Body": record["body"],
        "ReceiptHandle": record["receiptHandle"],
        "Attributes": record.get("attributes", {}),
        "MessageAttributes": attributes,
    })
