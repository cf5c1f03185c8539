"""Envoy's own filter of the rate limit quota service, and clients that send requests at a pace."""

from __future__ import annotations

import dataclasses
import socket
import threading
import time
from typing import Any

from envoy_process import CLUSTER, HOST

EXTENSION = "type.googleapis.com/envoy.extensions.filters.http.rate_limit_quota.v3"
TYPE = "type.googleapis.com/envoy.type.v3"
HEADER_INPUT = "type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput"


def quota_filter(
    bucket: dict[str, Any] | None = None, interval: str = "0.5s", domain: str = "edge", **settings: Any
) -> dict[str, Any]:
    """The filter, with one bucket for all requests unless its id is given."""
    bucket = bucket or {"name": {"string_value": "all"}}
    settings = {
        "@type": f"{EXTENSION}.RateLimitQuotaBucketSettings",
        "bucket_id_builder": {"bucket_id_builder": bucket},
        "reporting_interval": interval,
        **settings,
    }
    return {
        "name": "envoy.filters.http.rate_limit_quota",
        "typed_config": {
            "@type": f"{EXTENSION}.RateLimitQuotaFilterConfig",
            "rlqs_server": {"envoy_grpc": {"cluster_name": CLUSTER}},
            "domain": domain,
            "bucket_matchers": {
                "on_no_match": {"action": {"name": "quota", "typed_config": settings}}
            },
        },
    }


@dataclasses.dataclass(frozen=True)
class Sent:
    """A request: when it was sent, when it was answered, and whether it was allowed."""

    sent: float
    answered: float
    allowed: bool


class Client:
    """Sends requests to one Envoy at an even pace that can be changed, while entered."""

    def __init__(self, port: int, rate: float) -> None:
        self.rate = rate
        self.requests: list[Sent] = []
        self._port = port
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Client:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def allowed(self, begin: float, end: float) -> int:
        """How many requests were sent within that time and allowed."""
        return sum(it.allowed and begin <= it.sent < end for it in self.requests)

    def _run(self) -> None:
        with socket.create_connection((HOST, self._port), 60) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            due = time.monotonic()
            while not self._stop.is_set():
                if self.rate == 0:
                    time.sleep(0.005)
                    due = time.monotonic()
                    continue
                # A client that the machine has kept from sending does not catch up more than 50 ms.
                due = max(due + 1 / self.rate, time.monotonic() - 0.05)
                time.sleep(max(0.0, due - time.monotonic()))
                self.requests.append(_request(connection))


def _request(connection: socket.socket) -> Sent:
    sent = time.monotonic()
    connection.sendall(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(65536)
    head, body = answer.split(b"\r\n\r\n", 1)
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    while len(body) < length:
        body += connection.recv(65536)
    return Sent(sent, time.monotonic(), head.split(b" ", 2)[1] == b"200")


def busiest_second(requests: list[Sent], begin: float) -> int:
    """The most requests that a second has certainly admitted.

    A request is decided between its sending and its answer. It counts in a second that holds both, so
    that a machine which delays the one or the other makes no second look busier than it was.
    """
    allowed = sorted((it for it in requests if it.allowed and it.sent >= begin), key=lambda it: it.sent)
    most = 0
    for first, request in enumerate(allowed):
        end = request.sent + 1
        count = 0
        for other in allowed[first:]:
            if other.sent >= end:
                break
            count += other.answered < end
        most = max(most, count)
    return most
