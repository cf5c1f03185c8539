"""Limits of a rate limit service, which the filter asks over gRPC."""

from __future__ import annotations

import json
import pathlib
import socket
import threading
import time

import grpc
import pytest
from conftest import fetch, statuses, wait_until
from envoy_process import HOST
from quota_service import QuotaService
from rls_server import OK, OVER_LIMIT, Failure, Request, Response, RlsServer, Silence

HEADERS = [("k", "a")]
VECTORS = pathlib.Path(__file__).resolve().parents[1] / "vectors"


def config(on_error: str = "allow", timeout: str = "30s", **more):
    service = {"cluster": "tidegate", "timeout": timeout, "on_error": on_error}
    return {"key": {"header": "k"}, "service": service, **more}


def counted(envoy) -> dict[str, int]:
    return {name: count for name, count in envoy.counters().items() if count}


def test_the_service_is_asked_for_every_request_and_decides(start):
    answers = iter([Response(OK), Response(OVER_LIMIT), Response(OK)])
    with RlsServer(lambda _: next(answers)) as server:
        envoy = start(config(), rls_port=server.port)
        assert statuses(envoy, 3, headers=HEADERS) == [200, 429, 200]
        assert server.requests == [Request("tidegate", [("key", "a")], 1)] * 3
        assert counted(envoy) == {"ok": 2, "limited_service": 1}


def test_domain_descriptor_and_key_are_sent_unchanged(start):
    with RlsServer(lambda _: Response(OK)) as server:
        service = {"cluster": "tidegate", "domain": "edge", "descriptor": "api_key"}
        service["timeout"] = "30s"
        envoy = start({"key": {"header": "k"}, "service": service}, rls_port=server.port)
        for value in ("ü", "x" * 1024):
            assert fetch(envoy, headers=[("k", value.encode())]).status == 200
            assert server.requests[-1] == Request("edge", [("api_key", value)], 1)


def test_a_refusal_has_the_headers_and_the_body_of_the_service(start):
    refusal = Response(
        OVER_LIMIT,
        limit=50,
        remaining=0,
        reset_seconds=1.25,
        headers={"X-RateLimit-Limit": "50, 50;w=1", "x-from": "service", "bad name": "x"},
        body=b"slow down\n",
    )
    with RlsServer(lambda _: refusal) as server:
        envoy = start(config(), rls_port=server.port)
        refused = fetch(envoy, headers=HEADERS)
        assert (refused.status, refused.body) == (429, "slow down\n")
        expect = {
            "x-ratelimit-limit": "50, 50;w=1",
            "x-ratelimit-remaining": "0",
            "x-ratelimit-reset": "2",
            "retry-after": "2",
            "x-from": "service",
        }
        assert expect.items() <= refused.headers.items()
        assert "bad name" not in refused.headers
        wait_until(lambda: len(envoy.access_log()) == 1, "a line in the access log")
        assert envoy.access_log()[0]["details"] == "tidegate_limited_service"


def test_a_request_that_a_local_limit_refuses_is_not_sent_to_the_service(start):
    with RlsServer(lambda _: Response(OK)) as server:
        envoy = start(config(local={"limits": ["2/h"]}), rls_port=server.port)
        assert statuses(envoy, 5, headers=HEADERS) == [200, 200, 429, 429, 429]
        assert len(server.requests) == 2
        assert counted(envoy) == {"ok": 2, "limited_local": 3}


def test_keys_are_sent_as_the_table_says(start):
    """Bytes that HTTP does not allow in a header, and spaces around a value, are left out."""
    with RlsServer(lambda _: Response(OK)) as server:
        envoy = start(config(), rls_port=server.port)
        sent = 0
        for case in json.loads((VECTORS / "keys.json").read_text())["keys"]:
            key = bytes.fromhex(case["hex"]) * case["times"]
            if b"\0" in key:
                continue
            assert fetch(envoy, headers=[("k", key)]).status == 200
            text = case["text"] or key.decode()
            assert server.requests[-1] == Request("tidegate", [("key", text)], 1), case["name"]
            sent += 1
        assert sent == len(server.requests) > 10


POLICIES = pytest.mark.parametrize(
    ("on_error", "status"), [("allow", 200), ("deny", 503)], ids=["allow", "deny"]
)


@POLICIES
def test_a_service_that_is_down(start, closed_port, on_error, status):
    envoy = start(config(on_error), rls_port=closed_port)
    assert statuses(envoy, 3, headers=HEADERS) == [status] * 3
    assert counted(envoy) == {"service_error": 3}


@POLICIES
def test_a_service_that_is_silent(start, on_error, status):
    def silence(_: Request) -> Response:
        raise Silence

    with RlsServer(silence) as server:
        envoy = start(config(on_error, timeout="200ms"), rls_port=server.port)
        began = time.monotonic()
        assert statuses(envoy, 2, headers=HEADERS) == [status] * 2
        # Two timeouts, one after the other; Envoy rounds its timers to milliseconds.
        assert 0.39 <= time.monotonic() - began < 20
        assert counted(envoy) == {"service_error": 2}


@POLICIES
def test_a_cluster_that_envoy_does_not_know(start, on_error, status):
    envoy = start(config(on_error))
    assert statuses(envoy, 3, headers=HEADERS) == [status] * 3
    assert counted(envoy) == {"service_error": 3}


# The names of Istio and of Envoy Gateway, of the greatest length, and one whose bytes are a message that
# Envoy would read in place of a name.
@pytest.mark.parametrize(
    "name",
    [
        "outbound|8081||tidegate.tidegate.svc.cluster.local",
        "httproute/default/tidegate/rule/0",
        "n" * 255,
        "\n" + chr(152) + "x" * 150,
    ],
    ids=["istio", "envoy-gateway", "longest", "like-a-message"],
)
def test_a_cluster_of_any_name_reaches_the_quota_service(start, name):
    with QuotaService("--limit", "3/d", "--request-timeout", "30s") as service:
        filter_config = config()
        filter_config["service"]["cluster"] = name
        envoy = start(filter_config, rls_port=service.port, cluster=name)
        assert statuses(envoy, 5, headers=HEADERS) == [200] * 3 + [429] * 2
        assert counted(envoy) == {"ok": 3, "limited_service": 2}


@POLICIES
def test_a_service_whose_response_has_no_code(start, on_error, status):
    with RlsServer(lambda _: Response(code=0)) as server:
        envoy = start(config(on_error), rls_port=server.port)
        assert statuses(envoy, 2, headers=HEADERS) == [status] * 2
        assert counted(envoy) == {"service_error": 2}


def test_a_request_that_on_error_refuses_is_told_why(start, closed_port):
    envoy = start(config("deny"), rls_port=closed_port)
    assert fetch(envoy, headers=HEADERS).body == "the rate limit service is not available\n"
    wait_until(lambda: len(envoy.access_log()) == 1, "a line in the access log")
    assert envoy.access_log()[0]["details"] == "tidegate_service_error"


def test_an_open_breaker_keeps_requests_from_a_silent_service_until_it_answers(start):
    answering = threading.Event()

    def respond(_: Request) -> Response:
        if not answering.is_set():
            raise Silence
        return Response(OK)

    with RlsServer(respond) as server:
        envoy = start(config("deny", timeout="200ms"), rls_port=server.port)
        assert statuses(envoy, 3, headers=HEADERS) == [503] * 3
        assert counted(envoy) == {"service_error": 3}
        # Open: requests are answered at once, and only probes reach the service.
        began = time.monotonic()
        assert statuses(envoy, 200, headers=HEADERS) == [503] * 200
        took = time.monotonic() - began
        after = counted(envoy)
        assert after["service_error"] + after["breaker_open"] == 203
        probes = after["service_error"] - 3
        # The first wait is 50 to 100 ms, and each later one at least as long.
        assert probes <= 1 + took / 0.05
        assert after["breaker_open"] >= 190
        answering.set()
        # On a busy machine the service may exceed its timeout once more.
        wait_until(
            lambda: statuses(envoy, 10, headers=HEADERS) == [200] * 10,
            "the service is asked every time",
        )
        assert counted(envoy)["ok"] >= 10


@pytest.mark.parametrize("status", ["INVALID_ARGUMENT", "OUT_OF_RANGE", "DATA_LOSS"])
def test_requests_that_the_service_refuses_to_decide_open_no_breaker(start, status):
    """One client's bad requests do not keep others from being limited."""

    def respond(request: Request) -> Response:
        if request.entries == [("key", "bad")]:
            raise Failure(grpc.StatusCode[status])
        return Response(OVER_LIMIT)

    with RlsServer(respond) as server:
        envoy = start(config("deny"), rls_port=server.port)
        assert statuses(envoy, 8, headers=[("k", "bad")]) == [503] * 8
        assert fetch(envoy, headers=HEADERS).status == 429
        assert counted(envoy) == {"service_error": 8, "limited_service": 1}


@pytest.mark.parametrize("size", [48_000, 57_000, 60_000, 64_000, 65_530, 70_000, 500_000])
def test_a_refusal_with_a_large_body_is_answered(start, size):
    """The filter reads the first 48 KiB of a response."""
    refusal = Response(OVER_LIMIT, limit=50, headers={"x-from": "service"}, body=b"x" * size)
    with RlsServer(lambda _: refusal) as server:
        envoy = start(config(), rls_port=server.port)
        refused = fetch(envoy, headers=HEADERS)
        assert (refused.status, refused.headers["x-from"]) == (429, "service")
        assert refused.body == "x" * len(refused.body)
        assert len(refused.body) == size if size < 49_000 else len(refused.body) > 49_000
        assert counted(envoy) == {"limited_service": 1}


def test_a_client_that_disconnects_before_the_response(start):
    """The outcome of its call is counted, and later requests are decided as ever."""
    asked = threading.Event()
    answer = threading.Event()

    def respond(request: Request) -> Response:
        if request.entries == [("key", "gone")]:
            asked.set()
            answer.wait(60)
        return Response(OVER_LIMIT if request.entries == [("key", "gone")] else OK)

    with RlsServer(respond) as server:
        envoy = start(config(timeout="60s"), rls_port=server.port)
        with socket.create_connection((HOST, envoy.port)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nk: gone\r\n\r\n")
            assert asked.wait(60)
        closed = "http.http.downstream_cx_destroy_remote_active_rq"
        wait_until(lambda: envoy.stats(closed).get(closed) == 1, "Envoy sees the client go")
        answer.set()
        wait_until(lambda: counted(envoy) == {"limited_service": 1}, "the answer is heard")
        assert statuses(envoy, 3, headers=HEADERS) == [200] * 3
        assert counted(envoy) == {"limited_service": 1, "ok": 3}


def test_many_requests_wait_at_once_and_each_gets_its_own_response(start):
    def respond(request: Request) -> Response:
        time.sleep(0.01)
        return Response(OVER_LIMIT if int(request.entries[0][1]) % 3 == 0 else OK)

    with RlsServer(respond) as server:
        envoy = start(config(timeout="60s"), rls_port=server.port, concurrency=2)
        found: dict[int, int] = {}

        def ask(first: int) -> None:
            for number in range(first, 240, 24):
                found[number] = fetch(envoy, headers=[("k", str(number))]).status

        threads = [threading.Thread(target=ask, args=(first,)) for first in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == {number: 429 if number % 3 == 0 else 200 for number in range(240)}
        assert counted(envoy) == {"ok": 160, "limited_service": 80}
