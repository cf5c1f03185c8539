"""A naive token bucket that is easy to read. Its answers are the expected ones in the vectors.

It knows nothing of theoretical arrival times: a bucket is a level of tokens, in exact fractions, and
the time at which it had that level. It refills, and is drawn from.
"""

from fractions import Fraction
from math import ceil, floor

SECOND = 10**9
# No operation makes a bucket owe more than this: nanoseconds of refill, or tokens when stepped.
MAX_SPAN = 2**53
# A duration beyond 64 bits is answered as the largest number of 64 bits.
LAST = 2**64 - 1


# Tokens of a call: one number for every limit, or one for each.
Tokens = int | list[int]


class Bucket:
    """A bucket of `burst` tokens, full at first."""

    def __init__(self, tokens: int, period: int, burst: int, stepped: bool) -> None:
        self.tokens, self.period, self.burst, self.stepped = tokens, period, burst, stepped
        # A smooth token takes a whole number of nanoseconds, so that the rate
        # is never exceeded.
        self.width = ceil(Fraction(period, tokens))
        self.most_owed = Fraction(MAX_SPAN, 1 if stepped else self.width)
        self.level = Fraction(burst)
        self.seen = 0

    def refilled(self, since: int, until: int) -> Fraction:
        """The tokens that arrive between two times; negative when time runs back."""
        if self.stepped:
            return Fraction((until // self.period - since // self.period) * self.tokens)
        return Fraction(until - since, self.width)

    def look(self, now: int) -> Fraction:
        return min(Fraction(self.burst), self.level + self.refilled(self.seen, now))

    def draw(self, now: int, cost: int) -> None:
        self.level, self.seen = self.look(now) - cost, now

    def time_until(self, now: int, wanted: Fraction) -> int:
        """The shortest wait after which the level is `wanted` if nothing is drawn."""
        missing = wanted - self.look(now)
        if missing <= 0:
            return 0
        if self.stepped:
            steps = ceil(missing / self.tokens)
            return (now // self.period + steps) * self.period - now
        return ceil(missing * self.width)

    def time_until_owing_after(self, now: int, slot: int, cost: int) -> int:
        """The shortest wait after which a draw at `slot` leaves no more debt than a bucket may owe."""
        drawn = Bucket(self.tokens, self.period, self.burst, self.stepped)
        drawn.level, drawn.seen = self.look(slot) - cost, slot
        return drawn.time_until(now, self.burst - self.most_owed)

    def lower_to(self, now: int, level: Fraction) -> None:
        """Lowers the level, at most to the largest debt; never raises it."""
        level = max(level, self.burst - self.most_owed)
        if level < self.look(now):
            self.level, self.seen = level, now

    def give_back(self, now: int, tokens: int) -> None:
        if tokens and self.look(now) < self.burst:
            self.level, self.seen = min(Fraction(self.burst), self.look(now) + tokens), now

    def hold(self, now: int, wait: int) -> None:
        if self.stepped:
            # There is no token before the step, which brings its usual tokens.
            end, level = ceil(Fraction(now + wait, self.period)) * self.period, Fraction(self.tokens)
        else:
            end, level = now + wait, Fraction(1)
        self.lower_to(now, level - self.refilled(now, end))

    def state(self) -> tuple[Fraction, int]:
        return self.level, self.seen

    def is_as(self, state: tuple[Fraction, int]) -> bool:
        """Whether the bucket has not changed since `state` but by refill."""
        level, seen = state
        return self.level == level + self.refilled(seen, self.seen)

    def is_full_after(self, now: int, state: tuple[Fraction, int]) -> bool:
        """Whether the bucket is full, and would be full if it had not changed since `state`."""
        level, seen = state
        return self.look(now) == self.burst and level + self.refilled(seen, now) >= self.burst

    def under(self, limit: tuple[int, int, int, bool], now: int) -> "Bucket":
        """The bucket under another limit. It owes the same number of tokens, rounded up to whole tokens
        if the new limit's tokens have another width."""
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
    """The buckets of several limits: all allow, or none is drawn from."""

    def __init__(self, buckets: list[Bucket]) -> None:
        self.buckets = buckets

    def of_each(self, tokens: Tokens) -> list[tuple[Bucket, int]]:
        """The buckets, each with its number."""
        numbers = tokens if isinstance(tokens, list) else [tokens] * len(self.buckets)
        return list(zip(self.buckets, numbers, strict=True))

    def mistake(self, *given: Tokens, is_cost: bool = True) -> str | None:
        """The error of a call with these tokens, if it is one."""
        if any(isinstance(tokens, list) and len(tokens) != len(self.buckets) for tokens in given):
            return "invalid_argument"
        too_large = is_cost and any(cost > bucket.burst for tokens in given for bucket, cost in self.of_each(tokens))
        return "cost_too_large" if too_large else None

    def check(self, now: int, cost: Tokens) -> dict[str, object] | str:
        if error := self.mistake(cost):
            return error
        # A bucket that nothing is wanted of is not asked.
        waits = [bucket.time_until(now, Fraction(cost)) if cost else 0 for bucket, cost in self.of_each(cost)]
        allowed = not any(waits)
        for bucket, drawn in self.of_each(cost):
            if allowed and drawn:
                bucket.draw(now, drawn)
        remaining = [self.remaining(now, tier) for tier in range(len(self.buckets))]
        tier = remaining.index(min(remaining)) if allowed else waits.index(max(waits))
        return self.answer(now, tier, allowed, waits)

    def peek(self, now: int, cost: Tokens) -> dict[str, object] | str:
        """The answer of a check that is then undone."""
        states = self.states()
        answer = self.check(now, cost)
        for bucket, state in zip(self.buckets, states, strict=True):
            bucket.level, bucket.seen = state
        return answer

    def reserve(self, now: int, cost: Tokens, max_wait: int) -> dict[str, object] | str:
        """Checks for tokens that come at most max_wait from now, and draws them at that time."""
        if error := self.mistake(cost):
            return error
        if not any(drawn for _, drawn in self.of_each(cost)):
            return {**self.check(now, 0), "delay": "0"}
        delays = [bucket.time_until(now, Fraction(cost)) if cost else 0 for bucket, cost in self.of_each(cost)]
        # While one waits, the slot comes nearer and debts go down.
        slot = now + max(delays)
        if slot > LAST:
            return self.answer(now, 0, allowed=False, waits=[LAST] * len(self.buckets))
        retries = [
            max(0, delay - max_wait, bucket.time_until_owing_after(now, slot, drawn)) if drawn else 0
            for (bucket, drawn), delay in zip(self.of_each(cost), delays, strict=True)
        ]
        if any(retries):
            tier = retries.index(max(retries))
            return self.answer(now, tier, allowed=False, waits=retries)
        for bucket, drawn in self.of_each(cost):
            if drawn:
                bucket.draw(slot, drawn)
        binding = [(-delay, self.remaining(now, tier)) for tier, delay in enumerate(delays)]
        tier = binding.index(min(binding))
        return {**self.answer(now, tier), "delay": str(max(delays))}

    def settle(self, now: int, charged: Tokens, actual: Tokens) -> dict[str, object] | str:
        if error := self.mistake(charged, actual, is_cost=False):
            return error
        for (bucket, taken), (_, used) in zip(self.of_each(charged), self.of_each(actual), strict=True):
            if used > taken:
                bucket.lower_to(now, bucket.look(now) - (used - taken))
            else:
                bucket.give_back(now, taken - used)
        return self.check(now, 0)

    def credit(self, now: int, tokens: Tokens) -> dict[str, object] | str:
        if error := self.mistake(tokens, is_cost=False):
            return error
        for bucket, back in self.of_each(tokens):
            bucket.give_back(now, back)
        return self.check(now, 0)

    def hold(self, now: int, wait: int) -> dict[str, object]:
        for bucket in self.buckets:
            bucket.hold(now, wait)
        return self.check(now, 0)

    def change(self, now: int, limits: list[tuple[int, int, int, bool]]) -> dict[str, object]:
        converted = [bucket.under(limit, now) for bucket, limit in zip(self.buckets, limits, strict=False)]
        self.buckets = converted + [Bucket(*limit) for limit in limits[len(converted):]]
        return self.check(now, 0)

    def states(self) -> list[tuple[Fraction, int]]:
        return [bucket.state() for bucket in self.buckets]

    def cancel(
        self, now: int, before: list[tuple[Fraction, int]], after: list[tuple[Fraction, int]]
    ) -> bool:
        """A bucket that is as the reservation left it becomes what it was before. From a bucket that time
        has filled since, and would have filled without the later charges, all came back too."""
        # Nothing is to come back from a bucket that it did not draw from.
        last = [
            drawn_to == state or bucket.is_as(drawn_to)
            for bucket, state, drawn_to in zip(self.buckets, before, after, strict=True)
        ]
        paid = [bucket.is_full_after(now, state) for bucket, state in zip(self.buckets, after, strict=True)]
        for bucket, state, drawn_to, restore in zip(self.buckets, before, after, last, strict=True):
            if restore and drawn_to != state:
                bucket.level, bucket.seen = state
        return all(one or other for one, other in zip(last, paid, strict=True))

    def remaining(self, now: int, tier: int) -> int:
        return max(0, floor(self.buckets[tier].look(now)))

    def answer(self, now: int, tier: int, allowed: bool = True, waits: list[int] | None = None) -> dict[str, object]:
        """The answer of the binding tier, with what each tier says where there are several."""
        waits = waits or [0] * len(self.buckets)
        each = [self.said_by(now, place, wait) for place, wait in enumerate(waits)]
        answer: dict[str, object] = {"allowed": allowed, **each[tier]}
        return {**answer, "tiers": each} if len(each) > 1 else answer

    def said_by(self, now: int, tier: int, wait: int) -> dict[str, object]:
        bucket = self.buckets[tier]
        return {
            "limit": bucket.burst,
            "remaining": self.remaining(now, tier),
            "retry_after": str(min(wait, LAST)),
            "reset_after": str(min(bucket.time_until(now, Fraction(bucket.burst)), LAST)),
            "tier": tier,
        }


class WithWords:
    """The answers of limits of which some are the words `unlimited` and `none`.

    `none` refuses whatever costs something. Without it, `unlimited` allows all that the other
    limits allow, and the answer is theirs; where there are none, it allows everything.
    """

    def __init__(self, texts: list[str], buckets: dict[str, Bucket]) -> None:
        self.count = len(texts)
        self.none = texts.index("none") if "none" in texts else None
        self.places = [place for place, text in enumerate(texts) if text in buckets]
        self.rest = Tiers([buckets[texts[place]] for place in self.places])

    def run(self, operation: str, now: int, *numbers: int) -> dict[str, object] | str:
        if self.none is None and self.places:
            if operation in ("check", "peek", "reserve"):
                numbers = (self.of_rest(numbers[0]), *numbers[1:])
            answer = getattr(self.rest, operation)(now, *numbers)
            if not isinstance(answer, str):
                self.place(answer)
            return answer
        cost = numbers[0] if operation in ("check", "peek", "reserve") else 0
        is_free = not any(cost) if isinstance(cost, list) else cost == 0
        allowed = is_free or self.none is None
        if self.none is None:
            answer = {"allowed": allowed, **self.unlimited(0)}
            each = [self.unlimited(place) for place in range(self.count)]
        else:
            retry_after = "0" if allowed else str(LAST)
            said = {"limit": 0, "remaining": 0, "retry_after": retry_after, "reset_after": str(LAST), "tier": self.none}
            # The buckets of the limits beside it are not asked.
            answer, each = {"allowed": allowed, **said}, [said]
        if self.count > 1:
            answer["tiers"] = each
        return {**answer, "delay": "0"} if operation == "reserve" and allowed else answer

    def place(self, answer: dict[str, object]) -> None:
        """Gives the answer of the limits with buckets the places of all, and adds those without."""
        said = answer.get("tiers") or [{key: answer[key] for key in ("limit", "remaining", "retry_after", "reset_after")}]
        answer["tier"] = self.places[answer["tier"]]
        each = {place: {**tier, "tier": place} for place, tier in zip(self.places, said, strict=True)}
        if self.count > 1:
            answer["tiers"] = [each.get(place) or self.unlimited(place) for place in range(self.count)]

    def unlimited(self, place: int) -> dict[str, object]:
        return {"limit": LAST, "remaining": LAST, "retry_after": "0", "reset_after": "0", "tier": place}

    def of_rest(self, cost: int | list[int]) -> int | list[int]:
        """The costs of the limits that have buckets, of a cost for each."""
        if not isinstance(cost, list) or len(cost) != self.count:
            return cost
        return [cost[place] for place in self.places]
