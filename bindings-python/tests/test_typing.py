"""The types: the stubs agree with the native module, and the package type-checks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tidegate

CONFIG = Path(__file__).resolve().parents[1] / "pyproject.toml"
SOURCES = CONFIG.parent / "python"

USES = """
from typing import Literal

from typing_extensions import assert_type

from tidegate import AsyncLimiter, AsyncReservation, Decision, FakeClock, Limit, Limiter, Reservation
from tidegate import AsyncOutbound, Outbound, Retry, Signal
from tidegate import AsyncCharge, Charge, CostTooLarge, InvalidLimit, Pressure, RateLimited, StoreHealth
import redis
import redis.asyncio

limiter = Limiter("10/s", Limit(100, per=60.0, burst=20, name="user"), store="redis://h", store_timeout=1)
assert_type(limiter.check("k", cost=2), Decision)
assert_type(limiter.check(b"k").retry_after, float)
assert_type(limiter.peek("k").source, Literal["memory", "shm", "redis", "lease", "fallback"])
assert_type(limiter.limits, tuple[Limit, ...])
assert_type(limiter.check(["user", b"org"]), Decision)
assert_type(limiter.check_many(["a", ("b", 2), (["user", "org"], 1), ("user", "org")]), list[Decision])
assert_type(limiter.reserve("k", 2, max_wait=0.5), Reservation)
assert_type(limiter.reserve("k").delay, float)
assert_type(limiter.reserve("k").cancel(), bool)
assert_type(limiter.reserve("k").settle(3), Decision)
assert_type(limiter.acquire(("a", "b"), timeout=None), Decision)
assert_type(limiter.settle("k", charged=4, actual=3), Decision)
assert_type(limiter.credit("k", 1), Decision)
outbound = Outbound("10/s", store="redis://h", timeout=5, retry=Retry(3), hosts={"h": {"limits": "1/s"}})
assert_type(outbound.send(lambda attempt: attempt.timeout), float | None)
with outbound.call("k") as call:
    assert_type(call.response(200, {}), Signal)
async def asynchronous() -> None:
    async with AsyncOutbound("10/s").call("k") as call:
        assert_type(await call.response(200, {}), Signal)
assert_type(limiter.hold("k", 1.5), Decision)
assert_type(limiter.reset("k"), Decision)
assert_type(Limiter("1/s", max_keys=5, on_full="deny").pressure.denied, int)
assert_type(AsyncLimiter.of(Limiter("1/s")), AsyncLimiter)
assert_type(AsyncLimiter("1/s", max_keys=None, on_full="evict_idlest").pressure, Pressure)
assert_type(Limiter("1/s", store=redis.Redis()).check("k"), Decision)
AsyncLimiter("1/s", store=redis.asyncio.Redis(decode_responses=True))
shared = Limiter("1/s", store="redis://h", on_store_error="local", peers=8)
leased = Limiter("100/s", store="redis://h", lease={"ttl": 1, "max_share": 0.5})
assert_type(shared.store_health.state, Literal["closed", "open", "half_open"])
assert_type(AsyncLimiter("1/s", on_store_error="raise", peers=None).store_health, StoreHealth)
with limiter as entered:
    assert_type(entered, Limiter)
with limiter.reserving(["user", "org"], 5, timeout=1, on_error="settle") as charge:
    assert_type(charge, Charge)
    assert_type(charge.settle(3), Decision)
    assert_type(charge.cancel(), bool)
    assert_type((charge.decision, charge.cost), tuple[Decision, int | tuple[int, ...]])
assert_type(Limit("1/s").shape, Literal["smooth", "stepped", "unlimited", "none"])
assert_type(FakeClock(now=5).now(), int)
assert_type(InvalidLimit.code, str)


def use_in_block() -> Decision:
    # Such a block hides no exception, so nothing comes after it.
    with limiter.reserving("k", 5) as held:
        return held.settle(3)


async def use() -> None:
    async with AsyncLimiter("10/s", clock=FakeClock()) as awaited:
        assert_type(await awaited.check("k", 2), Decision)
        assert_type(await awaited.peek(b"k", cost=2), Decision)
        assert_type(await awaited.check_many([("b", 2)]), list[Decision])
        reservation = await awaited.reserve("k", 2, max_wait=0.5)
        assert_type(reservation, AsyncReservation)
        assert_type(await reservation.cancel(), bool)
        assert_type(await reservation.settle(3), Decision)
        assert_type(await awaited.settle("k", charged=4, actual=3), Decision)
        async with awaited.reserving("k", cost=5) as charge:
            assert_type(charge, AsyncCharge)
            assert_type(await charge.settle(3), Decision)
            assert_type(await charge.cancel(), bool)
        try:
            assert_type(await awaited.acquire(["k"], timeout=1), Decision)
        except RateLimited as error:
            assert_type(error.decision, Decision)
            assert_type(error.key, str | bytes)
"""

MISUSES = [
    "Limiter('1/s', on_full='drop')",
    "Limiter('1/s', max_keys=1.5)",
    "Limiter('1/s', on_store_error='ignore')",
    "Limiter('1/s', peers='8')",
    "Limiter('1/s', lease=1)",
    "Limiter('1/s', lease={'max_share': 1})",
    "limiter.check(5)",
    "limiter.check('k', 1.5)",
    "limiter.check('k', cost='1')",
    "limiter.check('k').allowed = False",
    "limiter.check([1])",
    "limiter.check_many('k', 2)",
    "limiter.check_many([('k', 1.5)])",
    "limiter.reserve('k', 1, 2)",
    "limiter.acquire('k', timeout='1')",
    "limiter.hold('k', None)",
    "limiter.settle('k', 1)",
    "limiter.reserving('k')",
    "limiter.reserving('k', 1, on_error='drop')",
    "limiter.reserving('k', 1).settle(1)",
    "Limiter(5)",
    "Limiter('1/s', store=None)",
    "Limit(5)",
    "Limit('5/s', per=1)",
]


def run(*arguments: str) -> str:
    command = [sys.executable, "-m", *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def test_the_stubs_agree_with_the_native_module() -> None:
    run("mypy.stubtest", "tidegate", "--mypy-config-file", str(CONFIG))


def test_editors_see_the_docstrings_of_the_native_module() -> None:
    run_script = subprocess.run(
        [sys.executable, str(CONFIG.parent / "stub_docs.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert run_script.returncode == 0, "run bindings-python/stub_docs.py" + run_script.stderr
    stub = (SOURCES / "tidegate" / "_tidegate.pyi").read_text()
    for beginning in ["Decides whether keys may spend", "Spends `cost` tokens", "The answer to one check"]:
        assert f'"""{beginning}' in stub


def test_the_package_is_strictly_typed() -> None:
    run("mypy", "--strict", "--config-file", str(CONFIG), str(SOURCES))


def test_uses_are_typed(tmp_path: Path) -> None:
    uses = tmp_path / "uses.py"
    uses.write_text(USES)
    run("mypy", "--strict", "--config-file", str(CONFIG), str(uses))


def test_misuses_are_found(tmp_path: Path) -> None:
    misuses = tmp_path / "misuses.py"
    lines = ["from tidegate import Limit, Limiter", "limiter = Limiter('1/s')", *MISUSES]
    misuses.write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", str(CONFIG), str(misuses)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    reported = [line for line in finished.stdout.splitlines() if ": error:" in line]
    found = {int(line.split(":")[1]) for line in reported}
    missed = [text for number, text in enumerate(lines, 1) if number > 2 and number not in found]
    assert not missed
    assert found.isdisjoint({1, 2})


@pytest.mark.parametrize("name", ["py.typed", "_tidegate.pyi"])
def test_the_types_are_installed(name: str) -> None:
    assert (Path(tidegate.__file__).parent / name).is_file()
