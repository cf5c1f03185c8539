"""`SqsQueue` and `sqs_batch_handler` against the SQS of moto's server."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.config import Config

from tidegate import AsyncLimiter, InvalidArgument, Limiter
from tidegate.egress import Egress, Message, Outcome, PermanentFailure, RetryLater, SqsQueue, sqs_batch_handler

START_DEADLINE = 60.0
DEADLINE = 120.0
DOCS = Path(__file__).resolve().parents[2] / "docs" / "egress.md"


@pytest.fixture(scope="session")
def sqs() -> Iterator[Any]:
    """A client of one server for all tests, which is stopped by its process id."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + START_DEADLINE
        while True:
            assert server.poll() is None, "moto's server ended while starting"
            assert time.monotonic() < deadline, "moto's server did not start in time"
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        os.environ |= {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "s", "AWS_DEFAULT_REGION": "eu-west-1",
        }  # fmt: skip
        client = boto3.client("sqs", config=Config(max_pool_connections=20))
        yield client
        client.close()
    finally:
        server.kill()
        server.wait()


def make(sqs: Any, name: str, **attributes: str) -> str:
    if name.endswith(".fifo"):
        attributes |= {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
    url: str = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    return url


def left(sqs: Any, url: str) -> tuple[int, int]:
    """Messages that are visible, and those that are hidden."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return int(found[names[0]]), int(found[names[1]])


async def until(egress: Egress, is_enough: Any) -> None:
    task = asyncio.create_task(egress.run_async())
    deadline = time.monotonic() + DEADLINE
    try:
        while not is_enough():
            assert not task.done() and time.monotonic() < deadline
            await asyncio.sleep(0.01)
    finally:
        egress.stop()
        await task


async def test_each_message_is_received_once_at_the_rate(sqs: Any, prefix: str) -> None:
    url = make(sqs, prefix)
    for start in range(0, 100, 10):
        entries = [{"Id": str(n), "MessageBody": str(n)} for n in range(start, start + 10)]
        sqs.send_message_batch(QueueUrl=url, Entries=entries)
    calls: list[float] = []
    attempts: list[int] = []

    async def call(message: Message) -> None:
        calls.append(time.monotonic())
        attempts.append(message.attempts)

    outcomes: list[Outcome] = []
    egress = Egress(
        SqsQueue(sqs, url, wait_time=0), call, limiter=AsyncLimiter("50/s burst 1"), concurrency=30,
        on_outcome=outcomes.append,
    )  # fmt: skip
    await until(egress, lambda: len(outcomes) == 100)
    assert attempts == [1] * 100
    assert calls[-1] - calls[0] >= 99 / 50 * 0.98
    assert left(sqs, url) == (0, 0)
    print(f"100 messages in {calls[-1] - calls[0]:.3f} s")


async def test_holds_failures_and_dead_letters(sqs: Any, prefix: str) -> None:
    url, dead = make(sqs, prefix), make(sqs, f"{prefix}-dead")
    kinds = {"kind": {"DataType": "String", "StringValue": "test"}}
    for body in ("held", "permanent", "failing", "well"):
        sqs.send_message(QueueUrl=url, MessageBody=body, MessageAttributes=kinds)
    attempts: Counter[str] = Counter()
    times: dict[str, list[float]] = {"held": []}

    def call(message: Message) -> None:
        attempts[message.body] += 1
        if message.body == "held":
            times["held"].append(time.monotonic())
            if attempts["held"] == 1:
                raise RetryLater(1.2)
        if message.body == "permanent":
            raise PermanentFailure
        if message.body == "failing":
            raise ConnectionError

    outcomes: list[Outcome] = []
    queue = SqsQueue(sqs, url, dead_letters=dead, wait_time=0)
    egress = Egress(
        queue, call, limiter="1000/s", max_attempts=3, back_off=0.1, jitter=0.0, on_outcome=outcomes.append
    )
    ends = lambda: Counter(outcome.end for outcome in outcomes if outcome.end != "returned")  # noqa: E731
    await until(egress, lambda: ends() == {"done": 2, "dead_lettered": 2})
    assert attempts["held"] == 2 and attempts["permanent"] == attempts["well"] == 1
    assert times["held"][1] - times["held"][0] >= 1.2
    found = sqs.receive_message(QueueUrl=dead, MaxNumberOfMessages=10, MessageAttributeNames=["All"])["Messages"]
    reasons = {each["Body"]: each["MessageAttributes"]["tidegate-reason"]["StringValue"] for each in found}
    assert reasons == {"permanent": "permanent", "failing": "exhausted"}
    assert {each["MessageAttributes"]["kind"]["StringValue"] for each in found} == {"test"}
    assert left(sqs, url) == (0, 0)


async def test_a_message_group_keeps_its_order(sqs: Any, prefix: str) -> None:
    url = make(sqs, f"{prefix}.fifo")
    for number in range(12):
        sqs.send_message(QueueUrl=url, MessageBody=str(number), MessageGroupId=str(number % 2))
    done: dict[str, list[int]] = {"0": [], "1": []}
    failed: list[str] = []

    async def call(message: Message) -> None:
        if message.body == "4" and not failed:
            failed.append(message.body)
            raise ConnectionError
        assert message.group is not None
        done[message.group].append(int(message.body))

    # Two in hand, because moto delivers the last of several messages of a group that return together first.
    egress = Egress(SqsQueue(sqs, url, wait_time=0), call, limiter="1000/s", back_off=0.1, concurrency=2)
    await until(egress, lambda: sum(map(len, done.values())) == 12)
    assert done == {"0": [0, 2, 4, 6, 8, 10], "1": [1, 3, 5, 7, 9, 11]}


async def test_visibility_is_extended_while_a_call_lasts(sqs: Any, prefix: str) -> None:
    url = make(sqs, prefix)
    sqs.send_message(QueueUrl=url, MessageBody="slow")
    calls: list[int] = []
    outcomes: list[Outcome] = []

    async def slow(message: Message) -> None:
        calls.append(message.attempts)
        await asyncio.sleep(3.5)

    egress = Egress(
        SqsQueue(sqs, url, wait_time=0, visibility=2), slow, limiter="1000/s", on_outcome=outcomes.append
    )
    await until(egress, lambda: bool(outcomes))
    assert calls == [1]
    assert left(sqs, url) == (0, 0)


async def test_a_deletion_that_fails_in_part_is_made_again(prefix: str) -> None:
    deleted: list[str] = []

    class Stub:
        def delete_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, str]]) -> dict[str, Any]:
            failed = [] if deleted else [{"Id": Entries[-1]["Id"]}]
            deleted.extend(each["ReceiptHandle"] for each in Entries[: len(Entries) - len(failed)])
            return {"Failed": failed}

    queue = SqsQueue(Stub(), "https://queue")
    await queue.open()
    messages = [Message(id=str(n), body="", receipt=str(n)) for n in range(3)]
    again = await queue.ack(messages)
    assert [each.id for each in again] == ["2"]
    assert await queue.ack(again) == []
    assert deleted == ["0", "1", "2"]
    await queue.close()


def test_arguments_are_checked() -> None:
    with pytest.raises(InvalidArgument, match="visibility"):
        SqsQueue(None, "https://queue", visibility=1)
    with pytest.raises(TypeError, match="client"):
        sqs_batch_handler(print, limiter="1/s", dead_letters="https://dead")


# --- Lambda ---------------------------------------------------------------------------------------


def event_of(sqs: Any, url: str, arn: str = "arn:aws:sqs:eu-west-1:123456789012:orders") -> dict[str, Any]:
    """What Lambda makes of a receive."""
    found = sqs.receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, AttributeNames=["All"], MessageAttributeNames=["All"]
    )
    records = [
        {
            "messageId": each["MessageId"], "receiptHandle": each["ReceiptHandle"], "body": each["Body"],
            "attributes": each["Attributes"], "md5OfBody": each["MD5OfBody"], "eventSource": "aws:sqs",
            "messageAttributes": {
                name: {"stringValue": value["StringValue"], "stringListValues": [], "dataType": value["DataType"]}
                for name, value in each.get("MessageAttributes", {}).items()
            },
            "eventSourceARN": arn, "awsRegion": "eu-west-1",
        }
        for each in found.get("Messages", [])
    ]  # fmt: skip
    return {"Records": records}


def context(seconds: float) -> Any:
    end = time.monotonic() + seconds
    return SimpleNamespace(get_remaining_time_in_millis=lambda: int((end - time.monotonic()) * 1000))


def bodies(event: dict[str, Any], answer: dict[str, Any]) -> list[str]:
    failures = [each["itemIdentifier"] for each in answer["batchItemFailures"]]
    names = {record["messageId"]: record["body"] for record in event["Records"]}
    return [names[failure] for failure in failures]


def test_a_batch_answers_what_failed(sqs: Any, prefix: str) -> None:
    url, dead = make(sqs, prefix), make(sqs, f"{prefix}-dead")
    kinds = {"kind": {"DataType": "String", "StringValue": "test"}}
    for body in ("well", "failing", "permanent", "held"):
        sqs.send_message(QueueUrl=url, MessageBody=body, MessageAttributes=kinds)
    replies: list[tuple[str, Any]] = []
    outcomes: list[Outcome] = []

    def call(message: Message) -> Any:
        name = message.body["object"]
        if name == "failing":
            raise TimeoutError
        if name == "permanent":
            return SimpleNamespace(status_code=422, headers={})
        if name == "held":
            time.sleep(0.2)  # after the others
            return SimpleNamespace(status_code=429, headers={"retry-after": "7"})
        return SimpleNamespace(status_code=200, headers={})

    handle = sqs_batch_handler(
        call, limiter="1000/s", client=sqs, queue_url=url, dead_letters=dead,
        load=lambda message: {"object": message.body},
        reply=lambda message, result: replies.append((message.body["object"], result.status_code)),
        on_outcome=outcomes.append,
    )  # fmt: skip
    event = event_of(sqs, url)
    assert len(event["Records"]) == 4
    answer = handle(event, context(30))
    assert sorted(bodies(event, answer)) == ["failing", "held"]
    assert replies == [("well", 200)]
    assert {outcome.message.body: outcome.end for outcome in outcomes} == {
        "well": "done", "failing": "returned", "permanent": "dead_lettered", "held": "returned",
    }  # fmt: skip
    held = next(outcome for outcome in outcomes if outcome.message.body == "held")
    assert 7 <= held.delay <= 8 and held.latency is not None
    (letter,) = sqs.receive_message(QueueUrl=dead, MessageAttributeNames=["All"])["Messages"]
    assert letter["Body"] == "permanent"
    assert letter["MessageAttributes"]["kind"]["StringValue"] == "test"


def test_a_batch_ends_before_the_function_does(sqs: Any, prefix: str) -> None:
    url = make(sqs, prefix)
    for number in range(6):
        sqs.send_message(QueueUrl=url, MessageBody=str(number))
    limiter = Limiter("2/d")
    called: list[str] = []
    handle = sqs_batch_handler(lambda message: called.append(message.body), limiter=limiter, margin=1.0)
    event = event_of(sqs, url)
    began = time.monotonic()
    answer = handle(event, context(1.5))
    assert len(called) == 2
    assert len(answer["batchItemFailures"]) == 4
    assert set(bodies(event, answer)) | set(called) == {str(number) for number in range(6)}
    assert time.monotonic() - began >= 0.5
    assert limiter.waiting("egress").callers == 0, "what waited for a token has given its place back"


def test_a_batch_of_a_fifo_queue_keeps_each_group_in_order(sqs: Any, prefix: str) -> None:
    url = make(sqs, f"{prefix}.fifo")
    for number in range(6):
        sqs.send_message(QueueUrl=url, MessageBody=str(number), MessageGroupId=str(number % 2))
    called: list[str] = []

    def call(message: Message) -> None:
        called.append(message.body)
        if message.body == "2":
            raise ConnectionError

    handle = sqs_batch_handler(call, limiter="1000/s", concurrency=2)
    event = event_of(sqs, url, "arn:aws:sqs:eu-west-1:123456789012:orders.fifo")
    answer = handle(event, context(30))
    assert sorted(bodies(event, answer)) == ["2", "4"]
    assert sorted(called) == ["0", "1", "2", "3", "5"]
    assert [body for body in called if int(body) % 2 == 0] == ["0", "2"]


def test_an_invocation_after_another_uses_the_same_limiter(sqs: Any, prefix: str) -> None:
    url = make(sqs, prefix)
    limiter = Limiter("3/d")
    handle = sqs_batch_handler(lambda message: None, limiter=limiter, margin=0.1)
    for expected in (0, 1):
        for number in range(2):
            sqs.send_message(QueueUrl=url, MessageBody=str(number))
        event = event_of(sqs, url)
        assert len(handle(event, context(0.6))["batchItemFailures"]) == expected


def test_the_examples_of_the_page(sqs: Any) -> None:
    make(sqs, "orders")
    blocks = re.findall(r"^```python\n(.*?)^```", DOCS.read_text(encoding="utf-8"), re.M | re.S)
    of_sqs = [block for block in blocks if "boto3" in block]
    assert len(of_sqs) == 2
    for block in of_sqs:
        exec(compile(block, str(DOCS), "exec"), {"__name__": "docs"})


def test_a_limit_given_as_a_text_counts_over_all_invocations() -> None:
    calls: list[float] = []
    handle = sqs_batch_handler(lambda message: calls.append(time.monotonic()), limiter="10/s burst 1")
    record = {"messageId": "1", "receiptHandle": "r", "body": "{}", "attributes": {}}
    for _ in range(4):
        assert handle({"Records": [record]}, None) == {"batchItemFailures": []}
    assert calls[-1] - calls[0] >= 0.29
