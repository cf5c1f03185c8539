"""A Lambda function that SQS invokes: each message becomes a call to the vendor, at the fleet's rate.

template.yaml deploys it. Its settings come from the environment:

- `LIMIT` and `STORE`: the limit of the vendor, and the Redis that all instances share.
- `VENDOR_URL`: what is called. `REPLIES`: the SNS topic of the answers.
- `QUEUE_URL`, `DEAD_LETTERS`: the URLs of the queue, and of its dead letters.

A body of `{"s3": {"bucket": …, "key": …}}` is a claim check: the payload is fetched when the call is made.
"""

from __future__ import annotations

import json
import os
from typing import Any

import boto3
import requests

from tidegate import Limiter
from tidegate.egress import Message, sqs_batch_handler

session = requests.Session()
sqs, sns, s3 = (boto3.client(name) for name in ("sqs", "sns", "s3"))


def load(message: Message) -> Any:
    body = json.loads(message.body)
    place = body.get("s3") if isinstance(body, dict) else None
    if place is None:
        return body
    return json.load(s3.get_object(Bucket=place["bucket"], Key=place["key"])["Body"])


def call(message: Message) -> requests.Response:
    headers = {"Idempotency-Key": message.id}
    return session.post(os.environ["VENDOR_URL"], json=message.body, headers=headers, timeout=5)


def reply(message: Message, response: requests.Response) -> None:
    answer = {"id": message.id, "status": response.status_code, "answer": response.text}
    sns.publish(TopicArn=os.environ["REPLIES"], Message=json.dumps(answer))


handle = sqs_batch_handler(
    call,
    limiter=Limiter(os.environ["LIMIT"], store=os.environ["STORE"], prefix="vendor", store_timeout=1),
    client=sqs,
    queue_url=os.environ["QUEUE_URL"],
    dead_letters=os.environ["DEAD_LETTERS"],
    load=load,
    reply=reply,
)
