"""A naive waiting line that is easy to read. Its answers are the expected ones in waiting.json.

It keeps every token that has been promised as an entry of its own in a list, each with the time at
which it may be spent, and finds out who gets which by counting from the front. Its buckets are those of
`oracle.py`.
"""

from dataclasses import dataclass, field

from oracle import LAST, Bucket, Tiers


@dataclass
class Slot:
    """Tokens that were drawn from the buckets together, for a time to come."""

    times: list[int]
    states: tuple[list, list]
    # Whether it must stay, because a token of it has gone or others have drawn after it.
    is_fixed: bool = False
    # Whether the buckets were held after it had been drawn.
    is_before_hold: bool = False

    @property
    def at(self) -> int:
        return self.times[-1]


@dataclass
class Caller:
    id: str
    cost: int
    deadline: int


@dataclass
class Line:
    """The callers of one key, and the buckets for which they wait."""

    limits: list[tuple[int, int, int, bool]]
    max_waiting: int = 10_000
    now: int = 0
    callers: list[Caller] = field(default_factory=list)
    slots: list[Slot] = field(default_factory=list)
    in_hand: int = 0
    held_until: int = 0
    is_closed: bool = False
    outcomes: dict[str, dict[str, str]] = field(default_factory=dict)
    reservations: dict[str, tuple[int, int, tuple]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tiers = Tiers([Bucket(*limit) for limit in self.limits])
        # The tokens of one smooth limit come one by one. Those of others come together.
        first = self.tiers.buckets[0]
        self.width = 0 if len(self.limits) > 1 or first.stepped else first.width

    # --- what can be asked -------------------------------------------------------------------------

    @property
    def wanted(self) -> int:
        return sum(caller.cost for caller in self.callers)

    @property
    def promised(self) -> list[int]:
        """When each token comes, in order. Those in hand have come."""
        return [0] * self.in_hand + [at for slot in self.slots for at in slot.times]

    def waiting(self) -> dict[str, object]:
        if not self.callers:
            return {"callers": 0, "tokens": 0, "until": "0"}
        last = self.promised[self.wanted - 1]
        return {"callers": len(self.callers), "tokens": self.wanted, "until": str(max(0, last - self.now))}

    def next_due(self) -> int | None:
        """When somebody is served next, or a token passes for which nobody waits."""
        if not self.slots:
            return None
        missing = self.callers[0].cost - self.in_hand if self.callers else LAST
        times = self.slots[0].times
        return times[min(missing, len(times)) - 1]

    # --- time --------------------------------------------------------------------------------------

    def run_to(self, time: int) -> None:
        """Hands out all tokens that come by then."""
        while (due := self.next_due()) is not None and due <= time:
            self.now = max(self.now, due)
            slot = self.slots[0]
            missing = self.callers[0].cost - self.in_hand if self.callers else len(slot.times)
            gone = min(missing, len(slot.times))
            slot.times, slot.is_fixed = slot.times[gone:], True
            self.in_hand += gone
            if not slot.times:
                self.slots.pop(0)
            self.serve()
        self.now = max(self.now, time)

    def serve(self) -> None:
        while self.callers and self.callers[0].cost <= self.in_hand:
            caller = self.callers.pop(0)
            self.in_hand -= caller.cost
            self.outcomes[caller.id] = {"served": str(self.now)}
        if not self.callers:
            # Tokens that have come are lost when nobody waits.
            self.in_hand = 0

    # --- events ------------------------------------------------------------------------------------

    def arrive(self, id: str, cost: int, timeout: int | None) -> None:
        if self.is_closed:
            self.outcomes[id] = {"closed": str(self.now)}
            return
        if not self.callers and self.tiers.check(self.now, cost)["allowed"]:
            self.outcomes[id] = {"served": str(self.now)}
            return
        deadline = LAST if timeout is None else self.now + timeout
        if len(self.callers) >= self.max_waiting:
            self.refuse(id, max(1, self.slots[-1].at - self.now))
            return
        self.callers.append(Caller(id, cost, deadline))
        missing = self.wanted - len(self.promised)
        if missing > 0:
            self.reserve_for(self.callers[-1], missing)
        elif (at := self.promised[self.wanted - 1]) > deadline:
            # Others have left the tokens, but too late ones.
            self.callers.pop()
            self.refuse(id, at - deadline)
        self.serve()

    def leave(self, id: str) -> None:
        if any(caller.id == id for caller in self.callers):
            self.callers = [caller for caller in self.callers if caller.id != id]
            self.outcomes[id] = {"left": str(self.now)}
            # Tokens that have come for it may be enough for those behind it.
            self.serve()
            self.run_to(self.now)
            self.give_up_surplus()

    def settle(self, charged: int, actual: int) -> None:
        taken = self.hand_back(charged - actual)
        self.tiers.settle(self.now, charged - taken, actual)

    def credit(self, tokens: int) -> None:
        taken = self.hand_back(tokens)
        self.tiers.credit(self.now, tokens - taken)

    def hand_back(self, tokens: int) -> int:
        """Gives tokens to those who wait, and answers how many they take."""
        if self.now < self.held_until:
            return 0
        taken = max(0, min(tokens, self.wanted - self.in_hand))
        self.in_hand += taken
        self.serve()
        self.run_to(self.now)
        self.give_up_surplus()
        return taken

    def hold(self, wait: int) -> None:
        self.tiers.hold(self.now, wait)
        if (not self.callers and not self.slots) or self.now + wait <= self.held_until:
            return
        self.held_until = self.now + wait
        # No token that comes before the end of the hold is spent.
        self.in_hand = 0
        for slot in self.slots:
            slot.is_before_hold = True
            kept = [at for at in slot.times if at >= self.held_until]
            slot.is_fixed |= len(kept) < len(slot.times)
            slot.times = kept
        self.slots = [slot for slot in self.slots if slot.times]
        self.refuse_late()
        self.reserve_missing()
        self.run_to(self.now)
        self.give_up_surplus()

    def reset(self) -> None:
        self.tiers = Tiers([Bucket(*limit) for limit in self.limits])
        self.held_until, self.slots = 0, []
        self.reserve_missing()
        self.run_to(self.now)

    def reserve(self, name: str, cost: int, max_wait: int) -> bool:
        """A reservation beside the line."""
        before = self.tiers.states()
        answer = self.tiers.reserve(self.now, cost, max_wait)
        if answer["allowed"]:
            states = (before, self.tiers.states())
            self.reservations[name] = (self.now + int(answer["delay"]), cost, states)
        return answer["allowed"]

    def cancel(self, name: str) -> None:
        at, cost, states = self.reservations.pop(name)
        at = max(at, self.now)
        if not self.callers or at < self.held_until:
            self.tiers.cancel(self.now, *states)
            return
        self.insert(Slot(self.times(at, cost), states, is_before_hold=True))
        self.run_to(self.now)
        self.give_up_surplus()

    def check(self, cost: int) -> bool:
        return self.tiers.check(self.now, cost)["allowed"]

    def close(self) -> None:
        for caller in self.callers:
            self.outcomes[caller.id] = {"closed": str(self.now)}
        self.callers, self.in_hand, self.is_closed = [], 0, True
        self.give_up_surplus()

    # --- slots -------------------------------------------------------------------------------------

    def times(self, at: int, tokens: int) -> list[int]:
        """When each of the tokens of a slot may be spent."""
        return [at - (tokens - 1 - place) * self.width for place in range(tokens)]

    def insert(self, slot: Slot) -> None:
        later = [place for place, other in enumerate(self.slots) if other.at > slot.at]
        kept = [at for at in slot.times if at >= self.held_until]
        slot.is_fixed |= len(kept) < len(slot.times)
        slot.times = kept
        if kept:
            self.slots.insert(later[0] if later else len(self.slots), slot)

    def reserve_for(self, caller: Caller, tokens: int) -> None:
        """Draws tokens for a caller, at the time at which the buckets have them. It is refused if that
        is too late for it."""
        before = self.tiers.states()
        max_wait = LAST if caller.deadline == LAST else caller.deadline - self.now
        answer = self.tiers.reserve(self.now, tokens, max_wait)
        if not answer["allowed"]:
            self.callers.remove(caller)
            self.refuse(caller.id, int(answer["retry_after"]))
            return
        times = self.times(self.now + int(answer["delay"]), tokens)
        # Tokens that came back have shortened the hold.
        self.held_until = min(self.held_until, times[0])
        is_last = all(slot.at <= times[-1] for slot in self.slots)
        self.insert(Slot(times, (before, self.tiers.states())))
        if not is_last:
            self.refuse_late()
        self.run_to(self.now)
        self.give_up_surplus()

    def reserve_missing(self) -> None:
        """Draws what those at the end of the line lack."""
        missing, lacking = self.wanted - len(self.promised), []
        for caller in reversed(self.callers):
            if missing <= 0:
                break
            lacking.append((caller, min(caller.cost, missing)))
            missing -= caller.cost
        for caller, tokens in reversed(lacking):
            if caller in self.callers:
                self.reserve_for(caller, tokens)

    def refuse_late(self) -> None:
        """Refuses those whose tokens now come too late, as far as that is known."""
        kept, latest, promised = [], 0, self.promised
        for caller in self.callers:
            place = sum(other.cost for other in kept) + caller.cost - 1
            at = max(latest, promised[place] if place < len(promised) else self.held_until)
            if at > caller.deadline:
                self.refuse(caller.id, at - caller.deadline)
            else:
                kept.append(caller)
                latest = at
        self.callers = kept

    def refuse(self, id: str, retry_after: int) -> None:
        self.outcomes[id] = {"refused": str(self.now), "retry_after": str(retry_after)}

    def give_up_surplus(self) -> None:
        """Gives the last slots back to the buckets while nobody needs them, if that is exact."""
        if not self.callers:
            self.in_hand = 0
        while self.slots:
            last = self.slots[-1]
            # The buckets did not change by a hold that it covers. With it they would lose the hold.
            covers_hold = self.now < self.held_until and self.width == 0 and last.is_before_hold
            if last.is_fixed or covers_hold or len(self.promised) - len(last.times) < self.wanted:
                return
            self.slots.pop()
            is_back = self.tiers.cancel(self.now, *last.states)
            if not is_back and len(self.limits) == 1 and last.at > self.now:
                last.is_fixed = True
                self.insert(last)
