"""The scenarios of waiting.json: who waits for one key, what happens meanwhile, and what becomes of everybody."""

import random

from oracle import SECOND
from waiting_oracle import Line

MS = 10**6
START = 1_764_000_000 * SECOND
# A scenario can be run in real time too if no outcome changes when each event comes up to this much
# late. Steps would come at other times of it.
LATE = 25 * MS
TRIES = 40
LONGEST_IN_REAL_TIME = 1200 * MS


class Scenario:
    """Writes events down while the oracle goes through them. Times are milliseconds from the start."""

    def __init__(self, name: str, limits: list[str], meanings: dict, max_waiting: int | None = None) -> None:
        self.name, self.limits, self.max_waiting = name, limits, max_waiting
        self.meanings = [meanings[text] for text in limits]
        self.line = self.new_line()
        self.line.now = START
        self.events: list[dict] = []

    def new_line(self) -> Line:
        return Line(self.meanings, 10_000 if self.max_waiting is None else self.max_waiting)

    @property
    def now(self) -> float:
        return (self.line.now - START) / MS

    def at(self, ms: int) -> "Scenario":
        self.line.run_to(START + ms * MS)
        return self

    def do(self, what: str, **given: object) -> "Scenario":
        event = {"at": str(self.line.now), "do": what, **given}
        answer = run(self.line, event)
        if answer is not None:
            event["expect"] = answer
        self.events.append(event)
        return self

    def arrive(self, *ids: str, cost: int = 1, timeout: int | None = None) -> "Scenario":
        limit = {} if timeout is None else {"timeout": str(timeout * MS)}
        return self.do("arrive", ids=list(ids), cost=cost, **limit)

    def leave(self, *ids: str) -> "Scenario":
        return self.do("leave", ids=list(ids))

    def waiting(self) -> "Scenario":
        return self.do("waiting")

    def hold(self, wait: int) -> "Scenario":
        return self.do("hold", wait=str(wait * MS))

    def settle(self, charged: int, actual: int) -> "Scenario":
        return self.do("settle", charged=charged, actual=actual)

    def credit(self, tokens: int) -> "Scenario":
        return self.do("credit", tokens=tokens)

    def reserve(self, name: str, cost: int, max_wait: int = 60_000) -> "Scenario":
        return self.do("reserve", name=name, cost=cost, max_wait=str(max_wait * MS))

    def cancel(self, name: str) -> "Scenario":
        return self.do("cancel", name=name)

    def check(self, cost: int) -> "Scenario":
        return self.do("check", cost=cost)

    def written(self) -> dict:
        end = self.line.now
        while self.line.callers or self.line.slots:
            due = self.line.next_due()
            assert due is not None and due < START + 10**6 * SECOND, self.name
            self.line.run_to(due)
            end = max(end, due)
        document = {"name": self.name, "limits": self.limits}
        if self.max_waiting is not None:
            document["max_waiting"] = self.max_waiting
        is_stepped = any(meaning[3] for meaning in self.meanings)
        document["real_time"] = not is_stepped and end - START <= LONGEST_IN_REAL_TIME and self.keeps_when_late()
        return {**document, "events": self.events, "outcomes": self.line.outcomes}

    def keeps_when_late(self) -> bool:
        """Whether everybody has the same outcome, at another time perhaps, if events are late."""
        chance = random.Random(self.name)
        expected = [outcome_kinds(self.line), [without_until(event.get("expect")) for event in self.events]]
        for _ in range(TRIES):
            line, answers, now = self.new_line(), [], START
            for event in self.events:
                now = max(now, int(event["at"]) + chance.choice([0, LATE, chance.randrange(LATE)]))
                line.run_to(now)
                answers.append(without_until(run(line, event)))
            line.run_to(START + 100 * SECOND)
            if [outcome_kinds(line), answers] != expected:
                return False
        return True


def outcome_kinds(line: Line) -> list[tuple[str, str]]:
    """What became of everybody, in the order in which it did."""
    return [(id, next(iter(outcome))) for id, outcome in line.outcomes.items()]


def without_until(answer: object) -> object:
    return {**answer, "until": None} if isinstance(answer, dict) and "until" in answer else answer


def run(line: Line, event: dict) -> object:
    """The answer of an event, if it has one."""
    match event["do"]:
        case "arrive":
            for id in event["ids"]:
                line.arrive(id, event["cost"], int(event["timeout"]) if "timeout" in event else None)
        case "leave":
            for id in event["ids"]:
                line.leave(id)
        case "waiting":
            return line.waiting()
        case "settle":
            line.settle(event["charged"], event["actual"])
        case "credit":
            line.credit(event["tokens"])
        case "hold":
            line.hold(int(event["wait"]))
        case "reset":
            line.reset()
        case "reserve":
            return {"allowed": line.reserve(event["name"], event["cost"], int(event["max_wait"]))}
        case "cancel":
            line.cancel(event["name"])
        case "check":
            return {"allowed": line.check(event["cost"])}
        case "close":
            line.close()
    return None


def numbered(count: int, first: int = 1) -> list[str]:
    return [f"c{number}" for number in range(first, first + count)]


def named(meanings: dict) -> list[Scenario]:
    """The scenarios that show a rule each."""
    made: list[Scenario] = []

    def new(name: str, *limits: str, max_waiting: int | None = None) -> Scenario:
        made.append(Scenario(name, list(limits), meanings, max_waiting))
        return made[-1]

    # First come, first served.
    new("who comes first is served first, one slot after the other", "10/s burst 1").arrive(*numbered(5)).waiting()
    new("a burst is served at once, and the next wait", "20/s burst 5").arrive(*numbered(8)).waiting()
    new("nobody overtakes one who needs more", "20/s burst 5").arrive("a", cost=5).arrive("b", cost=5).arrive("c").arrive("d", cost=2).waiting()
    new("who needs more waits until there are enough tokens", "20/s burst 5") \
        .arrive("a", cost=4).at(60).arrive("b", cost=5).at(100).arrive("c", cost=3).waiting()
    new("several limits: all are charged at the slot of the slowest", "10/s burst 2", "20/s burst 5").arrive(*numbered(5)).waiting()
    new("a stepped limit serves those of one step together", "3/500ms stepped").at(170).arrive(*numbered(8)).waiting()
    new("a window serves a line at its edge", "5/s window").at(650).arrive(*numbered(4)).arrive("b", cost=3).arrive("c", cost=2).waiting()
    new("who comes later than the last slot waits from then on", "10/s burst 1").arrive("a", "b").at(150).arrive("c").at(450).arrive("d", "e")

    # Timeouts are exact, and those refused charge nothing.
    new("a slot at the timeout is in time, and one a millisecond later is not", "10/s burst 1") \
        .arrive("a").arrive("b", timeout=100).arrive("c", timeout=199).arrive("d", timeout=200).waiting()
    new("who is refused has charged nothing", "10/s burst 1").arrive("a").arrive(*numbered(20), timeout=50).arrive("b").waiting()
    new("a timeout of 0 takes what is there, and waits for nothing", "10/s burst 1").arrive("a", timeout=0).arrive("b", timeout=0).at(100).arrive("c", timeout=0)
    new("who can be served by what others have left is told exactly when not", "10/s burst 1") \
        .arrive("a", "b").reserve("r", 1).arrive("c").at(30).leave("b").arrive("d", timeout=60).arrive("e", timeout=200).waiting()
    new("the timeout counts from the arrival, with several tokens", "20/s burst 5") \
        .arrive("a", cost=5).at(40).arrive("b", cost=3, timeout=110).at(60).arrive("c", cost=3, timeout=239).arrive("d", cost=3, timeout=240)

    # A1, A2: who leaves loses nothing for others.
    new("A1: those behind one who leaves move up", "10/s burst 1").arrive(*numbered(5)).at(30).leave("c2").waiting().at(130).leave("c4").waiting()
    new("A1: the last one leaves, and the next gets its slot", "10/s burst 1").arrive("a", "b", "c").at(30).leave("c").at(60).arrive("d").waiting()
    new("A1: the first one leaves", "10/s burst 1").arrive("a", "b", "c").at(30).leave("b").at(60).arrive("d").waiting()
    new("A1: who leaves while it needs more gives way to all behind it", "20/s burst 5") \
        .arrive("a", cost=5).arrive("b", cost=5).arrive("c", "d", "e").at(120).leave("b").waiting()
    new("A1: who leaves twice, or after being served, changes nothing", "10/s burst 1") \
        .arrive("a", "b", "c").at(30).leave("b").leave("b").leave("a").waiting().at(160).leave("c").arrive("d").waiting()
    demand = new("A1: with deadlines from outside and too many callers, every slot is used", "10/s burst 1")
    present: list[tuple[int, str]] = []
    for number in range(45):
        now = number * 67
        while present and present[0][0] <= now:
            gone, id = present.pop(0)
            demand.at(gone).leave(id)
        demand.at(now).arrive(f"c{number}")
        present.append((now + 301, f"c{number}"))
    demand.waiting()
    for newest_first in (False, True):
        group = numbered(100)
        order = group[::-1] if newest_first else group
        new(f"A2: a hundred who leave together cost the next one at most one slot, {'newest' if newest_first else 'oldest'} first", "10/s burst 1") \
            .arrive(*group).at(310).waiting().leave(*order).waiting().at(320).arrive("next", "after")
    new("A2: the only one leaves, and its slot is free again", "10/s burst 1").arrive("a", "b").at(50).leave("b").at(100).arrive("c")
    new("a slot that cannot come back is kept for the next one", "10/s burst 1") \
        .arrive("a", "b").reserve("r", 1).at(30).leave("b").waiting().at(60).arrive("c").waiting()
    new("a slot that cannot come back passes if nobody comes in time", "10/s burst 1") \
        .arrive("a", "b").reserve("r", 1).at(30).leave("b").at(160).arrive("c").waiting()

    # A3: holds.
    new("A3: nobody is served during a hold, and then all at the normal pace", "10/s burst 1").arrive(*numbered(20)).at(150).hold(3000).waiting()
    new("A3: who cannot be served in time any more is told at once", "10/s burst 1") \
        .arrive("a").arrive("b", "c", "d", timeout=450).arrive("e").at(130).hold(200).waiting()
    new("A3: a hold that ends before the next slot changes nothing", "10/s burst 1").arrive("a", "b", "c").at(120).hold(50).waiting()
    new("A3: a hold in the middle of a slot of several tokens", "20/s burst 5").arrive("a", cost=5).at(60).arrive("b").arrive("c", cost=4).at(90).leave("b").arrive("d") \
        .hold(130).waiting()
    new("A3: a hold before the last token of a slot serves nobody with its first ones", "20/s burst 5") \
        .arrive("a", cost=5).arrive("b").arrive("c", cost=4).at(15).hold(160).waiting()
    new("A3: who leaves hands on no token of a slot that comes during the hold", "20/s burst 5") \
        .arrive("a", cost=5).arrive("b", cost=5).arrive("c", "d").at(20).hold(180).at(30).leave("b").waiting()
    new("A3: of two holds the later end counts", "10/s burst 1").arrive("a", "b", "c").at(30).hold(500).at(60).hold(200).waiting().at(90).hold(700).waiting()
    new("A3: who comes during a hold waits behind the others", "10/s burst 1").arrive("a", "b").at(30).hold(400).at(60).arrive("c").arrive("d", timeout=300).waiting()
    new("A3: all leave during a hold, and the next one waits for its end", "10/s burst 1") \
        .arrive("a", "b", "c").at(30).hold(400).at(60).leave("b", "c").waiting().at(90).arrive("d").waiting()
    new("A3: a hold on a line of several tokens that then leaves", "20/s burst 5") \
        .arrive("a", cost=5).arrive("b", cost=5).arrive("c", cost=5).at(20).hold(300).at(40).leave("b", "c").at(60).arrive("d", "e").waiting()
    new("A3: a slot that was kept is not handed out during a hold", "10/s burst 1") \
        .arrive("a", "b").reserve("r", 1).at(30).leave("b").hold(500).at(60).arrive("c").waiting()
    new("A3: a stepped limit serves those who wait at the first step after the hold", "3/500ms stepped").at(170).arrive(*numbered(6)).at(260).hold(500).waiting()
    new("A3: a hold of several limits", "10/s burst 2", "20/s burst 5").arrive(*numbered(5)).at(40).hold(400).waiting()
    new("A3: who leaves a slot that covers a hold does not end it, with steps", "3/500ms stepped") \
        .arrive("a").arrive("b", cost=3).at(30).hold(300).at(60).leave("b").waiting().at(90).arrive("c").waiting()
    new("A3: who leaves a slot that covers a hold does not end it, with several limits", "10/s burst 2", "20/s burst 5") \
        .arrive("a").arrive("b", cost=2).arrive("c", cost=2).at(10).hold(80).at(20).leave("b", "c").waiting().at(30).arrive("d").waiting()
    new("A3: a credit during a hold shortens it for who comes next", "10/s burst 1").arrive("a", "b").at(30).hold(800).at(60).credit(5).arrive("c").waiting()

    # A4: tokens that come back.
    new("A4: what is settled moves those who wait up", "20/s burst 5").arrive("a", cost=5).arrive("b", cost=5).arrive("c", cost=4).at(20).settle(5, 1).waiting().at(90).settle(5, 0).waiting()
    jobs = new("A4: jobs that use a quarter of their estimates use all of the limit", "500/s burst 40").arrive(*numbered(40), cost=40)
    settled = 0
    for ms in range(1, 3000):
        jobs.at(ms)
        served = sum("served" in outcome for outcome in jobs.line.outcomes.values())
        for _ in range(settled, served):
            jobs.settle(40, 10)
        settled = served
        if not jobs.line.callers:
            break
    new("A4: a credit goes to those who wait, and the rest to the bucket", "20/s burst 5") \
        .arrive("a", cost=5).arrive("b", cost=2).arrive("c").at(10).credit(1).waiting().credit(4).waiting().arrive("d", "e")
    new("A4: a credit for the first one alone", "20/s burst 5").arrive("a", cost=5).arrive("b", cost=4).arrive("c").at(20).credit(2).waiting().at(60).credit(1).waiting()
    new("A4: a settlement above the charge moves nobody who has a slot", "10/s burst 1").arrive("a", "b", "c").at(30).settle(1, 4).waiting().arrive("d").waiting()
    new("A4: a reservation that is cancelled goes to the first who waits", "10/s burst 1") \
        .arrive("a").reserve("r", 1).arrive("b", "c").at(30).cancel("r").waiting()
    new("A4: a reservation whose time has come is cancelled for one who waits", "10/s burst 1") \
        .reserve("r", 1).arrive("b", "c").at(30).cancel("r").waiting()
    new("A4: a reservation that nobody waits for goes back to the bucket", "10/s burst 1").arrive("a").reserve("r", 1).at(30).cancel("r").at(60).arrive("b").waiting()
    new("A4: a reservation of several tokens serves several", "20/s burst 5") \
        .arrive("a", cost=5).reserve("r", 4).arrive("b", "c", "d").arrive("e", cost=3).at(30).cancel("r").waiting()
    new("a reservation comes in its turn between those who wait", "10/s burst 1").arrive("a", "b").reserve("r", 1).arrive("c").waiting()
    new("a check takes nothing from those who wait", "20/s burst 5").arrive("a", cost=5).arrive("b", cost=3).at(60).check(1).at(160).check(1).waiting()
    new("a reset serves those who wait anew", "20/s burst 5").arrive("a", cost=5).arrive("b", cost=4).arrive("c", cost=4).at(20).do("reset").waiting()
    new("a reset ends a hold", "10/s burst 1").arrive("a", "b", "c").at(30).hold(5000).at(60).do("reset").waiting()

    # A7, A8: closing, and the bound of the line.
    new("A7: a close tells all who wait, and who comes later", "10/s burst 1").arrive("a", "b", "c").at(30).do("close").at(60).arrive("d")
    new("A8: one more than may wait is refused with the time of a slot", "10/s burst 1", max_waiting=2).arrive("a", "b", "c", "d").waiting()
    new("A8: who leaves makes room", "10/s burst 1", max_waiting=2).arrive("a", "b", "c", "d").at(30).leave("b").arrive("e", "f").waiting()
    new("A8: who is served makes room", "10/s burst 1", max_waiting=1).arrive("a", "b", "c").at(130).arrive("d", "e").waiting()
    new("A8: the bound counts callers and not tokens", "20/s burst 5", max_waiting=2).arrive("a", cost=5).arrive("b", "c", cost=5).arrive("d").waiting()
    new("A8: a line is shown as it shrinks", "10/s burst 1").arrive(*numbered(5)).waiting().at(150).waiting().at(250).leave("c5").waiting().at(350).waiting()
    return made


def random_one(number: int, meanings: dict) -> Scenario:
    """Anything in any order, among callers of which some leave."""
    chance = random.Random(3000 + number)
    limits = chance.choice([["10/s burst 1"], ["20/s burst 5"], ["20/s burst 5"], ["100/s burst 7"], ["3/500ms stepped"], ["5/s window"],
                            ["10/s burst 2", "20/s burst 5"]])
    scenario = Scenario(f"random {number}", limits, meanings, chance.choice([None, None, 6]))
    most = min(meaning[2] for meaning in scenario.meanings)
    now, reserved, present = 0, [], []
    for turn in range(40):
        now += chance.choice([0, 0, 7, 13, chance.randrange(120)])
        scenario.at(now)
        match chance.choices(["arrive", "leave", "settle", "credit", "hold", "reserve", "cancel", "check", "reset", "waiting"],
                             [40, 14, 6, 4, 5, 6, 6, 3, 1, 8])[0]:
            case "arrive":
                ids = [f"{turn}.{place}" for place in range(chance.choice([1, 1, 2, 4]))]
                present += ids
                scenario.arrive(*ids, cost=chance.randint(1, most), timeout=chance.choice([None, None, chance.randrange(900)]))
            case "leave" if present:
                scenario.leave(*chance.sample(present, min(len(present), chance.choice([1, 2, 5]))))
            case "settle":
                scenario.settle(most, chance.randint(0, most + 1))
            case "credit":
                scenario.credit(chance.randint(1, most))
            case "hold":
                scenario.hold(chance.randrange(600))
            case "reserve":
                scenario.reserve(f"r{turn}", chance.randint(1, most), chance.randrange(1500))
                if scenario.events[-1]["expect"]["allowed"]:
                    reserved.append(f"r{turn}")
            case "cancel" if reserved:
                scenario.cancel(reserved.pop(chance.randrange(len(reserved))))
            case "check":
                scenario.check(chance.randint(1, most))
            case "reset":
                scenario.do("reset")
            case _:
                scenario.waiting()
    return scenario


def scenarios(meanings: dict) -> list[dict]:
    """All scenarios. `meanings` maps a text to its tokens, period, burst, and whether it is stepped."""
    meanings = meanings | {"10/s burst 2": (10, SECOND, 2, False), "20/s burst 5": (20, SECOND, 5, False),
                           "100/s burst 7": (100, SECOND, 7, False), "500/s burst 40": (500, SECOND, 40, False)}
    return [scenario.written() for scenario in named(meanings)] + [random_one(number, meanings).written() for number in range(60)]
