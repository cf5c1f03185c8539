"""Two Python processes, two Node processes and `tidegate serve` make every kind of call on one real Redis
that stalls and crashes: for a minute, and for ten in `make test-long`. Every limit is kept, nothing
hangs, and nothing grows."""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from fleet import HERE, tidegate_binary, wait_until
from redis_groups import PersistentServer
from soak_log import (
    BACK,
    DENIED,
    LEASED,
    LOCAL,
    MANY,
    NANOS,
    NO_KEY,
    PLAIN,
    RESET,
    Op,
    Outcome,
    Record,
    Span,
    admitted,
    given_back,
    most_beyond,
    read,
)

SECONDS = 600 if os.environ.get("TIDEGATE_TEST_LONG") else 60
RATE, BURST, LEASE_TTL, MANY_RATE = 40, 20, 1, 5
STORE_TIMEOUT, WAIT = 0.25, 0.5
# A machine that a test suite keeps busy may give a process no processor for a while.
MARGIN = 3.0
# How much longer each kind of call may take than one timeout of the store.
LONGER = {Op.ACQUIRE: WAIT + STORE_TIMEOUT, Op.RESERVING: WAIT + STORE_TIMEOUT, Op.CANCEL: STORE_TIMEOUT, Op.FORK: 10.0}
# Reservations and those who wait are this far ahead of the time at most.
FARTHEST = int((WAIT + 2 * STORE_TIMEOUT) * NANOS)
MEBIBYTE = 1 << 20


def test_a_soak_of_all_operations(tmp_path: Path) -> None:
    with soak(tmp_path) as it:
        it.go()
        it.make_trouble()
        it.finish()
    logs = {log.name: read(log) for log in sorted(tmp_path.glob("process-*"))}
    records = [record for log in logs.values() for record in log] + it.caller.records
    show(records, it)

    unexpected = Counter((Op(r.op).name, r.key) for r in records if r.outcome == Outcome.UNEXPECTED)
    assert not unexpected
    assert {r.op for r in records} == set(Op), "a kind of call is missing"
    for name, log in logs.items():
        assert log or "child" in name, name
    late = [r for r in records if (r.ended - r.began) / NANOS > STORE_TIMEOUT + LONGER.get(Op(r.op), 0) + MARGIN]
    assert late == []

    outages = [Span(begun, over + 2 * NANOS, BURST) for begun, over in it.troubles]
    keys = (*PLAIN, *BACK, RESET, LEASED, LOCAL, DENIED, *MANY, NO_KEY)
    by_key: dict[int, list[Record]] = {key: [] for key in keys}
    for record in records:
        by_key[record.key].append(record)
    beyond = {key: excess(made, key, outages) for key, made in by_key.items() if key != NO_KEY}
    print("tokens below the bound, by key: " + ", ".join(f"{key}: {-most:.1f}" for key, most in beyond.items()))
    assert {key: most for key, most in beyond.items() if most > 0} == {}
    # Between the outages each plain bucket was in full use, so that its bound was at stake.
    for key in PLAIN:
        assert sum(it.tokens for it in admitted(by_key[key])) >= 0.5 * RATE * SECONDS

    for usage in it.usages:
        usage.judge()


def excess(records: list[Record], key: int, outages: list[Span]) -> float:
    spent, rate, burst = admitted(records), RATE, BURST
    more = given_back(records, BURST, FARTHEST)
    if key in MANY:
        rate = burst = MANY_RATE
    elif key == LEASED:
        # Slices are spent up to a ttl after they were taken.
        burst = RATE + RATE * LEASE_TTL
    elif key == LOCAL:
        # Processes that return one after the other admit one burst more; the excess is owed.
        more += outages
    assert spent, f"nobody was admitted on {key}"
    return most_beyond(spent, rate, burst, more)


def show(records: list[Record], it: Soak) -> None:
    longest = max((r.ended - r.began) / NANOS for r in records if r.op != Op.FORK)
    print(f"{SECONDS} s, {len(records)} records, {len(it.troubles)} outages, the longest call took {longest:.2f} s")
    counts = Counter((Op(r.op).name.lower(), Outcome(r.outcome).name.lower()) for r in records)
    print(", ".join(f"{op} {outcome}: {count}" for (op, outcome), count in sorted(counts.items())))
    for usage in it.usages:
        print(usage)


@dataclass
class Usage:
    """What a process uses, once a second."""

    name: str
    pid: int
    samples: list[tuple[int, int, int]] = field(default_factory=list)

    def look(self) -> None:
        status = Path(f"/proc/{self.pid}/status").read_text()
        kilobytes, threads = (int(status.split(f"{name}:")[1].split()[0]) for name in ("VmRSS", "Threads"))
        files = len(os.listdir(f"/proc/{self.pid}/fd"))
        self.samples.append((files, threads, kilobytes * 1024))

    def at(self, part: slice) -> tuple[float, float, float]:
        files, threads, memory = (statistics.median(numbers) for numbers in zip(*self.samples[part], strict=True))
        return files, threads, memory

    @property
    def ends(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """The medians of a sixth of the samples after the warm-up, and at the end."""
        sixth = len(self.samples) // 6
        return self.at(slice(sixth, 2 * sixth)), self.at(slice(-sixth, None))

    def judge(self) -> None:
        (files, threads, memory), (files_at_end, threads_at_end, memory_at_end) = self.ends
        # One thread comes and goes with each outage, to write a line of the log.
        assert files_at_end <= files + 2, self
        assert threads_at_end <= threads + 1, self
        assert max(it[0] for it in self.samples) <= files + 20, self
        assert max(it[1] for it in self.samples) <= threads + 4, self
        assert memory_at_end <= memory + 8 * MEBIBYTE, self

    def __str__(self) -> str:
        (files, threads, memory), (files_at_end, threads_at_end, memory_at_end) = self.ends
        return (
            f"{self.name}: files {files:.0f} to {files_at_end:.0f}, threads {threads:.0f} to {threads_at_end:.0f}, "
            f"MiB {memory / MEBIBYTE:.1f} to {memory_at_end / MEBIBYTE:.1f}"
        )


class ServiceCaller(threading.Thread):
    """Asks the quota service for the plain keys, as Envoy does, one call after the other."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.records: list[Record] = []
        self._is_over = threading.Event()
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self._ask = self._channel.unary_unary("/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit")

    def run(self) -> None:
        number = 0
        while not self._is_over.wait(0.01):
            number += 1
            self._call(PLAIN[number % len(PLAIN)])
        self._channel.close()

    def end(self) -> None:
        self._is_over.set()
        if self.is_alive():
            self.join()

    def _call(self, key: int) -> None:
        began = time.time_ns()
        try:
            answer = self._ask(request("key", f"key-{key}"), timeout=STORE_TIMEOUT + MARGIN)
            # The first field is the overall code: 1 is OK, 2 is over the limit.
            outcome = {b"\x08\x01": Outcome.ADMITTED, b"\x08\x02": Outcome.REFUSED}[answer[:2]]
        except grpc.RpcError as error:
            is_store = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
            outcome = Outcome.STORE_ERROR if is_store else Outcome.UNEXPECTED
        self.records.append(Record(Op.SERVE, outcome, key, 1, began, time.time_ns(), 0))


def request(name: str, value: str) -> bytes:
    """A request to check one descriptor of one entry."""
    def part(field: int, content: bytes) -> bytes:
        return bytes([field << 3 | 2, len(content)]) + content

    return part(1, b"tidegate") + part(2, part(1, part(1, name.encode()) + part(2, value.encode())))


class Soak:
    """The store, and the processes that use it."""

    def __init__(self, folder: Path, server: PersistentServer, running: ExitStack) -> None:
        self._folder, self._server = folder, server
        self.troubles: list[tuple[int, int]] = []
        self._processes: dict[str, subprocess.Popen[str]] = {}
        python = [sys.executable, "soak_process.py"]
        node = [shutil.which("node") or "node", "--expose-gc", "soak_process.mjs"]
        commands = {"python": python, "asyncio": python, "node-1": node, "node-2": node}
        for seed, (name, command) in enumerate(commands.items(), 1):
            process = subprocess.Popen(
                [*command, server.url, str(folder / f"process-{name}"), str(seed),
                 *(["--asyncio"] if name == "asyncio" else [])],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE,
            )
            running.callback(stop, process)
            self._processes[name] = process
        service = self._serve(running)
        self.usages = [Usage(name, process.pid) for name, process in self._processes.items()]
        self.usages.append(Usage("service", service.pid))

    def _serve(self, running: ExitStack) -> subprocess.Popen[bytes]:
        ports, log = self._folder / "ports", self._folder / "service.log"
        with log.open("wb") as out:
            service = subprocess.Popen(
                [tidegate_binary(), "serve", "--store", self._server.url, "--limit", f"{RATE}/s burst {BURST}",
                 "--store-timeout", "250ms", "--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0",
                 "--ports-file", str(ports)],
                stdout=out, stderr=subprocess.STDOUT,
            )
        running.callback(stop, service)
        wait_until(lambda: ports.exists() or service.poll() is not None, "the quota service's start")
        assert service.poll() is None, log.read_text()
        self.caller = ServiceCaller(json.loads(ports.read_text())["grpc"])
        running.callback(self.caller.end)
        return service

    def go(self) -> None:
        for process in self._processes.values():
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
        for process in self._processes.values():
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        self.caller.start()

    def make_trouble(self) -> None:
        """Until the end: calm for a while, then a store that fails in one way or another."""
        end = time.monotonic() + SECONDS
        troubles = [self._freeze, self._restart, self._kill_connections, self._pause, self._forget_scripts]
        number = 0
        while time.monotonic() < end:
            for _ in range(8):
                for usage in self.usages:
                    usage.look()
                time.sleep(1)
            if time.monotonic() < end - 5:
                begun = time.time_ns()
                troubles[number % len(troubles)]()
                self.troubles.append((begun, time.time_ns()))
                number += 1

    def _freeze(self) -> None:
        self._server.freeze()
        time.sleep(1.5)
        self._server.thaw()

    def _restart(self) -> None:
        self._server.stop()
        time.sleep(1)
        self._server.start()

    def _kill_connections(self) -> None:
        self._server.ask("CLIENT", "KILL", "TYPE", "normal")

    def _pause(self) -> None:
        self._server.ask("CLIENT", "PAUSE", "700", "ALL")
        time.sleep(0.7)

    def _forget_scripts(self) -> None:
        self._server.ask("SCRIPT", "FLUSH")

    def finish(self) -> None:
        (self._folder / "stop").touch()
        for name, process in self._processes.items():
            assert process.wait(timeout=60) == 0, name
        self.caller.end()


def stop(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


@contextmanager
def soak(folder: Path) -> Iterator[Soak]:
    with ExitStack() as running:
        server = PersistentServer(folder)
        running.callback(server.stop)
        yield Soak(folder, server, running)


def naive_most_beyond(spent: list[Span], rate: float, burst: float, more: list[Span]) -> float:
    """All pairs of a start and an end."""
    return max(
        sum(it.tokens for it in spent if it.begun >= first.begun and it.ended <= last.ended)
        - sum(it.tokens for it in more if it.begun <= last.ended and it.ended >= first.begun)
        - burst - rate * (last.ended - first.begun) / NANOS
        for first in spent for last in spent if first.begun <= last.ended
    )


@pytest.mark.parametrize("seed", range(20))
def test_the_judge_sees_what_all_pairs_show(seed: int) -> None:
    choose = random.Random(seed)

    def spans(count: int) -> list[Span]:
        begins = [choose.randrange(5 * NANOS) for _ in range(count)]
        return [Span(it, it + choose.randrange(NANOS // 2), choose.randint(1, 5)) for it in begins]

    spent, more = spans(choose.randint(1, 60)), spans(choose.randint(0, 10))
    expected = naive_most_beyond(spent, RATE, BURST, more)
    assert most_beyond(spent, RATE, BURST, more) == pytest.approx(expected, abs=1e-6)
