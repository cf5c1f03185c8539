"""Fleets that call one vendor over a shared bucket: the safe rate is kept and used, holds stop everybody, failure is
not multiplied."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import RedisServer, VendorProcess

from tidegate import AsyncOutbound
from tidegate.httpx import AsyncOutboundTransport

WORKER = Path(__file__).with_name("outbound_worker.py")
# The vendor's limit, and the limit that keeps it although requests are up to 0.4 s late.
LIMIT, WINDOW, JITTER = 60, 2.0, 0.4
SAFE, RATE = f"{LIMIT} in any 2s jitter 400ms", LIMIT / (WINDOW + JITTER)


class Fleet:
    """Processes that are ready to call."""

    def __init__(self, size: int, vendor: VendorProcess, redis: RedisServer, prefix: str, **given: Any) -> None:
        given = {"vendor": vendor.url, "store": redis.url, "prefix": prefix, "mode": "send", "options": {}, **given}
        self._processes = [
            subprocess.Popen(
                [sys.executable, str(WORKER), json.dumps({**given, "client": str(number)})],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(size)
        ]
        for process in self._processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"

    def start(self) -> None:
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()

    def reports(self) -> list[dict[str, Any]]:
        reports = []
        for process in self._processes:
            output, _ = process.communicate(timeout=120)
            assert process.returncode == 0
            reports.append(json.loads(output))
        return reports

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.communicate()


def assert_safe_and_used(log: list[dict[str, Any]], calls: int) -> None:
    assert [entry["status"] for entry in log] == [200] * calls
    took = log[-1]["at"] - log[0]["at"]
    assert (calls - 1) / took >= 0.95 * RATE, took


@pytest.mark.parametrize("kind", ["sliding", "fixed"])
def test_processes_use_the_safe_rate_and_are_never_refused(
    kind: str, redis_server: RedisServer, prefix: str
) -> None:
    with (
        VendorProcess(limit=LIMIT, window=WINDOW, kind=kind, latency=0.05) as vendor,
        Fleet(8, vendor, redis_server, prefix, limit=SAFE, calls=12) as fleet,
    ):
        fleet.start()
        fleet.reports()
        assert_safe_and_used(vendor.log(), 8 * 12)


def test_tasks_use_the_safe_rate_and_are_never_refused(redis_server: RedisServer, prefix: str) -> None:
    async def main(url: str) -> None:
        outbound = AsyncOutbound(SAFE, store=redis_server.url, prefix=prefix, store_timeout=30)
        async with outbound, httpx.AsyncClient(transport=AsyncOutboundTransport(outbound)) as client:

            async def task() -> None:
                for _ in range(5):
                    assert (await client.get(f"{url}/call")).status_code == 200

            await asyncio.gather(*(task() for _ in range(20)))

    with VendorProcess(limit=LIMIT, window=WINDOW, latency=0.05) as vendor:
        asyncio.run(main(vendor.url))
        assert_safe_and_used(vendor.log(), 20 * 5)


def test_a_hold_stops_every_process_and_they_come_back_at_the_pace(redis_server: RedisServer, prefix: str) -> None:
    with (
        VendorProcess(limit=1_000, latency=0.01, retry_after=2) as vendor,
        Fleet(8, vendor, redis_server, prefix, limit=SAFE, calls=10, mode="block") as fleet,
    ):
        fleet.start()
        while vendor.counts()["requests"] < 20:
            pass
        vendor.set(refuse=1)
        reports = fleet.reports()
        log = vendor.log()
    (stored,) = (at for report in reports for at in report["held"])
    left = sorted(at for report in reports for at in report["left"])
    refused = next(entry for entry in log if entry["status"] == 429)
    assert sum(entry["status"] == 429 for entry in log) == 1
    # No call leaves any process once the hold is stored, but for those that were about to.
    assert [at - stored for at in left if stored + 0.1 < at < stored + 1.9] == []
    # Then there is one token, and the pace.
    later = [entry["at"] for entry in log if entry["at"] >= refused["at"] + 1.9]
    assert later
    assert sum(at < later[0] + 1.0 for at in later) <= RATE + 2
    # A token has come back after two seconds and not only at some time.
    assert later[0] - refused["at"] < 2.0 + 1.0


def test_total_failure_offers_at_most_1_1_requests_for_each_call(redis_server: RedisServer, prefix: str) -> None:
    options = {"attempts": 5, "base": 0.001}
    with (
        VendorProcess(limit=1, fail=503) as vendor,
        Fleet(4, vendor, redis_server, prefix, limit="unlimited", calls=300, options=options) as fleet,
    ):
        fleet.start()
        fleet.reports()
        requests = vendor.counts()["requests"]
    assert 1.09 * 4 * 300 <= requests <= 1.1 * 4 * 300


def test_a_deadline_holds_whatever_the_vendor_says(redis_server: RedisServer, prefix: str) -> None:
    options = {"attempts": 1_000, "base": 0.01, "longest": 0.02, "percent": 100, "reserve": 1_000}
    with (
        VendorProcess(limit=1, fail=503, latency=0.02) as vendor,
        Fleet(4, vendor, redis_server, prefix, limit="40/s", calls=2, mode="brief", options=options) as fleet,
    ):
        fleet.start()
        reports = fleet.reports()
    assert all(status in (0, 503) for report in reports for status in report["statuses"])
    for report in reports:
        assert len(report["left"]) > 2  # it was tried again
