"""`read_signal`: signals.json, the header objects of HTTP libraries, and arguments that are wrong."""

from __future__ import annotations

import http.client
import io
import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from math import inf
from pathlib import Path
from typing import Any

import pytest

from tidegate import FakeClock, InvalidArgument, Limiter, Signal, read_signal

VECTORS = Path(__file__).resolve().parents[2] / "tests" / "vectors" / "signals.json"
CASES = json.loads(VECTORS.read_text(encoding="utf-8"))["cases"]
DURATIONS = ("hold", "asked", "window", "reset")
COUNTS = ("remaining", "limit")


def seconds(nanos: str | None) -> float | None:
    if nanos is None:
        return None
    return inf if int(nanos) == 2**64 - 1 else int(nanos) / 1e9


def test_every_case_of_the_vectors() -> None:
    assert len(CASES) > 500
    for case in CASES:
        now = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=int(case["now"]) // 1000)
        headers = [(name, value) for name, value in case["headers"]]
        signal = read_signal(case["status"], headers, profile=case["profile"], body=case["body"], now=now)
        expect = dict(case["expect"])
        expect.update({name: seconds(expect[name]) for name in DURATIONS})
        expect.update({name: None if expect[name] is None else int(expect[name]) for name in COUNTS})
        read = {name: getattr(signal, name) for name in expect}
        for name in DURATIONS:
            # From 52 days on, the next float that is enough.
            if read[name] is not None and expect[name] != inf:
                assert read[name] == pytest.approx(expect.pop(name), rel=1e-15), (case["name"], name)
                del read[name]
        assert read == expect, case["name"]


class Multi(Mapping[str, str]):
    """Headers as of httpx: `items` joins lines of one name, and `multi_items` does not."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self.pairs = pairs

    def multi_items(self) -> list[tuple[str, str]]:
        return self.pairs

    def __getitem__(self, name: str) -> str:
        return ", ".join(value for each, value in self.pairs if each == name)

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self.pairs))

    def __len__(self) -> int:
        return len(dict(self.pairs))


PAIRS = [("Retry-After", "5"), ("retry-after", "7"), ("X-RateLimit-Remaining", "0")]


@pytest.mark.parametrize("headers", [
    PAIRS,
    iter(PAIRS),
    [(name.encode(), value.encode()) for name, value in PAIRS],
    {"Retry-After": ["5", "7"], "X-RateLimit-Remaining": 0},
    {"Retry-After": "5, 7", b"X-RateLimit-Remaining": b"0", "X-Other": None},
    Multi(PAIRS),
    http.client.parse_headers(io.BytesIO(b"".join(f"{name}: {value}\r\n".encode() for name, value in PAIRS) + b"\r\n")),
], ids=["pairs", "iterator", "bytes", "lists", "joined", "httpx", "http.client"])  # fmt: skip
def test_headers_of_every_library(headers: Any) -> None:
    signal = read_signal(429, headers)
    assert (signal.hold, signal.remaining, signal.source) == (7.0, 0, "retry-after")


def test_a_hold_is_kept_by_a_limiter() -> None:
    clock = FakeClock()
    limiter = Limiter("10/s", clock=clock)
    signal = read_signal(429, {"Retry-After": "30"})
    limiter.hold("vendor", signal.hold)
    assert not limiter.check("vendor")
    clock.advance(30)
    assert limiter.check("vendor")


def test_now_is_the_clock_without_a_date() -> None:
    at = {"Retry-After": "Mon, 05 Jan 2026 10:02:00 GMT"}
    noon = datetime(2026, 1, 5, 10, 0, 30, tzinfo=timezone.utc)
    assert read_signal(503, at, now=noon).hold == 90.0
    assert read_signal(503, at, now=noon.timestamp()).hold == 90.0
    assert read_signal(503, {**at, "Date": "Mon, 05 Jan 2026 10:01:59 GMT"}, now=0).hold == 1.0
    # By the system's clock it has passed, or is farther than a hold.
    assert read_signal(503, at).hold in (0.0, 900.0)


def test_a_body_is_read_within_bounds() -> None:
    assert read_signal(429, {}, body={"retry_after": 1e-7}).hold == 1e-7
    assert read_signal(429, {}, body={"retry_after": float("nan"), "a": [1, None, {"b": ()}]}).hold == 0.0
    deep: Any = {"retry_after": 5}
    for _ in range(20):
        deep = {"x": [deep]}
    assert read_signal(429, {}, body=deep).hold == 0.0
    wide = {f"x{number}": 1 for number in range(2000)}
    assert read_signal(429, {}, body={**wide, "retry_after": 5}).hold == 0.0
    endless: dict[str, Any] = {}
    endless["x"] = endless
    assert read_signal(429, {}, body=endless).kind == "rate"


@pytest.mark.parametrize("text", ["\ud83d", "cut \ud83d", "\ude00 cut", "\udcff and \ud83d"], ids=ascii)
def test_half_of_a_pair_of_surrogates_is_read_as_in_javascript(text: str) -> None:
    body = {"message": text, text: text, "error": {text: [text]}, "retry_after": 3}
    assert read_signal(429, {}, body=body).hold == 3.0
    assert read_signal(429, {}, body=json.loads(json.dumps(body))).hold == 3.0
    signal = read_signal(429, {"Retry-After": "4", "X-Title": text, text: "1", "X-RateLimit-Bucket": text})
    assert signal.hold == 4.0
    assert signal.bucket == text.replace("\ud83d", "\ufffd").replace("\ude00", "\ufffd").replace("\udcff", "\ufffd")


def test_signals_are_values() -> None:
    first, second = (read_signal(429, {"Retry-After": "1"}) for _ in range(2))
    assert first == second and hash(first) == hash(second)
    assert first != read_signal(429, {"Retry-After": "2"})
    assert repr(first) == "Signal(kind='rate', hold=1.0, scope='credential', should_retry=True)"
    assert isinstance(first, Signal)
    assert read_signal(429, {"Retry-After": "1"}, max_hold=timedelta(milliseconds=250)).hold == 0.25
    assert read_signal(429, {"Retry-After": "1"}, max_hold=0.5).asked == 1.0


@pytest.mark.parametrize(("arguments", "options", "name"), [
    (("429", {}), {}, "status"),
    ((-1, {}), {}, "status"),
    ((1000, {}), {}, "status"),
    ((429, 5), {}, "headers"),
    ((429, ["Retry-After"]), {}, "headers"),
    ((429, {}), {"profile": "GitHub"}, "profile"),
    ((429, {}), {"profile": [{"header": "x"}]}, "profile"),
    ((429, {}), {"profile": [{"header": "x", "meaning": "wait"}]}, "profile"),
    ((429, {}), {"profile": [{"header": "x", "meaning": "reset", "unit": "minutes"}]}, "profile"),
    ((429, {}), {"profile": [{"header": "x", "meaning": "reset", "per": 1}]}, "profile"),
    ((429, {}), {"profile": [{"header": 1, "meaning": "reset"}]}, "profile"),
    ((429, {}), {"body": b"{}"}, "body"),
    ((429, {}), {"now": datetime(2026, 1, 1)}, "now"),  # noqa: DTZ001
    ((429, {}), {"now": -1.0}, "now"),
    ((429, {}), {"max_hold": "1"}, "max_hold"),
    ((429, {}), {"max_hold": float("nan")}, "max_hold"),
])  # fmt: skip
def test_wrong_arguments_are_named(arguments: Any, options: Any, name: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^invalid {name}: "):
        read_signal(*arguments, **options)
