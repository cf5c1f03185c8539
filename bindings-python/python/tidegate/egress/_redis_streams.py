"""`RedisStreamsQueue`: a Redis stream as a queue, with a consumer group, delays and dead letters.

An entry is in the group's list of pending entries until it is deleted, so a crash loses nothing.
Delays are a sorted set beside the stream: an entry that returns stays pending, and is claimed again
when its time has come. Entries of consumers that died are those idle for longer than `visibility`.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import socket
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal

from tidegate._errors import InvalidArgument
from tidegate.egress._message import Message

if TYPE_CHECKING:
    from tidegate._tidegate import _Reason

log = logging.getLogger("tidegate.egress")

# The option of redis-py for replies that stay bytes.
NEVER_DECODE = "NEVER_DECODE"
# Lua unpacks no more values than this, with room for those of its own.
MAX_UNPACKED = 4_000
# Milliseconds since 1970 in 2001 and in 2286: what is outside is no time.
EARLIEST, LATEST = 10**12, 10**13

# Claims what is due, and what dead consumers have left. KEYS: the stream, its delays. ARGV: group,
# consumer, the most entries, the idle time of a dead consumer in ms, and where to look on.
TAKE = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local most = tonumber(ARGV[3])
local taken = {}
local function take(id)
  local pending = redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1)
  if #pending == 0 then return end
  local entries = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id)
  if #entries == 0 or not entries[1] then
    redis.call('XACK', KEYS[1], ARGV[1], id)
    return
  end
  taken[#taken + 1] = {id, entries[1][2], pending[1][4] + 1}
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, most)) do
  redis.call('ZREM', KEYS[2], id)
  take(id)
end
local cursor = ARGV[5]
if #taken < most then
  local idle = redis.call('XAUTOCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[4], cursor,
    'COUNT', most - #taken, 'JUSTID')
  cursor = idle[1]
  for _, id in ipairs(idle[2]) do
    if not redis.call('ZSCORE', KEYS[2], id) then take(id) end
  end
end
local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
local wait = -1
if first[2] then wait = math.max(0, first[2] - now) end
return {taken, cursor, wait}
"""

# Lets an entry come again after a delay. ARGV: group, consumer, id, delay in ms, whether it counts.
GIVE_BACK = """
local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1)
if #pending == 0 or pending[1][2] ~= ARGV[2] then return 0 end
if ARGV[5] == '0' then
  redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3],
    'RETRYCOUNT', math.max(0, pending[1][4] - 1), 'JUSTID')
end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('ZADD', KEYS[2], now + ARGV[4], ARGV[3])
return 1
"""

# Keeps an entry from others, if this consumer still has it. ARGV: group, consumer, id.
EXTEND = """
local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1)
if #pending == 0 or pending[1][2] ~= ARGV[2] then return 0 end
redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'JUSTID')
return 1
"""

# Deletes entries that are done. ARGV: group, whether to delete from the stream too, ids.
ACK = """
for index = 3, #ARGV do
  redis.call('XACK', KEYS[1], ARGV[1], ARGV[index])
  redis.call('ZREM', KEYS[2], ARGV[index])
  if ARGV[2] == '1' then redis.call('XDEL', KEYS[1], ARGV[index]) end
end
return #ARGV - 2
"""

# Moves an entry to the dead letters. KEYS: stream, delays, dead letters. ARGV: group, whether to
# delete from the stream too, id, reason, attempts, fields.
BURY = """
if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1) == 0 then return 0 end
local fields = {}
for index = 6, #ARGV do fields[#fields + 1] = ARGV[index] end
redis.call('XADD', KEYS[3], '*', 'tidegate-id', ARGV[3], 'tidegate-reason', ARGV[4],
  'tidegate-attempts', ARGV[5], unpack(fields))
-- What fails above has changed nothing, because nothing is undone.
redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])
redis.call('ZREM', KEYS[2], ARGV[3])
if ARGV[2] == '1' then redis.call('XDEL', KEYS[1], ARGV[3]) end
return 1
"""

# Removes a consumer that has nothing pending. ARGV: group, consumer.
LEAVE = """
if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) == 0 then
  redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
end
return 0
"""


class RedisStreamsQueue:
    """A Redis stream as a queue of an `Egress`. It needs Redis 6.2 or newer.

    `client` is a client of redis-py, blocking or of `redis.asyncio`. A message's `body` is the dict of
    the entry's fields, as the client decodes them; what is no text stays bytes. Durations are in seconds.

    - `group`: the consumer group, which is made from the stream's beginning if it does not exist.
    - `consumer`: this worker's name, which no other has; made of host, process and chance if None.
    - `dead_letters`: the stream of dead letters; `{stream}:dead` if None. Its entries have the fields
      of the message and `tidegate-id`, `tidegate-reason` and `tidegate-attempts`.
    - `visibility`: how long a worker may be silent before others take its messages.
    - `block`: how long a receive waits for messages. A delayed message may be late by as much.
    - `delete`: whether messages that are done are deleted from the stream. Other groups of the same
      stream need False.
    """

    order: Literal["none"] = "none"
    max_batch = 100
    ahead = 0.1
    # Nothing bounds how long a consumer may keep an entry: ten years.
    max_visibility = 10 * 365 * 86_400.0

    def __init__(
        self,
        client: Any,
        stream: str,
        *,
        group: str = "egress",
        consumer: str | None = None,
        dead_letters: str | None = None,
        visibility: float = 30.0,
        block: float = 0.5,
        delete: bool = True,
    ) -> None:
        if not 0.1 <= visibility <= 86_400 or not 0.001 <= block <= 60:
            raise InvalidArgument("invalid visibility or block: 0.1 s to 1 d, and 1 ms to 60 s")
        self._client = client
        self._is_async = inspect.iscoroutinefunction(client.execute_command)
        pool = getattr(client, "connection_pool", None)
        self._decodes = bool(getattr(pool, "connection_kwargs", {}).get("decode_responses"))
        self._ahead_of_us = 0.0
        self._stream = stream
        self._group = group
        self._consumer = consumer or f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        # A hash tag keeps them on the stream's server of a cluster.
        tagged = stream if "{" in stream else f"{{{stream}}}"
        self._delays = f"{tagged}:{group}:delayed"
        self._dead_letters = dead_letters or f"{tagged}:dead"
        self._delete = "1" if delete else "0"
        self.visibility = visibility
        self._block = block
        self._cursor: Any = "0-0"
        self._take_at = 0.0
        # A receive that blocks must not hold up the rest.
        self._receiver: ThreadPoolExecutor | None = None
        self._worker: ThreadPoolExecutor | None = None

    @property
    def dead_letters(self) -> str:
        """The stream of dead letters."""
        return self._dead_letters

    async def open(self) -> None:
        if not self._is_async:
            self._receiver = ThreadPoolExecutor(1, thread_name_prefix="tidegate-receive")
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="tidegate-redis")
        await self._make_group()

    async def _make_group(self) -> None:
        # A message's age is a difference of two times of this clock, and its id has Redis's.
        seconds, micros = await self._run("TIME")
        self._ahead_of_us = int(seconds) + int(micros) / 1e6 - time.time()
        try:
            await self._run("XGROUP", "CREATE", self._stream, self._group, "0", "MKSTREAM")
        except Exception as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def receive(self, count: int) -> Sequence[Message]:
        try:
            return await self._receive(count)
        except Exception as error:
            if "NOGROUP" not in str(error):
                raise
            # Redis has lost the group, as a restart without persistence does.
            log.warning("the group %s of the stream %s is gone, and made again", self._group, self._stream)
            await self._make_group()
            return []

    async def _receive(self, count: int) -> Sequence[Message]:
        block = self._block
        if (now := time.monotonic()) >= self._take_at:
            taken, self._cursor, wait = await self._run(
                "EVAL", TAKE, 2, self._stream, self._delays,
                self._group, self._consumer, count, round(self.visibility * 1000), self._cursor, is_raw=True,
            )  # fmt: skip
            # Others delay messages too, so their times are looked at now and then.
            self._take_at = now + self._block / 2
            if taken:
                self._take_at = 0.0
                return [self._message(id, _pairs(fields), attempts) for id, fields, attempts in taken]
            if wait >= 0:
                block = min(block, max(0.001, int(wait) / 1000))
                self._take_at = min(self._take_at, now + block)
        new = await self._run(
            "XREADGROUP", "GROUP", self._group, self._consumer, "COUNT", count,
            "BLOCK", max(1, round(block * 1000)), "STREAMS", self._stream, ">",
            is_receive=True, is_raw=True,
        )  # fmt: skip
        streams = new.items() if isinstance(new, dict) else (new or [])
        found: list[Message] = []
        for _, entries in streams:
            # The third protocol of Redis has a list more.
            for entry in entries[0] if entries and isinstance(entries[0], list) else entries:
                id, fields = entry
                found.append(self._message(id, fields if isinstance(fields, dict) else _pairs(fields), 1))
        return found

    async def ack(self, messages: Sequence[Message]) -> Sequence[Message]:
        await self._eval(ACK, self._group, self._delete, *(message.receipt for message in messages))
        return []

    async def give_back(self, message: Message, delay: float, *, counted: bool) -> None:
        wait = max(0, round(delay * 1000))
        await self._eval(GIVE_BACK, self._group, self._consumer, message.receipt, wait, "1" if counted else "0")

    async def extend(self, message: Message, by: float) -> None:  # noqa: ARG002 (it is always `visibility`)
        await self._eval(EXTEND, self._group, self._consumer, message.receipt)

    async def dead_letter(self, message: Message, reason: _Reason) -> None:
        fields = [part for pair in message.body.items() for part in pair]
        if len(fields) > MAX_UNPACKED:
            # A crash in between leaves the message where it was too.
            about = ("tidegate-id", message.id, "tidegate-reason", reason, "tidegate-attempts", message.attempts)
            await self._run("XADD", self._dead_letters, "*", *about, *fields)
            await self.ack([message])
            return
        await self._run(
            "EVAL", BURY, 3, self._stream, self._delays, self._dead_letters,
            self._group, self._delete, message.receipt, reason, message.attempts, *fields,
        )  # fmt: skip

    async def backlog(self) -> int | None:
        groups = await self._run("XINFO", "GROUPS", self._stream)
        for group in groups:
            if _text(group.get("name", group.get(b"name"))) == self._group:
                lag = group.get("lag", group.get(b"lag"))
                if lag is None:
                    return None
                return int(lag) + int(await self._run("ZCARD", self._delays))
        return None

    async def close(self) -> None:
        try:
            await self._eval(LEAVE, self._group, self._consumer)
        except Exception as error:  # noqa: BLE001 (the consumer stays, which harms nobody)
            log.info("the consumer %s could not leave its group: %s", self._consumer, error)
        for pool in (self._receiver, self._worker):
            if pool is not None:
                pool.shutdown(wait=False)
        self._receiver = self._worker = None

    def _message(self, id: Any, fields: dict[Any, Any], attempts: int) -> Message:
        name = _text(id)
        millis = int(name.split("-")[0])
        # An id of the program's own may be no time.
        sent_at = millis / 1000 - self._ahead_of_us if EARLIEST <= millis <= LATEST else None
        body = {self._decoded(key): self._decoded(value) for key, value in fields.items()}
        return Message(id=name, body=body, attempts=int(attempts), sent_at=sent_at, receipt=name)

    def _decoded(self, part: Any) -> Any:
        """A name or value as the client decodes it; bytes if it is no text."""
        if not self._decodes or not isinstance(part, bytes):
            return part
        try:
            return part.decode()
        except UnicodeDecodeError:
            return part

    async def _eval(self, script: str, *arguments: Any) -> Any:
        return await self._run("EVAL", script, 2, self._stream, self._delays, *arguments)

    async def _run(self, *command: Any, is_receive: bool = False, is_raw: bool = False) -> Any:
        execute: Callable[..., Any] = self._client.execute_command
        # One entry that is no text would otherwise fail the whole reply, again and again.
        options = {NEVER_DECODE: True} if is_raw else {}
        if self._is_async:
            return await execute(*command, **options)
        pool = self._receiver if is_receive else self._worker
        return await asyncio.get_running_loop().run_in_executor(pool, lambda: execute(*command, **options))


def _pairs(fields: Sequence[Any]) -> dict[Any, Any]:
    return dict(zip(fields[::2], fields[1::2], strict=True))


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
