"""The traces of permits.json: callers of one key that enter, wait, renew and leave."""

import random

from oracle import SECOND
from permits_oracle import Permits

MS = 10**6
START = 1_764_000_000 * SECOND
TERMS = {"limit": 2, "ttl": 30 * SECOND, "wait": 5 * SECOND, "max_waiting": 100}

# Steps: milliseconds from the start, what is asked, the caller, and the terms that differ from then on.
TRACES: list[tuple[str, dict[str, int], list[tuple]]] = [
    ("callers enter up to the limit", {}, [(0, "enter", "a"), (0, "enter", "b"), (0, "try", "c"), (0, "enter", "c")]),
    ("who enters twice holds one permit", {}, [(0, "enter", "a"), (1, "enter", "a"), (2, "try", "a"), (3, "enter", "b")]),
    ("a permit that is not renewed comes free after its ttl", {"limit": 1}, [
        (0, "enter", "a"), (29_999, "try", "b"), (30_000, "try", "b"),
    ]),
    ("a renewal counts from when it is made", {"limit": 1}, [
        (0, "enter", "a"), (20_000, "renew", "a"), (49_999, "try", "b"), (50_000, "try", "b"),
    ]),
    ("a late renewal is told that the permit is lost", {"limit": 1}, [
        (0, "enter", "a"), (30_000, "renew", "a"), (30_001, "enter", "b"), (30_002, "renew", "a"), (30_003, "leave", "a"),
    ]),
    ("a late renewal does not take a permit that nobody else wants", {"limit": 1}, [
        (0, "enter", "a"), (40_000, "renew", "a"), (40_001, "enter", "a"),
    ]),
    ("those who wait enter in order of arrival", {"limit": 1}, [
        (0, "enter", "a"), (1, "enter", "b"), (2, "enter", "c"), (3, "leave", "a"),
        (4, "enter", "c"), (5, "try", "d"), (6, "enter", "b"), (7, "leave", "b"), (8, "enter", "c"),
    ]),
    ("two permits that come free together go to the first two", {"limit": 2}, [
        (0, "enter", "a"), (0, "enter", "b"), (1, "enter", "c"), (1, "enter", "d"), (1, "enter", "e"),
        (2, "leave", "a"), (2, "leave", "b"), (3, "enter", "e"), (3, "enter", "d"), (3, "enter", "c"),
    ]),
    ("one who does not wait overtakes nobody", {"limit": 1}, [
        (0, "enter", "a"), (1, "enter", "b"), (2, "leave", "a"), (3, "try", "c"), (4, "enter", "c"), (5, "enter", "b"),
    ]),
    ("a crashed caller in the line is passed over", {"limit": 1}, [
        (0, "enter", "a"), (1, "enter", "b"), (2, "enter", "c"), (3, "leave", "a"), (4_000, "enter", "c"),
        (5_000, "enter", "c"), (5_001, "enter", "c"),
    ]),
    ("who stops waiting lets others move up", {"limit": 1}, [
        (0, "enter", "a"), (1, "enter", "b"), (2, "enter", "c"), (3, "leave", "b"), (4, "enter", "c"), (5, "leave", "b"),
    ]),
    ("a lower limit lets nobody in until enough have left", {"limit": 3}, [
        (0, "enter", "a"), (0, "enter", "b"), (0, "enter", "c"), (1, "enter", "d", {"limit": 1}),
        (2, "leave", "a"), (2, "enter", "d"), (3, "leave", "b"), (3, "enter", "d"), (4, "leave", "c"), (4, "enter", "d"),
    ]),
    ("a higher limit lets in who waits", {"limit": 1}, [
        (0, "enter", "a"), (1, "enter", "b"), (1, "enter", "c"), (2, "enter", "b", {"limit": 3}), (2, "enter", "c"),
    ]),
    ("no permits at all", {"limit": 0}, [(0, "try", "a"), (0, "enter", "a"), (1, "enter", "a", {"limit": 1})]),
    ("only so many may wait", {"limit": 1, "max_waiting": 1}, [
        (0, "enter", "a"), (1, "enter", "b"), (2, "enter", "c"), (3, "enter", "b"), (4, "leave", "b"), (5, "enter", "c"),
    ]),
    ("a clock that steps back shortens no permit and frees none", {"limit": 1}, [
        (60_000, "enter", "a"), (0, "renew", "a"), (1, "try", "b"), (89_999, "try", "b"), (90_000, "try", "b"),
    ]),
]


def random_trace(number: int) -> tuple[str, dict[str, int], list[tuple]]:
    rng = random.Random(number)
    now, steps = 0, []
    for _ in range(40):
        now = max(0, now + (-rng.randrange(20_000) if rng.random() < 0.05 else rng.randrange(rng.choice([3, 3_000, 12_000]))))
        what = rng.choice(["enter", "enter", "enter", "try", "renew", "leave", "leave"])
        changed = {"limit": rng.randrange(5)} if rng.random() < 0.1 else {}
        steps.append((now, what, rng.choice("abcdefgh"), changed))
    return f"random {number}", {"limit": rng.randrange(1, 4), "max_waiting": rng.choice([2, 100])}, steps


def traces() -> list[dict[str, object]]:
    return [answered(*trace) for trace in TRACES] + [answered(*random_trace(number)) for number in range(30)]


def answered(name: str, own: dict[str, int], steps: list[tuple]) -> dict[str, object]:
    terms, permits, written = {**TERMS, **own}, Permits(), []
    first = written_terms(terms)
    for ms, what, caller, *changed in steps:
        terms.update(*changed)
        step: dict[str, object] = {"at": str(START + ms * MS), "ask": what, "id": caller}
        if changed and changed[0]:
            step["limit"] = terms["limit"]
        step["expect"] = permits.ask(START + ms * MS, what, caller, terms)
        written.append(step)
    return {"name": name, "terms": first, "steps": written}


def written_terms(terms: dict[str, int]) -> dict[str, object]:
    return {**terms, "ttl": str(terms["ttl"]), "wait": str(terms["wait"])}
