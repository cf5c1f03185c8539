"""What a handler's return value or exception means for its message."""

from __future__ import annotations

from typing import Any

from tidegate._signals import read_signal
from tidegate._tidegate import _Egress
from tidegate.egress._message import PermanentFailure, RetryLater


def outcome_of_result(result: Any, profile: Any) -> tuple[str, int]:
    """The machine's name of the response, and the hold in nanoseconds."""
    status = _status(result)
    if status is None:
        return "done", 0
    signal = read_signal(status, getattr(result, "headers", None) or {}, profile=profile)
    hold = nanos(signal.hold)
    return _Egress.meaning(signal.kind, hold, signal.should_retry), hold


def outcome_of_error(error: BaseException, profile: Any) -> tuple[str, int]:
    """As `outcome_of_result`, for what a handler raised."""
    if isinstance(error, RetryLater):
        return "held", nanos(error.wait)
    if isinstance(error, PermanentFailure):
        return "refused", 0
    response = getattr(error, "response", None)
    if response is not None and _status(response) is not None:
        outcome = outcome_of_result(response, profile)
        # A program that raises for a response that looks well has its reasons.
        return outcome if outcome[0] != "done" else ("failed", 0)
    return "failed", 0


def nanos(seconds: float) -> int:
    return max(0, min(round(seconds * 1e9), 2**63))


def _status(response: Any) -> int | None:
    """The status of a response of httpx, requests, aiohttp, urllib or http.client."""
    for name in ("status_code", "status"):
        status = getattr(response, name, None)
        if isinstance(status, int) and 100 <= status <= 599:
            return status
    return None
