"""`Outbound`: calls to vendors within their limits, for programs that block.

The native machine decides what a call does next; the classes here carry it out.
"""

from __future__ import annotations

import _thread
import inspect
import logging
import random
import re
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from ipaddress import ip_address
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tidegate._errors import InvalidArgument, RateLimited, StoreError
from tidegate._responses import failure_of, host_of, parts_of, plain_host, response_of, shows_idempotent
from tidegate._signals import nanos, read_signal
from tidegate._tidegate import (
    Decision,
    FakeClock,
    Limiter,
    Signal,
    _OutboundCall,
    _profile_of_host,
    _RetryBudget,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self, Unpack

    from tidegate._signals import ProfileRow
    from tidegate._tidegate import Limit, _Cost, _Key, _LimiterOptions, _Seconds, _Step

# What the machine says for "any time".
NEVER = 2**64 - 1
SECOND = 10**9
MAX_U32 = 2**32 - 1
MAX_COST = 2**63 - 1
# How much of the end of a body the `usage` hook sees.
MAX_USAGE_BODY = 1 << 20
# A key of the table `hosts`: labels with dots between them, after `*.` if it is for the hosts of a domain.
HOST_KEY = re.compile(r"(\*\.)?[^][\s./:@?#*,]+(\.[^][\s./:@?#*,]+)*")

_T = TypeVar("_T")
_LimiterOf = TypeVar("_LimiterOf")
_log = logging.getLogger("tidegate")


class Retry:
    """How often a failed call is made again, and how long it waits before.

    `attempts` counts the first: 1 repeats nothing, and the most is 2**32 - 1. The wait before a retry is what the
    vendor asks for, and a random part of a bound (full jitter), which is `base` seconds before the first retry,
    doubles with each, and is at most `longest`. A retry that would begin at the call's deadline is not made.

    At most `percent` of the calls of one `Outbound` are repeated, 0 to 100, so that a vendor that fails is not
    asked several times as often; the first `reserve` retries are lent. Retries that the vendor itself has
    asked for, by refusing with a wait, cost this budget nothing: the limiter paces them.

    Raises InvalidArgument for a value out of these ranges.

    >>> Retry(attempts=6, base=0.25)
    Retry(attempts=6, base=0.25, longest=20.0, percent=10, reserve=10)
    """

    __slots__ = ("_policy", "attempts", "base", "longest", "percent", "reserve")

    def __init__(
        self,
        attempts: int = 4,
        *,
        base: _Seconds = 0.5,
        longest: _Seconds = 20.0,
        percent: int = 10,
        reserve: int = 10,
    ) -> None:
        self.attempts = whole("attempts", attempts, 1, MAX_U32)
        self.base = seconds_of(base)
        self.longest = seconds_of(longest)
        self.percent = whole("percent", percent, 0, 100)
        self.reserve = whole("reserve", reserve, 0, MAX_U32)
        self._policy = (self.attempts, nanos("base", self.base), nanos("longest", self.longest))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__[1:])
        return f"Retry({fields})"


class Attempt:
    """One attempt of a call, which the function of `Outbound.send` is given."""

    __slots__ = ("decision", "number", "timeout")

    def __init__(self, number: int, timeout: float | None, decision: Decision) -> None:
        self.number = number
        """1 for the first, 2 for its first retry."""
        self.timeout = timeout
        """The seconds that are left for it; None for any time."""
        self.decision = decision
        """The buckets after its tokens were taken."""

    def __repr__(self) -> str:
        return f"Attempt(number={self.number}, timeout={self.timeout})"


class Run:
    """The state of one call, for both kinds of `Outbound`: what it asks for, and its machine."""

    __slots__ = (
        "_ended", "_machine", "_usage", "clock", "cost", "decision", "key", "max_hold", "permit", "profile", "refusal",
        "sends", "signal",
    )  # fmt: skip

    def __init__(self, options: Options[Any], call: CallOptions, *, attempts: int | None = None) -> None:
        retry = options.retry
        policy = retry._policy if attempts is None else (attempts, *retry._policy[1:])
        self.clock = options.clock
        timeout = options.timeout if call.timeout is None else nanos_or_none("timeout", call.timeout)
        deadline = NEVER if timeout is None else min(NEVER, self.now() + timeout)
        self._machine = _OutboundCall(
            options.budget,
            policy,
            deadline,
            NEVER if options.attempt_timeout is None else options.attempt_timeout,
            (options.concurrency is not None, call.repeatable, call.idempotent),
        )
        self.key = options.key_of(call)
        self.cost = options.cost_of(call)
        self.profile = options.profile_of(call)
        self.max_hold = options.max_hold
        self._usage = options.usage
        self.decision = Decision(allowed=True)
        self.refusal: RateLimited | None = None
        self.permit: Callable[[], Any] | None = None
        self.signal: Signal | None = None
        self.sends = 0
        self._ended = threading.Lock()

    def now(self) -> int:
        return time.monotonic_ns() if self.clock is None else self.clock.now()

    def start(self) -> _Step:
        return self._machine.start(self.now())

    def next(self, event: str) -> _Step:
        return self._machine.next(event, self.now())

    def read(self, status: Any, headers: Any, body: Any) -> Signal:
        self.signal = read_signal(status, headers, profile=self.profile, body=body, max_hold=self.max_hold)
        return self.signal

    def told(self, signal: Signal) -> _Step:
        return self._machine.responded(signal, self.now(), random.getrandbits(64))

    def failed(self, kind: str) -> _Step:
        return self._machine.failed(kind, self.now(), random.getrandbits(64))

    def raised(self, error: BaseException) -> _Step | None:
        """The step after an error in place of a response; None if it is no failure of the call.

        Nothing that is read from the error raises, because the program is to get its own error.
        """
        signal = None
        parts = parts_of(error)
        if parts is not None:
            # The `status` of a program's own error may be no status of HTTP.
            with suppress(Exception):
                signal = self.read(*parts)
        if signal is not None:
            return self.told(signal)
        kind = failure_of(error)
        return None if kind is None else self.failed(kind)

    def attempt(self, timeout: int) -> Attempt:
        self.sends += 1
        return Attempt(self.sends, seconds_or_none(timeout), self.decision)

    def gave_up(self, reason: str) -> RateLimited:
        """The error of a call that gives up with neither a response nor an error of its client."""
        if self.refusal is not None:
            return self.refusal
        message = f"the call gave up before it was made: {reason}"
        key = self.key if isinstance(self.key, (str, bytes)) else self.key[0]
        return RateLimited(message, Decision(allowed=False), key)

    def end(self) -> bool:
        """Ends the call, and says whether it had not ended before."""
        return self._ended.acquire(blocking=False)

    def actual_of(self, body: bytes | None) -> _Cost | None:
        """What the call has used, as the `usage` hook reads its body; None to leave it at the estimate."""
        if self._usage is None or body is None:
            return None
        try:
            return self._usage(body)
        except Exception:  # noqa: BLE001 (a body of another form ends no call)
            self.warn_of_usage()
            return None

    def warn_of_usage(self) -> None:
        """Logs the error that is being handled, of the `usage` hook or of what it returned."""
        _log.warning("usage could not read a response; the estimate stays charged", exc_info=True)

    @property
    def wants_body(self) -> bool:
        return self._usage is not None


class CallOptions:
    """What one call says of itself."""

    __slots__ = ("cost", "host", "idempotent", "key", "repeatable", "request", "timeout")

    def __init__(
        self,
        key: _Key | None = None,
        request: Any = None,
        *,
        cost: _Cost | None = None,
        timeout: _Seconds | None = None,
        repeatable: bool = True,
        idempotent: bool | None = None,
    ) -> None:
        self.key = key
        self.request = request
        self.host = host_of(request) if request is not None else key if isinstance(key, str) else None
        self.cost = cost
        self.timeout = timeout
        self.repeatable = repeatable
        self.idempotent = shows_idempotent(request) if idempotent is None else bool(idempotent)


class Options(Generic[_LimiterOf]):
    """The options of an `Outbound` or an `AsyncOutbound`, checked."""

    def __init__(
        self,
        limiter: _LimiterOf,
        *,
        clock: FakeClock | None,
        key: _Key | Callable[[Any], _Key] | None,
        cost: _Cost | Callable[[Any], _Cost],
        usage: Callable[[bytes], _Cost | None] | None,
        profile: str | Sequence[ProfileRow] | None,
        retry: Retry | None,
        timeout: _Seconds | None,
        attempt_timeout: _Seconds | None,
        concurrency: Any,
        max_hold: _Seconds,
    ) -> None:
        if retry is not None and not isinstance(retry, Retry):
            raise TypeError(f"retry must be a Retry, not {type(retry).__name__}")
        if usage is not None and not callable(usage):
            raise InvalidArgument(f"invalid usage: it must be a function of the body, but is {usage!r:.80}")
        if concurrency is not None and not hasattr(concurrency, "acquire") and not callable(concurrency):
            message = "it must be a number, an object with acquire and release, or a function of the key"
            raise InvalidArgument(f"invalid concurrency: {message}, but is {concurrency!r:.80}")
        if not callable(cost):
            check_cost(cost)
        self.limiter = limiter
        self.clock = clock
        self.key = key
        self.cost = cost
        self.usage = usage
        self.profile = profile
        self.retry = retry or Retry()
        self.budget = _RetryBudget(self.retry.percent, self.retry.reserve)
        self.timeout = nanos_or_none("timeout", timeout)
        self.attempt_timeout = nanos_or_none("attempt_timeout", attempt_timeout)
        self.concurrency = concurrency
        self.max_hold = seconds_of(max_hold)
        nanos("max_hold", self.max_hold)
        if profile != "auto":
            # A wrong profile is told now, and not with the first response.
            read_signal(200, {}, profile=profile)

    def key_of(self, call: CallOptions) -> _Key:
        key = call.key if call.key is not None else self.key
        if callable(key):
            key = key(call.request)
        if key is None:
            key = call.host
        if key is None:
            raise InvalidArgument("invalid key: give a key, or a request or URL whose host it is")
        return key

    def cost_of(self, call: CallOptions) -> _Cost:
        cost = call.cost if call.cost is not None else self.cost
        return cost(call.request) if callable(cost) else cost

    def profile_of(self, call: CallOptions) -> str | Sequence[ProfileRow] | None:
        if self.profile == "auto":
            return _profile_of_host(call.host) if call.host else None
        return self.profile


class Outbound:
    """Makes calls to vendors within their limits: takes a slot, reads what the response says, holds, and repeats.

    `limits` and `store` are those of a `Limiter`, and so are `prefix`, `clock`, `on_store_error` and its other
    options; or give a `limiter` that there is. With `store="redis://…"` a whole fleet shares the limits, and a
    hold that one process is told pauses all of them.

    `key` names the bucket of a call: a text, or a function of the request; the request's host unless given. A hold
    is kept under this key, so let it be what the vendor counts by. `cost` is the tokens of a call, or a function
    of the request; `usage` a function of the response's body (its last MiB) that says what the call has used, or
    None, and the charge is corrected when the body has ended. Of a stream that `send` returns unread, the estimate
    stays charged.

    `profile` says how responses are read: a name or rows for `read_signal`, or "auto" (unless given), which knows
    the hosts of the built-in vendors. A hold is at most `max_hold` seconds. `retry` is a `Retry`; four attempts
    unless given. `timeout` bounds a call in seconds, from its wait for a slot to its last attempt, waits included;
    `attempt_timeout` bounds one attempt.

    `concurrency` bounds the calls at a time: a number for this process, or an object with `acquire` and `release`,
    or a function of the key that returns one. The place is taken before the tokens, and given back when the
    response has ended.

    `hosts` is a table of other options by host, such as `{"api.github.com": {"limits": "80/min"}}`; `*.example.com`
    stands for the hosts of a domain. A key has no scheme, port or path. A dict has the options of Outbound (`limits`
    is a text or a list), and what it leaves out is as given here; each has a bucket of its own. Without `limits` of
    its own an Outbound lets other hosts pass freely.

    Use it from any thread. As a context manager it closes its limiters at the end.

    Raises InvalidLimit and InvalidArgument.

    >>> outbound = Outbound("10 in any 1s", clock=FakeClock())
    >>> with outbound.call("api.example.com") as call:
    ...     signal = call.response(200, {"X-RateLimit-Remaining": "7"})  # of any client
    >>> signal.remaining
    7
    """

    def __init__(
        self,
        *limits: Limit | str,
        limiter: Limiter | None = None,
        key: _Key | Callable[[Any], _Key] | None = None,
        cost: _Cost | Callable[[Any], _Cost] = 1,
        usage: Callable[[bytes], _Cost | None] | None = None,
        profile: str | Sequence[ProfileRow] | None = "auto",
        retry: Retry | None = None,
        timeout: _Seconds | None = None,
        attempt_timeout: _Seconds | None = None,
        concurrency: Any = None,
        max_hold: _Seconds = 900.0,
        hosts: Mapping[str, Mapping[str, Any] | Outbound] | None = None,
        **limiter_options: Unpack[_LimiterOptions],
    ) -> None:
        given: dict[str, Any] = {
            "key": key, "cost": cost, "usage": usage, "profile": profile, "retry": retry, "timeout": timeout,
            "attempt_timeout": attempt_timeout, "concurrency": concurrency, "max_hold": max_hold,
        }  # fmt: skip
        self._hosts = table_of(type(self), hosts, given, dict(limiter_options))
        self._is_own = limiter is None
        if isinstance(concurrency, int):
            given["concurrency"] = threading.BoundedSemaphore(whole("concurrency", concurrency, 1, MAX_U32))
        elif inspect.iscoroutinefunction(getattr(concurrency, "acquire", None)):
            message = "its acquire is for asyncio, so give it to an AsyncOutbound"
            raise InvalidArgument(f"invalid concurrency: {message}, but it is {concurrency!r:.80}")
        made = self._limiter_of(limits, limiter, limiter_options)
        self._options = Options(made, clock=limiter_options.get("clock"), **given)

    @staticmethod
    def _limiter_of(limits: Any, limiter: Limiter | None, store: Any) -> Limiter:
        if limiter is None:
            return Limiter(*(limits or ("unlimited",)), **store)
        if limits or store:
            raise InvalidArgument("invalid limiter: it has limits and a store already, so give no others")
        if not isinstance(limiter, Limiter):
            raise TypeError(f"limiter must be a Limiter, not {type(limiter).__name__}")
        return limiter

    @property
    def limiter(self) -> Limiter:
        """The limiter whose tokens the calls take, except those to `hosts`."""
        return self._options.limiter

    def at(self, host: str) -> Outbound:
        """The Outbound of a host: that of the table `hosts`, or this one.

        >>> outbound = Outbound("10/s", hosts={"*.slow.example": {"limits": "1/min"}})
        >>> [limit.name for limit in outbound.at("api.slow.example").limiter.limits]
        ['1/min']
        >>> outbound.at("api.example.com") is outbound
        True
        """
        return found_in(self._hosts, host) or self

    def call(
        self,
        key: _Key | None = None,
        *,
        request: Any = None,
        cost: _Cost | None = None,
        timeout: _Seconds | None = None,
    ) -> Call:
        """A block for one attempt by any client: it has its slot when it begins.

        Tell `response` of the block what came back. `request` is a URL, or the request of a client; its host is
        the key unless there is another. The block repeats nothing: `send` does.

        Entering it raises RateLimited if the slot would come after `timeout`, and the errors of `Limiter.acquire`.

        >>> clock = FakeClock()
        >>> outbound = Outbound("10/s", clock=clock)
        >>> with outbound.call("api.example.com") as call:
        ...     signal = call.response(429, {"Retry-After": "30"})
        >>> signal.should_retry, outbound.limiter.peek("api.example.com").retry_after  # all who call it wait
        (True, 30.0)
        """
        options = CallOptions(key, request, cost=cost, timeout=timeout)
        return Call(self._of(options)._options, options)

    def send(
        self,
        function: Callable[[Attempt], _T],
        *,
        key: _Key | None = None,
        request: Any = None,
        cost: _Cost | None = None,
        timeout: _Seconds | None = None,
        idempotent: bool | None = None,
    ) -> _T:
        """Calls `function` when there is a slot, and again as `retry` and the vendor say, and returns its response.

        The function makes one attempt and returns the response of any client that has a status and headers; it
        is given an `Attempt`, whose `timeout` is the seconds that are left. The last response is returned,
        whatever its status, and the last error of the client is raised. An error with a `response`, as of
        `raise_for_status`, counts as this response.

        With `idempotent=False` the function is called again only where its call cannot have had an effect, such as
        after a 429. Unless given, the method and the Idempotency-Key of `request` decide; a call whose `request` is
        a URL, or shows no method, counts as idempotent.

        Raises RateLimited if the slot would come after the `timeout`, and the errors of `Limiter.acquire`.

        >>> class Response:
        ...     def __init__(self, status, headers):
        ...         self.status, self.headers = status, headers
        >>> responses = iter([Response(429, {"Retry-After": "2"}), Response(200, {})])
        >>> clock = FakeClock()
        >>> outbound = Outbound("10 in any 1s", clock=clock)
        >>> outbound.send(lambda attempt: next(responses), key="api.example.com").status
        200
        >>> clock.now() >= 2_000_000_000
        True
        """
        options = CallOptions(key, request, cost=cost, timeout=timeout, idempotent=idempotent)
        run = SyncRun(self._of(options)._options, options)
        response, body = run.exchange(function, response_of, body_of_sync)
        read = None
        try:
            read = body() if run.wants_body else None
        finally:
            run.finish(read)
        return response

    def close(self) -> None:
        """Closes its limiters, except one that it was given."""
        for each in self._hosts.values():
            each.close()
        if self._is_own:
            self._options.limiter.close()

    def _of(self, options: CallOptions) -> Outbound:
        return self.at(options.host) if options.host and self._hosts else self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Outbound({', '.join(repr(limit.name) for limit in self._options.limiter.limits)})"


class SyncRun(Run):
    """A call whose steps block."""

    __slots__ = ("_concurrency", "_limiter")

    def __init__(self, options: Options[Limiter], call: CallOptions, *, attempts: int | None = None) -> None:
        super().__init__(options, call, attempts=attempts)
        self._limiter = options.limiter
        self._concurrency = options.concurrency

    def carry(self, step: _Step) -> _Step:
        """Carries steps out until the request is to be sent, or the call ends."""
        try:
            while True:
                do, amount, _ = step
                if do == "acquire":
                    step = self.next(self._acquire(amount))
                elif do == "permit":
                    step = self.next(self._enter(amount))
                elif do == "hold":
                    with suppress(StoreError):
                        self._limiter.hold(self.key, amount / SECOND)
                    step = self.next("done")
                elif do == "release":
                    self.leave()
                    step = self.next("done")
                elif do == "sleep":
                    self._sleep(amount)
                    step = self.next("done")
                else:
                    return step
        except BaseException:
            self.cancel()
            raise

    def exchange(
        self,
        function: Callable[[Attempt], _T],
        parts: Callable[[Any], tuple[Any, Any, Any] | None],
        body: Callable[[Any], bytes | None],
    ) -> tuple[_T, Callable[[], bytes | None]]:
        """Makes the call, again if need be, and returns the response and what reads its body."""
        step = self.carry(self.start())
        error: BaseException | None = None
        response: Any = None
        while step[0] == "send":
            error = response = None
            try:
                response = function(self.attempt(step[1]))
                told = parts(response)
            except Exception as raised:  # noqa: BLE001 (what is no failure of a client is raised below)
                error = raised
            except BaseException:
                self.cancel()
                raise
            try:
                if error is not None:
                    after = self.raised(error)
                    if after is None:
                        raise error
                    step = after
                elif told is None:
                    raise TypeError("the function must return a response that has a status and headers")
                else:
                    step = self.told(self.read(*told))
            except BaseException:
                self.cancel()
                raise
            step = self.carry(step)
        if error is not None:
            self.finish(None)
            raise error
        if response is None:
            self.finish(None)
            raise self.gave_up(step[2])
        return response, lambda: body(response)

    def finish(self, body: bytes | None) -> None:
        """The response has ended: the charge is corrected and the permit given back."""
        if not self.end():
            return
        self.leave()
        actual = self.actual_of(body)
        if actual is None:
            return
        try:
            self._limiter.settle(self.key, self.cost, actual)
        except StoreError:
            pass
        except Exception:  # noqa: BLE001 (what the hook returns ends no call)
            self.warn_of_usage()

    def cancel(self) -> None:
        self.next("cancelled")
        self.leave()

    def drop(self) -> None:
        """What the call belongs to was forgotten: the permit is given back."""
        self.end()
        self.leave()

    def end_with(self, owner: Any) -> None:
        """Gives the permit back when the garbage collector takes `owner`, unless it was given back before."""
        if self.permit is not None:
            weakref.finalize(owner, apart, self.drop)

    def leave(self) -> None:
        permit, self.permit = self.permit, None
        if permit is not None:
            permit()

    def _acquire(self, max_wait: int) -> str:
        try:
            self.decision = self._limiter.acquire(self.key, self.cost, timeout=seconds_or_none(max_wait))
        except RateLimited as refusal:
            self.refusal = refusal
            return "denied"
        return "granted"

    def _enter(self, max_wait: int) -> str:
        concurrency = concurrency_of(self._concurrency, self.key)
        try:
            seconds = seconds_or_none(max_wait)
            # A threading.Lock takes no None, and no more than TIMEOUT_MAX.
            bound = {} if seconds is None else {"timeout": min(seconds, threading.TIMEOUT_MAX)}
            permit = concurrency.acquire(**bound)
        except RateLimited as refusal:
            self.refusal = refusal
            return "denied"
        except TimeoutError:
            return "denied"
        if permit is False:
            return "denied"
        if inspect.isawaitable(permit):
            if inspect.iscoroutine(permit):
                permit.close()
            raise InvalidArgument("invalid concurrency: its acquire is for asyncio, so give it to an AsyncOutbound")
        self.permit = permit.release if hasattr(permit, "release") else concurrency.release
        return "granted"

    def _sleep(self, wait: int) -> None:
        if self.clock is None:
            time.sleep(wait / SECOND)
        else:
            self.clock.advance(wait / SECOND)


class Call:
    """One attempt of a call by any client. `Outbound.call` makes it, and it is entered once."""

    __slots__ = ("__weakref__", "_attempt", "_run")

    def __init__(self, options: Options[Limiter], call: CallOptions) -> None:
        self._run = SyncRun(options, call, attempts=1)
        self._attempt: Attempt | None = None

    @property
    def timeout(self) -> float | None:
        """The seconds that are left for the attempt, from when the block began; None for any time."""
        return self._begun().timeout

    @property
    def decision(self) -> Decision:
        """The buckets after the tokens were taken."""
        return self._begun().decision

    def response(self, status: Any, headers: Any, body: Any = None) -> Signal:
        """Reads what came back, as `read_signal` does, and stores the hold that it asks for. Tell it once.

        Raises InvalidArgument for arguments that are no response, and when the block has ended.
        """
        run = open_run(self._run, self._attempt)
        signal = run.read(status, headers, body)
        run.carry(run.told(signal))
        return signal

    def settle(self, actual: _Cost) -> Decision:
        """Corrects the charge to the tokens that the call has used, once; see `Limiter.settle`.

        Raises InvalidArgument when it has been settled, and the errors of `Limiter.settle`.

        >>> outbound = Outbound("60000/min", clock=FakeClock())
        >>> with outbound.call("model", cost=4_000) as call:
        ...     signal = call.response(200, {})
        ...     call.settle(1_500).remaining
        58500
        """
        self._begun()
        run = self._run
        if not run.end():
            raise InvalidArgument("invalid call: it has been settled before, or its block has ended")
        return run._limiter.settle(run.key, run.cost, actual)

    def _begun(self) -> Attempt:
        if self._attempt is None:
            raise InvalidArgument("invalid call: its block has not begun")
        return self._attempt

    def __enter__(self) -> Self:
        if self._attempt is not None:
            raise InvalidArgument("invalid call: it has been entered before; each block needs one of its own")
        run = self._run
        do, timeout, reason = run.carry(run.start())
        if do != "send":
            raise run.gave_up(reason)
        self._attempt = run.attempt(timeout)
        run.end_with(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        run = self._run
        try:
            if run.signal is None:
                step = None if exc_value is None else run.raised(exc_value)
                run.carry(run.next("cancelled") if step is None else step)
        finally:
            run.end()
            run.leave()


def open_run(run: _T, attempt: Attempt | None) -> _T:
    if attempt is None:
        raise InvalidArgument("invalid call: its block has not begun")
    if run.signal is not None:  # type: ignore[attr-defined]
        raise InvalidArgument("invalid call: its response has been told before")
    return run


def apart(work: Callable[[], None]) -> None:
    """Does the work of a finalizer in a thread of its own.

    The garbage collector may run while this thread holds the lock that the work takes, such as that of a semaphore.
    """
    if threading.main_thread().is_alive():
        _thread.start_new_thread(work, ())
    else:
        # The process ends, and a thread that begins now would not be waited for.
        work()


def concurrency_of(concurrency: Any, key: _Key) -> Any:
    """The object whose places a call takes."""
    return concurrency if hasattr(concurrency, "acquire") else concurrency(key)


def body_of_sync(response: Any) -> bytes | None:
    """The body of a response; None if it is a stream that was not read, because it may have no end."""
    try:
        if getattr(response, "_content", None) is False:
            # requests would read it here.
            return None
        content = getattr(response, "content", None)
    except Exception:  # noqa: BLE001 (the program is to get the response, whatever its body is)
        return None
    return content if isinstance(content, bytes) else None


def table_of(
    kind: type[_T],
    hosts: Mapping[str, Any] | None,
    given: Mapping[str, Any],
    store: Mapping[str, Any],
) -> dict[str, _T]:
    """The table `hosts`, each with an Outbound of its own and a bucket that no other shares."""
    if hosts is not None and not isinstance(hosts, Mapping):
        raise InvalidArgument(f"invalid hosts: it must be a dict of options by host, but is {hosts!r:.80}")
    table: dict[str, _T] = {}
    for host, entry in (hosts or {}).items():
        name = host_key(host)
        if isinstance(entry, kind):
            table[name] = entry
            continue
        if not isinstance(entry, Mapping):
            raise InvalidArgument(f"invalid hosts: each is a dict of options, but {host!r} is {entry!r:.80}")
        options = {**given, **entry}
        limits = options.pop("limits", ())
        if "limiter" not in entry:
            prefix = f"{store.get('prefix') or 'tidegate'}:{name}"
            options = {**store, "prefix": prefix, **options}
        try:
            table[name] = kind(*((limits,) if not isinstance(limits, (list, tuple)) else limits), **options)
        except TypeError as error:
            raise InvalidArgument(f"invalid hosts: {host!r} has wrong options: {error}") from None
    return table


def check_cost(cost: Any) -> None:
    """Refuses what is neither a number of tokens nor a sequence of such numbers."""
    several = tuple(cost) if hasattr(cost, "__iter__") and not isinstance(cost, (str, bytes)) else (cost,)
    if not several:
        raise InvalidArgument("invalid cost: it must be one number for each limit, but has 0")
    for each in several:
        whole("cost", each, 0, MAX_COST)


def host_key(host: Any) -> str:
    """A key of the table `hosts`, in the form that hosts are looked up by."""
    if isinstance(host, str):
        name = plain_host(host)
        with suppress(ValueError):
            ip_address(name)
            return name
        if HOST_KEY.fullmatch(name):
            return name
    raise InvalidArgument(
        "invalid hosts: a key is a host without scheme, port and path, such as 'api.example.com', "
        f"or '*.example.com' for the hosts of a domain, but one is {host!r:.80}"
    )


def found_in(table: Mapping[str, _T], host: str) -> _T | None:
    """The entry of a host: its own, or that of the closest domain (`*.example.com`)."""
    host = plain_host(host)
    while (found := table.get(host)) is None:
        dot = host.find(".", 2 if host.startswith("*.") else 0)
        if dot < 0:
            return None
        host = f"*{host[dot:]}"
    return found


def whole(name: str, number: Any, least: int, most: int) -> int:
    if isinstance(number, bool) or not hasattr(number, "__index__"):
        raise InvalidArgument(f"invalid {name}: it must be a whole number, but is {number!r:.80}")
    number = number.__index__()
    if least <= number <= most:
        return int(number)
    raise InvalidArgument(f"invalid {name}: it must be {least} to {most}, but is {number}")


def seconds_of(seconds: _Seconds) -> float:
    return seconds.total_seconds() if isinstance(seconds, timedelta) else seconds


def nanos_or_none(name: str, seconds: _Seconds | None) -> int | None:
    return None if seconds is None else nanos(name, seconds_of(seconds))


def seconds_or_none(amount: int) -> float | None:
    return None if amount >= NEVER else amount / SECOND


for _public in (Attempt, Call, Outbound, Retry):
    _public.__module__ = "tidegate"
