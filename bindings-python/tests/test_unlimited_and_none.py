"""The limits "unlimited" and "none", for which no store is asked; fixed.json has their answers."""

from __future__ import annotations

import asyncio
import copy
import pickle
from math import inf

import pytest

from tidegate import (
    AsyncLimiter,
    FakeClock,
    InvalidArgument,
    InvalidLimit,
    Limit,
    Limiter,
    RateLimited,
    StoreError,
)

# Nobody listens there, so a call that asks the store is an error.
DOWN = "redis://127.0.0.1:1"
MOST = 2**64 - 1


@pytest.mark.parametrize("store", ["memory://", DOWN])
class TestWithoutAStore:
    def test_unlimited(self, store: str) -> None:
        with Limiter("unlimited", store=store) as limiter:
            decision = limiter.check("k", 2**63 - 1)
            assert decision and (decision.limit, decision.remaining) == (MOST, MOST)
            assert (decision.retry_after, decision.reset_after) == (0.0, 0.0)
            assert (decision.limit_name, decision.source) == ("unlimited", "memory")
            limiter.hold("k", 3600)
            assert limiter.acquire("k", timeout=0), "a hold has no effect"
            reservation = limiter.reserve("k", 5, max_wait=0)
            assert reservation and reservation.delay == 0.0 and reservation.cancel()
            assert limiter.reserve("k", 5).settle(10**9).remaining == MOST
            assert all(limiter.check_many(["a", ("b", 10**9)]))

    def test_none(self, store: str) -> None:
        with Limiter("10/s", Limit("none", name="banned"), store=store) as limiter:
            for decision in (limiter.check("k"), limiter.peek("k", 11)):
                assert not decision and (decision.limit, decision.remaining) == (0, 0)
                assert decision.retry_after == decision.reset_after == inf
                assert decision.limit_name == "banned"
                assert copy.copy(decision) == pickle.loads(pickle.dumps(decision)) == decision
                assert "retry_after=inf" in repr(decision)
            assert limiter.check("k", 0) and not limiter.reserve("k")
            with pytest.raises(RateLimited) as caught:
                limiter.acquire("k")
            assert caught.value.decision.retry_after == inf
            assert limiter.credit("k", 100).remaining == 0 and not limiter.check("k")

    def test_in_asyncio(self, store: str) -> None:
        async def main() -> None:
            async with AsyncLimiter("unlimited", store=store) as unlimited:
                assert await unlimited.check("k", 10**9) and await unlimited.peek("k")
                assert await unlimited.acquire("k", timeout=0)
                assert (await unlimited.reserve("k")).delay == 0.0
            async with AsyncLimiter("none", "unlimited", store=store) as none:
                assert not await none.check("k") and await none.check("k", 0)
                assert not any(await none.check_many(["a", "b"]))
                with pytest.raises(RateLimited):
                    await none.acquire("k")

        asyncio.run(main())

    def test_arguments_are_checked_as_ever(self, store: str) -> None:
        for word in ("unlimited", "none"):
            limiter = Limiter(word, "unlimited", store=store)
            assert limiter.check(["user", "org"], 0)
            for key in (["user"], ["user"] * 3):
                with pytest.raises(InvalidArgument):
                    limiter.check(key)
            limiter.close()
            with pytest.raises(StoreError, match="closed"):
                limiter.check("k")


def test_unlimited_beside_others_is_as_if_it_were_not_there() -> None:
    clock = FakeClock()
    limiter = Limiter("unlimited", "3/s", "unlimited", "5/min", clock=clock)
    assert [str(limit) for limit in limiter.limits] == ["unlimited", "3/s", "unlimited", "5/min"]
    assert limiter.check("k", 3).limit_name == "3/s"
    refused = limiter.check("k", 3)
    assert (refused.limit_name, refused.retry_after, refused.limit) == ("5/min", 12.0, 5)
    keys = ["plan", "user", "other", "org"]
    assert limiter.check(keys, 3).remaining == 0
    assert not limiter.check(["another", "user", "one", "new"])
    with pytest.raises(StoreError):
        Limiter("unlimited", "3/s", store=DOWN).check("k")


def test_the_limits_themselves() -> None:
    unlimited, none = Limit("unlimited"), Limit(" none ", name="banned")
    assert (unlimited.tokens, unlimited.period, unlimited.burst) == (MOST, 0.0, MOST)
    assert (none.tokens, none.period, none.burst) == (0, 0.0, 0)
    assert (unlimited.shape, unlimited.name, none.shape, none.name) == (
        "unlimited", "unlimited", "none", "banned"
    )
    for limit in (unlimited, none):
        assert copy.copy(limit) == pickle.loads(pickle.dumps(limit)) == limit
    assert unlimited != none and hash(unlimited) == hash(Limit("unlimited"))
    for text in ("unlimitedly", "none/s", "unlimited burst 5"):
        with pytest.raises(InvalidLimit):
            Limit(text)
