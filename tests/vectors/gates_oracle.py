"""What a gate and a controller answer, written a second time: a gate keeps the calls of its window as a list.

Times are in microseconds, and rates in calls in 1000 seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, floor

SECOND = 10**6
MOST_CALLS = 2**30


@dataclass
class Gate:
    policy: dict
    holds: list[int] = field(default_factory=list)
    resumed_after: int = 0
    ramp_from: int | None = None
    probes: int = 0
    probe_ends: int = 0
    successes: int = 0
    opens_until: int | None = None
    openings: int = 0
    closed_at: int = 0
    window_from: int = 0
    calls: list[tuple[int, int, int]] = field(default_factory=list)

    @property
    def held_until(self) -> int:
        return max(self.holds, default=0)

    def admit(self, now: int) -> dict:
        shut = max(self.held_until, self.opens_until or 0, self.probe_ends)
        if now < shut:
            return {"wait": shut}
        broken = self.opens_until is not None
        if broken or self.held_until != self.resumed_after:
            self.probes += 1
            self.probe_ends = now + self.policy["probe_timeout" if broken else "resume_wait"]
            self.resumed_after = self.held_until
            if not broken:
                self.ramp_from = now
            return {"probe": self.probes, "until": self.probe_ends}
        ramp = self.policy["ramp"]
        if self.ramp_from is None or now - self.ramp_from >= ramp:
            return {"pass": True}
        return {"ramp": 100 + floor(Fraction(900 * max(0, now - self.ramp_from), ramp))}

    def report(self, now: int, ok: int = 0, faults: int = 0, hold: int = 0, probe: list | None = None) -> dict:
        if hold:
            self.holds.append(now + hold)
        was_closed = self.opens_until is None
        if probe is not None:
            number, outcome = probe
            ok, faults = ok + (outcome == "ok"), faults + (outcome == "fault")
            if number == self.probes and self.probe_ends:
                self.probe_ends = 0
                self.probed(now, outcome)
        if was_closed and ok + faults:
            self.count(now, ok, faults)
        return {"held_until": self.held_until, "open_until": self.opens_until}

    def probed(self, now: int, outcome: str) -> None:
        if self.opens_until is None:
            if outcome == "not_made":
                self.resumed_after = 0
        elif outcome == "ok":
            self.successes += 1
            if self.successes == self.policy["probes"]:
                self.opens_until, self.closed_at, self.ramp_from = None, now, now
        elif outcome == "fault":
            self.open(now)
        elif outcome == "throttled":
            self.opens_until = now + self.time_open(self.openings - 1)

    def time_open(self, openings: int) -> int:
        return min(self.policy["longest_open"], self.policy["open_for"] * 2**openings)

    def count(self, now: int, ok: int, faults: int) -> None:
        length = self.policy["window"]
        if now - self.window_from >= 2 * length:
            self.window_from = now
        elif now - self.window_from >= length:
            self.window_from += length
        self.calls.append((now, ok, faults))
        # The part before the present one counts in sixteenths.
        weight = Fraction(16 - floor(Fraction(16 * (now - self.window_from), length)), 16)
        counted_ok, counted_faults = Fraction(0), Fraction(0)
        for at, oks, faulty in self.calls:
            if at >= self.window_from - length:
                share = 1 if at >= self.window_from else weight
                counted_ok += share * oks
                counted_faults += share * faulty
        calls = counted_ok + counted_faults
        if calls >= self.policy["least_calls"] and counted_faults / calls >= Fraction(self.policy["fault_percent"], 100):
            if now - self.closed_at >= length:
                self.openings = 0
            self.open(now)

    def open(self, now: int) -> None:
        self.opens_until = now + self.time_open(self.openings)
        self.openings += 1
        self.probe_ends = self.successes = 0
        self.calls = []


class Controller:
    def __init__(self, policy: dict) -> None:
        self.policy = policy
        self.rate, self.limit = policy["first_rate"], policy["first_limit"]
        self.step, self.cut, self.ceiling, self.owed = 500, 1, 0, 0
        self.quiet = self.seen = self.seen_until = self.limit_quiet = 0
        self.begun = self.latency_begun = None
        self.accepted = self.rate_before = 0
        self.samples = self.latency = self.baseline = self.age = self.measuring = 0

    def within(self, rate: int) -> int:
        return max(self.policy["min_rate"], min(self.policy["max_rate"], rate))

    def epoch(self) -> int:
        """The length of an epoch, in milliseconds."""
        return min(max(self.policy["epoch"] // 1000, 8 * 10**6 // self.rate), 3_600_000)

    def report(self, now: int, **given: int) -> dict:
        told = dict.fromkeys(("ok", "latency", "other", "throttled", "dropped", "hold", "seen_limit", "seen_window"), 0)
        told |= given
        if self.begun is None:
            self.begun = self.latency_begun = now
            told |= {"ok": 0, "latency": 0, "other": 0}
        self.control_rate(now, told)
        self.control_limit(now, told)
        return {"rate": self.rate, "limit": self.limit}

    def control_rate(self, now: int, told: dict) -> None:
        accepted = told["ok"] + told["other"]
        self.accepted += accepted
        self.owed = max(0, self.owed - accepted)
        if told["seen_limit"] and told["seen_window"] >= 1000:
            named = told["seen_limit"] * 10**6 // (told["seen_window"] // 1000)
            named = self.within(ceil(Fraction(63 * named, 64)))
            if (named, True) != (self.seen, now < self.seen_until):
                self.rate, self.step = named, 5
            self.seen, self.seen_until = named, now + 40 * self.policy["epoch"]
        gone = (now - self.begun) // 1000
        if told["throttled"]:
            self.refused(now, told, gone)
        elif gone >= self.epoch():
            measured = self.accepted * 10**6 // gone
            used = self.accepted > 0 and Fraction((self.accepted + 1) * 10**6 // gone, self.rate) >= Fraction(7, 8)
            if used and not self.owed and now >= self.quiet:
                self.grow(now, measured)
            self.begin(now, measured)
            self.cut = 1

    def refused(self, now: int, told: dict, gone: int) -> None:
        price = told["throttled"] * self.policy["calls_per_refusal"]
        ends = now + told["hold"]
        if now < self.quiet:
            self.quiet = max(self.quiet, ends)
            self.owe(price, 40)
            return
        length = self.epoch()
        if gone >= length:
            measured = self.accepted * 10**6 // gone
        else:
            measured = self.accepted * 10**6 // length + self.rate_before * (length - gone) // length
        self.quiet = ends + self.policy["epoch"]
        if Fraction(measured, self.rate) >= Fraction(7, 8):
            self.ceiling = self.rate
            self.rate = ceil(self.rate * Fraction(64 - self.cut, 64))
            self.cut = min(8, 2 * self.cut)
            self.owe(price, 40)
        else:
            self.quiet += self.policy["epoch"] // 2
            self.ceiling = measured
            self.rate = max(ceil(Fraction(63 * measured, 64)), self.rate // 2)
            self.owe(price, 15)
        self.rate = max(self.rate, self.policy["min_rate"])
        self.step = 5
        self.begin(now, measured)

    def owe(self, price: int, epochs: int) -> None:
        calls = self.rate * (self.policy["epoch"] // 1000) // 10**6
        self.owed = min(max(self.policy["calls_per_refusal"], calls * epochs), self.owed + price)

    def grow(self, now: int, measured: int) -> None:
        if abs(self.rate - self.ceiling) <= self.ceiling // 32:
            self.step = 5
        elif self.step != 500:
            self.step = min(250, 2 * self.step)
        named = self.seen if now < self.seen_until else self.policy["max_rate"]
        grown = self.rate + max(1, floor(self.rate * Fraction(self.step, 1000)))
        self.rate = max(self.rate, min(grown, self.policy["max_rate"], named, 2 * measured))

    def begin(self, now: int, measured: int) -> None:
        self.begun, self.accepted, self.rate_before = now, 0, measured

    def control_limit(self, now: int, told: dict) -> None:
        self.samples += told["ok"]
        self.latency += told["latency"]
        if told["dropped"] and now >= self.limit_quiet:
            self.limit = max(self.policy["min_limit"], self.limit - max(1, self.limit // 8))
            self.limit_quiet = now + self.policy["epoch"]
            self.measuring = 0
            self.latency_begun, self.samples, self.latency = now, 0, 0
            return
        gone = now - self.latency_begun
        if gone < self.policy["epoch"] or self.samples < min(16, self.limit):
            return
        mean = max(1, self.latency // self.samples)
        under_way = self.latency // 7 >= gone // 8 * self.limit
        if not self.baseline or mean <= self.baseline or self.measuring:
            self.baseline, self.age = mean, 0
        elif mean > self.baseline + self.baseline // 16:
            self.age += 1
        limit = self.limit
        if self.measuring:
            limit, self.measuring = self.measuring, 0
        elif self.age >= 16:
            self.measuring, limit = limit, limit - limit // 4
        else:
            grown = ceil(Fraction(limit * max(self.baseline, mean // 2), mean)) + max(1, limit // 8)
            if grown < limit or under_way:
                limit = grown
        self.limit = max(self.policy["min_limit"], min(self.policy["max_limit"], limit))
        self.latency_begun, self.samples, self.latency = now, 0, 0
