"""Limits, limiters, decisions and clocks in memory."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from math import ceil, ulp
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate import AsyncLimiter, CostTooLarge, Decision, FakeClock, InvalidLimit, Limit, Limiter, StoreError


class TestLimit:
    def test_numbers_and_text_are_one(self) -> None:
        limit = Limit(100, per=60, burst=20, name="user")
        assert limit == Limit("100/min burst 20", name="user")
        assert (limit.tokens, limit.period, limit.burst) == (100, 60.0, 20)
        assert (limit.shape, limit.name) == ("smooth", "user")
        assert Limit(100, 60, 20, "user") == limit

    def test_the_burst_defaults_to_the_tokens(self) -> None:
        assert Limit(100, per=60).burst == 100

    def test_the_name_defaults_to_the_text_as_given(self) -> None:
        assert Limit("100 / minute").name == "100 / minute"
        assert Limit(" 10 in any 1s jitter 50ms\n").name == "10 in any 1s jitter 50ms"
        assert Limit(100, per=60).name == "100/min"
        assert Limit("100 / minute", name="user").name == "user"

    def test_str_and_repr(self) -> None:
        assert str(Limit("5_000/hour window")) == "5000/h window"
        assert repr(Limit("10/s")) == "Limit('10/s')"
        assert repr(Limit("10/s", name='a"b')) == "Limit('10/s', name='a\"b')"
        assert eval(repr(Limit("10/s", name="x\n"))) == Limit("10/s", name="x\n")

    def test_equality_and_hash(self) -> None:
        same = {Limit("60/min"), Limit(60, per=60), Limit("60/minute", name="60/min")}
        assert len(same) == 1
        assert Limit("1/s") != Limit("60/min")
        assert Limit("1/s", name="a") != Limit("1/s", name="b")
        assert Limit("5/s") != Limit("5/s window")
        assert Limit("1/s") != "1/s"

    @pytest.mark.parametrize("text", ["10/s", "100/min burst 20", "5000/h window", "9 in any 1s"])
    def test_it_can_be_pickled_and_copied(self, text: str) -> None:
        for limit in (Limit(text), Limit(text, name="vendor")):
            for twin in (pickle.loads(pickle.dumps(limit)), copy.deepcopy(limit)):
                assert twin == limit and twin.name == limit.name

    def test_it_cannot_be_changed(self) -> None:
        with pytest.raises(AttributeError):
            Limit("10/s").tokens = 11  # type: ignore[misc]

    @pytest.mark.parametrize(
        ("per", "period"),
        [(0.1, 100_000_000), (1e-06, 1_000), (0.25, 250_000_000), (86400.0, 86_400 * 10**9)],
    )
    def test_a_float_means_its_shortest_decimal(self, per: float, period: int) -> None:
        assert Limit(1, per=per, name="one") == Limit(f"1/{period}ns", name="one")

    @given(st.integers(1, 2**51))
    def test_every_period_survives_as_a_float(self, period: int) -> None:
        limit = Limit(f"1/{period}ns", name="one")
        assert Limit(1, per=limit.period, name="one") == limit


class TestLimiter:
    def test_limits_are_texts_or_limits(self) -> None:
        limiter = Limiter("10/s", Limit("100/min", name="minute"))
        assert limiter.limits == (Limit("10/s"), Limit("100/min", name="minute"))
        assert repr(limiter) == (
            "<tidegate.Limiter(Limit('10/s'), Limit('100/min', name='minute')) in memory>"
        )

    @pytest.mark.parametrize("count", [0, 5])
    def test_one_to_four_limits(self, count: int) -> None:
        with pytest.raises(InvalidLimit, match="1 to 4") as caught:
            Limiter(*["1/s"] * count)
        assert caught.value.reason == "tier_count"
        assert len(Limiter(*["1/s"] * 4).limits) == 4

    def test_the_binding_limit_is_named(self) -> None:
        limiter = Limiter("10/s", Limit("3/h", name="hourly"), clock=FakeClock())
        assert limiter.check("k", 3).limit_name == "hourly"
        refused = limiter.check("k")
        assert (refused.allowed, refused.limit_name, refused.retry_after) == (False, "hourly", 1200.0)

    def test_str_and_bytes_are_one_key(self) -> None:
        limiter = Limiter("1/h")
        assert limiter.check("clé")
        assert not limiter.check("clé".encode())

    def test_limiters_in_memory_do_not_share(self) -> None:
        first, second = Limiter("1/h"), Limiter("1/h")
        assert first.check("k") and second.check("k")

    def test_peek_spends_nothing(self) -> None:
        limiter = Limiter("2/h", clock=FakeClock())
        assert [limiter.peek("k", 0).remaining for _ in range(3)] == [2, 2, 2]
        limiter.check("k", 2)
        assert limiter.peek("k", 0) == limiter.check("k", 0)
        assert limiter.peek("k", 0).allowed and limiter.peek("k", 0).remaining == 0

    def test_peek_answers_what_the_check_after_it_answers(self) -> None:
        limiter = Limiter("3/h", "5/d", clock=FakeClock())
        for key in ("k", ["k", "org"]):
            for cost in (2, 1, 1, 3, 0):
                assert [limiter.peek(key, cost) for _ in range(3)] == [limiter.peek(key, cost)] * 3
                peeked = limiter.peek(key, cost=cost)
                assert peeked == limiter.check(key, cost), (key, cost)
            assert limiter.peek(key) == limiter.check(key)
            with pytest.raises(CostTooLarge):
                limiter.peek(key, 4)
        assert not limiter.peek("k") and limiter.peek("another")

    def test_closing(self) -> None:
        with Limiter("1/s") as limiter:
            assert limiter.check("k")
        limiter.close()
        with pytest.raises(StoreError, match="closed"):
            limiter.check("k")

    def test_threads_share_a_limiter_exactly(self) -> None:
        limiter = Limiter("1000/d burst 500")
        start = threading.Barrier(8)

        def spend(_: int) -> int:
            start.wait()
            return sum(limiter.check("k").allowed for _ in range(200))

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(spend, range(8))) == 500

    def test_importing_has_no_side_effects(self) -> None:
        program = (
            "import os, socket, tidegate; "
            "tidegate.Limiter('1/s', store='redis://127.0.0.1:1').close(); "
            "print(len(os.listdir('/proc/self/task')), "
            "sum(os.readlink(f'/proc/self/fd/{fd}').startswith('socket:') "
            "for fd in os.listdir('/proc/self/fd') if os.path.lexists(f'/proc/self/fd/{fd}')))"
        )
        run = subprocess.run(
            [sys.executable, "-c", program],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=True,
        )
        assert run.stdout.split() == ["1", "0"], "one thread, no socket"

    def test_a_forked_child_has_a_copy_of_the_buckets(self) -> None:
        limiter = Limiter("2/h")
        assert limiter.check("k")
        child = os.fork()
        if child == 0:
            seen = [limiter.check("k").allowed for _ in range(2)]
            os._exit(0 if seen == [True, False] else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert limiter.check("k")


class TestRoomForKeys:
    KEYS = tuple(f"user:{number}" for number in range(1000))

    @pytest.fixture(params=[Limiter, AsyncLimiter])
    def make(self, request: pytest.FixtureRequest) -> Any:
        return request.param

    def test_there_is_room_for_a_million_unless_told(self, make: Any) -> None:
        assert make("1/s").pressure == make("1/s", max_keys=None, on_full=None).pressure
        limiter = Limiter("1/d")
        assert all(limiter.check_many(self.KEYS)) and not any(limiter.check_many(self.KEYS))
        assert limiter.pressure == Limiter("1/s").pressure

    def test_deny_refuses_new_keys_and_forgets_no_debt(self) -> None:
        clock = FakeClock()
        limiter = Limiter("1/d", max_keys=100, on_full="deny", clock=clock)
        decisions = dict(zip(self.KEYS, limiter.check_many(self.KEYS), strict=True))
        kept = [key for key, decision in decisions.items() if decision]
        assert 100 <= len(kept) < 300
        denied = len(self.KEYS) - len(kept)
        assert (limiter.pressure.evicted, limiter.pressure.denied) == (0, denied)
        assert not any(limiter.check_many(kept))
        key, refused = next(each for each in decisions.items() if not each[1])
        assert refused.retry_after == pytest.approx(86400)
        clock.advance(refused.retry_after)
        assert limiter.check(key)

    @pytest.mark.parametrize("options", [{}, {"on_full": "evict_idlest"}])
    def test_evicting_admits_new_keys_and_says_so(self, options: dict[str, Any]) -> None:
        limiter = Limiter("1/d", max_keys=100, clock=FakeClock(), **options)
        assert all(limiter.check_many(self.KEYS))
        pressure = limiter.pressure
        assert len(self.KEYS) - 300 < pressure.evicted <= len(self.KEYS) - 100
        assert pressure.denied == 0
        assert repr(pressure) == f"Pressure(evicted={pressure.evicted}, denied=0)"

    def test_pressure_in_shared_memory_is_everybodys(self, tmp_path: Path) -> None:
        store = f"shm://pressure?max_keys=20&on_full=deny&dir={tmp_path}"
        with Limiter("1/d", store=store) as one, Limiter("1/d", store=store) as other:
            denied = sum(not decision for decision in one.check_many(self.KEYS[:100]))
            assert one.pressure == other.pressure
            assert (other.pressure.evicted, other.pressure.denied) == (0, denied) and denied > 0


class TestDecision:
    def test_its_truth_is_whether_it_allows(self) -> None:
        limiter = Limiter("1/s", clock=FakeClock())
        assert bool(limiter.check("k")) is True
        assert bool(limiter.check("k")) is False

    def test_repr(self) -> None:
        decision = Limiter("3/s burst 2", clock=FakeClock()).check("k")
        assert repr(decision) == (
            "Decision(allowed=True, limit=2, remaining=1, retry_after=0.0, "
            "reset_after=0.333333334, limit_name='3/s burst 2', source='memory')"
        )

    def test_equality_and_hash(self) -> None:
        def decide(text: str = "2/s", cost: int = 1) -> Decision:
            return Limiter(text, clock=FakeClock()).check("k", cost)

        assert decide() == decide() and len({decide(), decide()}) == 1
        assert decide() != decide(cost=2)
        assert decide() != Limiter(Limit("2/s", name="x"), clock=FakeClock()).check("k")
        assert decide() != (True,)

    def test_it_cannot_be_made_or_changed(self) -> None:
        with pytest.raises(TypeError):
            Decision()
        with pytest.raises(AttributeError):
            Limiter("2/s").check("k").allowed = False  # type: ignore[misc]


class TestFakeClock:
    def test_it_stands_still_and_moves(self) -> None:
        clock = FakeClock(now=5_000_000_000)
        assert clock.now() == 5_000_000_000
        clock.advance(0.1)
        assert clock.now() == 5_100_000_000
        clock.set(7)
        assert (clock.now(), repr(clock), FakeClock().now()) == (7, "FakeClock(now=7)", 0)

    @given(st.integers(0, 2**51))
    def test_advancing_by_a_reported_duration_is_exact(self, nanos: int) -> None:
        clock = FakeClock()
        clock.advance(nanos / 1e9)
        assert clock.now() == nanos

    @given(st.integers(1, 2**63))
    def test_a_reported_duration_is_always_enough(self, nanos: int) -> None:
        # A step of a hundred years brings one token. The debt puts the next one off by several steps.
        period = 36_500 * 86_400 * 10**9
        debt = -(-nanos // period)
        clock = FakeClock(now=debt * period - nanos)
        limiter = Limiter("1/36500d window", clock=clock)
        owing, _ = [limiter.settle(key, 0, debt) for key in ("k", "other")]
        for said in (limiter.check("k").retry_after, owing.reset_after, limiter.reserve("other").delay):
            assert ceil(said * 1e9) >= nanos and Fraction(said) * 10**9 >= nanos - Fraction(1, 2)
            # It is at most as much too long as floats of this size are apart.
            assert Fraction(said) * 10**9 <= nanos + Fraction(ulp(said)) * 10**9 * 2
        clock.advance(said)
        assert limiter.check("k")

    def test_waiting_for_what_was_said_is_enough(self) -> None:
        clock = FakeClock(now=1_764_000_000_123_456_789)
        limiter = Limiter("7/s burst 3", "11/min burst 5", clock=clock)
        for _ in range(200):
            decision = limiter.check("k", 3)
            clock.advance(decision.retry_after)
            assert decision or limiter.check("k", 3)

    def test_threads_may_move_it(self) -> None:
        clock = FakeClock()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(clock.advance, [0.001] * 1000))
        assert clock.now() == 10**9

    @pytest.mark.parametrize("clock", [object(), 5, lambda: 0])
    def test_no_other_clock_is_taken(self, clock: Any) -> None:
        with pytest.raises(TypeError, match="clock"):
            Limiter("1/s", clock=clock)
