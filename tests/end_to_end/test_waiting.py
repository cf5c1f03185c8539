"""Four processes of two languages wait for one bucket of a real Redis, with more callers than the limit
allows and deadlines from outside: tests measure what is served in every second. All times are the
host's monotonic clock."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fleet import RedisServer

HERE = Path(__file__).resolve().parent
KEY = "vendor"
RATE, SECONDS = 100, 6
# How long after all are ready they begin, in seconds.
RUN_UP = 0.5


@pytest.mark.parametrize("demand", [40, 150], ids=["1.6 times the limit", "6 times the limit"])
def test_a_fleet_with_deadlines_uses_the_limit_and_keeps_it(demand: int) -> None:
    served = run_fleet(f"{RATE}/s burst 1", demand, patience=0.3)
    begin = served[0]
    for place, at in enumerate(served):
        # A slot may be told late, never early. The clock of Redis is read to the microsecond.
        assert at - begin >= place * 1e9 / RATE - 50e6, f"{place} came early"
    whole = [sum(begin + s * 1e9 <= at < begin + (s + 1) * 1e9 for at in served) for s in range(SECONDS)]
    assert min(whole[:-1]) >= 0.9 * RATE, f"served in each second: {whole}"


def run_fleet(limit: str, demand: int, patience: float) -> list[int]:
    """When callers were served, of four processes with this demand each."""
    redis = RedisServer()
    processes: list[subprocess.Popen[str]] = []
    try:
        for number in range(4):
            command = ["node", str(HERE / "waiter.mjs")] if number % 2 else [
                sys.executable, str(HERE / "waiter.py")
            ]
            command += [redis.url, limit, KEY, str(demand), str(patience)]
            processes.append(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
        for process in processes:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
        start = time.monotonic_ns() + int(RUN_UP * 1e9)
        served: list[int] = []
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(f"{start} {start + int(SECONDS * 1e9)}\n")
            process.stdin.flush()
        for process in processes:
            out, _ = process.communicate(timeout=SECONDS + 60)
            assert process.returncode == 0
            served += json.loads(out)
        return sorted(served)
    finally:
        for process in processes:
            process.kill()
        redis.stop()
