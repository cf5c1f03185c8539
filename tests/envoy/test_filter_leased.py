"""Tokens that the filter takes from the service ahead, so that requests need not wait for it."""

from __future__ import annotations

import threading
import time

from conftest import fetch, statuses, wait_until
from quota_service import QuotaService
from rls_server import OK, OVER_LIMIT, Descriptor, Request, Response, RlsServer, Silence

HEADERS = [("k", "a")]


def config(**service) -> dict:
    defaults = {"cluster": "tidegate", "timeout": "30s", "mode": "leased"}
    return {"key": {"header": "k"}, "service": {**defaults, **service}}


def counted(envoy) -> dict[str, int]:
    return {name: count for name, count in envoy.counters().items() if count}


class Bucket:
    """A bucket of so many tokens that gives what is asked for, or nothing."""

    def __init__(self, tokens: int) -> None:
        self.left = tokens
        self.given = 0
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Response:
        with self._lock:
            if request.hits_addend > self.left:
                return Response(OVER_LIMIT, remaining=self.left, reset_seconds=30)
            self.left -= request.hits_addend
            self.given += request.hits_addend
            return Response(OK, remaining=self.left)


def test_a_busy_key_needs_few_calls(start):
    bucket = Bucket(10**9)
    with RlsServer(bucket) as server:
        # Tokens are kept for long, so that a pause of a busy machine costs none.
        envoy = start(config(max_lease_ttl="60s"), rls_port=server.port)
        assert statuses(envoy, 600, headers=HEADERS) == [200] * 600
        counters = counted(envoy)
        assert counters["ok"] == 600
        assert len(server.requests) <= 150, len(server.requests)
        # No request was let through for which no token was given.
        assert bucket.given >= 600


def test_no_more_requests_pass_than_the_bucket_has_tokens(start):
    """Two workers, and many requests at once; every token that was taken ahead is used in the end."""
    bucket = Bucket(300)
    with RlsServer(bucket) as server:
        envoy = start(config(max_lease_ttl="60s"), rls_port=server.port, concurrency=2)
        found: list[int] = []

        def ask() -> None:
            found.extend(statuses(envoy, 100, headers=HEADERS))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        passed = found.count(200)
        assert set(found) == {200, 429}
        # A worker may have tokens left that its clients did not need.
        assert 200 <= passed <= 300
        assert passed <= bucket.given <= 300


def test_a_refused_key_costs_no_more_calls_and_is_told_when_to_come_back(start):
    with RlsServer(Bucket(0)) as server:
        envoy = start(config(), rls_port=server.port)
        assert statuses(envoy, 100, headers=HEADERS) == [429] * 100
        # The refusal counts for 10 s at most; a busy machine may take longer.
        assert len(server.requests) <= 5
        refused = fetch(envoy, headers=HEADERS)
        assert 1 <= int(refused.headers["retry-after"]) <= 30
        assert counted(envoy) == {"limited_service": 101}


def test_the_service_keeps_the_bucket_of_exact_and_leased_filters(start):
    rules = '[[rules]]\nmatch = ["key"]\nlimits = ["200/d"]\n'
    with QuotaService(rules=rules) as service:
        leased = start(config(max_lease_ttl="60s"), rls_port=service.port)
        exact = start(config(mode="exact"), rls_port=service.port)
        first = statuses(leased, 120, headers=HEADERS).count(200)
        rest = statuses(exact, 200, headers=HEADERS).count(200)
        # What the first had left is used by it.
        last = statuses(leased, 100, headers=HEADERS).count(200)
        assert (first, rest <= 80) == (120, True)
        assert first + rest + last == 200


def test_requests_pass_while_the_service_is_silent_as_long_as_there_are_tokens(start):
    silent = threading.Event()

    def respond(_: Request) -> Response:
        if silent.is_set():
            raise Silence
        return Response(OK)

    with RlsServer(respond) as server:
        envoy = start(config(max_lease_ttl="60s", on_error="deny", timeout="200ms"), rls_port=server.port)
        # Tokens taken ahead are there, and no call is under way.
        wait_until(
            lambda: statuses(envoy, 40, headers=HEADERS)[-1] == 200
            and envoy.counters()["lease_calls"] > 0,
            "tokens are taken ahead",
        )
        silent.set()
        began = time.monotonic()
        assert fetch(envoy, headers=HEADERS).status in (200, 503)
        wait_until(lambda: 503 in statuses(envoy, 50, headers=HEADERS), "the tokens are used up")
        took = time.monotonic() - began
        assert took < 60
        silent.clear()
        wait_until(lambda: statuses(envoy, 10, headers=HEADERS) == [200] * 10, "the service is back")


def test_tokens_that_ended_requests_have_taken_ahead_serve_later_ones(start):
    """The call for tokens belongs to the filter, and not to the request that caused it."""
    with RlsServer(Bucket(10**6)) as server:
        envoy = start(config(max_lease_ttl="60s"), rls_port=server.port)
        statuses(envoy, 200, headers=HEADERS)
        given = sum(request.hits_addend for request in server.requests)
        left = given - 200
        assert left >= 0
        calls = len(server.requests)
        # All that is left passes without a call for each request.
        assert statuses(envoy, 50, headers=HEADERS) == [200] * 50
        assert len(server.requests) - calls <= 25


def test_cold_requests_pass_or_are_refused_if_configured(start):
    with RlsServer(Bucket(10**6)) as server:
        passing = start(config(on_cold="allow"), rls_port=server.port)
        assert statuses(passing, 3, headers=HEADERS) == [200] * 3
        wait_until(lambda: len(server.requests) >= 3, "each is charged")
        refusing = start(config(on_cold="deny", max_lease_ttl="60s"), rls_port=server.port)
        assert fetch(refusing, headers=[("k", "cold")]).status == 429
        wait_until(lambda: fetch(refusing, headers=[("k", "cold")]).status == 200, "a token came")


def test_descriptors_of_all_modes_in_one_request(start):
    config = {
        "descriptors": [
            {"actions": [{"remote_address": {}}], "mode": "local", "local": {"limits": ["90/d"]}},
            {"actions": [{"path": {}}], "mode": "leased"},
            {"actions": [{"request_headers": {"header_name": "k", "descriptor_key": "k"}}]},
        ],
        "service": {"cluster": "tidegate", "timeout": "30s", "max_lease_ttl": "60s"},
    }
    with RlsServer(lambda _: Response(OK)) as server:
        envoy = start(config, rls_port=server.port)
        assert statuses(envoy, 100, headers=HEADERS) == [200] * 90 + [429] * 10
        exact = Descriptor([("k", "a")])
        asked = [descriptor for request in server.requests for descriptor in request.descriptors]
        assert asked.count(exact) == 90
        assert 1 <= len(asked) - 90 < 90


def test_more_keys_than_there_are_places_leave_an_honest_key_its_tokens(start):
    """200 keys in 16 places: their tokens lapse, and the honest key has its own."""
    with RlsServer(Bucket(10**6)) as server:
        envoy = start({**config(), "local": {"limits": ["1000/s"], "max_keys": 16}}, rls_port=server.port)
        for number in range(200):
            assert fetch(envoy, headers=[("k", str(number))]).status == 200
        assert statuses(envoy, 30, headers=HEADERS) == [200] * 30
