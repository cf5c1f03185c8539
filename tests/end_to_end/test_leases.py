"""Ten processes of two languages lease one bucket of a real Redis: tests measure what they admit in
every sliding second, how much of the limit they use, how many round trips that costs, and what is left
when some are killed. All times are the host's monotonic clock."""

from __future__ import annotations

import json
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from fleet import RedisServer

HERE = Path(__file__).resolve().parent
KEY, TTL = "vendor", 1.0
# How long after all are ready they begin, in seconds.
RUN_UP = 0.5

Admission = tuple[int, int]


@dataclass
class Holder:
    process: subprocess.Popen[str]
    log: Path
    sources: dict[str, int]

    def admissions(self) -> list[Admission]:
        data = self.log.read_bytes()
        whole = len(data) // 16 * 16
        return list(struct.iter_unpack("<QQ", data[:whole]))


@dataclass
class Run:
    redis: RedisServer
    holders: list[Holder]
    start: int
    end: int

    def finish(self) -> None:
        for holder in self.holders:
            out, _ = holder.process.communicate(timeout=self.seconds_left() + 30)
            if holder.process.returncode == 0:
                holder.sources = json.loads(out.splitlines()[-1])

    def seconds_left(self) -> float:
        return max(0.0, (self.end - time.monotonic_ns()) / 1e9)

    def admissions(self) -> list[Admission]:
        return sorted(each for holder in self.holders for each in holder.admissions())

    def calls(self) -> int:
        return sum(sum(holder.sources.values()) for holder in self.holders)

    def sleep_until(self, seconds: float) -> None:
        time.sleep(max(0.0, (self.start + seconds * 1e9 - time.monotonic_ns()) / 1e9))


@contextmanager
def holders(
    limit: str, demands: Sequence[str], seconds: float, direct: Sequence[int] = ()
) -> Iterator[Run]:
    """Starts holders with these demands; the ones numbered in `direct` have no lease."""
    redis = RedisServer()
    started: list[subprocess.Popen[str]] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            all_holders = []
            for number, demand in enumerate(demands):
                node = number % 3 == 2
                command = ["node", str(HERE / "leaseholder.mjs")] if node else [
                    sys.executable, str(HERE / "leaseholder.py")
                ]
                log = Path(folder) / f"{number}.log"
                ttl = 0.0 if number in direct else TTL
                process = subprocess.Popen(
                    [*command, redis.url, limit, KEY, str(ttl), demand, str(log)],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                )
                started.append(process)
                all_holders.append(Holder(process, log, {}))
            for process in started:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
            start = time.monotonic_ns() + int(RUN_UP * 1e9)
            end = start + int(seconds * 1e9)
            for process in started:
                assert process.stdin is not None
                process.stdin.write(f"{start} {end}\n")
                process.stdin.flush()
            yield Run(redis, all_holders, start, end)
        finally:
            for process in started:
                process.kill()
                process.wait()
            redis.stop()


def most_in_a_second(admissions: Sequence[Admission]) -> int:
    """The most calls that surely lie within one second, because they began and ended in it. A call
    was allowed at some time between the two."""
    most = 0
    begun = sorted(before for before, _ in admissions)
    for first in begun:
        last = first + 1_000_000_000
        most = max(most, sum(1 for before, after in admissions if first <= before and after < last))
    return most


def used(admissions: Sequence[Admission], since: int, until: int, rate: float) -> float:
    return sum(since <= after < until for _, after in admissions) / ((until - since) / 1e9) / rate


def round_trips(redis: RedisServer) -> int:
    stats = redis.cli("INFO", "commandstats")
    calls = [
        int(line.split("calls=")[1].split(",")[0])
        for line in stats.splitlines()
        if line.startswith(("cmdstat_evalsha:", "cmdstat_eval:"))
    ]
    return sum(calls)


def moving(rates: Sequence[int], moves: float, seconds: float) -> list[str]:
    """Demands that move on by three processes every `moves` seconds."""
    phases = int(seconds / moves) + 1
    return [
        ",".join(
            f"{(phase + 1) * moves}:{rates[(number + 3 * phase) % len(rates)]}"
            for phase in range(phases)
        )
        for number in range(len(rates))
    ]


def test_uneven_and_moving_demand() -> None:
    rate, seconds = 100, 45.0
    demands = moving([300, 200, 100, 50, 30, 10, 5, 5, 2, 1], 22.5, seconds)
    with holders(f"{rate}/s", demands, seconds) as run:
        run.finish()
        admissions = run.admissions()
        most, use = most_in_a_second(admissions), used(admissions, run.start, run.end, rate)
        print(f"at most {most} in a second, {use:.3f} of the limit")
        assert most <= 1.05 * rate
        assert use >= 0.97
        for holder in run.holders:
            assert holder.process.returncode == 0
            assert set(holder.sources) <= {"lease", "redis"}


def test_six_processes_whose_demand_moves() -> None:
    """The demand is 1.5 to 3 times the limit. core/tests/lease_fleet does it with 30 seeds."""
    rate, moves, seconds, choose = 100, 5.0, 20.0, random.Random(1)
    periods = []
    for _ in range(int(seconds / moves) + 1):
        weights, wanted = [choose.randint(1, 100) for _ in range(6)], choose.randint(150, 300)
        periods.append([max(1, weight * wanted // sum(weights)) for weight in weights])
    demands = [
        ",".join(f"{(period + 1) * moves}:{rates[number]}" for period, rates in enumerate(periods))
        for number in range(6)
    ]
    with holders(f"{rate}/s", demands, seconds) as run:
        run.finish()
        admissions = run.admissions()
        most, use = most_in_a_second(admissions), used(admissions, run.start, run.end, rate)
        print(f"at most {most} in a second, {use:.3f} of the limit")
        assert most <= 1.05 * rate
        # In simulation it is 98 %. Demand is even here, but a process may be late.
        assert use >= 0.95


@pytest.mark.parametrize("demand", [10, 20, 60, 200])
def test_equal_processes_that_begin_at_once(demand: int) -> None:
    rate, seconds = 100, 6.0
    with holders(f"{rate}/s", [f"{seconds}:{demand}"] * 10, seconds) as run:
        run.finish()
        admissions = run.admissions()
        most, use = most_in_a_second(admissions), used(admissions, run.start, run.end, rate)
        print(f"at most {most} in a second, {use:.3f} of the limit")
        assert most <= 1.05 * rate
        # Where the demand is exactly the limit, a token that a late call leaves is never used.
        assert use >= (0.97 if demand > 10 else 0.9)


def test_round_trips_at_a_thousand_a_second() -> None:
    rates, seconds = [300, 200, 150, 100, 90, 60, 40, 30, 20, 10], 8.0
    with holders("1000/s", moving(rates, 100.0, seconds), seconds) as run:
        run.finish()
        trips, calls = round_trips(run.redis), run.calls()
        print(f"{trips} round trips for {calls} calls: {trips / calls:.4f}")
        assert calls > 0.8 * sum(rates) * seconds
        assert trips <= 0.05 * calls


def test_some_are_killed() -> None:
    rate, seconds, killed_at = 100, 14.0, 7.0
    rates = [60, 60, 60, 40, 40, 30, 30, 20, 20, 20]
    with holders(f"{rate}/s", moving(rates, 100.0, seconds), seconds) as run:
        run.sleep_until(killed_at)
        for holder in run.holders[:3]:
            holder.process.send_signal(signal.SIGKILL)
        killed = time.monotonic_ns()
        run.finish()
        admissions = run.admissions()
        assert most_in_a_second(admissions) <= 1.05 * rate
        # The slices of the killed lapse after a ttl, and the others notice within another quarter of one.
        again = killed + int((TTL * 1.5) * 1e9)
        use = used(admissions, again, run.end, rate)
        print(f"{use:.3f} of the limit after three of ten were killed")
        assert use >= 0.95
        assert all(holder.process.returncode == 0 for holder in run.holders[3:])


def test_leased_and_direct_clients_share_a_bucket() -> None:
    rate, burst, seconds = 100, 100, 8.0
    demands = moving([60, 60, 60, 40, 40, 40], 100.0, seconds)
    with holders(f"{rate}/s burst {burst}", demands, seconds, direct=(0, 2)) as run:
        run.finish()
        admissions = run.admissions()
        ends = sorted(after for _, after in admissions)
        # Every token was debited first, so that the bucket bounds all admissions. A millisecond is
        # for the difference of the two clocks, which run alike.
        for count, at in enumerate(ends, start=1):
            assert count <= burst + rate * ((at - run.start) / 1e9 + 0.001) + 1
        assert used(admissions, run.start, run.end, rate) >= 0.97
        for number, holder in enumerate(run.holders):
            assert ("lease" in holder.sources) == (number not in (0, 2))
