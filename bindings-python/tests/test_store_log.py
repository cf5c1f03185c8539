"""What is told of a store that fails: the log, `store_health` and `ping`."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
import redis.asyncio
from conftest import PATIENT, RedisServer, in_child

from tidegate import AsyncLimiter, Limiter, StoreError, StoreTimeout

DEADLINE = 60.0
FAILURES_TO_OPEN = 3


def until(condition: Callable[[], Any], what: str) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen"
        time.sleep(0.005)


class Records(logging.Handler):
    """Keeps the records of the logger `tidegate`, as (level, text)."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.all.append((record.levelname, record.getMessage()))

    def of(self, place: str) -> list[tuple[str, str]]:
        return [record for record in self.all if place in record[1]]


@pytest.fixture
def records() -> Any:
    logger, handler = logging.getLogger("tidegate"), Records()
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(before)


def refuse(server: RedisServer, rule: str) -> None:
    """Makes the server refuse all scripts, with "-@scripting", or run them again, with "+@all"."""
    with server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "default", rule)


@pytest.fixture(params=["url", "redis-py"])
def store(own_redis: RedisServer, request: pytest.FixtureRequest) -> Any:
    """Either form of a store on the test's own server."""
    if request.param == "url":
        yield own_redis.url
        return
    with redis.Redis(port=own_redis.port, socket_timeout=PATIENT) as client:
        yield client


def test_an_outage_is_two_records_however_many_calls_fail(
    own_redis: RedisServer, prefix: str, records: Records, store: Any
) -> None:
    place = f":{own_redis.port}"
    options: Any = {"store": store, "prefix": prefix, "store_timeout": PATIENT, "on_store_error": "allow"}
    limiter, other = Limiter("100/d", **options), Limiter("100/d", **options)
    assert limiter.check("k").source == "redis"
    assert limiter.store_health.last_error is None
    refuse(own_redis, "-@scripting")
    for turn in range(500):
        assert (limiter, other)[turn % 2].check("k").source == "fallback"
    until(lambda: records.of(place), "a record")
    [(level, text)] = records.of(place)
    assert level == "WARNING" and "keeps failing" in text and "no permissions" in text, text
    health = limiter.store_health
    assert isinstance(health.last_error, StoreError)
    assert health.last_error.code == "store_error" and "no permissions" in str(health.last_error)
    # Half-open and open are one outage.
    assert health.state != "closed" and 0 < health.since < DEADLINE

    refuse(own_redis, "+@all")
    until(lambda: limiter.check("k").source == "redis", "its return")
    until(lambda: len(records.of(place)) > 1, "the second record")
    [_, (level, text)] = records.of(place)
    assert level == "INFO" and "answers again" in text, text
    assert limiter.store_health.state == "closed"
    assert limiter.store_health.last_error is not None, "it stays, also after the return"


@pytest.mark.parametrize("kind", ["url", "redis.asyncio"])
def test_asyncio(own_redis: RedisServer, prefix: str, records: Records, kind: str) -> None:
    place = f":{own_redis.port}"

    async def main() -> None:
        client = redis.asyncio.Redis(port=own_redis.port, socket_timeout=PATIENT)
        store: Any = own_redis.url if kind == "url" else client
        async with AsyncLimiter(
            "100/d", store=store, prefix=prefix, store_timeout=PATIENT, on_store_error="deny"
        ) as limiter:
            await limiter.ping()
            refuse(own_redis, "-@scripting")
            for _ in range(50):
                assert (await limiter.check("k")).source == "fallback"
            with pytest.raises(StoreError, match="no permissions"):
                await limiter.ping()
            until(lambda: records.of(place), "a record")
            refuse(own_redis, "+@all")
            await limiter.ping()
            end = time.monotonic() + DEADLINE
            while (await limiter.check("k")).source != "redis":
                assert time.monotonic() < end
            until(lambda: len(records.of(place)) > 1, "the second record")
        await client.aclose()

    asyncio.run(main())
    assert [level for level, _ in records.of(place)] == ["WARNING", "INFO"]


def test_no_record_has_a_password(own_redis: RedisServer, records: Records) -> None:
    url = f"redis://someone:hunter2@127.0.0.1:{own_redis.port}/3"
    limiter = Limiter("100/d", store=url, store_timeout=PATIENT, on_store_error="allow")
    for _ in range(FAILURES_TO_OPEN):
        assert limiter.check("k")
    until(lambda: records.of(str(own_redis.port)), "a record")
    assert f"127.0.0.1:{own_redis.port}/3" in records.all[0][1]
    told = [*records.all, ("", str(limiter.store_health.last_error))]
    assert not any("hunter2" in text or "someone" in text for _, text in told), told


def test_a_log_handler_may_use_the_limiter_and_be_slow(own_redis: RedisServer, prefix: str) -> None:
    limiter = Limiter(
        "100/d", store=own_redis.url, prefix=prefix, store_timeout=PATIENT, on_store_error="allow"
    )
    limiter.check("k")
    told, done = threading.Event(), threading.Event()

    class Using(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if str(own_redis.port) in record.getMessage():
                limiter.check("k")
                told.set()
                done.wait(DEADLINE)

    logger, handler = logging.getLogger("tidegate"), Using()
    logger.addHandler(handler)
    try:
        refuse(own_redis, "-@scripting")
        until(lambda: limiter.check("k") and told.is_set(), "the record")
        # The handler hangs, and calls are answered.
        assert limiter.check("k").source == "fallback"
    finally:
        done.set()
        logger.removeHandler(handler)


def test_a_forked_child_logs_for_itself(own_redis: RedisServer, prefix: str, records: Records) -> None:
    limiter = Limiter(
        "100/d", store=own_redis.url, prefix=prefix, store_timeout=PATIENT, on_store_error="allow"
    )
    limiter.check("k")
    refuse(own_redis, "-@scripting")
    until(lambda: limiter.check("k") and records.of(str(own_redis.port)), "the record")

    def child() -> bool:
        records.all.clear()
        until(lambda: limiter.check("k") and records.of(str(own_redis.port)), "the child's record")
        return True

    in_child(child)


def test_a_program_that_ends_at_once_ends(own_redis: RedisServer) -> None:
    program = f"""
from tidegate import Limiter
limiter = Limiter("1/s", store="redis://127.0.0.1:1", on_store_error="allow", store_timeout={PATIENT})
for _ in range(3):
    limiter.check("k")
"""
    for _ in range(8):
        ended = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, timeout=DEADLINE, check=True
        )
        assert b"Error" not in ended.stderr and b"Traceback" not in ended.stderr, ended.stderr


def test_ping_asks_the_store_and_never_the_policy(
    own_redis: RedisServer, prefix: str, store: Any
) -> None:
    limiter = Limiter(
        "5/d", store=store, prefix=prefix, store_timeout=PATIENT, on_store_error="allow", deny_cache=60
    )
    limiter.ping()
    with own_redis.client() as admin:
        assert admin.keys() == [], "it writes nothing"
    refuse(own_redis, "-@scripting")
    for _ in range(2 * FAILURES_TO_OPEN):
        with pytest.raises(StoreError, match="no permissions"):
            limiter.ping()
    assert limiter.store_health.state == "closed", "the breaker has no part in it"
    assert limiter.store_health.failures == 0
    for _ in range(FAILURES_TO_OPEN):
        limiter.check("k")
    refuse(own_redis, "+@all")
    limiter.ping()
    limiter.close()
    with pytest.raises(StoreError, match="closed"):
        limiter.ping()


def test_ping_ends_with_the_store_timeout(own_redis: RedisServer, prefix: str) -> None:
    limiter = Limiter("5/d", store=own_redis.url, prefix=prefix, store_timeout=0.05, on_store_error="allow")
    own_redis.freeze()
    began = time.monotonic()
    with pytest.raises(StoreTimeout):
        limiter.ping()
    assert time.monotonic() - began < DEADLINE / 2
    own_redis.thaw()


def test_ping_of_memory(prefix: str) -> None:
    for limits, store in [("5/s", "memory://"), ("5/s", f"shm://{prefix}"), ("none", "redis://127.0.0.1:1")]:
        limiter = Limiter(limits, store=store)
        limiter.ping()
        limiter.close()
        with pytest.raises(StoreError, match="closed"):
            limiter.ping()

    async def main() -> None:
        async with AsyncLimiter("5/s") as limiter:
            await limiter.ping()

    asyncio.run(main())
