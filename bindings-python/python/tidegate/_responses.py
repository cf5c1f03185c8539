"""What the responses, requests and errors of HTTP clients say, whichever client they are of."""

from __future__ import annotations

import socket
import ssl
from typing import Any
from urllib.parse import urlsplit

from tidegate._errors import InvalidArgument
from tidegate._signals import header_pairs
from tidegate._tidegate import _is_idempotent

# The names of the clients' own errors, and what they mean. A class counts by its own name and those of its bases.
# An error of a connection that was being made comes before one of a connection that was there.
FAILURES = {
    # httpx, httpcore
    "ConnectError": "not_sent", "ConnectTimeout": "not_sent", "PoolTimeout": "not_sent",
    "ReadTimeout": "timed_out", "WriteTimeout": "timed_out", "TimeoutException": "timed_out",
    "NetworkError": "broken", "RemoteProtocolError": "broken",
    "UnsupportedProtocol": "permanent", "LocalProtocolError": "permanent",
    # requests, urllib3
    "NewConnectionError": "not_sent", "ConnectTimeoutError": "not_sent",
    "ReadTimeoutError": "timed_out", "Timeout": "timed_out",
    "ChunkedEncodingError": "broken", "ProtocolError": "broken",
    "TooManyRedirects": "permanent", "ContentDecodingError": "permanent",
    "InvalidURL": "permanent", "InvalidSchema": "permanent", "MissingSchema": "permanent",
    # aiohttp
    "ClientConnectorCertificateError": "permanent", "ClientConnectorError": "not_sent",
    "ConnectionTimeoutError": "not_sent", "ServerTimeoutError": "timed_out",
    "ServerDisconnectedError": "broken", "ClientOSError": "broken", "ClientPayloadError": "broken",
}  # fmt: skip

# No connection could be made.
NOT_SENT = (ConnectionRefusedError, socket.gaierror)
NOT_SENT_NAMES = ("NewConnectionError", "ConnectTimeoutError")

# The program has made a mistake, as with a file that is not there. requests has errors that are OSError and ValueError.
MISTAKES = (
    ValueError, TypeError, FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError,
    ProcessLookupError, ChildProcessError,
)  # fmt: skip


def failure_of(error: BaseException) -> str | None:
    """The kind of failure that an error of a client is; None if it is none, but a mistake of the program, say."""
    if not isinstance(error, Exception):
        return None
    causes = list(chain_of(error))
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return "permanent"
    # requests and urllib raise an error of their own for these too, and carry them inside.
    if any(isinstance(cause, NOT_SENT) or type(cause).__name__ in NOT_SENT_NAMES for cause in causes):
        return "not_sent"
    for base in type(error).__mro__:
        kind = FAILURES.get(base.__name__)
        if kind is not None:
            return kind
    # asyncio has a TimeoutError of its own before Python 3.11.
    if isinstance(error, TimeoutError) or type(error).__name__ == "TimeoutError":
        return "timed_out"
    return "broken" if isinstance(error, OSError) and not is_mistake(error) else None


def is_mistake(error: OSError) -> bool:
    """Whether an error of the system is one of a file or a value, and not of a connection."""
    return isinstance(error, MISTAKES) or attribute(error, "filename") is not None


def chain_of(error: BaseException) -> list[BaseException]:
    """An error and those that it was raised for, at most eight deep.

    The `__context__` may be an error of the program's own that has nothing to do with the call.
    """
    found: list[BaseException] = []
    level = [error]
    for _ in range(8):
        found += level
        inner = [
            part
            for each in level
            for part in (*parts_in(each), each.__cause__, attribute(each, "reason"))
            if isinstance(part, BaseException) and all(part is not other for other in found)
        ]
        if not inner:
            break
        level = inner
    return found


def attribute(error: BaseException, name: str) -> Any:
    """An attribute of an error; None where it has none, or where reading it raises."""
    try:
        return getattr(error, name, None)
    except Exception:  # noqa: BLE001 (the program is to get its own error, and no other)
        return None


def parts_in(error: BaseException) -> tuple[Any, ...]:
    parts = attribute(error, "args")
    return parts if isinstance(parts, tuple) else ()


def response_of(response: Any) -> tuple[Any, Any, Any] | None:
    """The status and headers of a client's response; None if it has none."""
    status = getattr(response, "status_code", None)
    if status is None:
        status = getattr(response, "status", None)
    headers = getattr(response, "headers", None)
    return None if status is None or headers is None else (status, headers, body_of(response))


def parts_of(error: BaseException) -> tuple[Any, Any, Any] | None:
    """The response that an error carries, as of `raise_for_status`; None if it carries none that can be read."""
    if not isinstance(error, Exception):
        return None
    response = attribute(error, "response")
    try:
        return response_of(error if response is None else response)
    except Exception:  # noqa: BLE001 (the program is to get its own error, and no other)
        return None


def body_of(response: Any) -> Any:
    """The JSON of a response that has been read already; None if there is none."""
    try:
        if getattr(response, "is_stream_consumed", True) is False:
            return None
        if getattr(response, "_content", None) in (None, False):
            return None
        if "json" not in str(response.headers.get("content-type", "")).lower():
            return None
        parsed = response.json()
    except Exception:  # noqa: BLE001 (nothing in a response may raise)
        return None
    return parsed if isinstance(parsed, (dict, list)) else None


def host_of(request: Any) -> str | None:
    """The host of a URL, of a request of any client, or of a text that is a host already.

    Raises InvalidArgument for a text that is no URL.
    """
    url = request if isinstance(request, str) else getattr(request, "url", request)
    host = getattr(url, "host", None)
    if host is None:
        text = str(url)
        try:
            host = urlsplit(text if "//" in text else f"//{text}").hostname
        except ValueError as error:
            raise InvalidArgument(f"invalid request: its URL cannot be read: {error}") from None
    return plain_host(host) if isinstance(host, str) and host else None


def plain_host(host: str) -> str:
    """A host as it is compared: with small letters, and without the dot that may end a full domain name."""
    return host.lower().removesuffix(".")


def shows_idempotent(request: Any) -> bool:
    """Whether a request may take effect twice; True where it shows no method, such as a URL."""
    try:
        method = request.get_method() if hasattr(request, "get_method") else getattr(request, "method", None)
        if not isinstance(method, str):
            return True
    except Exception:  # noqa: BLE001 (a request that cannot be asked shows nothing)
        return True
    try:
        names = [name.decode("latin-1") for name, _ in header_pairs(getattr(request, "headers", None) or ())]
    except Exception:  # noqa: BLE001 (headers that cannot be read have no key)
        names = []
    return is_idempotent(method, names)


def is_idempotent(method: str, headers: Any) -> bool:
    """Whether a request may take effect twice: by its method, or by a key that the vendor tells repetitions by."""
    names = {str(name).lower() for name in headers}
    return _is_idempotent(method, "idempotency-key" in names or "x-idempotency-key" in names)
