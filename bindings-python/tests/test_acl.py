"""The commands that docs/redis.md lists are all that a user of a real Redis needs."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from conftest import RedisServer

from tidegate import Limiter, StoreError

DOCS = Path(__file__).resolve().parents[2] / "docs" / "redis.md"
PATIENT = 10.0


def listed() -> dict[str, list[str]]:
    """The table of the commands: for what, and which."""
    section = DOCS.read_text(encoding="utf-8").split("### Rights of the user")[1].split("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", section, flags=re.MULTILINE)
    return {what: re.findall(r"`([A-Z]+)`", commands) for what, commands in rows}


@pytest.fixture
def admin(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with redis_server.client() as client:
        yield client
        client.execute_command("ACL", "DELUSER", "limited")


def allow(admin: redis.Redis, prefix: str, commands: list[str]) -> None:
    rights = [f"+{command.lower()}" for command in commands]
    admin.execute_command("ACL", "SETUSER", "limited", "reset", "on", ">s3cret", f"~{prefix}:*", *rights)


def store_of(kind: str, server: RedisServer, database: int) -> Any:
    if kind == "url":
        return f"redis://limited:s3cret@127.0.0.1:{server.port}/{database}"
    return redis.Redis(port=server.port, username="limited", password="s3cret", db=database)


def use_all(limiter: Limiter, admin: redis.Redis) -> None:
    for key in ("k", ["user", "org"]):
        # Each script is sent by its text once more.
        admin.script_flush()
        assert limiter.check(key, [1, 2])
        assert limiter.peek(key)
        assert limiter.check(key, limits=["20/d", "200/d"])
        assert limiter.check_many([key, (key, 1)])
        reservation = limiter.reserve(key, 2)
        assert reservation.cancel()
        assert limiter.reserve(key, 2).settle(1)
        assert limiter.acquire(key)
        assert limiter.settle(key, 2, 1)
        assert limiter.credit(key, 1)
        assert limiter.hold(key, 0.001)
        assert limiter.reset(key)
    limiter.ping()


@pytest.mark.parametrize("kind", ["url", "client"])
@pytest.mark.parametrize("database", [0, 3])
def test_the_listed_commands_are_enough(
    redis_server: RedisServer, admin: redis.Redis, prefix: str, kind: str, database: int
) -> None:
    commands = listed()
    needed = commands["every operation"] + (commands["a database other than 0"] if database else [])
    allow(admin, prefix, needed)
    store = store_of(kind, redis_server, database)
    with Limiter("100/d", "1000/d", store=store, prefix=prefix, store_timeout=PATIENT) as limiter:
        use_all(limiter, admin)


def test_the_listed_commands_of_leases_are_enough(
    redis_server: RedisServer, admin: redis.Redis, prefix: str
) -> None:
    commands = listed()
    allow(admin, prefix, commands["every operation"] + commands["[leases](leases.md)"])
    store = store_of("url", redis_server, 0)
    with Limiter("1000/s", store=store, prefix=prefix, store_timeout=PATIENT, lease={"ttl": 1}) as limiter:
        deadline = time.monotonic() + 60
        while limiter.check("k").source != "lease":
            assert time.monotonic() < deadline, "no slice was leased"


@pytest.mark.parametrize("missing", ["EVALSHA", "EVAL", "MGET", "SET", "TIME", "GET"])
def test_none_of_them_can_be_left_out(
    redis_server: RedisServer, admin: redis.Redis, prefix: str, missing: str
) -> None:
    needed = [command for command in listed()["every operation"] if command != missing]
    allow(admin, prefix, needed)
    store = store_of("url", redis_server, 0)
    limits = ("100/d", "1000/d")
    with Limiter(*limits, store=store, prefix=prefix, store_timeout=PATIENT) as limiter, pytest.raises(StoreError):
        use_all(limiter, admin)
