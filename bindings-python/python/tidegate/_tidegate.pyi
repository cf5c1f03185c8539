"""The types of the native module."""

from asyncio import Future
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Final, Literal, Protocol, SupportsIndex, TypeAlias, TypedDict, final, overload

from typing_extensions import Never, NotRequired, Self, disjoint_base

from tidegate._charge import Reserving
from tidegate._errors import StoreError

__all__ = [
    "Concurrency",
    "Decision",
    "FakeClock",
    "Limit",
    "Limiter",
    "Limits",
    "Permit",
    "Pressure",
    "Reservation",
    "Signal",
    "StoreHealth",
    "TierDecision",
    "Waiting",
    "_Batch",
    "_ClientConnection",
    "_Completions",
    "_DecisionOfTiers",
    "_Egress",
    "_OutboundCall",
    "_PendingQueue",
    "_PermitWaiter",
    "_RetryBudget",
    "_Waiter",
    "__version__",
    "_is_idempotent",
    "_profile_of_host",
    "_read_signal",
    "_restore",
    "_restore_tier",
]

_Seconds: TypeAlias = float | timedelta
_Reason: TypeAlias = Literal["stale", "permanent", "exhausted"]
_OneKey: TypeAlias = str | bytes
_Key: TypeAlias = _OneKey | Sequence[_OneKey]
_Cost: TypeAlias = SupportsIndex | Sequence[SupportsIndex]
_Limits: TypeAlias = Limits | Limit | str | list[Limit | str] | tuple[Limit | str, ...]
_Kind: TypeAlias = Literal["ok", "rate", "concurrency", "quota", "overload", "abuse", "auth", "fault", "refused"]
_Step: TypeAlias = tuple[str, int, str]
_Check: TypeAlias = _Key | tuple[_Key, _Cost]

class _Client(Protocol):
    """A Redis client that blocks, such as redis.Redis()."""

    def execute_command(self, *args: Any, **options: Any) -> Any: ...
    def pipeline(self, transaction: bool = ..., shard_hint: Any = ...) -> Any: ...

class _AsyncClient(Protocol):
    """A Redis client for asyncio, such as redis.asyncio.Redis()."""

    def execute_command(self, *args: Any, **options: Any) -> Awaitable[Any]: ...
    def pipeline(self, transaction: bool = ..., shard_hint: Any = ...) -> Any: ...

class _CommonOptions(TypedDict, total=False):
    prefix: str | None
    store_timeout: _Seconds
    clock: FakeClock | None
    max_keys: SupportsIndex | None
    on_full: Literal["evict_idlest", "deny"] | None
    on_store_error: Literal["raise", "allow", "deny", "local"] | None
    peers: SupportsIndex | None
    deny_cache: _Seconds | None
    lease: _Lease | None
    max_waiting: SupportsIndex | None
    per_key_calls: bool

class _LimiterOptions(_CommonOptions, total=False):
    store: str | _Client

class _AsyncLimiterOptions(_CommonOptions, total=False):
    store: str | _AsyncClient

class _Lease(TypedDict):
    ttl: _Seconds
    max_share: NotRequired[float]

__version__: Final[str]

@final
class Limit:
    """How many tokens per period, and how many may be spent at once.

    It is written as text, `Limit("100/min burst 20")`, or as numbers,
    `Limit(100, per=60, burst=20)` with `per` in seconds (a whole number of
    nanoseconds). The burst is the count per period unless given. `name` is what
    decisions call the limit; unless given, the text as written, or the
    canonical text of the numbers.

    `Limit("unlimited")` allows every call, and `Limit("none")` refuses every call with a cost
    above 0. No store is asked for either, and "unlimited" among other limits is as if it were not
    there.

    Equal limits have the same numbers, shape and name. `str()` gives the
    canonical text.

    Raises InvalidLimit when the text does not follow the grammar or the limit
    breaks a bound; its `reason` names the bound.

    >>> from tidegate import Limit
    >>> limit = Limit("100/min burst 20", name="user")
    >>> limit.tokens, limit.period, limit.burst, limit.shape, limit.name
    (100, 60.0, 20, 'smooth', 'user')
    >>> Limit(100, per=60, burst=20, name="user") == limit
    True
    >>> str(Limit("5000 / hour window"))
    '5000/h window'
    """

    @overload
    def __new__(
        cls,
        tokens: str,
        /,
        per: None = None,
        burst: None = None,
        name: str | None = None,
    ) -> Self: ...
    @overload
    def __new__(
        cls,
        tokens: int,
        /,
        per: _Seconds,
        burst: int | None = None,
        name: str | None = None,
    ) -> Self: ...
    @property
    def tokens(self) -> int:
        """Tokens per period; 2**64 - 1 for "unlimited", and 0 for "none"."""
    @property
    def period(self) -> float:
        """The period, in seconds; 0.0 for "unlimited" and "none"."""
    @property
    def burst(self) -> int:
        """The most tokens that can be spent at once; 2**64 - 1 for "unlimited", and 0 for "none"."""
    @property
    def shape(self) -> Literal["smooth", "stepped", "unlimited", "none"]:
        """How tokens come back: "smooth", evenly, one at a time; or "stepped", all tokens of a
        period at once. For "unlimited" and "none" it is that word.
        """
    @property
    def name(self) -> str:
        """The name of this limit in decisions."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __getnewargs__(self) -> tuple[str, None, None, str]: ...

@disjoint_base
class Decision:
    """The answer to one check. A refusal is a value, not an error: a decision is true when it
    allows. Durations are in seconds.

    >>> from tidegate import FakeClock, Limiter
    >>> limiter = Limiter("2/s", clock=FakeClock())
    >>> limiter.check("user:42", cost=2)
    Decision(allowed=True, limit=2, remaining=0, retry_after=0.0, reset_after=1.0, limit_name='2/s', source='memory')
    >>> decision = limiter.check("user:42")
    >>> if not decision:
    ...     print(f"try again in {decision.retry_after} s")
    try again in 0.5 s
    """

    def __new__(
        cls,
        *,
        allowed: bool,
        limit: int = 0,
        remaining: int = 0,
        retry_after: _Seconds = 0.0,
        reset_after: _Seconds = 0.0,
        limit_name: str = "",
        source: Literal["memory", "shm", "redis", "lease", "fallback"] = "memory",
    ) -> Self: ...
    @property
    def allowed(self) -> bool:
        """Whether the cost was charged. A refused check has changed nothing."""
    @property
    def limit(self) -> int:
        """The burst of the limit that bound the answer, in tokens; 2**64 - 1 for "unlimited"."""
    @property
    def remaining(self) -> int:
        """The whole tokens that this limit could still spend at once, after this check; 2**64 - 1 for
        "unlimited".
        """
    @property
    def retry_after(self) -> float:
        """Seconds until the same check would be allowed if nobody else came; 0.0
        when it was allowed, and infinite when it never will be ("none").
        """
    @property
    def reset_after(self) -> float:
        """Seconds until the bucket of that limit is full again; infinite for "none"."""
    @property
    def limit_name(self) -> str:
        """The name of the limit that bound the answer: the longest `retry_after` when
        refused, the least `remaining` when allowed, the first on a tie.
        """
    @property
    def tiers(self) -> tuple[TierDecision, ...]:
        """What each limit of the limiter says, in the order of the limits, for a program that tells its
        callers about all of them, in RateLimit header fields, say. It is made when it is read. It has
        only the limit that bound the answer if no bucket of the others was asked: in an answer of a
        lease, of "none", of RateLimited, and in a Decision that a program made.

        >>> from tidegate import Limiter
        >>> decision = Limiter("10/s", "500/h").check("user:42")
        >>> [(tier.limit_name, tier.remaining) for tier in decision.tiers]
        [('10/s', 9), ('500/h', 499)]
        """
    @property
    def source(self) -> Literal["memory", "shm", "redis", "lease", "fallback"]:
        """The source of the decision: the bucket in "memory", "shm" or "redis", a "lease" of the
        bucket in Redis, or the limiter's "fallback" because its store fails.
        """
    def __bool__(self) -> bool: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> tuple[Any, ...]: ...

@final
class _DecisionOfTiers(Decision): ...

@final
class TierDecision:
    """What one limit of a limiter says to a call; `Decision.tiers` has one for each limit. Durations are
    in seconds.

    After an allowed check it is what remains of the limit. After a refused one nothing was charged,
    so it is what the limit holds, and `retry_after` is the time after which this limit alone would
    allow the call.

    >>> from tidegate import FakeClock, Limiter
    >>> limiter = Limiter("2/s", "500/h", clock=FakeClock())
    >>> refused = [limiter.check("user:42", cost=2), limiter.check("user:42")][-1]
    >>> [(tier.retry_after, tier.remaining) for tier in refused.tiers]
    [(0.5, 0), (0.0, 498)]
    """

    def __new__(
        cls,
        *,
        limit: int = 0,
        remaining: int = 0,
        retry_after: _Seconds = 0.0,
        reset_after: _Seconds = 0.0,
        limit_name: str = "",
    ) -> Self: ...
    @property
    def limit(self) -> int:
        """The burst of the limit, in tokens; 2**64 - 1 for "unlimited"."""
    @property
    def remaining(self) -> int:
        """The whole tokens that this limit could still spend at once, after the call; 2**64 - 1 for
        "unlimited".
        """
    @property
    def retry_after(self) -> float:
        """Seconds until this limit alone would allow the same call if nobody else came; 0.0 when it
        allows it now, and infinite when it never will ("none").
        """
    @property
    def reset_after(self) -> float:
        """Seconds until the bucket of this limit is full again; infinite for "none"."""
    @property
    def limit_name(self) -> str:
        """The name of the limit."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> tuple[Any, ...]: ...

@final
class FakeClock:
    """A clock that stands still until it is moved, for tests of code that uses a limiter in
    memory.

    `now` is in nanoseconds since the clock's zero, 0 to 2**64 - 1. Any number of limiters and
    threads may share one clock.

    >>> from tidegate import FakeClock, Limiter
    >>> clock = FakeClock()
    >>> limiter = Limiter("1/min", clock=clock)
    >>> limiter.check("user:42").allowed, limiter.check("user:42").allowed
    (True, False)
    >>> clock.advance(60)
    >>> limiter.check("user:42").allowed
    True
    """

    def __new__(cls, now: int = 0) -> Self: ...
    def now(self) -> int:
        """The time that the clock shows, in nanoseconds."""
    def set(self, now: int) -> None:
        """Sets the clock to `now` nanoseconds, which may be earlier than what it shows."""
    def advance(self, by: _Seconds) -> None:
        """Moves the clock forward by `by` seconds, rounded to the nearest nanosecond."""

@final
class Limits:
    """One to four limits that all must allow, parsed once: the plan of a customer, say.

    Each is a text, such as "100/min burst 20", or a Limit. The methods of a limiter take it as
    `limits`, and so decide a call under these limits instead of the limiter's own. It is small and
    quick to make, so there can be one for each of many customers.

    Equal limits have the same numbers, shapes and names. They can be iterated over and pickled.

    Raises InvalidLimit for a limit that cannot be kept, and for a number of limits other than one to
    four.

    >>> from tidegate import Limiter, Limits
    >>> limiter = Limiter("10/min")
    >>> paid = Limits("100/min", "5000/d")
    >>> limiter.check("user:42", 4).remaining
    6
    >>> limiter.check("user:42", limits=paid).remaining  # the same bucket, which owes four tokens
    95
    >>> [limit.name for limit in paid], len(paid)
    (['100/min', '5000/d'], 2)
    """

    def __new__(cls, *limits: Limit | str) -> Self: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Limit]: ...
    def __getitem__(self, at: SupportsIndex, /) -> Limit: ...
    def __hash__(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __getnewargs__(self) -> tuple[Limit, ...]: ...

@final
class Limiter:
    """Decides whether keys may spend tokens, under one to four limits that all must allow.

    Each of `limits` is a text, such as "100/min burst 20", or a Limit. `store` says where the
    buckets live: "memory://" (in this limiter), "shm://name" (shared by the processes of this
    machine), or the Redis that a fleet shares: its URL, "redis://[user:password@]host[:port][/database]",
    "rediss://..." (TLS) or "redis+unix:///path", or a client that the program has already,
    such as redis.Redis(), or redis.asyncio.Redis() for AsyncLimiter. Limiters with the same
    `prefix` (1 to 256 bytes, "tidegate" unless given) and key share a bucket there; limiters with
    other limits on one Redis must not all leave it out. `store_timeout` bounds each operation
    on Redis, in seconds: 0.001 to 60. `clock` is a FakeClock, for memory only.

    In memory each limit has room for `max_keys` keys that owe something, 1 to 100,000,000, a
    million unless given. `on_full` says what happens to a new key when there is no room:
    "evict_idlest" (unless given) drops the bucket that would be full soonest, "deny" refuses the
    key. `pressure` counts both. For "shm://name" both are part of the URL. Redis has a bound of its
    own, so there they are without effect.

    `on_store_error` says what is answered while Redis fails: "raise" (unless given) raises a
    StoreError; "allow" and "deny" answer that to everything; "local" goes on in this process with
    one of `peers` equal shares of each limit. `peers` is how many processes use the bucket, 1 to
    1,000,000. `store_health` counts such answers, whose source is "fallback".

    A key that Redis has refused is refused again without asking until its `retry_after` has
    passed, for at most `deny_cache` seconds: 0 (always ask) to 60, 0.1 unless given. What this
    process gives back is known at once; what others give back is known that much later.

    With `lease={"ttl": seconds, "max_share": fraction}` this process debits tokens of a busy key
    ahead of time, spends them at a pace without asking Redis, and renews its slice in the
    background. The ttl is 0.1 to 60 seconds; `max_share` is the largest share of the rate that
    this process takes, 1 unless given. Leases are for `check`; the source is "lease".

    `max_waiting` is how many callers may wait for one key in `acquire` at a time: 1 to 1,000,000,
    10,000 unless given.

    `per_key_calls=True` sends one key in each script call over a client of the program's own, for a
    proxy that spreads keys over several servers (Envoy's redis_proxy, twemproxy). It then holds for all
    limiters over that client. A URL says it itself: `?per_key_calls=true`.

    With `store=os.environ.get("REDIS_URL", "memory://")` the same options serve both: those for
    failures, leases, timeouts and caches have no effect in memory. Their values are checked.

    No connection is made before the first use. Use it from any thread, and in forked children.
    As a context manager it closes at the end.

    Raises InvalidLimit for a limit that cannot be kept, and InvalidArgument.

    >>> from tidegate import Limiter
    >>> limiter = Limiter("10/s burst 20", "1000/d")
    >>> decision = limiter.check("user:42")
    >>> decision.allowed, decision.remaining, decision.limit_name
    (True, 19, '10/s burst 20')
    """

    def __new__(
        cls,
        *limits: Limit | str,
        store: str | _Client | _ClientConnection = "memory://",
        prefix: str | None = None,
        store_timeout: _Seconds = 0.05,
        clock: FakeClock | None = None,
        max_keys: SupportsIndex | None = None,
        on_full: Literal["evict_idlest", "deny"] | None = None,
        on_store_error: Literal["raise", "allow", "deny", "local"] | None = None,
        peers: SupportsIndex | None = None,
        deny_cache: _Seconds | None = None,
        lease: _Lease | None = None,
        max_waiting: SupportsIndex | None = None,
        per_key_calls: bool = False,
    ) -> Self: ...
    def __reduce__(self) -> Never: ...
    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits, in the order given."""
    @property
    def pressure(self) -> Pressure:
        """Counts what could not be kept because there was no room, since the buckets were made. For
        "shm://name" it counts for all processes together; for Redis, which has bounds of its own,
        it stays zero.

        >>> limiter = Limiter("1/d", max_keys=1, on_full="deny")
        >>> decisions = limiter.check_many([f"user:{n}" for n in range(100)])
        >>> limiter.pressure.denied == sum(not decision.allowed for decision in decisions)
        True
        """
    @property
    def store_health(self) -> StoreHealth:
        """How the store has done: whether it is asked at present, how many calls on it failed, the last
        failure, and how many calls this limiter has answered itself, as `on_store_error` says. The
        logger "tidegate" gets a warning when a store is left alone because it keeps failing, and an
        info when it answers again.

        >>> limiter = Limiter("10/s", store="redis://127.0.0.1:1", on_store_error="deny")
        >>> limiter.check("k").source  # nobody listens there
        'fallback'
        >>> limiter.store_health
        StoreHealth(state='closed', failures=1, fallbacks=1)
        >>> limiter.store_health.last_error.code
        'store_error'
        """
    def check(self, key: _Key, cost: _Cost = 1, *, limits: _Limits | None = None) -> Decision:
        """Spends `cost` tokens of `key` if every limit allows. Never waits for tokens,
        only for the store, with the interpreter free for other threads.

        `key` is str (as UTF-8) or bytes of any length, or a sequence of one such key for each
        limit, which names other buckets than a single key does. `cost` is 0 to 2**63 - 1, or a
        sequence of one such number for each limit; a cost of 0 looks without spending, and peek
        answers for any cost without spending.

        `limits` are those of this call instead of the limiter's own, a customer's plan, say: Limits, a
        Limit, a text, or a sequence of these. Prefix and key alone tell which bucket it is, so a key
        has one bucket under all limits. When they change, what it owes stays the same in whole
        tokens, rounded up. Calls with limits of their own are not leased, and shm:// takes none. Every
        method on a key takes `limits`; a charge is settled or credited under the limits it was made
        with.

        Raises InvalidArgument, CostTooLarge for a cost above a limit's burst, and on Redis
        StoreError, StoreTimeout or CorruptBucket. After StoreTimeout the cost may or may not have
        been charged.

        >>> limiter = Limiter("10/min", "15/min")
        >>> limiter.check(["user:1", "org:7"], cost=10).allowed
        True
        >>> limiter.check(["user:2", "org:7"], cost=10).limit_name
        '15/min'
        >>> model = Limiter("60/min", "90000/min")
        >>> model.check("user:1", [1, 1500]).allowed  # one request and 1500 tokens, or neither
        True
        """
    def check_many(
        self, checks: Iterable[_Check], *, limits: _Limits | None = None
    ) -> list[Decision]:
        """Makes many checks in one go, at most 10,000, each a key or a tuple of a key and a cost. Each is
        decided by itself, in order; a refused one does not stop the others.

        Raises the errors of check. A mistake in any of the arguments charges nothing. When the
        store fails, other checks may have been charged.

        >>> decisions = Limiter("10/s").check_many(["a", ("a", 9), ("a", 1)])
        >>> [decision.allowed for decision in decisions]
        [True, True, False]
        """
    def peek(self, key: _Key, cost: _Cost = 1, *, limits: _Limits | None = None) -> Decision:
        """Answers what check would answer now, and spends nothing. So `remaining` and `reset_after` of
        an allowed peek are those after the charge that a check would make. A cost of 0 is always
        allowed, and tells what the buckets hold.

        Another caller may spend the tokens before a check that follows: to spend, call check alone.

        Raises the errors of check.

        >>> limiter = Limiter("2/d")
        >>> limiter.check("job", cost=2).allowed
        True
        >>> limiter.peek("job").allowed
        False
        >>> limiter.peek("job", cost=0).remaining
        0
        """
    def reserve(
        self,
        key: _Key,
        cost: _Cost = 1,
        *,
        max_wait: _Seconds | None = None,
        limits: _Limits | None = None,
    ) -> Reservation:
        """Takes the next slot for `cost` tokens if it is at most `max_wait` seconds away, or however
        far away it is when `max_wait` is None. Never waits for tokens: they are charged now, to be
        spent after the reservation's `delay`. When the slot is too far away the reservation is
        refused and has charged nothing.

        Slots are handed out first come, first served, whatever their cost.

        Raises the errors of check.

        >>> limiter = Limiter("2/s burst 1", clock=FakeClock())
        >>> [limiter.reserve("job").delay for _ in range(3)]
        [0.0, 0.5, 1.0]
        >>> limiter.reserve("job", max_wait=1).allowed
        False
        """
    def acquire(
        self,
        key: _Key,
        cost: _Cost = 1,
        *,
        timeout: _Seconds | None = None,
        limits: _Limits | None = None,
    ) -> Decision:
        """Waits until `cost` tokens may be spent, and spends them. Callers for one key wait in a line,
        first come, first served; nobody polls. Answers the decision, which is allowed.

        Tokens that would come later than `timeout` seconds raise RateLimited at once, and nothing
        is charged; None waits however long it takes. So does a caller too many: `max_waiting` of
        them can wait for a key. When the wait is interrupted (Ctrl-C, or whatever a signal handler
        raises) the caller leaves the line, and those behind it move up. `hold` reaches those who
        wait, in other processes within 0.1 s. With a FakeClock nobody waits: the clock is moved to
        the slot. Where time.sleep has been replaced (gevent), the caller reserves a slot of its own
        and sleeps with that.

        Raises RateLimited, StoreError when the limiter is closed meanwhile, and the errors of check.

        >>> clock = FakeClock()
        >>> limiter = Limiter("2/s burst 1", clock=clock)
        >>> for _ in range(3):
        ...     decision = limiter.acquire("vendor")
        >>> clock.now() / 1e9
        1.0
        >>> limiter.acquire("vendor", timeout=0.1)
        Traceback (most recent call last):
        tidegate.RateLimited: rate limited: no slot within the timeout; try again in 400ms
        """
    def reserving(
        self,
        key: _Key,
        cost: _Cost,
        timeout: _Seconds | None = None,
        *,
        on_error: Literal["cancel", "settle"] = "cancel",
        limits: _Limits | None = None,
    ) -> Reserving:
        """Charges an estimate for a `with` block. Entering waits as acquire does; the block gets a
        Charge, whose settle corrects the charge once the true cost is known. What is neither settled
        nor cancelled in the block counts as used at the estimate. An exception that leaves the block
        gives all of the tokens back, unless `on_error` is "settle", which keeps the estimate. A
        failure of the store meanwhile does not replace that exception; the estimate stays charged.
        It stays charged too after a settle that failed with a StoreError, because the store may have
        carried it out.

        Raises InvalidArgument for `on_error`. Entering raises the errors of acquire.

        >>> limiter = Limiter("60000/min", clock=FakeClock())
        >>> with limiter.reserving("model", cost=4_000, timeout=10) as charge:
        ...     used = 1_500  # call the model here
        ...     decision = charge.settle(used)
        >>> decision.remaining
        58500
        >>> with limiter.reserving("model", cost=4_000):
        ...     raise ConnectionError("the model cannot be reached")
        Traceback (most recent call last):
        ConnectionError: the model cannot be reached
        >>> limiter.peek("model", cost=0).remaining
        58500
        """
    def waiting(self, key: _Key, *, limits: _Limits | None = None) -> Waiting:
        """The callers that wait for `key` in acquire, in this process and on this limiter: how many, for
        how many tokens together, and for how many seconds still, until the last of them is served.

        Raises InvalidArgument, and StoreError when the limiter is closed.

        >>> Limiter("10/s").waiting("vendor")
        Waiting(callers=0, tokens=0, until=0.0)
        """
    def settle(
        self, key: _Key, charged: _Cost, actual: _Cost, *, limits: _Limits | None = None
    ) -> Decision:
        """Corrects a charge once its true size is known: `charged` tokens were taken and `actual`
        were used, each 0 to 2**63 - 1. The difference is given back, or taken even if the limit
        does not allow it, above the burst too. Answers what the buckets then hold, as peek does.

        Raises the errors of check, except CostTooLarge.

        >>> limiter = Limiter("60000/min", clock=FakeClock())
        >>> limiter.check("model", 4_000).remaining
        56000
        >>> limiter.settle("model", charged=4_000, actual=1_500).remaining
        58500
        """
    def credit(self, key: _Key, tokens: _Cost, *, limits: _Limits | None = None) -> Decision:
        """Gives `tokens` back, 0 to 2**63 - 1, never above full. Answers as settle does.

        Raises the errors of settle.

        >>> limiter = Limiter("10/s", clock=FakeClock())
        >>> limiter.check("k", 8).remaining, limiter.credit("k", 5).remaining
        (2, 7)
        """
    def hold(self, key: _Key, wait: _Seconds, *, limits: _Limits | None = None) -> Decision:
        """Pauses for `wait` seconds, because the far side said so (Retry-After). A smooth limit has
        exactly one token at the end of the pause, and the rest arrive at the normal pace. Of two
        holds the later end counts; no hold is longer than 104 days. Those who wait in acquire
        wait until after it; a reservation keeps its time. Answers as settle does.

        Raises the errors of settle.

        >>> limiter = Limiter("50/s", clock=FakeClock())
        >>> limiter.hold("vendor", 30).remaining
        0
        >>> limiter.check("vendor").retry_after
        30.0
        """
    def reset(self, key: _Key, *, limits: _Limits | None = None) -> Decision:
        """Makes the buckets full: all that they owe is forgotten, holds included. Answers as settle
        does.

        Raises the errors of settle.

        >>> limiter = Limiter("10/s", clock=FakeClock())
        >>> limiter.check("k", 8).remaining, limiter.reset("k").remaining
        (2, 10)
        """
    def ping(self) -> None:
        """Asks the store once whether it serves this limiter, for readiness probes. Answers None within
        `store_timeout`, or raises; `on_store_error` has no part in it. Redis runs a script that reads
        and writes nothing, so a server that refuses the limiter's own calls does not pass. In memory
        the answer is there at once. Each call is a round trip: a probe that anyone can call should
        keep the answer for a moment.

        Raises StoreError, also when the limiter is closed, and StoreTimeout.

        >>> Limiter("10/s").ping()
        >>> limiter = Limiter("10/s", store="redis://127.0.0.1:1", on_store_error="allow")
        >>> try:
        ...     limiter.ping()
        ... except StoreError as error:
        ...     print(error.code)  # nobody listens there
        store_error
        """
    def close(self) -> None:
        """Closes the limiter: later calls raise StoreError. Closing it twice does no harm. Leased
        tokens are given back, which takes `store_timeout` at most.
        """
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None: ...
    @property
    def _transport(self) -> Any: ...
    @property
    def _is_leased(self) -> bool: ...
    @property
    def _is_remote(self) -> bool: ...
    @property
    def _has_fake_clock(self) -> bool: ...
    def _under(self, limits: _Limits | None) -> Limiter: ...
    def _acquire_now(self, key: _Key, cost: _Cost) -> Decision | None: ...
    def _check_without_store(self, key: _Key, cost: _Cost) -> Decision | None: ...

@final
class Pressure:
    """Counts what a store with a bounded number of keys could not keep. When either number grows,
    `max_keys` is too small for the keys that owe something.

    >>> from tidegate import Limiter
    >>> Limiter("10/s").pressure
    Pressure(evicted=0, denied=0)
    """

    @property
    def evicted(self) -> int:
        """How many buckets were dropped for new keys although they owed something. Their keys may
        spend again what they had owed.
        """
    @property
    def denied(self) -> int:
        """How many calls were refused because there was no room for their new key."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Signal:
    """What a vendor's response says about its limits: for how long to make no more calls, on what, and
    what is left. `read_signal` reads it. Durations are in seconds.

    Two are equal if all fields are.

    >>> from tidegate import read_signal
    >>> signal = read_signal(429, {"Retry-After": "120"})
    >>> signal.hold, signal.scope, signal.kind, signal.should_retry
    (120.0, 'credential', 'rate', True)
    """

    @property
    def hold(self) -> float:
        """For how many seconds to make no more calls in the `scope`. It is 0.0 when the response asks
        for no wait, or says nothing: then a retry waits for its own back-off. Never more than
        `max_hold`.
        """
    @property
    def asked(self) -> float:
        """The wait in seconds that the response asks for, before the bound of `hold`."""
    @property
    def scope(self) -> Literal["vendor", "credential", "bucket"]:
        """What the hold is about: "vendor", every call to it; "credential", the calls with the same
        credential; "bucket", the calls that the vendor counts together with this one, which are
        those of the same `bucket` where it names one, or else of the same endpoint.
        """
    @property
    def bucket(self) -> str:
        """The vendor's own name of the bucket that counted the call, such as the value of Discord's
        X-RateLimit-Bucket; empty when the response names none.
        """
    @property
    def remaining(self) -> int | None:
        """How much of the limit is left; None when the response does not say."""
    @property
    def limit(self) -> int | None:
        """How much the limit allows in its window; None when the response does not say."""
    @property
    def limit_name(self) -> str:
        """The name of the limit that `limit`, `remaining`, `window` and `reset` are about, in lower
        case; empty when it has none. Of several limits it is the one that binds: a spent one with
        the latest reset, or else the one with the smallest share left.
        """
    @property
    def window(self) -> float | None:
        """The length of the limit's window in seconds; None when the response does not say."""
    @property
    def reset(self) -> float | None:
        """The seconds until the limit is reset; None when the response does not say."""
    @property
    def should_retry(self) -> bool:
        """Whether the same call may succeed when it is made again, after the hold."""
    @property
    def kind(self) -> _Kind:
        """Why the vendor refused: "rate", "concurrency" (the rate may stay as it is), "quota" (without
        a hold it does not come back by itself), "overload" (whoever calls), "abuse", "auth",
        "fault" (the vendor failed) or "refused" (the call itself is wrong); "ok" if it did not.
        """
    @property
    def source(self) -> str:
        """The name of the header, or the path of the body's field, that the hold was read from, in
        lower case; empty when there is no hold, or when the profile gives it.
        """
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class StoreHealth:
    """How a limiter's store has done. Memory cannot fail, so that all of it stays zero there.

    `state` is the circuit breaker's: "closed" sends calls to the store; "open" answers them at
    once, because the store keeps failing; "half_open" sends one call, which finds out whether the
    store works again.

    >>> from tidegate import Limiter
    >>> Limiter("10/s").store_health
    StoreHealth(state='closed', failures=0, fallbacks=0)

    Two are equal if the state and both counts are.
    """

    @property
    def state(self) -> Literal["closed", "open", "half_open"]:
        """The state of the breaker: "closed", "open" or "half_open"."""
    @property
    def failures(self) -> int:
        """How many calls on the store failed."""
    @property
    def fallbacks(self) -> int:
        """How many calls the limiter has answered itself, as its `on_store_error` says."""
    @property
    def last_error(self) -> StoreError | None:
        """The last failure of a call on the store, a StoreError that has a `code`, also after the store
        has recovered; None if no call failed. Without passwords.
        """
    @property
    def since(self) -> float:
        """For how many seconds the store has been so: "closed" without a break, or not closed, where
        "open" and "half_open" are one outage. Counted from the first use in this process; 0 in memory.
        """
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Concurrency:
    """Lets `limit` callers run at the same time, over all processes that use the same store, prefix and key.
    Others wait in one line, first come, first served.

    A permit lasts `ttl` seconds, 0.1 to 86,400, and the process that holds it renews it in the
    background every third of that. The permits of a process that dies come free within `ttl`. So do
    those of one that cannot reach the store for that long: its `Permit.lost` says so, and until it looks
    it may run beside its successor.

    `limit` is 1 to 1,000,000. `store` is "memory://" (this object has permits of its own) or the URL of
    the Redis that a fleet shares, in the same forms as for Limiter; a client of the program's own and
    "shm://" are refused. Whoever has the same `prefix` (1 to 256 bytes, "tidegate" unless given) and the
    same key shares permits. `store_timeout` bounds each call, in seconds: 0.001 to 60.

    `on_store_error` says what callers get while Redis fails: "raise" (unless given) raises a StoreError,
    "allow" lets everybody in with a permit that is not counted (its `source` is "fallback"), and "deny"
    lets nobody in. `max_waiting` is how many callers may wait for the permits of a key: 1 to 1,000,000,
    10,000 unless given; in Redis over all processes. With a FakeClock as `clock`, for memory only, permits
    expire by it, and nobody waits.

    Use it from any thread, and in forked children, which inherit no permit. As a context manager it closes
    at the end.

    Raises InvalidArgument.

    >>> from tidegate import Concurrency
    >>> vendor = Concurrency(2, ttl=30)
    >>> with vendor.acquire(timeout=5):
    ...     vendor.in_flight()
    1
    >>> vendor.in_flight()
    0
    """

    def __new__(
        cls,
        limit: SupportsIndex,
        *,
        ttl: _Seconds = 30,
        store: str = "memory://",
        prefix: str | None = None,
        store_timeout: _Seconds = 0.05,
        clock: FakeClock | None = None,
        on_store_error: Literal["raise", "allow", "deny"] | None = None,
        max_waiting: SupportsIndex | None = None,
    ) -> Self: ...
    @property
    def limit(self) -> int:
        """The number of permits of each key."""
    @property
    def ttl(self) -> float:
        """How many seconds a permit lasts unless it is renewed."""
    def acquire(self, key: _OneKey = "", *, timeout: _Seconds | None = None) -> Permit:
        """Waits until the caller holds a permit of `key` (str or bytes), at most for `timeout` seconds; None
        waits however long it takes. The permit is a context manager that gives itself back at the end of
        its block. It also does so when it is garbage collected.

        Callers stand in one line over all processes. One that dies in it is passed over after 5 s. An
        interrupted caller (Ctrl-C) leaves the line.

        Raises NoPermit if none comes free in time or if `max_waiting` callers wait already, StoreError,
        StoreTimeout or CorruptBucket as `on_store_error` says, and InvalidArgument.

        >>> vendor = Concurrency(1)
        >>> with vendor.acquire("tenant:7") as permit:
        ...     vendor.acquire("tenant:7", timeout=0.01)
        Traceback (most recent call last):
        tidegate.NoPermit: no permit: none of 1 came free within 10ms
        """
    def try_acquire(self, key: _OneKey = "") -> Permit | None:
        """A permit of `key` if one is free and nobody waits for it, and otherwise None. Never waits for
        others, only for the store.

        Raises the errors of acquire, except NoPermit.

        >>> vendor = Concurrency(1)
        >>> first = vendor.try_acquire()
        >>> vendor.try_acquire() is None
        True
        >>> first.release()
        """
    def in_flight(self, key: _OneKey = "") -> int:
        """The number of permits of `key` that are held, over all processes.

        Raises StoreError, StoreTimeout or CorruptBucket, whatever `on_store_error` says.
        """
    def waiting(self, key: _OneKey = "") -> int:
        """The number of callers of this process that wait for a permit of `key`."""
    def set_limit(self, limit: SupportsIndex) -> None:
        """Changes the number of permits of each key, for this object: 0, which lets nobody in, to 1,000,000. A
        lower number takes no permit away; nobody enters until enough have left.

        Raises InvalidArgument.
        """
    def close(self) -> None:
        """Closes it: later calls raise StoreError, and so do those that wait. The permits of this
        process are given back.
        """
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
    def __reduce__(self) -> Never: ...
    @property
    def _is_remote(self) -> bool: ...

@final
class Permit:
    """The right to run that a Concurrency has given. As a context manager it gives itself back at the end
    of its block.

    >>> from tidegate import Concurrency
    >>> permit = Concurrency(1).acquire("tenant:7")
    >>> permit
    Permit(key='tenant:7', lost=False, source='memory')
    >>> permit.release()
    """

    @property
    def key(self) -> _OneKey:
        """The key that was asked for."""
    @property
    def lost(self) -> bool:
        """Whether the permit has expired before it could be renewed, because the store or this process stood
        still for a ttl. Somebody else may hold it by now, and it does not come back. Long work looks here
        before each step that must not overlap.
        """
    @property
    def source(self) -> Literal["memory", "redis", "fallback"]:
        """Where the permit was counted: "memory" or "redis", or "fallback" if the store failed and the caller
        was let in uncounted.
        """
    def release(self) -> None:
        """Gives the permit back, and waits until the store has heard of it, at most for the store timeout; the
        store's failure raises nothing, because the permit then expires. Does nothing the second time.
        """
    def _abandon(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
    def __reduce__(self) -> Never: ...

@final
class Waiting:
    """The callers that wait for a key in `acquire`."""

    @property
    def callers(self) -> int:
        """The number of callers."""
    @property
    def tokens(self) -> int:
        """The tokens that they wait for."""
    @property
    def until(self) -> float:
        """Seconds until the last of them is served; 0 when nobody waits."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Reservation:
    """Tokens charged ahead of time, to be spent once `delay` has passed. A reservation is true when
    it is `allowed`; when its slot was too far away it is false and has charged nothing.

    `Limiter.reserve` makes it. Its tokens count as spent when it is thrown away. Either `cancel`
    or `settle` uses it up.

    >>> from tidegate import FakeClock, Limiter
    >>> limiter = Limiter("60000/min", clock=FakeClock())
    >>> reservation = limiter.reserve("model", cost=4_000)
    >>> reservation.allowed, reservation.delay, reservation.cost
    (True, 0.0, 4000)
    >>> reservation.settle(actual=1_500).remaining  # what the call turned out to cost
    58500
    """

    @property
    def allowed(self) -> bool:
        """Whether the tokens were charged."""
    @property
    def delay(self) -> float:
        """Seconds to wait before spending, from when it was made; infinite when it is refused."""
    @property
    def decision(self) -> Decision:
        """The buckets after the charge, as after an allowed check. When it is refused, `retry_after`
        is the least wait after which the same call, with the same `max_wait`, would get a slot if
        nobody else came.
        """
    @property
    def cost(self) -> int | tuple[int, ...]:
        """The tokens that were asked for: a number, or a tuple with one for each limit."""
    def cancel(self) -> bool:
        """Gives an unused slot back, and says whether all of it came back. A bucket that nobody has
        charged since becomes what it was. Nothing comes back when others have charged the bucket
        since; `Limiter.credit` returns tokens in any case. Also False when it was refused, or has
        been cancelled or settled before. After a StoreError it can be called again.

        Raises StoreError when the limiter is closed, and on Redis its errors.

        >>> from tidegate import FakeClock, Limiter
        >>> limiter = Limiter("1/min", clock=FakeClock())
        >>> reservation = limiter.reserve("job")
        >>> reservation.cancel(), limiter.peek("job", 0).remaining
        (True, 1)
        >>> reservation.cancel()
        False
        """
    def settle(self, actual: _Cost) -> Decision:
        """Corrects the charge once its true size is known, as `Limiter.settle` does: `actual` is the
        number of tokens that were used, 0 to 2**63 - 1. After a StoreError it can be called again; after
        a StoreTimeout, the store may have carried it out.

        Raises InvalidArgument when it was refused, or has been cancelled or settled before,
        and the errors of `Limiter.settle`.
        """
    def __bool__(self) -> bool: ...
    def _advance(self) -> None: ...
    def _require(self, key: _Key) -> None: ...
    def _abandon(self) -> None: ...

@final
class _Completions:
    def __new__(cls, *, watched: bool) -> Self: ...
    def fileno(self) -> int: ...
    def deliver(self) -> None: ...
    def check(
        self, future: Future[Decision], limiter: Limiter, key: _Key, cost: _Cost
    ) -> None: ...
    def peek(
        self, future: Future[Decision], limiter: Limiter, key: _Key, cost: _Cost
    ) -> None: ...
    def send(self) -> None: ...
    def check_many(
        self, future: Future[list[Decision]], limiter: Limiter, checks: Iterable[_Check]
    ) -> None: ...
    def reserve(
        self,
        future: Future[Reservation],
        limiter: Limiter,
        key: _Key,
        cost: _Cost,
        max_wait: _Seconds | None,
    ) -> None: ...
    def acquire(
        self,
        future: Future[Decision],
        limiter: Limiter,
        key: _Key,
        cost: _Cost,
        timeout: _Seconds | None,
    ) -> _Waiter: ...
    def enter(
        self,
        future: Future[Permit],
        concurrency: Concurrency,
        key: _OneKey,
        timeout: _Seconds | None,
    ) -> _PermitWaiter: ...
    def in_flight(self, future: Future[int], concurrency: Concurrency, key: _OneKey) -> None: ...
    def release(self, future: Future[None], permit: Permit) -> None: ...
    def settle(
        self,
        future: Future[Decision],
        limiter: Limiter,
        key: _Key,
        charged: _Cost,
        actual: _Cost,
    ) -> None: ...
    def credit(
        self, future: Future[Decision], limiter: Limiter, key: _Key, tokens: _Cost
    ) -> None: ...
    def hold(
        self, future: Future[Decision], limiter: Limiter, key: _Key, wait: _Seconds
    ) -> None: ...
    def reset(self, future: Future[Decision], limiter: Limiter, key: _Key) -> None: ...
    def ping(self, future: Future[None], limiter: Limiter) -> None: ...
    def cancel_reservation(self, future: Future[bool], reservation: Reservation) -> None: ...
    def settle_reservation(
        self, future: Future[Decision], reservation: Reservation, actual: _Cost
    ) -> None: ...

@final
class _Waiter:
    def leave(self, *, claimed: bool) -> None: ...

@final
class _PermitWaiter:
    def leave(self) -> None: ...

@final
class _ClientConnection:
    def __new__(cls, transport: Any, place: str | None = None) -> Self: ...

@final
class _PendingQueue:
    def __new__(cls) -> Self: ...
    def __len__(self) -> int: ...
    def next_batches(self, *, one_by_one: bool, excused: bool = False) -> list[_Batch]: ...
    def left(self) -> float | None: ...
    def expire(self) -> float | None: ...

@final
class _Batch:
    def commands(self) -> list[list[str | bytes]]: ...
    def take(self, replies: list[Any]) -> bool: ...
    def fail(self, message: str, cause: BaseException, *, timed_out: bool) -> None: ...
    def abandon(self) -> None: ...
    def expire(self) -> float | None: ...

@final
class _RetryBudget:
    def __new__(cls, percent: int, reserve: int) -> Self: ...
    def retries(self) -> int: ...

@final
class _OutboundCall:
    def __new__(
        cls,
        budget: _RetryBudget,
        policy: tuple[int, int, int],
        deadline: int,
        attempt_timeout: int,
        needs: tuple[bool, bool, bool],
    ) -> Self: ...
    def start(self, now: int) -> _Step: ...
    def next(self, event: str, now: int) -> _Step: ...
    def responded(self, signal: Signal, now: int, random: int) -> _Step: ...
    def failed(self, kind: str, now: int, random: int) -> _Step: ...

def _is_idempotent(method: str, has_key: bool) -> bool: ...
def _profile_of_host(host: str) -> str: ...
def _read_signal(
    status: int,
    headers: list[tuple[bytes, bytes]],
    fields: list[tuple[bytes, bytes]],
    profile: tuple[str, list[tuple[str, str, str, str]]],
    now: int,
    max_hold: int,
) -> Signal: ...
def _restore(parts: tuple[Any, ...], tiers: tuple[Any, ...] | None = None) -> Decision: ...
def _restore_tier(
    limit: int, remaining: int, retry_after: int, reset_after: int, limit_name: str
) -> TierDecision: ...

@final
class _Egress:
    def __new__(
        cls,
        *,
        concurrency: int,
        batch: int,
        ahead: int,
        max_attempts: int,
        visibility: int,
        max_visibility: int,
        keep: int,
        jitter: int,
        blind_hold: int,
        back_off: int,
        max_back_off: int,
        interval: int,
        order: str,
        slots: int,
        partitions: int,
    ) -> Self: ...
    def permits_granted(self, now: int, count: int) -> None: ...
    def permits_lost(self, now: int, count: int, asked: bool) -> None: ...
    def message(
        self,
        now: int,
        id: int,
        *,
        received_at: int,
        sent_at: int,
        deadline: int | None,
        attempts: int,
        key: int,
        random: int,
        partition: int = 0,
        offset: int = 0,
        generation: int = 0,
    ) -> str: ...
    def received(self, now: int, count: int) -> None: ...
    def granted(self, now: int, id: int) -> bool: ...
    def response(self, now: int, id: int, name: str, hold: int = 0, retry: int | None = None) -> None: ...
    @staticmethod
    def meaning(kind: str, hold: int, should_retry: bool) -> str: ...
    def dead_lettered(self, now: int, id: int, is_there: bool) -> None: ...
    def held(self, now: int, until: int) -> None: ...
    def breaker(self, now: int, probes: int | None) -> None: ...
    def store(self, now: int, is_up: bool) -> None: ...
    def assign(self, now: int, partition: int, generation: int, position: int) -> bool: ...
    def revoke(self, now: int, partition: int) -> None: ...
    def stop(self, now: int) -> None: ...
    def set_interval(self, interval: int) -> None: ...
    def poll(self, now: int) -> list[tuple[Any, ...]]: ...
    def wake_at(self) -> int | None: ...
    def is_idle(self) -> bool: ...
    def drain_time(self, backlog: int) -> int: ...
    def counts(self) -> dict[str, int]: ...
    def gauges(self) -> dict[str, Any]: ...
