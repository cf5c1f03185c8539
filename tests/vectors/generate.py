"""Writes decide.json, operations.json, fixed.json, permits.json, waiting.json, signals.json, retries.json, egress.json,
gate.json and controller.json.

The traces are by hand or random, and the answers those of the oracles.

    python tests/vectors/generate.py            rewrite the files
    python tests/vectors/generate.py --check    fail unless the files are as this program writes them

The meanings of the limits are written out here a second time, so that a trace does not depend on the
grammar.
"""

import json
import random
import sys
from datetime import datetime, timezone
from pathlib import Path

import egress
import gates
import operations
import permits
import retries
import signals
import waiting
from oracle import SECOND, Bucket, Tiers

MS = 10**6
MINUTE, HOUR, DAY, WEEK = 60 * SECOND, 3600 * SECOND, 86400 * SECOND, 7 * 86400 * SECOND
EPOCH = 1_764_000_000 * SECOND
THURSDAY, MONDAY = (int(datetime(2026, 1, day, tzinfo=timezone.utc).timestamp()) * SECOND for day in (1, 5))

# The text of each limit: its tokens, period and burst, and whether it is stepped.
LIMITS = {
    "2/s": (2, SECOND, 2, False),
    "10/s": (10, SECOND, 10, False),
    "10/s burst 1": (10, SECOND, 1, False),
    "50/s burst 50": (50, SECOND, 50, False),
    "3/s burst 7": (3, SECOND, 7, False),
    "7/s": (7, SECOND, 7, False),
    "100/min burst 20": (100, MINUTE, 20, False),
    "1/d burst 104": (1, DAY, 104, False),
    "1/30d": (1, 30 * DAY, 1, False),
    "1000000000/s burst 5": (10**9, SECOND, 5, False),
    "40000000/s": (40_000_000, SECOND, 40_000_000, False),
    "10 in any 1s": (10, SECOND + 1, 1, False),
    "10 in any 1s burst 4 jitter 50ms": (7, 1050 * MS + 1, 4, False),
    "5/s window": (5, SECOND, 5, True),
    "5000/h window": (5000, HOUR, 5000, True),
    "12/d window": (12, DAY, 12, True),
    "100/min burst 300 stepped": (100, MINUTE, 300, True),
    "10/s burst 4 stepped": (10, SECOND, 4, True),
    "3/500ms stepped": (3, 500 * MS, 3, True),
    "1/s": (1, SECOND, 1, False),
    "1/d burst 100": (1, DAY, 100, False),
    "10/s window": (10, SECOND, 10, True),
    "10/s burst 100": (10, SECOND, 100, False),
    "3/s burst 9": (3, SECOND, 9, False),
    "1/1900ms": (1, 1900 * MS, 1, False),
}

# With the limits of traces by hand alone. Random traces draw from LIMITS, and stay the same while that does.
ALL_LIMITS = LIMITS | {"5/w window": (5, WEEK, 5, True)}

# Each trace: a name, limits, and checks as (at, cost[, key]). The name says which promise the trace
# shows, or which limiter's bug.
TRACES = [
    ("a burst, a refusal, and exactly when it would be allowed", ["2/s"],
     [(7 * SECOND, 2), (7 * SECOND, 1), (7_499_999_999, 1), (7_500_000_000, 1), (7_500_000_000, 3)]),
    ("remaining is exact from the first call on", ["10/s"], [(EPOCH, 1)] * 11),
    ("a refusal charges nothing, however large", ["10/s"],
     [(EPOCH, 9), (EPOCH, 10), (EPOCH, 5), (EPOCH, 1), (EPOCH, 1)]),
    ("a cost above the burst is an error and not a wait, and charges nothing", ["10/s"],
     [(EPOCH, 11), (EPOCH, 2**53 - 1), (EPOCH, 10)]),
    ("a cost of 0 looks and charges nothing, also on an empty bucket", ["2/s"],
     [(EPOCH, 0), (EPOCH, 2), (EPOCH, 0), (EPOCH + 250 * MS, 0), (EPOCH + SECOND, 0)]),
    ("a burst of one still limits", ["1/s"],
     [(EPOCH + i * 100 * MS, 1) for i in range(12)]),
    ("a returning key gets its burst, not twice", ["3/s burst 7"],
     [(EPOCH, 1), (EPOCH + 20 * SECOND, 7), (EPOCH + 20 * SECOND, 1), (EPOCH + 20 * SECOND + 333_333_334, 1)]),
    ("a period that seconds do not divide", ["1/1900ms"],
     [(EPOCH + i * 950 * MS, 1) for i in range(9)]),
    ("a width that is rounded up", ["7/s"],
     [(EPOCH, 7), (EPOCH + 142_857_142, 1), (EPOCH + 142_857_143, 1), (EPOCH + 999_999_999, 6),
      (EPOCH + SECOND, 5), (EPOCH + SECOND + 1, 5)]),
    ("a month, which timers cut short", ["1/30d"],
     [(EPOCH, 1), (EPOCH + 25 * DAY, 1), (EPOCH + 30 * DAY - 1, 1), (EPOCH + 30 * DAY, 1)]),
    ("a hundred days of refill", ["1/d burst 100"],
     [(EPOCH, 100), (EPOCH + DAY - 1, 1), (EPOCH + DAY, 1), (EPOCH + 101 * DAY, 99), (EPOCH + 101 * DAY, 2)]),
    ("the longest span", ["1/d burst 104"], [(EPOCH, 104), (EPOCH, 1), (EPOCH + 104 * DAY, 104)]),
    ("the fastest rate", ["1000000000/s burst 5"],
     [(EPOCH, 5), (EPOCH, 1), (EPOCH + 1, 1), (EPOCH + 2, 2), (EPOCH + 3, 2)]),
    ("bytes per second", ["40000000/s"],
     [(EPOCH, 40_000_000), (EPOCH + 25_000, 1_000), (EPOCH + 25_000, 1)]),
    ("ten in any second, in the steady state", ["10 in any 1s"],
     [(EPOCH + i * 50_000_001, 1) for i in range(24)]),
    ("ten in any second with a burst and jitter", ["10 in any 1s burst 4 jitter 50ms"],
     [(EPOCH, 4), (EPOCH, 1), (EPOCH + 150_000_000, 1), (EPOCH + 150_000_001, 1), (EPOCH + SECOND, 4)]),
    ("a fixed window is aligned to the epoch", ["5/s window"],
     [(EPOCH + 900 * MS, 5), (EPOCH + 999_999_999, 1), (EPOCH + SECOND, 5), (EPOCH + SECOND, 1)]),
    ("a window that was left half spent", ["5/s window"],
     [(EPOCH, 2), (EPOCH + 500 * MS, 4), (EPOCH + 500 * MS, 3), (EPOCH + SECOND, 0), (EPOCH + 1500 * MS, 5)]),
    ("an hourly window far from its edge", ["5000/h window"],
     [(EPOCH + 123_456_789, 5000), (EPOCH + 123_456_789, 1), (EPOCH + HOUR, 1)]),
    ("a weekly window begins on a Thursday at midnight UTC, and on no Monday", ["5/w window"],
     [(THURSDAY - 1, 5), (THURSDAY - 1, 1), (THURSDAY, 5), (MONDAY, 1), (THURSDAY + WEEK - 1, 1), (THURSDAY + WEEK, 5)]),
    ("stepped with more burst than a step", ["100/min burst 300 stepped"],
     [(EPOCH, 300), (EPOCH, 1), (EPOCH + MINUTE, 100), (EPOCH + MINUTE, 1), (EPOCH + 2 * MINUTE, 250),
      (EPOCH + 3 * MINUTE, 200), (EPOCH + 10 * MINUTE, 300)]),
    ("stepped with less burst than a step", ["10/s burst 4 stepped"],
     [(EPOCH, 4), (EPOCH + 500 * MS, 1), (EPOCH + SECOND, 4), (EPOCH + SECOND, 5)]),
    ("steps of half a second", ["3/500ms stepped"],
     [(EPOCH + 250 * MS, 3), (EPOCH + 499_999_999, 1), (EPOCH + 500 * MS, 3), (EPOCH + 1750 * MS, 2), (EPOCH + 1750 * MS, 2)]),
    ("a clock that steps back mints nothing, smooth", ["2/s"],
     [(EPOCH, 2), (EPOCH - HOUR, 1), (EPOCH - HOUR, 0), (EPOCH, 1), (EPOCH + 500 * MS, 1)]),
    ("a clock that steps back mints nothing, stepped", ["5/s window"],
     [(EPOCH, 5), (EPOCH - 3 * SECOND, 1), (EPOCH, 1), (EPOCH + SECOND, 5)]),
    ("a clock that steps back, over a bucket with tokens left", ["10/s"],
     [(EPOCH, 2), (EPOCH - 500 * MS, 4), (EPOCH - 500 * MS, 3), (EPOCH - 500 * MS, 1), (EPOCH, 8)]),
    ("keys do not share", ["2/s"],
     [(EPOCH, 2, "a"), (EPOCH, 1, "a"), (EPOCH, 2, "b"), (EPOCH, 1, "ü"), (EPOCH, 1, "b")]),
    ("two tiers: all allow or none is charged", ["10/s", "12/d window"],
     [(EPOCH, 10), (EPOCH + 500 * MS, 3), (EPOCH + 500 * MS, 2), (EPOCH + 500 * MS, 1), (EPOCH + SECOND, 1),
      (EPOCH + DAY, 10)]),
    ("two tiers: the first binds on a tie", ["2/s", "2/s"], [(EPOCH, 1), (EPOCH, 1), (EPOCH, 1)]),
    ("two tiers: a cost above the smaller burst", ["10/s", "2/s"], [(EPOCH, 3), (EPOCH, 2), (EPOCH, 1)]),
    ("two tiers: the longer wait binds a refusal", ["10/s burst 1", "3/s burst 7"],
     [(EPOCH, 1), (EPOCH, 1)] + [(EPOCH + i * 100 * MS, 1) for i in range(1, 12)]),
    ("four tiers", ["10/s", "100/min burst 20", "5000/h window", "12/d window"],
     [(EPOCH, 10), (EPOCH + SECOND, 2), (EPOCH + 2 * SECOND, 1), (EPOCH + DAY, 10), (EPOCH + DAY, 5)]),
    # Failures of other limiters, by their names. Each is a plain check, which Tidegate answers right.
    ("governor: check_n whose product wraps", ["1/d burst 100"],
     [(EPOCH, 101), (EPOCH, 213_505), (EPOCH, 2**53), (EPOCH, 100), (EPOCH, 1)]),
    ("governor: the burst plus one cell more", ["3/s burst 7"], [(EPOCH, 1)] * 8),
    ("throttlecrab: a burst of 1 turns limiting off", ["1/s"], [(EPOCH + i * MS, 1) for i in range(10)]),
    ("throttlecrab: a returning key gets twice its burst", ["10/s"],
     [(EPOCH, 1), (EPOCH + HOUR, 10), (EPOCH + HOUR, 7), (EPOCH + HOUR, 1)]),
    ("throttlecrab: a cost above the burst is told to wait", ["10/s"], [(EPOCH, 14)]),
    ("redis-cell: once a year with a burst is always limited", ["1/d burst 104"],
     [(EPOCH, 1), (EPOCH, 1), (EPOCH, 1)]),
    ("redis-cell: remaining at more than a million a second", ["40000000/s"], [(EPOCH, 1), (EPOCH, 0)]),
    ("redis-cell: a wait of less than a millisecond is told as none", ["1000000000/s burst 5"],
     [(EPOCH, 5), (EPOCH, 1), (EPOCH + 1, 1)]),
    ("redis_rate: remaining off by one", ["50/s burst 50"], [(EPOCH, 1)] * 3),
    ("redis_rate: a double no longer moves by one token", ["40000000/s"],
     [(EPOCH, 39_999_998), (EPOCH, 1), (EPOCH, 1), (EPOCH, 1)]),
    ("throttled: a bucket whose expiry is cut to whole seconds", ["1/1900ms"],
     [(EPOCH + i * 1001 * MS, 1) for i in range(8)]),
    ("upstash: a refusal charges, and a call too large dooms those after it", ["10/s window"],
     [(EPOCH, 15), (EPOCH, 9), (EPOCH, 5), (EPOCH, 1), (EPOCH, 1), (EPOCH + SECOND, 10)]),
    ("upstash: a look that forgets the refill", ["10/s"], [(EPOCH, 10), (EPOCH + 500 * MS, 0)]),
    ("gubernator: an idle bucket with a burst above the limit is full too soon", ["10/s burst 100"],
     [(EPOCH, 100), (EPOCH + 1002 * MS, 100), (EPOCH + 1002 * MS, 10), (EPOCH + 2004 * MS, 100), (EPOCH + 10_000 * MS, 90)]),
    ("gubernator: a window begins with the first hit", ["5/s window"],
     [(EPOCH + 999 * MS, 1), (EPOCH + 1001 * MS, 5), (EPOCH + 1999 * MS, 1)]),
    ("envoyproxy/ratelimit: a refused tier still charges the other", ["10/s burst 1", "12/d window"],
     [(EPOCH, 1)] + [(EPOCH + MS, 1)] * 5 + [(EPOCH + 100 * MS, 1), (EPOCH + 100 * MS, 0)]),
    ("envoyproxy/ratelimit: keys joined by one mark collide", ["2/s"],
     [(EPOCH, 2, "a_b:c"), (EPOCH, 2, "a:b_c"), (EPOCH, 1, "a_b:c")]),
    ("limitador: one more than the limit between reading and writing", ["5/s window"], [(EPOCH, 1)] * 6),
    ("Higress: one more than the threshold", ["5000/h window"], [(EPOCH, 5000), (EPOCH, 1)]),
    ("pingora-limits: the first second after the clock's zero", ["3/500ms stepped"],
     [(SECOND, 3), (SECOND + 5 * MS, 1), (SECOND + 500 * MS, 3)]),
    ("fifty a second, as a fleet spends it", ["50/s burst 50"],
     [(EPOCH, 50), (EPOCH, 1)] + [(EPOCH + i * 13 * MS, 1) for i in range(1, 20)]),
]


def random_trace(number: int) -> tuple[str, list[str], list[tuple[int, int, str]]]:
    """A random trace: any tiers, any gaps, and sometimes a clock that steps back."""
    rng = random.Random(number)
    limits = rng.sample(sorted(LIMITS), rng.choice([1, 1, 1, 2, 3, 4]))
    fastest = min(LIMITS[text][1] // LIMITS[text][0] for text in limits)
    burst = min(LIMITS[text][2] for text in limits)
    now, steps = EPOCH + rng.randrange(DAY), []
    for _ in range(24):
        gap = rng.choice([0, 1, fastest, fastest - 1, fastest * burst, rng.randrange(10 * fastest + 10)])
        now += -gap if rng.random() < 0.08 else gap
        cost = rng.choice([1, 1, 1, 0, burst, rng.randint(1, burst)])
        steps.append((now, cost, rng.choice("kkkm")))
    return f"random {number}", limits, steps


def answered(name: str, limits: list[str], steps: list[tuple]) -> dict[str, object]:
    buckets: dict[str, Tiers] = {}
    written = []
    for at, cost, *named in steps:
        key = named[0] if named else "k"
        if key not in buckets:
            buckets[key] = Tiers([Bucket(*ALL_LIMITS[text]) for text in limits])
        answer = buckets[key].check(at, cost)
        step: dict[str, object] = {"at": str(at), "cost": cost}
        if key != "k":
            step["key"] = key
        step["error" if isinstance(answer, str) else "expect"] = answer
        written.append(step)
    return {"name": name, "limits": limits, "steps": written}


def documents() -> dict[str, str]:
    decide = [answered(*trace) for trace in TRACES]
    decide += [answered(*random_trace(number)) for number in range(40)]
    return {
        "decide": document("decide", decide),
        "operations": document("operations", operations.traces(LIMITS)),
        "fixed": document("fixed", operations.fixed_traces(LIMITS)),
        "permits": document("permits", permits.traces(), trace_of_steps_text),
        "waiting": document("waiting", waiting.scenarios(LIMITS), scenario_text, "scenarios"),
        "signals": document("signals", signals.cases(), lambda case: json.dumps(case, ensure_ascii=False), "cases"),
        "retries": document("retries", retries.traces(), trace_of_steps_text),
        "egress": document("egress", egress.traces(), trace_of_steps_text),
        "gate": document("gate", gates.gate_traces(), gates.text_of),
        "controller": document("controller", gates.control_traces(), gates.text_of),
    }


def document(name: str, traces: list[dict[str, object]], text_of=None, field: str = "traces") -> str:
    body = ",\n".join("    " + (text_of or trace_text)(trace) for trace in traces)
    return (
        f'{{\n  "$schema": "./schema/{name}.schema.json",\n  "version": 1,\n  "{field}": [\n'
        + body + "\n  ]\n}\n"
    )


def trace_text(trace: dict[str, object]) -> str:
    head = json.dumps({key: trace[key] for key in ("name", "limits")}, ensure_ascii=False)
    steps = ",\n".join(f"      {json.dumps(step, ensure_ascii=False)}" for step in trace["steps"])
    return f'{head[:-1]}, "steps": [\n{steps}\n    ]}}'


def trace_of_steps_text(trace: dict[str, object]) -> str:
    head = json.dumps({key: trace[key] for key in trace if key != "steps"}, ensure_ascii=False)
    steps = ",\n".join(f"      {json.dumps(step, ensure_ascii=False)}" for step in trace["steps"])
    return f'{head[:-1]}, "steps": [\n{steps}\n    ]}}'


def scenario_text(scenario: dict[str, object]) -> str:
    head = json.dumps({key: scenario[key] for key in scenario if key not in ("events", "outcomes")}, ensure_ascii=False)
    events = ",\n".join(f"      {json.dumps(event, ensure_ascii=False)}" for event in scenario["events"])
    outcomes = ",\n".join(f"      {json.dumps(id)}: {json.dumps(outcome)}" for id, outcome in scenario["outcomes"].items())
    return f'{head[:-1]}, "events": [\n{events}\n    ], "outcomes": {{\n{outcomes}\n    }}}}'


def main() -> int:
    for name, text in documents().items():
        path = Path(__file__).with_name(f"{name}.json")
        if "--check" not in sys.argv:
            path.write_text(text)
            print(f"{path.name}: {text.count(chr(10))} lines")
        elif not path.exists() or path.read_text() != text:
            print(f"{path.name} is not what generate.py writes; run it without --check")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
