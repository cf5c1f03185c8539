"""Limiters on a real Redis: exactly one bucket, whatever happens to the server."""

from __future__ import annotations

import multiprocessing
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import RedisServer, in_child

from tidegate import (
    AsyncLimiter,
    CorruptBucket,
    InvalidArgument,
    Limiter,
    StoreError,
    StoreTimeout,
)

# Slow enough that no token comes back while a test runs.
SLOW = "20/d"
# This timeout suits a busy machine; tests that are about time set their own.
PATIENT = 30.0
# A check ends by a timer of the store timeout, so that the rest is only the machine's delay in
# running this process. A check that waited for the server, or for a reconnection, would not end.
SLACK = 10.0


def test_two_limiters_share_a_bucket_exactly(redis_server: RedisServer, prefix: str) -> None:
    limiters = [limiter_on(redis_server, prefix) for _ in range(2)]
    decisions = [limiters[turn % 2].check("k") for turn in range(40)]
    assert [decision.allowed for decision in decisions] == [True] * 20 + [False] * 20
    assert [decision.remaining for decision in decisions[:20]] == list(range(19, -1, -1))
    assert {decision.source for decision in decisions} == {"redis"}
    assert 0 < decisions[-1].retry_after <= 4320
    assert limiters[0].peek("k", 0).remaining == 0


def test_prefixes_and_keys_keep_buckets_apart(redis_server: RedisServer, prefix: str) -> None:
    first = limiter_on(redis_server, prefix, "1/d")
    second = limiter_on(redis_server, prefix + "2", "1/d")
    assert first.check("k") and first.check("{k}") and first.check("%7Bk%7D")
    assert second.check("k")
    assert not first.check("k")


def test_str_and_bytes_are_one_key(redis_server: RedisServer, prefix: str) -> None:
    limiter = limiter_on(redis_server, prefix, "1/d")
    assert limiter.check("clé")
    assert not limiter.check("clé".encode())
    assert limiter.check(b"\xff\x00not utf-8")


def test_several_limits(redis_server: RedisServer, prefix: str) -> None:
    limiter = Limiter("100/d", "3/d", store=redis_server.url, prefix=prefix, store_timeout=PATIENT)
    assert limiter.check("k", 3)
    refused = limiter.check("k")
    assert (refused.allowed, refused.limit_name) == (False, "3/d")


def test_threads_share_a_limiter_exactly(redis_server: RedisServer, prefix: str) -> None:
    limiter = limiter_on(redis_server, prefix)
    with ThreadPoolExecutor(8) as pool:
        allowed = list(pool.map(lambda _: limiter.check("k").allowed, range(80)))
    assert sum(allowed) == 20


def spend(url: str, prefix: str, count: int) -> int:
    limiter = Limiter(SLOW, store=url, prefix=prefix, store_timeout=PATIENT)
    return sum(limiter.check("k").allowed for _ in range(count))


def test_spawned_processes_share_a_bucket_exactly(redis_server: RedisServer, prefix: str) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        answers = pool.starmap(spend, [(redis_server.url, prefix, 15)] * 3, chunksize=1)
        pool.close()
        pool.join()
    assert sum(answers) == 20


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_child_can_check_too(redis_server: RedisServer, prefix: str) -> None:
    limiter = limiter_on(redis_server, prefix, "5/d")
    assert limiter.check("k").remaining == 4
    for remaining in (3, 1):
        in_child(lambda left=remaining: limiter.check("k").remaining == left)
        assert limiter.check("k").remaining == remaining - 1, "the parent's connection is its own"


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_child_forked_while_threads_check_can_check_too(
    redis_server: RedisServer, prefix: str
) -> None:
    limiter = limiter_on(redis_server, prefix)
    done = threading.Event()

    def keep_checking() -> None:
        while not done.is_set():
            limiter.check("busy")

    threads = [threading.Thread(target=keep_checking) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in range(10):
            in_child(lambda key=f"child {number}": limiter.check(key).allowed)
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_a_unix_socket(redis_server: RedisServer, prefix: str) -> None:
    url = f"redis+unix://{redis_server.unix_socket}"
    assert Limiter(SLOW, store=url, prefix=prefix, store_timeout=PATIENT).check("k")
    assert limiter_on(redis_server, prefix).peek("k", 0).remaining == 19


def test_scripts_flushed(own_redis: RedisServer, prefix: str) -> None:
    limiter = limiter_on(own_redis, prefix)
    assert limiter.check("k").remaining == 19
    with own_redis.client() as client:
        client.script_flush()
    assert limiter.check("k").remaining == 18


def test_buckets_flushed(own_redis: RedisServer, prefix: str) -> None:
    limiter = limiter_on(own_redis, prefix)
    assert limiter.check("k", 20).remaining == 0
    with own_redis.client() as client:
        client.flushall()
    assert limiter.check("k").remaining == 19


def test_a_server_killed_and_started_again(own_redis: RedisServer, prefix: str) -> None:
    limiter = limiter_on(own_redis, prefix, timeout=0.25)
    assert works_within(PATIENT, limiter)
    own_redis.kill()
    for _ in range(5):
        error, seconds = failure_of(lambda: limiter.check("k"))
        assert isinstance(error, StoreError), error
        assert seconds < 0.25 + SLACK
    own_redis.start()
    assert works_within(PATIENT, limiter)


def test_a_server_that_hangs(own_redis: RedisServer, prefix: str) -> None:
    limiter = limiter_on(own_redis, prefix, timeout=0.25)
    assert works_within(PATIENT, limiter)
    own_redis.freeze()
    try:
        error, seconds = failure_of(lambda: limiter.check("k"))
    finally:
        own_redis.thaw()
    assert isinstance(error, StoreTimeout) and isinstance(error, TimeoutError)
    assert str(error) == "the store did not answer within 250 ms"
    assert 0.25 <= seconds < 0.25 + SLACK
    assert works_within(PATIENT, limiter)


def test_other_threads_run_while_one_waits(own_redis: RedisServer, prefix: str) -> None:
    limiter = limiter_on(own_redis, prefix, timeout=2.0)
    limiter.check("k")
    own_redis.freeze()
    waiting = threading.Thread(target=failure_of, args=[lambda: limiter.check("k")])
    try:
        waiting.start()
        turns = 0
        while waiting.is_alive():
            turns += 1
            time.sleep(0.001)
    finally:
        own_redis.thaw()
        waiting.join()
    assert turns > 10, "2 s of waiting leave room for about 2000 turns"


def test_control_c_ends_the_wait(own_redis: RedisServer) -> None:
    program = (
        "import sys, tidegate\n"
        "limiter = tidegate.Limiter('1/s', store=sys.argv[1], store_timeout=60)\n"
        "print('waiting', flush=True)\n"
        "limiter.check('k')\n"
    )
    own_redis.freeze()
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", program, own_redis.url],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENT)
    finally:
        own_redis.thaw()
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert process.returncode == -signal.SIGINT


def test_a_value_that_is_not_a_bucket(redis_server: RedisServer, prefix: str) -> None:
    limiter = limiter_on(redis_server, prefix)
    limiter.check("k")
    with redis_server.client() as client:
        (name,) = client.keys(f"{prefix}:*")
        writes: list[Callable[[], object]] = [
            lambda: client.set(name, "garbage"),
            lambda: client.lpush(name, "a list"),
        ]
        for write in writes:
            client.delete(name)
            write()
            for call in (limiter.check, limiter.peek):
                with pytest.raises(CorruptBucket, match="corrupt bucket") as caught:
                    call("k")
                assert prefix in str(caught.value)
        client.delete(name)
    assert limiter.check("k").remaining == 19


def test_an_unreachable_server(prefix: str) -> None:
    with socket.socket() as nobody_listens:
        nobody_listens.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{nobody_listens.getsockname()[1]}"
        limiter = Limiter(SLOW, store=url, prefix=prefix, store_timeout=0.25)
        for _ in range(3):
            error, seconds = failure_of(lambda: limiter.check("k"))
            assert isinstance(error, StoreError)
            assert seconds < 0.25 + SLACK


def test_a_closed_limiter(redis_server: RedisServer, prefix: str) -> None:
    with limiter_on(redis_server, prefix) as limiter:
        limiter.check("k")
    with pytest.raises(StoreError, match="closed"):
        limiter.check("k")


PASSWORD = "sesame-9f27"


@pytest.fixture
def guarded_redis(tmp_path: Path) -> Any:
    server = RedisServer(tmp_path, "--requirepass", "another-word")
    try:
        server.start()
        yield server
    finally:
        server.kill()


async def test_a_password_is_never_told(guarded_redis: RedisServer) -> None:
    told: list[str] = []
    good = f"redis://user:{PASSWORD}@127.0.0.1:{guarded_redis.port}"
    for url in (good, f"redis://:{PASSWORD}@127.0.0.1:{guarded_redis.port}", f"redis://u:{PASSWORD}@127.0.0.1:1"):
        for make in (Limiter, AsyncLimiter):
            limiter = make(SLOW, store=url, store_timeout=5)
            told.append(repr(limiter))
            with pytest.raises(StoreError) as failed:
                checking: Any = limiter.check("k")
                await checking
            told += everything_told(failed.value)
    for url in (
        f"redis://u:{PASSWORD}@h:port", f"redis://u:{PASSWORD}@h/db", f"http://u:{PASSWORD}@h",
        f"redis//u:{PASSWORD}@h", f"redis://u:{PASSWORD}@", f"memory://{PASSWORD}",
    ):  # fmt: skip
        with pytest.raises(InvalidArgument) as refused:
            Limiter(SLOW, store=url)
        # A traceback's frames show lines of the test, not the values of its variables.
        told += everything_told(refused.value)
    assert told and not [text for text in told if PASSWORD in text]


def limiter_on(
    server: RedisServer, prefix: str, limit: str = SLOW, timeout: float = PATIENT
) -> Limiter:
    return Limiter(limit, store=server.url, prefix=prefix, store_timeout=timeout)


def works_within(seconds: float, limiter: Limiter) -> bool:
    """Whether checks succeed again before the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return limiter.peek("k", 0).allowed
        except StoreError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def failure_of(call: Callable[[], object]) -> tuple[Exception, float]:
    start = time.monotonic()
    with pytest.raises(StoreError) as caught:
        call()
    return caught.value, time.monotonic() - start


def everything_told(error: BaseException) -> list[str]:
    return [str(error), repr(error), *traceback.format_exception_only(error)]
