"""The examples in the docstrings and the Python blocks of the README."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest
from conftest import RedisServer

import tidegate

README = Path(__file__).resolve().parents[1] / "README.md"
OUTBOUND = README.parents[1] / "docs" / "outbound.md"
EGRESS = README.parents[1] / "docs" / "egress.md"
CONCURRENCY = OUTBOUND.with_name("concurrency.md")
BLOCKS = [
    block
    for file in (README, OUTBOUND, EGRESS, CONCURRENCY)
    for block in re.findall(r"^```python\n(.*?)^```", file.read_text(encoding="utf-8"), re.M | re.S)
    # test_egress_sqs.py has a server for these.
    if "import boto3" not in block
]


def examples() -> list[doctest.DocTest]:
    """The docstrings of the package, its classes and their methods, native ones included."""
    documented: dict[str, str | None] = {"tidegate": tidegate.__doc__}
    for name in tidegate.__all__:
        public = getattr(tidegate, name)
        if callable(public):
            documented[name] = public.__doc__
        if isinstance(public, type):
            for member, value in vars(public).items():
                documented[f"{name}.{member}"] = getattr(value, "__doc__", None)
    parser = doctest.DocTestParser()
    found = [parser.get_doctest(text or "", {}, name, None, None) for name, text in documented.items()]
    return [test for test in found if test.examples]


EXAMPLES = examples()


def test_there_are_examples() -> None:
    assert {test.name for test in EXAMPLES} >= {
        "tidegate", "Limit", "Limiter", "AsyncLimiter", "Decision", "FakeClock", "InvalidLimit",
        "AsyncCharge", "AsyncOutbound", "AsyncOutbound.send", "Outbound", "Outbound.at", "Outbound.call",
        "Outbound.send", "Call.settle", "Retry",
        "AsyncLimiter.acquire", "AsyncLimiter.reserving", "AsyncReservation", "Charge", "Charge.cancel",
        "Limiter.acquire", "Limiter.reserving", "Limiter.check_many",
        "Limiter.reserve", "RateLimited", "Reservation", "Reservation.cancel", "Signal", "read_signal",
    }  # fmt: skip
    assert BLOCKS


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_docstrings(example: doctest.DocTest) -> None:
    globs = {name: getattr(tidegate, name) for name in tidegate.__all__}
    example.globs.update(globs)
    assert doctest.DocTestRunner().run(example).failed == 0


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[0])
def test_readme(block: str, redis_server: RedisServer) -> None:
    """Each block runs on its own. A server of the test stands in for the usual address."""
    block = block.replace("redis://localhost:6379", redis_server.url)
    exec(compile(block, str(README), "exec"), {"__name__": "readme"})


@pytest.mark.parametrize("name", tidegate.__all__)
def test_every_name_is_documented(name: str) -> None:
    if name == "__version__":
        return
    found = getattr(tidegate, name)
    assert found.__doc__
    for member, value in vars(found).items():
        if not member.startswith("_") and (callable(value) or isinstance(value, property)):
            assert value.__doc__, f"{name}.{member}"
    assert name in README.read_text(encoding="utf-8")
