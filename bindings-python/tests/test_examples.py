"""The programs in examples/ run as they are written, and the Lambda function's template has settings that fit."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from conftest import RedisServer
from moto.server import ThreadedMotoServer

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DEADLINE = 120


def run(program: str, *arguments: str) -> str:
    command = [sys.executable, EXAMPLES / program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_gateway_ends_each_request_once_and_keeps_the_vendors_limit(redis_server: RedisServer) -> None:
    # The jitter is long, because a busy machine delays a request after it has got its token.
    shown = run("vendor-gateway/vendor_gateway.py", "--messages", "40", "--jitter", "1s", "--store", redis_server.url)
    assert "{'done': 35, 'permanent': 4, 'stale': 1}" in shown
    assert re.search(r"the vendor: 35 answers, 0 refusals, at most \d+ in a second of 20", shown)
    assert "replies in SNS's queue: 35; dead letters: 5" in shown
    assert "in hand" in shown, "it shows what happens"


def test_the_model_is_called_within_both_limits() -> None:
    shown = run("llm/llm.py")
    assert "90 calls" in shown
    assert re.search(r"call  90 at +[0-9.]+ s · left: +\d+ requests, +\d+ tokens", shown)


class Vendor(BaseHTTPRequestHandler):
    """Answers the amount that a call brings, and refuses negative ones."""

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = json.dumps({"paid": request["amount"]}).encode()
        self.send_response(200 if request["amount"] >= 0 else 422)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


def test_the_lambda_function_calls_replies_and_tells_what_failed(
    redis_server: RedisServer, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor = ThreadingHTTPServer(("127.0.0.1", 0), Vendor)
    threading.Thread(target=vendor.serve_forever, daemon=True).start()
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    try:
        host, port = moto.get_host_and_port()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s",
            "AWS_DEFAULT_REGION": "eu-west-1", "LIMIT": "1000/s", "STORE": redis_server.url,
            "VENDOR_URL": f"http://127.0.0.1:{vendor.server_port}/charges",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        sqs, sns, s3 = (boto3.client(name) for name in ("sqs", "sns", "s3"))
        queues = {name: sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("in", "out", "dead")}
        topic = sns.create_topic(Name="answers")["TopicArn"]
        arn = sqs.get_queue_attributes(QueueUrl=queues["out"], AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
        s3.create_bucket(Bucket="large", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        s3.put_object(Bucket="large", Key="one", Body=json.dumps({"amount": 7}))
        monkeypatch.setenv("REPLIES", topic)
        monkeypatch.setenv("QUEUE_URL", queues["in"])
        monkeypatch.setenv("DEAD_LETTERS", queues["dead"])
        monkeypatch.syspath_prepend(EXAMPLES / "lambda")
        monkeypatch.delitem(sys.modules, "handler", raising=False)
        import handler

        claims = [{"s3": {"bucket": "large", "key": key}} for key in ("one", "none")]
        bodies = [{"amount": 5}, claims[0], {"amount": -1}, claims[1]]
        records = [
            {"messageId": str(number), "receiptHandle": "r", "body": json.dumps(body), "attributes": {}}
            for number, body in enumerate(bodies)
        ]
        assert handler.handle({"Records": records}, None) == {"batchItemFailures": [{"itemIdentifier": "3"}]}
        replies = sqs.receive_message(QueueUrl=queues["out"], MaxNumberOfMessages=10)["Messages"]
        answers = [json.loads(json.loads(reply["Body"])["Message"])["answer"] for reply in replies]
        assert sorted(json.loads(answer)["paid"] for answer in answers) == [5, 7]
        (dead,) = sqs.receive_message(QueueUrl=queues["dead"], MessageAttributeNames=["All"])["Messages"]
        assert dead["MessageAttributes"]["tidegate-reason"]["StringValue"] == "permanent"
    finally:
        moto.stop()
        vendor.shutdown()
        vendor.server_close()


def test_the_template_has_settings_that_fit_together() -> None:
    text = (EXAMPLES / "lambda/template.yaml").read_text()
    resources = yaml.load(text, Template)["Resources"]
    queue, function = resources["Requests"]["Properties"], resources["Caller"]["Properties"]
    mapping = function["Events"]["Messages"]["Properties"]
    assert queue["VisibilityTimeout"] >= 6 * function["Timeout"], "AWS: six times the function's timeout"
    assert queue["RedrivePolicy"]["maxReceiveCount"] > 5, "more than the attempts of the handler"
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["BatchSize"] == 10
    assert mapping["ScalingConfig"]["MaximumConcurrency"] == 20
    needed = set(re.findall(r'os\.environ\["(\w+)"\]', (EXAMPLES / "lambda/handler.py").read_text()))
    assert set(function["Environment"]["Variables"]) == needed


class Template(yaml.SafeLoader):
    """Reads the functions of CloudFormation as texts."""


Template.add_multi_constructor("!", lambda loader, suffix, node: f"{suffix} {node.value}")


def test_every_type_of_the_template_is_one_of_sam_or_cloudformation() -> None:
    resources: dict[str, Any] = yaml.load((EXAMPLES / "lambda/template.yaml").read_text(), Template)["Resources"]
    kinds = {resource["Type"] for resource in resources.values()}
    assert kinds == {"AWS::SQS::Queue", "AWS::SNS::Topic", "AWS::Serverless::Function"}
