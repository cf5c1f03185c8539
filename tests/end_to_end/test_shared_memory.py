"""Processes of two languages spend from one bucket in shared memory, and half are killed."""

from __future__ import annotations

import struct
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

HERE = Path(__file__).parent
RATE = 10_000
# Half a second's worth of the rate: on a busy machine no process may run for as long.
BURST = 5_000
SECONDS = 5


def test_python_and_node_share_a_bucket_and_kills_change_nothing(tmp_path: Path) -> None:
    store = f"shm://fleet?dir={quote(str(tmp_path))}"
    # All begin together, once they have started.
    start = time.monotonic_ns() + 3_000_000_000
    end = start + SECONDS * 1_000_000_000
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for number in range(4):
            for command in ([sys.executable, HERE / "spender.py"], ["node", HERE / "spender.mjs"]):
                log = tmp_path / f"{command[0] == 'node'}-{number}.log"
                arguments = [store, f"{RATE}/s burst {BURST}", log, str(start), str(end)]
                processes.append(subprocess.Popen([*command, *arguments]))
        time.sleep(3 + SECONDS / 2)
        for process in processes[4:]:
            process.kill()
        assert [process.wait(timeout=60) for process in processes] == [0] * 4 + [-9] * 4
    finally:
        for process in processes:
            process.kill()
            process.wait()

    logs = {log.name: log.read_bytes() for log in tmp_path.glob("*.log")}
    assert len(logs) == 8
    assert all(logs.values()), "each process got something"
    before, after = admissions(logs.values())
    possible = BURST + RATE * (after[-1] - before[0]) / 1e9
    # One token more, because the clocks of two processes may differ a little.
    assert most_beyond_rate(before, after) <= BURST + 1
    assert len(after) >= 0.98 * possible


def admissions(logs) -> tuple[list[int], list[int]]:
    # The last record of a killed process may be cut off.
    records = [r for log in logs for r in struct.iter_unpack("<QQ", log[: len(log) // 16 * 16])]
    return sorted(before for before, _ in records), sorted(after for _, after in records)


def most_beyond_rate(before: list[int], after: list[int]) -> float:
    """The largest excess of any window from one admission to another: its admissions, less its
    length times the rate.

    A window holds at least as many admissions as ended by its end, less those that began before it.
    """
    start = before[0]
    begun, least, most = 0, float("inf"), 0.0
    for ended, moment in enumerate(after, 1):
        while begun < len(before) and before[begun] <= moment:
            least = min(least, begun - RATE * (before[begun] - start) / 1e9)
            begun += 1
        most = max(most, ended - RATE * (moment - start) / 1e9 - least)
    return most
