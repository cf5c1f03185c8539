"""Keys of several descriptors and entries, from all their sources, and the costs of requests."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import pytest
from conftest import fetch, statuses
from envoy_process import PASSED
from quota_service import QuotaService
from rls_server import OK, Descriptor, Response, RlsServer

HEADER = {"request_headers": {"header_name": "x-api-key", "descriptor_key": "api_key"}}
ADDRESS = {"remote_address": {}}
TYPE = "type.googleapis.com/envoy.extensions.filters.http"
FILTER = "envoy.filters.http"


def limited(*actions: dict, limit: str = "2/h", **more) -> dict:
    return {"actions": list(actions), "local": {"limits": [limit]}, **more}


def sent(start, actions: list[dict], options: dict | None = None, **request) -> list[Descriptor]:
    """The descriptors that the service is asked about for this request."""
    config = {
        "descriptors": [{"actions": [action]} for action in actions],
        "service": {"cluster": "tidegate", "timeout": "30s"},
    }
    with RlsServer(lambda _: Response(OK)) as server:
        envoy = start(config, rls_port=server.port, **(options or {}))
        assert fetch(envoy, **request).status == 200
        return server.requests[-1].descriptors if server.requests else []


def test_every_source_is_read_from_a_real_request(start):
    actions = [
        HEADER,
        ADDRESS,
        {"masked_remote_address": {"v4_prefix_mask_len": 8}},
        {"path": {}},
        {"query_parameters": {"query_parameter_name": "user", "descriptor_key": "user"}},
        {"cookie": {"name": "session", "descriptor_key": "session"}},
        {"method": {"descriptor_key": "verb"}},
        {"host": {}},
    ]
    headers = [("X-Api-Key", "k"), ("host", "Example.COM:80"), ("cookie", "a=1; session=%73; b=2")]
    found = sent(start, actions, path="/a/b?x=1&us%65r=a+b", headers=headers, method="POST")
    expect = [
        ("api_key", "k"), ("remote_address", "127.0.0.1"), ("masked_remote_address", "127.0.0.0/8"),
        ("path", "/a/b"), ("user", "a b"), ("session", "s"), ("verb", "POST"), ("host", "example.com"),
    ]  # fmt: skip
    assert found == [Descriptor([entry]) for entry in expect]


def test_a_request_has_only_the_descriptors_that_apply_to_it(start):
    named = {"descriptor_value": "free", "headers": [{"name": "x-plan", "string_match": {"exact": "free"}}]}
    actions = [
        HEADER,
        {"query_parameters": {"query_parameter_name": "user", "descriptor_key": "user"}},
        {"cookie": {"name": "session", "descriptor_key": "session"}},
        {"header_value_match": named},
        {"generic_key": {"descriptor_value": "all"}},
    ]
    assert sent(start, actions) == [Descriptor([("generic_key", "all")])]
    found = sent(start, actions, headers=[("x-plan", "free"), ("cookie", "sessions=1")])
    assert found == [Descriptor([("header_match", "free")]), Descriptor([("generic_key", "all")])]
    assert sent(start, actions[:3], path="/?users=1&xuser=2") == []


def test_ipv6_clients_are_known_by_their_network(start):
    actions = [ADDRESS, {"masked_remote_address": {}}, {"masked_remote_address": {"v6_prefix_mask_len": 48}}]
    headers = [("x-forwarded-for", "2001:DB8:0:1:2:3:4:5")]
    found = sent(start, actions, headers=headers)
    assert [descriptor.entries[0][1] for descriptor in found] == [
        "2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64", "2001:db8::/48",
    ]  # fmt: skip


def test_metadata_of_filters_and_routes(start):
    """`header_to_metadata` stands for any filter that sets dynamic metadata."""
    set_metadata = {
        "name": "header_to_metadata",
        "typed_config": {
            "@type": f"{TYPE}.header_to_metadata.v3.Config",
            "request_rules": [
                {
                    "header": "x-user",
                    "on_header_present": {"metadata_namespace": "edge", "key": "user"},
                }
            ],
        },
    }
    route = {**PASSED, "metadata": {"filter_metadata": {"tidegate": {"plan": "gold"}}}}
    dynamic = {"descriptor_key": "user", "metadata_key": {"key": "edge", "path": [{"key": "user"}]}}
    static = {
        "descriptor_key": "plan",
        "metadata_key": {"key": "tidegate", "path": [{"key": "plan"}]},
        "source": "ROUTE_ENTRY",
    }
    actions = [{"metadata": dynamic}, {"metadata": static}]
    options = {"filters_before": [set_metadata], "routes": [route]}
    found = sent(start, actions, options, headers=[("x-user", "ann")])
    assert found == [Descriptor([("user", "ann")]), Descriptor([("plan", "gold")])]
    assert sent(start, actions, options) == [Descriptor([("plan", "gold")])]
    defaults = [{"metadata": {**dynamic, "default_value": "nobody"}}]
    assert sent(start, defaults, options) == [Descriptor([("user", "nobody")])]
    assert sent(start, defaults) == [Descriptor([("user", "nobody")])]


def encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def token(secret: bytes, **claims: str) -> str:
    signed = ".".join(encoded(json.dumps(part).encode()) for part in ({"alg": "HS256"}, claims))
    return f"{signed}.{encoded(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


def test_claims_of_a_jwt_come_by_dynamic_metadata(start):
    secret = b"a secret of thirty-two characters"
    keys = {"keys": [{"kty": "oct", "alg": "HS256", "k": encoded(secret)}]}
    jwt = {
        "name": "jwt_authn",
        "typed_config": {
            "@type": f"{TYPE}.jwt_authn.v3.JwtAuthentication",
            "providers": {
                "issuer": {
                    "issuer": "issuer",
                    "local_jwks": {"inline_string": json.dumps(keys)},
                    "payload_in_metadata": "payload",
                }
            },
            "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "issuer"}}],
        },
    }
    path = [{"key": "payload"}, {"key": "sub"}]
    claim = {"descriptor_key": "sub", "metadata_key": {"key": f"{FILTER}.jwt_authn", "path": path}}
    config = {"descriptors": [limited({"metadata": claim})], "missing_key": "deny"}
    envoy = start(config, filters_before=[jwt])

    def headers(name: str) -> list:
        return [("authorization", f"Bearer {token(secret, iss='issuer', sub=name)}")]

    assert statuses(envoy, 3, headers=headers("ann")) == [200, 200, 429]
    assert statuses(envoy, 3, headers=headers("bob")) == [200, 200, 429]
    assert fetch(envoy).status == 401


def test_local_limits_of_descriptors_are_charged_together_or_not_at_all(start):
    config = {"descriptors": [limited(ADDRESS, limit="4/h"), limited(HEADER, {"path": {}})]}
    envoy = start(config)
    a, b = [("x-api-key", "a")], [("x-api-key", "b")]
    assert statuses(envoy, 5, headers=a) == [200, 200, 429, 429, 429]
    # The address has two tokens left: the key's refusals took none.
    assert statuses(envoy, 3, headers=b) == [200, 200, 429]
    assert statuses(envoy, 3, path="/b", headers=a, source="127.0.0.2") == [200, 200, 429]


def test_buckets_are_those_of_envoys_own_filter(start):
    """Both send the same descriptor of two entries to a real service."""
    rules = '[[rules]]\nmatch = ["masked_remote_address", "api_key"]\nlimits = ["5/h"]\n'
    masked = {"masked_remote_address": {"v4_prefix_mask_len": 24}}
    value = "a/%b"
    with QuotaService(rules=rules) as service:
        config = {
            "descriptors": [{"actions": [masked, HEADER]}],
            "service": {"cluster": "tidegate", "domain": "edge", "timeout": "30s"},
        }
        ours = start(config, rls_port=service.port)
        native = start(None, rate_limits=[{"actions": [masked, HEADER]}], rls_port=service.port)
        headers = [("x-api-key", value)]
        assert statuses(ours, 3, headers=headers) == [200] * 3
        assert statuses(native, 3, headers=headers) == [200, 200, 429]
        assert fetch(ours, headers=headers, source="127.0.0.9").status == 429
        assert fetch(ours, headers=headers, source="127.0.1.1").status == 200


@pytest.mark.parametrize(
    "cookies",
    [
        ["session=a; session=b"], ["session=a", "session=b"], ["x=1", "session=a"],
        ['session="a\\142"'], ["x=1 session=a"], ["x=1,session=a"],
    ],
)  # fmt: skip
def test_a_cookie_that_parsers_could_read_differently_is_never_missing(start, cookies):
    """It is answered 400, or it is the cookie of the bucket that it names."""
    cookie = {"cookie": {"name": "session", "descriptor_key": "session"}}
    envoy = start({"descriptors": [limited(cookie)]})
    assert statuses(envoy, 2, headers=[("cookie", "session=a")]) == [200, 200]
    assert fetch(envoy, headers=[("cookie", cookie) for cookie in cookies]).status in (400, 429)
    assert envoy.counters()["missing_key"] == 0


@pytest.mark.parametrize("query", ["user=a&user=b", "user=a&us%65r=a", "user&user=a"])
def test_a_repeated_parameter_is_refused(start, query):
    user = {"query_parameters": {"query_parameter_name": "user", "descriptor_key": "user"}}
    envoy = start({"descriptors": [limited(user)]})
    refused = fetch(envoy, f"/?{query}")
    assert refused.status == 400
    assert refused.body == "the query parameter user is repeated: it is the key of a rate limit\n"


def test_spellings_of_a_value_share_a_bucket(start):
    user = {"query_parameters": {"query_parameter_name": "user", "descriptor_key": "user"}}
    cookie = {"cookie": {"name": "session", "descriptor_key": "session"}}
    envoy = start({"descriptors": [limited(user), limited(cookie), limited({"host": {}})]})
    for path in ("/?user=ann", "/?us%65r=%61nn"):
        assert fetch(envoy, path, headers=[("host", path.strip("/?=%"))]).status == 200
    assert fetch(envoy, "/?user=%61%6E%6e", headers=[("host", "c")]).status == 429
    for value in ("ann", '"ann"'):
        headers = [("cookie", f"session={value}"), ("host", value.strip('"') + str(len(value)))]
        assert fetch(envoy, headers=headers).status == 200
    assert fetch(envoy, headers=[("cookie", "x; session=%61nn"), ("host", "d")]).status == 429
    for host in ("example.com", "EXAMPLE.com:81"):
        assert fetch(envoy, headers=[("host", host)]).status == 200
    assert fetch(envoy, headers=[("host", "example.com.")]).status == 429


def cost_header(**more) -> dict:
    return {"cost": {"header": {"name": "x-cost", "max": 50, **more}}}


def test_the_cost_of_a_header_is_bounded_and_a_bad_one_is_refused(start):
    envoy = start({"descriptors": [limited(ADDRESS, limit="100/d", **cost_header())]})
    for bad in ("0", "51", "-1", "1.5", "x", "", "+5", "5 5", "99999999999999999999"):
        assert fetch(envoy, headers=[("x-cost", bad)]).status == 400, bad
    assert fetch(envoy, headers=[("x-cost", "1"), ("x-cost", "1")]).status == 400
    assert envoy.counters()["bad_key"] == 10
    assert statuses(envoy, 3, headers=[("x-cost", "50")]) == [200, 200, 429]
    tokens = start({"descriptors": [limited(ADDRESS, limit="100/d", **cost_header(absent=50))]})
    assert statuses(tokens, 3) == [200, 200, 429]


def test_the_cost_of_a_body_is_its_length(start):
    def config(**more) -> dict:
        return {"descriptors": [limited(ADDRESS, limit="10/d", cost={"body_bytes": {"per": 100, **more}})]}

    def post(envoy, size: int) -> int:
        headers = [("content-length", str(size))]
        return fetch(envoy, method="POST", headers=headers, body=b"x" * size).status

    envoy = start(config())
    assert [post(envoy, size) for size in (401, 300, 201)] == [200, 200, 429]
    assert [post(envoy, size) for size in (1001, 200)] == [429, 200]
    assert fetch(envoy).status == 429
    chunked = {"method": "POST", "headers": [("transfer-encoding", "chunked")], "body": b"1\r\nx\r\n0\r\n\r\n"}
    assert fetch(envoy, source="127.0.0.2", **chunked).status == 411
    assert fetch(envoy, source="127.0.0.2").status == 200
    guessing = start(config(unknown=9))
    assert [fetch(guessing, **chunked).status for _ in range(2)] == [200, 429]


def test_the_service_is_told_the_cost(start):
    config = {
        "descriptors": [
            {"actions": [ADDRESS]},
            {"actions": [ADDRESS, HEADER], **cost_header()},
        ],
        "service": {"cluster": "tidegate", "timeout": "30s"},
    }
    with RlsServer(lambda _: Response(OK)) as server:
        envoy = start(config, rls_port=server.port)
        headers = [("x-api-key", "a"), ("x-cost", "7")]
        assert fetch(envoy, headers=headers).status == 200
        request = server.requests[-1]
        assert (request.hits_addend, [d.hits_addend for d in request.descriptors]) == (1, [1, 7])
    rules = '[[rules]]\nmatch = ["remote_address"]\nlimits = ["1000/d"]\n'
    rules += '[[rules]]\nmatch = ["remote_address", "api_key"]\nlimits = ["100/d"]\n'
    with QuotaService(rules=rules) as service:
        envoy = start(config, rls_port=service.port)
        headers = [("x-api-key", "a"), ("x-cost", "40")]
        assert statuses(envoy, 3, headers=headers) == [200, 200, 429]
        assert statuses(envoy, 3, headers=headers[:1]) == [200] * 3
