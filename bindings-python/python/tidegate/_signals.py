"""`read_signal`: brings responses of any HTTP library into the one form that the native module reads."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from math import isfinite
from typing import Any, SupportsIndex, TypedDict, cast

from tidegate._errors import InvalidArgument
from tidegate._tidegate import Signal, _read_signal

__all__ = ["ProfileRow", "read_signal"]

# A body without end would be read without end.
MAX_DEPTH, MAX_FIELDS = 8, 1000
MAX_NANOS = 2**64 - 1
# What each row of a profile has.
NEEDED = {"header", "meaning"}


class _Row(TypedDict):
    header: str
    meaning: str


class ProfileRow(_Row, total=False):
    """What one header of a vendor means, or one field of its bodies: a row of a profile for `read_signal`.

    `header` is the header's name in any case, or `body.` and the path of a field. `meaning` is "retry_after",
    "limit", "remaining", "reset", "window", "used_of_limit" (`39/40`), "bucket", "global", "reason",
    "should_retry", "cost", "restore_rate" or "violated". `unit` is what a plain number counts: "auto" (by its
    size, the default), "seconds", "milliseconds", "epoch_seconds" or "epoch_milliseconds". `group` is the name
    of the limit, if there are several; "second", "minute", "hour", "day" and "month" tell its window too.

    >>> row: ProfileRow = {"header": "Acme-Calls-Left", "meaning": "remaining", "group": "minute"}
    """

    unit: str
    group: str


def read_signal(
    status: SupportsIndex,
    headers: Mapping[Any, Any] | Iterable[tuple[Any, Any]],
    *,
    profile: str | Sequence[ProfileRow] | None = None,
    body: Mapping[str, Any] | Sequence[Any] | None = None,
    now: float | datetime | None = None,
    max_hold: float | timedelta = 900.0,
) -> Signal:
    """Reads what a vendor's response says about its limits.

    `headers` are a mapping or pairs of names and values: those of httpx, requests, aiohttp, urllib3, botocore and
    `http.client` are. Names have no case, and may come several times. `profile` is the name of a built-in profile
    ("github", "openai", "discord", …; "generic" unless given), or rows of one's own, which replace what a header
    of this name otherwise means. `body` is the response's JSON, parsed; only what tells of limits is read.

    A wait until a point in time is counted from the response's `Date`, because clocks differ. `now` is the wall
    clock in seconds since 1970, or a datetime with a zone, for responses without a `Date`; the system's unless
    given. A hold is at most `max_hold` seconds; `asked` keeps what the response says.

    Raises InvalidArgument for an unknown profile, meaning or unit, and for arguments of other types. Nothing in a
    response raises: what cannot be read is as if it were not there.

    >>> from tidegate import Limiter, read_signal
    >>> vendor = Limiter("10/s")
    >>> signal = read_signal(429, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "30"}, profile="github")
    >>> if signal.hold:
    ...     held = vendor.hold("my-token", signal.hold)
    >>> vendor.check("my-token").allowed
    False
    """
    return _read_signal(
        status_of(status),
        list(header_pairs(headers)),
        list(field_pairs(body)),
        profile_of(profile),
        wall_clock(now),
        nanos("max_hold", max_hold.total_seconds() if isinstance(max_hold, timedelta) else max_hold),
    )


def status_of(status: SupportsIndex) -> int:
    try:
        number = status.__index__()
    except AttributeError:
        raise InvalidArgument(f"invalid status: it must be a whole number, but is {status!r:.80}") from None
    if 0 <= number <= 999:
        return number
    raise InvalidArgument(f"invalid status: it must be from 0 to 999, but is {number}")


def header_pairs(headers: Any) -> Iterator[tuple[bytes, bytes]]:
    # httpx joins the lines of a name in items(), and a date has commas too.
    items = getattr(headers, "multi_items", None) or getattr(headers, "items", None)
    try:
        for name, value in items() if items else headers:
            several = value if isinstance(value, (list, tuple)) else (value,)
            for one in several:
                if one is not None:
                    yield encoded(name), encoded(one)
    except (TypeError, ValueError):
        message = "invalid headers: they must be a mapping, or pairs of a name and a value"
        raise InvalidArgument(message) from None


def field_pairs(body: Any) -> Iterator[tuple[bytes, bytes]]:
    if body is None:
        return
    if not isinstance(body, (Mapping, list, tuple)):
        raise InvalidArgument(f"invalid body: it must be parsed JSON, a dict or a list, but is {type(body).__name__}")
    for number, (path, value) in enumerate(fields(body, "", 0)):
        if number == MAX_FIELDS:
            return
        yield encoded(path), encoded(value)


def fields(value: Any, path: str, depth: int) -> Iterator[tuple[str, Any]]:
    """The fields of a body, each with its path; the elements of a list have the list's, or `[]` if it is the body."""
    if isinstance(value, Mapping):
        if depth < MAX_DEPTH:
            for name, inner in value.items():
                yield from fields(inner, f"{path}.{name}" if path else str(name), depth + 1)
    elif isinstance(value, (list, tuple)):
        if depth < MAX_DEPTH:
            for inner in value:
                yield from fields(inner, path or "[]", depth + 1)
    elif value is not None:
        yield path, value


def encoded(value: Any) -> bytes:
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    if isinstance(value, bool):
        return b"true" if value else b"false"
    # The shortest text of a float may have an exponent, which headers do not have.
    text = f"{Decimal(repr(value)):f}" if isinstance(value, float) and isfinite(value) else str(value)
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # JSON may have half of a pair of surrogates, which UTF-8 has no bytes for. As in JavaScript it becomes U+FFFD.
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def profile_of(profile: str | Sequence[ProfileRow] | None) -> tuple[str, list[tuple[str, str, str, str]]]:
    if profile is None or isinstance(profile, str):
        return profile or "generic", []
    return "generic", [row_of(row) for row in profile]


def row_of(row: Any) -> tuple[str, str, str, str]:
    if not isinstance(row, Mapping) or not NEEDED <= row.keys() <= NEEDED | {"unit", "group"}:
        message = "each row needs header and meaning, and may have unit and group"
        raise InvalidArgument(f"invalid profile: {message}, but one is {row!r:.80}")
    parts = (row["header"], row["meaning"], row.get("unit", "auto"), row.get("group", ""))
    if not all(isinstance(part, str) for part in parts):
        raise InvalidArgument(f"invalid profile: the parts of a row are texts, but one is {row!r:.80}")
    return cast("tuple[str, str, str, str]", parts)


def wall_clock(now: float | datetime | None) -> int:
    if now is None:
        return time.time_ns()
    if isinstance(now, datetime):
        if now.tzinfo is None:
            raise InvalidArgument("invalid now: a datetime needs a time zone")
        now = now.timestamp()
    return nanos("now", now)


def nanos(name: str, seconds: float) -> int:
    try:
        if seconds >= 0:
            return MAX_NANOS if seconds * 10**9 >= MAX_NANOS else int(Decimal(repr(seconds)) * 10**9)
    except (TypeError, ArithmeticError):
        pass
    raise InvalidArgument(f"invalid {name}: it must be a number of seconds, at least 0, but is {seconds!r:.80}")
