"""The Envoys that `make bench-envoy` compares: their filters and the rest of their configuration."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

from rlqs_envoy import HEADER_INPUT, quota_filter

HTTP = "type.googleapis.com/envoy.extensions.filters.http"
MANAGER = (
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
)
OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
# More than any machine asks for, so that nothing is refused.
LIMIT = "10000000/s"
RULES = f"""
[[rules]]
domain = "bench"
match = ["api_key"]
limits = ["{LIMIT}"]

# Its own bucket: at first an Envoy is given all that nobody else has asked for by quotas.
[[rules]]
domain = "quota"
match = ["api_key"]
limits = ["{LIMIT}"]
"""
BUCKET = {"max_tokens": 10_000_000, "tokens_per_fill": 10_000_000, "fill_interval": "1s"}
EVERYONE = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
SERVICE = {"cluster": "tidegate", "domain": "bench", "descriptor": "api_key", "timeout": "10s"}
KEY_ACTION = {"actions": [{"request_headers": {"header_name": "x-api-key", "descriptor_key": "api_key"}}]}


@dataclasses.dataclass(frozen=True)
class Variant:
    """One Envoy.

    filter     the kind of filter
    config     its configuration
    base       the variant without a filter that it is compared with
    beside     the variants beside which its cost is shown
    is_routed  whether requests are sent on to a second listener of the Envoy, as filters need that call a
               service by rules of the route
    """

    name: str
    filter: str = ""
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    base: str = "no filter"
    beside: tuple[str, ...] = ()
    is_routed: bool = False

    @property
    def is_ours(self) -> bool:
        return self.filter == "tidegate"


BASES = ("no filter", "no filter, routed")
VARIANTS = [
    Variant("no filter"),
    Variant("no filter, routed", base="no filter, routed", is_routed=True),
    Variant("an empty wasm filter", "empty"),
    Variant("local_ratelimit, one bucket", "local_ratelimit"),
    Variant("local_ratelimit, a bucket per header", "local_ratelimit", {"per_header": True}),
    Variant(
        "Tidegate, local",
        "tidegate",
        {"key": {"header": "x-api-key"}, "local": {"limits": [LIMIT]}},
        beside=("an empty wasm filter", "local_ratelimit, a bucket per header"),
    ),
    Variant(
        "Tidegate, leased",
        "tidegate",
        {"key": {"header": "x-api-key"}, "service": SERVICE | {"mode": "leased"}},
        beside=("an empty wasm filter", "ratelimit, tidegate serve"),
    ),
    Variant(
        "rate_limit_quota, tidegate serve",
        "quota",
        beside=("local_ratelimit, one bucket", "local_ratelimit, a bucket per header"),
    ),
    Variant("ratelimit, tidegate serve", "ratelimit", base="no filter, routed", is_routed=True),
    Variant(
        "Tidegate, service",
        "tidegate",
        {"key": {"header": "x-api-key"}, "service": SERVICE},
        base="no filter, routed",
        beside=("ratelimit, tidegate serve",),
        is_routed=True,
    ),
]


def bootstrap(variant: Variant, service: int, module: pathlib.Path, empty: pathlib.Path) -> dict[str, Any]:
    """Envoy's configuration of the variant, with the quota service's port and the modules' paths."""
    listeners = [listener("http", 0, variant, module, empty)]
    clusters = [cluster("tidegate", {"socket_address": {"address": "127.0.0.1", "port_value": service}}, True)]
    if variant.is_routed:
        pipe = {"pipe": {"path": f"@tidegate-bench-{variant.name.replace(' ', '-')}"}}
        listeners.append(listener("upstream", pipe, Variant("upstream"), module, empty))
        clusters.append(cluster("upstream", pipe, False))
    return {
        "node": {"id": "tidegate-bench", "cluster": "tidegate-bench"},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    }


def listener(name: str, address: Any, variant: Variant, module: pathlib.Path, empty: pathlib.Path) -> dict[str, Any]:
    if address == 0:
        address = {"socket_address": {"address": "127.0.0.1", "port_value": 0}}
    passed = {"direct_response": {"status": 200, "body": {"inline_string": "passed\n"}}}
    limits = {"rate_limits": [KEY_ACTION]} if variant.filter == "ratelimit" else {}
    routed = {"route": {"cluster": "upstream"} | limits}
    route = {"match": {"prefix": "/"}} | (routed if variant.is_routed else passed)
    router = {"name": "router", "typed_config": {"@type": f"{HTTP}.router.v3.Router"}}
    manager = {
        "@type": MANAGER,
        "stat_prefix": name,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [*filters(variant, module, empty), router],
    }
    chain = {"filters": [{"name": "http_connection_manager", "typed_config": manager}]}
    return {"name": name, "address": address, "filter_chains": [chain]}


def filters(variant: Variant, module: pathlib.Path, empty: pathlib.Path) -> list[dict[str, Any]]:
    match variant.filter:
        case "":
            return []
        case "empty" | "tidegate":
            path = empty if variant.filter == "empty" else module
            return [{"name": "tidegate", "typed_config": wasm(path, variant.config)}]
        case "local_ratelimit":
            return [{"name": "local", "typed_config": local_ratelimit("per_header" in variant.config)}]
        case "ratelimit":
            service = {"transport_api_version": "V3", "grpc_service": {"envoy_grpc": {"cluster_name": "tidegate"}}}
            config = {"domain": "bench", "timeout": "10s", "rate_limit_service": service}
            return [{"name": "ratelimit", "typed_config": {"@type": f"{HTTP}.ratelimit.v3.RateLimit"} | config}]
        case "quota":
            # One bucket for each value of the header.
            matched = {"name": "header", "typed_config": {"@type": HEADER_INPUT, "header_name": "x-api-key"}}
            bucket = {"api_key": {"custom_value": matched}}
            return [quota_filter(bucket, domain="quota")]
    raise ValueError(variant.filter)


def wasm(module: pathlib.Path, config: dict[str, Any]) -> dict[str, Any]:
    vm = {"vm_id": module.name, "runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": str(module)}}}
    value = {"@type": "type.googleapis.com/google.protobuf.Struct", "value": config}
    return {"@type": f"{HTTP}.wasm.v3.Wasm", "config": {"name": "tidegate", "configuration": value, "vm_config": vm}}


def local_ratelimit(is_per_header: bool) -> dict[str, Any]:
    config: dict[str, Any] = {
        "@type": f"{HTTP}.local_ratelimit.v3.LocalRateLimit",
        "stat_prefix": "local",
        "token_bucket": BUCKET,
        "filter_enabled": EVERYONE,
        "filter_enforced": EVERYONE,
    }
    if is_per_header:
        config["rate_limits"] = [KEY_ACTION]
        config["descriptors"] = [{"entries": [{"key": "api_key"}], "token_bucket": BUCKET}]
    return config


def cluster(name: str, address: dict[str, Any], is_http2: bool) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": address}}
    made: dict[str, Any] = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "10s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    if is_http2:
        options = {"@type": f"type.googleapis.com/{OPTIONS}", "explicit_http_config": {"http2_protocol_options": {}}}
        made["typed_extension_protocol_options"] = {OPTIONS: options}
    return made
