"""`Egress`: the loop between a queue and a handler. The machine of the core takes every decision; this
file carries out what it says."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import inspect
import logging
import math
import random
import signal as signals
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from tidegate._async import AsyncLimiter
from tidegate._concurrency import AsyncConcurrency, AsyncPermit
from tidegate._errors import InvalidArgument, NoPermit, RateLimited, StoreError, TidegateError
from tidegate._signals import read_signal
from tidegate._tidegate import Concurrency, Limiter, _Egress
from tidegate.egress._message import Message, Queue
from tidegate.egress._outcome import nanos, outcome_of_error, outcome_of_result

if TYPE_CHECKING:
    from tidegate._tidegate import _Reason

log = logging.getLogger("tidegate.egress")

# How long to wait before a store or a queue that failed is asked again, in seconds.
PATIENCE = 1.0
ACK_ATTEMPTS = 5
MAX_COUNT = 1 << 20
MIN_OBSERVE = 0.001


@dataclass(frozen=True)
class EgressGauges:
    """What an `Egress` is doing. Durations are in seconds."""

    lag: int | None
    """The messages that nobody has received yet; None if the queue does not say."""
    oldest_age: float | None
    """The age of the oldest message in hand."""
    held_for: float
    """For how long the gate is held; 0.0 while it is open."""
    waiting: int
    """Messages in hand whose calls have not begun."""
    in_flight: int
    """Messages whose calls are under way."""
    received: int
    """Messages received since the start."""
    acked: int
    """Messages done since the start."""
    returned: int
    """Messages that went back to the queue since the start."""
    dead_letters: Mapping[str, int]
    """Messages dead-lettered since the start, for each reason."""
    throttled_ratio: float
    """The share of the calls that the vendor refused for its limit."""
    drain_time: float | None
    """The predicted time until the lag has left; None if the lag or the rate is not known."""


@dataclass(frozen=True)
class Outcome:
    """How a delivery of a message ended."""

    message: Message
    end: Literal["done", "returned", "dead_lettered"]
    """"returned" means that the message comes again."""
    reason: _Reason | None = None
    """Why it was dead-lettered."""
    attempts: int = 1
    """The attempts so far, with those that were repeated in hand."""
    latency: float | None = None
    """The seconds of the last call; None if there was none."""
    delay: float = 0.0
    """The seconds after which a message that returned may come again."""


class Egress:
    """Calls `handler` for each message of a queue, under the vendor's limit.

    A call needs a permit, a token of `limiter` and an open gate. The permit comes before the receive,
    so that no message is received to wait for others. A message whose deadline passes is dead-lettered
    and costs no token. A hold that the vendor asks for reaches all workers through the limiter.

    `handler(message)` is a function, called in a thread, or a coroutine function. Its message is done
    when it returns. If it returns a response of httpx, requests, aiohttp or urllib, its status and
    headers decide. It raises `RetryLater` for a hold, `PermanentFailure` for a message that would fail
    again, and anything else for a failure that may pass.

    - `limiter`: a `Limiter`, an `AsyncLimiter`, or the text of a limit, which is then of this process
      alone.
    - `key`: the limiter's key, or a function of the message for limits per tenant or endpoint.
    - `concurrency`: the most messages in hand, 1 or more: those that are called and those that wait
      for a token.
    - `permits`: a `Concurrency` or an `AsyncConcurrency` that bounds the messages in hand over the
      fleet; each holds a permit of the key `permits_key`. A worker whose queue is empty keeps one.
    - `max_age`: the seconds after which a message is stale; `deadline`, a function of the message,
      gives a time in seconds since 1970, or None.
    - `order_key`: a function of the message; messages of one key leave one after the other.
    - `max_attempts`: the deliveries after which a message that fails is dead-lettered.
    - `keep`: the longest hold, in seconds, that messages wait out in hand.
    - `back_off`, `max_back_off`: the delay of a message that failed, in seconds; it doubles.
    - `retry`: a function of the message and its attempt that gives the seconds after which a failed
      call is made again in hand, or None to return it; a retry budget goes here.
    - `dead_letter`: a function, or a coroutine function, of the message and the reason ("stale",
      "permanent" or "exhausted") in place of the queue's dead letters. The message is then deleted.
    - `profile`: the vendor's profile for `read_signal`.
    - `on_outcome`: is called with an `Outcome` when a message leaves the hand.
    - `observer`: is called with an `EgressGauges` every `observe_every` seconds.
    """

    def __init__(
        self,
        queue: Queue,
        handler: Callable[[Message], Any],
        *,
        limiter: Limiter | AsyncLimiter | str,
        key: str | Callable[[Message], str] = "egress",
        concurrency: int = 10,
        permits: Concurrency | AsyncConcurrency | None = None,
        permits_key: str | bytes = "",
        max_age: float | timedelta | None = None,
        deadline: Callable[[Message], float | None] | None = None,
        order_key: Callable[[Message], str | None] | None = None,
        max_attempts: int = 5,
        keep: float | timedelta = 0.0,
        jitter: float | timedelta = 1.0,
        back_off: float | timedelta = 1.0,
        max_back_off: float | timedelta = 300.0,
        retry: Callable[[Message, int], float | None] | None = None,
        dead_letter: Callable[[Message, _Reason], Any] | None = None,
        profile: Any = "generic",
        on_outcome: Callable[[Outcome], None] | None = None,
        observer: Callable[[EgressGauges], None] | None = None,
        observe_every: float | timedelta = 1.0,
    ) -> None:
        for name, count in (("concurrency", concurrency), ("max_attempts", max_attempts)):
            if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MAX_COUNT:
                raise InvalidArgument(f"invalid {name}: it must be 1 to {MAX_COUNT}, but is {count!r:.80}")
        max_age = None if max_age is None else seconds_of("max_age", max_age)
        keep, jitter = seconds_of("keep", keep), seconds_of("jitter", jitter)
        back_off, max_back_off = seconds_of("back_off", back_off), seconds_of("max_back_off", max_back_off)
        observe_every = seconds_of("observe_every", observe_every)
        if observe_every < MIN_OBSERVE:
            raise InvalidArgument(f"invalid observe_every: it must be at least {MIN_OBSERVE} s, but is {observe_every}")
        for name, function in (
            ("handler", handler), ("deadline", deadline), ("order_key", order_key), ("retry", retry),
            ("dead_letter", dead_letter), ("on_outcome", on_outcome), ("observer", observer),
        ):  # fmt: skip
            if not callable(function) and (function is not None or name == "handler"):
                raise InvalidArgument(f"invalid {name}: it must be a function, but is {function!r:.80}")
        if not isinstance(key, str) and not callable(key):
            raise InvalidArgument(f"invalid key: it must be a str or a function of the message, but is {key!r:.80}")
        # A wrong profile is told now, and not with each response.
        read_signal(200, {}, profile=profile)
        self._back_off = back_off
        self._queue = queue
        self._handler = handler
        self._is_async_handler = inspect.iscoroutinefunction(handler)
        self._limiter = _async_limiter(limiter)
        self._permits = AsyncConcurrency.of(permits) if isinstance(permits, Concurrency) else permits
        if self._permits is not None and not isinstance(self._permits, AsyncConcurrency):
            raise TypeError(f"permits must be a Concurrency or an AsyncConcurrency, not {type(permits).__name__}")
        self._permits_key = permits_key
        self._key = key
        self._max_age = max_age
        self._deadline = deadline
        self._order_key = order_key
        self._retry = retry
        self._dead_letter = dead_letter
        self._profile = profile
        self._on_outcome = on_outcome
        self._observer = observer
        self._observe_every = observe_every
        self._concurrency = concurrency
        interval = _interval(self._limiter)
        ahead = concurrency if interval == 0 else min(concurrency, max(2, math.ceil(queue.ahead / interval)))
        self._interval = interval
        self._machine = _Egress(
            concurrency=concurrency,
            batch=queue.max_batch,
            ahead=ahead,
            max_attempts=max_attempts,
            visibility=nanos(queue.visibility),
            max_visibility=nanos(queue.max_visibility),
            keep=nanos(keep),
            jitter=nanos(jitter),
            blind_hold=nanos(back_off),
            back_off=nanos(back_off),
            max_back_off=nanos(max_back_off),
            interval=nanos(interval),
            order="none" if order_key is None and queue.order == "none" else "key",
            slots=concurrency,
            partitions=0,
        )
        self._next_id = 0
        self._messages: dict[int, Message] = {}
        self._keys: dict[int, str] = {}
        # The errors of the program's own functions of a message, which count as a call that failed.
        self._errors: dict[int, Exception] = {}
        self._attempts: dict[int, int] = {}
        self._latencies: dict[int, float] = {}
        self._tokens: dict[int, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._held: list[AsyncPermit] = []
        self._entering: set[asyncio.Task[None]] = set()
        self._acks: list[Message] = []
        # Messages of a group return in their order, or a later one could be the first to come again.
        self._returning = asyncio.Lock()
        self._is_acking = False
        self._lag: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Event | None = None
        self._is_over = asyncio.Event()
        self._stopped = asyncio.Event()
        self._is_stopping = False
        self._pool: ThreadPoolExecutor | None = None

    def run(self) -> None:
        """Runs until `stop`, SIGINT or SIGTERM, in an event loop of its own; then returns what waits
        to the queue and lets the calls under way end."""
        asyncio.run(self._run_with_signals())

    async def run_async(self) -> None:
        """Runs until `stop`, in the running event loop. A task that is cancelled stops in the same
        way before it ends."""
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._is_over = asyncio.Event()
        self._stopped = asyncio.Event()
        self._returning = asyncio.Lock()
        observing: asyncio.Task[None] | None = None
        try:
            await self._queue.open()
            observing = asyncio.create_task(self._observe())
            try:
                await self._drive()
            except asyncio.CancelledError:
                self._stop_now()
                await self._drive()
                raise
        finally:
            for permit in self._held:
                await permit.release()
            self._held.clear()
            if observing is not None:
                # A client may lose a cancellation, so the task is told instead.
                self._is_over.set()
                await asyncio.gather(observing, return_exceptions=True)
            if self._pool is not None:
                self._pool.shutdown(wait=False)
                self._pool = None
            await self._queue.close()

    def stop(self) -> None:
        """Ends `run` or `run_async`, from any thread: what waits returns to the queue, and calls under
        way end."""
        self._is_stopping = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop_now)

    def gauges(self) -> EgressGauges:
        """What the egress is doing."""
        counts, gauges = self._machine.counts(), self._machine.gauges()
        now = time.monotonic_ns()
        held_until, oldest = gauges["held_until"], gauges["oldest"]
        drain = None
        if self._lag is not None and self._interval > 0:
            drain = self._machine.drain_time(self._lag) / 1e9
        return EgressGauges(
            lag=self._lag,
            oldest_age=None if oldest is None else max(0, now - oldest) / 1e9,
            held_for=0.0 if held_until is None else max(0, held_until - now) / 1e9,
            waiting=gauges["waiting"],
            in_flight=gauges["in_flight"],
            received=counts["received"],
            acked=counts["acked"],
            returned=counts["returned"],
            dead_letters={reason: counts[reason] for reason in ("stale", "permanent", "exhausted")},
            throttled_ratio=counts["throttled"] / max(1, counts["dispatched"]),
            drain_time=drain,
        )

    # --- the loop ---------------------------------------------------------------------------------

    async def _run_with_signals(self) -> None:
        loop = asyncio.get_running_loop()
        caught = []
        if threading.current_thread() is threading.main_thread():
            for number in (signals.SIGINT, signals.SIGTERM):
                loop.add_signal_handler(number, self.stop)
                caught.append(number)
        try:
            await self.run_async()
        finally:
            for number in caught:
                loop.remove_signal_handler(number)

    async def _drive(self) -> None:
        assert self._wake is not None  # noqa: S101 (run_async has made it)
        if self._is_stopping:
            self._stop_now()
        while True:
            self._wake.clear()
            for action in self._machine.poll(time.monotonic_ns()):
                getattr(self, "_do_" + action[0])(*action[1:])
            if self._is_stopping and self._machine.is_idle() and not self._tasks:
                return
            if self._wake.is_set():
                await asyncio.sleep(0)
                continue
            await self._wait()

    async def _wait(self) -> None:
        assert self._wake is not None  # noqa: S101
        wake_at = self._machine.wake_at()
        timeout = None if wake_at is None else max(0.0, (wake_at - time.monotonic_ns()) / 1e9)
        if timeout is None:
            await self._wake.wait()
            return
        assert self._loop is not None  # noqa: S101
        timer = self._loop.call_later(timeout, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    def _stop_now(self) -> None:
        self._is_stopping = True
        self._stopped.set()
        for task in self._entering:
            task.cancel()
        self._machine.stop(time.monotonic_ns())
        self._wake_up()

    def _wake_up(self) -> None:
        if self._wake is not None:
            self._wake.set()

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a task of the egress failed", exc_info=error)
        self._wake_up()

    # --- what the machine says --------------------------------------------------------------------

    def _do_acquire_permits(self, count: int) -> None:
        if self._permits is None:
            self._machine.permits_granted(time.monotonic_ns(), count)
            self._wake_up()
            return
        for _ in range(count):
            task = self._start(self._enter(self._permits))
            self._entering.add(task)
            task.add_done_callback(self._entering.discard)

    def _do_release_permits(self, count: int) -> None:
        for _ in range(min(count, len(self._held))):
            self._start(self._held.pop().release())

    def _do_receive(self, count: int) -> None:
        self._start(self._receive(count))

    def _do_acquire(self, id: int) -> None:
        self._tokens[id] = self._start(self._acquire(id))

    def _do_give_back(self, id: int) -> None:
        task = self._tokens.pop(id, None)
        if task is not None and not task.done():
            task.cancel()
        elif task is not None and id not in self._errors:
            self._start(self._credit(self._keys[id]))

    def _do_dispatch(self, id: int) -> None:
        self._tokens.pop(id, None)
        self._start(self._call(id))

    def _do_ack(self, id: int) -> None:
        self._tell(id, "done")
        self._acks.append(self._forget(id))
        if not self._is_acking:
            self._is_acking = True
            self._start(self._delete())

    def _do_return(self, id: int, delay: int, counted: bool) -> None:
        self._tell(id, "returned", delay=delay / 1e9)
        self._start(self._give_back(self._forget(id), delay / 1e9, counted))

    def _do_dead_letter(self, id: int, reason: _Reason) -> None:
        self._start(self._bury(id, reason))

    def _do_drop(self, id: int) -> None:
        self._forget(id)

    def _do_extend(self, id: int, by: int) -> None:
        self._start(self._extend(self._messages[id], by / 1e9))

    def _do_hold(self, wait: int) -> None:
        if isinstance(self._key, str):
            self._start(self._hold(self._key, wait / 1e9))

    # --- tasks ------------------------------------------------------------------------------------

    async def _enter(self, permits: AsyncConcurrency) -> None:
        try:
            permit = await permits.acquire(self._permits_key)
        except (NoPermit, StoreError) as error:
            log.warning("no permit: %s", error)
            await self._pause()
            self._machine.permits_lost(time.monotonic_ns(), 1, True)
            return
        self._held.append(permit)
        self._machine.permits_granted(time.monotonic_ns(), 1)

    def _drop_lost_permits(self) -> None:
        kept = [permit for permit in self._held if not permit.lost]
        lost = len(self._held) - len(kept)
        if lost > 0:
            log.warning("%d permits are lost, because they could not be renewed", lost)
            self._held = kept
            self._machine.permits_lost(time.monotonic_ns(), lost, False)
            self._wake_up()

    async def _receive(self, count: int) -> None:
        received = 0
        try:
            for message in await self._queue.receive(count):
                received += 1
                self._offer(message)
        except Exception:
            log.exception("the queue cannot be read")
            await self._pause()
        finally:
            self._machine.received(time.monotonic_ns(), received)

    def _offer(self, message: Message) -> None:
        id = self._next_id = self._next_id + 1
        now, wall = time.monotonic_ns(), time.time()
        sent_at = wall if message.sent_at is None else message.sent_at
        deadline, key = None, 0
        self._messages[id] = message
        self._attempts[id] = message.attempts
        try:
            self._keys[id] = self._key if isinstance(self._key, str) else _text("key", self._key(message))
            deadline = self._deadline_of(message, sent_at)
            key = self._hashed_key(message)
        except Exception as error:  # noqa: BLE001 (the functions of a program raise what they like)
            self._errors[id] = error
        taken = self._machine.message(
            now,
            id,
            received_at=now,
            sent_at=max(0, now - nanos(wall - sent_at)),
            deadline=None if deadline is None else max(0, now + round((deadline - wall) * 1e9)),
            attempts=message.attempts,
            key=key,
            random=random.getrandbits(64),
        )
        if taken != "held":
            self._start(self._give_back(self._forget(id), 0.0, False))

    def _deadline_of(self, message: Message, sent_at: float) -> float | None:
        deadline = None if self._max_age is None else sent_at + self._max_age
        if self._deadline is not None and (given := self._deadline(message)) is not None:
            given = float(given)
            if math.isnan(given) or math.isinf(given):
                raise InvalidArgument(f"invalid deadline: it must be seconds since 1970 or None, but is {given}")
            deadline = given if deadline is None else min(deadline, given)
        return deadline

    def _hashed_key(self, message: Message) -> int:
        key = message.group if self._order_key is None else self._order_key(message)
        if key is None:
            return 0
        digest = hashlib.blake2b(_text("order_key", key).encode(errors="surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest, "big") or 1

    async def _acquire(self, id: int) -> None:
        try:
            # A message that cannot be called costs no token.
            if id not in self._errors:
                await self._limiter.acquire(self._keys[id])
        except (RateLimited, StoreError) as error:
            log.warning("no tokens: %s", error)
            self._machine.store(time.monotonic_ns(), False)
            self._tokens.pop(id, None)
            self._wake_up()
            await self._pause()
            self._machine.store(time.monotonic_ns(), True)
            return
        except TidegateError as error:
            # The limiter refuses this key, and would do so again.
            self._errors[id] = error
        key = None if id in self._errors else self._keys[id]
        if not self._machine.granted(time.monotonic_ns(), id) and key is not None:
            await self._credit(key)

    async def _credit(self, key: str) -> None:
        try:
            await self._limiter.credit(key, 1)
        except StoreError as error:
            log.warning("a token is lost: %s", error)

    async def _hold(self, key: str, wait: float) -> None:
        try:
            await self._limiter.hold(key, wait)
        except StoreError as error:
            log.warning("the fleet could not be told of a hold: %s", error)

    async def _call(self, id: int) -> None:
        message = self._messages[id]
        began = time.monotonic()
        key = self._keys.get(id)
        try:
            if (wrong := self._errors.get(id)) is not None:
                raise wrong
            name, hold = outcome_of_result(await self._handle(message), self._profile)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 (a handler raises what it likes)
            # Nobody cancels this task, so a cancellation is the handler's own.
            name, hold = self._outcome_of(error)
            log.info("message %s: %s: %r", message.id, name, error)
        self._latencies[id] = time.monotonic() - began
        retry = self._retry_of(message, id) if name == "failed" else None
        self._machine.response(time.monotonic_ns(), id, name, hold, retry)
        if name == "held" and key is not None and not isinstance(self._key, str):
            # A vendor that names no time is left alone for as long as by this worker.
            await self._hold(key, hold / 1e9 or self._back_off)

    def _outcome_of(self, error: BaseException) -> tuple[str, int]:
        try:
            return outcome_of_error(error, self._profile)
        except Exception:
            log.exception("what a handler raised cannot be read")
            return "failed", 0

    def _retry_of(self, message: Message, id: int) -> int | None:
        """The nanoseconds after which the call is made again in hand; None if it is not."""
        if self._retry is None:
            return None
        try:
            wait = self._retry(message, self._attempts[id])
            retry = None if wait is None else nanos(wait)
        except Exception:
            log.exception("retry failed, so message %s returns", message.id)
            return None
        self._attempts[id] += 1
        return retry

    async def _handle(self, message: Message) -> Any:
        if self._is_async_handler:
            return await self._handler(message)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._concurrency, thread_name_prefix="tidegate-egress")
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._handle_in_thread, message)

    def _handle_in_thread(self, message: Message) -> Any:
        try:
            return self._handler(message)
        except BaseException as error:
            if isinstance(error, Exception) and not isinstance(error, StopIteration):
                raise
            # A future carries none of these to the loop.
            raise RuntimeError(f"the handler raised {type(error).__name__}") from error

    async def _delete(self) -> None:
        """Deletes what is done, all of it in one request, while more comes."""
        attempt = 0
        # What is not deleted by the end of its visibility comes again.
        most = max(ACK_ATTEMPTS, int(min(self._queue.visibility, 600) / PATIENCE))
        try:
            while self._acks:
                messages, self._acks = self._acks[: self._queue.max_batch], self._acks[self._queue.max_batch :]
                try:
                    failed = list(await self._queue.ack(messages))
                except Exception:
                    log.exception("messages that are done could not be deleted")
                    failed = messages
                if failed and attempt < (ACK_ATTEMPTS if self._is_stopping else most):
                    attempt += 1
                    self._acks += failed
                    await asyncio.sleep(PATIENCE * min(1.0, attempt / ACK_ATTEMPTS))
                elif not failed:
                    attempt = 0
        finally:
            self._is_acking = False

    async def _give_back(self, message: Message, delay: float, counted: bool) -> None:
        try:
            async with self._returning:
                await self._queue.give_back(message, delay, counted=counted)
        except Exception:
            # It comes again when its visibility ends.
            log.exception("message %s could not be returned", message.id)

    async def _extend(self, message: Message, by: float) -> None:
        try:
            await self._queue.extend(message, by)
        except Exception:
            log.exception("the visibility of message %s could not be extended", message.id)

    async def _bury(self, id: int, reason: _Reason) -> None:
        message = self._messages[id]
        is_there = False
        try:
            if self._dead_letter is None:
                await self._queue.dead_letter(message, reason)
            else:
                await self._to_own_dead_letters(self._dead_letter, message, reason)
            is_there = True
        except Exception:
            log.exception("message %s could not be dead-lettered", message.id)
        if is_there:
            self._tell(id, "dead_lettered", reason)
            self._forget(id)
        self._machine.dead_lettered(time.monotonic_ns(), id, is_there)

    async def _to_own_dead_letters(
        self, dead_letter: Callable[[Message, _Reason], Any], message: Message, reason: _Reason
    ) -> None:
        if inspect.iscoroutinefunction(dead_letter):
            await dead_letter(message, reason)
        else:
            await asyncio.to_thread(dead_letter, message, reason)
        await self._queue.ack([message])

    async def _pause(self) -> None:
        """Waits before something that failed is tried again, but not while the egress stops."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), PATIENCE)

    async def _observe(self) -> None:
        while not self._is_over.is_set():
            self._drop_lost_permits()
            try:
                self._lag = await self._queue.backlog()
            except Exception as error:  # noqa: BLE001 (gauges are not worth an end)
                log.info("the queue does not say its lag: %s", error)
                self._lag = None
            if self._observer is not None:
                try:
                    self._observer(self.gauges())
                except Exception:
                    log.exception("observer failed")
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._is_over.wait(), self._observe_every)

    def _tell(
        self,
        id: int,
        end: Literal["done", "returned", "dead_lettered"],
        reason: _Reason | None = None,
        delay: float = 0.0,
    ) -> None:
        if self._on_outcome is not None:
            message, latency = self._messages[id], self._latencies.get(id)
            try:
                self._on_outcome(Outcome(message, end, reason, self._attempts[id], latency, delay))
            except Exception:
                log.exception("on_outcome failed")

    def _forget(self, id: int) -> Message:
        self._attempts.pop(id, None)
        self._keys.pop(id, None)
        self._errors.pop(id, None)
        self._latencies.pop(id, None)
        self._tokens.pop(id, None)
        return self._messages.pop(id)


def _async_limiter(limiter: Limiter | AsyncLimiter | str) -> AsyncLimiter:
    if isinstance(limiter, str):
        return AsyncLimiter(limiter)
    if isinstance(limiter, Limiter):
        return AsyncLimiter.of(limiter)
    if isinstance(limiter, AsyncLimiter):
        return limiter
    raise InvalidArgument(f"invalid limiter: it must be a Limiter, an AsyncLimiter or a text, but is {limiter!r:.80}")


def _interval(limiter: AsyncLimiter) -> float:
    """The seconds between two tokens, at the pace of the slowest limit; 0 without a limit."""
    paces = [limit.period / limit.tokens for limit in limiter.limits if limit.tokens]
    finite = [pace for pace in paces if math.isfinite(pace)]
    return max(finite, default=0.0)


def seconds_of(name: str, value: float | timedelta) -> float:
    """Seconds, which may be given as a timedelta."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < math.inf:
        raise InvalidArgument(f"invalid {name}: it must be seconds, 0 or more, or a timedelta, but is {value!r:.80}")
    return float(seconds)


def _text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    raise InvalidArgument(f"invalid {name}: it must give a str, but gave {type(value).__name__}")
