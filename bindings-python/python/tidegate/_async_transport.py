"""The transport over a Redis client for asyncio: group commit on an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from tidegate._calls import RemoteCalls
from tidegate._completions import running_loop
from tidegate._deadlines import CAN_UNCANCEL, LATE, BatchCallers, Deadlines
from tidegate._replies import as_reply, fail_batch
from tidegate._tidegate import Limiter, Reservation, _Completions, _PendingQueue

if TYPE_CHECKING:
    from tidegate._tidegate import Decision, _Batch, _Cost, _Key

_P = ParamSpec("_P")
_T = TypeVar("_T")
_O = TypeVar("_O", Limiter, Reservation)

# After this many batches in a row of one request each, a caller is taken to be alone.
_BATCHES_ALONE = 16


class AsyncTransport(RemoteCalls):
    """Gathers the requests of one turn of the event loop into a batch. Requests that come while
    a batch is under way form the next one.

    The connections of a client for asyncio belong to one event loop, so that the requests are
    sent on the loop that has used the client last.
    """

    def __init__(self, client: Any, *, is_cluster: bool) -> None:
        self.client = client
        # The keys of a cluster live on different servers: each request is a batch of its own.
        self.is_cluster = is_cluster
        self.queue = _PendingQueue()
        # Nothing is watched for answers: whoever brings them delivers them, in the same turn.
        self.completions = _Completions(watched=False)
        self._sender: _LoopSender | None = None

    def check(
        self, limiter: Limiter, key: _Key, cost: _Cost
    ) -> Coroutine[Any, Any, Decision]:
        """A check over the client."""
        return self._current_sender().check(limiter, key, cost)

    def start(
        self,
        _blocking: Callable[Concatenate[_O, _P], _T],
        starting: Callable[Concatenate[_Completions, asyncio.Future[_T], _O, _P], object],
        on: _O,
        /,
        *arguments: _P.args,
        **named: _P.kwargs,
    ) -> asyncio.Future[_T]:
        """Starts an operation over the client; see `Calls`."""
        future: asyncio.Future[_T] = self._current_sender().loop.create_future()
        starting(self.completions, future, on, *arguments, **named)
        # What needs no request, such as a mistake in the arguments, is answered already.
        self.completions.deliver()
        return future

    def use_running_loop(self) -> None:
        """Sends requests on the running event loop from now on."""
        self._current_sender()

    def wake(self) -> None:
        """Sees to it that the requests in the queue are sent; the native module calls it.

        A call puts its request there on the thread of the event loop. A reservation whose caller
        is gone is given back from any thread.
        """
        sender = self._sender
        if sender is None:
            return  # The first call on an event loop sends them too.
        if _running_loop() is sender.loop:
            sender.wake()
        else:
            with suppress(RuntimeError):  # The loop is closed: the first call on another sends them.
                sender.loop.call_soon_threadsafe(self.wake)

    def _current_sender(self) -> _LoopSender:
        loop = running_loop()
        if self._sender is None or self._sender.loop is not loop:
            self._sender = _LoopSender(self, loop)
        return self._sender


class Sender(Enum):
    """The sender of the requests that wait in the queue.

        NOBODY --a request waits--> TASK
        TASK --the queue is empty, or the task was cancelled--> NOBODY
        NOBODY --a caller asks who has been alone for a while--> CALLER_ASKING
        CALLER_ASKING --only its own request waits--> CALLER_SENDING
        CALLER_ASKING --it needed no request, or others wait too--> NOBODY
        CALLER_SENDING --it has its reply, or was cancelled--> NOBODY

    Requests that wait when a caller goes back to NOBODY make it TASK at once.
    """

    NOBODY = "nobody, as none waits"
    TASK = "a task of the transport's own, until the queue is empty"
    CALLER_ASKING = "a lone caller, which is putting its request into the queue"
    CALLER_SENDING = "a lone caller, which waits for the reply to its request"


class _LoopSender:
    """Sends the requests on one event loop; everything here runs on that loop's thread.

    A task of its own sends the batches. A caller that has been alone for a while sends its request
    itself, because a task costs it two more turns of the loop.
    """

    def __init__(self, transport: AsyncTransport, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.state = Sender.NOBODY
        self._transport = transport
        self._client = transport.client
        self._queue = transport.queue
        self._completions = transport.completions
        self._deadlines = Deadlines(loop, transport.queue, transport.completions)
        self._task: asyncio.Task[None] | None = None
        # How many batches in a row had one request, with none in the queue when they ended.
        self._batches_alone = 0
        # When the loop was last seen at work for this sender, by its clock.
        self._seen_at = loop.time()

    async def check(self, limiter: Limiter, key: _Key, cost: _Cost) -> Decision:
        future: asyncio.Future[Decision] = self.loop.create_future()
        if self._is_alone():
            await self._check_alone(future, limiter, key, cost)
        else:
            self._completions.check(future, limiter, key, cost)
            self._completions.deliver()
        return future.result() if future.done() else await future

    def wake(self) -> None:
        """Sees to it that the requests in the queue are sent, now or after the present batch."""
        if self.state is Sender.NOBODY:
            self._start_task()
        elif self.state is not Sender.CALLER_ASKING:
            # The deadlines of the requests in the queue may come before the replies to the present batch.
            self._deadlines.watch_queue()

    def _is_alone(self) -> bool:
        is_idle = self.state is Sender.NOBODY and len(self._queue) == 0
        return is_idle and self._batches_alone >= _BATCHES_ALONE and CAN_UNCANCEL

    async def _check_alone(
        self, future: asyncio.Future[Decision], limiter: Limiter, key: _Key, cost: _Cost
    ) -> None:
        self.state = Sender.CALLER_ASKING
        try:
            self._completions.check(future, limiter, key, cost)
            self._completions.deliver()
            if len(self._queue) == 1 and not future.done():
                self.state = Sender.CALLER_SENDING
                # One batch, unless a lease has just put a request of its own beside.
                for batch in self._queue.next_batches(one_by_one=self._transport.is_cluster):
                    await self._send(batch, lone_caller=future)
        finally:
            self.state = Sender.NOBODY
            if len(self._queue) > 0:
                self._batches_alone = 0
                self._transport.wake()

    def _start_task(self) -> None:
        self._seen_at = self.loop.time()
        self._task = self.loop.create_task(self._send_all())
        self._task.add_done_callback(self._task_ended)
        self.state = Sender.TASK

    async def _send_all(self) -> None:
        # One turn after the first request, unless the loop was blocked.
        blocked = self.loop.time() - self._seen_at
        if blocked > LATE:
            self._deadlines.excuse(blocked)
        while (count := len(self._queue)) > 0:
            batches = self._queue.next_batches(
                one_by_one=self._transport.is_cluster, excused=self._deadlines.is_excused()
            )
            if len(batches) == 1:
                await self._send(batches[0])
            else:
                await asyncio.gather(*map(self._send, batches))
            is_alone = count == 1 and len(self._queue) == 0
            self._batches_alone = self._batches_alone + 1 if is_alone else 0
        self.state = Sender.NOBODY

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        """Goes back to NOBODY after a task that did not do so itself: it was cancelled, perhaps
        before its first step, or interrupted.

        It is not replaced, because a loop that ends cancels all of its tasks: the requests that
        wait are sent with the next call, and until then their deadlines hold.
        """
        if self._task is task and self.state is Sender.TASK:
            self.state = Sender.NOBODY
        self._deadlines.watch_queue()
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            raise error  # A fault of this module, which the loop logs. Callers got any interrupt.

    async def _send(
        self, batch: _Batch, lone_caller: asyncio.Future[Any] | None = None
    ) -> None:
        callers = BatchCallers(batch, self._completions)
        self._deadlines.watch(callers)
        try:
            commands = batch.commands()
            while commands:
                more = batch.take([as_reply(value) for value in await self._execute(commands)])
                commands = batch.commands() if more else []
        except Exception as error:
            fail_batch(batch, error)
        except GeneratorExit:
            raise  # The loop was closed: the callers cannot be answered any more.
        except BaseException as interrupt:  # a cancellation, or Ctrl-C
            if callers.have_cancelled(interrupt):
                return
            if lone_caller is None:
                fail_batch(batch, interrupt)
            else:
                lone_caller.cancel()
                batch.abandon()
            raise
        finally:
            self._deadlines.forget(callers)
            self._completions.deliver()

    async def _execute(self, commands: list[list[str | bytes]]) -> list[Any]:
        if len(commands) == 1:
            try:
                return [await self._client.execute_command(*commands[0], NEVER_DECODE=True)]
            except Exception as error:
                return [error]
        async with self._client.pipeline(transaction=False) as pipeline:
            for words in commands:
                pipeline.execute_command(*words, NEVER_DECODE=True)
            return list(await pipeline.execute(raise_on_error=False))


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
