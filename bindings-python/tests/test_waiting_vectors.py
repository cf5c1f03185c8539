"""Runs waiting.json in real time: the scenarios of which every outcome stays the same when events are a
little late. Waiting is in real time in Python, because a `FakeClock` lets nobody wait."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tidegate import (
    AsyncLimiter,
    AsyncReservation,
    Limiter,
    RateLimited,
    Reservation,
    StoreError,
    Waiting,
)

VECTORS = Path(__file__).resolve().parents[2] / "tests" / "vectors" / "waiting.json"
KEY = "key"
# An attempt counts if each event came at most this late.
LATE = 0.02
# How often a busy machine may be late.
ATTEMPTS = 50
AT_A_TIME = 4
# The limiter's clock and that of the test differ by some microseconds.
CLOCKS_DIFFER = 0.0001

Scenario = dict[str, Any]
# What became of a caller, and when, from the start.
Outcomes = dict[str, tuple[str, float]]

SCENARIOS: list[Scenario] = [
    scenario for scenario in json.loads(VECTORS.read_text(encoding="utf-8"))["scenarios"] if scenario["real_time"]
]


async def test_scenarios_in_asyncio() -> None:
    free = asyncio.Semaphore(AT_A_TIME)

    async def run(scenario: Scenario) -> list[str]:
        async with free:
            for _ in range(ATTEMPTS):
                if (found := await attempt_in_asyncio(scenario)) is not None:
                    return found
        return [f"{scenario['name']}: an event was late each time"]

    assert len(SCENARIOS) > 20
    found = await asyncio.gather(*(run(scenario) for scenario in SCENARIOS))
    assert [difference for each in found for difference in each] == []


def test_scenarios_in_threads() -> None:
    def run(scenario: Scenario) -> list[str]:
        for _ in range(ATTEMPTS):
            if (found := attempt_in_threads(scenario)) is not None:
                return found
        return [f"{scenario['name']}: an event was late each time"]

    # A thread that waits in `acquire` cannot be called back.
    scenarios = [each for each in SCENARIOS if all(event["do"] != "leave" for event in each["events"])]
    assert len(scenarios) > 10
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        found = list(pool.map(run, scenarios))
    assert [difference for each in found for difference in each] == []


def options_of(scenario: Scenario) -> dict[str, Any]:
    return {"max_waiting": scenario["max_waiting"]} if "max_waiting" in scenario else {}


def kind_of(error: BaseException | None) -> str:
    match error:
        case None:
            return "served"
        case RateLimited():
            return "refused"
        case StoreError():
            return "closed"
    return "left"


async def attempt_in_asyncio(scenario: Scenario) -> list[str] | None:
    """The differences from the vectors; nothing if an event was late."""
    limiter = AsyncLimiter(*scenario["limits"], **options_of(scenario))
    outcomes: Outcomes = {}
    callers: dict[str, asyncio.Task[None]] = {}
    reservations: dict[str, AsyncReservation] = {}
    judge = Judge(scenario, outcomes)

    async def call(id: str, cost: int, timeout: float | None) -> None:
        error: BaseException | None = None
        try:
            await limiter.acquire(KEY, cost, timeout=timeout)
        except (RateLimited, StoreError, asyncio.CancelledError) as caught:
            error = caught
        outcomes[id] = (kind_of(error), judge.now)

    for event in scenario["events"]:
        await asyncio.sleep(judge.until(event))
        match event["do"]:
            case "arrive":
                for id in event["ids"]:
                    callers[id] = asyncio.ensure_future(call(id, event["cost"], timeout_of(event)))
                    # It runs up to where it waits.
                    await asyncio.sleep(0)
            case "leave":
                for id in event["ids"]:
                    callers[id].cancel()
                    await asyncio.gather(callers[id])
            case "reserve":
                slot = await limiter.reserve(KEY, event["cost"], max_wait=int(event["max_wait"]) / 1e9)
                reservations[event["name"]] = slot
                judge.see(event, {"allowed": slot.allowed})
            case "cancel":
                await reservations[event["name"]].cancel()
            case "waiting":
                judge.see(event, seen(limiter.waiting(KEY)))
            case "close":
                await limiter.close()
            case _:
                answer = await operation(limiter, event)
                judge.see(event, {"allowed": answer.allowed})
        judge.done(event)
    await asyncio.gather(*callers.values())
    return judge.differences()


def attempt_in_threads(scenario: Scenario) -> list[str] | None:
    """The differences from the vectors; nothing if an event was late."""
    limiter = Limiter(*scenario["limits"], **options_of(scenario))
    outcomes: Outcomes = {}
    threads: list[threading.Thread] = []
    reservations: dict[str, Reservation] = {}
    judge = Judge(scenario, outcomes)

    def call(id: str, cost: int, timeout: float | None) -> None:
        error: BaseException | None = None
        try:
            limiter.acquire(KEY, cost, timeout=timeout)
        except (RateLimited, StoreError) as caught:
            error = caught
        outcomes[id] = (kind_of(error), judge.now)

    def has_come(id: str, before: int) -> bool:
        return id in outcomes or limiter.waiting(KEY).callers > before

    for event in scenario["events"]:
        time.sleep(judge.until(event))
        match event["do"]:
            case "arrive":
                for id in event["ids"]:
                    before = 0 if judge.is_closed else limiter.waiting(KEY).callers
                    threads.append(threading.Thread(target=call, args=(id, event["cost"], timeout_of(event))))
                    threads[-1].start()
                    # One that was served meanwhile may hide it, but only in an event that is late.
                    while not judge.is_closed and not has_come(id, before) and not judge.is_late(event):
                        time.sleep(0)
            case "reserve":
                slot = limiter.reserve(KEY, event["cost"], max_wait=int(event["max_wait"]) / 1e9)
                reservations[event["name"]] = slot
                judge.see(event, {"allowed": slot.allowed})
            case "cancel":
                reservations[event["name"]].cancel()
            case "waiting":
                judge.see(event, seen(limiter.waiting(KEY)))
            case "close":
                limiter.close()
                judge.is_closed = True
            case _:
                judge.see(event, {"allowed": operation(limiter, event).allowed})
        judge.done(event)
    for thread in threads:
        thread.join()
    return judge.differences()


def timeout_of(event: dict[str, Any]) -> float | None:
    return int(event["timeout"]) / 1e9 if "timeout" in event else None


def seen(waiting: Waiting) -> dict[str, int]:
    return {"callers": waiting.callers, "tokens": waiting.tokens}


def operation(limiter: Any, event: dict[str, Any]) -> Any:
    """The answer of an operation: a decision, or one to be awaited."""
    match event["do"]:
        case "settle":
            return limiter.settle(KEY, event["charged"], event["actual"])
        case "credit":
            return limiter.credit(KEY, event["tokens"])
        case "hold":
            return limiter.hold(KEY, int(event["wait"]) / 1e9)
        case "reset":
            return limiter.reset(KEY)
        case "check":
            return limiter.check(KEY, event["cost"])
    raise AssertionError(event)


class Judge:
    """Tells when events are due, and compares what happened."""

    def __init__(self, scenario: Scenario, outcomes: Outcomes) -> None:
        self.is_closed = False
        self._scenario, self._outcomes = scenario, outcomes
        self._first = int(scenario["events"][0]["at"])
        self._start = time.monotonic()
        self._latest = 0.0
        self._found: list[str] = []

    @property
    def now(self) -> float:
        return time.monotonic() - self._start

    def until(self, event: dict[str, Any]) -> float:
        return max(0.0, self._due(event["at"]) - self.now)

    def is_late(self, event: dict[str, Any]) -> bool:
        return self.now - self._due(event["at"]) > LATE

    def done(self, event: dict[str, Any]) -> None:
        self._latest = max(self._latest, self.now - self._due(event["at"]))

    def see(self, event: dict[str, Any], answer: dict[str, Any]) -> None:
        """Compares an answer with the vectors, apart from times."""
        if "expect" not in event:
            return
        expected = {name: value for name, value in event["expect"].items() if name != "until"}
        if answer != expected:
            self._found.append(f"{event}: {answer}")

    def differences(self) -> list[str] | None:
        if self._latest > LATE:
            return None
        for id, expected in self._scenario["outcomes"].items():
            kind, at = self._outcomes[id]
            if kind not in expected:
                self._found.append(f"{id}: {kind} at {at}, not {expected}")
            elif kind == "served" and at + CLOCKS_DIFFER < self._due(expected["served"]):
                # Nothing is early, because no event is.
                self._found.append(f"{id}: served at {at}, before {expected}")
        return [f"{self._scenario['name']}: {difference}" for difference in self._found]

    def _due(self, at: str) -> float:
        return (int(at) - self._first) / 1e9
