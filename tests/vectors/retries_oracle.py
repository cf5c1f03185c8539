"""The oracle of retries.json: a call to a vendor as a generator that yields what it does next, and a budget of fractions."""

from __future__ import annotations

from collections.abc import Generator
from fractions import Fraction

NEVER = 2**64 - 1
# What the statuses of the vectors mean: whether to try again, whether the call may have taken effect, what a hold is
# about, and whether it is a limit that refused.
STATUSES = {
    200: (False, True, "credential", False),
    400: (False, False, "credential", False),
    429: (True, False, "credential", True),
    500: (True, True, "vendor", False),
    503: (True, False, "vendor", False),
}
# What the failures without a response mean: whether to try again, and whether the call may have taken effect.
FAILURES = {
    "not_sent": (True, False),
    "timed_out": (True, True),
    "broken": (True, True),
    "permanent": (False, False),
}

Step = dict[str, str]


class Budget:
    """Retries that calls save for each other; the reserve is lent."""

    def __init__(self, percent: int, reserve: int) -> None:
        self.saved, self.most, self.part = Fraction(reserve), Fraction(max(1, reserve)), Fraction(percent, 100)
        self.lent = Fraction(reserve)

    def call(self) -> None:
        paid = min(self.lent, self.part)
        self.lent -= paid
        self.saved = min(self.most, self.saved + self.part - paid) if paid < self.part else self.saved

    def take(self) -> bool:
        if self.saved < 1:
            return False
        self.saved -= 1
        return True


class GaveUp(Exception):
    """The call ends without another attempt."""


def steps_of(terms: dict, budget: Budget, at: int) -> Generator[Step, dict, Step]:
    """Yields each step, and is sent the event after it. It returns the last step."""
    deadline, retries, held, first = int(terms["deadline"]), 0, False, True

    def left() -> int:
        if at >= deadline:
            raise GaveUp("deadline")
        return NEVER if deadline == NEVER else deadline - at

    try:
        while True:
            if terms["permit"]:
                at = taken((yield {"do": "permit", "max_wait": str(left())}))
                held = True
            at = taken((yield {"do": "acquire", "max_wait": str(left())}))
            timeout = min(left(), int(terms["attempt_timeout"]))
            if first:
                budget.call()
                first = False
            event = yield {"do": "send", "timeout": str(timeout)}
            at = int(event["at"])
            hold = 0
            if event["event"] == "response":
                retry, effect, scope, refusal = STATUSES[event["status"]]
                hold = int(event["hold"])
            elif event["event"] == "failed":
                retry, effect = FAILURES[event["kind"]]
            else:
                raise GaveUp("cancelled")
            # It is decided at once, and told after the hold.
            reason, wait = None, 0
            if retry and not (terms["repeatable"] and (terms["idempotent"] or not effect)):
                reason = "unrepeatable"
            elif not retry:
                reason = "permanent"
            elif retries + 1 >= max(1, terms["attempts"]):
                reason = "attempts"
            else:
                bound = min(int(terms["base"]) * 2**retries, int(terms["longest"]))
                wait = hold + int(Fraction(int(event["random"]), 2**64) * (bound + 1))
                if at + wait >= deadline:
                    reason = "deadline"
                elif not (hold > 0 and refusal) and not budget.take():
                    reason = "budget"
                else:
                    retries += 1
            begin = at + wait
            if hold:
                at = done((yield {"do": "hold", "scope": scope, "duration": str(hold)}))
            if reason == "permanent" and event["event"] == "response":
                return {"do": "return"}
            if reason:
                raise GaveUp(reason)
            if held:
                held = False
                at = done((yield {"do": "release"}))
            if begin > at:
                at = done((yield {"do": "sleep", "duration": str(begin - at)}))
    except GaveUp as end:
        reason = str(end)
        if held:
            event = yield {"do": "release"}
            if event["event"] != "done":
                reason = "cancelled"
        return {"do": "give_up", "reason": reason}


def taken(event: dict) -> int:
    if event["event"] == "granted":
        return int(event["at"])
    raise GaveUp("slot" if event["event"] == "denied" else "cancelled")


def done(event: dict) -> int:
    if event["event"] == "done":
        return int(event["at"])
    raise GaveUp("cancelled")
