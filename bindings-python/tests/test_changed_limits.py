"""Limits that change while buckets are in use, in memory and a real Redis, against the oracle of the vectors."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import Any

import pytest
import redis
from conftest import RedisServer
from test_vectors import VECTORS, in_seconds, named, operate

from tidegate import FakeClock, Limiter, Limits

sys.path.insert(0, str(VECTORS))
from generate import EPOCH, LIMITS
from oracle import Bucket, Tiers

TRACES = 2_000
STEPS = 5
FOREVER = 2**64 - 1
# Nanoseconds in a microsecond, in which Redis counts its clock.
MICRO = 1_000


class SteppingClient:
    """A client whose server reads the clock from a key. No bucket expires."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client

    def set_clock(self, now: int) -> None:
        seconds, micros = divmod(now // MICRO, 1_000_000)
        self.client.mset({"seconds": seconds, "micros": micros})

    def execute_command(self, name: str, script: bytes, *words: Any, **options: Any) -> Any:
        if name == "EVALSHA":
            raise redis.exceptions.NoScriptError("the script with another clock has another name")
        clock = "redis.call('MGET', 'seconds', 'micros')"
        text = script.decode().replace("redis.call('TIME')", clock).replace("'PX'", "'EX'")
        return self.client.execute_command(name, text, *words, **options)

    def pipeline(self, transaction: bool) -> Pipeline:
        return Pipeline(self)


class Pipeline:
    """Sends the commands of a batch one after the other."""

    def __init__(self, client: SteppingClient) -> None:
        self.client = client
        self.commands: list[tuple[Any, ...]] = []

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def execute_command(self, *words: Any, **_: Any) -> None:
        self.commands.append(words)

    def execute(self, raise_on_error: bool) -> list[Any]:
        replies = []
        for words in self.commands:
            try:
                replies.append(self.client.execute_command(*words))
            except redis.RedisError as error:
                replies.append(error)
        return replies


def test_random_traces_with_changes_of_limits(redis_server: RedisServer, prefix: str) -> None:
    """In Redis, by a limiter for each set of limits."""
    limiters: dict[tuple[str, ...], Limiter] = {}
    with redis.Redis(port=redis_server.port) as connection:
        client = SteppingClient(connection)

        def answer(texts: tuple[str, ...], key: str, step: dict[str, Any]) -> dict[str, Any]:
            if texts not in limiters:
                limiters[texts] = Limiter(
                    *named(texts), store=client, prefix=prefix, deny_cache=0, store_timeout=30.0
                )
            return operate(limiters[texts], key, step, {})

        run_traces(client.set_clock, answer)


@pytest.mark.parametrize("own", [["none"], ["10/s"], ["100/min burst 20", "unlimited"]])
def test_random_traces_with_limits_of_the_calls(own: list[str]) -> None:
    """In memory, by one limiter to which each call brings its limits."""
    clock = FakeClock()
    limiter = Limiter(*own, clock=clock)

    def answer(texts: tuple[str, ...], key: str, step: dict[str, Any]) -> dict[str, Any]:
        return operate(limiter, key, step, {}, Limits(*named(texts)))

    run_traces(clock.set, answer)


def test_random_traces_with_limits_of_the_calls_in_redis(redis_server: RedisServer, prefix: str) -> None:
    with redis.Redis(port=redis_server.port) as connection:
        client = SteppingClient(connection)
        limiter = Limiter("none", store=client, prefix=prefix, deny_cache=0, store_timeout=30.0)

        def answer(texts: tuple[str, ...], key: str, step: dict[str, Any]) -> dict[str, Any]:
            return operate(limiter, key, step, {}, Limits(*named(texts)))

        run_traces(client.set_clock, answer)


def run_traces(
    set_clock: Callable[[int], None],
    answer: Callable[[tuple[str, ...], str, dict[str, Any]], dict[str, Any]],
) -> None:
    """Refused checks, looks and refused slots come first under the new limits as often as other calls."""
    differences: list[str] = []
    changes = refused_first = 0
    # A clock that is put back from trace to trace is no matter: each has a key of its own.
    for trace in range(TRACES):
        rng = random.Random(trace)
        count = rng.choice([1, 1, 1, 2, 3])
        pick = lambda: tuple(rng.sample(sorted(LIMITS), count))  # noqa: B023, E731
        texts, now = pick(), EPOCH + rng.randrange(10**14) // MICRO * MICRO
        tiers = Tiers([Bucket(*LIMITS[text]) for text in texts])
        is_changed = False
        for number in range(STEPS):
            if number and rng.random() < 0.35:
                texts, is_changed = pick(), True
            now += waiting(rng, texts)
            set_clock(now)
            step = random_step(rng, texts)
            if is_changed:
                tiers.change(now, [LIMITS[text] for text in texts])
            got = answer(texts, f"k{trace}", step)
            expected = asked_of(tiers, now, step)
            if got != expected:
                differences.append(f"trace {trace} step {number} {texts} {step}: {got}, not {expected}")
                break
            changes += is_changed
            refused_first += is_changed and not got["allowed"]
            is_changed = False
    assert not differences, f"{len(differences)} of {TRACES}: {differences[:3]}"
    assert changes > TRACES and refused_first > TRACES // 10, (changes, refused_first)


def waiting(rng: random.Random, texts: tuple[str, ...]) -> int:
    """A time until the next call, in whole microseconds: none, part of a token, or some tokens."""
    tokens, period, burst, _ = LIMITS[rng.choice(texts)]
    per_token = period // tokens
    nanos = rng.choice([0, 0, rng.randrange(per_token + 1), per_token, per_token * rng.randint(1, burst)])
    return -(-nanos // MICRO) * MICRO


def random_step(rng: random.Random, texts: tuple[str, ...]) -> dict[str, Any]:
    burst = min(LIMITS[text][2] for text in texts)
    cost = rng.choice([0, 1, burst, rng.randint(1, burst)])
    match rng.choice(["check", "check", "check", "peek", "reserve", "settle", "credit"]):
        case "reserve":
            return {"op": "reserve", "cost": cost, "max_wait": rng.choice([0, 0, FOREVER])}
        case "settle":
            return {"op": "settle", "charged": cost, "actual": rng.choice([0, cost, cost + 1])}
        case "credit":
            return {"op": "credit", "tokens": rng.choice([0, 1])}
        case operation:
            return {"op": operation, "cost": cost}


def asked_of(tiers: Tiers, now: int, step: dict[str, Any]) -> dict[str, Any]:
    """The answer of the oracle, with durations in seconds."""
    operation, *numbers = step.values()
    answer: dict[str, Any] = getattr(tiers, operation)(now, *numbers)
    return in_seconds(answer)
