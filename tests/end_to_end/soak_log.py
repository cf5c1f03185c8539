"""The logs of a soak: every operation of every process, and whether they kept their bounds.

The store runs on this host, so the host's wall clock is the store's clock.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

NANOS = 1_000_000_000
# Operation, outcome, key, tokens, and in nanoseconds: began, ended, the delay of a reservation.
RECORD = struct.Struct("<BBHIQQQ")
# The keys by number. Those from MANY on belong to a limiter each.
PLAIN, BACK, RESET, LEASED, LOCAL, DENIED, MANY = range(4), range(4, 6), 6, 7, 8, 9, range(10, 50)
# No bucket of a judged limit: calls on limiters that live only briefly.
NO_KEY = 999


class Op(IntEnum):
    CHECK, CHECK_MANY, PEEK, ACQUIRE, RESERVE, SETTLE, CANCEL, HOLD = range(8)
    CREDIT, RESET, RESERVING, CHURN, WRONG, FORK, SERVE = range(8, 15)


class Outcome(IntEnum):
    REFUSED, ADMITTED, STORE_ERROR, STORE_TIMEOUT, RATE_LIMITED, WRONG, CANCELLED, DONE = range(8)
    UNEXPECTED = 9


@dataclass(frozen=True, slots=True)
class Record:
    op: int
    outcome: int
    key: int
    tokens: int
    began: int
    ended: int
    delay: int


def read(log: Path) -> list[Record]:
    return [Record(*fields) for fields in RECORD.iter_unpack(log.read_bytes())]


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens that were admitted, or that a window may hold beyond its bound, at a time within a span."""

    begun: int
    ended: int
    tokens: float


def admitted(records: Iterable[Record]) -> list[Span]:
    """The admissions of a key's records, each at the time from which its tokens may be spent."""
    spending = (Op.CHECK, Op.CHECK_MANY, Op.ACQUIRE, Op.RESERVE, Op.RESERVING, Op.SERVE)
    return [
        Span(it.began + it.delay, it.ended + it.delay, it.tokens)
        for it in records
        if it.outcome == Outcome.ADMITTED and it.op in spending
    ]


def given_back(records: Iterable[Record], burst: int, farthest: int) -> list[Span]:
    """What came back to a bucket, if it may have: a call that failed may have been carried out. Slots
    that were fixed before may be `farthest` nanoseconds ahead, and others now before them."""
    back = (Op.SETTLE, Op.CANCEL, Op.CREDIT)
    return [
        Span(it.began, it.ended + farthest, burst if it.op == Op.RESET else it.tokens)
        for it in records
        if it.op in (*back, Op.RESET)
    ]


def most_beyond(spent: Sequence[Span], rate: float, burst: float, more: Sequence[Span]) -> float:
    """The most tokens by which any window exceeds its bound: at most 0 if the limit was kept.

    A window allows `burst + rate * length`, and the tokens of each span of `more` that it touches. An
    admission counts for a window that holds its whole span. All windows are judged: the ends are
    walked in order, and a tree keeps the excess for each possible start.
    """
    starts = sorted({it.begun for it in spent})
    place = {start: number for number, start in enumerate(starts)}
    tree = PrefixTree([rate * (start - starts[0]) / NANOS for start in starts])
    # What is allowed more comes before what is spent at the same time.
    events = [(it.begun, 0, it.ended, -it.tokens) for it in more]
    events += [(it.ended, 1, it.begun, it.tokens) for it in spent]
    worst = float("-inf")
    for at, is_spent, until, tokens in sorted(events):
        if is_spent:
            tree.add(place[until] + 1, tokens)
            reached = upper_bound(starts, at)
            worst = max(worst, tree.greatest(reached) - rate * (at - starts[0]) / NANOS - burst)
        else:
            tree.add(upper_bound(starts, until), tokens)
    return worst


def upper_bound(ordered: Sequence[int], value: int) -> int:
    low, high = 0, len(ordered)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if ordered[middle] <= value else (low, middle)
    return low


class PrefixTree:
    """Numbers of which a prefix is raised, and the greatest of a prefix is asked for."""

    def __init__(self, numbers: Sequence[float]) -> None:
        self._size = 1 << (len(numbers) - 1).bit_length()
        padding = [float("-inf")] * (self._size - len(numbers))
        # The greatest below each node, without what was added to its ancestors.
        self._greatest = [float("-inf")] * self._size + [*numbers, *padding]
        self._added = [0.0] * (2 * self._size)
        for node in range(self._size - 1, 0, -1):
            self._greatest[node] = max(self._greatest[2 * node], self._greatest[2 * node + 1])

    def add(self, length: int, tokens: float) -> None:
        path, node = self._cover(length)
        for whole in path:
            self._greatest[whole] += tokens
            self._added[whole] += tokens
        while node > 1:
            node //= 2
            below = max(self._greatest[2 * node], self._greatest[2 * node + 1])
            self._greatest[node] = below + self._added[node]

    def greatest(self, length: int) -> float:
        worst = float("-inf")
        for whole in self._cover(length)[0]:
            above, node = 0.0, whole // 2
            while node:
                above += self._added[node]
                node //= 2
            worst = max(worst, self._greatest[whole] + above)
        return worst

    def _cover(self, length: int) -> tuple[list[int], int]:
        """The nodes that hold exactly the first `length` numbers, and the leaf at which they end."""
        nodes, node, first, width = [], 1, 0, self._size
        if length >= width:
            return [1], 1
        while width > 1:
            width //= 2
            if length >= first + width:
                nodes.append(2 * node)
                node, first = 2 * node + 1, first + width
            else:
                node = 2 * node
        return nodes, node
