"""Concurrency permits: in memory, on a real Redis, over several processes, and for asyncio."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from conftest import PATIENT, RedisServer

from tidegate import (
    AsyncConcurrency,
    Concurrency,
    CorruptBucket,
    FakeClock,
    InvalidArgument,
    NoPermit,
    Permit,
    StoreError,
    StoreTimeout,
)

VECTORS = Path(__file__).resolve().parents[2] / "tests" / "vectors" / "permits.json"
# Only a hang can reach it.
DEADLINE = 60.0
WORKER = Path(__file__).with_name("permit_worker.py")


def eventually(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold"
        time.sleep(0.005)


@pytest.fixture(params=["memory", "redis"])
def options(request: pytest.FixtureRequest, redis_server: RedisServer, prefix: str) -> dict[str, Any]:
    if request.param == "memory":
        return {}
    return {"store": redis_server.url, "prefix": prefix, "store_timeout": PATIENT}


def test_a_block_holds_a_permit(options: dict[str, Any]) -> None:
    with Concurrency(2, **options) as vendor:
        with vendor.acquire("k", timeout=5) as first, vendor.acquire("k"):
            assert vendor.in_flight("k") == 2
            assert vendor.in_flight() == 0
            assert vendor.try_acquire("k") is None
            assert (first.key, first.lost, first.source) == ("k", False, "redis" if options else "memory")
            with pytest.raises(NoPermit) as failure:
                vendor.acquire("k", timeout=0.02)
            assert failure.value.limit == 2
            assert isinstance(failure.value, TimeoutError)
            assert pickle.loads(pickle.dumps(failure.value)).limit == 2
        assert vendor.in_flight("k") == 0
        assert not first.lost
        first.release()


def test_an_exception_gives_the_permit_back(options: dict[str, Any]) -> None:
    vendor = Concurrency(1, **options)
    with pytest.raises(ZeroDivisionError), vendor.acquire():
        _ = 1 // 0
    assert vendor.in_flight() == 0


def test_a_permit_that_is_thrown_away_comes_back(options: dict[str, Any]) -> None:
    vendor = Concurrency(1, **options)
    vendor.acquire()
    gc.collect()
    eventually(lambda: vendor.in_flight() == 0)


def test_those_who_wait_are_served_in_order(options: dict[str, Any]) -> None:
    vendor = Concurrency(1, **options)
    order: list[int] = []

    def run(number: int) -> None:
        with vendor.acquire(timeout=DEADLINE):
            order.append(number)

    held = vendor.acquire()
    threads = []
    for number in range(5):
        threads.append(threading.Thread(target=run, args=(number,)))
        threads[-1].start()
        eventually(lambda number=number: vendor.waiting() == number + 1)
        # A caller has its place when the store has it.
        if options:
            eventually(lambda number=number: line_of(options) == number + 1)
    assert vendor.try_acquire() is None
    held.release()
    for thread in threads:
        thread.join(DEADLINE)
    assert order == [0, 1, 2, 3, 4]
    assert vendor.waiting() == 0


def line_of(options: dict[str, Any], key: str = "%") -> int:
    with redis.Redis.from_url(options["store"]) as client:
        return int(client.zcard(f"{options['prefix']}:{{{key}}}:line"))


def test_a_changed_limit_holds_for_those_who_wait(options: dict[str, Any]) -> None:
    vendor = Concurrency(1, **options)
    held = vendor.acquire()
    got: list[Permit] = []
    thread = threading.Thread(target=lambda: got.append(vendor.acquire(timeout=DEADLINE)))
    thread.start()
    eventually(lambda: vendor.waiting() == 1)
    vendor.set_limit(2)
    thread.join(DEADLINE)
    assert vendor.in_flight() == 2
    vendor.set_limit(1)
    held.release()
    assert vendor.try_acquire() is None
    got.pop().release()
    assert vendor.limit == 1
    assert vendor.try_acquire() is not None


def test_closing_ends_waits_and_gives_permits_back(options: dict[str, Any]) -> None:
    vendor, other = Concurrency(1, **options), Concurrency(1, **options)
    vendor.acquire("a")
    kept = vendor.acquire("b")
    failures: list[Exception] = []

    def run() -> None:
        try:
            vendor.acquire("b")
        except StoreError as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    eventually(lambda: vendor.waiting("b") == 1)
    assert not kept.lost
    vendor.close()
    assert kept.lost, "somebody else may hold it by now"
    thread.join(DEADLINE)
    assert "closed" in str(failures[0])
    with pytest.raises(StoreError, match="closed"):
        vendor.acquire("a")
    if options:
        eventually(lambda: other.in_flight("b") == 0)
    kept.release()


def test_arguments() -> None:
    for wrong in [{"limit": 0}, {"limit": -1}, {"limit": 10**6 + 1}, {"limit": 10**30}]:
        with pytest.raises(InvalidArgument, match="limit"):
            Concurrency(**wrong)
    for ttl in [0, 0.05, 86_401, -1, float("nan"), float("inf")]:
        with pytest.raises(InvalidArgument, match="ttl"):
            Concurrency(1, ttl=ttl)
    for store in ["shm://x", redis.Redis()]:
        with pytest.raises(InvalidArgument, match="store"):
            Concurrency(1, store=store)  # type: ignore[arg-type]
    for wrong in ["local", "other"]:
        with pytest.raises(InvalidArgument, match="on_store_error"):
            Concurrency(1, on_store_error=wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="clock"):
        Concurrency(1, store="redis://127.0.0.1:1", clock=FakeClock())
    with pytest.raises(InvalidArgument, match="max_waiting"):
        Concurrency(1, max_waiting=0)
    for key in [7, None, ["a"]]:
        vendor = Concurrency(1)
        if key is not None:
            with pytest.raises(TypeError, match="key"):
                vendor.acquire(key)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Concurrency(True)
    with pytest.raises(InvalidArgument, match="limit"):
        Concurrency(1).set_limit(10**6 + 1)
    with pytest.raises(TypeError):
        pickle.dumps(Concurrency(1))
    assert repr(Concurrency(3, ttl=1.5)) == "Concurrency(3, ttl=1.5)"


def test_at_most_so_many_wait(options: dict[str, Any]) -> None:
    vendor = Concurrency(1, max_waiting=1, **options)
    held = vendor.acquire()
    thread = threading.Thread(target=lambda: vendor.acquire(timeout=DEADLINE).release())
    thread.start()
    eventually(lambda: vendor.waiting() == 1 and (not options or line_of(options) == 1))
    with pytest.raises(NoPermit):
        vendor.acquire(timeout=DEADLINE)
    held.release()
    thread.join(DEADLINE)


@pytest.mark.parametrize("trace", json.loads(VECTORS.read_text())["traces"], ids=lambda trace: trace["name"])
def test_vectors_in_which_nobody_waits(trace: dict[str, Any]) -> None:
    clock = FakeClock()
    terms = trace["terms"]
    vendor = Concurrency(max(terms["limit"], 1), ttl=int(terms["ttl"]) / 1e9, clock=clock)
    vendor.set_limit(terms["limit"])
    held: dict[str, Permit] = {}
    for step in trace["steps"]:
        clock.set(int(step["at"]))
        if "limit" in step:
            vendor.set_limit(step["limit"])
        name, expected = step["id"], step["expect"]["answer"]
        mine = held.get(name)
        if step["ask"] == "leave":
            if mine is not None:
                assert mine.lost == (expected == "not_here")
                held.pop(name).release()
        elif step["ask"] == "renew" or (mine is not None and not mine.lost):
            # A permit cannot be renewed by hand, nor entered twice.
            break
        else:
            permit = vendor.try_acquire()
            assert (permit is not None) == (expected == "entered")
            if permit is not None:
                held[name] = permit
            if expected == "waiting":
                break
        assert vendor.in_flight() == step["expect"]["live"]


def test_a_permit_expires_by_a_fake_clock_which_nobody_waits_for() -> None:
    clock = FakeClock()
    vendor = Concurrency(1, ttl=30, clock=clock)
    first = vendor.acquire()
    with pytest.raises(NoPermit):
        vendor.acquire(timeout=60)
    clock.advance(29.9)
    assert not first.lost
    clock.advance(0.1)
    assert first.lost
    second = vendor.acquire()
    first.release()
    assert (vendor.in_flight(), second.lost) == (1, False)


def test_a_permit_is_renewed_while_it_is_held(redis_server: RedisServer, prefix: str) -> None:
    vendor = Concurrency(1, ttl=1, store=redis_server.url, prefix=prefix, store_timeout=PATIENT)
    permit = vendor.acquire()
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        assert vendor.in_flight() == 1
        time.sleep(0.05)
    assert not permit.lost
    permit.release()
    with redis_server.client() as client:
        assert not list(client.scan_iter(f"{prefix}*"))


def test_nothing_stays_in_the_store(own_redis: RedisServer) -> None:
    with Concurrency(1, ttl=0.2, store=own_redis.url, store_timeout=PATIENT) as vendor:
        with vendor.acquire():
            with pytest.raises(NoPermit):
                vendor.acquire(timeout=0.1)
            with own_redis.client() as client:
                assert client.keys() == [b"tidegate:{%}:permits"]
                assert 0 < client.pttl("tidegate:{%}:permits") <= 202
        with own_redis.client() as client:
            assert client.keys() == []


def test_a_stranger_in_the_store_is_a_corrupt_bucket(redis_server: RedisServer, prefix: str) -> None:
    for end in ("permits", "line", "waits"):
        with redis_server.client() as client:
            client.set(f"{prefix}:{{{end}}}:{end}", "x", ex=60)
        for policy in ("raise", "allow", "deny"):
            vendor = Concurrency(
                1, store=redis_server.url, prefix=prefix, store_timeout=PATIENT, on_store_error=policy
            )
            with pytest.raises(CorruptBucket, match=f":{end}"):
                vendor.acquire(end)


def test_a_store_that_is_down(own_redis: RedisServer) -> None:
    url = own_redis.url
    own_redis.kill()
    raising, allowing, denying = (
        Concurrency(1, store=url, store_timeout=0.5, on_store_error=policy) for policy in (None, "allow", "deny")
    )
    with pytest.raises(StoreError):
        raising.acquire(timeout=DEADLINE)
    with pytest.raises(StoreError):
        raising.try_acquire()
    with allowing.acquire() as first, allowing.acquire() as second:
        assert (first.source, second.source, first.lost) == ("fallback", "fallback", False)
    with pytest.raises(NoPermit):
        denying.acquire(timeout=DEADLINE)
    assert denying.try_acquire() is None
    for vendor in (raising, allowing, denying):
        with pytest.raises(StoreError):
            vendor.in_flight()


def test_a_store_that_hangs_is_a_timeout_and_a_held_permit_is_lost(own_redis: RedisServer) -> None:
    vendor = Concurrency(2, ttl=0.5, store=own_redis.url, store_timeout=1)
    permit = vendor.acquire()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            vendor.acquire()
        except StoreError as error:
            failures.append(error)

    vendor.set_limit(1)
    thread = threading.Thread(target=run)
    thread.start()
    eventually(lambda: vendor.waiting() == 1)
    own_redis.freeze()
    try:
        eventually(lambda: permit.lost)
        with pytest.raises(StoreError):
            vendor.acquire()
        thread.join(DEADLINE)
        assert isinstance(failures[0], StoreError)
    finally:
        own_redis.thaw()
    permit.release()
    assert permit.source == "redis"

    def enters() -> bool:
        try:
            with vendor.acquire(timeout=DEADLINE):
                return True
        except StoreTimeout:
            return False
        except StoreError:
            return False

    eventually(enters)


def test_an_interrupted_caller_leaves_the_line(options: dict[str, Any]) -> None:
    vendor = Concurrency(1, **options)
    held = vendor.acquire()

    def interrupt() -> None:
        eventually(lambda: vendor.waiting() == 1)
        os.kill(os.getpid(), signal.SIGUSR1)

    class Interrupted(Exception):
        pass

    def raises(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, raises)
    thread = threading.Thread(target=interrupt)
    try:
        thread.start()
        with pytest.raises(Interrupted):
            vendor.acquire()
    finally:
        thread.join(DEADLINE)
        signal.signal(signal.SIGUSR1, before)
    assert vendor.waiting() == 0
    held.release()
    with vendor.acquire(timeout=DEADLINE):
        assert vendor.in_flight() == 1


def test_a_forked_child_holds_nothing_of_its_parent(options: dict[str, Any]) -> None:
    vendor = Concurrency(2, **options)
    permit = vendor.acquire("fork")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            assert permit.lost
            permit.release()
            # Memory is the child's own; in Redis the parent's permit stays.
            expected = 1 if options else 0
            assert vendor.in_flight("fork") == expected
            with vendor.acquire("fork", timeout=DEADLINE):
                assert vendor.in_flight("fork") == expected + 1
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert (vendor.in_flight("fork"), permit.lost) == (1, False)
    permit.release()
    assert vendor.in_flight("fork") == 0


# --- asyncio ---------------------------------------------------------------------------------------


def test_asyncio(options: dict[str, Any]) -> None:
    async def main() -> None:
        async with AsyncConcurrency(2, **options) as vendor:
            running = most = 0

            async def run() -> None:
                nonlocal running, most
                async with vendor.acquire("k", timeout=DEADLINE) as permit:
                    assert not permit.lost
                    running += 1
                    most = max(most, running)
                    await asyncio.sleep(0.002)
                    running -= 1

            await asyncio.gather(*(run() for _ in range(12)))
            assert most == 2
            assert await vendor.in_flight("k") == 0
            permit = await vendor.try_acquire("k")
            assert permit is not None
            async with permit:
                assert await vendor.in_flight("k") == 1
                second = await vendor.acquire("k")
                assert await vendor.try_acquire("k") is None
                with pytest.raises(NoPermit):
                    await vendor.acquire("k", timeout=0.02)
                await second.release()
            assert (permit.key, permit.lost) == ("k", False)

    asyncio.run(main())


def test_a_cancelled_task_leaves_the_line(options: dict[str, Any]) -> None:
    async def main() -> None:
        blocking = Concurrency(1, **options)
        vendor = AsyncConcurrency.of(blocking)
        held = await vendor.acquire()
        tasks = [asyncio.create_task(_take(vendor)) for _ in range(3)]
        await _until(lambda: vendor.waiting() == 3)
        tasks[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
        await held.release()
        await asyncio.gather(*tasks[1:])
        # Cancelled when the permit is there, but before the task has run again.
        last = await vendor.acquire()
        task = asyncio.create_task(_take(vendor))
        await _until(lambda: vendor.waiting() == 1)
        await last.release()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.to_thread(eventually, lambda: blocking.in_flight() == 0)

    asyncio.run(asyncio.wait_for(main(), DEADLINE))


async def _until(holds: Callable[[], object]) -> None:
    await asyncio.to_thread(eventually, holds)


async def _take(vendor: AsyncConcurrency) -> None:
    async with vendor.acquire():
        await asyncio.sleep(0)


# --- a fleet ---------------------------------------------------------------------------------------


@pytest.fixture
def fleet(own_redis: RedisServer) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    workers: list[subprocess.Popen[str]] = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, str(WORKER), own_redis.url, *map(str, arguments)]
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        workers.append(worker)
        return worker

    try:
        yield start
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def test_a_fleet_never_holds_more_than_the_limit_whoever_is_killed(
    own_redis: RedisServer, fleet: Callable[..., subprocess.Popen[str]]
) -> None:
    limit, ttl = 5, 1.0
    workers = [fleet("work", limit, ttl, 4) for _ in range(8)]
    with own_redis.client() as client:
        key = "fleet:{vendor}:permits"
        entered = killed = most = 0
        deadline = time.monotonic() + DEADLINE
        while (killed < 3 or entered < 120) and time.monotonic() < deadline:
            seconds, micros = client.time()
            alive = client.zcount(key, f"({seconds * 10**6 + micros}", "+inf")
            assert alive <= limit
            most = max(most, alive)
            entered = int(client.get("entered") or 0)
            # Each worker says so itself; a permit of one that was killed is not among them.
            assert int(client.get("over") or 0) == 0
            if entered > 25 * (killed + 1) and killed < 3:
                holder = next(iter(client.zrange(key, 0, 0)), None)
                if holder is not None:
                    workers.pop().kill()
                    killed += 1
        assert (killed, most) == (3, limit)
        assert entered >= 120
        for worker in workers:
            worker.kill()
        # Everything comes free within the ttl, and those who wait are forgotten.
        began = time.monotonic()
        with Concurrency(limit, ttl=ttl, store=own_redis.url, prefix="fleet", store_timeout=PATIENT) as vendor:
            eventually(lambda: vendor.in_flight("vendor") == 0)
            assert time.monotonic() - began < ttl + 5
        eventually(lambda: not client.keys("fleet:*"))


def test_a_line_over_two_processes_is_served_in_order(
    own_redis: RedisServer, fleet: Callable[..., subprocess.Popen[str]]
) -> None:
    vendor = Concurrency(1, store=own_redis.url, prefix="fleet", store_timeout=PATIENT)
    held = vendor.acquire("vendor")
    workers = [fleet("line", 1, 30), fleet("line", 1, 30)]
    with own_redis.client() as client:
        for number in range(6):
            worker = workers[number % 2]
            assert worker.stdin is not None
            worker.stdin.write(f"{number}\n")
            worker.stdin.flush()
            eventually(lambda number=number: client.zcard("fleet:{vendor}:line") == number + 1)
        held.release()
        eventually(lambda: client.llen("order") == 6)
        assert client.lrange("order", 0, -1) == [b"0", b"1", b"2", b"3", b"4", b"5"]


def test_the_cost_in_round_trips(own_redis: RedisServer) -> None:
    with own_redis.client() as client, Concurrency(1, store=own_redis.url, store_timeout=PATIENT) as vendor:

        def calls() -> int:
            stats = client.info("commandstats")
            return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("eval", "evalsha"))

        vendor.acquire().release()
        before = calls()
        for _ in range(10):
            vendor.acquire().release()
        assert calls() - before == 20
        # While somebody waits, a process asks at most 20 times a second.
        held = vendor.acquire()
        threads = [threading.Thread(target=lambda: vendor.acquire(timeout=DEADLINE).release()) for _ in range(20)]
        for thread in threads:
            thread.start()
        eventually(lambda: client.zcard("tidegate:{%}:line") == 20)
        before, began = calls(), time.monotonic()
        time.sleep(1)
        asked, took = calls() - before, time.monotonic() - began
        assert 1 <= asked <= 20 * took + 5
        held.release()
        for thread in threads:
            thread.join(DEADLINE)
