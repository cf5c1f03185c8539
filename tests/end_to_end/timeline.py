"""What the store itself saw: every charge of one bucket, by the store's clock.

Redis' MONITOR shows each SET that the script makes. Its value holds the bucket's
next cell exactly, and its expiry, counted from the script's own clock, places the
charge in time to the millisecond. One SET can charge several checks that came together:
the cell tells how many, because each takes one token's width of the timeline.
"""

from __future__ import annotations

import subprocess
import threading
from dataclasses import dataclass, field
from itertools import pairwise

NANOS_PER_MILLI = 1_000_000
NANOS_PER_SECOND = 1_000_000_000


@dataclass(frozen=True)
class Charge:
    """One admission: when (at the latest, and at most a millisecond before), and the next cell."""

    at_latest: int
    cell: int


@dataclass
class Timeline:
    """The charges of one bucket, as they happen."""

    port: int
    key: str
    charges: list[Charge] = field(default_factory=list)

    def __enter__(self) -> Timeline:
        self._monitor = subprocess.Popen(
            ["redis-cli", "-p", str(self.port), "MONITOR"], stdout=subprocess.PIPE, text=True
        )
        assert self._monitor.stdout is not None
        if self._monitor.stdout.readline().strip() != "OK":
            raise RuntimeError("redis-cli MONITOR did not begin")
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._monitor.terminate()
        self._monitor.wait()
        self._reader.join()

    def _read(self) -> None:
        assert self._monitor.stdout is not None
        last = 0
        for line in self._monitor.stdout:
            written = read_write(line, self.key)
            if written is not None:
                self.charges.extend(written.charges(last))
                last = written.cell


@dataclass(frozen=True)
class Write:
    """A bucket as it was written: its cell, of which each token has a width."""

    at_latest: int
    cell: int
    width: int
    full_in: int

    def charges(self, last: int) -> list[Charge]:
        """The charges of one token each that led here from the cell before."""
        if last >= self.at_latest:
            count, rest = divmod(self.cell - last, self.width)
            assert rest == 0, f"{self} is not whole tokens after {last}"
        else:
            # From a full bucket; the width is much longer than what the expiry was rounded by.
            assert self.width > 4 * NANOS_PER_MILLI
            count = round(self.full_in / self.width)
        cells = range(self.cell - (count - 1) * self.width, self.cell + 1, self.width)
        return [Charge(self.at_latest, cell) for cell in cells]


def read_write(line: str, key: str) -> Write | None:
    """Reads a line like `1764.5 [0 lua] "SET" "tidegate:{k}" "20000000@1764…" "PX" "21"`."""
    head, _, command = line.partition("] ")
    words = command.strip().strip('"').split('" "')
    if not head.endswith("lua") or words[0] != "SET" or words[1] != f"tidegate:{{{key}}}":
        return None
    width, cell = words[2].split("@")
    # The expiry is the time until the bucket is full, rounded up, and 1 ms more.
    full_in = (int(words[4]) - 2) * NANOS_PER_MILLI
    seconds, micros = head.split()[0].split(".")
    shown = int(seconds) * NANOS_PER_SECOND + int(micros) * 1_000
    at_latest = min(shown, int(cell) - full_in)
    return Write(at_latest, int(cell), int(width), full_in)


@dataclass(frozen=True)
class Verdict:
    """Whether a limit of `rate` per second and `burst` held over a timeline."""

    admitted: int
    seconds: float
    worst_excess: float
    worst_window: float
    used: float

    @property
    def kept(self) -> bool:
        return self.worst_excess <= 0


def judge(charges: list[Charge], rate: int, burst: int, seconds: float) -> Verdict:
    """Looks at every window between two charges.

    `worst_excess` is the most by which a window's charges exceed `burst + rate * X`,
    X being the window's length: at most 0 if the limit held. A charge's time is known
    to a millisecond, so each window counts as that much longer: 0.05 of a charge at
    50/s, while a charge too many is a whole one. `used` is the part of
    `burst + rate * seconds` that was admitted.
    """
    resolution = NANOS_PER_MILLI
    worst, worst_window = float("-inf"), 0.0
    # charges - rate * t, first and last: the worst window has the greatest rise.
    lowest, lowest_at = float("inf"), 0
    for number, charge in enumerate(charges):
        arrived = rate * (charge.at_latest - charges[0].at_latest) / NANOS_PER_SECOND
        if number - arrived < lowest:
            lowest, lowest_at = number - arrived, charge.at_latest
        rise = number + 1 - arrived - lowest
        excess = rise - burst - rate * resolution / NANOS_PER_SECOND
        if excess > worst:
            worst, worst_window = excess, (charge.at_latest - lowest_at) / NANOS_PER_SECOND
    allowed = burst + rate * seconds
    return Verdict(len(charges), seconds, worst, worst_window, len(charges) / allowed)


def cells_advance(charges: list[Charge], rate: int, burst: int) -> bool:
    """The same promise exactly, cell by cell: each charge takes its token's width of
    the timeline, and none lies further ahead of its time than the burst allows."""
    width = -(-NANOS_PER_SECOND // rate)
    steps = all(b.cell - a.cell >= width for a, b in pairwise(charges))
    return steps and all(c.cell - c.at_latest <= burst * width for c in charges)

