"""The ways in which a vendor counts: each says how long a request at `now` would have to wait, in seconds."""

from __future__ import annotations

from collections import deque


class Fixed:
    """At most `limit` in each window that begins at a multiple of its length."""

    def __init__(self, limit: int, window: float) -> None:
        self.limit, self.window, self._begun, self._count = limit, window, -1, 0

    def wait(self, now: float) -> float:
        begun = int(now // self.window)
        if begun != self._begun:
            self._begun, self._count = begun, 0
        return 0.0 if self._count < self.limit else (begun + 1) * self.window - now

    def count(self, now: float) -> None:
        self._count += 1

    def remaining(self) -> int:
        return max(0, self.limit - self._count)


class Sliding:
    """At most `limit` in any stretch of the window's length."""

    def __init__(self, limit: int, window: float) -> None:
        self.limit, self.window, self._times = limit, window, deque[float]()

    def wait(self, now: float) -> float:
        while self._times and self._times[0] <= now - self.window:
            self._times.popleft()
        if len(self._times) < self.limit:
            return 0.0
        return self._times[len(self._times) - self.limit] + self.window - now

    def count(self, now: float) -> None:
        self._times.append(now)

    def remaining(self) -> int:
        return max(0, self.limit - len(self._times))


class Bucket:
    """`burst` tokens, of which `limit` come back in a window, evenly."""

    def __init__(self, limit: int, window: float, burst: int) -> None:
        self.limit, self.window, self.burst = limit, window, burst
        self._tokens, self._seen = float(burst), 0.0

    def wait(self, now: float) -> float:
        rate = self.limit / self.window
        self._tokens = min(self.burst, self._tokens + (now - self._seen) * rate)
        self._seen = now
        return 0.0 if self._tokens >= 1 else (1 - self._tokens) / rate

    def count(self, now: float) -> None:
        self._tokens -= 1

    def remaining(self) -> int:
        return int(max(0.0, self._tokens))


def window_of(kind: str, limit: int, window: float, burst: int) -> Fixed | Sliding | Bucket:
    if kind == "fixed":
        return Fixed(limit, window)
    return Sliding(limit, window) if kind == "sliding" else Bucket(limit, window, burst or limit)
