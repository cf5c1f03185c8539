"""Budgets of language models: an estimate is reserved at the request, and what the response tells is settled."""

from __future__ import annotations

import http.client
import json

import pytest
from conftest import fetch, wait_until
from quota_service import QuotaService
from rls_server import OK, OVER_LIMIT, Descriptor, Response, RlsServer
from upstream import Answer, Upstream

HEADERS = [("k", "a")]
JSON = {"settle": {"json": "usage.total_tokens"}}


def told(used: int) -> bytes:
    choices = [{"delta": {"content": '{"usage":{"total_tokens":1}}' * 40}}]
    return json.dumps({"choices": choices, "usage": {"total_tokens": used}}).encode()


def events(used: int) -> bytes:
    begin = b'data: {"choices":[{"delta":{"content":"Hi"}}],"usage":null}\n\n' * 30
    return begin + b"data: " + told(used) + b"\n\ndata: [DONE]\n\n"


def config(estimate: int = 500, settle: dict = JSON, **more) -> dict:
    return {"key": {"header": "k"}, "cost": {"estimate": estimate, **settle}, **more}


def counted(envoy) -> dict[str, int]:
    return {name: count for name, count in envoy.counters().items() if count}


FORMS = {
    "JSON": Answer(told(100), {"content-type": "application/json"}),
    "JSON in pieces of 3 bytes": Answer(told(100), piece=3),
    "events": Answer(events(100), {"content-type": "text/event-stream; charset=utf-8"}),
    "events in pieces of 7 bytes": Answer(events(100), {"content-type": "text/event-stream"}, piece=7),
    "200 kB": Answer(b'{"text":"' + b"x" * 200_000 + b'",' + told(100)[1:]),
}


@pytest.mark.parametrize("answer", FORMS.values(), ids=FORMS)
def test_a_local_bucket_is_charged_what_the_response_tells(start, answer):
    with Upstream(answer) as upstream:
        envoy = start(config(local={"limits": ["1000/d"]}), upstream_port=upstream.port)
        # 500 are reserved and 100 used, so that the seventh finds 400.
        for number in range(1, 7):
            response = fetch(envoy, headers=HEADERS)
            assert (response.status, response.body) == (200, answer.body.decode())
            wait_until(lambda n=number: envoy.counters()["settled"] == n, "it is settled")
        assert fetch(envoy, headers=HEADERS).status == 429
        assert counted(envoy) == {"ok": 6, "settled": 6, "limited_local": 1}


def test_a_header_tells_it_and_without_one_the_estimate_stays(start):
    settle = {"settle": {"header": "x-used-tokens"}}
    with Upstream(Answer(headers={"x-used-tokens": "100"})) as upstream:
        envoy = start(config(settle=settle, local={"limits": ["1000/d"]}), upstream_port=upstream.port)
        for number in range(1, 6):
            assert fetch(envoy, headers=HEADERS).status == 200
            wait_until(lambda n=number: envoy.counters()["settled"] == n, "it is settled")
        upstream.answer = Answer(b"{}")
        assert fetch(envoy, headers=HEADERS).status == 200
        wait_until(lambda: envoy.counters()["unsettled"] == 1, "it is known that nothing was told")
        assert fetch(envoy, headers=HEADERS).status == 429


def test_a_response_that_is_cut_off_costs_the_estimate(start):
    with Upstream(Answer(told(1), piece=50, is_cut=True)) as upstream:
        envoy = start(config(local={"limits": ["1000/d"]}), upstream_port=upstream.port)
        for number in range(1, 3):
            with pytest.raises(http.client.IncompleteRead):
                fetch(envoy, headers=HEADERS)
            wait_until(lambda n=number: envoy.counters()["settled"] == n, "it is settled")
        assert fetch(envoy, headers=HEADERS).status == 429


def test_the_service_is_told_the_difference_in_each_mode(start):
    """The key that was reserved is settled, also when a later filter has changed the request."""
    routes = [
        {
            "match": {"prefix": "/"},
            "route": {"cluster": "upstream"},
            "request_headers_to_remove": ["k"],
        }
    ]
    descriptors = [
        {
            "actions": [{"request_headers": {"header_name": "k", "descriptor_key": "k"}}],
            "cost": {"estimate": 500, **JSON},
        },
        {"actions": [{"generic_key": {"descriptor_value": "all"}}]},
    ]
    for mode in ("exact", "leased"):
        service = {"cluster": "tidegate", "timeout": "30s", "mode": mode}
        with RlsServer(lambda _: Response(OK)) as server, Upstream() as upstream:
            envoy = start(
                {"descriptors": descriptors, "service": service},
                rls_port=server.port, upstream_port=upstream.port, routes=routes,
            )  # fmt: skip
            for number, (used, hits) in enumerate(((700, 200), (100, -400)), start=1):
                upstream.answer = Answer(told(used))
                assert fetch(envoy, headers=HEADERS).status == 200
                wait_until(lambda n=number: sum(r.is_report for r in server.requests) == n, "the report")
                report = next(request for request in reversed(server.requests) if request.is_report)
                assert report.domain == "tidegate"
                assert report.descriptors == [Descriptor([("k", "a")], hits)]
            assert "k" not in upstream.requests[-1]
            assert counted(envoy)["settled"] == 2


def test_a_refused_request_is_not_settled(start):
    refusal = Response(OVER_LIMIT, body=told(9))
    service = {"cluster": "tidegate", "timeout": "30s"}
    with RlsServer(lambda _: refusal) as server, Upstream() as upstream:
        envoy = start(config(service=service), rls_port=server.port, upstream_port=upstream.port)
        assert [fetch(envoy, headers=HEADERS).status for _ in range(3)] == [429] * 3
        assert counted(envoy) == {"limited_service": 3}
        assert len(server.requests) == 3


class Budget:
    """A budget of 10,000 tokens a day that Envoys share, and an upstream that uses of it what it is told to."""

    def __init__(self, start, quotas: QuotaService, upstream: Upstream, envoys: int, **service) -> None:
        service = {"cluster": "tidegate", "timeout": "30s", **service}
        ports = {"rls_port": quotas.port, "upstream_port": upstream.port}
        self.envoys = [start(config(service=service), **ports) for _ in range(envoys)]
        self._quotas, self._upstream = quotas, upstream
        self._uses = 0

    def use(self, tokens: int) -> int:
        """Sends a request to the next Envoy, whose response uses this many tokens."""
        envoy = self.envoys[self._uses % len(self.envoys)]
        self._upstream.answer = Answer(events(tokens), {"content-type": "text/event-stream"}, piece=100)
        before = requests(self._quotas)
        status = fetch(envoy, headers=HEADERS).status
        if status == 200:
            self._uses += 1
            wait_until(lambda: settled(self.envoys) == self._uses, "it is settled")
            wait_until(lambda: requests(self._quotas) > before, "the service is told")
        return status


def test_a_shared_bucket_has_what_all_responses_have_used(start):
    """Two Envoys: what is not used is given back, and a use above the budget is owed."""
    with QuotaService("--limit", "10_000/d") as quotas, Upstream() as upstream:
        budget = Budget(start, quotas, upstream, envoys=2, mode="exact")
        # 8 times 1000, although only 500 are reserved each time.
        assert [budget.use(1000) for _ in range(8)] == [200] * 8
        # 2000 are left. 30 uses of 50 fit, although 500 are reserved each time.
        assert [budget.use(50) for _ in range(30)] == [200] * 30
        # 500 are left: they are reserved, and 3000 are used. The bucket owes 2500.
        assert budget.use(3000) == 200
        assert [fetch(envoy, headers=HEADERS).status for envoy in budget.envoys] == [429] * 2


def test_tokens_taken_ahead_are_settled_too(start):
    with QuotaService("--limit", "10_000/d") as quotas, Upstream() as upstream:
        budget = Budget(start, quotas, upstream, envoys=1, mode="leased", max_lease_ttl="60s")
        assert [budget.use(1000) for _ in range(7)] == [200] * 7
        # At least 2375 are left beside what was taken ahead: at most 625, a quarter of the share of four workers.
        assert [budget.use(50) for _ in range(30)] == [200] * 30
        assert budget.use(8000) == 200
        # Only what was taken ahead is left.
        assert [fetch(budget.envoys[0], headers=HEADERS).status for _ in range(4)][-2:] == [429] * 2


def settled(envoys) -> int:
    return sum(envoy.counters()["settled"] for envoy in envoys)


def requests(service: QuotaService) -> int:
    metrics = service.metrics().items()
    return sum(count for name, count in metrics if name.startswith("tidegate_requests_total"))
