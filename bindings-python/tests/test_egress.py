"""`Egress` on Redis streams: the rate, worker kills, holds, failures, stale messages, order, stop."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
import redis.asyncio
from conftest import RedisServer

from tidegate import AsyncConcurrency, AsyncLimiter, InvalidArgument, Limiter
from tidegate.egress import Egress, EgressGauges, Message, Outcome, PermanentFailure, RedisStreamsQueue, RetryLater

WORKER = Path(__file__).with_name("egress_worker.py")
DEADLINE = 120.0


def fill(client: redis.Redis, stream: str, count: int) -> None:
    with client.pipeline() as pipeline:
        for number in range(count):
            pipeline.xadd(stream, {"n": number})
        pipeline.execute()


class Run:
    """Runs an egress in the loop of a test, until a condition holds."""

    def __init__(self, server: RedisServer, stream: str, handler: Callable[[Message], Any], **options: Any) -> None:
        self.client = redis.asyncio.Redis(port=server.port, decode_responses=True)
        self.outcomes: list[Outcome] = []
        self.receives = 0
        self.queue = RedisStreamsQueue(self.client, stream, visibility=options.pop("visibility", 30.0), block=0.05)
        receive = self.queue.receive

        async def counted(count: int) -> Any:
            found = await receive(count)
            self.receives += len(found)
            return found

        self.queue.receive = counted  # type: ignore[method-assign]
        options.setdefault("limiter", "10000/s")
        options.setdefault("back_off", 0.05)
        options.setdefault("jitter", 0.0)
        self.egress = Egress(self.queue, handler, on_outcome=self.outcomes.append, **options)

    async def until(self, is_enough: Callable[[], bool]) -> None:
        task = asyncio.create_task(self.egress.run_async())
        try:
            async with asyncio.timeout(DEADLINE) if sys.version_info >= (3, 11) else _no_timeout():
                while not is_enough():
                    assert not task.done(), task.exception()
                    await asyncio.sleep(0.005)
        finally:
            self.egress.stop()
            await task
            await self.client.aclose()

    def ends(self) -> Counter[str]:
        return Counter(outcome.end for outcome in self.outcomes)


class _no_timeout:
    async def __aenter__(self) -> None: ...
    async def __aexit__(self, *_: object) -> None: ...


def left(client: redis.Redis, stream: str) -> tuple[int, int, int]:
    """Entries of the stream, pending ones, and delayed ones."""
    delays = f"{{{stream}}}:egress:delayed"
    return client.xlen(stream), client.xpending(stream, "egress")["pending"], client.zcard(delays)


async def test_a_thousand_messages_at_the_rate_with_one_receive_each(redis_server: RedisServer, prefix: str) -> None:
    client = redis_server.client()
    fill(client, prefix, 1_000)
    calls: list[float] = []

    async def call(message: Message) -> None:
        calls.append(time.monotonic())

    run = Run(redis_server, prefix, call, limiter=AsyncLimiter("200/s burst 1"), concurrency=40)
    await run.until(lambda: run.ends()["done"] == 1_000)
    took = calls[-1] - calls[0]
    assert len(calls) == run.receives == 1_000
    # A busy machine can only be late.
    assert 999 / 200 * 0.98 <= took, took
    was_late = any(later - earlier > 0.02 for earlier, later in pairwise(calls))
    assert took <= 999 / 200 * 1.02 or was_late, took
    assert left(client, prefix) == (0, 0, 0)
    print(f"1000 messages in {took:.3f} s")


def test_workers_that_are_killed_lose_nothing(redis_server: RedisServer, prefix: str) -> None:
    client = redis_server.client()
    count = 600
    fill(client, prefix, count)
    chance = random.Random(15)

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, WORKER, str(redis_server.port), prefix, "200/s burst 1"])

    workers = [start() for _ in range(3)]
    killed = 0
    deadline = time.monotonic() + DEADLINE
    try:
        while client.xlen(prefix) > 0:
            assert time.monotonic() < deadline, left(client, prefix)
            done = client.llen(f"{prefix}:calls")
            # A worker dies after each eighth of the work.
            if killed < 6 and done >= (killed + 1) * count // 8:
                victim = chance.randrange(len(workers))
                workers[victim].kill()
                workers[victim].wait()
                workers[victim] = start()
                killed += 1
            time.sleep(0.01)
        for worker in workers:
            worker.terminate()
        # One that has only just begun does not catch the signal yet.
        assert {worker.wait(DEADLINE) for worker in workers} <= {0, -signal.SIGTERM}
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    calls = [line.decode().split() for line in client.lrange(f"{prefix}:calls", 0, -1)]
    made = Counter(number for number, _ in calls)
    assert killed == 6
    assert set(made) == {str(number) for number in range(count)}, "every message is called"
    assert not client.exists(f"{{{prefix}}}:dead"), "nothing is falsely dead-lettered"
    # A killed worker had at most ten messages in hand, and only those that it called are called again.
    assert sum(made.values()) - count <= killed * 10
    assert left(client, prefix) == (0, 0, 0)
    times = sorted(float(at) for _, at in calls)
    # A worker that stands still for a moment sends its calls together.
    assert len(times) - 1 <= 200 * (times[-1] - times[0] + 0.5), "the fleet keeps the rate"


async def test_a_hold_stops_every_worker(redis_server: RedisServer, prefix: str) -> None:
    client = redis_server.client()
    fill(client, prefix, 40)
    hold = 2.0
    held_at: list[float] = []
    calls: list[float] = []

    async def call(message: Message) -> Any:
        calls.append(time.monotonic())
        if len(calls) == 10:
            held_at.append(time.monotonic())
            return SimpleNamespace(status_code=429, headers={"Retry-After": str(hold)})
        return SimpleNamespace(status_code=200, headers={})

    def limiter() -> AsyncLimiter:
        return AsyncLimiter("100/s burst 1", store=redis_server.url, prefix=prefix, store_timeout=10)

    runs = [Run(redis_server, prefix, call, limiter=limiter(), concurrency=4, keep=5.0) for _ in range(2)]

    def is_done() -> bool:
        return sum(run.ends()["done"] for run in runs) == 40

    await asyncio.gather(*(run.until(is_done) for run in runs))
    during = [at for at in calls if held_at[0] + 0.5 < at < held_at[0] + hold]
    assert during == [], "nothing leaves while the vendor's hold lasts, once it is heard of"
    # What waits out the hold in hand is received once.
    assert sum(run.receives for run in runs) == 40
    assert len(calls) == 41
    assert runs[0].egress.gauges().dead_letters == {"stale": 0, "permanent": 0, "exhausted": 0}


async def test_failures_come_again_and_are_dead_lettered_in_the_end(redis_server: RedisServer, prefix: str) -> None:
    client = redis_server.client()
    fill(client, prefix, 3)
    attempts: Counter[str] = Counter()

    def call(message: Message) -> Any:
        number = message.body["n"]
        attempts[number] += 1
        assert message.attempts == attempts[number]
        if number == "0":
            raise PermanentFailure
        if number == "1":
            raise ConnectionError
        if attempts[number] < 3:
            return SimpleNamespace(status=503, headers={})
        return None

    run = Run(redis_server, prefix, call, max_attempts=3)
    await run.until(lambda: run.ends()["done"] + run.ends()["dead_lettered"] == 3)
    assert attempts == {"0": 1, "1": 3, "2": 3}
    dead = {fields[b"n"]: fields for _, fields in client.xrange(run.queue.dead_letters)}
    assert {n: (fields[b"tidegate-reason"], fields[b"tidegate-attempts"]) for n, fields in dead.items()} == {
        b"0": (b"permanent", b"1"), b"1": (b"exhausted", b"3"),
    }  # fmt: skip
    assert left(client, prefix) == (0, 0, 0)


async def test_a_hold_is_no_attempt(redis_server: RedisServer, prefix: str) -> None:
    fill(redis_server.client(), prefix, 1)
    seen: list[int] = []

    async def call(message: Message) -> None:
        seen.append(message.attempts)
        if len(seen) < 6:
            raise RetryLater(0.02)

    run = Run(redis_server, prefix, call, max_attempts=2)
    await run.until(lambda: run.ends()["done"] == 1)
    assert seen == [1] * 6


async def test_stale_messages_cost_no_token(redis_server: RedisServer, prefix: str) -> None:
    client = redis_server.client()
    fill(client, prefix, 5)
    called: list[str] = []
    limiter = Limiter("10/d")

    async def call(message: Message) -> None:
        called.append(message.body["n"])

    def deadline(message: Message) -> float | None:
        return time.time() - 1 if message.body["n"] != "3" else None

    dead: list[tuple[str, str]] = []
    run = Run(
        redis_server, prefix, call, limiter=limiter, deadline=deadline,
        dead_letter=lambda message, reason: dead.append((message.body["n"], reason)),
    )  # fmt: skip
    await run.until(lambda: len(run.outcomes) == 5)
    assert called == ["3"]
    assert sorted(dead) == [("0", "stale"), ("1", "stale"), ("2", "stale"), ("4", "stale")]
    assert limiter.peek("egress", cost=0).remaining == 9
    assert left(client, prefix) == (0, 0, 0)


async def test_messages_of_a_key_stay_in_order(redis_server: RedisServer, prefix: str) -> None:
    fill(redis_server.client(), prefix, 30)
    under_way: set[str] = set()
    done: dict[str, list[int]] = {"0": [], "1": [], "2": []}

    def key_of(message: Message) -> str:
        return str(int(message.body["n"]) % 3)

    async def call(message: Message) -> None:
        key = key_of(message)
        assert key not in under_way
        under_way.add(key)
        await asyncio.sleep(0.002)
        under_way.remove(key)
        done[key].append(int(message.body["n"]))

    run = Run(redis_server, prefix, call, order_key=key_of)
    await run.until(lambda: run.ends()["done"] == 30)
    assert done == {key: list(range(int(key), 30, 3)) for key in done}


async def test_a_stop_returns_what_waits_and_lets_calls_end(redis_server: RedisServer, prefix: str) -> None:
    client = redis_server.client()
    fill(client, prefix, 20)
    begun: list[str] = []
    release = asyncio.Event()

    async def call(message: Message) -> None:
        begun.append(message.body["n"])
        await release.wait()

    run = Run(redis_server, prefix, call, limiter="3/d", concurrency=8)
    task = asyncio.create_task(run.until(lambda: len(begun) == 3 and run.egress.gauges().waiting > 0))
    while not run.egress._is_stopping:  # noqa: ASYNC110 (the condition is not the test's)
        await asyncio.sleep(0.005)
    release.set()
    await task
    assert run.ends()["done"] == 3
    assert run.ends()["returned"] >= 1
    # Another worker gets what was returned at once, though it is not idle for long.
    other = Run(redis_server, prefix, lambda message: None)
    await other.until(lambda: other.ends()["done"] == 17)
    assert left(client, prefix) == (0, 0, 0)


async def test_visibility_is_extended_while_a_call_lasts(redis_server: RedisServer, prefix: str) -> None:
    fill(redis_server.client(), prefix, 1)
    called: list[str] = []

    async def slow(message: Message) -> None:
        called.append("slow")
        await asyncio.sleep(3.0)

    first = Run(redis_server, prefix, slow, visibility=1.5)
    second = Run(redis_server, prefix, slow, visibility=1.5)
    await asyncio.gather(
        first.until(lambda: bool(first.outcomes or second.outcomes)),
        second.until(lambda: bool(first.outcomes or second.outcomes)),
    )
    assert called == ["slow"]


async def test_gauges_reach_the_observer(redis_server: RedisServer, prefix: str) -> None:
    fill(redis_server.client(), prefix, 20)
    seen: list[EgressGauges] = []
    run = Run(
        redis_server, prefix, lambda message: None, limiter="2/s burst 1", concurrency=2,
        observer=seen.append, observe_every=0.05,
    )  # fmt: skip
    await run.until(lambda: any(gauges.waiting and gauges.lag for gauges in seen))
    found = next(gauges for gauges in seen if gauges.waiting and gauges.lag)
    assert found.drain_time == pytest.approx((found.lag + found.waiting) / 2)
    assert found.oldest_age is not None and found.held_for == 0.0 and found.throttled_ratio == 0.0


def test_a_blocking_client_and_run(redis_server: RedisServer, prefix: str) -> None:
    client = redis_server.client()
    fill(client, prefix, 10)
    done: list[bytes] = []
    queue = RedisStreamsQueue(client, prefix, block=0.05)

    def call(message: Message) -> None:
        done.append(message.body[b"n"])
        if len(done) == 10:
            egress.stop()

    egress = Egress(queue, call, limiter=Limiter("1000/s"))
    egress.run()
    assert sorted(done) == sorted(str(number).encode() for number in range(10))
    assert left(client, prefix) == (0, 0, 0)


def test_arguments_are_checked(redis_server: RedisServer) -> None:
    with pytest.raises(InvalidArgument, match="visibility"):
        RedisStreamsQueue(redis_server.client(), "s", visibility=0)
    queue = RedisStreamsQueue(redis_server.client(), "s")
    with pytest.raises(InvalidArgument, match="concurrency"):
        Egress(queue, print, limiter="1/s", concurrency=0)


async def test_permits_bound_the_calls_of_the_fleet(redis_server: RedisServer, prefix: str) -> None:
    client = redis_server.client()
    fill(client, prefix, 60)
    now = most = 0

    async def call(message: Message) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1

    def permits() -> AsyncConcurrency:
        return AsyncConcurrency(3, ttl=30, store=redis_server.url, prefix=prefix, store_timeout=10)

    async with permits() as one, permits() as two:
        runs = [Run(redis_server, prefix, call, concurrency=5, permits=each) for each in (one, two)]

        def is_done() -> bool:
            return sum(run.ends()["done"] for run in runs) == 60

        await asyncio.gather(*(run.until(is_done) for run in runs))
        assert 2 <= most <= 3
        assert await one.in_flight() == 0, "a worker that has stopped keeps no permit"
    assert left(client, prefix) == (0, 0, 0)


async def test_a_worker_stops_while_others_hold_all_permits(redis_server: RedisServer, prefix: str) -> None:
    fill(redis_server.client(), prefix, 1)

    async def call(message: Message) -> None:
        raise AssertionError("there is no permit for it")

    async with AsyncConcurrency(1, store=redis_server.url, prefix=prefix, store_timeout=10) as permits:
        async with permits.acquire():
            run = Run(redis_server, prefix, call, permits=permits)
            await run.until(lambda: permits.waiting() >= 1)
        assert await permits.in_flight() == 0
    assert run.receives == 0, "a permit comes before the receive"


@pytest.mark.parametrize("wrong", ["key", "type of key", "order_key", "deadline", "deadline that is none"])
async def test_functions_of_the_program_that_fail_lose_no_message(
    redis_server: RedisServer, prefix: str, wrong: str
) -> None:
    client = redis_server.client()
    fill(client, prefix, 4)

    def failing(message: Message) -> Any:
        if message.body["n"] == "2":
            if wrong in ("type of key", "deadline that is none"):
                return float("nan")
            raise KeyError("n")
        return {"deadline": None, "deadline that is none": None}.get(wrong, "key")

    async def call(message: Message) -> None: ...

    name = {"type of key": "key", "deadline that is none": "deadline"}.get(wrong, wrong)
    limiter = Limiter("10/d")
    run = Run(redis_server, prefix, call, limiter=limiter, max_attempts=2, **{name: failing})
    await run.until(lambda: run.ends()["done"] + run.ends()["dead_lettered"] == 4)
    assert run.ends() == {"done": 3, "dead_lettered": 1, "returned": 1}
    ((_, dead),) = client.xrange(run.queue.dead_letters)
    assert (dead[b"n"], dead[b"tidegate-reason"]) == (b"2", b"exhausted")
    bucket = "egress" if name != "key" else "key"
    assert limiter.peek(bucket, cost=0).remaining == 7, "it costs no token"
    assert left(client, prefix) == (0, 0, 0)


async def test_observers_that_fail_end_nothing(redis_server: RedisServer, prefix: str) -> None:
    client = redis_server.client()
    fill(client, prefix, 3)
    seen: list[Outcome] = []

    def failing(*_: object) -> Any:
        raise RuntimeError("mine")

    async def call(message: Message) -> None:
        if message.attempts == 1 and message.body["n"] == "1":
            raise ConnectionError

    run = Run(redis_server, prefix, call, retry=failing, observer=failing, observe_every=0.01)

    def observed(outcome: Outcome) -> None:
        seen.append(outcome)
        raise RuntimeError("mine")

    run.egress._on_outcome = observed
    await run.until(lambda: sum(outcome.end == "done" for outcome in seen) == 3)
    assert left(client, prefix) == (0, 0, 0)


@pytest.mark.parametrize("fields", [1, 6_000])
async def test_a_dead_letter_that_cannot_be_written_stays_pending(
    redis_server: RedisServer, prefix: str, fields: int
) -> None:
    client = redis_server.client()
    client.xadd(prefix, {f"f{number}": "x" for number in range(fields)})

    async def call(message: Message) -> None:
        raise PermanentFailure

    run = Run(redis_server, prefix, call)
    client.set(run.queue.dead_letters, "a value of somebody else")
    failed: list[str] = []
    bury = run.queue.dead_letter

    async def tried(message: Message, reason: Any) -> None:
        try:
            await bury(message, reason)
        except Exception as error:
            failed.append(str(error))
            raise

    run.queue.dead_letter = tried  # type: ignore[method-assign]
    await run.until(lambda: len(failed) > 0)
    assert client.xpending(prefix, "egress")["pending"] == 1
    client.delete(run.queue.dead_letters)
    again = Run(redis_server, prefix, call, visibility=0.1)
    await again.until(lambda: again.ends()["dead_lettered"] == 1)
    ((_, dead),) = client.xrange(again.queue.dead_letters)
    assert len(dead) == fields + 3
    assert left(client, prefix) == (0, 0, 0)


async def test_an_entry_that_is_no_text_stops_nobody(redis_server: RedisServer, prefix: str) -> None:
    client = redis_server.client()
    fill(client, prefix, 3)
    client.xadd(prefix, {b"n": b"\xff\xfe"})
    fill(client, prefix, 3)
    seen: list[Any] = []

    async def call(message: Message) -> None:
        seen.append(message.body["n"])

    run = Run(redis_server, prefix, call)
    await run.until(lambda: run.ends()["done"] == 7)
    assert sorted(map(str, seen)) == sorted(["0", "1", "2", "0", "1", "2", str(b"\xff\xfe")])
    assert left(client, prefix) == (0, 0, 0)


async def test_a_group_that_redis_has_lost_is_made_again(redis_server: RedisServer, prefix: str) -> None:
    client = redis_server.client()
    fill(client, prefix, 1)

    async def call(message: Message) -> None: ...

    run = Run(redis_server, prefix, call)
    lost = False

    def is_done() -> bool:
        nonlocal lost
        if run.ends()["done"] == 1 and not lost:
            lost = True
            client.delete(prefix)
            fill(client, prefix, 2)
        return run.ends()["done"] == 3

    await run.until(is_done)


@pytest.mark.parametrize("wrong", [StopIteration, SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit])
async def test_whatever_a_handler_raises_ends_its_message(
    redis_server: RedisServer, prefix: str, wrong: type[BaseException]
) -> None:
    client = redis_server.client()
    fill(client, prefix, 2)

    def call(message: Message) -> None:
        if message.body["n"] == "1":
            raise wrong

    run = Run(redis_server, prefix, call, max_attempts=2)
    await run.until(lambda: run.ends()["done"] + run.ends()["dead_lettered"] == 2)
    assert run.ends() == {"done": 1, "returned": 1, "dead_lettered": 1}


async def test_a_coroutine_that_cancels_itself_ends_its_message(redis_server: RedisServer, prefix: str) -> None:
    fill(redis_server.client(), prefix, 1)

    async def call(message: Message) -> None:
        raise asyncio.CancelledError

    run = Run(redis_server, prefix, call, max_attempts=1)
    await run.until(lambda: run.ends()["dead_lettered"] == 1)


@pytest.mark.parametrize("wait", ["5", float("nan"), float("inf"), -1, None])
async def test_a_wrong_wait_is_a_failure(redis_server: RedisServer, prefix: str, wait: Any) -> None:
    fill(redis_server.client(), prefix, 1)

    async def call(message: Message) -> None:
        raise RetryLater(wait)

    run = Run(redis_server, prefix, call, max_attempts=1)
    await run.until(lambda: run.ends()["dead_lettered"] == 1)


def test_a_wait_may_be_a_timedelta() -> None:
    assert RetryLater(timedelta(milliseconds=1500)).wait == 1.5


async def test_responses_that_cannot_be_read_are_failures(redis_server: RedisServer, prefix: str) -> None:
    fill(redis_server.client(), prefix, 1)

    async def call(message: Message) -> Any:
        return SimpleNamespace(status_code=429, headers="Retry-After: 1")

    run = Run(redis_server, prefix, call, max_attempts=1)
    await run.until(lambda: run.ends()["dead_lettered"] == 1)


async def test_ids_that_are_no_times_have_no_age(redis_server: RedisServer, prefix: str) -> None:
    client = redis_server.client()
    client.xadd(prefix, {"n": 0}, id="1-0")
    client.xadd(prefix, {"n": 1})
    client.xadd(prefix, {"n": 2}, id="9999999999999999-1")
    ages: list[float | None] = []

    async def call(message: Message) -> None:
        ages.append(None if message.sent_at is None else time.time() - message.sent_at)

    run = Run(redis_server, prefix, call, max_age=60)
    await run.until(lambda: run.ends()["done"] == 3)
    known = [age for age in ages if age is not None]
    assert len(known) == 1
    assert -1 < known[0] < 60


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_age": "60"}, {"max_age": -1}, {"max_age": float("nan")}, {"deadline": 5}, {"order_key": "x"}, {"key": 5},
        {"key": None}, {"profile": "nonesuch"}, {"back_off": -1}, {"jitter": float("inf")}, {"observe_every": 0},
        {"concurrency": 0}, {"concurrency": 1.5}, {"limiter": None}, {"limiter": 50}, {"retry": 3}, {"handler": None},
    ],
    ids=repr,
)  # fmt: skip
def test_wrong_options_are_refused_by_name(wrong: dict[str, Any]) -> None:
    client = redis.Redis(port=1)
    (name,) = wrong
    options = {"handler": print, "limiter": "1/s", **wrong}
    with pytest.raises(InvalidArgument, match=name):
        Egress(RedisStreamsQueue(client, "s"), **options)


async def test_a_refusal_without_a_time_holds_the_key_for_all(redis_server: RedisServer, prefix: str) -> None:
    fill(redis_server.client(), prefix, 1)
    limiter = AsyncLimiter("100/s")

    async def call(message: Message) -> Any:
        return SimpleNamespace(status_code=429, headers={})

    run = Run(redis_server, prefix, call, limiter=limiter, key=lambda message: "vendor", back_off=30.0)
    await run.until(lambda: run.ends()["returned"] == 1)
    assert (await limiter.peek("vendor")).retry_after > 20
