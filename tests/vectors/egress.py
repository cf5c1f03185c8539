"""Traces of the egress machine for egress.json. The actions are written here by hand, from the rules in
docs/egress.md, and are never those that an engine gave."""

from __future__ import annotations

S = 1_000_000_000
ALL_RANDOM = 2**64 - 1

TERMS = {
    "concurrency": 2, "batch": 2, "ahead": 2, "max_attempts": 3, "visibility": 30 * S, "max_visibility": 43_200 * S,
    "keep": 0, "jitter": 2 * S, "blind_hold": S, "back_off": 2 * S, "max_back_off": 60 * S, "interval": S, "order": "none",
}
TIMES = {"visibility", "max_visibility", "keep", "jitter", "blind_hold", "back_off", "max_back_off", "interval"}
NAMES_OF_TIMES = {"deadline", "hold", "retry", "until", "random"}


def step(at: int, do: str, expect: list[list[object]], wake: int | None = None, **parameters: object) -> dict[str, object]:
    written = {name: str(value) if name in NAMES_OF_TIMES and value is not None else value for name, value in parameters.items()}
    answer: dict[str, object] = {"at": str(at), "do": do, **written}
    answer["expect"] = [[part if isinstance(part, (str, bool)) else str(part) for part in action] for action in expect]
    if wake is not None:
        answer["wake"] = str(wake)
    return answer


def trace(name: str, *steps: dict[str, object], slots: int | None = None, **terms: object) -> dict[str, object]:
    every = {**TERMS, **terms}
    written = {term: str(value) if term in TIMES else value for term, value in every.items()}
    return {"name": name, "terms": written, "slots": slots or every["concurrency"], "steps": list(steps)}


def start(count: int = 2) -> list[dict[str, object]]:
    """The permits come, and the first receive is asked for."""
    return [
        step(0, "poll", [["acquire_permits", count]]),
        step(0, "permits", [["receive", count]], count=count),
    ]


def assigned(position: int = 0, generation: int = 1) -> list[dict[str, object]]:
    return [
        step(0, "poll", [["acquire_permits", 2]]),
        step(0, "permits", [["receive", 2]], count=2),
        step(0, "assign", [], partition=0, generation=generation, position=position),
    ]


def traces() -> list[dict[str, object]]:
    return [
        trace(
            "a message takes a permit, is received, takes a token, is called and deleted",
            *start(),
            step(0, "message", [["acquire", 1]], id=1, admission="held"),
            step(0, "received", [["receive", 1]], count=1, wake=15 * S),
            step(S, "granted", [["dispatch", 1]], id=1, admission=True),
            step(S, "response", [["ack", 1]], id=1, response="done"),
        ),
        trace(
            "without permits nothing is received, and what nobody asked for does not count",
            step(0, "poll", [["acquire_permits", 2]]),
            step(0, "permits", [["receive", 1]], count=1),
            step(0, "message", [["acquire", 1]], id=1, admission="held"),
            step(0, "message", [], id=2, admission="not_taken"),
            step(0, "received", [], count=1),
            step(0, "permits", [["receive", 1]], count=5),
        ),
        trace(
            "an empty queue leaves its permits to others, but for one",
            *start(),
            step(20 * S, "received", [["release_permits", 1], ["receive", 1]], count=0),
            step(21 * S, "message", [["acquire", 1], ["acquire_permits", 1]], id=1, admission="held"),
            step(21 * S, "received", [], count=1),
            step(22 * S, "permits", [["receive", 1]], count=1),
        ),
        trace(
            "a stale message is dead-lettered and asks for no token",
            *start(),
            step(S, "message", [["dead_letter", 1, "stale"]], id=1, deadline=S - 1, admission="held"),
            step(S, "message", [["acquire", 2]], id=2, deadline=S, admission="held"),
            step(S, "received", [], count=2),
            step(S, "dead_lettered", [["receive", 1]], id=1, is_there=True),
        ),
        trace(
            "a message that becomes stale while it waits gives up its place among those who want a token",
            *start(),
            step(0, "message", [["acquire", 1]], id=1, deadline=5 * S, admission="held"),
            step(0, "received", [["receive", 1]], count=1, wake=5 * S + 1),
            step(5 * S, "poll", []),
            step(5 * S + 1, "poll", [["give_back", 1], ["dead_letter", 1, "stale"]]),
            step(5 * S + 1, "granted", [], id=1, admission=False),
        ),
        trace(
            "staleness is foreseen: from the time of a call, and from those that wait before",
            *start(),
            step(0, "message", [["acquire", 1]], id=1, admission="held"),
            step(0, "granted", [["dispatch", 1]], id=1, admission=True),
            step(3 * S, "response", [["ack", 1]], id=1, response="done"),
            step(3 * S, "message", [["acquire", 2]], id=2, deadline=6 * S, admission="held"),
            step(3 * S, "message", [["dead_letter", 3, "stale"]], id=3, deadline=7 * S - 1, admission="held"),
            step(3 * S, "received", [], count=2),
            step(3 * S + 1, "poll", [["give_back", 2], ["dead_letter", 2, "stale"]]),
        ),
        trace(
            "a hold closes the gate for all, is told, and sends back what is in hand",
            *start(),
            step(0, "message", [["acquire", 1]], id=1, random=ALL_RANDOM, admission="held"),
            step(0, "message", [["acquire", 2]], id=2, random=0, admission="held"),
            step(0, "received", [], count=2),
            step(0, "granted", [["dispatch", 1]], id=1, admission=True),
            step(
                S, "response",
                [["hold", 5 * S], ["give_back", 2], ["return", 1, 7 * S, False], ["return", 2, 5 * S, False]],
                id=1, response="held", hold=5 * S, wake=6 * S,
            ),
            step(6 * S - 1, "poll", []),
            step(6 * S, "poll", [["receive", 2]]),
        ),
        trace(
            "a hold that is short enough is waited out in hand, and costs another token",
            *start(),
            step(0, "message", [["acquire", 1]], id=1, random=0, admission="held"),
            step(0, "received", [["receive", 1]], count=1),
            step(0, "granted", [["dispatch", 1]], id=1, admission=True),
            step(S, "response", [["hold", 5 * S]], id=1, response="held", hold=5 * S, wake=6 * S),
            step(6 * S, "poll", [["acquire", 1]]),
            step(6 * S, "granted", [["dispatch", 1]], id=1, admission=True),
            keep=10 * S,
        ),
        trace(
            "a refusal of the rate without a time holds blindly, and one of concurrency holds nobody",
            *start(),
            step(0, "message", [["acquire", 1]], id=1, random=0, admission="held"),
            step(0, "message", [["acquire", 2]], id=2, random=0, admission="held"),
            step(0, "received", [], count=2),
            step(0, "granted", [["dispatch", 1]], id=1, admission=True),
            step(0, "granted", [["dispatch", 2]], id=2, admission=True),
            step(0, "response", [["return", 1, S, False], ["receive", 1]], id=1, response="busy"),
            step(0, "response", [["hold", S], ["return", 2, S, False]], id=2, response="held", hold=0),
        ),
        trace(
            "holds join: the latest end counts, in any order",
            *start(),
            step(0, "held", [], until=9 * S),
            step(0, "held", [], until=4 * S, wake=9 * S),
            step(0, "received", [["release_permits", 1]], count=0),
            step(9 * S, "poll", [["receive", 1]]),
        ),
        trace(
            "a failure is retried in hand if the budget allows, and else returns with a back-off that doubles",
            *start(),
            step(0, "message", [["acquire", 1]], id=1, random=0, admission="held"),
            step(0, "received", [["receive", 1]], count=1),
            step(0, "granted", [["dispatch", 1]], id=1, admission=True),
            step(S, "response", [], id=1, response="failed", retry=3 * S, wake=4 * S),
            step(4 * S, "poll", [["acquire", 1]]),
            step(4 * S, "granted", [["dispatch", 1]], id=1, admission=True),
            step(4 * S, "response", [["return", 1, 2 * S, True]], id=1, response="failed", retry=None),
        ),
        trace(
            "the last attempt that fails is dead-lettered, also if the budget would allow another",
            *start(),
            step(0, "message", [["acquire", 1]], id=1, attempts=3, admission="held"),
            step(0, "message", [["dead_letter", 2, "exhausted"]], id=2, attempts=4, admission="held"),
            step(0, "received", [], count=2),
            step(0, "granted", [["dispatch", 1]], id=1, admission=True),
            step(0, "response", [["dead_letter", 1, "exhausted"]], id=1, response="failed", retry=S),
            step(0, "dead_lettered", [["receive", 1]], id=1, is_there=True),
        ),
        trace(
            "a permanent failure is dead-lettered at once, and comes again if the dead-letter queue does not take it",
            *start(),
            step(0, "message", [["acquire", 1]], id=1, random=0, admission="held"),
            step(0, "received", [["receive", 1]], count=1),
            step(0, "granted", [["dispatch", 1]], id=1, admission=True),
            step(0, "response", [["dead_letter", 1, "permanent"]], id=1, response="refused"),
            step(0, "dead_lettered", [["return", 1, S, False]], id=1, is_there=False),
        ),
        trace(
            "a message that an earlier delivery has done is deleted without a token",
            *start(),
            step(0, "message", [["acquire", 1]], id=1, admission="held"),
            step(0, "response", [["give_back", 1], ["ack", 1]], id=1, response="done"),
        ),
        trace(
            "visibility is extended at its half, up to the broker's cap, and what waits then returns",
            *start(),
            step(0, "message", [["acquire", 1]], id=1, admission="held"),
            step(0, "received", [["receive", 1]], count=1, wake=15 * S),
            step(15 * S, "poll", [["extend", 1, 30 * S]], wake=30 * S),
            step(30 * S, "poll", [["extend", 1, 20 * S]], wake=35 * S),
            step(35 * S, "poll", [["give_back", 1], ["return", 1, 0, False]]),
            max_visibility=50 * S,
        ),
        trace(
            "a process that stood still drops what others have by now, and lets its call end",
            *start(),
            step(0, "message", [["acquire", 1]], id=1, admission="held"),
            step(0, "message", [["acquire", 2]], id=2, admission="held"),
            step(0, "granted", [["dispatch", 1]], id=1, admission=True),
            step(30 * S, "poll", [["give_back", 2], ["drop", 2]]),
            step(30 * S, "response", [["ack", 1]], id=1, response="done"),
        ),
        trace(
            "while the store is down nothing leaves, and tokens are given back",
            *start(),
            step(0, "message", [["acquire", 1]], id=1, random=0, admission="held"),
            step(0, "received", [["receive", 1]], count=1),
            step(0, "store", [["give_back", 1]], is_up=False, wake=10 * S),
            step(10 * S, "poll", [["return", 1, S, False]]),
            step(11 * S, "store", [], is_up=True),
            keep=10 * S,
        ),
        trace(
            "a half-open breaker lets one probe through",
            *start(),
            step(0, "message", [["acquire", 1]], id=1, admission="held"),
            step(0, "message", [["acquire", 2]], id=2, admission="held"),
            step(0, "received", [], count=2),
            step(0, "breaker", [["give_back", 1], ["give_back", 2]], probes=0),
            step(S, "breaker", [["acquire", 1], ["acquire", 2]], probes=1),
            step(S, "granted", [["dispatch", 1], ["give_back", 2]], id=1, admission=True),
            step(S, "response", [["ack", 1]], id=1, response="done"),
            step(S, "breaker", [["acquire", 2], ["receive", 1]], probes=None),
            keep=60 * S,
        ),
        trace(
            "messages of one key leave one after the other, and return together",
            *start(),
            step(0, "message", [["acquire", 1]], id=1, key=7, random=0, admission="held"),
            step(0, "message", [], id=2, key=7, random=0, admission="held"),
            step(0, "received", [], count=2),
            step(0, "granted", [["dispatch", 1]], id=1, admission=True),
            step(0, "response", [["return", 1, S, True], ["return", 2, S, False], ["receive", 2]], id=1, response="failed", retry=None),
            step(S, "message", [["acquire", 3]], id=3, key=7, attempts=2, random=0, admission="held"),
            step(S, "message", [], id=4, key=7, random=0, admission="held"),
            step(S, "received", [], count=2),
            step(S, "granted", [["dispatch", 3]], id=3, admission=True),
            step(S, "response", [["ack", 3], ["acquire", 4], ["receive", 1]], id=3, response="done"),
            order="key",
        ),
        trace(
            "a stop returns what waits and lets calls end",
            *start(),
            step(0, "message", [["acquire", 1]], id=1, admission="held"),
            step(0, "message", [["acquire", 2]], id=2, admission="held"),
            step(0, "received", [], count=2),
            step(0, "granted", [["dispatch", 1]], id=1, admission=True),
            step(0, "stop", [["give_back", 2], ["return", 2, 0, False], ["release_permits", 1]]),
            step(S, "response", [["ack", 1], ["release_permits", 1]], id=1, response="done"),
        ),
        trace(
            "records are committed as a contiguous prefix",
            *assigned(4),
            step(0, "message", [["acquire", 1]], id=1, offset=4, admission="held"),
            step(0, "message", [["pause", 0], ["acquire", 2]], id=2, offset=5, admission="held"),
            step(0, "received", [], count=2),
            step(0, "granted", [["dispatch", 1]], id=1, admission=True),
            step(0, "granted", [["dispatch", 2]], id=2, admission=True),
            step(0, "response", [["resume", 0], ["receive", 1]], id=2, response="done"),
            step(0, "response", [["commit", 0, 6]], id=1, response="done"),
            order="partition", slots=4,
        ),
        trace(
            "a record returns by a seek; what waits behind it is dropped, and what is finished does not leave again",
            *assigned(),
            step(0, "message", [["acquire", 1]], id=1, offset=0, random=0, admission="held"),
            step(0, "message", [["pause", 0], ["acquire", 2]], id=2, offset=1, admission="held"),
            step(0, "received", [], count=2),
            step(0, "granted", [["dispatch", 1]], id=1, admission=True),
            step(0, "granted", [["dispatch", 2]], id=2, admission=True),
            step(0, "response", [["resume", 0], ["receive", 1]], id=2, response="done"),
            step(
                0, "response", [["drop", 1], ["seek", 0, 0], ["pause", 0]],
                id=1, response="failed", retry=None, wake=S,
            ),
            step(0, "received", [["receive", 2]], count=1),
            step(S, "poll", [["resume", 0]]),
            step(S, "message", [["acquire", 3]], id=3, offset=0, admission="held"),
            step(S, "message", [], id=4, offset=1, admission="duplicate"),
            step(S, "granted", [["dispatch", 3]], id=3, admission=True),
            step(S, "response", [["commit", 0, 2]], id=3, response="done"),
            order="partition", slots=4,
        ),
        trace(
            "a partition that is assigned behind a closed gate is paused again",
            *assigned(),
            step(0, "held", [["pause", 0]], until=5 * S),
            step(S, "assign", [["pause", 0]], partition=0, generation=2, position=0),
            step(5 * S, "poll", [["resume", 0]]),
            order="partition",
        ),
        trace(
            "an assignment that is over commits once more, and its late answers and records do nothing",
            *assigned(),
            step(0, "message", [["acquire", 1]], id=1, offset=0, admission="held"),
            step(0, "message", [["pause", 0], ["acquire", 2]], id=2, offset=1, admission="held"),
            step(0, "received", [], count=2),
            step(0, "granted", [["dispatch", 1]], id=1, admission=True),
            step(0, "granted", [["dispatch", 2]], id=2, admission=True),
            step(0, "response", [["commit", 0, 1], ["resume", 0], ["receive", 1]], id=1, response="done"),
            step(0, "revoke", [], partition=0),
            step(0, "assign", [], partition=0, generation=2, position=1),
            step(0, "message", [], id=3, offset=1, generation=1, admission="fenced"),
            step(0, "response", [["drop", 2]], id=2, response="done"),
            step(0, "message", [["acquire", 4]], id=4, offset=1, generation=2, admission="held"),
            order="partition", slots=4,
        ),
    ]
