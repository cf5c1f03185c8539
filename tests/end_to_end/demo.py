"""Demonstrates Tidegate: one limit in one process, and then one limit over five processes of three
runtimes. Ends with a verdict; the exit status is 1 if the limit was broken."""

from __future__ import annotations

import signal
import sys
import time

from fleet import Fleet, fleet
from timeline import Timeline, Verdict, judge

import tidegate

RATE, BURST, SECONDS = 50, 50, 10.0
LIMIT, KEY = f"{RATE}/s burst {BURST}", "vendor"
LIVE = sys.stdout.isatty()


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        embedded()
        return shared()
    except KeyboardInterrupt:
        print("\nstopped")
        return 130


def embedded() -> None:
    print('1. In one process, nothing to run: Limiter("3/s burst 3")\n')
    limiter = tidegate.Limiter("3/s burst 3")
    for call in range(1, 6):
        decision = limiter.check("user:42")
        answer = "allowed" if decision.allowed else f"refused, retry in {decision.retry_after:.3f} s"
        print(f"   call {call}: {answer}, {decision.remaining} of {decision.limit} remaining")
    decision = limiter.check("user:42")
    time.sleep(decision.retry_after)
    again = limiter.check("user:42").allowed
    print(f"   after {decision.retry_after:.3f} s: {'allowed' if again else 'refused'}\n")
    if not again:
        sys.exit("   the limiter refused when it had said it would allow")


def shared() -> int:
    print(f'2. Five processes, one bucket: "{LIMIT}" on key "{KEY}" in Redis, for {SECONDS:.0f} s')
    print("   starting redis-server, the quota service, Envoy with the filter, and the workers ...", flush=True)
    with fleet(limit=LIMIT, key=KEY, seconds=SECONDS) as it, Timeline(it.redis.port, KEY) as timeline:
        began = time.monotonic()
        it.go()
        lines = 0
        while not it.done and time.monotonic() - began < SECONDS + 20:
            time.sleep(0.5 if LIVE else 2.0)
            seconds = min(time.monotonic() - began, SECONDS)
            lines = show(it, len(timeline.charges), seconds, lines)
        it.finish()
        verdict = judge(timeline.charges, RATE, BURST, SECONDS)
        show(it, len(timeline.charges), SECONDS, lines, final=True)
        told_all = it.total("admitted") == len(timeline.charges)
        errors = it.total("errors")
    return conclude(verdict, told_all, errors)


def show(it: Fleet, charged: int, seconds: float, lines: int, final: bool = False) -> int:
    """Redraws the table on a terminal; elsewhere one line, and the table at the end."""
    allowed = BURST + RATE * seconds
    shared_line = f"   shared bucket: {charged} admitted of at most {allowed:.0f} in {seconds:4.1f} s"
    if not LIVE and not final:
        print(shared_line, flush=True)
        return 0
    rows = ["", f"   {'process':<16}{'runtime':<10}{'admitted':>9}{'refused':>9}{'p50':>10}"]
    for worker in it.workers:
        p50 = worker.told.get("p50_us")
        latency = f"{p50 / 1000:.2f} ms" if isinstance(p50, (int, float)) else "-"
        rows.append(
            f"   {worker.name:<16}{worker.runtime:<10}{worker.count('admitted'):>9}"
            f"{worker.count('refused'):>9}{latency:>10}"
        )
    rows += ["", shared_line]
    if lines:
        print(f"\x1b[{lines}A", end="")
    print("\n".join(f"{row}\x1b[K" if LIVE else row for row in rows), flush=True)
    return len(rows)


def conclude(verdict: Verdict, told_all: bool, errors: int) -> int:
    print()
    if not verdict.kept:
        print(f"LIMIT BROKEN: {verdict.worst_excess:.2f} too many in a window of {verdict.worst_window:.3f} s")
        return 1
    if errors or not told_all:
        print(f"UNFINISHED: the limit held, but {errors} calls failed and some were not accounted for")
        return 1
    print(
        f"LIMIT KEPT: in every window at most {BURST} + {RATE}/s; "
        f"{verdict.admitted} admitted, {verdict.used:.1%} of what it allows"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
