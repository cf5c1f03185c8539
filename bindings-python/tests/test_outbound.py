"""`Outbound` and `AsyncOutbound` by any client: slots, holds, retries, deadlines, permits and the table of hosts."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.error import URLError
from urllib.request import Request as UrllibRequest

import pytest
import requests

from tidegate import (
    AsyncLimiter,
    AsyncOutbound,
    Attempt,
    FakeClock,
    InvalidArgument,
    Limiter,
    Outbound,
    RateLimited,
    Retry,
    _async_outbound,
)

SECOND = 10**9
HOST = "api.example.com"
# No jitter, so that times are exact.
PROMPT = Retry(base=0)


class Response:
    """The response of a client."""

    def __init__(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.status_code, self.headers = status, headers or {}
        self.content = b'{"used": 7}'


class Both:
    """An Outbound and an AsyncOutbound with one way to use them."""

    def __init__(self, is_async: bool) -> None:
        self.is_async = is_async
        self.clock = FakeClock()

    def make(self, *limits: str, **options: Any) -> Any:
        kind = AsyncOutbound if self.is_async else Outbound
        options.setdefault("clock", self.clock)
        return kind(*limits, **options)

    def send(self, outbound: Any, function: Callable[[Attempt], Any], key: str | None = HOST, **options: Any) -> Any:
        if not self.is_async:
            return outbound.send(function, key=key, **options)

        async def awaited(attempt: Attempt) -> Any:
            return function(attempt)

        return asyncio.run(outbound.send(awaited, key=key, **options))

    def call(self, outbound: Any, status: int, headers: dict[str, str], key: str = HOST, **options: Any) -> Any:
        if not self.is_async:
            with outbound.call(key, **options) as call:
                return call.response(status, headers)

        async def main() -> Any:
            async with outbound.call(key, **options) as call:
                return await call.response(status, headers)

        return asyncio.run(main())

    def left(self, outbound: Any, key: str = HOST) -> Any:
        limiter = outbound.limiter
        return asyncio.run(limiter.peek(key, 0)) if self.is_async else limiter.peek(key, 0)


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def both(request: pytest.FixtureRequest) -> Both:
    return Both(request.param)


def answers(*outcomes: Any) -> Callable[[Attempt], Any]:
    """A function that answers these, one after the other; errors are raised."""
    given: Iterator[Any] = iter(outcomes)

    def function(_: Attempt) -> Any:
        outcome = next(given)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return function


def refused(**headers: str) -> Response:
    return Response(429, {name.replace("_", "-"): value for name, value in headers.items()})


def test_a_call_takes_its_slot(both: Both) -> None:
    outbound = both.make("2/s burst 1")
    for _ in range(5):
        assert both.send(outbound, answers(Response(200))).status_code == 200
    assert both.clock.now() == 2 * SECOND


def test_a_refused_call_holds_all_and_is_repeated_after_the_hold(both: Both) -> None:
    outbound = both.make("10/s", retry=PROMPT)
    seen = []

    def function(attempt: Attempt) -> Response:
        seen.append((attempt.number, both.clock.now()))
        return refused(retry_after="2") if attempt.number == 1 else Response(200)

    assert both.send(outbound, function).status_code == 200
    assert seen == [(1, 0), (2, 2 * SECOND)]
    # A smooth limit has one token at the end of a hold, and the retry has taken it.
    assert both.left(outbound).remaining == 0


def test_a_hold_is_stored_before_the_wait(both: Both) -> None:
    outbound = both.make("10/s", retry=Retry(attempts=1))
    assert both.send(outbound, answers(refused(retry_after="30"))).status_code == 429
    assert both.clock.now() == 0
    assert both.left(outbound).reset_after > 30


def test_a_success_that_spent_the_limit_holds_too(both: Both) -> None:
    outbound = both.make("10/s")
    spent = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "7"}
    assert both.call(outbound, 200, spent).hold == 7.0
    assert both.left(outbound).reset_after > 7


def test_the_last_response_is_returned_whatever_its_status(both: Both) -> None:
    outbound = both.make("10/s", retry=Retry(attempts=2, base=0))
    assert both.send(outbound, answers(Response(503), Response(500))).status_code == 500
    assert both.send(outbound, answers(Response(404), Response(200))).status_code == 404


def test_the_last_error_is_raised(both: Both) -> None:
    outbound = both.make("10/s", retry=Retry(attempts=2, base=0))
    first, second = ConnectionRefusedError("a"), ConnectionResetError("b")
    with pytest.raises(ConnectionResetError, match="b"):
        both.send(outbound, answers(first, second))
    assert both.send(outbound, answers(socket.gaierror("x"), Response(200))).status_code == 200


def test_errors_that_are_no_failure_of_the_vendor_are_raised_at_once(both: Both) -> None:
    outbound = both.make("10/s", retry=PROMPT)
    for error in (ValueError("mine"), KeyboardInterrupt(), ssl.SSLCertVerificationError("no")):
        with pytest.raises(type(error)):
            both.send(outbound, answers(error, Response(200)))
    with pytest.raises(TypeError, match="a status and headers"):
        both.send(outbound, answers("text", Response(200)))


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(2, "no such file"),
        PermissionError(13, "not permitted"),
        IsADirectoryError(21, "is a directory"),
        OSError(28, "no space", "/tmp/upload"),
        requests.JSONDecodeError("not JSON", "x", 0),
        requests.exceptions.InvalidHeader("a line break"),
        requests.TooManyRedirects("30"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_mistake_of_the_program_is_not_repeated(both: Both, error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        both.send(both.make("10/s", retry=PROMPT), answers(error, Response(200)))
    assert caught.value is error


@pytest.mark.parametrize(
    "error",
    [OSError(113, "no route to host"), requests.ConnectionError("aborted"), BrokenPipeError(), requests.Timeout()],
    ids=lambda error: type(error).__name__,
)
def test_a_failure_of_the_connection_is_repeated(both: Both, error: Exception) -> None:
    assert both.send(both.make("10/s", retry=PROMPT), answers(error, Response(200))).status_code == 200


def test_an_error_with_a_response_counts_as_the_response(both: Both) -> None:
    outbound = both.make("10/s", retry=Retry(attempts=2, base=0))

    class StatusError(Exception):
        response = refused(retry_after="3")

    assert both.send(outbound, answers(StatusError(), Response(200))).status_code == 200
    assert both.clock.now() >= 3 * SECOND
    with pytest.raises(StatusError):
        both.send(outbound, answers(StatusError(), StatusError()))


def test_what_may_have_had_an_effect_is_not_repeated(both: Both) -> None:
    outbound = both.make("10/s", retry=PROMPT)
    assert both.send(outbound, answers(Response(500)), idempotent=False).status_code == 500
    with pytest.raises(ConnectionResetError):
        both.send(outbound, answers(ConnectionResetError()), idempotent=False)
    unsent = URLError(ConnectionRefusedError())
    assert both.send(outbound, answers(unsent, Response(200)), idempotent=False).status_code == 200
    try:
        raise ConnectionRefusedError
    except ConnectionRefusedError:
        # What the program was handling has nothing to do with the call.
        with pytest.raises(URLError):
            both.send(outbound, answers(URLError(ConnectionResetError())), idempotent=False)
    assert both.send(outbound, answers(Response(429), Response(200)), idempotent=False).status_code == 200


class Request:
    """The request of a client."""

    def __init__(self, method: Any, headers: Any = None, url: str = f"https://{HOST}/") -> None:
        self.method, self.url, self.headers = method, url, headers


@pytest.mark.parametrize(
    ("request_of_client", "repeats"),
    [
        (Request("POST"), False),
        (Request("patch", {"X-Other": "1"}), False),
        (Request("POST", 5), False),
        (Request("POST", {"idempotency-key": "1"}), True),
        (Request("POST", [(b"X-Idempotency-Key", b"1")]), True),
        (Request("PUT"), True),
        (Request(None), True),
        (UrllibRequest(f"https://{HOST}/", data=b"x"), False),
        (UrllibRequest(f"https://{HOST}/"), True),
        (f"https://{HOST}/", True),
        (None, True),
    ],
)
def test_what_the_request_shows_decides_if_it_is_repeated(both: Both, request_of_client: Any, repeats: bool) -> None:
    outbound = both.make("100/s", retry=PROMPT)

    def status(**options: Any) -> Any:
        made = both.send(outbound, answers(Response(500), Response(200)), request=request_of_client, **options)
        return made.status_code

    assert status() == (200 if repeats else 500)
    # What the program says goes before it.
    assert (status(idempotent=True), status(idempotent=False)) == (200, 500)


def test_nothing_happens_beyond_the_deadline(both: Both) -> None:
    outbound = both.make("1/s burst 1", retry=PROMPT)
    times: list[tuple[int, float | None]] = []

    def function(attempt: Attempt) -> Response:
        times.append((both.clock.now(), attempt.timeout))
        return Response(503)

    assert both.send(outbound, function, timeout=2.5).status_code == 503
    assert times == [(0, 2.5), (SECOND, 1.5), (2 * SECOND, 0.5)]
    # The slot would come later: nothing is charged.
    with pytest.raises(RateLimited) as caught:
        both.send(outbound, function, timeout=0.5)
    assert caught.value.code == "rate_limited"
    assert both.clock.now() == 2 * SECOND
    with pytest.raises(RateLimited, match="before it was made: deadline"):
        both.send(outbound, function, timeout=0)
    # A hold that ends after the deadline is stored, and the call returns at once.
    both.clock.advance(10)
    assert both.send(outbound, answers(refused(retry_after="9")), timeout=5).status_code == 429
    assert both.clock.now() == 12 * SECOND


def test_total_failure_offers_at_most_1_1_requests_for_each_call(both: Both) -> None:
    outbound = both.make("unlimited", retry=Retry(base=0))
    sent = 0

    def function(_: Attempt) -> Response:
        nonlocal sent
        sent += 1
        return Response(503)

    for _ in range(500):
        both.send(outbound, function)
    assert 545 <= sent <= 550


def test_a_block_has_one_attempt(both: Both) -> None:
    outbound = both.make("10/s")
    signal = both.call(outbound, 429, {"Retry-After": "4"})
    assert (signal.hold, signal.should_retry) == (4.0, True)
    with pytest.raises(RateLimited):
        both.call(outbound, 200, {}, timeout=1)


def test_a_block_that_raises_gives_the_permit_back(both: Both) -> None:
    outbound = both.make("10/s", concurrency=1)

    def main() -> None:
        with outbound.call(HOST):
            raise ValueError("mine")

    async def amain() -> None:
        async with outbound.call(HOST):
            raise ValueError("mine")

    for _ in range(3):
        with pytest.raises(ValueError, match="mine"):
            asyncio.run(amain()) if both.is_async else main()


class StatusOfAJob(Exception):
    """An error of a program whose `status` is no status of HTTP."""

    status, headers = "pending", {}


class OddHeaders(Exception):
    """An error of a program whose `headers` are none."""

    status, headers = 500, 7


class Raises(Exception):
    """An error whose attributes cannot be read."""

    @property
    def response(self) -> Any:
        raise RuntimeError("no response")

    @property
    def reason(self) -> Any:
        raise RuntimeError("no reason")

    @property
    def args(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no args")


class StatusRaises(Exception):
    """An error whose response cannot be read."""

    class Response:
        @property
        def status_code(self) -> int:
            raise RuntimeError("not ready")

    response = Response()


@pytest.mark.parametrize("kind", [StatusOfAJob, OddHeaders, Raises, StatusRaises])
def test_an_error_with_odd_attributes_is_raised_and_gives_the_place_back(both: Both, kind: type[Exception]) -> None:
    outbound = both.make("unlimited", concurrency=1, timeout=0.05)
    error = kind()

    def main() -> None:
        with outbound.call(HOST):
            raise error

    async def amain() -> None:
        async with outbound.call(HOST):
            raise error

    # Each can only come once the one before has given its place back.
    for _ in range(2):
        with pytest.raises(kind):
            asyncio.run(amain()) if both.is_async else main()
        with pytest.raises(kind):
            both.send(outbound, answers(error, Response(200)))


def test_a_failure_is_one_also_if_its_attributes_are_odd(both: Both) -> None:
    class Broken(StatusOfAJob, ConnectionResetError):
        pass

    assert both.send(both.make("10/s", retry=PROMPT), answers(Broken(), Response(200))).status_code == 200


def test_an_entered_block_that_is_forgotten_gives_its_place_back(both: Both) -> None:
    outbound = both.make("60000/min", concurrency=1, timeout=30, clock=None)

    def main() -> None:
        for _ in range(3):
            call = outbound.call(HOST)
            call.__enter__()
            call.settle(0)
            del call
            gc.collect()

    async def amain() -> None:
        for _ in range(3):
            call = outbound.call(HOST)
            await call.__aenter__()
            await call.settle(0)
            del call
            gc.collect()

    asyncio.run(amain()) if both.is_async else main()


def test_a_block_is_used_once_and_told_once(both: Both) -> None:
    outbound = both.make("10/s")

    async def amain() -> None:
        call = outbound.call(HOST)
        with pytest.raises(InvalidArgument, match="has not begun"):
            await call.response(200, {})
        async with call:
            await call.response(200, {})
            with pytest.raises(InvalidArgument, match="told before"):
                await call.response(200, {})
            assert call.timeout is None
            assert call.decision.allowed
        with pytest.raises(InvalidArgument, match="entered before"):
            async with call:
                pass

    def main() -> None:
        call = outbound.call(HOST)
        with pytest.raises(InvalidArgument, match="has not begun"):
            call.response(200, {})
        with call:
            call.response(200, {})
            with pytest.raises(InvalidArgument, match="told before"):
                call.response(200, {})
            assert call.timeout is None
            assert call.decision.allowed
        with pytest.raises(InvalidArgument, match="entered before"), call:
            pass

    asyncio.run(amain()) if both.is_async else main()


def test_usage_corrects_the_estimate(both: Both) -> None:
    outbound = both.make("60000/min", cost=len, usage=lambda body: int(body[9:10]))
    both.send(outbound, answers(Response(200)), request="x" * 100)
    assert both.left(outbound).remaining == 60_000 - 7
    # A body of another form leaves the estimate.
    outbound = both.make("60000/min", cost=50, usage=lambda body: {}[body])
    both.send(outbound, answers(Response(200)))
    assert both.left(outbound).remaining == 60_000 - 50


@pytest.mark.parametrize("used", [(None,), -1, 1.5, "x", True, [], (1, 2), 2**80])
def test_a_usage_that_is_no_number_of_tokens_leaves_the_estimate(
    both: Both, used: Any, caplog: pytest.LogCaptureFixture
) -> None:
    outbound = both.make("60000/min", cost=50, usage=lambda body: used, concurrency=1, timeout=0.05)
    for number in (1, 2):
        assert both.send(outbound, answers(Response(200))).status_code == 200
        assert both.left(outbound).remaining == 60_000 - 50 * number
    assert [record.getMessage() for record in caplog.records] == [
        "usage could not read a response; the estimate stays charged"
    ] * 2


def test_a_block_settles_what_was_used(both: Both) -> None:
    outbound = both.make("60000/min")

    async def amain() -> int:
        async with outbound.call("model", cost=4_000) as call:
            return (await call.settle(1_500)).remaining

    def main() -> int:
        with outbound.call("model", cost=4_000) as call:
            return call.settle(1_500).remaining

    assert (asyncio.run(amain()) if both.is_async else main()) == 58_500


def test_the_key_is_the_host_or_what_the_program_says(both: Both) -> None:
    outbound = both.make("10/s")
    both.send(outbound, answers(Response(200)), None, request="https://API.example.com:8443/v1?x=1")
    assert both.left(outbound).remaining == 9
    with pytest.raises(InvalidArgument, match="invalid key"):
        both.send(outbound, answers(Response(200)), None)
    outbound = both.make("10/s", key=lambda request: request.rsplit("/", 1)[1])
    both.send(outbound, answers(Response(200)), None, request="https://api.example.com/tenant")
    assert both.left(outbound, "tenant").remaining == 9


def test_a_profile_is_known_by_its_host(both: Both) -> None:
    # GitHub's secondary limit says nothing but 403 with a message; its profile knows the reset's margin.
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "30"}
    assert both.call(both.make("10/s"), 403, headers, "api.github.com").hold == 31.0
    assert both.call(both.make("10/s"), 403, headers, HOST).hold == 30.0
    assert both.call(both.make("10/s", profile="github"), 403, headers, HOST).hold == 31.0
    rows = [{"header": "Acme-Wait", "meaning": "retry_after", "unit": "milliseconds"}]
    assert both.call(both.make("10/s", profile=rows), 429, {"acme-wait": "1500"}).hold == 1.5
    assert both.call(both.make("10/s", max_hold=5), 429, {"Retry-After": "60"}).hold == 5.0


def test_hosts_have_options_of_their_own(both: Both) -> None:
    outbound = both.make(
        "10/s",
        profile="github",
        hosts={"api.one.example": {"limits": "1/min"}, "*.two.example": {"limits": ["5/s", "100/h"], "profile": None}},
    )
    assert outbound.at("API.one.example") is not outbound
    assert [limit.name for limit in outbound.at("a.b.two.example").limiter.limits] == ["5/s", "100/h"]
    assert outbound.at("two.example") is outbound
    assert outbound.at("one.example") is outbound
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "30"}
    assert both.call(outbound, 429, headers, "api.one.example").hold == 31.0
    assert both.call(outbound, 429, headers, "x.two.example").hold == 30.0
    both.send(outbound, answers(Response(200)), None, request="https://x.two.example/")
    assert both.clock.now() == 30 * SECOND
    # Without limits of its own, other hosts pass freely.
    free = both.make(hosts={"api.one.example": {"limits": "1/min"}})
    for _ in range(100):
        both.send(free, answers(Response(200)))
    assert both.clock.now() == 30 * SECOND


@pytest.mark.parametrize(
    "key",
    [
        "", ".", "*", "*.", "https://api.github.com", "api.github.com:443", "api.github.com/v3", "api.*.com", "a b.com",
        ".github.com", "a..b", "*.*.com", "me@github.com", "[::1]", 1, None, b"api.github.com",
    ],
)  # fmt: skip
def test_a_key_of_hosts_that_can_match_nothing_is_refused(both: Both, key: Any) -> None:
    for entry in ({"limits": "1/s"}, both.make("1/s")):
        with pytest.raises(InvalidArgument, match=r"a key is a host .*'api.example.com', or '\*.example.com'"):
            both.make(hosts={key: entry})


@pytest.mark.parametrize(
    ("key", "host"),
    [
        ("API.github.com", "api.github.com."),
        ("api.github.com.", "api.github.com"),
        ("*.github.com", "api.github.com."),
        ("localhost", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("b\u00fccher.example", "B\u00fccher.example"),
        ("my_host", "my_host"),
    ],
)
def test_a_key_of_hosts_matches_its_host(both: Both, key: str, host: str) -> None:
    outbound = both.make(hosts={key: {"limits": "1/s"}})
    assert outbound.at(host) is not outbound


def test_a_host_with_a_dot_at_its_end_is_the_same_host(both: Both) -> None:
    outbound = both.make("10/s")
    for host in (HOST, f"{HOST}."):
        both.send(outbound, answers(Response(200)), None, request=f"https://{host}/")
    assert both.left(outbound).remaining == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hosts": {"a": {"limts": "1/s"}}}, "invalid hosts: 'a' has wrong options"),
        ({"hosts": {"a": "1/s"}}, "invalid hosts: each is a dict"),
        ({"profile": "githbu"}, "invalid profile"),
        ({"timeout": -1}, "invalid timeout"),
        ({"attempt_timeout": "1"}, "invalid attempt_timeout"),
        ({"max_hold": -1}, "invalid max_hold"),
        ({"concurrency": 0}, "invalid concurrency: it must be 1 to"),
        ({"concurrency": True}, "invalid concurrency"),
        ({"concurrency": "5"}, "invalid concurrency: it must be a number, an object"),
        ({"concurrency": 5.0}, "invalid concurrency: it must be a number, an object"),
        ({"cost": -1}, "invalid cost: it must be 0 to"),
        ({"cost": (1, None)}, "invalid cost: it must be a whole number"),
        ({"cost": "1"}, "invalid cost: it must be a whole number"),
        ({"cost": []}, "invalid cost: it must be one number for each limit"),
        ({"usage": 5}, "invalid usage: it must be a function"),
        ({"hosts": [1]}, "invalid hosts: it must be a dict of options by host"),
        ({"hosts": ""}, "invalid hosts: it must be a dict of options by host"),
        ({"hosts": {"a": {"cost": -1}}}, "invalid cost"),
        ({"limiter": Limiter("1/s")}, "invalid limiter: it has limits"),
    ],
)
def test_wrong_options_are_named(both: Both, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        both.make("10/s", **options)


@pytest.mark.parametrize("request_of_client", ["http://[bad", Request("GET", url="http://[bad/")])
def test_a_request_that_has_no_url_is_named(both: Both, request_of_client: Any) -> None:
    outbound = both.make("10/s")
    with pytest.raises(InvalidArgument, match="invalid request: its URL cannot be read"):
        both.send(outbound, answers(Response(200)), request=request_of_client)
    with pytest.raises(InvalidArgument, match="invalid request: its URL cannot be read"):
        outbound.call(request=request_of_client)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attempts": 0}, "invalid attempts: it must be 1 to"),
        ({"attempts": 1.5}, "invalid attempts: it must be a whole number"),
        ({"base": -1}, "invalid base"),
        ({"longest": "x"}, "invalid longest"),
        ({"percent": 101}, "invalid percent: it must be 0 to 100"),
        ({"reserve": -1}, "invalid reserve"),
    ],
)
def test_wrong_retries_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        Retry(**options)


def test_a_limiter_that_there_is_is_shared() -> None:
    clock = FakeClock()
    limiter = Limiter("10/d", clock=clock)
    with Outbound(limiter=limiter) as outbound:
        outbound.send(lambda _: Response(200), key="k")
    # It stays open, because it was given.
    assert limiter.peek("k", 0).remaining == 9
    asyncio.run(AsyncOutbound(limiter=limiter).send(lambda _: asyncio.sleep(0, Response(200)), key="k"))
    assert limiter.peek("k", 0).remaining == 8
    side = AsyncLimiter.of(limiter)
    assert AsyncOutbound(limiter=side).limiter is side
    with pytest.raises(TypeError, match="limiter must be a Limiter"):
        Outbound(limiter="10/s")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="retry must be a Retry"):
        Outbound("10/s", retry=3)  # type: ignore[arg-type]


def test_concurrency_bounds_the_calls_at_a_time() -> None:
    outbound = Outbound("unlimited", concurrency=2)
    together = threading.Barrier(2)
    most = now = 0
    lock = threading.Lock()

    def function(_: Attempt) -> Response:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        together.wait(30)  # the second comes while the first is there
        with lock:
            now -= 1
        return Response(200)

    threads = [threading.Thread(target=lambda: outbound.send(function, key="k")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == 2


def test_a_permit_of_an_object_is_given_back_before_a_wait_and_at_the_end(both: Both) -> None:
    events: list[Any] = []

    class Permit:
        def release(self) -> None:
            events.append(("release", both.clock.now() // SECOND))

    class Permits:
        def acquire(self, timeout: float | None = None) -> Permit:
            events.append("acquire")
            return Permit()

    class Awaited(Permits):
        async def acquire(self) -> Permit:  # type: ignore[override]
            return Permits.acquire(self)

    permits = Awaited() if both.is_async else Permits()
    outbound = both.make("10/s", retry=PROMPT, concurrency=lambda key: permits)
    both.send(outbound, answers(refused(retry_after="3"), Response(200)))
    assert events == ["acquire", ("release", 0), "acquire", ("release", 3)]


def test_a_full_permit_is_refused_by_the_deadline(both: Both) -> None:
    limit: Any = asyncio.Semaphore(1) if both.is_async else threading.Semaphore(1)
    if both.is_async:
        asyncio.run(limit.acquire())
    else:
        limit.acquire()
    outbound = both.make("10/s", concurrency=limit)
    with pytest.raises(RateLimited, match="before it was made: slot"):
        both.send(outbound, answers(Response(200)), timeout=0.01)
    assert both.left(outbound).remaining == 10


def test_a_cancelled_call_gives_its_permit_back() -> None:
    async def main() -> None:
        outbound = AsyncOutbound("unlimited", concurrency=1)
        entered = asyncio.Event()

        async def hangs(_: Attempt) -> Response:
            entered.set()
            await asyncio.Event().wait()
            raise AssertionError

        task = asyncio.create_task(outbound.send(hangs, key="k"))
        await asyncio.wait_for(entered.wait(), 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        response = await asyncio.wait_for(outbound.send(lambda _: asyncio.sleep(0, Response(200)), key="k"), 30)
        assert response.status_code == 200

    asyncio.run(main())


@pytest.mark.parametrize("options", [{"attempt_timeout": 30}, {"timeout": 30}, {}])
@pytest.mark.parametrize("by_timer", [False, True])
def test_a_cancellation_that_comes_with_the_response_is_kept(
    options: dict[str, Any], by_timer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by_timer:
        # What Python 3.10 uses.
        async def within(timeout: float | None, awaitable: Any) -> Any:
            return await (awaitable if timeout is None else _async_outbound.within_by_timer(timeout, awaitable))

        monkeypatch.setattr(_async_outbound, "within", within)

    async def cancelled_after(turns: int) -> None:
        outbound = AsyncOutbound("unlimited", concurrency=1, **options)
        response = asyncio.get_running_loop().create_future()
        began = asyncio.Event()

        async def function(_: Attempt) -> Any:
            began.set()
            return await response

        async def program() -> None:
            await outbound.send(function, key="k")
            await asyncio.Event().wait()

        task = asyncio.create_task(program())
        await began.wait()
        response.set_result(Response(200))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=1)
        assert done and task.cancelled(), f"{turns} turns"
        await asyncio.wait_for(outbound.send(lambda _: asyncio.sleep(0, Response(200)), key="k"), 30)

    async def main() -> None:
        for turns in range(6):
            await cancelled_after(turns)

    asyncio.run(main())


def test_the_timer_of_an_attempt_raises_a_timeout_and_ends_with_it() -> None:
    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await _async_outbound.within_by_timer(0.01, asyncio.Event().wait())
        assert await _async_outbound.within_by_timer(0.01, asyncio.sleep(0, 5)) == 5
        await asyncio.sleep(0.02)

    asyncio.run(main())


def test_an_attempt_is_cancelled_when_its_time_is_over() -> None:
    async def main() -> None:
        outbound = AsyncOutbound("unlimited", attempt_timeout=0.01, retry=PROMPT)
        numbers = []

        async def slow_once(attempt: Attempt) -> Response:
            numbers.append(attempt.number)
            if attempt.number == 1:
                await asyncio.Event().wait()
            return Response(200)

        assert (await asyncio.wait_for(outbound.send(slow_once, key="k"), 30)).status_code == 200
        assert numbers == [1, 2]

    asyncio.run(main())
