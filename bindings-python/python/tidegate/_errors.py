"""The exceptions of the package. Their codes are the same in every language."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from tidegate._tidegate import Decision

__all__ = [
    "CorruptBucket",
    "CostTooLarge",
    "InvalidArgument",
    "InvalidLimit",
    "NoPermit",
    "RateLimited",
    "StoreError",
    "StoreTimeout",
    "TidegateError",
]


class TidegateError(Exception):
    """The base of all errors of this package; never raised itself.

    A refusal is not an error: it is a `Decision`. Only `acquire` raises an error for it.
    """

    code: ClassVar[str] = "error"


class InvalidLimit(TidegateError, ValueError):
    """A limit's text does not follow the grammar, or the limit breaks a bound.

    `reason` is a stable name for the bound.

    >>> from tidegate import Limit
    >>> try:
    ...     Limit("10/fortnight")
    ... except InvalidLimit as error:
    ...     print(error.reason)
    unknown_unit
    """

    code: ClassVar[str] = "invalid_limit"
    reason: str

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.reason)


class InvalidArgument(TidegateError, ValueError):
    """A store URL, key, cost or option is not usable; the message names it and its bound."""

    code: ClassVar[str] = "invalid_argument"


class CostTooLarge(TidegateError, ValueError):
    """The cost is above the burst, so the call can never be allowed.

    `cost` is what was asked for and `burst` the smallest burst of the limiter's
    limits, both in tokens.
    """

    code: ClassVar[str] = "cost_too_large"
    cost: int
    burst: int

    def __init__(self, message: str, cost: int, burst: int) -> None:
        super().__init__(message)
        self.cost = cost
        self.burst = burst

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.cost, self.burst)


class RateLimited(TidegateError):
    """The slot is later than the caller would wait; nothing was charged.

    Only `acquire` raises it, and the calls of an `Outbound`, which wait in the same line.

    `decision` is the refusal; its `retry_after` is the least wait after which the same call, with
    the same `timeout`, would get a slot if nobody else came. `key` is the key that was asked for;
    with one key per limit, the key of the limit that bound the decision. The message does not
    repeat it.

    >>> from tidegate import FakeClock, Limiter
    >>> limiter = Limiter("1/min", clock=FakeClock())
    >>> decision = limiter.acquire("job")
    >>> try:
    ...     limiter.acquire("job", timeout=45)
    ... except RateLimited as error:
    ...     print(error.key, error.decision.retry_after)
    job 15.0
    """

    code: ClassVar[str] = "rate_limited"
    decision: Decision
    key: str | bytes

    def __init__(self, message: str, decision: Decision, key: str | bytes) -> None:
        super().__init__(message)
        self.decision = decision
        self.key = key

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.decision, self.key)


class NoPermit(TidegateError, TimeoutError):
    """No concurrency permit came free within the timeout. Only `Concurrency.acquire` raises it.

    `limit` is the number of permits.

    >>> from tidegate import Concurrency
    >>> vendor = Concurrency(1)
    >>> permit = vendor.acquire()
    >>> try:
    ...     vendor.acquire(timeout=0)
    ... except NoPermit as error:
    ...     print(error.limit)
    1
    """

    code: ClassVar[str] = "no_permit"
    limit: int

    def __init__(self, message: str, limit: int) -> None:
        super().__init__(message)
        self.limit = limit

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.limit)


class StoreError(TidegateError):
    """The store could not be reached, or refused the operation."""

    code: ClassVar[str] = "store_error"


class StoreTimeout(StoreError, TimeoutError):
    """The store did not answer within the store timeout.

    The cost may or may not have been charged.
    """

    code: ClassVar[str] = "store_timeout"


class CorruptBucket(StoreError):
    """The bucket's key holds a value that Tidegate did not write."""

    code: ClassVar[str] = "corrupt_bucket"


for _name in __all__:
    # Users import them from there, and pickle finds them there.
    globals()[_name].__module__ = "tidegate"
