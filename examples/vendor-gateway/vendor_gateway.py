"""A gateway to a vendor: requests come from SQS, leave at the vendor's rate, and their answers go to SNS.

    pip install ./bindings-python boto3 requests 'moto[server]'
    python examples/vendor-gateway/vendor_gateway.py

It brings an SQS, an SNS and a vendor of its own, which live in this process, and ends when all requests have ended. One
request of ten is wrong, and one comes too late. They become dead letters, and the late one is never sent. With
--store redis://… the limit is kept in Redis, where any number of processes share it.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import threading
import time
from collections import Counter, deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import requests
from moto.server import ThreadedMotoServer

from tidegate import Limiter
from tidegate.egress import Egress, EgressGauges, Message, Outcome, SqsQueue

RATE = 20


def main() -> int:
    given = options().parse_args()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    vendor = Vendor(RATE)
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "example", "AWS_SECRET_ACCESS_KEY": "example",
    }  # fmt: skip
    try:
        return run(given, vendor)
    finally:
        vendor.shutdown()
        moto.stop()


def run(given: argparse.Namespace, vendor: Vendor) -> int:
    sqs, sns = boto3.client("sqs"), boto3.client("sns")
    queues = {name: sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("requests", "replies", "dead-letters")}
    topic = sns.create_topic(Name="answers")["TopicArn"]
    arn = sqs.get_queue_attributes(QueueUrl=queues["replies"], AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    for number in range(given.messages):
        request = {"number": number, "amount": -1 if number % 10 == 7 else number}
        if number == 3:
            request["until"] = time.time() - 60
        sqs.send_message(QueueUrl=queues["requests"], MessageBody=json.dumps(request))

    session = requests.Session()
    ends: Counter[str] = Counter()

    def call(message: Message) -> requests.Response:
        request = json.loads(message.body)
        # The vendor tells repetitions by the key, should this process die between the call and the deletion.
        response = session.post(vendor.url, json=request, headers={"Idempotency-Key": message.id}, timeout=10)
        if response.ok:
            sns.publish(TopicArn=topic, Message=response.text)
        return response

    def ended(outcome: Outcome) -> None:
        ends[outcome.reason or outcome.end] += 1
        if outcome.end != "returned" and sum(ends.values()) - ends["returned"] == given.messages:
            egress.stop()

    def show(gauges: EgressGauges) -> None:
        in_hand, dead = gauges.waiting + gauges.in_flight, sum(gauges.dead_letters.values())
        line = (
            f"waiting in SQS {gauges.lag or 0:4} · in hand {in_hand:3} · done {ends['done']:4} · dead {dead:3} · "
            f"429 {gauges.throttled_ratio:.1%} · held {gauges.held_for:.1f} s"
        )
        end = "\r" if sys.stdout.isatty() else "\n"
        print(line, end=end, flush=True)

    # One token at a time, and room for what the network delays: the vendor's window is never exceeded.
    limiter = Limiter(f"{RATE} in any 1s jitter {given.jitter}", store=given.store, prefix="vendor-gateway")
    queue = SqsQueue(sqs, queues["requests"], dead_letters=queues["dead-letters"], wait_time=0)
    egress = Egress(
        queue, call, limiter=limiter, concurrency=10, max_attempts=5, back_off=0.5, on_outcome=ended,
        deadline=lambda message: json.loads(message.body).get("until"), observer=show, observe_every=0.5,
    )  # fmt: skip
    began = time.monotonic()
    egress.run()
    took = time.monotonic() - began
    session.close()

    replies = count_of(sqs, queues["replies"])
    print(f"\n{given.messages} requests in {took:.1f} s: {dict(sorted(ends.items()))}")
    busiest = f"at most {vendor.busiest} in a second of {RATE}"
    print(f"the vendor: {vendor.accepted} answers, {vendor.refused} refusals, {busiest}")
    print(f"replies in SNS's queue: {replies}; dead letters: {count_of(sqs, queues['dead-letters'])}")
    return 0 if replies == ends["done"] and vendor.refused == 0 else 1


class Vendor(ThreadingHTTPServer):
    """A vendor who allows `limit` calls in any second, and answers 429 to others."""

    daemon_threads = True

    def __init__(self, limit: int) -> None:
        super().__init__(("127.0.0.1", 0), VendorHandler)
        self.limit = limit
        self.lock = threading.Lock()
        self.recent: deque[float] = deque()
        self.accepted = self.refused = self.busiest = 0
        self.url = f"http://127.0.0.1:{self.server_port}/charges"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def admits(self) -> bool:
        now = time.monotonic()
        with self.lock:
            while self.recent and self.recent[0] <= now - 1:
                self.recent.popleft()
            if len(self.recent) >= self.limit:
                self.refused += 1
                return False
            self.recent.append(now)
            self.busiest = max(self.busiest, len(self.recent))
            return True


class VendorHandler(BaseHTTPRequestHandler):
    """Answers one call."""

    protocol_version = "HTTP/1.1"
    server: Vendor

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.server.admits():
            self.answer(429, {"error": "too many requests"}, {"Retry-After": "1"})
        elif request["amount"] < 0:
            self.answer(422, {"error": "an amount is never negative"})
        else:
            self.server.accepted += 1
            self.answer(200, {"number": request["number"], "status": "paid"})

    def answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(text)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """The gateway shows what happens."""


def count_of(sqs: Any, url: str) -> int:
    name = "ApproximateNumberOfMessages"
    return int(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name])


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100, help="how many requests (100)")
    parser.add_argument("--store", default="memory://", help="where the limit is kept (memory://)")
    parser.add_argument("--jitter", default="100ms", help="by how much the network's delay varies (100ms)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
