"""Wall clocks of clients jump by two hours, twice a second: a bucket in Redis does not notice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from calls import Callers, errors_between, late, possible_between, show
from fleet import HERE, RedisServer
from timeline import Timeline, cells_advance, judge

RATE, BURST, SECONDS = 50, 50, 6.0
KEY = "vendor"
TIMEOUT_MS, PAUSE_MS, SLACK_MS = 500, 40, 10.0


@pytest.fixture(scope="module")
def stepping(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process whose wall clock jumps."""
    library = tmp_path_factory.mktemp("clock") / "stepping_clock.so"
    if shutil.which("cc") is None:
        raise RuntimeError("cc is missing; install it with: apt-get install gcc")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, HERE / "stepping_clock.c"], check=True)
    return {**os.environ, "LD_PRELOAD": str(library)}


SHOW = {
    "python": [sys.executable, "-c",
               "import time\nwhile True: print(time.time(), flush=True); time.sleep(0.1)"],
    "node": ["node", "-e", "setInterval(() => console.log(Date.now() / 1000), 100)"],
}


@pytest.mark.parametrize("language", SHOW)
def test_a_stepping_clock_really_steps(stepping: dict[str, str], language: str) -> None:
    process = subprocess.Popen(SHOW[language], env=stepping, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        off = [round((float(process.stdout.readline()) - time.time()) / 3600) for _ in range(15)]
    finally:
        process.kill()
        process.wait()
    assert set(off) == {-1, 1}, off


def test_clocks_that_step_change_nothing(stepping: dict[str, str], tmp_path: Path) -> None:
    redis = RedisServer()
    callers = Callers(tmp_path, f"{RATE}/s burst {BURST}", KEY, TIMEOUT_MS, PAUSE_MS)
    try:
        for environment in (stepping, None):
            callers.environment = environment
            callers.python(redis.url)
            callers.python(redis.url, "--asyncio")
            callers.node(redis.url)
            callers.rust(redis.url)
        with Timeline(redis.port, KEY) as timeline:
            start = callers.go()
            time.sleep(SECONDS)
            calls = callers.finish()
    finally:
        callers.stop()
        redis.stop()
    show(calls)
    end = max(call.ended for made in calls.values() for call in made) + 1
    assert errors_between(calls, start, end) == []
    assert late(calls, TIMEOUT_MS, SLACK_MS) == []
    admitted = {name: sum(call.code == 1 for call in made) for name, made in calls.items()}
    assert sum(admitted.values()) == len(timeline.charges), admitted
    # Processes whose clocks jump are not left out.
    assert all(admitted.values()), admitted
    verdict = judge(timeline.charges, RATE, BURST, (end - start) / 1e9)
    assert verdict.kept, verdict
    assert cells_advance(timeline.charges, RATE, BURST)
    possible = possible_between(calls, RATE, BURST, start, end, tokens=BURST)
    assert verdict.admitted >= 0.97 * possible, (verdict, possible)
