"""Concurrency permits that expire, as plain lists: who holds one, and who waits in which order.

It is written from the documentation, and shares nothing with the engine.
"""

from dataclasses import dataclass, field


@dataclass
class Permits:
    """The permits of one key. Times are nanoseconds."""

    holders: dict[str, int] = field(default_factory=dict)
    waiting: list[list] = field(default_factory=list)  # [name, until], in order of arrival

    def ask(self, now: int, what: str, name: str, terms: dict[str, int]) -> dict[str, object]:
        """What becomes of a caller, and how many hold and wait afterwards."""
        self.holders = {other: until for other, until in self.holders.items() if until > now}
        self.waiting = [place for place in self.waiting if place[1] > now]
        answer = self.answer(now, what, name, terms)
        return {**answer, "live": len(self.holders), "line": len(self.waiting)}

    def answer(self, now: int, what: str, name: str, terms: dict[str, int]) -> dict[str, object]:
        place = next((at for at, (other, _) in enumerate(self.waiting) if other == name), None)
        if what == "leave":
            was_here = self.holders.pop(name, None) is not None or place is not None
            self.waiting = [other for other in self.waiting if other[0] != name]
            return {"answer": "left" if was_here else "not_here"}
        if name in self.holders:
            self.holders[name] = max(self.holders[name], now + terms["ttl"])
            return {"answer": "entered"}
        if what == "renew":
            return {"answer": "lost"}
        ahead = len(self.waiting) if place is None else place
        if len(self.holders) + ahead < terms["limit"]:
            self.waiting = [other for other in self.waiting if other[0] != name]
            self.holders[name] = now + terms["ttl"]
            return {"answer": "entered"}
        if what == "try" or (place is None and ahead >= terms["max_waiting"]):
            return {"answer": "full"}
        if place is None:
            self.waiting.append([name, now + terms["wait"]])
        else:
            self.waiting[place][1] = max(self.waiting[place][1], now + terms["wait"])
        return {"answer": "waiting", "ahead": ahead}
