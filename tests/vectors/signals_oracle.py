"""What a response says about its vendor's limits, written a second time.

It shares nothing with the engine but the rules: numbers are fractions, and names are found by regular expressions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor

from signals_text import MOST, SECOND, capped, date_of, items, number_of, structured, time_of

WINDOWS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "month": 30 * 86400}
PROFILES = {
    # name: scope, margin in seconds, whether limits refill evenly, the unstated hold in seconds
    "discord": ("bucket", 0, False, 0), "slack": ("bucket", 0, False, 0),
    "github": ("credential", 1, False, 60),
    "openai": ("credential", 0, True, 0), "anthropic": ("credential", 0, True, 0), "groq": ("credential", 0, True, 0),
}  # fmt: skip
REASONS = {
    "quota-exceeded": ("rate", None), "temporary-reduced-capacity": ("overload", "vendor"),
    "abnormal-usage-detected": ("abuse", "credential"),
    "global-rate": ("rate", "credential"), "global-concurrency": ("concurrency", "credential"),
    "endpoint-rate": ("rate", "bucket"), "endpoint-concurrency": ("concurrency", "bucket"),
    "resource-specific": ("rate", "bucket"), "lock_timeout": ("concurrency", "bucket"),
    "jira-burst-based": ("rate", "bucket"), "jira-per-issue-on-write": ("rate", "bucket"),
    "jira-cost-based": ("rate", "credential"), "jira-quota-based": ("quota", "credential"),
    "jira-quota-global-based": ("quota", "credential"), "jira-quota-tenant-based": ("quota", "credential"),
    "user": (None, "bucket"), "shared": (None, "bucket"), "global": (None, "credential"),
    "insufficient_quota": ("quota", "credential"), "rate_limit_exceeded": ("rate", None), "rate_limit_error": ("rate", None),
    "overloaded_error": ("overload", "vendor"), "throttled": ("rate", None), "ratelimited": ("rate", None),
}  # fmt: skip
# What the built-in profiles say about names, by regular expressions: the meaning, and the unit if it is not automatic.
VENDOR_NAMES = {
    "anthropic": [(r"anthropic-ratelimit-(?P<group>requests|(?:input-|output-)?tokens)-(?P<meaning>limit|remaining|reset)", None, "auto")],
    "azure": [(r"x-ms-ratelimit-remaining-(?P<group>(?:subscription|tenant)-(?:reads|writes))", "remaining", "auto")],
    "discord": [(r"body:(?:.*\.)?retry_after", "retry_after", "seconds"), (r"body:(?:.*\.)?global", "global", "auto")],
    "hubspot": [
        (r"x-hubspot-ratelimit-max", "limit", "auto"), (r"x-hubspot-ratelimit-remaining", "remaining", "auto"),
        (r"x-hubspot-ratelimit-interval-milliseconds", "window", "milliseconds"),
        (r"x-hubspot-ratelimit-(?P<group>secondly|daily)", "limit", "auto"),
        (r"x-hubspot-ratelimit-(?P<group>secondly|daily)-remaining", "remaining", "auto"),
    ],
    "shopify": [
        (r"x-shopify-shop-api-call-limit", "used_of_limit", "auto"),
        (r"body:(?:.*\.)?throttlestatus\.maximumavailable(?P<group>)", "limit", "auto"),
        (r"body:(?:.*\.)?throttlestatus\.currentlyavailable(?P<group>)", "remaining", "auto"),
        (r"body:(?:.*\.)?throttlestatus\.restorerate(?P<group>)", "restore_rate", "auto"),
        (r"body:(?:.*\.)?cost\.requestedquerycost(?P<group>)", "cost", "auto"),
    ],
    "stripe": [(r"stripe-rate-limited-reason", "reason", "auto")],
}  # fmt: skip
USUAL = re.compile(r"(?:x-)?rate-?limit(?P<rest>.*)")
USUAL_ALONE = {
    "-reset-after": ("reset", "seconds"), "-reset-in": ("reset", "seconds"), "-resettime": ("reset", "auto"), "-retry-after": ("retry_after", "auto"),
    "-next": ("retry_after", "auto"), "-bucket": ("bucket", "auto"), "-resource": ("bucket", "auto"),
    "-global": ("global", "auto"), "-scope": ("reason", "auto"), "-reason": ("reason", "auto"),
}  # fmt: skip
GROUPED = r"limit|remaining|reset"


@dataclass
class Times:
    known: dict[str, tuple[int, str]] = field(default_factory=dict)

    def add(self, time: tuple[str, int], source: str) -> None:
        form, nanos = time
        if form not in self.known or self.known[form][0] < nanos:
            self.known[form] = (nanos, source)

    def left(self, now: int, age: int = 0) -> tuple[int, str] | None:
        for form, past in (("after", age), ("at", now)):
            if form in self.known:
                nanos, source = self.known[form]
                return max(0, nanos - past), source
        return None


@dataclass
class Window:
    rank: int
    name: str
    limit: int | None = None
    remaining: int | None = None
    length: int | None = None
    reset: Times = field(default_factory=Times)
    cost: int | None = None
    rate: int | None = None
    source: str = ""

    def add_limit(self, limit: int, length: int | None = None) -> None:
        if self.limit is None or limit < self.limit:
            self.limit, self.length = limit, length or self.length
        elif limit == self.limit:
            self.length = length or self.length

    def add_remaining(self, remaining: int, source: str) -> None:
        if self.remaining is None or remaining < self.remaining:
            self.remaining, self.source = remaining, source

    @property
    def left(self) -> int | None:
        return self.remaining if self.remaining is None or self.limit is None else min(self.remaining, self.limit)

    @property
    def spent(self) -> bool:
        return self.left is not None and self.left < max(1, self.cost or 1)

    @property
    def window(self) -> int | None:
        if self.length is None and self.rank and self.name in WINDOWS:
            return WINDOWS[self.name] * SECOND
        return self.length

    def until_reset(self, now: int) -> tuple[int, str] | None:
        found = self.reset.left(now)
        if found:
            return (min(found[0], self.length), found[1]) if self.rank == 0 and self.length is not None else found
        if self.rate and self.limit is not None and self.left is not None:
            return capped(Fraction((self.limit - self.left) * SECOND, self.rate)), self.source
        return None

    def wait(self, now: int, refills: bool) -> tuple[int, str] | None:
        if self.rate and self.left is not None:
            missing = max(0, max(1, self.cost or 1) - self.left)
            return capped(Fraction(missing * SECOND, self.rate)), self.source
        found = self.until_reset(now)
        if found and refills and self.limit is not None:
            return capped(Fraction(found[0], max(1, self.limit))), found[1]
        return found


class Reader:
    def __init__(self, status: int, profile: str | list[dict]) -> None:
        self.status, self.profile = status, profile
        self.scope_given, self.margin, self.refills, self.unstated = PROFILES.get(
            profile if isinstance(profile, str) else "", ("credential", 0, False, 0)
        )
        self.date = self.age = None
        self.pushback, self.precise, self.retry_after, self.vendor = Times(), Times(), Times(), Times()
        self.windows: list[Window] = []
        self.bucket = self.violated = ""
        self.should_retry: bool | None = None
        self.kind = self.scope = None

    def window(self, rank: int, name: str) -> Window | None:
        for window in self.windows:
            if (window.rank, window.name.lower()) == (rank, name.lower()):
                return window
        if len(self.windows) == 8:
            return None
        self.windows.append(Window(rank, name))
        return self.windows[-1]

    def vendor_meaning(self, name: str) -> tuple[str, str, str] | None:
        if isinstance(self.profile, list):
            for row in self.profile:
                header = row["header"].lower()
                if name == header or (header.startswith("body.") and re.fullmatch(rf"body:(.*\.)?{re.escape(header[5:])}", name)):
                    return row["meaning"], row.get("unit", "auto"), row.get("group", "")
            return None
        for pattern, meaning, unit in VENDOR_NAMES.get(self.profile, []):
            match = re.fullmatch(pattern, name)
            if match:
                groups = match.groupdict()
                group = {"secondly": "second", "daily": "day"}.get(groups.get("group", ""), groups.get("group", ""))
                group = "points" if self.profile == "shopify" and "group" in groups else group
                return meaning or groups["meaning"], unit, group
        return None

    def header(self, source: str, value: str) -> None:
        name = source.lower()
        vendor = self.vendor_meaning(name)
        usual = USUAL.fullmatch(name)
        if vendor:
            self.take(1, *vendor, source, value)
        elif usual:
            self.usual(usual["rest"], source, value)
        else:
            self.standard(name, source, value.strip())

    def body(self, source: str, value: str) -> None:
        name = "body:" + source.lower()
        vendor = self.vendor_meaning(name)
        if vendor:
            self.take(1, *vendor, source, value)
        elif re.search(r"[:.]retry_after$", name):
            self.take(2, "retry_after", "auto", "", source, value)
        elif re.search(r"[:.]retry_after_ms$", name):
            self.take(2, "retry_after", "milliseconds", "", source, value)
        elif re.search(r"[:.]violated-policies$", name):
            self.take(2, "violated", "auto", "", source, value)
        elif re.search(r"[:.](type|code|error|message)$", name) and reason_of(value)[0]:
            # Sentences count with two statuses, and words after a success only as the error of the call itself.
            is_text = name.endswith("message") or " " in value.strip()
            is_error = re.fullmatch(r"body:(error|(error|errors|errors\.extensions)\.[^.]*)", name)
            if self.status in (403, 429) if is_text else self.status >= 400 or is_error:
                self.take(2, "reason", "auto", "", source, value)

    def usual(self, rest: str, source: str, value: str) -> None:
        if rest in ("", "-policy"):
            for policy, parameter, number in structured(value):
                window = self.window(0, policy)
                if not window:
                    continue
                if parameter in ("r", "remaining"):
                    window.add_remaining(min(MOST, max(0, floor(number))), source)
                elif parameter in ("t", "reset"):
                    window.reset.add(("after", capped(number * SECOND)), source)
                elif parameter in ("q", "limit"):
                    window.add_limit(min(MOST, max(0, floor(number))))
                elif parameter == "w":
                    window.length = max(window.length or 0, capped(number * SECOND))
            return
        if re.fullmatch(r".*-(reset|retry-after|next)(-.*)?-ms", rest) and not re.match("-(limit|remaining)", rest):
            # A time in milliseconds, from now unless its first number is too large for that.
            first = next((number for number in map(number_of, items(value)) if number is not None), 0)
            unit, rest = "epoch_milliseconds" if first >= 10**11 else "milliseconds", rest.removesuffix("-ms")
        else:
            unit = None
        if rest in USUAL_ALONE:
            meaning, own_unit = USUAL_ALONE[rest]
            self.take(2, meaning, unit or own_unit, "", source, value)
        else:
            behind = re.fullmatch(rf"-({GROUPED})(?:-(.+))?", rest)
            before = re.fullmatch(rf"-(.+)-({GROUPED})", rest)
            if behind:
                self.take(2, behind[1], unit or "auto", behind[2] or "", source, value)
            elif before:
                self.take(2, before[2], unit or "auto", before[1], source, value)

    def standard(self, name: str, source: str, value: str) -> None:
        if name == "date":
            self.date = self.date or next(filter(None, map(date_of, items(value))), None)
        elif name == "age":
            ages = [capped(number * SECOND) for number in map(number_of, items(value)) if number is not None]
            self.age = self.age if self.age is not None or not ages else ages[0]
        elif name == "grpc-retry-pushback-ms":
            number = number_of(value)
            if number is None or value.startswith("-"):
                self.should_retry = False
            else:
                self.pushback.add(("after", capped(number * 10**6)), source)
        elif name in ("retry-after-ms", "x-ms-retry-after-ms", "x-amz-retry-after"):
            self.add_times(self.precise, source, value, "milliseconds")
        elif name == "retry-after":
            self.add_times(self.retry_after, source, value, "auto")
        elif name == "x-should-retry":
            self.retry_or_not(value)

    def retry_or_not(self, value: str) -> None:
        if value.lower() == "false" or (value.lower() == "true" and self.should_retry is None):
            self.should_retry = value.lower() == "true"

    def add_times(self, times: Times, source: str, value: str, unit: str) -> None:
        for item in items(value):
            time = time_of(item.split(";")[0].strip(), unit)
            if time:
                times.add(time, source)

    def take(self, rank: int, meaning: str, unit: str, group: str, source: str, value: str) -> None:
        text = value.strip()
        if meaning == "retry_after":
            self.add_times(self.vendor, source, value, unit)
        elif meaning == "bucket":
            self.bucket = self.bucket or text
        elif meaning == "violated":
            self.violated = self.violated or text
        elif meaning == "global":
            self.scope = "credential" if text.lower() == "true" else self.scope
        elif meaning == "should_retry":
            self.retry_or_not(text)
        elif meaning == "reason":
            kind, scope = reason_of(text)
            self.kind, self.scope = kind or self.kind, scope or self.scope
        else:
            for item in items(value):
                self.take_item(rank, meaning, unit, group, source, item)

    def take_item(self, rank: int, meaning: str, unit: str, group: str, source: str, item: str) -> None:
        bare, *parameters = [part.strip() for part in item.split(";")]
        lengths = [number_of(part[2:]) for part in parameters if part.lower().startswith("w=")]
        length = next((capped(number * SECOND) for number in lengths if number is not None), None)
        number, time = number_of(bare), time_of(bare, unit)
        used = re.fullmatch(r"(-?[\d.]+)\s*/\s*(-?[\d.]+)", bare, re.A)
        pair = [number_of(part) for part in used.groups()] if used else [None]
        valid = time if meaning in ("reset", "window") else None not in pair if meaning == "used_of_limit" else number is not None
        window = self.window(rank, group) if valid else None
        if not window:
            return
        count = 0 if number is None else min(MOST, max(0, floor(number)))
        if meaning == "reset":
            window.reset.add(time, source)
        elif meaning == "window" and time[0] == "after":
            window.length = max(window.length or 0, time[1])
        elif meaning == "limit":
            window.add_limit(count, length)
        elif meaning == "remaining":
            window.add_remaining(count, source)
        elif meaning == "cost":
            window.cost = max(window.cost or 0, count)
        elif meaning == "restore_rate":
            window.rate = count
        elif meaning == "used_of_limit":
            taken, limit = (min(MOST, max(0, floor(part))) for part in pair)
            window.add_limit(limit)
            window.add_remaining(max(0, limit - taken), source)

    def best(self) -> list[Window]:
        said = [window for window in self.windows if window.remaining is not None or window.until_reset(0)]
        rank = min((window.rank for window in said or self.windows), default=None)
        return [window for window in self.windows if window.rank == rank]

    def binding(self, now: int) -> Window | None:
        def tightness(window: Window) -> tuple:
            named = bool(self.violated) and window.name.lower() == self.violated.lower()
            if window.spent:
                reset = window.until_reset(now)
                return named, True, -1 if reset is None else reset[0]
            share = Fraction(1)
            if window.left is not None and window.limit is not None:
                share = Fraction(window.left, max(1, window.limit))
            return named, False, -share

        return max(self.best(), key=tightness, default=None)

    def length_of(self, window: Window) -> int | None:
        if window.window is not None:
            return window.window
        policies = [it.length for it in self.windows if it.remaining is None and it.limit == window.limit is not None]
        return next((length for length in policies if length is not None), None)

    def finish(self, now: int, max_hold: int) -> dict[str, object]:
        age = self.age or 0
        now = now if self.date is None else min(MOST, self.date + age)
        fresh = age == 0
        kind = self.kind or kind_of(self.status)
        best = self.best() if fresh else []
        longest = lambda waits: max(((nanos + self.margin * SECOND, source) for nanos, source in waits), key=lambda it: it[0], default=None)  # noqa: E731

        def spent_wait(window: Window) -> tuple[int, str] | None:
            length = self.length_of(window)
            of_length = (length, window.source) if self.status >= 400 and length is not None else None
            return window.wait(now, self.refills) or of_length

        spent = None
        if kind != "concurrency":
            spent = longest([wait for wait in map(spent_wait, (it for it in best if it.spent)) if wait])
        stated = self.pushback.left(now, age)
        vendor = None
        if self.status >= 300:
            stated = stated or self.precise.left(now, age) or self.retry_after.left(now, age)
            vendor = self.vendor.left(now, age)
        if self.status == 403 and kind == "auth" and (stated or spent):
            kind = "rate"
        unknown = None
        if kind in ("rate", "quota"):
            unknown = longest([wait for wait in (it.wait(now, self.refills) for it in best if it.remaining is None) if wait])
        standard = bool(best) and best[0].rank == 0
        order = [("stated", stated), ("window", spent if standard else None), ("vendor", vendor), ("window", spent), ("window", unknown)]
        by, hold = next(((by, hold) for by, hold in order if hold), ("", None))
        asked, source = hold or (self.unstated * SECOND if kind in ("rate", "quota") else 0, "")
        asked = min(MOST, asked)
        scope = self.scope or (
            "vendor" if kind in ("overload", "fault") else "bucket" if by == "window" and self.bucket else self.scope_given
        )
        retry = self.should_retry
        if retry is None:
            retry = kind in ("rate", "concurrency", "overload") or (kind == "fault" and self.status not in (501, 505)) or (kind in ("quota", "abuse") and asked > 0)
        binding = self.binding(now) if fresh else None
        reset = binding.until_reset(now) if binding else None
        text = lambda number: None if number is None else str(number)  # noqa: E731
        return {
            "hold": str(min(asked, max_hold)), "asked": str(asked), "scope": scope, "bucket": self.bucket,
            "remaining": text(binding.left if binding else None), "limit": text(binding.limit if binding else None),
            "limit_name": binding.name.lower() if binding else "", "window": text(self.length_of(binding) if binding else None),
            "reset": text(reset[0] if reset else None), "should_retry": retry, "kind": kind, "source": source.lower() if asked else "",
        }  # fmt: skip


def reason_of(text: str) -> tuple[str | None, str | None]:
    word = text.strip().split("#")[-1].lower()
    if "secondary rate limit" in word:
        return "rate", "credential"
    return REASONS.get(word, (None, None))


def kind_of(status: int) -> str:
    known = {402: "quota", 408: "fault", 420: "rate", 429: "rate", 430: "abuse", 401: "auth", 403: "auth", 407: "auth", 503: "overload", 529: "overload"}
    return known.get(status) or ("ok" if status < 400 else "refused" if status < 500 else "fault")


def flatten(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """The fields of a body with their paths; those of the elements of a list have the list's, or `[]` if it is all."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from flatten(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for inner in value:
            yield from flatten(inner, path or "[]")
    elif value is not None:
        yield path, str(value).lower() if isinstance(value, bool) else str(value)


def read_signal(status: int, headers: list[list[str]], profile: str | list[dict], body: object, now: int, max_hold: int) -> dict[str, object]:
    reader = Reader(status, profile)
    for name, value in headers:
        reader.header(name, value)
    for path, value in flatten(body):
        reader.body(path, value)
    return reader.finish(now, max_hold)
