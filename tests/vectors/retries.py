"""The traces of retries.json: calls to a vendor, what becomes of their steps, and what they do next."""

from __future__ import annotations

import random
from collections.abc import Callable

from retries_oracle import FAILURES, NEVER, STATUSES, Budget, steps_of

SECOND = 10**9
MOST, HALF = 2**64 - 1, 2**63
ENDS = {"return", "give_up"}


class Trace:
    """Writes a trace down while the oracle answers it."""

    def __init__(self, name: str, percent: int = 10, reserve: int = 9) -> None:
        self.head = {"name": name, "percent": percent, "reserve": reserve}
        self.budget, self.calls, self.steps = Budget(percent, reserve), {}, []

    def start(self, call: str, at: int = 0, **given: object) -> Trace:
        terms = {
            "attempts": 5, "base": SECOND, "longest": 20 * SECOND, "deadline": NEVER, "attempt_timeout": NEVER,
            "permit": False, "repeatable": True, "idempotent": True,
        } | given  # fmt: skip
        written = {name: str(value) if type(value) is int and name != "attempts" else value for name, value in terms.items()}
        self.calls[call] = steps_of(written, self.budget, at)
        return self.write({"call": call, "event": "start", "at": str(at), "terms": written}, next)

    def then(self, call: str, event: str, at: int = 0, **more: object) -> Trace:
        step = {"call": call, "event": event, "at": str(at)} | more
        return self.write(step, lambda steps: steps.send(step))

    def respond(self, call: str, status: int, hold: int = 0, at: int = 0, word: int = HALF) -> Trace:
        return self.then(call, "response", at, status=status, hold=str(hold), random=str(word))

    def fail(self, call: str, kind: str, at: int = 0, word: int = HALF) -> Trace:
        return self.then(call, "failed", at, kind=kind, random=str(word))

    def sent(self, call: str, at: int = 0, **given: object) -> Trace:
        """A call that has been sent."""
        return self.start(call, at, **given).granted(call, at)

    def granted(self, call: str, at: int = 0) -> Trace:
        self.then(call, "granted", at)
        return self.then(call, "granted", at) if self.doing(call) == "acquire" else self

    def again(self, call: str, status: int = 503, hold: int = 0, at: int = 0, word: int = HALF) -> Trace:
        """Fails, does all that comes before the next attempt, and sends it; or ends."""
        self.respond(call, status, hold, at, word)
        while (doing := self.doing(call)) not in ENDS | {"send"}:
            if doing == "sleep":
                at += int(self.steps[-1]["step"]["duration"])
            self.then(call, "granted" if doing in {"permit", "acquire"} else "done", at)
        return self

    def doing(self, call: str) -> str:
        return next(step["step"]["do"] for step in reversed(self.steps) if step["call"] == call)

    def write(self, step: dict, advance: Callable) -> Trace:
        try:
            step["step"] = advance(self.calls[step["call"]])
        except StopIteration as end:
            step["step"] = end.value
        step["saved"] = int(self.budget.saved)
        self.steps.append(step)
        return self

    def written(self) -> dict[str, object]:
        return self.head | {"steps": self.steps}


def traces() -> list[dict[str, object]]:
    doubling = Trace("the bound doubles up to the longest").sent("a", attempts=9, longest=3 * SECOND)
    for word in (MOST, MOST, MOST, 0, HALF, 1):
        doubling.again("a", word=word)
    huge = Trace("bounds that do not fit", 100, 99).sent("a", attempts=100, base=MOST, longest=MOST)
    for _ in range(70):
        huge.again("a", word=2**20)
    saving = Trace("ten calls save a retry, once they have paid for the reserve", 10, 1).sent("a").again("a").again("a")
    for number in range(19):
        saving.sent(f"b{number}").again(f"b{number}")
    empty = Trace("an empty reserve saves one", 50, 0).sent("a").again("a").sent("b").again("b")
    for name in "cdefg":
        empty.sent(name).again(name)
    by_hand = [
        Trace("a call that succeeds").sent("a").respond("a", 200),
        Trace("a call that is wrong is the caller's").sent("a").respond("a", 400),
        doubling,
        Trace("attempts count the first").sent("a", attempts=3).again("a").again("a").again("a"),
        Trace("no attempts are one").sent("a", attempts=0).again("a"),
        Trace("a hold is stored before the wait").sent("a").respond("a", 429, 7 * SECOND, word=0).then("a", "done").then("a", "done", 7 * SECOND).granted("a", 9 * SECOND).respond("a", 200, at=9 * SECOND),
        Trace("a hold is stored when the call gives up").sent("a", attempts=1).respond("a", 429, 7 * SECOND).then("a", "done"),
        Trace("a hold is stored when the call can't be repeated").sent("a", repeatable=False).respond("a", 429, 7 * SECOND).then("a", "done"),
        Trace("storing a hold is a part of the wait").sent("a").respond("a", 429, 2 * SECOND, word=0).then("a", "done", SECOND).then("a", "done", 2 * SECOND),
        Trace("storing a hold may take all of the wait").sent("a").respond("a", 429, 2 * SECOND, word=0).then("a", "done", 3 * SECOND),
        Trace("a refusal with a hold costs the budget nothing", 10, 1).sent("a").again("a", 429, SECOND).again("a", 429, SECOND).again("a", 429, 0).again("a", 429, 0),
        Trace("a refusal without a hold costs the budget", 10, 1).sent("a").again("a", 429).again("a", 429),
        Trace("a retry may not begin at the deadline").sent("a", base=0, deadline=10 * SECOND).again("a", 429, 4 * SECOND - 1, 6 * SECOND).sent("b", base=0, deadline=10 * SECOND).again("b", 429, 4 * SECOND, 6 * SECOND),
        Trace("a stale call takes nothing").start("a", 10, deadline=10),
        Trace("a slot that comes at the deadline is not used").start("a", 4, deadline=10).then("a", "granted", 10),
        Trace("a permit that comes at the deadline goes back").start("a", 4, deadline=10, permit=True).then("a", "granted", 10).then("a", "done", 10),
        Trace("a slot that is too far").start("a", 4, deadline=10).then("a", "denied", 4),
        Trace("a slot that is too far gives the permit back").start("a", 4, deadline=10, permit=True).then("a", "granted", 5).then("a", "denied", 6).then("a", "done", 6),
        Trace("an attempt takes what is left at most").sent("a", 4, deadline=10, attempt_timeout=9).sent("b", 4, deadline=10, attempt_timeout=5).sent("c", 4, attempt_timeout=5).sent("d", 4),
        Trace("a permit goes back before the wait").sent("a", permit=True).respond("a", 503).then("a", "done").then("a", "done", SECOND).granted("a", SECOND).respond("a", 200, at=SECOND),
        Trace("a fault is not repeated where it may have an effect").sent("a", idempotent=False).respond("a", 500).sent("b", idempotent=False).respond("b", 503),
        *(Trace(f"a failure: {kind}").sent("a").fail("a", kind).sent("b", idempotent=False).fail("b", kind).sent("c", repeatable=False).fail("c", kind) for kind in FAILURES),
        Trace("a caller that leaves").start("a").then("a", "cancelled").sent("b").then("b", "cancelled").sent("c", permit=True).then("c", "cancelled").then("c", "done").sent("d").respond("d", 503).then("d", "cancelled").start("e", permit=True).then("e", "cancelled"),
        Trace("an event out of order ends the call").start("a").then("a", "done").sent("b").then("b", "granted").sent("c").respond("c", 429, SECOND).then("c", "denied"),
        saving,
        Trace("a budget of nothing gives its reserve", 0, 2).sent("a").sent("b").again("a").again("b").again("a"),
        empty,
        huge,
    ]  # fmt: skip
    return [trace.written() for trace in by_hand] + [random_trace(number) for number in range(30)]


def random_trace(number: int) -> dict[str, object]:
    dice = random.Random(number)
    trace = Trace(f"random {number}", dice.choice([0, 10, 10, 20, 100]), dice.randint(0, 5))
    at, count = 0, 0
    for _ in range(60):
        at += dice.randint(0, SECOND // 2)
        open_calls = [call for call in trace.calls if trace.doing(call) not in ENDS]
        if not open_calls or (len(open_calls) < 4 and dice.random() < 0.3):
            trace.start(
                f"c{count}", at,
                attempts=dice.randint(1, 6),
                base=dice.choice([0, 1, 50 * 10**6, SECOND]),
                longest=dice.choice([1, SECOND, 20 * SECOND]),
                deadline=dice.choice([NEVER, at + dice.randint(1, 20) * SECOND]),
                attempt_timeout=dice.choice([NEVER, SECOND]),
                permit=dice.random() < 0.4, repeatable=dice.random() < 0.9, idempotent=dice.random() < 0.8,
            )  # fmt: skip
            count += 1
            continue
        call = dice.choice(open_calls)
        doing = trace.doing(call)
        if dice.random() < 0.03:
            trace.then(call, "cancelled", at)
        elif doing in {"permit", "acquire"}:
            trace.then(call, "granted" if dice.random() < 0.9 else "denied", at)
        elif doing != "send":
            trace.then(call, "done", at)
        elif dice.random() < 0.2:
            trace.fail(call, dice.choice(list(FAILURES)), at, dice.getrandbits(64))
        else:
            status = dice.choice([*STATUSES, 429, 503, 503])
            hold = dice.choice([0, 250 * 10**6, 5 * SECOND]) if status > 400 else 0
            trace.respond(call, status, hold, at, dice.getrandbits(64))
    return trace.written()
