"""One rate limiter for every runtime a fleet is made of.

>>> from tidegate import Limiter
>>> limiter = Limiter("100/min burst 20")
>>> decision = limiter.check("user:42")
>>> decision.allowed, decision.remaining
(True, 19)
"""

from tidegate._async import AsyncLimiter, AsyncReservation
from tidegate._async_outbound import AsyncCall, AsyncOutbound
from tidegate._charge import AsyncCharge, Charge
from tidegate._concurrency import AsyncConcurrency, AsyncPermit
from tidegate._errors import (
    CorruptBucket,
    CostTooLarge,
    InvalidArgument,
    InvalidLimit,
    NoPermit,
    RateLimited,
    StoreError,
    StoreTimeout,
    TidegateError,
)
from tidegate._outbound import Attempt, Call, Outbound, Retry
from tidegate._signals import ProfileRow, read_signal
from tidegate._tidegate import (
    Concurrency,
    Decision,
    FakeClock,
    Limit,
    Limiter,
    Limits,
    Permit,
    Pressure,
    Reservation,
    Signal,
    StoreHealth,
    TierDecision,
    Waiting,
    __version__,
)

__all__ = [
    "AsyncCall",
    "AsyncCharge",
    "AsyncConcurrency",
    "AsyncLimiter",
    "AsyncOutbound",
    "AsyncPermit",
    "AsyncReservation",
    "Attempt",
    "Call",
    "Charge",
    "Concurrency",
    "CorruptBucket",
    "CostTooLarge",
    "Decision",
    "FakeClock",
    "InvalidArgument",
    "InvalidLimit",
    "Limit",
    "Limiter",
    "Limits",
    "NoPermit",
    "Outbound",
    "Permit",
    "Pressure",
    "ProfileRow",
    "RateLimited",
    "Reservation",
    "Retry",
    "Signal",
    "StoreError",
    "StoreHealth",
    "StoreTimeout",
    "TidegateError",
    "TierDecision",
    "Waiting",
    "__version__",
    "read_signal",
]
