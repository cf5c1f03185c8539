"""A TCP proxy on one thread, which harms its connections on command."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from typing import Any

# With this option the kernel resets the connection when it is closed.
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Pair:
    """A client's connection, and the proxy's connection to the server for it."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client, self.server = client, server
        # If set, nothing is passed on any more, and nothing is closed.
        self.forgotten = False

    def close(self) -> None:
        self.client.close()
        self.server.close()

    def reset(self) -> None:
        for writer in (self.client, self.server):
            held: socket.socket = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):  # closed meanwhile
                held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            writer.transport.abort()

    def half_close(self) -> None:
        """Ends our side of the client's connection, as if no answer will come; the client's stays open."""
        if self.client.can_write_eof():
            self.client.write_eof()


class Proxy:
    """A proxy before `127.0.0.1:port`. Its methods may be called from any thread."""

    def __init__(self, port: int) -> None:
        self._behind = port
        self._pairs: set[Pair] = set()
        self._refusing = self._stalling = False
        self._delay = 0.0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Closes all connections and refuses new ones until `restore`."""
        self._refusing = True
        self._each(Pair.close)

    def reset(self) -> None:
        """Resets all connections; new ones are served."""
        self._each(Pair.reset)

    def half_close(self) -> None:
        self._each(Pair.half_close)

    def stall(self) -> None:
        """Forgets all connections without closing them, and leaves new ones unanswered until
        `restore`."""
        self._stalling = True
        self._each(_forget)

    def delay(self, seconds: float) -> None:
        """Delays what either side sends by this long."""
        self._delay = seconds

    def restore(self) -> None:
        """Serves new connections again; those that were forgotten stay so."""
        self._refusing = self._stalling = False
        self._delay = 0.0

    def stop(self) -> None:
        async def close() -> None:
            self._server.close()

        # On its own loop: a server that loses its last connection meanwhile would be closed twice.
        asyncio.run_coroutine_threadsafe(close(), self._loop).result(10)
        self._each(Pair.reset)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self, coroutine: Coroutine[Any, Any, asyncio.Server]) -> asyncio.Server:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    def _each(self, harm: Callable[[Pair], None]) -> None:
        async def harm_all() -> None:
            for pair in list(self._pairs):
                harm(pair)
            # A transport that is aborted closes its socket in the next turn of the loop.
            for _ in range(2):
                await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(harm_all(), self._loop).result(10)

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        if self._refusing:
            client.close()
            return
        try:
            from_server, server = await asyncio.open_connection("127.0.0.1", self._behind)
        except OSError:
            client.close()
            return
        pair = Pair(client, server)
        pair.forgotten = self._stalling
        self._pairs.add(pair)
        try:
            await asyncio.gather(self._pass(reader, server, pair), self._pass(from_server, client, pair))
        finally:
            self._pairs.discard(pair)
            pair.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: Pair) -> None:
        # The other direction may have closed the connection or ended its stream.
        with contextlib.suppress(OSError, RuntimeError):
            while data := await reader.read(65536):
                if self._delay:
                    await asyncio.sleep(self._delay)
                if not pair.forgotten:
                    writer.write(data)
                    await writer.drain()
        if not pair.forgotten:
            pair.close()


def _forget(pair: Pair) -> None:
    pair.forgotten = True
