"""The operations in memory, as callers see them. `test_vectors.py` tests what they answer."""

from __future__ import annotations

import pickle
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from math import inf
from types import FrameType
from typing import Any

import pytest

from tidegate import FakeClock, InvalidArgument, Limiter, RateLimited, Reservation, StoreError

# How much later than its time a busy machine may let a waiter run.
SLACK = 10.0


class TestKeys:
    def test_a_key_per_limit_is_all_or_nothing(self) -> None:
        limiter = Limiter("10/min", "15/min", clock=FakeClock())
        assert limiter.check(["user:1", "org"], 10)
        refused = limiter.check(["user:2", "org"], 6)
        assert (refused.allowed, refused.limit_name) == (False, "15/min")
        assert limiter.check(("user:2", b"org"), 5).remaining == 0
        assert limiter.peek(["user:2", "other"], 0).remaining == 5

    def test_any_sequence_will_do(self) -> None:
        class Pair:
            def __len__(self) -> int:
                return 2

            def __getitem__(self, place: int) -> str:
                return ("user", "org")[place]

        Sequence.register(Pair)
        limiter = Limiter("10/min", "15/min", clock=FakeClock())
        limiter.check(Pair(), 3)  # type: ignore[arg-type]
        assert limiter.peek(["user", "org"], 0).remaining == 7

    def test_a_key_per_limit_is_apart_from_one_key(self) -> None:
        limiter = Limiter("10/min", "15/min", clock=FakeClock())
        limiter.check(["k", "k"], 10)
        assert limiter.peek("k", 0).remaining == 10

    def test_with_one_limit_both_forms_are_one_bucket(self) -> None:
        limiter = Limiter("10/min", clock=FakeClock())
        limiter.check(["k"], 4)
        assert limiter.peek("k", 0).remaining == 6


class TestManyChecks:
    def test_each_is_decided_by_itself_in_order(self) -> None:
        limiter = Limiter("10/min", clock=FakeClock())
        decisions = limiter.check_many(["a", ("a", 8), (b"b", 10), ("a", 2), ("a", 0), "a"])
        seen = [(decision.allowed, decision.remaining) for decision in decisions]
        assert seen == [(True, 9), (True, 1), (True, 0), (False, 1), (True, 1), (True, 0)]

    def test_keys_per_limit(self) -> None:
        limiter = Limiter("10/min", "15/min", clock=FakeClock())
        checks: list[Any] = [("user", "org"), (["user", "org"], 4), (("other", "org"), 5)]
        assert [it.remaining for it in limiter.check_many(checks)] == [9, 5, 5]

    def test_any_iterable_will_do(self) -> None:
        limiter = Limiter("10/min", clock=FakeClock())
        assert limiter.check_many([]) == []
        assert len(limiter.check_many(f"user:{number}" for number in range(1000))) == 1000
        assert limiter.peek("user:999", 0).remaining == 9


class TestReservation:
    def test_slots_are_first_come_first_served(self) -> None:
        limiter = Limiter("2/s burst 1", clock=FakeClock())
        assert [limiter.reserve("k").delay for _ in range(4)] == [0.0, 0.5, 1.0, 1.5]

    def test_a_slot_too_far(self) -> None:
        limiter = Limiter("2/s burst 1", clock=FakeClock())
        limiter.check("k")
        refused = limiter.reserve("k", max_wait=0.2)
        assert not refused and not refused.allowed and refused.delay == inf and refused.cost == 1
        assert refused.decision.retry_after == 0.3
        assert limiter.reserve("k", max_wait=0.5).delay == 0.5

    def test_cancelling_twice_gives_back_once(self) -> None:
        limiter = Limiter("2/min", clock=FakeClock())
        reservation = limiter.reserve("k")
        assert reservation.cancel() is True
        limiter.check("k")
        assert reservation.cancel() is False
        assert limiter.peek("k", 0).remaining == 1

    def test_a_slot_with_others_behind_it_stays(self) -> None:
        limiter = Limiter("1/s", clock=FakeClock())
        first, second = limiter.reserve("k"), limiter.reserve("k")
        assert (first.cancel(), second.delay, limiter.reserve("k").delay) == (False, 1.0, 2.0)

    def test_settling_once(self) -> None:
        limiter = Limiter("10/s", clock=FakeClock())
        reservation = limiter.reserve("k", 6)
        assert reservation.settle(actual=2).remaining == 8
        assert reservation.cancel() is False
        with pytest.raises(InvalidArgument, match=r"invalid reservation: .*cancelled or settled before"):
            reservation.settle(2)
        assert limiter.peek("k", 0).remaining == 8

    def test_nothing_can_be_settled_when_refused_or_cancelled(self) -> None:
        limiter = Limiter("1/s", clock=FakeClock())
        held, refused = limiter.reserve("k"), limiter.reserve("k", max_wait=0)
        with pytest.raises(InvalidArgument, match="invalid reservation: it was refused"):
            refused.settle(1)
        assert refused.cancel() is False
        assert held.cancel() is True
        with pytest.raises(InvalidArgument, match="cancelled or settled before"):
            held.settle(1)

    def test_a_bad_actual_leaves_it_usable(self) -> None:
        reservation = Limiter("10/s", clock=FakeClock()).reserve("k", 6)
        with pytest.raises(InvalidArgument, match="invalid actual"):
            reservation.settle(-1)
        assert reservation.cancel() is True

    def test_one_thread_of_many_gives_back(self) -> None:
        limiter = Limiter("50/d", clock=FakeClock())
        limiter.check("k", 49)
        for _ in range(50):
            reservation = limiter.reserve("k")
            with ThreadPoolExecutor(4) as pool:
                given_back = list(pool.map(lambda one: one.cancel(), [reservation] * 4))
            assert sorted(given_back) == [False, False, False, True]
            assert limiter.peek("k", 0).remaining == 1

    def test_repr(self) -> None:
        limiter = Limiter("1/s", clock=FakeClock())
        limiter.check("k")
        reservation = limiter.reserve("k")
        expected = f"Reservation(allowed=True, delay=1.0, cost=1, decision={reservation.decision!r})"
        assert repr(reservation) == expected
        assert repr(limiter.reserve("k", max_wait=0)).startswith("Reservation(allowed=False, delay=inf, ")

    def test_it_cannot_be_made(self) -> None:
        with pytest.raises(TypeError):
            Reservation()

    def test_closing(self) -> None:
        limiter = Limiter("10/s")
        reservation = limiter.reserve("k")
        limiter.close()
        with pytest.raises(StoreError, match="closed"):
            reservation.cancel()


class TestAcquireOnAFakeClock:
    def test_it_moves_the_clock_to_its_slot(self) -> None:
        clock = FakeClock(now=7_000_000_000)
        limiter = Limiter("5/s burst 2", "1000/h", clock=clock)
        seen = []
        for _ in range(6):
            assert limiter.acquire("k")
            seen.append(clock.now() - 7_000_000_000)
        assert seen == [0, 0, 200_000_000, 400_000_000, 600_000_000, 800_000_000]
        limiter.hold("k", 30)
        limiter.acquire("k")
        assert clock.now() == 37_800_000_000

    def test_a_timeout_leaves_the_clock_alone(self) -> None:
        clock = FakeClock()
        limiter = Limiter("1/min", clock=clock)
        limiter.acquire("k")
        with pytest.raises(RateLimited):
            limiter.acquire("k", timeout=59.9)
        assert clock.now() == 0
        limiter.acquire("k", timeout=60)
        assert clock.now() == 60 * 10**9

    def test_threads_move_it_to_the_last_slot(self) -> None:
        clock = FakeClock()
        limiter = Limiter("10/s burst 1", clock=clock)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: limiter.acquire("k"), range(100)))
        assert clock.now() >= 99 * 10**8
        assert limiter.peek("k", 0).reset_after <= 0.1


class TestRateLimited:
    def test_what_it_carries(self) -> None:
        limiter = Limiter("1/min", "10/min", clock=FakeClock())
        limiter.acquire("k")
        message = "rate limited: no slot within the timeout; try again in 55s"
        with pytest.raises(RateLimited, match=f"^{message}$") as caught:
            limiter.acquire("k", timeout=5)
        error = caught.value
        assert (error.code, error.key, error.decision.retry_after) == ("rate_limited", "k", 55.0)
        assert not error.decision
        assert limiter.peek("k", 0).remaining == 0

    def test_the_key_is_that_of_the_limit_that_bound(self) -> None:
        limiter = Limiter("10/min", "1/min", clock=FakeClock())
        limiter.acquire(["user", b"\xff"])
        with pytest.raises(RateLimited) as caught:
            limiter.acquire(["user", b"\xff"], timeout=1)
        assert caught.value.key == b"\xff"
        assert caught.value.decision.limit_name == "1/min"

    def test_it_crosses_processes(self) -> None:
        limiter = Limiter("1/min", clock=FakeClock())
        limiter.acquire("k")
        with pytest.raises(RateLimited) as caught:
            limiter.acquire("k", timeout=0)
        twin = pickle.loads(pickle.dumps(caught.value))
        assert (twin.decision, twin.key, str(twin)) == (caught.value.decision, "k", str(caught.value))


class TestAcquire:
    def test_threads_keep_the_pace(self) -> None:
        limiter = Limiter("50/s burst 5")
        start = time.monotonic()

        def acquire(_: int) -> float:
            limiter.acquire("k")
            return time.monotonic() - start

        with ThreadPoolExecutor(16) as pool:
            came = sorted(pool.map(acquire, range(25)))
        for place, at in enumerate(came):
            assert at >= (place - 4) / 50, f"{place} came at {at}"
        assert came[-1] < 20 / 50 + SLACK

    def test_it_sleeps_once_with_the_sleep_of_python(self, monkeypatch: pytest.MonkeyPatch) -> None:
        slept: list[float] = []
        monkeypatch.setattr(time, "sleep", slept.append)
        limiter = Limiter("1/h")
        for _ in range(3):
            limiter.acquire("k")
        assert [round(seconds / 3600) for seconds in slept] == [1, 2]

    def test_an_interrupted_sleep_gives_the_slot_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Interrupted(BaseException):
            pass

        def sleep(seconds: float) -> None:
            assert limiter.reserve("k").delay > seconds
            limiter.credit("k", 1)
            raise Interrupted

        limiter = Limiter("1/h")
        limiter.acquire("k")
        monkeypatch.setattr(time, "sleep", sleep)
        with pytest.raises(Interrupted):
            limiter.acquire("k")
        assert limiter.reserve("k").delay < 3600

    def test_ctrl_c_ends_it(self) -> None:
        limiter = Limiter("1/d")
        limiter.acquire("k")
        started, ended = threading.Event(), threading.Event()

        def interrupt() -> None:
            started.wait()
            # Repeated, because a signal that comes just before the sleep would not end it.
            while not ended.wait(0.05):
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)

        def handler(number: int, frame: FrameType | None) -> None:
            if not ended.is_set():
                ended.set()
                raise KeyboardInterrupt

        before = signal.signal(signal.SIGALRM, handler)
        helper = threading.Thread(target=interrupt)
        helper.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                started.set()
                limiter.acquire("k")
        finally:
            helper.join()
            signal.signal(signal.SIGALRM, before)
        assert limiter.reserve("k").delay < 86_400, "the slot was given back"

    def test_a_failing_cancel_does_not_hide_the_interruption(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def sleep(seconds: float) -> None:
            limiter.close()
            raise KeyboardInterrupt

        limiter = Limiter("1/h")
        limiter.acquire("k")
        monkeypatch.setattr(time, "sleep", sleep)
        with pytest.raises(KeyboardInterrupt):
            limiter.acquire("k")
