"""A token bucket anyone can read, against which the engine's numbers are made.

It knows nothing of theoretical arrival times: a bucket is a level of tokens and
the time it was looked at, in exact fractions. It refills, it is drawn from.
"""

from fractions import Fraction
from math import ceil, floor

SECOND = 10**9
# No operation makes a bucket owe more nanoseconds of refill, or more tokens when stepped.
MAX_SPAN = 2**53
# A duration beyond 64 bits is told as the last of them.
LAST = 2**64 - 1


class Bucket:
    """A bucket of `burst` tokens that begins full."""

    def __init__(self, tokens: int, period: int, burst: int, stepped: bool) -> None:
        self.tokens, self.period, self.burst, self.stepped = tokens, period, burst, stepped
        # A smooth token takes a whole number of nanoseconds, so that the rate
        # is never exceeded.
        self.width = ceil(Fraction(period, tokens))
        self.most_owed = Fraction(MAX_SPAN, 1 if stepped else self.width)
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

    def time_until_owing_after(self, now: int, slot: int, cost: int) -> int:
        """The least wait after which a draw at `slot` leaves no more owed than may be."""
        drawn = Bucket(self.tokens, self.period, self.burst, self.stepped)
        drawn.level, drawn.seen = self.look(slot) - cost, slot
        return drawn.time_until(now, self.burst - self.most_owed)

    def lower_to(self, now: int, level: Fraction) -> None:
        """Lowers the level, as far as a bucket may owe; never raises it."""
        level = max(level, self.burst - self.most_owed)
        if level < self.look(now):
            self.level, self.seen = level, now

    def give_back(self, now: int, tokens: int) -> None:
        if tokens and self.look(now) < self.burst:
            self.level, self.seen = min(Fraction(self.burst), self.look(now) + tokens), now

    def hold(self, now: int, wait: int) -> None:
        if self.stepped:
            # Nothing before the step; the step brings what every step brings.
            end, there = ceil(Fraction(now + wait, self.period)) * self.period, Fraction(self.tokens)
        else:
            end, there = now + wait, Fraction(1)
        self.lower_to(now, there - self.refilled(now, end))

    def state(self) -> tuple[Fraction, int]:
        return self.level, self.seen

    def is_as(self, state: tuple[Fraction, int]) -> bool:
        """Whether it was left so: a level and a time on the same line of refill."""
        level, seen = state
        return self.level == level + self.refilled(seen, self.seen)

    def is_full_after(self, now: int, state: tuple[Fraction, int]) -> bool:
        """Whether it is full, and would be as it was left then."""
        level, seen = state
        return self.look(now) == self.burst and level + self.refilled(seen, now) >= self.burst

    def under(self, limit: tuple[int, int, int, bool], now: int) -> "Bucket":
        """The bucket under another limit: it owes the same tokens, rounded up to
        whole ones where the new tokens are of another width."""
        if (self.tokens, self.period, self.stepped) == (limit[0], limit[1], limit[3]):
            changed = Bucket(*limit)
            changed.level = self.level + changed.burst - self.burst
            changed.seen = self.seen
            return changed
        changed, owed = Bucket(*limit), self.burst - self.look(now)
        if self.stepped or changed.stepped or self.width != changed.width:
            owed = Fraction(ceil(owed))
        if owed:
            changed.lower_to(now, changed.burst - owed)
        return changed


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
        remaining = [self.remaining(now, tier) for tier in range(len(self.buckets))]
        tier = remaining.index(min(remaining)) if allowed else waits.index(max(waits))
        return self.answer(now, tier, allowed, waits[tier])

    def reserve(self, now: int, cost: int, max_wait: int) -> dict[str, object] | str:
        """As check, but the tokens may be those of a time at most max_wait away."""
        if any(cost > bucket.burst for bucket in self.buckets):
            return "cost_too_large"
        if cost == 0:
            return {**self.check(now, 0), "delay": "0"}
        delays = [bucket.time_until(now, Fraction(cost)) for bucket in self.buckets]
        # Waiting brings the slot nearer, and what is owed down.
        slot = now + max(delays)
        if slot > LAST:
            return self.answer(now, 0, allowed=False, retry_after=LAST)
        retries = [
            max(0, delay - max_wait, bucket.time_until_owing_after(now, slot, cost))
            for bucket, delay in zip(self.buckets, delays, strict=True)
        ]
        if any(retries):
            tier = retries.index(max(retries))
            return self.answer(now, tier, allowed=False, retry_after=retries[tier])
        for bucket in self.buckets:
            bucket.draw(slot, cost)
        binding = [(-delay, self.remaining(now, tier)) for tier, delay in enumerate(delays)]
        tier = binding.index(min(binding))
        return {**self.answer(now, tier), "delay": str(max(delays))}

    def settle(self, now: int, charged: int, actual: int) -> dict[str, object]:
        for bucket in self.buckets:
            if actual > charged:
                bucket.lower_to(now, bucket.look(now) - (actual - charged))
            else:
                bucket.give_back(now, charged - actual)
        return self.check(now, 0)

    def credit(self, now: int, tokens: int) -> dict[str, object]:
        for bucket in self.buckets:
            bucket.give_back(now, tokens)
        return self.check(now, 0)

    def hold(self, now: int, wait: int) -> dict[str, object]:
        for bucket in self.buckets:
            bucket.hold(now, wait)
        return self.check(now, 0)

    def change(self, now: int, limits: list[tuple[int, int, int, bool]]) -> dict[str, object]:
        carried = [bucket.under(limit, now) for bucket, limit in zip(self.buckets, limits, strict=False)]
        self.buckets = carried + [Bucket(*limit) for limit in limits[len(carried):]]
        return self.check(now, 0)

    def states(self) -> list[tuple[Fraction, int]]:
        return [bucket.state() for bucket in self.buckets]

    def cancel(
        self, now: int, before: list[tuple[Fraction, int]], after: list[tuple[Fraction, int]]
    ) -> bool:
        """A bucket that is as the reservation left it becomes as it found it. One that time has
        filled since, and would have without those who came after, has all of it back too."""
        last = [bucket.is_as(state) for bucket, state in zip(self.buckets, after, strict=True)]
        paid = [bucket.is_full_after(now, state) for bucket, state in zip(self.buckets, after, strict=True)]
        for bucket, state, restore in zip(self.buckets, before, last, strict=True):
            if restore:
                bucket.level, bucket.seen = state
        return all(one or other for one, other in zip(last, paid, strict=True))

    def remaining(self, now: int, tier: int) -> int:
        return max(0, floor(self.buckets[tier].look(now)))

    def answer(self, now: int, tier: int, allowed: bool = True, retry_after: int = 0) -> dict[str, object]:
        bucket = self.buckets[tier]
        return {
            "allowed": allowed,
            "limit": bucket.burst,
            "remaining": self.remaining(now, tier),
            "retry_after": str(min(retry_after, LAST)),
            "reset_after": str(min(bucket.time_until(now, Fraction(bucket.burst)), LAST)),
            "tier": tier,
        }
