"""The traces of operations.json: first those by hand, then random ones. The oracle answers them, and
generate.py writes them.
"""

import random

from oracle import SECOND, Bucket, Tiers, WithWords

US, MS = 10**3, 10**6
MINUTE, HOUR, DAY = 60 * SECOND, 3600 * SECOND, 86400 * SECOND
EPOCH = 1_764_000_000 * SECOND


def check(at, cost):
    return {"op": "check", "at": at, "cost": cost}


def peek(at, cost):
    return {"op": "peek", "at": at, "cost": cost}


def reserve(at, cost, max_wait, name=None):
    step = {"op": "reserve", "at": at, "cost": cost, "max_wait": max_wait}
    return step | ({"reservation": name} if name else {})


def cancel(name):
    return {"op": "cancel", "reservation": name}


def settle(at, charged, actual):
    return {"op": "settle", "at": at, "charged": charged, "actual": actual}


def credit(at, tokens):
    return {"op": "credit", "at": at, "tokens": tokens}


def hold(at, wait):
    return {"op": "hold", "at": at, "wait": wait}


def reset():
    return {"op": "reset"}


def change(at, *limits):
    return {"op": "change", "at": at, "limits": list(limits)}


def change_unseen(at, *limits):
    """A change after which the next step, at the same time, is the first to see the buckets."""
    return {**change(at, *limits), "unseen": True}


FOREVER = 2**64 - 1

# Limits that only traces by hand use.
BY_HAND = {
    "1/36500d window": (1, 36500 * DAY, 1, True),
    "60/min": (60, MINUTE, 60, False),
    "90000/min": (90000, MINUTE, 90000, False),
    "90000/min window": (90000, MINUTE, 90000, True),
    "10/s burst 2": (10, SECOND, 2, False),
    "6000/min burst 300": (6000, MINUTE, 300, False),
}

TRACES = [
    ("slots are first come, first served, whatever their cost", ["10/s"],
     [reserve(EPOCH, 10, 0), reserve(EPOCH, 5, FOREVER), reserve(EPOCH, 1, FOREVER), reserve(EPOCH + 550 * MS, 3, FOREVER),
      reserve(EPOCH + 900 * MS, 1, 0), reserve(EPOCH + SECOND, 1, 0)]),
    ("a slot too far charges nothing, and says when it would be near enough", ["2/s"],
     [reserve(EPOCH, 2, 0), reserve(EPOCH, 1, 499_999_999), reserve(EPOCH + 1, 1, 499_999_999), reserve(EPOCH + 1, 2, 0),
      reserve(EPOCH + 1, 2, SECOND), check(EPOCH + 500 * MS, 0)]),
    ("a cost above the burst has no slot, however long one waits", ["10/s"],
     [reserve(EPOCH, 11, FOREVER), reserve(EPOCH, 10, 0), reserve(EPOCH, 2**53, 0)]),
    ("a cost of 0 is never too far", ["2/s"], [reserve(EPOCH, 2, 0), settle(EPOCH, 0, 5), reserve(EPOCH, 0, 0)]),
    ("a delay ends on a step", ["100/min burst 300 stepped"],
     [reserve(EPOCH + 17 * SECOND, 300, 0), reserve(EPOCH + 17 * SECOND, 1, FOREVER), reserve(EPOCH + 18 * SECOND, 100, MINUTE),
      reserve(EPOCH + 18 * SECOND, 100, 2 * MINUTE), reserve(EPOCH + 59 * SECOND, 250, 2 * MINUTE)]),
    ("tiers: all slots near enough or none is charged; the delay is the longest", ["10/s burst 1", "12/d window"],
     [reserve(EPOCH, 1, 0), reserve(EPOCH, 1, SECOND)] + [reserve(EPOCH, 1, 2 * SECOND)] * 12 + [check(EPOCH, 0)]),
    ("tiers: a tie of delays goes to the least remaining", ["10/s", "3/s burst 7"], [reserve(EPOCH, 2, 0), reserve(EPOCH, 5, 0)]),
    ("a bucket owes at most 2^53: beyond, a slot is too far", ["1/d burst 104"],
     [reserve(EPOCH, 104, 0), reserve(EPOCH, 1, FOREVER), reserve(EPOCH + 21 * HOUR, 1, FOREVER), reserve(EPOCH + 22 * HOUR, 1, FOREVER)]),
    ("a slot past the end of the clock is too far, however long one would wait", ["1/36500d window"],
     [check(EPOCH, 1)] + [reserve(EPOCH, 1, FOREVER)] * 6 + [check(EPOCH, 0)]),
    ("a step that brings more than the burst serves one burst of waiters", ["10/s burst 4 stepped"],
     [reserve(EPOCH, 4, 0)] + [reserve(EPOCH, 2, FOREVER)] * 5),
    ("tiers: a slot that one tier puts off is charged to the other for that time", ["10/s burst 1", "12/d window"],
     [reserve(EPOCH + i * SECOND, 1, FOREVER) for i in range(14)] + [check(EPOCH + DAY, 1)]),
    ("a cancel restores exactly when it was the last", ["10/s"],
     [check(EPOCH, 4), reserve(EPOCH, 6, 0, "a"), reserve(EPOCH, 5, SECOND, "b"), cancel("b"), check(EPOCH, 0), cancel("a"), check(EPOCH, 0)]),
    ("a cancel much later restores too, when it was the last", ["1/d burst 100"],
     [check(EPOCH, 50), reserve(EPOCH, 50, 0, "a"), check(EPOCH + HOUR, 1), cancel("a"), check(EPOCH + HOUR, 50)]),
    ("a cancelled slot that others stand behind passes unused", ["1/s"],
     [reserve(EPOCH, 1, 0), reserve(EPOCH, 1, FOREVER, "a"), reserve(EPOCH, 1, FOREVER), cancel("a"), reserve(EPOCH, 1, FOREVER)]),
    ("a cancel of what time has paid: all came back, whoever was paid for meanwhile", ["10/s"],
     [reserve(EPOCH, 5, 0, "a"), check(EPOCH + MS, 5), reserve(EPOCH + MS, 1, FOREVER, "b"), check(EPOCH + 1100 * MS, 0), cancel("a"),
      check(EPOCH + 1101 * MS, 0), cancel("b"), check(EPOCH + 1101 * MS, 10)]),
    ("tiers: each bucket is cancelled by itself", ["10/s", "12/d window"],
     [reserve(EPOCH, 10, 0, "a"), cancel("a"), check(EPOCH, 10), check(EPOCH + DAY, 10)]),
    ("a settled charge takes or returns the difference", ["100/min burst 20"],
     [check(EPOCH, 10), settle(EPOCH, 10, 4), settle(EPOCH, 4, 12), settle(EPOCH, 12, 12)]),
    ("a debt beyond the burst is paid by time", ["10/s"],
     [settle(EPOCH, 1, 31), check(EPOCH, 1), check(EPOCH + 2_099_999_999, 1), check(EPOCH + 2_100 * MS, 1)]),
    ("a debt beyond the burst, stepped", ["5/s window"],
     [check(EPOCH + 300 * MS, 5), settle(EPOCH + 300 * MS, 5, 17), check(EPOCH + 300 * MS, 1), check(EPOCH + 3 * SECOND, 3), check(EPOCH + 3 * SECOND, 1)]),
    ("a debt ends at 2^53", ["1/d burst 104", "100/min burst 300 stepped"],
     [settle(EPOCH, 0, 2**53), settle(EPOCH, 0, 2**53), check(EPOCH, 1), check(EPOCH + DAY, 0)]),
    ("what is given back never passes full", ["10/s", "5/s window"],
     [check(EPOCH, 5), credit(EPOCH, 2), credit(EPOCH, 2**53), check(EPOCH, 6), check(EPOCH, 5), credit(EPOCH, 0)]),
    ("a reset forgets debts and holds", ["10/s", "12/d window"],
     [check(EPOCH, 10), hold(EPOCH, 3 * DAY), reset(), check(EPOCH, 10)]),
    ("a reset bucket owes nothing after the clock has stepped back", ["10/s", "100/min burst 300 stepped"],
     [check(EPOCH, 7), reset(), check(EPOCH - HOUR, 10), check(EPOCH - HOUR, 1), check(EPOCH - HOUR + SECOND, 10)]),
    ("a full bucket that is reset owes nothing either", ["2/s"],
     [check(EPOCH, 2), check(EPOCH + MINUTE, 0), reset(), check(EPOCH - DAY, 2)]),
    ("a hold: none before, one token at its end, the rest at the normal pace", ["10/s"],
     [hold(EPOCH, 30 * SECOND), check(EPOCH + 30 * SECOND - 1, 1), check(EPOCH + 30 * SECOND, 2), check(EPOCH + 30 * SECOND, 1),
      check(EPOCH + 30 * SECOND, 1), check(EPOCH + 30 * SECOND + 100 * MS, 1), check(EPOCH + 31 * SECOND + 100 * MS, 10)]),
    ("holds join by the later end, and an earlier larger debt stays", ["2/s"],
     [hold(EPOCH, 5 * SECOND), hold(EPOCH, 3 * SECOND), hold(EPOCH + SECOND, 4 * SECOND), check(EPOCH, 1), hold(EPOCH, 6 * SECOND),
      settle(EPOCH, 0, 40), hold(EPOCH, SECOND), check(EPOCH, 1)]),
    ("a hold of no time leaves one token", ["10/s"], [hold(EPOCH, 0), check(EPOCH, 1), check(EPOCH, 1)]),
    ("a hold on a stepped limit ends with a whole step", ["100/min burst 300 stepped"],
     [hold(EPOCH + 10 * SECOND, 30 * SECOND), check(EPOCH + MINUTE - 1, 1), check(EPOCH + MINUTE, 100), check(EPOCH + MINUTE, 1),
      hold(EPOCH + MINUTE, MINUTE), check(EPOCH + 2 * MINUTE, 101), check(EPOCH + 2 * MINUTE, 100)]),
    ("a hold on a window longer than asked", ["5000/h window"],
     [check(EPOCH + MINUTE, 10), hold(EPOCH + MINUTE, 10 * SECOND), check(EPOCH + HOUR - 1, 1), check(EPOCH + HOUR, 5000)]),
    ("a hold on a step that brings more than the burst", ["10/s burst 4 stepped"],
     [hold(EPOCH, 1500 * MS), check(EPOCH + 1999 * MS, 1), check(EPOCH + 2 * SECOND, 4), check(EPOCH + 2 * SECOND, 1)]),
    ("a hold longer than a bucket may owe", ["2/s"],
     [hold(EPOCH, FOREVER // 4), hold(EPOCH, 2**53 - 500 * MS)]),
    ("tiers hold together, and waiters queue behind the hold", ["10/s", "5/s window"],
     [hold(EPOCH + 200 * MS, 1500 * MS), check(EPOCH + SECOND, 1), reserve(EPOCH + SECOND, 1, FOREVER), reserve(EPOCH + SECOND, 1, FOREVER)]),
    ("a faster limit shortens the wait already owed", ["100/min burst 20"],
     [check(EPOCH, 20), change(EPOCH, "10/s"), check(EPOCH, 1), check(EPOCH + 1100 * MS, 1), change(EPOCH + 1100 * MS, "2/s")]),
    ("a change of limit rounds what is owed up to whole tokens", ["2/s"],
     [check(EPOCH, 2), change(EPOCH + 250 * MS, "10/s"), change(EPOCH + 250 * MS, "10/s burst 1"), check(EPOCH + 250 * MS, 1)]),
    ("a change of shape, and back", ["10/s"],
     [check(EPOCH, 7), change(EPOCH + 50 * MS, "5/s window"), check(EPOCH + 50 * MS, 1), change(EPOCH + SECOND, "10/s"), check(EPOCH + SECOND, 9)]),
    ("a change of the burst alone", ["3/s burst 7"], [check(EPOCH, 7), change(EPOCH + MS, "3/s burst 9"), check(EPOCH + MS, 2)]),
    ("a full bucket is full under any limit; a new tier begins full", ["2/s"],
     [check(EPOCH, 2), change(EPOCH + HOUR, "3/s burst 7", "12/d window"), check(EPOCH + HOUR, 7), change(EPOCH + HOUR, "3/s burst 7")]),
    ("a clock that steps back in a queue mints nothing", ["2/s"],
     [reserve(EPOCH, 2, 0), reserve(EPOCH - SECOND, 1, FOREVER, "a"), credit(EPOCH - SECOND, 1), cancel("a"), check(EPOCH, 1)]),
    ("upstash: a charge beyond the bucket ends by time, not in a spiral of refusals", ["10/s"],
     [settle(EPOCH, 0, 15)] + [check(EPOCH + i * 100 * MS, 1) for i in range(1, 12)]),
    ("redis_rate: tokens given back are kept, and never more than all", ["10/s"],
     [check(EPOCH, 5), credit(EPOCH, 5), check(EPOCH, 0), credit(EPOCH, 100), check(EPOCH, 0)]),
    ("gubernator: negative hits pass the limit", ["10/s burst 1"], [credit(EPOCH, 50), check(EPOCH, 1), check(EPOCH, 1)]),
    ("governor: until_n_ready sleeps and asks again, and has no order", ["10/s burst 1"],
     [reserve(EPOCH, 1, FOREVER) for _ in range(5)] + [check(EPOCH + 400 * MS, 1), reserve(EPOCH + 400 * MS, 1, FOREVER)]),
    ("a peek answers what the check after it answers, and charges nothing", ["10/s"],
     [peek(EPOCH, 4), peek(EPOCH, 10), check(EPOCH, 4), peek(EPOCH, 6), peek(EPOCH, 7), check(EPOCH, 7), peek(EPOCH, 0), check(EPOCH, 6),
      peek(EPOCH, 1), peek(EPOCH, 0), peek(EPOCH + 99_999_999, 1), peek(EPOCH + 100 * MS, 1), check(EPOCH + 100 * MS, 1)]),
    ("a peek at a cost above the burst is an error, as the check would be", ["10/s", "12/d window"],
     [peek(EPOCH, 11), peek(EPOCH, 10), peek(EPOCH, 0)]),
    ("tiers: a peek names the limit that would bind", ["10/s", "12/d window"],
     [peek(EPOCH, 1), peek(EPOCH, 10), check(EPOCH, 10), peek(EPOCH, 3), peek(EPOCH + 2 * SECOND, 3), peek(EPOCH + 2 * SECOND, 2)]),
    ("a peek sees holds and slots that others have taken", ["5/s window"],
     [hold(EPOCH + 200 * MS, 1500 * MS), peek(EPOCH + SECOND, 1), reserve(EPOCH + SECOND, 3, FOREVER, "a"), peek(EPOCH + 2 * SECOND, 3),
      peek(EPOCH + 2 * SECOND, 2), cancel("a"), peek(EPOCH + 2 * SECOND, 5)]),
    ("a raise of the rate keeps a debt in time, in the peers", ["1/d burst 100"],
     [check(EPOCH, 100), change(EPOCH, "10/s"), check(EPOCH, 1), check(EPOCH + 9_100 * MS, 1)]),
    ("a refusal under a raised limit is the last one that the old limit delays", ["1/30d"],
     [check(EPOCH, 1), change_unseen(EPOCH + SECOND, "10/s"), check(EPOCH + SECOND, 10), check(EPOCH + 1_099_999 * US, 10),
      check(EPOCH + 1_100 * MS, 10)]),
    ("refusals under a raised limit do not start its time anew", ["100/min burst 20"],
     [check(EPOCH, 20), change_unseen(EPOCH + 100 * MS, "10/s burst 100"), check(EPOCH + 100 * MS, 81)]
     + [check(EPOCH + (100 + part * 50) * MS, 82) for part in range(1, 5)]),
    ("a refusal under a lowered limit is kept at its pace", ["10/s"],
     [check(EPOCH, 10), change_unseen(EPOCH, "100/min burst 20"), check(EPOCH, 11), check(EPOCH + 100 * MS, 11), check(EPOCH + 599 * MS, 11),
      check(EPOCH + 600 * MS, 11)]),
    ("a look under another limit carries the buckets over", ["1/d burst 100", "12/d window"],
     [check(EPOCH, 12), change_unseen(EPOCH, "2/s", "10/s"), peek(EPOCH, 0), peek(EPOCH + 1_200 * MS, 1), check(EPOCH + 5_500 * MS, 1)]),
    ("a slot too far under another limit carries the buckets over", ["1/d burst 100", "5000/h window"],
     [check(EPOCH, 100), change_unseen(EPOCH, "10/s", "5000/h window"), reserve(EPOCH, 1, 0), reserve(EPOCH + 9_099_999 * US, 1, 0),
      reserve(EPOCH + 9_100 * MS, 1, 0)]),
    ("a settlement of nothing under another limit carries the buckets over", ["1/d burst 100"],
     [check(EPOCH, 50), change_unseen(EPOCH, "5/s window"), settle(EPOCH, 3, 3), check(EPOCH + 10 * SECOND, 1)]),
    ("a cost for each limit: all are charged, or none", ["60/min", "90000/min"],
     [check(EPOCH, [1, 1500]), check(EPOCH, [1, 88501]), peek(EPOCH, [1, 88500]), check(EPOCH, [1, 88500]), check(EPOCH, [1, 1500]),
      check(EPOCH, [1, 0]), check(EPOCH, [0, 1]), check(EPOCH + SECOND, [1, 1500]), check(EPOCH + SECOND, [57, 0]),
      check(EPOCH + SECOND, [2, 0]), check(EPOCH + SECOND, [2, 1]), check(EPOCH + SECOND, [0, 0])]),
    ("a cost for each limit is above no burst, and there are as many as limits", ["60/min", "90000/min"],
     [check(EPOCH, [1, 90001]), check(EPOCH, [61, 1]), check(EPOCH, [60, 90000]), peek(EPOCH, [61, 0]), reserve(EPOCH, [0, 90001], FOREVER),
      check(EPOCH, [1]), check(EPOCH, [1, 1, 1]), peek(EPOCH, [1, 1, 1]), reserve(EPOCH, [1], 0), settle(EPOCH, [1, 1, 1], 1),
      settle(EPOCH, 1, [1]), credit(EPOCH, [1, 1, 1]), check(EPOCH, 0)]),
    ("one limit may have its one cost in a list", ["10/s"],
     [check(EPOCH, [4]), settle(EPOCH, [4], [1]), credit(EPOCH, [1]), check(EPOCH, [11])]),
    ("a slot for a cost for each limit comes when the last of them allows it", ["10/s burst 2", "6000/min burst 300"],
     [reserve(EPOCH, [2, 300], 0), reserve(EPOCH, [1, 50], FOREVER, "tokens"), reserve(EPOCH, [2, 0], FOREVER, "requests"),
      reserve(EPOCH, [0, 10], 500 * MS), reserve(EPOCH, [0, 10], 700 * MS), cancel("requests"), check(EPOCH, 0), cancel("tokens"),
      check(EPOCH + SECOND, [1, 1])]),
    ("a cancel needs nothing back from a limit that it did not charge", ["10/s", "5/s window"],
     [reserve(EPOCH, [4, 0], 0, "a"), check(EPOCH, [0, 2]), cancel("a"), peek(EPOCH, [10, 3]), peek(EPOCH, [10, 4])]),
    ("each limit is settled and credited by its own tokens", ["60/min", "90000/min window"],
     [check(EPOCH, [1, 4000]), settle(EPOCH, [1, 4000], [1, 1500]), settle(EPOCH, [0, 1500], [0, 95000]), check(EPOCH, [1, 1]),
      check(EPOCH, [1, 0]), credit(EPOCH, [2, 0]), settle(EPOCH, [5, 10], [7, 0]), credit(EPOCH, [0, 5100]), check(EPOCH, [58, 100]),
      check(EPOCH + MINUTE, [58, 0])]),
]


def random_trace(number, limits):
    """Operations in any order, on limits of either shape."""
    rng = random.Random(1000 + number)
    texts = rng.sample(sorted(limits), rng.choice([1, 1, 2, 3, 4]))
    per_token = min(limits[text][1] // limits[text][0] for text in texts)
    burst = min(limits[text][2] for text in texts)
    now, steps, open_reservations = EPOCH + rng.randrange(DAY), [], []
    for turn in range(30):
        now += rng.choice([0, 0, 1, per_token, per_token * burst, rng.randrange(4 * per_token + 4)])
        at = now - (rng.randrange(2 * per_token + 2) if rng.random() < 0.05 else 0)
        cost = rng.choice([1, burst, rng.randint(1, burst)])
        wait = rng.choice([0, per_token, per_token * 3 * cost, FOREVER])
        match rng.choice(["check", "reserve", "reserve", "reserve", "cancel", "cancel", "settle", "credit", "hold"]):
            case "check":
                steps.append(check(at, rng.choice([0, cost])))
            case "reserve":
                open_reservations.append(f"r{turn}")
                steps.append(reserve(at, cost, wait, open_reservations[-1]))
            case "cancel" if open_reservations:
                last = -1 if rng.random() < 0.7 else 0
                steps.append(cancel(open_reservations.pop(last)))
            case "settle":
                steps.append(settle(at, cost, rng.choice([0, cost // 2, cost, cost + 1, 3 * cost])))
            case "credit":
                steps.append(credit(at, rng.choice([0, 1, cost])))
            case "hold" if rng.random() < 0.4:
                steps.append(hold(at, rng.choice([0, per_token, rng.randrange(20 * per_token + 1)])))
    return f"random {number}", texts, steps


def random_trace_of_costs(number, limits):
    """Operations in any order, with a cost for each of two to four limits."""
    rng = random.Random(2000 + number)
    texts = rng.sample(sorted(limits), rng.choice([2, 2, 3, 4]))
    per_token = min(limits[text][1] // limits[text][0] for text in texts)
    now, steps, open_reservations = EPOCH + rng.randrange(DAY), [], []
    for turn in range(30):
        now += rng.choice([0, 0, 1, per_token, 10 * per_token, rng.randrange(4 * per_token + 4)])
        bursts = [limits[text][2] for text in texts]
        cost = [rng.choice([0, 1, burst, rng.randint(1, burst)]) for burst in bursts]
        other = [rng.choice([0, tokens // 2, tokens, tokens + 1]) for tokens in cost]
        wait = rng.choice([0, per_token, 30 * per_token, FOREVER])
        match rng.choice(["check", "check", "peek", "reserve", "reserve", "cancel", "settle", "credit"]):
            case "check":
                steps.append(check(now, cost))
            case "peek":
                steps.append(peek(now, cost))
            case "reserve":
                open_reservations.append(f"r{turn}")
                steps.append(reserve(now, cost, wait, open_reservations[-1]))
            case "cancel" if open_reservations:
                last = -1 if rng.random() < 0.7 else 0
                steps.append(cancel(open_reservations.pop(last)))
            case "settle":
                steps.append(settle(now, cost, other))
            case "credit":
                steps.append(credit(now, rng.choice([other, 1])))
    return f"random costs {number}", texts, steps


def answered(name, texts, steps, limits):
    def unused():
        return Tiers([Bucket(*limits[text]) for text in texts])

    first, tiers, reservations, written, now = texts, unused(), {}, [], 0
    for step in map(dict, steps):
        now = step.get("at", now)
        match step["op"]:
            case "check":
                answer = tiers.check(step["at"], step["cost"])
            case "peek":
                answer = tiers.peek(step["at"], step["cost"])
            case "reserve":
                before = tiers.states()
                answer = tiers.reserve(step["at"], step["cost"], step["max_wait"])
                if "reservation" in step:
                    if isinstance(answer, str) or not answer["allowed"]:
                        del step["reservation"]
                    else:
                        reservations[step["reservation"]] = (before, tiers.states())
            case "cancel":
                if step["reservation"] not in reservations:
                    continue  # The random reservation got no slot.
                answer = {"restored": tiers.cancel(now, *reservations.pop(step["reservation"]))}
            case "settle":
                answer = tiers.settle(step["at"], step["charged"], step["actual"])
            case "credit":
                answer = tiers.credit(step["at"], step["tokens"])
            case "hold":
                answer = tiers.hold(step["at"], step["wait"])
            case "change":
                texts = step["limits"]
                answer = tiers.change(step["at"], [limits[text] for text in texts])
                if step.pop("unseen", False):
                    answer = None
            case "reset":
                tiers, answer = unused(), None
        for field in ("at", "max_wait", "wait"):
            if field in step:
                step[field] = str(step[field])
        if answer is not None:
            step["error" if isinstance(answer, str) else "expect"] = answer
        written.append(step)
    return {"name": name, "limits": first, "steps": written}


def traces(limits):
    """All traces. `limits` maps a text to its tokens, period, burst, and whether it is stepped."""
    named = [answered(name, texts, steps, limits | BY_HAND) for name, texts, steps in TRACES]
    random_ones = [random_trace(number, limits) for number in range(60)]
    random_ones += [random_trace_of_costs(number, limits) for number in range(30)]
    return named + [answered(*trace, limits) for trace in random_ones]


# Traces of limits that need no bucket, and of others beside them: "cancel" restores nothing there
# is, and is left to the tests of each language.
FIXED_TRACES = [
    ("unlimited allows any cost at once and charges nothing", ["unlimited"],
     [check(EPOCH, 1), check(EPOCH, 2**53), check(EPOCH, 0), peek(EPOCH, 2**53), reserve(EPOCH, 2**53, 0), settle(EPOCH, 0, 2**53),
      credit(EPOCH, 5), hold(EPOCH, HOUR), check(EPOCH, 1), reserve(EPOCH, 1, 0)]),
    ("none refuses every cost above 0, for ever", ["none"],
     [check(EPOCH, 1), check(EPOCH, 0), check(EPOCH, 2**53), peek(EPOCH, 1), peek(EPOCH, 0), reserve(EPOCH, 1, FOREVER), reserve(EPOCH, 0, 0),
      credit(EPOCH, 100), settle(EPOCH, 5, 0), hold(EPOCH, HOUR), check(EPOCH + 100 * DAY, 1)]),
    ("none among limits refuses, whatever they would allow, and is named", ["10/s", "none", "unlimited", "none"],
     [check(EPOCH, 1), check(EPOCH, 11), check(EPOCH, 0), reserve(EPOCH, 1, FOREVER), peek(EPOCH, 3)]),
    ("none refuses an array of costs as any other", ["10/s", "none"],
     [check(EPOCH, [1, 1500]), check(EPOCH, [1, 0]), check(EPOCH, [0, 0]), peek(EPOCH, [0, 3]), reserve(EPOCH, [2, 1], FOREVER)]),
    ("unlimited takes an array of costs", ["unlimited", "10/s"],
     [check(EPOCH, [2**53, 4]), check(EPOCH, [1, 7]), peek(EPOCH, [5, 6]), check(EPOCH, [1, 11])]),
    ("unlimited and unlimited", ["unlimited", "unlimited", "unlimited", "unlimited"], [check(EPOCH, 7), reserve(EPOCH, 7, 0)]),
    ("unlimited before a limit is as if it were not there", ["unlimited", "10/s"],
     [check(EPOCH, 4), check(EPOCH, 7), peek(EPOCH, 6), check(EPOCH, 11), reserve(EPOCH, 10, SECOND), hold(EPOCH, HOUR), check(EPOCH, 1),
      credit(EPOCH, 10), settle(EPOCH, 1, 3)]),
    ("unlimited between limits: the others bind, by their places", ["10/s", "unlimited", "12/d window"],
     [check(EPOCH, 10), check(EPOCH, 1), check(EPOCH + 2 * SECOND, 3), peek(EPOCH + 2 * SECOND, 2), check(EPOCH + 2 * SECOND, 2), check(EPOCH + DAY, 10)]),
    ("unlimited after limits", ["12/d window", "10/s", "unlimited", "unlimited"],
     [check(EPOCH, 10), check(EPOCH, 1), check(EPOCH, 3), check(EPOCH + SECOND, 2), check(EPOCH + SECOND, 1)]),
]


def fixed_answered(name, texts, steps, limits):
    buckets = {text: Bucket(*limits[text]) for text in texts if text in limits}
    both, written = WithWords(texts, buckets), []
    for step in map(dict, steps):
        operation, now, *numbers = step.values()
        answer = both.run(operation, now, *numbers)
        for field in ("at", "max_wait", "wait"):
            if field in step:
                step[field] = str(step[field])
        step["error" if isinstance(answer, str) else "expect"] = answer
        written.append(step)
    return {"name": name, "limits": texts, "steps": written}


def fixed_traces(limits):
    """All traces of `unlimited` and `none`."""
    return [fixed_answered(*trace, limits) for trace in FIXED_TRACES]
