"""Redis is stopped, started and flushed in the middle of a run: no process dies or hangs past its
timeout, and each works again when Redis does."""

from __future__ import annotations

import time

from fleet import Fleet, fleet, wait_until
from timeline import Timeline, judge

RATE, BURST, SECONDS = 50, 50, 20.0
LIMIT, KEY = f"{RATE}/s burst {BURST}", "vendor"
STORE_TIMEOUT_US = 2_000_000
# How much longer than the timeout a call may take, while a dozen processes share two cores.
SLACK_US = 1_000_000


def everyone_admits_again(it: Fleet, what: str) -> None:
    before = {worker.name: worker.count("admitted") for worker in it.workers}
    wait_until(
        lambda: all(worker.count("admitted") > before[worker.name] for worker in it.workers),
        f"admissions by all after {what}",
        deadline=10,
    )


def errors_end(it: Fleet) -> int:
    """Waits until a whole second has passed without an error, Envoy's breakers included."""
    end, seen, since = time.monotonic() + 10, it.total("errors"), time.monotonic()
    while time.monotonic() < since + 1:
        assert time.monotonic() < end, {worker.name: worker.told for worker in it.workers}
        if it.total("errors") != seen:
            seen, since = it.total("errors"), time.monotonic()
        time.sleep(0.02)
    return seen


def test_stopped_started_and_flushed() -> None:
    with fleet(limit=LIMIT, key=KEY, seconds=SECONDS) as it:
        it.go()
        everyone_admits_again(it, "the start")
        it.redis.stop()
        wait_until(
            lambda: all(worker.count("errors") > 3 for worker in it.workers), "errors at all", 10
        )
        it.redis.start()
        everyone_admits_again(it, "Redis' return")
        errors = errors_end(it)
        # Neither of these two makes a call fail; FLUSHALL only forgets the debts.
        assert it.redis.cli("SCRIPT", "FLUSH") == "OK"
        everyone_admits_again(it, "SCRIPT FLUSH")
        with Timeline(it.redis.port, KEY) as timeline:
            assert it.redis.cli("FLUSHALL") == "OK"
            began = time.monotonic()
            everyone_admits_again(it, "FLUSHALL")
            it.finish()
            seconds = time.monotonic() - began
        assert it.total("errors") == errors, {w.name: w.told for w in it.workers}
        # A flushed bucket is full: that allows one burst more, and the rate still holds.
        assert judge(timeline.charges, RATE, 2 * BURST, seconds).kept
        for worker in it.workers:
            longest = worker.told["longest_us"]
            assert isinstance(longest, (int, float))
            # Envoy's clients also wait for the filter's call of the service, which has a timeout too.
            limit = (2 if worker.runtime == "Envoy" else 1) * STORE_TIMEOUT_US
            assert longest < limit + SLACK_US, (worker.name, worker.told)
        assert it.service.stop() == 0
