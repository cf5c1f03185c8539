"""Redis dies while a fleet uses it, and returns empty: meanwhile each member goes on with its share."""

from __future__ import annotations

import contextlib
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fleet import RedisServer
from timeline import Charge, judge

HERE = Path(__file__).parent
RATE, BURST, PEERS = 60, 60, 3
NANOS = 1_000_000_000
STORE_TIMEOUT = 0.05
# How long it takes until a member no longer waits for a Redis that fails, and its share, which begins
# empty, has a token.
WARM = 1.0


@dataclass(frozen=True)
class Call:
    """One call: its times in seconds, whether it was allowed, and whether Redis answered."""

    before: float
    after: float
    allowed: bool
    by_redis: bool


def test_an_outage(tmp_path: Path) -> None:
    redis = RedisServer()
    end = time.monotonic_ns() + 60 * NANOS
    try:
        with spenders(redis, tmp_path, end) as processes:
            time.sleep(2)
            redis.stop()
            down = time.monotonic()
            time.sleep(5)
            up_at_the_earliest = time.monotonic()
            redis.start()
            up = time.monotonic()
            time.sleep(4)
            stop(processes)
            stopped = time.monotonic()
    finally:
        redis.stop()
    by_member = [calls_of(log) for log in sorted(tmp_path.glob("*.log"))]
    assert len(by_member) == PEERS
    admitted = sorted(
        (call for calls in by_member for call in calls if call.allowed), key=lambda call: call.after
    )

    # In any window the limit holds, with one burst more because Redis returns empty.
    charges = [Charge(at_latest=round(call.after * NANOS), cell=0) for call in admitted]
    verdict = judge(charges, RATE, 2 * BURST, stopped - down)
    assert verdict.kept, verdict

    # While Redis is down there is no burst, because the shares begin empty; a call of each member
    # may have been under way.
    local = [call for call in admitted if not call.by_redis and call.after < up_at_the_earliest]
    lasted = up_at_the_earliest - down
    assert len(local) <= RATE * lasted + PEERS
    warm = [call for call in local if call.after > down + WARM]
    assert len(warm) >= 0.9 * RATE * (lasted - WARM), (len(warm), lasted)

    # When it is back, each member asks it within a second, and together they use the whole rate.
    for calls in by_member:
        assert any(call.by_redis for call in calls if call.after < up + 1), "not back in a second"
        assert all(call.by_redis for call in calls if call.before > up + 1)
    back = [call for call in admitted if up + 1 < call.after < stopped]
    assert len(back) >= 0.9 * RATE * (stopped - up - 1), (len(back), stopped - up)

    # Few calls have waited for the missing Redis: those that noticed the outage, and the probes.
    outage = [call for calls in by_member for call in calls if down < call.before < up]
    waited = [call for call in outage if call.after - call.before > STORE_TIMEOUT / 2]
    assert len(waited) < 0.1 * len(outage), (len(waited), len(outage))


@contextlib.contextmanager
def spenders(redis: RedisServer, folder: Path, end: int) -> Iterator[list[subprocess.Popen[str]]]:
    python, node = [sys.executable, HERE / "outage_spender.py"], ["node", HERE / "outage_spender.mjs"]
    processes: list[subprocess.Popen[str]] = []
    try:
        for number, command in enumerate([python, python, node]):
            log = folder / f"{number}.log"
            arguments = [redis.url, f"{RATE}/s burst {BURST}", str(PEERS), log, str(end)]
            processes.append(
                subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True)
            )
        for process in processes:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def stop(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        assert process.poll() is None, "it ended by itself"
        process.terminate()
        process.wait()


def calls_of(log: Path) -> list[Call]:
    # The last record may be cut off.
    records = log.read_bytes()
    size = struct.calcsize("<QQ??")
    whole = struct.iter_unpack("<QQ??", records[: len(records) // size * size])
    return [Call(before / NANOS, after / NANOS, *told) for before, after, *told in whole]
