"""A flood of distinct keys that owe for a day, in Python, in Node, in the Envoy filter and in
`tidegate serve`: memory stays flat, honest callers get right answers, and no call is held up. With five
million keys in `make test-long`."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from fleet import HERE, EnvoyProcess
from quota_service import QuotaService

IS_LONG = bool(os.environ.get("TIDEGATE_TEST_LONG"))
KEYS, MAX_KEYS = (5_000_000, 1_000_000) if IS_LONG else (300_000, 60_000)
# The filter has room for 65,536 keys at most. HTTP takes its time, so that fewer keys are enough.
FILTER_KEYS, FILTER_MAX_KEYS = (5_000_000, 65_536) if IS_LONG else (50_000, 8_192)
# The service has the room of a limiter in memory, which no option changes.
SERVICE_MAX_KEYS = 1_000_000
# A key takes at most this much, and a runtime some more until it has settled.
BYTES_A_KEY, SETTLING = 48, 16 << 20
STALL_MS = 5.0
# With room for a million keys, the call that makes the last half of Node's table clears 11 MB of the
# module's memory, once in the life of a limiter: 6 to 7 ms on a busy machine.
GROWTH_OF_A_MILLION_MS = 10.0
# A stall of the limiter's own is there each time; one of the machine's is not.
RUNS = 5
HONEST, BURST = 10, 3


@dataclass
class Flood:
    """What a flood did. Times are in milliseconds, memory in bytes."""

    worst: float
    control: float
    memory: list[int]
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        before, when_full, at_the_end = (number / (1 << 20) for number in self.memory)
        return (f"the longest call {self.worst:.1f} ms, without a limiter {self.control:.1f} ms; "
                f"{before:.1f}, {when_full:.1f} and {at_the_end:.1f} MiB before, when full, at the end")


def judge(name: str, keys: int, max_keys: int, run: Callable[[], Flood], most: float = STALL_MS) -> None:
    """Memory and answers must be right in each run, and a run must be without a stall."""
    stalls = []
    for _ in range(RUNS):
        flood = run()
        print(f"{keys} keys in {name}: {flood}")
        assert flood.wrong == []
        before, when_full, at_the_end = flood.memory
        assert when_full <= before + BYTES_A_KEY * min(2 * max_keys, keys) + SETTLING
        assert at_the_end <= when_full + SETTLING
        stalls.append(flood.worst - flood.control)
        if stalls[-1] <= most:
            return
    raise AssertionError(f"a call of {name} took {stalls} ms longer than without a limiter")


@pytest.mark.parametrize("language", ["Python", "Node"])
def test_a_limiter_in_memory(language: str) -> None:
    node = [shutil.which("node") or "node", "--expose-gc", "--single-threaded-gc", "key_flood.mjs"]
    command = [sys.executable, "key_flood.py"] if language == "Python" else node

    def run() -> Flood:
        out = subprocess.run([*command, str(KEYS), str(MAX_KEYS)], cwd=HERE, check=True, capture_output=True)
        return Flood(**json.loads(out.stdout))

    most = GROWTH_OF_A_MILLION_MS if language == "Node" and IS_LONG else STALL_MS
    judge(language, KEYS, MAX_KEYS, run, most)


class Threads:
    """The threads of a process and of this one, of which one runs at a time: how long they had to wait for
    a processor."""

    def __init__(self, pid: int) -> None:
        tasks = [*Path(f"/proc/{pid}/task").iterdir(), *Path("/proc/self/task").iterdir()]
        self._files = [(task / "schedstat").open("rb", buffering=0) for task in tasks]

    def waited(self) -> float:
        """In milliseconds. Threads that have ended do not count."""
        nanos = 0
        for file in self._files:
            with contextlib.suppress(OSError):
                nanos += int(os.pread(file.fileno(), 100, 0).split()[1])
        return nanos / 1e6

    def close(self) -> None:
        for file in self._files:
            file.close()


class Honest(threading.Thread):
    """Asks one by one during a flood: with keys that have spent all they had, and with fresh ones."""

    def __init__(self, pid: int, ask: Callable[[str], bool]) -> None:
        super().__init__(daemon=True)
        self.worst, self.wrong = 0.0, list[str]()
        self._pid, self._ask, self._is_over = pid, ask, threading.Event()

    def run(self) -> None:
        # The thread of the flood lets this one run soon.
        sys.setswitchinterval(0.0002)
        threads, number = Threads(self._pid), 0
        while not self._is_over.wait(0.005):
            number += 1
            waited, began = threads.waited(), time.perf_counter()
            spent, fresh = f"honest:{number % HONEST}", f"fresh:{number}"
            answers = self._ask(spent), self._ask(fresh)
            took = (time.perf_counter() - began) * 1e3 - (threads.waited() - waited)
            self.worst = max(self.worst, took)
            if answers[0]:
                self.wrong.append(spent)
            if not answers[1]:
                self.wrong.append(fresh)
        threads.close()

    def end(self) -> None:
        self._is_over.set()
        self.join()


def memory_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]) * 1024


@dataclass
class Server:
    """A process that is flooded: how to ask it for one key, and for many."""

    pid: int
    ask: Callable[[str], bool]
    flood: Callable[[range], None]


def flooded(server: Server, keys: int, max_keys: int, *, is_limited: bool = True) -> tuple[float, list[int], list[str]]:
    for honest in range(HONEST):
        assert [server.ask(f"honest:{honest}") for _ in range(BURST)] == [True] * BURST
    before = memory_of(server.pid)
    honest_caller = Honest(server.pid, server.ask)
    honest_caller.start()
    full = min(keys, 2 * max_keys)
    server.flood(range(full))
    when_full = memory_of(server.pid)
    server.flood(range(full, keys))
    honest_caller.end()
    wrong = honest_caller.wrong if is_limited else []
    return honest_caller.worst, [before, when_full, memory_of(server.pid)], wrong


@contextlib.contextmanager
def envoy(limits: dict[str, Any] | None) -> Iterator[Server]:
    with EnvoyProcess(limits, logs_access=False) as process:
        # An honest request waits for those of all others before it.
        connections = [Connection(process.port) for _ in range(8)]
        own = Connection(process.port)

        def flood(numbers: range) -> None:
            for begin in range(numbers.start, numbers.stop, len(connections)):
                asked = list(zip(connections, range(begin, numbers.stop), strict=False))
                for connection, number in asked:
                    connection.send(f"user:{number}")
                assert all(connection.read() for connection, _ in asked)

        def ask(key: str) -> bool:
            own.send(key)
            return own.read()

        yield Server(process.pid, ask, flood)
        for each in (own, *connections):
            each.close()


class Connection:
    """A connection to Envoy. It closes one over which requests are pipelined, because it answers them itself."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""

    def send(self, key: str) -> None:
        self._socket.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nx-key: %s\r\n\r\n" % key.encode())

    def read(self) -> bool:
        """Whether the request passed."""
        while (end := self._rest.find(b"\r\n\r\n")) < 0:
            self._receive()
        head, rest = self._rest[:end], self._rest[end + 4:]
        length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        while len(rest) < length:
            self._rest = rest
            self._receive()
            rest = self._rest
        self._rest = rest[length:]
        return head.startswith(b"HTTP/1.1 200")

    def _receive(self) -> None:
        more = self._socket.recv(1 << 16)
        assert more, "Envoy closed the connection"
        self._rest += more

    def close(self) -> None:
        self._socket.close()


def test_the_envoy_filter() -> None:
    limits = {"key": {"header": "x-key"}, "local": {"limits": [f"{BURST}/d"], "max_keys": FILTER_MAX_KEYS}}

    def run() -> Flood:
        with envoy(limits) as server:
            worst, memory, wrong = flooded(server, FILTER_KEYS, FILTER_MAX_KEYS)
        with envoy(None) as server:
            control, _, _ = flooded(server, FILTER_KEYS, FILTER_MAX_KEYS, is_limited=False)
        return Flood(worst, control, memory, wrong)

    judge("the filter", FILTER_KEYS, FILTER_MAX_KEYS, run)


@contextlib.contextmanager
def service() -> Iterator[tuple[Server, Callable[[list[str]], list[bool]]]]:
    with QuotaService("--limit", f"{BURST}/d") as process:
        channel = grpc.insecure_channel(f"127.0.0.1:{process.port}")
        call = channel.unary_unary("/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit")

        def ask(keys: list[str]) -> list[bool]:
            return [code == 1 for code in codes(call(request(keys), timeout=60))]

        def flood(numbers: range) -> None:
            for begin in range(numbers.start, numbers.stop, 100):
                assert all(ask([f"user:{number}" for number in range(begin, min(begin + 100, numbers.stop))]))

        yield Server(process.pid, lambda key: ask([key])[0], flood), ask
        channel.close()


def part(number: int, content: bytes) -> bytes:
    """A field of a message; no content here has more than 127 bytes."""
    return bytes([number << 3 | 2, len(content)]) + content


def request(keys: list[str]) -> bytes:
    """A request to check a descriptor for each key."""
    entries = (part(1, part(1, b"key") + part(2, key.encode())) for key in keys)
    return part(1, b"tidegate") + b"".join(part(2, entry) for entry in entries)


def codes(response: bytes) -> list[int]:
    """The code of each descriptor: the first field of each status, which is the response's second field."""
    found, at = [], 0
    while at < len(response):
        tag, at = response[at], at + 1
        if tag == 0x08:
            at += 1
            continue
        length, at = response[at], at + 1
        assert length < 128
        if tag == 0x12:
            assert response[at] == 0x08
            found.append(response[at + 1])
        at += length
    return found


def test_the_quota_service() -> None:
    def run() -> Flood:
        with service() as (server, _):
            worst, memory, wrong = flooded(server, KEYS, SERVICE_MAX_KEYS)
        with service() as (server, ask):
            # The same number of keys, of which no more than a hundred are distinct.
            known = [f"user:{number}" for number in range(100)]

            def flood(numbers: range) -> None:
                for _ in range(0, len(numbers), 100):
                    ask(known)

            control, _, _ = flooded(Server(server.pid, server.ask, flood), KEYS, SERVICE_MAX_KEYS)
        return Flood(worst, control, memory, wrong)

    judge("the service", KEYS, SERVICE_MAX_KEYS, run)
