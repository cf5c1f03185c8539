"""Redis clients that the program brings: those of redis-py, or clients that behave alike.

This module finds out which transport a client needs, and keeps one connection for each client.
The client does the I/O; what is sent, and what follows from the replies, the native module decides.
"""

from __future__ import annotations

import inspect
from typing import Any
from weakref import WeakValueDictionary

from tidegate._async_transport import AsyncTransport
from tidegate._errors import InvalidArgument
from tidegate._sync_transport import SyncTransport
from tidegate._tidegate import _ClientConnection

# By the id of the client, which lives as long as its connection. Limiters over the same client
# share its connection, so that their requests form common batches.
_connections: WeakValueDictionary[int, _ClientConnection] = WeakValueDictionary()


def sync_store(store: Any) -> _ClientConnection:
    """The connection of a client that `Limiter` was given as its store."""
    if isinstance(store, _ClientConnection):
        return store
    kind = _transport_of(store)
    if kind is AsyncTransport:
        raise InvalidArgument("invalid store: it is a client for asyncio; use AsyncLimiter")
    return _connection(store, kind)


def async_store(store: Any) -> Any:
    """What `AsyncLimiter` gives to its `Limiter` as the store."""
    if isinstance(store, str):
        return store
    kind = _transport_of(store)
    if kind is SyncTransport:
        raise InvalidArgument(
            "invalid store: it is a client that blocks, which would stop the event loop; "
            "give AsyncLimiter one of redis.asyncio"
        )
    return _connection(store, kind)


def _connection(
    client: Any, kind: type[SyncTransport | AsyncTransport]
) -> _ClientConnection:
    connection = _connections.get(id(client))
    if connection is None:
        connection = _ClientConnection(
            kind(client, is_cluster=_is_cluster(client)), _place_of(client)
        )
        _connections[id(client)] = connection
    return connection


def _transport_of(store: Any) -> type[SyncTransport | AsyncTransport]:
    execute = getattr(type(store), "execute_command", None)
    if not callable(execute) or not callable(getattr(type(store), "pipeline", None)):
        raise TypeError(f"store must be a URL or a Redis client, not {type(store).__name__}")
    return AsyncTransport if inspect.iscoroutinefunction(execute) else SyncTransport


def _place_of(client: Any) -> str | None:
    """Where the client connects to, as far as it says so: for the log, so without user and password."""
    known = getattr(getattr(client, "connection_pool", None), "connection_kwargs", {})
    if "path" in known:
        return str(known["path"])
    return f"{known['host']}:{known.get('port', 6379)}" if "host" in known else None


def _is_cluster(client: Any) -> bool:
    return callable(getattr(type(client), "get_node_from_key", None))
