"""A fleet on one machine: a Redis, the quota service, an Envoy with the filter, and workers of each
runtime, which all spend from one bucket. All of it is real, and nothing is left running."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "tests" / "envoy"))

from envoy_process import EnvoyProcess  # noqa: E402

START_DEADLINE = 60.0


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def wait_until(
    condition: Callable[[], bool], what: str, deadline: float = START_DEADLINE, poll: float = 0.02
) -> None:
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not happen within {deadline:.0f} s")
        time.sleep(poll)


class RedisServer:
    """A redis-server of our own, empty at each start."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        if shutil.which("redis-server") is None:
            raise RuntimeError("redis-server is missing; install it with: apt-get install redis-server")
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
             "--appendonly", "no", "--daemonize", "no"],
            stdout=subprocess.DEVNULL,
        )
        wait_until(lambda: self.cli("PING") == "PONG", "redis-server's start")

    def cli(self, *words: str) -> str:
        done = subprocess.run(
            ["redis-cli", "-p", str(self.port), *words], capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class QuotaService:
    """`tidegate serve` on free ports."""

    def __init__(self, store_url: str, limit: str, log: Path) -> None:
        ports = log.with_suffix(".ports")
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [tidegate_binary(), "serve", "--store", store_url, "--limit", limit,
                 "--store-timeout", "2s", "--request-timeout", "4s",
                 "--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0",
                 "--ports-file", str(ports)],
                stdout=out, stderr=subprocess.STDOUT,
            )
        try:
            wait_until(ports.exists, "the quota service's start")
        except TimeoutError:
            self.stop()
            raise RuntimeError(f"the quota service did not start:\n{log.read_text()}") from None
        self.grpc_port: int = json.loads(ports.read_text())["grpc"]

    def stop(self) -> int:
        self._process.terminate()
        return self._process.wait()


def tidegate_binary() -> str:
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    binary = target / "release" / "tidegate"
    if not binary.exists():
        raise RuntimeError("the tidegate command is not built; build it with: make build")
    return str(binary)


@dataclass
class Worker:
    """A process that attempts calls, and the counts that it has printed last."""

    name: str
    runtime: str
    command: Sequence[str]
    told: dict[str, object] = field(default_factory=dict)
    done: bool = False

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if line != "ready":
            raise RuntimeError(f"{self.name} is not ready: {line!r}, exit {self.process.poll()}")

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.told = json.loads(line)
            self.done = bool(self.told["final"])

    def finish(self, deadline: float) -> None:
        self.reader.join(deadline)
        if self.process.wait(deadline) != 0 or not self.done:
            raise RuntimeError(f"{self.name} ended with status {self.process.returncode}")

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def count(self, what: str) -> int:
        value = self.told.get(what, 0)
        assert isinstance(value, int)
        return value


@dataclass
class Fleet:
    """All that runs: `with fleet(...) as it:` starts it and stops it."""

    redis: RedisServer
    service: QuotaService
    envoy: EnvoyProcess
    workers: list[Worker]

    def go(self) -> None:
        for worker in self.workers:
            worker.go()

    @property
    def done(self) -> bool:
        return all(worker.done for worker in self.workers)

    def finish(self, deadline: float = 60.0) -> None:
        for worker in self.workers:
            worker.finish(deadline)

    def total(self, what: str) -> int:
        return sum(worker.count(what) for worker in self.workers)


@contextlib.contextmanager
def fleet(
    *, limit: str, key: str, seconds: float, skewed: bool = False, attempts: int = 100
) -> Iterator[Fleet]:
    """Two Python processes, two Node processes and an Envoy under load, on one bucket.

    With `skewed`, the wall clock of one Python worker is an hour ahead, and the wall clock of one
    Node worker is an hour behind.
    """
    node = shutil.which("node")
    if node is None:
        raise RuntimeError("node is missing; install Node.js 20 or newer")
    with contextlib.ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tidegate-fleet-")))
        redis = RedisServer()
        stack.callback(redis.stop)
        service = QuotaService(redis.url, limit, logs / "service.log")
        stack.callback(service.stop)
        envoy = stack.enter_context(EnvoyProcess(filter_config(), rls_port=service.grpc_port, concurrency=2))
        arguments = [limit, key, str(seconds), str(attempts)]
        python = [sys.executable, "worker.py", redis.url, *arguments]
        javascript = [node, "worker.mjs", redis.url, *arguments]
        http = [sys.executable, "worker_http.py", str(envoy.port), key, str(seconds), str(2 * attempts), "4"]
        workers = [
            Worker("python", "Python", ahead(python) if skewed else python),
            Worker("python asyncio", "Python", [*python, "--asyncio"]),
            Worker("node 1", "Node", behind(javascript) if skewed else javascript),
            Worker("node 2", "Node", javascript),
            Worker("envoy", "Envoy", http),
        ]
        for worker in workers:
            worker.start()
            stack.callback(worker.stop)
        yield Fleet(redis, service, envoy, workers)


def filter_config() -> dict[str, object]:
    return {
        "key": {"header": "x-vendor"},
        "service": {"cluster": "tidegate", "domain": "tidegate", "descriptor": "key",
                    "timeout": "4s", "on_error": "deny"},
    }


def ahead(command: Sequence[str]) -> list[str]:
    return wall_clock_off("+3600s", command)


def behind(command: Sequence[str]) -> list[str]:
    return wall_clock_off("-3600s", command)


def wall_clock_off(by: str, command: Sequence[str]) -> list[str]:
    if shutil.which("faketime") is None:
        raise RuntimeError("faketime is missing; install it with: apt-get install faketime")
    return ["faketime", "-f", by, *command]
