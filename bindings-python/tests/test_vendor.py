"""The vendor of `tests/vendor`: it counts as it says, because the tests of outbound calls believe its log."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from conftest import VendorProcess
from vendor.windows import window_of

TESTS = Path(__file__).resolve().parents[2] / "tests"


def allowed(kind: str, times: list[float], burst: int = 0) -> list[bool]:
    """Which requests of a vendor of 2 in a second are allowed."""
    window, answers = window_of(kind, 2, 1.0, burst), []
    for at in times:
        answers.append(window.wait(at) <= 0)
        if answers[-1]:
            window.count(at)
    return answers


def test_windows_count_as_they_are_named() -> None:
    times = [0.9, 0.95, 0.99, 1.0, 1.1, 1.2, 1.95, 2.0]
    assert allowed("fixed", times) == [True, True, False, True, True, False, False, True]
    assert allowed("sliding", times) == [True, True, False, False, False, False, True, True]
    assert allowed("bucket", times) == [True, True, False, False, False, False, True, True]
    assert allowed("bucket", times, burst=1) == [True, False, False, False, False, False, True, False]


@pytest.mark.parametrize("kind", ["fixed", "sliding", "bucket"])
def test_a_wait_is_just_long_enough(kind: str) -> None:
    window = window_of(kind, 3, 1.0, 0)
    now = 0.4
    for _ in range(50):
        wait = window.wait(now)
        if wait > 0:
            assert window.wait(now + wait * 0.9) > 0
            now += wait + 1e-9
            assert window.wait(now) <= 0
        window.count(now)


def test_it_refuses_logs_and_changes() -> None:
    with VendorProcess(limit=1, window=1_000, style="ratelimit", count_refused=True) as vendor:
        assert urllib.request.urlopen(f"{vendor.url}/a").status == 200
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(urllib.request.Request(f"{vendor.url}/b", b"body", {"X-Client": "7"}))
        caught.value.close()
        assert (caught.value.code, caught.value.headers["RateLimit-Policy"]) == (429, '"default";q=1;w=1000')
        vendor.set(fail=503, latency=0.0)
        with pytest.raises(urllib.error.HTTPError, match="503") as caught:
            urllib.request.urlopen(f"{vendor.url}/c")
        caught.value.close()
        first, second, third = vendor.log()
        assert [entry["status"] for entry in (first, second, third)] == [200, 429, 503]
        assert (second["method"], second["path"], second["client"]) == ("POST", "/b", "7")
        assert first["at"] <= second["at"] <= third["at"]
        assert vendor.counts()["by_status"] == {"200": 1, "429": 1, "503": 1}


def test_it_keeps_connections_and_ends_with_its_input() -> None:
    command = [sys.executable, "-m", "vendor", "--limit", "5"]
    with subprocess.Popen(command, cwd=TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        connection = http.client.HTTPConnection(ready["host"], ready["port"], timeout=60)
        for _ in range(3):
            connection.request("GET", "/")
            assert json.loads(connection.getresponse().read()) == {"ok": True}
        process.stdin.close()
        assert process.wait(60) == 0
        connection.close()
