"""What the responses to allowed requests say of their limits."""

from __future__ import annotations

from conftest import fetch, statuses
from quota_service import QuotaService
from rls_server import OK, Response, RlsServer
from upstream import Answer, Upstream

HEADERS = [("k", "a")]
SERVICE = {"cluster": "tidegate", "timeout": "30s", "max_lease_ttl": "60s"}
LIMIT = "600/h burst 20"


def limit_headers(answer) -> dict[str, int]:
    names = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")
    return {name: int(answer.headers[name]) for name in names if name in answer.headers}


def test_the_limit_of_allowed_and_refused_requests_means_the_same_in_every_mode(start):
    with QuotaService("--limit", LIMIT) as service:
        modes = {
            "local": {"local": {"limits": [LIMIT]}},
            "exact": {"service": {**SERVICE, "mode": "exact", "domain": "a"}},
            "leased": {"service": {**SERVICE, "mode": "leased", "domain": "b"}},
        }
        for mode, more in modes.items():
            envoy = start({"key": {"header": "k"}, "allowed_headers": True, **more}, rls_port=service.port)
            headers = [("k", mode)]
            first = limit_headers(fetch(envoy, headers=headers))
            assert first["x-ratelimit-limit"] == 600
            assert first["x-ratelimit-remaining"] == 19
            assert 1 <= first["x-ratelimit-reset"] <= 6
            answers = [fetch(envoy, headers=headers) for _ in range(40)]
            assert {answer.status for answer in answers} == {200, 429}
            for answer in answers:
                shown = limit_headers(answer)
                assert shown["x-ratelimit-limit"] == 600
                assert 0 <= shown["x-ratelimit-remaining"] < 20
            assert limit_headers(answers[-1])["x-ratelimit-remaining"] == 0


def test_the_services_headers_are_passed_on_beside_those_of_the_upstream(start):
    answer = Response(OK, limit=50, remaining=7, headers={"x-from": "service", "X-RateLimit-Limit": "50;w=1"})
    upstream_headers = {"x-from": "upstream", "x-ratelimit-remaining": "1000"}
    config = {"key": {"header": "k"}, "service": SERVICE}
    with RlsServer(lambda _: answer) as server, Upstream(Answer(b"hi", upstream_headers)) as upstream:
        ports = {"rls_port": server.port, "upstream_port": upstream.port}
        found = fetch(start(config, **ports), headers=HEADERS)
        assert (found.status, found.body) == (200, "hi")
        assert found.headers["x-ratelimit-limit"] == "50;w=1"
        assert found.headers["x-ratelimit-remaining"] == "1000"
        found = fetch(start({**config, "allowed_headers": True}, **ports), headers=HEADERS)
        assert found.headers["x-ratelimit-limit"] == "50;w=1"
        assert found.headers["x-ratelimit-remaining"] == "7"


def test_nothing_is_added_unless_configured(start):
    envoy = start({"key": {"header": "k"}, "local": {"limits": ["2/h"]}})
    assert limit_headers(fetch(envoy, headers=HEADERS)) == {}
    assert statuses(envoy, 2, headers=HEADERS) == [200, 429]
