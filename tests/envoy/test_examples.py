"""The examples for Envoy, Istio and Envoy Gateway, in a real Envoy with a real quota service."""

from __future__ import annotations

import http.server
import pathlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from conftest import Answer, fetch, statuses, wait_until
from envoy_process import HOST, MODULE, EnvoyProcess
from quota_service import QuotaService

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"
RULES = (EXAMPLES / "envoy" / "rules.toml").read_text()
KEY = [("x-api-key", "me")]
OTHER = [("x-api-key", "other")]


class Application(http.server.BaseHTTPRequestHandler):
    """Answers 200, and says that each answer took 400 tokens."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("x-tokens", "400")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def application() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer((HOST, 0), Application)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def service() -> Iterator[QuotaService]:
    with QuotaService("--store-timeout", "10s", "--request-timeout", "30s", rules=RULES) as running:
        yield running


def documents(path: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((EXAMPLES / path).read_text()))


def bootstrap(path: str, service: QuotaService, application: int = 0) -> dict[str, Any]:
    """The example with this machine's ports and module, and with time for a busy machine."""
    text = (EXAMPLES / path).read_text()
    replaced = {
        "port_value: 10000": "port_value: 0",
        "port_value: 8081": f"port_value: {service.port}",
        "port_value: 9000": f"port_value: {application}",
        "/etc/envoy/tidegate_proxy.wasm": str(MODULE),
        "timeout: 0.2s": "timeout: 30s",
        "on_error: allow": 'on_error: allow, timeout: "30s"',
    }
    for written, used in replaced.items():
        text = text.replace(written, used)
    return yaml.safe_load(text)


def test_the_tidegate_filter_has_one_bucket_for_the_fleet_and_routes_without_it(start, service):
    envoys = [start(bootstrap=bootstrap("envoy/tidegate-filter.yaml", service)) for _ in range(2)]
    # Two limits, `10 in any 1s` and `100/min`, whichever Envoy is asked.
    admitted = [fetch(envoys[turn % 2], headers=KEY).status for turn in range(300)].count(200)
    assert 0 < admitted < 300
    assert int(refused_in_the_end(envoys[0]).headers["retry-after"]) >= 1
    assert statuses(envoys[0], 30, path="/healthz") == [200] * 30
    # Without a key: `missing_key: deny`.
    assert fetch(envoys[0]).status == 400
    assert fetch(envoys[1], headers=OTHER).status == 200


def test_envoys_own_filter_limits_by_key_and_logins_by_address(start, service, application):
    envoy = start(bootstrap=bootstrap("envoy/ratelimit-filter.yaml", service, application))
    logins = statuses(envoy, 6, path="/login")
    assert logins == [200] * 5 + [429]
    # Normalisation: another spelling of the path is the same path.
    assert fetch(envoy, path="//login").status == 429
    assert fetch(envoy, path="/%6Cogin").status == 429
    refused_in_the_end(envoy)
    assert fetch(envoy, headers=OTHER).status == 200


def test_tokens_are_charged_when_the_answer_is_complete(start, service, application):
    envoy = start(bootstrap=bootstrap("envoy/llm-tokens.yaml", service, application))
    # 1000 tokens a minute: answers of 400 leave 600 and 200, and the third one leaves a debt.
    for requests in (1, 2, 3):
        assert fetch(envoy, headers=KEY).status == 200
        # A report is sent when the stream has ended, so it may be late.
        wait_until(lambda n=requests: answered(service) == 2 * n, f"{requests} reports")
    assert fetch(envoy, headers=KEY).status == 429
    assert fetch(envoy, headers=OTHER).status == 200


@pytest.mark.parametrize(
    ("path", "config"),
    [
        ("istio/wasm-plugin.yaml", lambda spec: spec["pluginConfig"]),
        ("envoy-gateway/extension-policy.yaml", lambda spec: spec["wasm"][0]["config"]),
    ],
)
def test_the_filter_takes_the_configuration_of_the_kubernetes_examples(start, path, config):
    envoy = start(config(documents(path)[0]["spec"]))
    # 50 a second in the worker; there is no cluster of the service here, and then it allows.
    assert 429 in statuses(envoy, 200, headers=KEY)


def test_envoy_takes_the_patches_of_the_istio_filter(start, service, application):
    patches = documents("istio/envoy-filter.yaml")[0]["spec"]["configPatches"]
    assert [patch["applyTo"] for patch in patches] == ["HTTP_FILTER", "VIRTUAL_HOST"]
    patched = bootstrap("envoy/ratelimit-filter.yaml", service, application)
    resources = patched["static_resources"]
    manager = resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"][0] = patches[0]["patch"]["value"]
    host = {"name": "all", "domains": ["*"]} | patches[1]["patch"]["value"]
    host["routes"] = [{"match": {"prefix": "/"}, "route": {"cluster": "application"}}]
    manager["route_config"]["virtual_hosts"] = [host]
    # Istio has this cluster for the service's port.
    cluster = "outbound|8081||tidegate.tidegate.svc.cluster.local"
    resources["clusters"][0]["name"] = cluster
    manager["http_filters"][0]["typed_config"]["timeout"] = "30s"
    envoy = start(bootstrap=patched)
    refused_in_the_end(envoy)
    assert fetch(envoy, headers=OTHER).status == 200


def answered(service: QuotaService) -> int:
    metrics = service.metrics()
    return sum(metrics[f'tidegate_requests_total{{code="{code}"}}'] for code in ("ok", "over_limit"))


def refused_in_the_end(envoy: EnvoyProcess) -> Answer:
    """The first refusal of a client that asks for more than the minute's 100."""
    answers = (fetch(envoy, headers=KEY) for _ in range(300))
    return next(answer for answer in answers if answer.status == 429)
