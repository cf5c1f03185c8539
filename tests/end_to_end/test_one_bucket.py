"""The main promise: a Python worker, a Node service and an Envoy filter spend from the same Redis
bucket, and together they never exceed its limit."""

from __future__ import annotations

import subprocess
import sys

import pytest
from fleet import ahead, behind, fleet
from timeline import Charge, Timeline, cells_advance, judge

RATE, BURST, SECONDS = 50, 50, 10.0
LIMIT = f"{RATE}/s burst {BURST}"
KEY = "vendor"


def test_five_processes_of_three_runtimes_keep_one_limit() -> None:
    with fleet(limit=LIMIT, key=KEY, seconds=SECONDS, skewed=True) as it:
        with Timeline(it.redis.port, KEY) as timeline:
            it.go()
            it.finish()
        told = {worker.name: worker.told for worker in it.workers}
        assert it.total("errors") == 0, told
        # The admissions that the runtimes counted are exactly the charges that the store saw.
        assert it.total("admitted") == len(timeline.charges), told
        assert all(worker.count("admitted") > 0 for worker in it.workers), told
        assert all(worker.count("refused") > 0 for worker in it.workers), told
        verdict = judge(timeline.charges, RATE, BURST, SECONDS)
        assert verdict.kept, verdict
        assert cells_advance(timeline.charges, RATE, BURST)
        assert verdict.used >= 0.97, verdict


@pytest.mark.parametrize(("wrap", "hours"), [(ahead, 1), (behind, -1)])
def test_a_skewed_clock_is_really_skewed(wrap, hours) -> None:  # type: ignore[no-untyped-def]
    show = [sys.executable, "-c", "import time; print(time.time())"]
    true = float(subprocess.check_output(show, text=True))
    skewed = float(subprocess.check_output(wrap(show), text=True))
    assert abs(skewed - true - hours * 3600) < 60


def charges(times_ms: list[int], width: int = 20) -> list[Charge]:
    cell, made = 0, []
    for at in times_ms:
        cell = max(cell, at * 1_000_000) + width * 1_000_000
        made.append(Charge(at * 1_000_000, cell))
    return made


def test_the_judge_sees_one_charge_too_many() -> None:
    start = 10**9
    kept = [start] * 50 + [start + 20 * i for i in range(1, 100)]
    assert judge(charges(kept), RATE, BURST, 10).kept
    assert cells_advance(charges(kept), RATE, BURST)
    for too_many in ([start, *kept], sorted([*kept, start + 500])):
        verdict = judge(charges(too_many), RATE, BURST, 10)
        assert not verdict.kept
        assert not cells_advance(charges(too_many), RATE, BURST)
