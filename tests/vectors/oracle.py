"""A token bucket anyone can read, against which the engine's numbers are made.

It knows nothing of theoretical arrival times: a bucket is a level of tokens and
the time it was looked at, in exact fractions. It refills, it is drawn from.
"""

from fractions import Fraction
from math import ceil, floor

SECOND = 10**9


class Bucket:
    """A bucket of `burst` tokens that begins full."""

    def __init__(self, tokens: int, period: int, burst: int, stepped: bool) -> None:
        self.tokens, self.period, self.burst, self.stepped = tokens, period, burst, stepped
        # A smooth token takes a whole number of nanoseconds, so that the rate
        # is never exceeded.
        self.width = ceil(Fraction(period, tokens))
        self.level = Fraction(burst)
        self.seen = 0

    def refilled(self, since: int, until: int) -> Fraction:
        """Tokens that arrive between two times; negative when time runs back."""
        if self.stepped:
            return Fraction((until // self.period - since // self.period) * self.tokens)
        return Fraction(until - since, self.width)

    def look(self, now: int) -> Fraction:
        return min(Fraction(self.burst), self.level + self.refilled(self.seen, now))

    def draw(self, now: int, cost: int) -> None:
        self.level, self.seen = self.look(now) - cost, now

    def time_until(self, now: int, wanted: Fraction) -> int:
        """The least wait after which the level is `wanted` if nobody draws."""
        missing = wanted - self.look(now)
        if missing <= 0:
            return 0
        if self.stepped:
            steps = ceil(missing / self.tokens)
            return (now // self.period + steps) * self.period - now
        return ceil(missing * self.width)


class Tiers:
    """Buckets that all must allow, or none is drawn from."""

    def __init__(self, buckets: list[Bucket]) -> None:
        self.buckets = buckets

    def check(self, now: int, cost: int) -> dict[str, object] | str:
        if any(cost > bucket.burst for bucket in self.buckets):
            return "cost_too_large"
        waits = [bucket.time_until(now, Fraction(cost)) if cost else 0 for bucket in self.buckets]
        allowed = not any(waits)
        if allowed and cost:
            for bucket in self.buckets:
                bucket.draw(now, cost)
        remaining = [max(0, floor(bucket.look(now))) for bucket in self.buckets]
        if allowed:
            tier = remaining.index(min(remaining))
        else:
            tier = waits.index(max(waits))
        bucket = self.buckets[tier]
        return {
            "allowed": allowed,
            "limit": bucket.burst,
            "remaining": remaining[tier],
            "retry_after": str(waits[tier]),
            "reset_after": str(bucket.time_until(now, Fraction(bucket.burst))),
            "tier": tier,
        }
