"""Fixtures: a real redis-server on a free port, stopped by its process id."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from vendor.process import VendorProcess  # noqa: F401 (the tests of outbound calls share it)

# The deadlines suit a busy machine; whoever waits goes on as soon as the condition holds.
START_DEADLINE = 60.0
CHILD_DEADLINE = 60
# A busy machine answers late; most tests are not about how fast Redis answers.
PATIENT = 30.0


class RedisServer:
    """One redis-server process that can be stopped and started again."""

    def __init__(self, folder: Path, *options: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.folder = folder
        self.options = options
        self.url = f"redis://127.0.0.1:{self.port}"
        self.unix_socket = folder / "redis.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--save", "", "--appendonly", "no", "--dir", str(self.folder)]
        command += ["--unixsocket", str(self.unix_socket), *self.options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + START_DEADLINE
        while not self._answers():
            assert self._process.poll() is None, "redis-server ended while starting"
            assert time.monotonic() < deadline, "redis-server did not start in time"
            time.sleep(0.01)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Stops the process: its connections stay open, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=START_DEADLINE)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.AuthenticationError:
            return True
        except redis.ConnectionError:
            return False


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server that all tests share and leave running."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own, to stop, freeze and flush."""
    server = RedisServer(tmp_path)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def prefix() -> str:
    """A prefix that no other test uses."""
    return f"test-{uuid.uuid4().hex}"


def options_for(kind: str, store: object, server: RedisServer, prefix: str) -> dict[str, Any]:
    """The options of a limiter on one kind of store; `store` is the client."""
    if kind == "memory":
        return {}
    if kind == "shm":
        return {"store": f"shm://{prefix}", "prefix": prefix}
    return {"store": server.url if kind == "url" else store, "prefix": prefix, "store_timeout": PATIENT}


def in_child(check: Callable[[], bool]) -> None:
    """Forks, and fails unless `check` holds in the child within a minute."""
    child = os.fork()
    if child == 0:
        status = 2
        try:
            signal.alarm(CHILD_DEADLINE)
            status = 0 if check() else 1
        except BaseException:  # noqa: BLE001 (the child must reach os._exit)
            traceback.print_exc()
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == 0, f"the child ended with {status}"
