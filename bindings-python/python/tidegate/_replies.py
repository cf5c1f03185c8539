"""What a Redis client returns or raises, in the form that the native module takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidegate._tidegate import _Batch


def as_reply(value: Any) -> Any:
    """The reply of a script, or the exception for the server's refusal together with its text.

    Any other exception says that the client failed, and is raised.
    """
    if not isinstance(value, Exception):
        return value
    if not _is_a(value, "ResponseError"):
        raise value
    # redis-py leaves this code out of the text, and the native module acts on it.
    return value, f"NOSCRIPT {value}" if _is_a(value, "NoScriptError") else str(value)


def fail_batch(batch: _Batch, error: BaseException) -> None:
    """Answers every caller that still waits with a store error whose cause is `error`."""
    message = f"{type(error).__name__}: {error}"
    batch.fail(message, error, timed_out=_is_a(error, "TimeoutError"))


def _is_a(error: BaseException, name: str) -> bool:
    """Whether a class of the exception has this name.

    Names, because this package does not import redis-py, whose classes these are.
    """
    return any(cls.__name__ == name for cls in type(error).__mro__)
