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
from tidegate._errors import (
    CorruptBucket,
    CostTooLarge,
    InvalidArgument,
    InvalidLimit,
    RateLimited,
    StoreError,
    StoreTimeout,
    TidegateError,
)
from tidegate._outbound import Attempt, Call, Outbound, Retry
from tidegate._signals import ProfileRow, read_signal
from tidegate._tidegate import (
    Decision,
    FakeClock,
    Limit,
    Limiter,
    Limits,
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
    "AsyncLimiter",
    "AsyncOutbound",
    "AsyncReservation",
    "Attempt",
    "Call",
    "Charge",
    "CorruptBucket",
    "CostTooLarge",
    "Decision",
    "FakeClock",
    "InvalidArgument",
    "InvalidLimit",
    "Limit",
    "Limiter",
    "Limits",
    "Outbound",
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
