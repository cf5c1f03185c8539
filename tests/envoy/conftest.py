"""Fixtures and helpers for the tests of the Envoy filter."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from envoy_process import HOST, EnvoyProcess


@dataclasses.dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: str


def fetch(
    envoy: EnvoyProcess,
    path: str = "/",
    headers: list[tuple[str, str | bytes]] | None = None,
    source: str = HOST,
    method: str = "GET",
    body: bytes | None = None,
) -> Answer:
    """Sends one request on its own connection, with exactly these headers."""
    connection = http.client.HTTPConnection(
        HOST, envoy.port, timeout=60, source_address=(source, 0)
    )
    with contextlib.closing(connection):
        given = {name.lower() for name, _ in headers or []}
        connection.putrequest(method, path, skip_host="host" in given)
        for name, value in headers or []:
            connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, response.read().decode())


def statuses(envoy: EnvoyProcess, count: int, **request: Any) -> list[int]:
    return [fetch(envoy, **request).status for _ in range(count)]


def wait_until(holds: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.01)


@pytest.fixture
def start() -> Iterator[Callable[..., EnvoyProcess]]:
    """Starts Envoys, which are stopped when the test ends."""
    with contextlib.ExitStack() as running:
        yield lambda *args, **options: running.enter_context(EnvoyProcess(*args, **options))


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port on which nothing listens; it is bound, so no other process is given it."""
    with socket.socket() as bound:
        bound.bind((HOST, 0))
        yield bound.getsockname()[1]
