"""Local limits, whose buckets the filter keeps in a worker's memory."""

from __future__ import annotations

import math

from conftest import fetch, statuses, wait_until

HEADER = {"key": {"header": "X-Api-Key"}, "local": {"limits": ["5/h"]}}
ADDRESS = {"key": {"client_address": {}}, "local": {"limits": ["2/h"]}}
PATH = {"key": {"path": {}}, "local": {"limits": ["2/h"]}}
NO_COUNTS = dict.fromkeys(
    (
        "ok", "limited_local", "limited_service", "missing_key", "bad_key",
        "service_error", "breaker_open", "hostcall_error", "evicted", "lease_calls", "shadow",
        "settled", "unsettled", "settle_error",
    ),
    0,
)  # fmt: skip


def key(value: str | bytes) -> list[tuple[str, str | bytes]]:
    return [("x-api-key", value)]


def test_one_worker_admits_exactly_the_burst(start):
    envoy = start(HEADER)
    assert envoy.counters() == NO_COUNTS
    assert statuses(envoy, 20, headers=key("a")) == [200] * 5 + [429] * 15
    assert statuses(envoy, 6, headers=key("b")) == [200] * 5 + [429]
    assert envoy.counters() == NO_COUNTS | {"ok": 10, "limited_local": 16}
    assert "hostcall" not in envoy.log()


def test_a_refusal_shows_the_quota_and_the_time_of_the_next_token(start):
    envoy = start({"key": {"path": {}}, "local": {"limits": ["100/s", "3/h burst 2"]}})
    assert statuses(envoy, 2) == [200, 200]
    refused = fetch(envoy)
    assert (refused.status, refused.body) == (429, "too many requests\n")
    quota = {name: refused.headers[name] for name in ("x-ratelimit-limit", "x-ratelimit-remaining")}
    assert quota == {"x-ratelimit-limit": "3", "x-ratelimit-remaining": "0"}
    assert refused.headers["x-envoy-ratelimited"] == "true"
    # A token comes every 20 minutes; a few seconds may have passed.
    assert 1190 <= int(refused.headers["retry-after"]) <= 1200
    assert 2390 <= int(refused.headers["x-ratelimit-reset"]) <= 2400
    wait_until(lambda: len(envoy.access_log()) == 3, "three lines in the access log")
    assert envoy.access_log()[2]["details"] == "tidegate_limited_local"


def test_headers_can_be_omitted_and_the_status_chosen(start):
    envoy = start({**PATH, "headers": False, "status": 503, "stat_prefix": "edge.a-1"})
    assert statuses(envoy, 3) == [200, 200, 503]
    assert not {"retry-after", "x-ratelimit-limit"} & fetch(envoy).headers.keys()
    assert envoy.counters("edge.a-1")["limited_local"] == 2


def test_tokens_come_back_at_the_rate_of_the_limit(start):
    envoy = start({"key": {"path": {}}, "local": {"limits": ["1/3s burst 1"]}})
    assert fetch(envoy).status == 200
    refused = fetch(envoy)
    assert refused.status == 429 and int(refused.headers["retry-after"]) in (1, 2, 3)
    wait_until(lambda: fetch(envoy).status == 200, "the next token, due in 3 s")


def test_grpc_clients_get_a_grpc_status(start):
    envoy = start({"key": {"path": {}}, "local": {"limits": ["1/h"]}})
    assert fetch(envoy).status == 200
    refused = fetch(envoy, headers=[("content-type", "application/grpc")])
    assert (refused.status, refused.headers["grpc-status"]) == (200, "8")


def test_a_client_keeps_its_bucket_over_connections_but_not_over_addresses(start):
    envoy = start(ADDRESS)
    assert statuses(envoy, 3, source="127.0.0.1") == [200, 200, 429]
    assert statuses(envoy, 3, source="127.0.0.2") == [200, 200, 429]


def test_the_path_is_the_key_without_its_query(start):
    envoy = start(PATH)
    assert fetch(envoy, "/a?x=1").status == 200
    assert fetch(envoy, "/a?x=2").status == 200
    assert fetch(envoy, "/a").status == 429
    assert fetch(envoy, "/b").status == 200


def test_requests_without_a_key_pass_unless_configured_otherwise(start):
    envoy = start(HEADER)
    assert statuses(envoy, 7) == [200] * 7
    assert envoy.counters() == NO_COUNTS | {"missing_key": 7}

    strict = start({**HEADER, "missing_key": "deny"})
    refused = fetch(strict)
    assert refused.status == 400
    assert refused.body == "the header x-api-key is missing: it is the key of a rate limit\n"
    assert strict.counters() == NO_COUNTS | {"missing_key": 1}


def test_a_client_gains_nothing_by_repeating_the_header(start):
    """No value that a client adds gives it a bucket of its own, before or after the others."""
    envoy = start(HEADER)
    valid, junk = key("valid"), [key(f"junk{number}") for number in range(12)]
    for added in junk:
        for repeated in ([*valid, *added], [*added, *valid], [*valid, *valid], key(",") * 2):
            assert fetch(envoy, headers=repeated).status == 400
    assert envoy.counters() == NO_COUNTS | {"bad_key": 48}
    refused = fetch(envoy, headers=[*valid, *junk[0]])
    assert refused.body == "the header x-api-key is repeated: it is the key of a rate limit\n"
    wait_until(lambda: len(envoy.access_log()) == 49, "49 lines in the access log")
    assert {line["details"] for line in envoy.access_log()} == {"tidegate_bad_key"}
    # One value may contain a comma.
    assert statuses(envoy, 6, headers=key("a,b")) == [200] * 5 + [429]


def test_headers_that_take_all_memory_of_the_filter_are_answered(start):
    """Each is below Envoy's own bound of 60 KiB for all headers."""
    envoy = start(HEADER)
    for count in (2, 3, 29):
        assert fetch(envoy, headers=key("x" * (58_000 // count)) * count).status == 400
    assert statuses(envoy, 6, headers=key("x" * 60_000)) == [200] * 5 + [429]


def test_any_value_of_the_header_is_a_key_with_a_bucket_of_its_own(start):
    envoy = start(HEADER)
    values = [b"", b"caf\xe9", b"caf\xe8", b"\xff\xfe", "schlüssel".encode()]
    values += [b"k" * length for length in (1024, 1025, 1500, 50_000)]
    for value in values:
        assert statuses(envoy, 6, headers=key(value)) == [200] * 5 + [429], value[:20]
    assert envoy.counters() == NO_COUNTS | {"ok": 45, "limited_local": 9}


def test_many_more_keys_than_max_keys(start):
    """Memory does not grow: debts are forgotten, and each is counted."""
    envoy = start(
        {"key": {"path": {}}, "local": {"limits": ["5/h"], "max_keys": 16}},
    )
    for number in range(100):
        assert fetch(envoy, f"/{number}").status == 200
    counters = envoy.counters()
    assert counters["ok"] == 100
    assert 100 - 16 <= counters["evicted"] < 100


def test_each_worker_has_its_own_local_buckets(start):
    """A local limit holds per worker, not for all workers together."""
    workers, burst = 2, 5
    envoy = start(HEADER, concurrency=workers)
    admitted = statuses(envoy, 60, headers=key("a")).count(200)
    assert admitted % burst == 0
    assert math.ceil(admitted / burst) <= workers
