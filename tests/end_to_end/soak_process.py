"""A process of the soak: makes every kind of call, at random, and logs each.

    soak_process.py STORE_URL LOG_FILE SEED [--asyncio]

Prints `ready` and begins when its input has a line. Ends when there is a file `stop` beside the log.
soak_log.py describes the log. Without --asyncio four threads call, and the process forks; with it
eight tasks do, some of which are cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from soak_log import BACK, DENIED, LEASED, LOCAL, MANY, NO_KEY, PLAIN, RECORD, RESET, Op, Outcome

import tidegate

LIMIT, TIMEOUT, WAIT = "40/s burst 20", 0.25, 0.5
PLAN = tidegate.Limits("40/s burst 20")
# A child that takes so much longer than its calls hangs.
CHILD_SECONDS = 30.0
OUTCOMES = {
    "store_error": Outcome.STORE_ERROR, "store_timeout": Outcome.STORE_TIMEOUT,
    "rate_limited": Outcome.RATE_LIMITED, "invalid_argument": Outcome.WRONG, "cost_too_large": Outcome.WRONG,
}


class Log:
    def __init__(self, file: Path) -> None:
        self._file = file.open("wb", buffering=1 << 16)
        self._lock = threading.Lock()

    def write(self, op: Op, outcome: int, key: int, tokens: int, began: int, delay: float = 0.0) -> None:
        ended = time.time_ns()
        with self._lock:
            self._file.write(RECORD.pack(op, outcome, key, tokens, began, ended, int(delay * 1e9)))

    def close(self) -> None:
        self._file.close()


class OfThread:
    """A limiter or reservation whose methods block, as one whose methods are awaited."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self._inner, name)
        if not callable(inner):
            return inner

        async def call(*arguments: Any, **named: Any) -> Any:
            answer = inner(*arguments, **named)
            return OfThread(answer) if isinstance(answer, tidegate.Reservation) else answer

        return call

    @contextlib.asynccontextmanager
    async def reserving(self, *arguments: Any, **named: Any) -> AsyncIterator[OfThread]:
        with self._inner.reserving(*arguments, **named) as charge:
            yield OfThread(charge)


class Planned(Exception):
    """The work of a reservation fails, as planned."""


class Soak:
    """The limiters of a process and the calls that it makes on them."""

    def __init__(self, store: str, log: Log, *, is_async: bool) -> None:
        self._store, self.log, self._is_async = store, log, is_async
        self.plain = self._make(LIMIT)
        self._back = self._make(LIMIT, prefix="soak-back")
        self._reset = self._make(LIMIT, prefix="soak-reset")
        self._leased = self._make("40/s burst 40", prefix="soak-leased", lease={"ttl": 1.0})
        self._local = self._make(LIMIT, prefix="soak-local", on_store_error="local", peers=4)
        self._denied = self._make(LIMIT, prefix="soak-denied", on_store_error="deny")
        self._many = [self._make("5/s", prefix=f"soak-{key}") for key in MANY]

    def _make(self, *limits: str, **options: Any) -> Any:
        kind = tidegate.AsyncLimiter if self._is_async else tidegate.Limiter
        limiter = kind(*limits, store=self._store, store_timeout=TIMEOUT, **options)
        return limiter if self._is_async else OfThread(limiter)

    async def close(self) -> None:
        for limiter in (self.plain, self._back, self._reset, self._leased, self._local, self._denied, *self._many):
            await limiter.close()

    async def call(self, choose: random.Random) -> None:
        calls: list[tuple[int, Callable[[random.Random], Awaitable[None]]]] = [
            (30, self._check), (8, self._check_many), (6, self._peek), (12, self._acquire), (1, self._hold),
            (14, self._reserve), (8, self._settle_by_key), (6, self._reserving), (3, self._credit),
            (6, self._reset_key), (20, self._check_leased), (10, self._check_local), (8, self._check_denied),
            (30, self._check_many_limiters), (2, self._churn), (4, self._wrong),
        ]
        if self._is_async:
            calls.append((10, self._cancelled))
        _, call = choose.choices(calls, [weight for weight, _ in calls])[0]
        await call(choose)

    async def _logged(
        self, op: Op, key: int, tokens: int, call: Awaitable[Any], done: Callable[[Any], int] = lambda _: Outcome.DONE
    ) -> Any:
        began, answer, delay = time.time_ns(), None, 0.0
        try:
            answer = await call
            outcome = done(answer)
            delay = answer.delay if op == Op.RESERVE and answer.allowed else 0.0
        except asyncio.CancelledError:
            outcome = Outcome.CANCELLED
        except Exception as error:  # noqa: BLE001 (logged, and judged by the test)
            outcome = outcome_of(error)
        self.log.write(op, outcome, key, tokens, began, delay)
        return answer

    async def _spend(self, op: Op, key: int, tokens: int, call: Awaitable[Any]) -> Any:
        return await self._logged(op, key, tokens, call, lambda it: Outcome.ADMITTED if it.allowed else Outcome.REFUSED)

    async def _check(self, choose: random.Random) -> None:
        key, cost = choose.choice(PLAIN), choose.randint(1, 3)
        plan = {"limits": PLAN} if choose.random() < 0.2 else {}
        await self._spend(Op.CHECK, key, cost, self.plain.check(f"key-{key}", cost, **plan))

    async def _check_many(self, choose: random.Random) -> None:
        costs = [(key, choose.randint(1, 2)) for key in PLAIN]
        began = time.time_ns()
        checks = [(f"key-{key}", cost) for key, cost in costs]
        decisions = await self._logged(Op.CHECK_MANY, NO_KEY, 0, self.plain.check_many(checks))
        for (key, cost), decision in zip(costs, decisions or [], strict=False):
            self.log.write(Op.CHECK_MANY, Outcome.ADMITTED if decision else Outcome.REFUSED, key, cost, began)

    async def _peek(self, choose: random.Random) -> None:
        key = choose.choice(PLAIN)
        await self._logged(Op.PEEK, key, 0, self.plain.peek(f"key-{key}", choose.randint(0, 2)))

    async def _acquire(self, choose: random.Random) -> None:
        key, cost = choose.choice(PLAIN), choose.randint(1, 3)
        await self._spend(Op.ACQUIRE, key, cost, self.plain.acquire(f"key-{key}", cost, timeout=WAIT))

    async def _hold(self, choose: random.Random) -> None:
        key = choose.choice(PLAIN)
        await self._logged(Op.HOLD, key, 0, self.plain.hold(f"key-{key}", 0.1))

    async def _reserve(self, choose: random.Random) -> None:
        key, cost = choose.choice(BACK), choose.randint(1, 4)
        made = await self._spend(Op.RESERVE, key, cost, self._back.reserve(f"key-{key}", cost, max_wait=WAIT))
        if made is None or not made.allowed:
            return
        if choose.random() < 0.4:
            await self._logged(Op.CANCEL, key, cost, made.cancel())
        elif choose.random() < 0.7:
            actual = choose.randint(0, 6)
            await self._logged(Op.SETTLE, key, max(0, cost - actual), made.settle(actual))

    async def _settle_by_key(self, choose: random.Random) -> None:
        key, cost = choose.choice(BACK), choose.randint(1, 4)
        decision = await self._spend(Op.CHECK, key, cost, self._back.check(f"key-{key}", cost))
        if decision is not None and decision.allowed:
            actual = choose.randint(0, 6)
            await self._logged(Op.SETTLE, key, max(0, cost - actual), self._back.settle(f"key-{key}", cost, actual))

    async def _reserving(self, choose: random.Random) -> None:
        """Settles, cancels by an exception, or does neither."""
        key, cost, chance = choose.choice(BACK), choose.randint(1, 4), choose.random()
        began, entered = time.time_ns(), 0
        outcome = Outcome.ADMITTED
        try:
            async with self._back.reserving(f"key-{key}", cost, timeout=WAIT) as charge:
                entered = time.time_ns()
                self.log.write(Op.RESERVING, Outcome.ADMITTED, key, cost, began)
                if chance < 0.4:
                    await charge.settle(choose.randint(0, cost))
                elif chance < 0.8:
                    raise Planned
        except Planned:
            pass
        except Exception as error:  # noqa: BLE001 (logged, and judged by the test)
            outcome = outcome_of(error)
        if entered:
            self.log.write(Op.CANCEL, outcome, key, cost, entered)
        else:
            self.log.write(Op.RESERVING, outcome, key, cost, began)

    async def _credit(self, choose: random.Random) -> None:
        key = choose.choice(BACK)
        await self._logged(Op.CREDIT, key, 2, self._back.credit(f"key-{key}", 2))

    async def _reset_key(self, choose: random.Random) -> None:
        if choose.random() < 0.02:
            await self._logged(Op.RESET, RESET, 0, self._reset.reset("key"))
        else:
            cost = choose.randint(1, 4)
            await self._spend(Op.CHECK, RESET, cost, self._reset.check("key", cost))

    async def _check_leased(self, choose: random.Random) -> None:
        await self._spend(Op.CHECK, LEASED, 1, self._leased.check("key"))

    async def _check_local(self, choose: random.Random) -> None:
        cost = choose.randint(1, 3)
        await self._spend(Op.CHECK, LOCAL, cost, self._local.check("key", cost))

    async def _check_denied(self, choose: random.Random) -> None:
        cost = choose.randint(1, 3)
        await self._spend(Op.CHECK, DENIED, cost, self._denied.check("key", cost))

    async def _check_many_limiters(self, choose: random.Random) -> None:
        key = choose.choice(MANY)
        await self._spend(Op.CHECK, key, 1, self._many[key - MANY.start].check("key"))

    async def _churn(self, choose: random.Random) -> None:
        """A limiter that is made, used twice and closed."""
        limiter = self._make("9/s", prefix=f"soak-brief-{choose.randrange(100)}")
        for _ in range(2):
            await self._logged(Op.CHURN, NO_KEY, 0, limiter.check("key"))
        await limiter.close()

    async def _wrong(self, choose: random.Random) -> None:
        cost = choose.choice([21, -1, "1", 2**70])
        began = time.time_ns()
        try:
            await self.plain.check("key-0", cost)
            outcome = Outcome.UNEXPECTED
        except (tidegate.TidegateError, TypeError, OverflowError):
            outcome = Outcome.WRONG
        self.log.write(Op.WRONG, outcome, NO_KEY, 0, began)

    async def _cancelled(self, choose: random.Random) -> None:
        key, patience = choose.choice(PLAIN), choose.choice([0.0, 0.001, 0.02, 0.1])
        if choose.random() < 0.5:
            call, op = self.plain.acquire(f"key-{key}", timeout=WAIT), Op.ACQUIRE
        else:
            call, op = self.plain.check(f"key-{key}"), Op.CHECK
        await self._spend(op, key, 1, asyncio.wait_for(call, patience))


def outcome_of(error: Exception) -> int:
    code = getattr(error, "code", None)
    if code is None and isinstance(error, TimeoutError):  # of asyncio.wait_for
        return Outcome.CANCELLED
    if code not in OUTCOMES:
        print(f"{type(error).__name__} {code}: {error}", file=sys.stderr, flush=True)
    return OUTCOMES.get(code, Outcome.UNEXPECTED) if isinstance(code, str) else Outcome.UNEXPECTED


def drive(work: Coroutine[Any, Any, None]) -> None:
    """Runs a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration:
        return
    raise RuntimeError("a call of a thread awaits")


def wait_for_begin() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


def run_threads(soak: Soak, log: Path, seed: int) -> None:
    stop = log.with_name("stop")

    def run(number: int) -> None:
        choose = random.Random(seed * 100 + number)
        while not stop.exists():
            drive(soak.call(choose))
            time.sleep(choose.random() * 0.015)

    threads = [threading.Thread(target=run, args=[number]) for number in range(4)]
    wait_for_begin()
    for thread in threads:
        thread.start()
    children = 0
    while not stop.exists():
        began = time.time_ns()
        children += 1
        soak.log.write(Op.FORK, fork(soak, log.with_name(f"{log.name}-child-{children}"), children), NO_KEY, 0, began)
        time.sleep(1)
    for thread in threads:
        thread.join()
    drive(soak.close())
    soak.log.close()


def fork(soak: Soak, log: Path, seed: int) -> int:
    """Makes calls on the inherited limiters in a forked child, which has a log of its own."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            soak.log = Log(log)
            choose = random.Random(seed)
            for _ in range(10):
                drive(soak.call(choose))
            soak.log.close()
            status = 0
        finally:
            os._exit(status)
    end = time.monotonic() + CHILD_SECONDS
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return Outcome.DONE if status == 0 else Outcome.UNEXPECTED
        time.sleep(0.01)
    print(f"the child {seed} hangs", file=sys.stderr, flush=True)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return Outcome.UNEXPECTED


async def run_tasks(soak: Soak, log: Path, seed: int) -> None:
    stop = log.with_name("stop")

    async def run(number: int) -> None:
        choose = random.Random(seed * 100 + number)
        while not stop.exists():
            await soak.call(choose)
            await asyncio.sleep(choose.random() * 0.03)

    await asyncio.gather(*(run(number) for number in range(8)))
    await soak.close()
    soak.log.close()


def main() -> None:
    store, file, seed = sys.argv[1:4]
    log = Path(file)
    if "--asyncio" in sys.argv:
        async def run() -> None:
            soak = Soak(store, Log(log), is_async=True)
            wait_for_begin()
            await run_tasks(soak, log, int(seed))
        asyncio.run(run())
    else:
        run_threads(Soak(store, Log(log), is_async=False), log, int(seed))


if __name__ == "__main__":
    main()
