"""Bad arguments: each error has the right class and names the argument and the bound."""

from __future__ import annotations

import itertools
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_vectors import VECTORS

from tidegate import (
    AsyncLimiter,
    CorruptBucket,
    CostTooLarge,
    FakeClock,
    InvalidArgument,
    InvalidLimit,
    Limit,
    Limiter,
    Limits,
    RateLimited,
    StoreError,
    StoreTimeout,
    TidegateError,
)

REDIS = "redis://127.0.0.1:1"


@pytest.fixture(params=["memory://", REDIS])
def limiter(request: pytest.FixtureRequest) -> Limiter:
    """Arguments are checked before a store is asked."""
    return Limiter("10/s", store=request.param)


class TestCost:
    @pytest.mark.parametrize(
        "cost",
        [True, False, 1.0, 1.5, "1", None, {1}, b"1", bytearray(b"1"), memoryview(b"1"), float("nan")],
    )
    def test_wrong_type(self, limiter: Limiter, cost: Any) -> None:
        with pytest.raises(TypeError, match="cost must be a whole number, or a sequence of one for each limit, not "):
            limiter.check("k", cost)

    @pytest.mark.parametrize("cost", [-1, -(2**63), -(2**70), 2**63, 2**64, 10**400])
    def test_out_of_bounds(self, limiter: Limiter, cost: int) -> None:
        with pytest.raises(InvalidArgument, match="invalid cost: it must be 0 to 92233720368547758"):
            limiter.check("k", cost)

    @pytest.mark.parametrize("cost", [11, 2**53, 2**63 - 1])
    def test_above_the_burst(self, limiter: Limiter, cost: int) -> None:
        with pytest.raises(CostTooLarge, match="above the burst of 10") as caught:
            limiter.check("k", cost)
        assert (caught.value.cost, caught.value.burst) == (cost, 10)
        assert caught.value.code == "cost_too_large"
        assert isinstance(caught.value, ValueError)

    def test_an_index_is_a_whole_number(self) -> None:
        class Two:
            def __index__(self) -> int:
                return 2

        assert Limiter("10/s", clock=FakeClock()).check("k", Two()).remaining == 8


def calls_with(limiter: Limiter, key: Any) -> list[Callable[[], object]]:
    """Every method that takes a key."""
    return [
        lambda: limiter.check(key),
        lambda: limiter.check_many(["k", key]),
        lambda: limiter.peek(key),
        lambda: limiter.reserve(key),
        lambda: limiter.acquire(key),
        lambda: limiter.settle(key, 1, 2),
        lambda: limiter.credit(key, 1),
        lambda: limiter.hold(key, 1),
        lambda: limiter.reset(key),
    ]


class TestKey:
    @pytest.mark.parametrize("key", [1, None, 1.5, {"k"}, {"k": 1}, bytearray(b"k"), memoryview(b"k")])
    def test_wrong_type(self, limiter: Limiter, key: Any) -> None:
        for call in calls_with(limiter, key):
            with pytest.raises(TypeError, match="key must be str or bytes, or a sequence of them, not"):
                call()

    @pytest.mark.parametrize("key", [[1], ["k", None], ("k", "k", b"k", bytearray(b"k")), [["k"]]])
    def test_wrong_type_in_a_sequence(self, limiter: Limiter, key: Any) -> None:
        for call in calls_with(limiter, key):
            with pytest.raises(TypeError, match="each of key must be str or bytes, not"):
                call()

    @pytest.mark.parametrize("key", [[], (), ["k", "k"], ["k"] * 5])
    def test_wrong_number(self, limiter: Limiter, key: list[str]) -> None:
        for call in calls_with(limiter, key):
            with pytest.raises(InvalidArgument, match=rf"one for each limit \(1\), but has {len(key)}"):
                call()

    def test_lone_surrogates(self, limiter: Limiter) -> None:
        for call in [*calls_with(limiter, "\ud800"), *calls_with(limiter, ["\ud800"])]:
            with pytest.raises(InvalidArgument, match=r"invalid key: .*surrogate"):
                call()

    @pytest.mark.parametrize("key", ["", b"", "k", "k" * 1025, b"k" * 70000, "é" * 513, "\0", b"\xff\x00", "{a}%"])
    def test_what_is_taken(self, key: str | bytes) -> None:
        assert Limiter("10/s").check(key)

    def test_missing(self, limiter: Limiter) -> None:
        with pytest.raises(TypeError, match="key"):
            limiter.check()  # type: ignore[call-arg]


class TestTokens:
    """The other counts have the bounds of a cost."""

    @staticmethod
    def calls(limiter: Limiter, count: Any) -> dict[str, Callable[[], object]]:
        return {
            "charged": lambda: limiter.settle("k", count, 1),
            "actual": lambda: limiter.settle("k", 1, count),
            "tokens": lambda: limiter.credit("k", count),
        }

    @pytest.mark.parametrize("count", [True, 1.0, "1", None])
    def test_wrong_type(self, limiter: Limiter, count: Any) -> None:
        for name, call in self.calls(limiter, count).items():
            with pytest.raises(TypeError, match=f"{name} must be a whole number, or a sequence of one for each"):
                call()

    @pytest.mark.parametrize("count", [-1, 2**63, 10**400])
    def test_out_of_bounds(self, limiter: Limiter, count: int) -> None:
        for name, call in self.calls(limiter, count).items():
            with pytest.raises(InvalidArgument, match=f"invalid {name}: it must be 0 to 92233720"):
                call()

    def test_costs_have_one_check(self, limiter: Limiter) -> None:
        for call in (limiter.peek, limiter.reserve, limiter.acquire):
            with pytest.raises(TypeError, match="cost must be a whole number, or a sequence"):
                call("k", 1.0)  # type: ignore[arg-type]
            with pytest.raises(CostTooLarge, match="above the burst of 10"):
                call("k", 11)


class TestWaits:
    @staticmethod
    def calls(limiter: Limiter, wait: Any) -> dict[str, Callable[[], object]]:
        return {
            "max_wait": lambda: limiter.reserve("k", max_wait=wait),
            "timeout": lambda: limiter.acquire("k", timeout=wait),
            "wait": lambda: limiter.hold("k", wait),
        }

    @pytest.mark.parametrize("wait", [True, "1", b"1", [1]])
    def test_wrong_type(self, limiter: Limiter, wait: Any) -> None:
        for name, call in self.calls(limiter, wait).items():
            with pytest.raises(TypeError, match=f"{name} must be a number of seconds, not"):
                call()

    @pytest.mark.parametrize("wait", [-1, -0.001, float("nan"), float("-inf"), -(10**400)])
    def test_out_of_bounds(self, limiter: Limiter, wait: float) -> None:
        for name, call in self.calls(limiter, wait).items():
            with pytest.raises(InvalidArgument, match=f"invalid {name}: it must be 0 seconds or more"):
                call()

    def test_a_hold_has_an_end(self, limiter: Limiter) -> None:
        with pytest.raises(TypeError, match="wait must be a number of seconds, not NoneType"):
            limiter.hold("k", None)  # type: ignore[arg-type]

    @pytest.mark.parametrize("wait", [0, 1e300, float("inf"), 10**400])
    def test_any_length_is_taken(self, wait: float) -> None:
        limiter = Limiter("10/s", clock=FakeClock())
        assert limiter.reserve("k", max_wait=wait)
        assert limiter.acquire("k", timeout=wait)
        assert limiter.hold("k", wait).reset_after <= 2**53 / 1e9


class TestLongTexts:
    @pytest.mark.parametrize("text", ["x" * 10**5, "1/s " * 10**4, "1/s; " * 10**4, "\0" * 1000, "\U0001f980" * 1000])
    def test_a_message_shows_no_more_than_the_beginning(self, text: str) -> None:
        for use in (lambda: Limiter(text), lambda: Limit(text), lambda: Limiter("1/s").check("k", limits=text)):
            with pytest.raises(InvalidLimit, match=r'^invalid limit ".*…" \(\d+ bytes\): at byte \d') as raised:
                use()
            assert len(str(raised.value)) < 1000


class TestManyChecks:
    @pytest.mark.parametrize("checks", [None, 1, "abc", b"abc"])
    def test_wrong_type(self, limiter: Limiter, checks: Any) -> None:
        with pytest.raises(TypeError, match=r"checks must be an iterable of keys or \(key, cost\), not"):
            limiter.check_many(checks)

    @pytest.mark.parametrize("mistake", [5, ("k", -1), ("k", 11), ("k", 1.5), (5, 1), ("k", 1, 1)])
    def test_a_mistake_charges_nothing(self, mistake: Any) -> None:
        limiter = Limiter("10/s", clock=FakeClock())
        with pytest.raises((TypeError, ValueError)):
            limiter.check_many(["k", mistake, ("k", 2)])
        assert limiter.peek("k", 0).remaining == 10

    @pytest.mark.parametrize("check", [("k", 1, 2), (("a", "b"), 1, 1), ("k",) * 2 + (3,), (None, 1, 1), (5,)])
    def test_several_costs_are_a_tuple_of_their_own(self, check: Any) -> None:
        limiter = Limiter("10/s", "20/s", clock=FakeClock())
        message = r"each of checks must be a key, \(key, cost\) or .*; several costs are \(key, \(1, 2\)\)"
        with pytest.raises(TypeError, match=message):
            limiter.check_many([check])
        assert limiter.check_many([("k", (1, 2))])[0].allowed

    def test_what_an_iterable_raises(self, limiter: Limiter) -> None:
        with pytest.raises(ZeroDivisionError):
            limiter.check_many("k" for _ in [1 // 0])


class TestLimitNumbers:
    @pytest.mark.parametrize(
        ("tokens", "options", "reason"),
        [
            (0, {"per": 1}, "tokens_not_positive"),
            (-5, {"per": 1}, "tokens_not_positive"),
            (5, {"per": 0}, "period_not_positive"),
            (5, {"per": 0.0}, "period_not_positive"),
            (5, {"per": -0.5}, "period_not_positive"),
            (5, {"per": -60}, "period_not_positive"),
            (5, {"per": 1, "burst": 0}, "burst_not_positive"),
            (5, {"per": 1, "burst": -1}, "burst_not_positive"),
            (2 * 10**9, {"per": 1}, "rate_too_high"),
            (2**70, {"per": 1}, "number_too_large"),
            (5, {"per": 1e300}, "number_too_large"),
            (5, {"per": 2**70}, "number_too_large"),
            (1, {"per": 10**9}, "span_too_long"),
        ],
    )
    def test_bounds_are_the_cores(self, tokens: int, options: Any, reason: str) -> None:
        with pytest.raises(InvalidLimit) as caught:
            Limit(tokens, **options)
        assert (caught.value.reason, caught.value.code) == (reason, "invalid_limit")

    @pytest.mark.parametrize("per", [1 / 3, 1e-10, 0.1 + 0.2, float("nan"), float("inf")])
    def test_not_whole_nanoseconds(self, per: float) -> None:
        with pytest.raises(InvalidArgument, match=r"invalid per: .*whole number of nanoseconds"):
            Limit(5, per=per)

    @pytest.mark.parametrize(
        ("arguments", "options", "message"),
        [
            ((5.0,), {"per": 1}, "tokens must be a whole number, not float"),
            ((True,), {"per": 1}, "tokens must be a whole number, not bool"),
            ((5,), {"per": "1"}, "per must be a number of seconds, not str"),
            ((5,), {"per": True}, "per must be a number of seconds, not bool"),
            ((5,), {"per": 1, "burst": 2.0}, "burst must be a whole number, not float"),
            ((5,), {}, "a number of tokens needs per"),
            (("5/s",), {"per": 1}, "write them into the text"),
            (("5/s",), {"burst": 1}, "write them into the text"),
            (("5/s",), {"name": 7}, "name must be str, not int"),
            ((b"5/s",), {}, "tokens must be a whole number, not bytes"),
            ((), {}, "tokens"),
        ],
    )
    def test_wrong_types(self, arguments: Any, options: Any, message: str) -> None:
        with pytest.raises(TypeError, match=message):
            Limit(*arguments, **options)

    def test_lone_surrogates(self) -> None:
        with pytest.raises(InvalidArgument, match="invalid limit"):
            Limit("\ud800")
        with pytest.raises(InvalidArgument, match="invalid name"):
            Limit("5/s", name="\ud800")


@pytest.mark.parametrize("make", [Limiter, AsyncLimiter])
class TestLimiterOptions:
    @pytest.mark.parametrize("timeout", [0, 0.0009, 60.001, -1, 1e300, 10**400, float("nan"), float("inf")])
    def test_store_timeout_out_of_bounds(self, make: Any, timeout: float) -> None:
        for store in ("memory://", REDIS):
            with pytest.raises(InvalidArgument, match=r"invalid store_timeout: it must be .* to 60 s"):
                make("1/s", store=store, store_timeout=timeout)

    @pytest.mark.parametrize("timeout", [0.001, 1, 60])
    def test_store_timeout_at_its_bounds(self, make: Any, timeout: float) -> None:
        make("1/s", store_timeout=timeout)

    @pytest.mark.parametrize(
        "store",
        ["", "redis", "redis:", "http://127.0.0.1", "memory://x", "redis://h:notaport", "redis://h:1/x"],
    )
    def test_wrong_url(self, make: Any, store: str) -> None:
        with pytest.raises(InvalidArgument, match="invalid store: "):
            make("1/s", store=store)

    @pytest.mark.parametrize("prefix", ["", "p" * 257])
    def test_prefix_out_of_bounds(self, make: Any, prefix: str) -> None:
        with pytest.raises(InvalidArgument, match="invalid prefix: it must be 1 to 256 bytes"):
            make("1/s", prefix=prefix)

    @pytest.mark.parametrize(
        "options",
        [{"store": None}, {"store": 1}, {"prefix": b"p"}, {"store_timeout": None},
         {"store_timeout": "1"}, {"store_timeout": True}, {"clock": 1},
         {"max_keys": "1"}, {"max_keys": 1.0}, {"max_keys": True}, {"on_full": 1}, {"on_full": b"deny"}],
        ids=repr,
    )  # fmt: skip
    def test_wrong_types(self, make: Any, options: dict[str, Any]) -> None:
        with pytest.raises(TypeError, match=f"{next(iter(options))} must be "):
            make("1/s", **options)

    @pytest.mark.parametrize("limit", [1, None, b"1/s"])
    def test_wrong_limits(self, make: Any, limit: Any) -> None:
        with pytest.raises(TypeError, match="each of limits must be str or Limit, not"):
            make("1/s", limit)

    @pytest.mark.parametrize("limits", [["1/s"], ("1/s", "9/min"), {"1/s"}, Limits("1/s"), []], ids=repr)
    def test_several_limits_in_one_argument_are_told_what_to_write(self, make: Any, limits: Any) -> None:
        kind = type(limits).__name__
        with pytest.raises(TypeError, match=rf"Limiter\(\"10/s\", \"1000/d\"\), or Limiter\(\*limits\) for a {kind}$"):
            make(limits)

    def test_an_unknown_option_of_a_url_is_told_which_there_are(self, make: Any) -> None:
        there_are = "db, password_file, per_key_calls, protocol"
        with pytest.raises(InvalidArgument, match=f"timeout is not an option of it; there are {there_are}$"):
            make("1/s", store="redis://h?timeout=1")

    def test_unknown_option(self, make: Any) -> None:
        with pytest.raises(TypeError, match="burst"):
            make("1/s", burst=5)

    def test_lone_surrogates(self, make: Any) -> None:
        for option in ("store", "prefix"):
            with pytest.raises(InvalidArgument, match=f"invalid {option}: .*surrogate"):
                make("1/s", **{option: "\ud800"})

    def test_a_clock_is_for_memory_only(self, make: Any) -> None:
        with pytest.raises(InvalidArgument, match="invalid clock"):
            make("1/s", store=REDIS, clock=FakeClock())


    @pytest.mark.parametrize("max_keys", [-1, 0, 100_000_001, 2**63, -(10**400)])
    def test_max_keys_out_of_bounds(self, make: Any, max_keys: int) -> None:
        with pytest.raises(InvalidArgument, match="invalid max_keys: it must be 1 to 100000000"):
            make("1/s", max_keys=max_keys)

    @pytest.mark.parametrize("on_full", ["", "Deny", "evict"])
    def test_unknown_on_full(self, make: Any, on_full: str) -> None:
        with pytest.raises(InvalidArgument, match='invalid on_full: it must be "evict_idlest" or "deny"'):
            make("1/s", on_full=on_full)

    @pytest.mark.parametrize(
        "options", [{"max_keys": 5}, {"on_full": "deny"}, {"on_full": "evict_idlest"}], ids=repr
    )
    def test_room_for_keys_is_an_option_of_memory(self, make: Any, options: dict[str, Any]) -> None:
        with pytest.raises(InvalidArgument, match=f"invalid {next(iter(options))}: .* URL of shm://"):
            make("1/s", store="shm://refused", **options)
        # Options fit any store: Redis has a bound of its own.
        assert make("1/s", store=REDIS, **options).pressure.denied == 0

    def test_room_for_keys_has_its_bounds_on_redis_too(self, make: Any) -> None:
        with pytest.raises(InvalidArgument, match="invalid max_keys: it must be 1 to 100000000"):
            make("1/s", store=REDIS, max_keys=0)


class TestMostChecks:
    """The bound is the same in every language."""

    MOST = json.loads((VECTORS / "surface.json").read_text())["bounds"]["checks"]
    MESSAGE = f"invalid checks: there may be at most {MOST} in one call; make several calls"

    @pytest.mark.parametrize("store", ["memory://", REDIS])
    def test_one_call_makes_a_bounded_number_of_checks(self, store: str) -> None:
        limiter = Limiter(f"{2 * self.MOST}/d", store=store, on_store_error="allow" if store == REDIS else None)
        assert all(limiter.check_many(["key"] * self.MOST))
        # An iterator without an end is not read on.
        with pytest.raises(InvalidArgument, match=f"^{self.MESSAGE}"):
            limiter.check_many(itertools.repeat("key"))
        assert all(limiter.check_many(["key"] * self.MOST)), "none of too many was charged"

    async def test_one_async_call_makes_a_bounded_number_of_checks(self) -> None:
        for store in ["memory://", REDIS]:
            with pytest.raises(InvalidArgument, match=f"^{self.MESSAGE}"):
                await AsyncLimiter("1/d", store=store).check_many(["key"] * (self.MOST + 1))


class TestFakeClockBounds:
    @pytest.mark.parametrize("now", [-1, 2**64, 10**400])
    def test_now_out_of_bounds(self, now: int) -> None:
        for set_to in (FakeClock, FakeClock().set):
            with pytest.raises(InvalidArgument, match="invalid now: it must be 0 to"):
                set_to(now)

    @pytest.mark.parametrize("now", [1.0, True, "1", None])
    def test_now_of_a_wrong_type(self, now: Any) -> None:
        for set_to in (FakeClock, FakeClock().set):
            with pytest.raises(TypeError, match="now must be a whole number of nanoseconds, not"):
                set_to(now)

    @pytest.mark.parametrize("by", [-0.001, float("nan"), float("inf"), 1e300, 10**400])
    def test_by_out_of_bounds(self, by: float) -> None:
        with pytest.raises(InvalidArgument, match="invalid by: it must be 0 to"):
            FakeClock().advance(by)

    @pytest.mark.parametrize("by", ["1", None, True])
    def test_by_of_a_wrong_type(self, by: Any) -> None:
        with pytest.raises(TypeError, match="by must be a number of seconds, not"):
            FakeClock().advance(by)


class TestClasses:
    @pytest.mark.parametrize(
        ("error", "bases"),
        [
            (InvalidLimit, (TidegateError, ValueError)),
            (InvalidArgument, (TidegateError, ValueError)),
            (CostTooLarge, (TidegateError, ValueError)),
            (RateLimited, (TidegateError,)),
            (StoreError, (TidegateError,)),
            (StoreTimeout, (StoreError, TimeoutError)),
            (CorruptBucket, (StoreError,)),
        ],
    )
    def test_bases(self, error: type, bases: tuple[type, ...]) -> None:
        assert error.__bases__ == bases

    @pytest.mark.parametrize(
        "error",
        [
            InvalidLimit("invalid limit", "syntax"),
            CostTooLarge("too large", 5, 2),
            InvalidArgument("invalid key"),
            RateLimited("too late", Limiter(Limit("1/s", name="x")).check("k"), "k"),
            StoreError("refused"),
            StoreTimeout("too late"),
            CorruptBucket("corrupt"),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_they_cross_processes(self, error: TidegateError) -> None:
        twin = pickle.loads(pickle.dumps(error))
        assert (type(twin), str(twin), vars(twin)) == (type(error), str(error), vars(error))


def test_a_panic_would_become_an_exception() -> None:
    workspace = (Path(__file__).resolve().parents[2] / "Cargo.toml").read_text(encoding="utf-8")
    _, _, profile = workspace.partition("[profile.release]\n")
    profile, _, _ = profile.partition("\n[")
    assert "lto" in profile and "panic" not in profile, "the release profile must unwind"


@pytest.mark.parametrize(("max_keys", "kept"), [(1, 8), (8, 16), (100, 144)])
def test_max_keys_is_what_there_is_room_for(max_keys: int, kept: int) -> None:
    """A table has ten slots for seven keys, in windows of eight."""
    limiter = Limiter("1/d", max_keys=max_keys, on_full="deny")
    assert sum(bool(limiter.check(f"user:{number}")) for number in range(10_000)) == kept
