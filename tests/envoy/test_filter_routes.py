"""The filter on some routes, the settings of Envoy that its keys need, and the form of its refusals."""

from __future__ import annotations

import json
import re

import pytest
from conftest import fetch, statuses
from quota_service import QuotaService
from rls_server import OVER_LIMIT, Response, RlsServer
from test_examples import bootstrap

PLANS = """
[[rules]]
domain = "plans"
match = [{ key = "plan", value = "gold" }, "api_key"]
limits = ["30/d"]

[[rules]]
domain = "plans"
match = [{ key = "plan", value = "free" }, "api_key"]
limits = ["5/d"]
"""
PATH = {"key": {"path": {}}}
LIMITED = {**PATH, "local": {"limits": ["2/h"]}}


@pytest.fixture
def envoy(start):
    with QuotaService("--store-timeout", "10s", rules=PLANS) as service:
        yield start(bootstrap=bootstrap("envoy/descriptors.yaml", service))


def via(address: str, key: str) -> list[tuple[str, str]]:
    """A client at this address, in front of whom a proxy stands."""
    return [("x-forwarded-for", f"203.0.113.9, {address}"), ("x-api-key", key)]


def test_only_the_routes_that_name_the_filter_are_limited_each_by_its_plan(envoy):
    assert statuses(envoy, 30, path="/other", headers=via("192.0.2.1", "a")) == [200] * 30
    free = statuses(envoy, 7, path="/api/x", headers=via("192.0.2.1", "a"))
    assert free == [200] * 5 + [429] * 2
    # Another plan has another bucket. The network's own limit is 20.
    gold = statuses(envoy, 22, path="/api/gold/x", headers=via("192.0.2.1", "a"))
    assert gold == [200] * 20 + [429] * 2
    assert statuses(envoy, 3, path="/api/gold/x", headers=via("192.0.2.2", "a")) == [200] * 3


def test_no_spelling_of_a_path_and_no_header_gives_a_client_another_bucket(envoy):
    spellings = ["/api/gold/a", "/api//gold/a", "/api/./gold/a", "/x/../api/gold/a", "/api/gold/%61"]
    spellings += ["/api/gold%2Fa", "/api/gold/a?x=1"]
    found = []
    for number in range(28):
        headers = [("x-forwarded-for", f"198.51.100.{number}, 2001:db8::{number:x}"), ("x-api-key", str(number))]
        found.append(fetch(envoy, spellings[number % 7], headers=headers).status)
    assert found == [200] * 20 + [429] * 8


def test_a_refusal_has_the_configured_form(envoy):
    headers = via("192.0.2.1", "a")
    statuses(envoy, 20, path="/api/gold/x", headers=headers)
    refused = fetch(envoy, "/api/gold/x", headers=headers)
    assert json.loads(refused.body) == {"error": "too many requests"}
    assert refused.headers["content-type"] == "application/json"
    assert refused.headers["ratelimit-policy"] == '"default";q=20;w=60'
    assert re.fullmatch('"default";r=0;t=[0-9]+', refused.headers["ratelimit"])
    assert refused.headers["x-ratelimit-limit"] == "20"
    assert refused.headers["x-envoy-ratelimited"] == "true"


def test_the_filter_can_come_by_ecds(start, tmp_path):
    """Envoy's extension configuration discovery, here from a file."""
    with QuotaService("--store-timeout", "10s", rules=PLANS) as service:
        whole = bootstrap("envoy/descriptors.yaml", service)
        chain = whole["static_resources"]["listeners"][0]["filter_chains"][0]
        ours = chain["filters"][0]["typed_config"]["http_filters"][0]
        config = ours.pop("typed_config")
        kind = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
        resource = {"@type": kind, "name": ours["name"], "typed_config": config}
        (tmp_path / "filter.json").write_text(json.dumps({"resources": [resource]}))
        source = {"path_config_source": {"path": str(tmp_path / "filter.json")}, "resource_api_version": "V3"}
        ours["config_discovery"] = {"config_source": source, "type_urls": [config["@type"]]}
        whole.setdefault("node", {"id": "test", "cluster": "test"})
        envoy = start(bootstrap=whole)
        headers = via("192.0.2.1", "a")
        assert statuses(envoy, 22, path="/api/gold/x", headers=headers) == [200] * 20 + [429] * 2
        assert statuses(envoy, 22, path="/other", headers=headers) == [200] * 22


def test_the_limit_means_the_same_whoever_refuses(start):
    """Tokens of the period, and not the burst."""
    local = start({**PATH, "local": {"limits": ["100/h burst 1"]}})
    assert fetch(local).status == 200
    assert fetch(local).headers["x-ratelimit-limit"] == "100"
    for mode in ("exact", "leased"):
        with QuotaService("--limit", "100/h burst 1") as service:
            config = {**PATH, "service": {"cluster": "tidegate", "timeout": "30s", "mode": mode}}
            envoy = start({**config, "header_form": "both"}, rls_port=service.port)
            assert fetch(envoy).status == 200
            for _ in range(2):
                refused = fetch(envoy)
                assert (refused.status, refused.headers["x-ratelimit-limit"]) == (429, "100")


def test_shadow_mode_refuses_nobody_and_counts(start):
    shadow = start({**LIMITED, "enforced": 0})
    assert statuses(shadow, 5) == [200] * 5
    counted = {name: count for name, count in shadow.counters().items() if count}
    assert counted == {"ok": 2, "limited_local": 3, "shadow": 3}
    with RlsServer(lambda _: Response(OVER_LIMIT)) as server:
        config = {**PATH, "service": {"cluster": "tidegate", "timeout": "30s"}, "enforced": 0}
        service = start(config, rls_port=server.port)
        assert statuses(service, 5) == [200] * 5
    off = start({**LIMITED, "enabled": 0})
    assert statuses(off, 5) == [200] * 5
    assert not any(off.counters().values())


def test_a_share_of_refusals_is_enforced(start):
    envoy = start({**PATH, "local": {"limits": ["none"]}, "enforced": 50})
    refused = statuses(envoy, 200).count(429)
    # The chance of a share outside is below 1 in 10^10.
    assert 50 < refused < 150
    assert envoy.counters()["shadow"] == 200 - refused


def test_grpc_clients_get_the_configured_status(start):
    envoy = start({**LIMITED, "grpc_status": 14})
    statuses(envoy, 2)
    refused = fetch(envoy, headers=[("content-type", "application/grpc")])
    assert (refused.status, refused.headers["grpc-status"]) == (200, "14")
