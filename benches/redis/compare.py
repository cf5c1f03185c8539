#!/usr/bin/env python3
"""Measures Tidegate beside its peers on one redis-server: Rust, Python and Node.

    make bench-redis ARGS="[--quick | --full] [part of a case's name]"

In each round every contender of a case runs once, in turn, so that what slows the machine down
for a while slows them all; figures are medians over the rounds. Each contender has the same limit
for all calls of a case, so a wrong answer ends the run. Peers run their cheapest algorithm.

The columns, per check: how long the caller waits (p50, p99); how often the server read from a socket
(`trips`; one read can have several calls of a client that has many in flight on one connection) and
ran a script; CPU time of the server, the part of that in scripts, and of the client's process.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
PEERS = ROOT / ".build" / "bench-redis"
FORWARDER = ROOT / "tests" / "end_to_end" / "upstash_forwarder.mjs"
START_DEADLINE = 60.0
IN_FLIGHT = 64


@dataclass(frozen=True)
class Effort:
    rounds: int
    milliseconds: int
    spread_keys: int
    exhausted_keys: int


QUICK = Effort(rounds=1, milliseconds=20, spread_keys=100_000, exhausted_keys=200)
NORMAL = Effort(rounds=7, milliseconds=200, spread_keys=100_000, exhausted_keys=10_000)
FULL = Effort(rounds=15, milliseconds=500, spread_keys=100_000, exhausted_keys=100_000)


@dataclass(frozen=True)
class Case:
    worker: str
    contenders: tuple[str, ...]  # Ours is first.
    keys: int
    outcome: str
    concurrency: int

    @property
    def name(self) -> str:
        load = "hot key" if self.keys == 1 else f"{self.keys} keys"
        language = "asyncio" if self.contenders[0] == ASYNCIO[0] else self.worker
        together = " in one call" if self.contenders[0] == "tidegate-many" else ""
        return f"{language} {load} c{self.concurrency}{together} {self.outcome}"


# Ours comes first, then ours over the client that the peers use, then the peers. `bare` is a call of a
# script that does nothing, through Rust's, redis-py's or ioredis' client.
RUST = ("tidegate", "redis_rate")
PYTHON = ("tidegate", "tidegate-redis-py", "limits", "throttled-py")
ASYNCIO = ("tidegate-async", "tidegate-redis-py-async", "limits-async", "throttled-py-async")
# A thousand calls a second by one process, which need no server or hardly ever do.
RUST_PACED = ("tidegate-leased", "governor", "redis_rate")
NODE = (
    "tidegate",
    "tidegate-ioredis",
    "tidegate-upstash",
    "rate-limiter-flexible",
    "@upstash/ratelimit",
)


def cases(effort: Effort) -> Iterator[Case]:
    yield Case("rust", RUST_PACED, 1, "paced", 1)
    for outcome, many in (("allow", effort.spread_keys), ("deny", effort.exhausted_keys)):
        for keys in (1, many):
            # A bucket of self-limiters is an object with its own connections, so it has hot keys only.
            asyncio = (*ASYNCIO, "self-limiters") if keys == 1 else ASYNCIO
            bare = ("bare",) if outcome == "allow" else ()
            bare_async = ("bare-async",) if outcome == "allow" else ()
            yield Case("rust", RUST + bare, keys, outcome, 1)
            yield Case("rust", RUST + bare, keys, outcome, 100)
            yield Case("python", PYTHON + bare, keys, outcome, 1)
            yield Case("python", asyncio + bare_async, keys, outcome, 1)
            yield Case("python", asyncio, keys, outcome, 100)
            yield Case("node", NODE + bare, keys, outcome, 1)
            yield Case("node", NODE, keys, outcome, 100)
        for keys in (1, IN_FLIGHT):
            # The checks come in one call, and from as many tasks.
            for ours in ("tidegate-many", "tidegate-asking"):
                yield Case("rust", (ours, "redis_rate"), keys, outcome, IN_FLIGHT)


@dataclass(frozen=True)
class Figures:
    """The figures of one slice, or the medians of several slices."""

    per_second: float
    p50: float
    p99: float
    trips: float
    scripts: float
    server: float
    script: float
    client: float


@dataclass(frozen=True)
class Column:
    title: str
    unit: str
    digits: int = 2
    more_is_better: bool = False


COLUMNS = {
    "per_second": Column("checks/s", "1/s", digits=0, more_is_better=True),
    "p50": Column("p50 us", "us"),
    "p99": Column("p99 us", "us"),
    "trips": Column("trips", "reads of the server", digits=3),
    "scripts": Column("scripts", "script calls", digits=3),
    "server": Column("server us", "us"),
    "script": Column("script us", "us"),
    "client": Column("client us", "us"),
}

# The medians by contender, then by column.
Medians = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Bar:
    """What ours must reach in a case: a figure, or a multiple of a peer's (`best`: of the best
    peer's). `ours` is the first contender unless another is named."""

    case: str
    column: str
    bar: float
    peer: str = ""
    ours: str = ""


BARS = (
    Bar("rust hot key c1 paced", "scripts", 0.05),
    Bar("rust hot key c1 allow", "p50", 1.15, "bare"),
    Bar("python hot key c1 allow", "p50", 1.15, "bare"),
    Bar("python hot key c1 allow", "p50", 1.15, "bare", ours="tidegate-redis-py"),
    Bar("asyncio hot key c1 allow", "p50", 1.15, "bare-async"),
    Bar("asyncio hot key c1 allow", "p50", 1.15, "bare-async", ours="tidegate-redis-py-async"),
    Bar("node hot key c1 allow", "p50", 1.15, "bare"),
    Bar("node hot key c1 allow", "p50", 1.15, "bare", ours="tidegate-ioredis"),
    Bar("rust hot key c100 allow", "scripts", 0.05),
    Bar("asyncio hot key c100 allow", "scripts", 0.05),
    Bar("node hot key c100 allow", "scripts", 0.05),
    Bar("rust hot key c100 allow", "per_second", 10, "redis_rate"),
    Bar("asyncio hot key c100 allow", "per_second", 5, "best"),
    Bar("node hot key c100 allow", "per_second", 5, "best"),
    Bar("rust 100000 keys c100 allow", "per_second", 2, "best"),
    Bar("asyncio 100000 keys c100 allow", "per_second", 2, "best"),
    Bar("node 100000 keys c100 allow", "per_second", 2, "best"),
    Bar("rust 64 keys c64 in one call allow", "server", 3.5),
    Bar("rust 64 keys c64 allow", "server", 3.5),
    Bar("rust 64 keys c64 in one call deny", "server", 1.0),
    Bar("rust 64 keys c64 deny", "server", 1.0),
    Bar("rust hot key c64 in one call allow", "server", 0.4),
    Bar("rust hot key c64 allow", "server", 0.4),
)


class RedisServer:
    """A redis-server that this program starts, and its counters."""

    def __init__(self, folder: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        options = ["--bind", "127.0.0.1", "--dir", folder, "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), *options], stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + START_DEADLINE
        while True:
            try:
                self.socket = socket.create_connection(("127.0.0.1", self.port))
                break
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def counters(self) -> dict[str, float]:
        self.socket.sendall(b"INFO everything\r\n")
        received = self.socket.recv(1 << 16)
        length, text = received.split(b"\r\n", 1)
        while len(text) < int(length[1:]) + 2:
            text += self.socket.recv(1 << 16)
        info = dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)
        commands = (re.match(r"cmdstat_(eval|evalsha|fcall)$", name) and line for name, line in info.items())
        stats = [dict(part.split("=") for part in line.split(",")) for line in commands if line]
        return {
            "reads": float(info["total_reads_processed"]),
            "cpu": float(info["used_cpu_user_main_thread"]) + float(info["used_cpu_sys_main_thread"]),
            "scripts": sum(float(command["calls"]) for command in stats),
            "script": sum(float(command["usec"]) for command in stats),
        }

    def stop(self) -> None:
        self.socket.close()
        self.process.kill()
        self.process.wait()


class Worker:
    """A process that makes the calls of one language."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, *words: object) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        print(*words, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.process.args} ended at: {words}")
        return dict(json.loads(answer))

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def measure(server: RedisServer, worker: Worker, case: Case, name: str, effort: Effort) -> Figures:
    words = (name, case.keys, case.outcome, case.concurrency, effort.milliseconds)
    if name == "tidegate-leased":
        # The lease learns the demand within one ttl.
        worker.ask("run", name, case.keys, case.outcome, case.concurrency, 1200)
    before = server.counters()
    sample = worker.ask("run", *words)
    after = server.counters()
    calls = sample["calls"]
    if sample["allowed"] != (0 if case.outcome == "deny" else calls):
        raise SystemExit(f"{name}, {case.name}: {sample['allowed']} of {calls} were allowed")
    grown = {counter: after[counter] - before[counter] for counter in after}
    return Figures(
        per_second=calls / sample["seconds"],
        p50=sample["p50_us"],
        p99=sample["p99_us"],
        trips=(grown["reads"] - 1) / calls,  # One read is for the counters.
        scripts=grown["scripts"] / calls,
        server=grown["cpu"] / calls * 1e6,
        script=grown["script"] / calls,
        client=sample["cpu_seconds"] / calls * 1e6,
    )


def run(case: Case, server: RedisServer, worker: Worker, effort: Effort) -> Medians:
    names = case.contenders
    if case.outcome == "deny":
        for name in names:
            worker.ask("exhaust", name, case.keys)
    warm = Effort(1, min(effort.milliseconds, 100), effort.spread_keys, effort.exhausted_keys)
    for name in names:
        measure(server, worker, case, name, warm)
    rounds: list[dict[str, Figures]] = []
    for number in range(effort.rounds):
        turn = number % len(names)
        order = names[turn:] + names[:turn]
        rounds.append({name: measure(server, worker, case, name, effort) for name in order})
    medians = {
        name: {
            column: statistics.median(getattr(figures[name], column) for figures in rounds)
            for column in COLUMNS
        }
        for name in names
    }
    print_table(case, medians)
    print_bench_lines(case, medians, rounds)
    return medians


def print_table(case: Case, medians: Medians) -> None:
    print(f"\n{case.name:<36}" + "".join(f"{it.title:>12}" for it in COLUMNS.values()))
    for name, figures in medians.items():
        shown = (f"{figures[column]:>12,.{it.digits}f}" for column, it in COLUMNS.items())
        print(f"  {name:<34}" + "".join(shown))


def print_bench_lines(case: Case, medians: Medians, rounds: list[dict[str, Figures]]) -> None:
    ours, *peers = case.contenders
    for peer in peers:
        for column, it in COLUMNS.items():
            pairs = [(getattr(turn[ours], column), getattr(turn[peer], column)) for turn in rounds]
            ratios = [_ratio(a, b) if it.more_is_better else _ratio(b, a) for a, b in pairs]
            line = {
                "suite": "redis",
                "case": f"{case.name}: {it.title}",
                "ours": round(medians[ours][column], 4),
                "peer": round(medians[peer][column], 4),
                "peer_name": peer,
                "unit": it.unit,
                "ratio": round(statistics.median(ratios), 3),
            }
            print("BENCH " + json.dumps(line, separators=(",", ":")))
    sys.stdout.flush()


def print_bars(medians: dict[str, Medians]) -> None:
    """Says of each bar whose case was measured how far it is reached."""
    print()
    for bar in BARS:
        if bar.case not in medians:
            continue
        figures = medians[bar.case]
        ours = bar.ours or next(iter(figures))
        others = [other for name, other in figures.items() if not name.startswith(("tidegate", "bare"))]
        more_is_better = COLUMNS[bar.column].more_is_better
        figure, unit = figures[ours][bar.column], ""
        if bar.peer:
            peers = others if bar.peer == "best" else [figures[bar.peer]]
            best = max if more_is_better else min
            figure /= best(peer[bar.column] for peer in peers)
            unit = f" times {bar.peer if bar.peer != 'best' else 'the best peer'}"
        reached = figure >= bar.bar if more_is_better else figure <= bar.bar
        sense = "at least" if more_is_better else "at most"
        print(
            f"{f'{bar.case}, {ours}, {COLUMNS[bar.column].title}':<64}{figure:>8.2f}{unit},"
            f" {sense} {bar.bar}: {'reached' if reached else 'NOT REACHED'}"
        )


def _ratio(better: float, worse: float) -> float:
    """The first figure over the second, which counts as a thousandth of the first at least."""
    return better / max(worse, better / 1000, 1e-9)


def redis_rate_script() -> str:
    """The script that redis_rate sends for each check, read from its Go source."""
    found = re.search(r"var allowN = redis\.NewScript\(`(.*?)`\)", (PEERS / "redis_rate.go").read_text(), re.S)
    if not found:
        raise SystemExit("redis_rate's script is not where it was")
    return found[1]


@contextmanager
def forwarder(server: RedisServer) -> Iterator[str]:
    command = ["node", str(FORWARDER), str(server.port)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        if not select.select([process.stdout], [], [], START_DEADLINE)[0]:
            raise SystemExit("the forwarder did not start")
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()


def start_workers(
    names: set[str], stack: ExitStack, server: RedisServer, folder: str
) -> dict[str, Worker]:
    script = Path(folder) / "redis_rate.lua"
    script.write_text(redis_rate_script())
    environment = os.environ | {
        "REDIS_URL": server.url,
        "REDIS_RATE_SCRIPT": str(script),
        "UPSTASH_URL": stack.enter_context(forwarder(server)),
        "TIDEGATE": (ROOT / "bindings-node" / "dist" / "index.js").as_uri(),
        "PYTHONPATH": str(ROOT / "bindings-python" / "python"),
    }
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    commands = {
        "rust": [str(target / "release" / "redis")],
        "python": [str(PEERS / "venv" / "bin" / "python"), str(HERE / "python_worker.py")],
        "node": ["node", str(HERE / "node_worker.mjs")],
    }
    workers = {}
    for name in sorted(names):
        workers[name] = Worker(commands[name], environment)
        stack.callback(workers[name].stop)
    return workers


def main() -> None:
    options = [argument for argument in sys.argv[1:] if argument.startswith("--")]
    wanted = " ".join(argument for argument in sys.argv[1:] if argument not in options)
    efforts = {(): NORMAL, ("--quick",): QUICK, ("--full",): FULL}
    if tuple(options) not in efforts:
        raise SystemExit(__doc__)
    effort = efforts[tuple(options)]
    with ExitStack() as stack:
        folder = tempfile.mkdtemp(prefix="tidegate-bench-")
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        server = RedisServer(folder)
        stack.callback(server.stop)
        chosen = [case for case in cases(effort) if wanted in case.name]
        workers = start_workers({case.worker for case in chosen}, stack, server, folder)
        print("medians per check; server: all CPU of redis-server, script: that within scripts")
        medians = {
            case.name: run(case, server, workers[case.worker], effort) for case in chosen
        }
    print_bars(medians)


main()
