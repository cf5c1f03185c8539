"""Every way to spend a bucket at once: two Envoys with the filter and two workers each, an Envoy with its own quota
filter, two Python and two Node processes with leases. They keep one limit and use it up, also when the service is
killed and started again."""

from __future__ import annotations

import contextlib
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from fleet import HERE, EnvoyProcess, RedisServer, free_port, tidegate_binary, wait_until
from rlqs_envoy import Client, quota_filter

RATE, TTL = 200, 1.0
KEY = "all"
# A machine that keeps clients waiting uses less than is given; it is measured again then.
STRETCH, STRETCHES = 4.0, 6

Admission = tuple[int, int]


class Service:
    """`tidegate serve` on one port, whenever it runs."""

    def __init__(self, redis: RedisServer, folder: Path) -> None:
        self.port = free_port()
        self._command = [
            tidegate_binary(), "serve", "--rlqs", "--store", redis.url, "--limit", f"{RATE}/s",
            "--store-timeout", "10s", "--grpc-listen", f"127.0.0.1:{self.port}",
            "--http-listen", "127.0.0.1:0", "--ports-file", str(folder / "ports"),
        ]  # fmt: skip
        self._ports = folder / "ports"
        self._log = folder / "service.log"

    def start(self) -> None:
        self._ports.unlink(missing_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        wait_until(self._ports.exists, f"the service's start ({self._log.read_text()})")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class Program:
    """A leaseholder, which logs when its calls were allowed."""

    def __init__(self, command: list[str], redis: RedisServer, log: Path, demand: int) -> None:
        self.log = log
        arguments = [redis.url, f"{RATE}/s", KEY, str(TTL), f"1000:{demand}", str(log)]
        self.process = subprocess.Popen(
            [*command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ready(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def go(self) -> None:
        assert self.process.stdin is not None
        now = time.monotonic_ns()
        self.process.stdin.write(f"{now} {now + 1000 * 10**9}\n")
        self.process.stdin.flush()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def admissions(self) -> list[Admission]:
        data = self.log.read_bytes() if self.log.exists() else b""
        return list(struct.iter_unpack("<QQ", data[: len(data) // 16 * 16]))


def admissions_of(clients: list[Client]) -> list[Admission]:
    sent = [it for client in clients for it in list(client.requests) if it.allowed]
    return [(int(it.sent * 1e9), int(it.answered * 1e9)) for it in sent]


class Parts:
    """All that spends, by name."""

    def __init__(self, service: Service, clients: dict[str, list[Client]], programs: dict[str, Program]) -> None:
        self.service = service
        self._clients = clients
        self._programs = programs

    def admissions(self) -> dict[str, list[Admission]]:
        of_envoys = {name: admissions_of(clients) for name, clients in self._clients.items()}
        return of_envoys | {name: it.admissions() for name, it in self._programs.items()}

    def all_admit(self, since: int) -> bool:
        return all(any(after >= since for _, after in each[-50:]) for each in self.admissions().values())

    def best_use(self, enough: float) -> float:
        """The part of the limit that is used in the first stretch in which it is enough, or in the best one."""
        best = 0.0
        for _ in range(STRETCHES):
            begin = time.monotonic_ns()
            time.sleep(STRETCH)
            end = time.monotonic_ns()
            each = self.admissions().values()
            count = sum(begin <= after < end for admissions in each for _, after in admissions)
            best = max(best, count / RATE / ((end - begin) / 1e9))
            if best >= enough:
                break
        return best


@contextlib.contextmanager
def parts() -> Iterator[Parts]:
    leased = {
        "descriptors": [{"actions": [{"generic_key": {"descriptor_value": KEY}}]}],
        "service": {
            "cluster": "tidegate", "mode": "leased", "timeout": "5s", "max_lease_ttl": f"{TTL:.0f}s",
            "workers": 4, "on_error": "deny",
        },
    }  # fmt: skip
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tidegate-mixed-")))
        redis = RedisServer()
        stack.callback(redis.stop)
        service = Service(redis, folder)
        service.start()
        stack.callback(service.kill)
        programs = {}
        for number in range(2):
            for name, command in (
                ("Python", [sys.executable, str(HERE / "leaseholder.py")]),
                ("Node", ["node", str(HERE / "leaseholder.mjs")]),
            ):
                log = folder / f"{name}{number}"
                programs[f"{name} {number}"] = Program(command, redis, log, 40)
                stack.callback(programs[f"{name} {number}"].stop)
        envoys = {
            f"filter {number}": EnvoyProcess(leased, rls_port=service.port, concurrency=2) for number in range(2)
        }
        # Envoy allows all requests while nothing is assigned, unless it is told otherwise.
        nothing = {"fallback_rate_limit": {"blanket_rule": "DENY_ALL"}}
        expired = nothing | {"expired_assignment_behavior_timeout": "600s"}
        quota = quota_filter(no_assignment_behavior=nothing, expired_assignment_behavior=expired)
        envoys["RLQS"] = EnvoyProcess(None, filters_before=[quota], rls_port=service.port)
        clients = {}
        for name, envoy in envoys.items():
            stack.enter_context(envoy)
            # Several connections, so that each worker has some.
            clients[name] = [Client(envoy.port, 25) for _ in range(4)]
        for program in programs.values():
            program.ready()
        for program in programs.values():
            program.go()
        for client in (client for each in clients.values() for client in each):
            stack.enter_context(client)
        yield Parts(service, clients, programs)


def worst_excess(admissions: list[Admission]) -> float:
    """The most by which the admissions that surely lie within a window exceed `RATE` times its length, over all windows
    of up to ten seconds that begin with every fifth of them."""
    worst = 0.0
    by_begin = sorted(admissions)
    for first in range(0, len(by_begin), 5):
        start, _ = by_begin[first]
        ends = sorted(after for _, after in by_begin[first : first + 12 * RATE] if after < start + 10 * 10**9)
        for count, end in enumerate(ends, start=1):
            worst = max(worst, count - RATE * (end - start) / 1e9)
    return worst


def test_all_kinds_of_spenders_keep_one_limit_and_use_it_also_when_the_service_is_killed() -> None:
    with parts() as it:
        wait_until(lambda: it.all_admit(0), "each part has its share")
        before = it.best_use(0.95)
        it.service.kill()
        time.sleep(1)
        it.service.start()
        again = time.monotonic_ns()
        wait_until(lambda: it.all_admit(again), "each part has its share again")
        after = it.best_use(0.95)
        told = it.admissions()
    admissions = [each for part in told.values() for each in part]
    excess = worst_excess(admissions)
    counts = {name: len(each) for name, each in told.items()}
    print(f"used {before:.3f}, after the restart {after:.3f}; at most {excess:.0f} above the rate; {counts}")
    # The bucket's burst, and what may be spent up to a ttl after it was given.
    assert excess <= RATE + RATE * TTL
    assert before >= 0.9
    assert after >= 0.9


def test_the_judge_sees_a_request_too_many() -> None:
    second = 10**9
    even = [(at * second // RATE, at * second // RATE) for at in range(10 * RATE)]
    assert worst_excess(even) <= 1
    burst = [(5 * second, 5 * second)] * RATE
    assert worst_excess([*even, *burst]) >= RATE - 5
