"""Twenty processes of three languages spend from one bucket, while everything happens that can happen
to a Redis and to the network: the limit holds, no call outlasts its timeout, and after each trouble
the bucket is in full use within a second."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from calls import (
    MILLI,
    SECOND,
    Call,
    Callers,
    Loss,
    admitted_between,
    errors_between,
    late,
    most_beyond,
    possible_between,
    show,
    unanswered,
)
from proxy import Proxy
from redis_groups import PersistentServer

RATE, BURST, SECONDS = 50, 50, 22.0
LIMIT, KEY = f"{RATE}/s burst {BURST}", "vendor"
TIMEOUT_MS, PAUSE_MS = 400, 100
SLACK_MS = 10.0


@dataclass
class Trouble:
    """Something that is wrong from `begun` to `over`."""

    what: str
    begun: int
    over: int
    data_lost: bool = False


@dataclass
class Chaos:
    """Makes each trouble at its time, and notes when it was."""

    start: int
    made: list[Trouble] = field(default_factory=list)

    def at(self, seconds: float, what: str, make: Callable[[], object], data_lost: bool = False) -> None:
        delay = (self.start - time.monotonic_ns()) / 1e9 + seconds
        assert delay > 0, f"{what} comes {-delay:.1f} s late"
        time.sleep(delay)
        begun = time.monotonic_ns()
        make()
        self.made.append(Trouble(what, begun, time.monotonic_ns(), data_lost))


@contextmanager
def fleet(folder: Path, direct: str, by_proxy: str) -> Iterator[Callers]:
    """Twenty processes, half of each language through the proxy."""
    callers = Callers(folder, LIMIT, KEY, TIMEOUT_MS, PAUSE_MS)
    try:
        for url in (direct, by_proxy):
            for _ in range(3):
                callers.python(url)
                callers.node(url)
            for _ in range(2):
                callers.python(url, "--asyncio")
                callers.rust(url)
        assert len(callers.processes) == 20
        yield callers
    finally:
        callers.stop()


def test_twenty_processes_keep_one_limit_through_all_of_it(tmp_path: Path) -> None:
    server = PersistentServer(tmp_path)
    proxy = Proxy(server.port)
    try:
        with fleet(tmp_path, server.url, f"redis://127.0.0.1:{proxy.port}") as callers:
            start = callers.go()
            troubles = make_trouble(Chaos(start), server, proxy)
            time.sleep(max(0, start / 1e9 + SECONDS - time.monotonic()))
            end = time.monotonic_ns()
            calls = callers.finish()
    finally:
        proxy.stop()
        server.stop()
    show_troubles(calls, troubles, start, end)

    losses = [Loss(it.begun, it.over, BURST) for it in troubles if it.data_lost]
    assert len(losses) == 2
    assert most_beyond(calls, RATE, BURST, losses) <= 0
    assert late(calls, TIMEOUT_MS, SLACK_MS) == []
    ends = [*(it.begun for it in troubles[1:]), end]
    for trouble, until in zip(troubles, ends, strict=True):
        again = trouble.over + SECOND
        assert again < until, f"{trouble.what}: no time to recover was left"
        assert unanswered(calls, trouble.over, again) == [], trouble.what
        assert errors_between(calls, again, until) == [], trouble.what
        used = admitted_between(calls, again, until)
        possible = possible_between(calls, RATE, BURST, again, until)
        # At either end one token may lie just outside of the span.
        assert used >= 0.97 * possible - 2, (trouble.what, used, possible)
    # These troubles make no call fail.
    for trouble in troubles:
        if trouble.what in ("SCRIPT FLUSH", "FLUSHALL", "a slow network"):
            assert errors_between(calls, trouble.begun, trouble.over) == [], trouble.what


def make_trouble(chaos: Chaos, server: PersistentServer, proxy: Proxy) -> list[Trouble]:
    def pause() -> None:
        server.ask("CLIENT", "PAUSE", "700", "ALL")
        time.sleep(0.7)

    def restart(lose: bool) -> None:
        server.stop()
        time.sleep(0.3)
        if lose:
            server.lose_all()
        server.start()

    def cut() -> None:
        proxy.cut()
        time.sleep(0.4)
        proxy.restore()

    def stall() -> None:
        proxy.stall()
        time.sleep(1.0)
        proxy.restore()

    def slow() -> None:
        proxy.delay(0.02)
        time.sleep(0.5)
        proxy.restore()

    chaos.at(1.0, "SCRIPT FLUSH", lambda: server.ask("SCRIPT", "FLUSH"))
    chaos.at(2.5, "CLIENT KILL", lambda: server.ask("CLIENT", "KILL", "TYPE", "normal"))
    chaos.at(4.0, "CLIENT PAUSE", pause)
    chaos.at(6.2, "a restart with its data", lambda: restart(lose=False))
    chaos.at(8.3, "a restart without its data", lambda: restart(lose=True), data_lost=True)
    chaos.at(10.4, "FLUSHALL", lambda: server.ask("FLUSHALL"), data_lost=True)
    chaos.at(11.9, "resets", proxy.reset)
    chaos.at(13.4, "half-closed connections", proxy.half_close)
    chaos.at(14.9, "a network that is cut", cut)
    chaos.at(16.9, "a network that stalls", stall)
    chaos.at(19.5, "a slow network", slow)
    return chaos.made


def show_troubles(calls: dict[str, list[Call]], troubles: list[Trouble], start: int, end: int) -> None:
    show(calls)
    everything = [call for made in calls.values() for call in made]
    for trouble, until in zip(troubles, [*(it.begun for it in troubles[1:]), end], strict=True):
        failed = [c for c in everything if not c.answered and trouble.begun <= c.began < until]
        last = max((c.ended for c in failed), default=trouble.over)
        print(f"{(trouble.begun - start) / SECOND:5.1f} s {trouble.what}: {len(failed)} failed, the last "
              f"{(last - trouble.over) / MILLI:.0f} ms after it was over")


def call(began_ms: float, ended_ms: float, code: int = 1, waited_ms: float = 0.0) -> Call:
    return Call(int(began_ms * MILLI), int(ended_ms * MILLI), int(waited_ms * MILLI), code)


def test_the_judges_see_one_admission_too_many_and_one_late_call() -> None:
    kept = {"a": [call(1000, 1001)] * BURST, "b": [call(1021 + 20 * i, 1022 + 20 * i) for i in range(50)]}
    assert most_beyond(kept, RATE, BURST, []) <= 0
    too_many = {**kept, "c": [call(1500, 1501)]}
    assert most_beyond(too_many, RATE, BURST, []) > 0
    # A loss of the data allows one burst more, in the windows that it touches.
    assert most_beyond(too_many, RATE, BURST, [Loss(1100 * MILLI, 1101 * MILLI, BURST)]) <= 0
    assert most_beyond(too_many, RATE, BURST, [Loss(3000 * MILLI, 3001 * MILLI, BURST)]) > 0
    assert late({"a": [call(0, 159)]}, 150, 10) == []
    assert len(late({"a": [call(0, 161)]}, 150, 10)) == 1
    assert late({"a": [call(0, 161, waited_ms=2)]}, 150, 10) == []


@pytest.mark.parametrize("harm", ["cut", "reset", "stall", "half_close"])
def test_the_proxy_does_what_it_says(harm: str, tmp_path: Path) -> None:
    server = PersistentServer(tmp_path)
    proxy = Proxy(server.port)
    try:
        with socket.create_connection(("127.0.0.1", proxy.port), 5) as link:
            link.sendall(b"PING\r\n")
            assert link.recv(99) == b"+PONG\r\n"
            getattr(proxy, harm)()
            proxy.restore()
            link.settimeout(0.3)
            try:
                link.sendall(b"PING\r\n")
                came: object = link.recv(99)
            except OSError as error:
                came = type(error)
        expected = {"cut": (b"", ConnectionResetError, BrokenPipeError), "half_close": (b"",),
                    "reset": (ConnectionResetError, BrokenPipeError), "stall": (TimeoutError,)}
        assert came in expected[harm]
        with socket.create_connection(("127.0.0.1", proxy.port), 5) as link:
            link.sendall(b"PING\r\n")
            assert link.recv(99) == b"+PONG\r\n"
    finally:
        proxy.stop()
        server.stop()
