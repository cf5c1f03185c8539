"""A fleet of callers: its processes, their logs, and whether a limit held.

A log has one record for each call: when it began and ended on the host's monotonic clock, how
long the threads that take part had to wait for a processor meanwhile (all in nanoseconds), and
its outcome.
"""

from __future__ import annotations

import bisect
import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fleet import HERE, ROOT

REFUSED, ADMITTED, STORE_ERROR, STORE_TIMEOUT = 0, 1, 2, 3
SECOND = 1_000_000_000
MILLI = 1_000_000


@dataclass(frozen=True)
class Call:
    began: int
    ended: int
    waited: int
    code: int

    @property
    def answered(self) -> bool:
        return self.code in (ADMITTED, REFUSED)


@dataclass
class Callers:
    """Processes of several languages that spend from one bucket."""

    folder: Path
    limit: str
    key: str
    timeout_ms: int
    pause_ms: int
    # Options of the limiters, such as a failure policy, in each language's names.
    python_options: Sequence[str] = ()
    node_options: Sequence[str] = ()
    # The environment of processes that are started from now on; None for the test's own.
    environment: dict[str, str] | None = None
    processes: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    def python(self, url: str, *words: str) -> None:
        self._start("asyncio" if "--asyncio" in words else "python",
                    [sys.executable, str(HERE / "caller.py")], url, *words, *self.python_options)

    def node(self, url: str) -> None:
        self._start("node", [shutil.which("node") or "node", str(HERE / "caller.mjs")], url, *self.node_options)

    def rust(self, url: str) -> None:
        self._start("rust", [rust_caller()], url)

    def _start(self, language: str, command: list[str], url: str, *words: str) -> None:
        name = f"{language} {len(self.processes)}"
        arguments = [url, self.limit, self.key, str(self.folder / name), str(self.timeout_ms), str(self.pause_ms)]
        self.processes[name] = subprocess.Popen(
            [*command, *arguments, *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self.environment,
        )

    def go(self) -> int:
        """Lets all begin, evenly spread, once all are ready. Returns when the first one begins."""
        for name, process in self.processes.items():
            assert process.stdout is not None
            if (line := process.stdout.readline().strip()) != "ready":
                raise RuntimeError(f"{name} is not ready: {line!r}, exit {process.poll()}")
        start = time.monotonic_ns() + SECOND // 4
        for number, process in enumerate(self.processes.values()):
            assert process.stdin is not None
            begins = start + self.pause_ms * MILLI * number // len(self.processes)
            process.stdin.write(f"{begins}\n")
            process.stdin.flush()
        return start

    def finish(self) -> dict[str, list[Call]]:
        """Ends all processes and reads their logs."""
        (self.folder / "stop").touch()
        for name, process in self.processes.items():
            if process.wait(timeout=60) != 0:
                raise RuntimeError(f"{name} ended with status {process.returncode}")
        return {name: read(self.folder / name) for name in self.processes}

    def stop(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()


def rust_caller() -> str:
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    binary = target / "release" / "tidegate-caller"
    if not binary.exists():
        raise RuntimeError("the Rust caller is not built; build it with: make build")
    return str(binary)


def read(log: Path) -> list[Call]:
    return [Call(*record) for record in struct.iter_unpack("<QQQQ", log.read_bytes())]


def late(calls: dict[str, list[Call]], timeout_ms: int, slack_ms: float) -> list[str]:
    """The calls that took longer than their timeout and the slack.

    The time for which the kernel gave a thread that could run no processor does not count: the
    log has it for each call.
    """
    most = (timeout_ms + slack_ms) * MILLI
    return [
        f"{name}: {(call.ended - call.began) / MILLI:.1f} ms, of them {call.waited / MILLI:.1f} without a processor"
        for name, made in calls.items()
        for call in made
        if call.ended - call.began - call.waited > most
    ]


@dataclass(frozen=True)
class Loss:
    """Between two moments a store lost what had been charged: at most this many tokens."""

    begun: int
    ended: int
    tokens: float


def most_beyond(calls: dict[str, list[Call]], rate: float, burst: int, losses: Sequence[Loss]) -> float:
    """The most by which the admissions of any window exceed what is allowed in it: at most 0 if the
    limit held.

    A window allows `burst + rate * length`, and the tokens of each loss that it touches. An
    admission counts for a window if the call began and ended in it.
    """
    admitted = sorted((c for made in calls.values() for c in made if c.code == ADMITTED), key=lambda c: c.ended)
    worst, window = float("-inf"), (0, 0)
    for first in admitted:
        inside = 0
        for call in admitted[bisect.bisect_left(admitted, first.began, key=lambda c: c.ended):]:
            if call.began < first.began:
                continue
            inside += 1
            lost = sum(it.tokens for it in losses if it.begun <= call.ended and it.ended >= first.began)
            beyond = inside - burst - lost - rate * (call.ended - first.began) / SECOND
            if beyond > worst:
                worst, window = beyond, (first.began, call.ended)
    in_seconds = [round((at - admitted[0].began) / SECOND, 3) for at in window] if admitted else []
    print(f"at most {worst:.1f} beyond the limit, in {in_seconds} s after the first")
    return worst


def admitted_between(calls: dict[str, list[Call]], start: int, end: int) -> int:
    return sum(c.code == ADMITTED and start <= c.ended < end for made in calls.values() for c in made)


def possible_between(
    calls: dict[str, list[Call]], rate: float, burst: int, start: int, end: int, tokens: float = 0.0
) -> int:
    """How many of the calls a bucket would have admitted that had these tokens at the start. A
    fleet that gets too little processor time may ask for less than the bucket has."""
    last, possible = start, 0
    for moment in sorted(c.ended for made in calls.values() for c in made if start <= c.ended < end):
        tokens, last = min(burst, tokens + rate * (moment - last) / SECOND), moment
        if tokens >= 1:
            tokens, possible = tokens - 1, possible + 1
    return possible


def errors_between(calls: dict[str, list[Call]], start: int, end: int) -> list[str]:
    """The calls that began and ended between these moments and failed."""
    return [
        f"{name}: code {c.code} {(c.began - start) / MILLI:.0f} to {(c.ended - start) / MILLI:.0f} ms after the start"
        for name, made in calls.items()
        for c in made
        if start <= c.began and c.ended < end and not c.answered
    ]


def unanswered(calls: dict[str, list[Call]], start: int, end: int) -> list[str]:
    """The callers that had no answer between these moments."""
    return [
        name for name, made in calls.items()
        if not any(c.answered and start <= c.ended <= end for c in made)
    ]


def show(calls: dict[str, list[Call]]) -> None:
    """Prints what one needs to judge a failure."""
    everything = [call for made in calls.values() for call in made]
    codes = {code: sum(c.code == code for c in everything) for code in {c.code for c in everything}}
    longest = max(everything, key=lambda c: c.ended - c.began)
    most = max(c.waited for c in everything)
    print(f"{len(everything)} calls, by code {codes}; the longest took {(longest.ended - longest.began) / MILLI:.1f} "
          f"ms, {longest.waited / MILLI:.1f} of them without a processor; at most {most / MILLI:.1f} ms without one")
