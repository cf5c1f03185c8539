"""Envoy's own rate limit filter on a real quota service: what a client sends changes nothing for
others, and lets it past no limit."""

from __future__ import annotations

import pytest
from conftest import fetch, statuses, wait_until
from quota_service import QuotaService

ADDRESS = {"actions": [{"remote_address": {}}]}
API_KEY = {
    "actions": [{"request_headers": {"header_name": "x-api-key", "descriptor_key": "api_key"}}]
}
RULES = """
[[rules]]
match = ["remote_address"]
prefix = "address"
limits = ["3/h"]

[[rules]]
match = ["api_key"]
prefix = "api_key"
limits = ["5/h"]
"""
HOSTILE_KEYS = {
    "1100 bytes": b"x" * 1100,
    "50 kB": b"x" * 50_000,
    "empty": b"",
    "not UTF-8": b"caf\xe9",
    "long and not UTF-8": b"\xff" * 2000,
}


@pytest.mark.parametrize("value", HOSTILE_KEYS.values(), ids=HOSTILE_KEYS)
def test_no_key_lets_a_client_past_another_limit(start, value):
    with QuotaService(rules=RULES) as service:
        envoy = start(None, rate_limits=[ADDRESS, API_KEY], rls_port=service.port)
        assert statuses(envoy, 8, headers=[("x-api-key", value)]) == [200] * 3 + [429] * 5
        # Another client has its tokens.
        others = statuses(envoy, 4, headers=[("x-api-key", "other")], source="127.0.0.2")
        assert others == [200] * 3 + [429]
        assert service.metrics()['tidegate_requests_total{code="error"}'] == 0


@pytest.mark.parametrize("value", HOSTILE_KEYS.values(), ids=HOSTILE_KEYS)
def test_every_key_has_a_bucket_of_its_own(start, value):
    with QuotaService(rules=RULES) as service:
        envoy = start(None, rate_limits=[API_KEY], rls_port=service.port)
        headers = [("x-api-key", value)]
        assert statuses(envoy, 8, headers=headers) == [200] * 5 + [429] * 3
        assert fetch(envoy, headers=[("x-api-key", value + b"y")]).status == 200


def test_the_bucket_of_a_long_token_is_the_same_through_both_filters(start):
    headers = [("x-api-key", b"t\xf6ken" * 300)]
    with QuotaService(rules=RULES) as service:
        config = {
            "key": {"header": "x-api-key"},
            "service": {"cluster": "tidegate", "descriptor": "api_key", "timeout": "30s"},
        }
        native = start(None, rate_limits=[API_KEY], rls_port=service.port)
        ours = start(config, rls_port=service.port)
        assert statuses(native, 2, headers=headers) == [200] * 2
        assert statuses(ours, 4, headers=headers) == [200] * 3 + [429]
        assert fetch(native, headers=headers).status == 429


def with_hits(number: int, **more) -> dict:
    return {**API_KEY, "hits_addend": {"number": number}, **more}


def test_hits_above_the_burst_are_refused_and_the_other_limits_charged(start):
    limit = '[[rules]]\nmatch = ["api_key"]\nprefix = "api_key"\nlimits = ["1000/min"]\n'
    rules = limit + RULES.split("\n\n")[0]
    with QuotaService(rules=rules) as service:
        envoy = start(None, rate_limits=[ADDRESS, with_hits(1500)], rls_port=service.port)
        assert statuses(envoy, 2, headers=[("x-api-key", "a")]) == [429] * 2
        assert service.metrics()['tidegate_requests_total{code="error"}'] == 0
        # The address has been charged twice; without the header there is no second descriptor.
        assert statuses(envoy, 3) == [200, 429, 429]


def test_reports_at_the_end_of_a_stream_are_recorded_and_refuse_later_requests(start):
    """The pattern of language models: 0 hits before, the tokens used afterwards."""
    used = with_hits(30, apply_on_stream_done=True)
    with QuotaService("--limit", "100/h", "--reports") as service:
        envoy = start(None, rate_limits=[with_hits(0), used], rls_port=service.port)
        answered = []
        for number in range(1, 7):
            answered.append(fetch(envoy, headers=[("x-api-key", "a")]).status)
            # A request that the check has refused reports what it has used, too.
            wait_until(lambda count=2 * number: requests(service) == count, "the report")
        assert answered == [200] * 4 + [429] * 2


def test_a_report_above_the_burst_is_recorded(start):
    used = with_hits(130, apply_on_stream_done=True)
    with QuotaService("--limit", "100/h", "--reports") as service:
        envoy = start(None, rate_limits=[with_hits(0), used], rls_port=service.port)
        assert fetch(envoy, headers=[("x-api-key", "a")]).status == 200
        wait_until(lambda: requests(service) == 2, "the report")
        refused = fetch(envoy, headers=[("x-api-key", "a")])
        assert refused.status == 429
        assert fetch(envoy, headers=[("x-api-key", "b")]).status == 200


def requests(service: QuotaService) -> int:
    metrics = service.metrics().items()
    return sum(count for name, count in metrics if name.startswith("tidegate_requests_total"))


def test_no_value_is_the_bucket_of_other_descriptors(start):
    """The one value `alice/%2Flogin`, and the pair of `alice` and `/login`, in any rules."""
    header = {"request_headers": {"header_name": "x-api-key", "descriptor_key": "api_key"}}
    path = {"request_headers": {"header_name": "x-path", "descriptor_key": "path"}}
    one, pair = {"actions": [header]}, {"actions": [header, path]}
    victim = [("x-api-key", "alice"), ("x-path", "/login")]
    with QuotaService("--limit", "5/h") as service:
        ours = start(None, rate_limits=[pair], rls_port=service.port)
        theirs = start(None, rate_limits=[one], rls_port=service.port)
        for value in ("alice/%2Flogin", "%/alice/%2Flogin", "%%/alice/%2Flogin"):
            assert statuses(theirs, 6, headers=[("x-api-key", value)]) == [200] * 5 + [429]
        assert statuses(ours, 6, headers=victim) == [200] * 5 + [429]


HOSTILE_SOURCES = {
    "query": {"query_parameters": {"query_parameter_name": "u", "descriptor_key": "source"}},
    "cookie": {"cookie": {"name": "u", "descriptor_key": "source"}},
    "header": {"request_headers": {"header_name": "u", "descriptor_key": "source"}},
}
SOURCE_RULES = """
[[rules]]
match = ["source"]
limits = ["5/h"]

[[rules]]
match = ["remote_address"]
limits = ["3/h"]
"""


@pytest.mark.parametrize("value", HOSTILE_KEYS.values(), ids=HOSTILE_KEYS)
@pytest.mark.parametrize("source", HOSTILE_SOURCES)
def test_no_source_of_the_filter_lets_a_client_past_another_limit(start, source, value):
    """One request to the service has both descriptors; whatever one of them is, the other holds."""
    config = {
        "descriptors": [{"actions": [HOSTILE_SOURCES[source]]}, {"actions": [{"remote_address": {}}]}],
        "service": {"cluster": "tidegate", "timeout": "30s", "on_error": "deny"},
    }
    encoded = "".join(f"%{byte:02x}" for byte in value[:15_000])
    request = {
        "query": {"path": f"/?u={encoded}"},
        "cookie": {"headers": [("cookie", f"u={encoded}")]},
        "header": {"headers": [("u", value)]},
    }[source]
    with QuotaService(rules=SOURCE_RULES) as service:
        envoy = start(config, rls_port=service.port)
        assert statuses(envoy, 5, **request) == [200] * 3 + [429] * 2
        # The service charges descriptors one by one, so the key is spent by now.
        assert statuses(envoy, 1, source="127.0.0.2", **request) == [429]
        assert statuses(envoy, 4, source="127.0.0.3") == [200] * 3 + [429]
        assert envoy.counters()["service_error"] == 0
        assert service.metrics()['tidegate_requests_total{code="error"}'] == 0
