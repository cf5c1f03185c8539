"""Numbers, durations, dates and structured fields in headers, read without the engine's rules for them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from math import ceil

SECOND = 10**9
MOST = 2**64 - 1
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
NUMBER = re.compile(r"-?\d+(\.\d+)?", re.A)
DURATION = re.compile(r"(-?)((?:\d+(?:\.\d+)?(?:ms|us|µs|ns|[smhd]))+)", re.A | re.I)
DAY = re.compile(r"\s*(mon|tue|wed|thu|fri|sat|sun)[a-z]*\s*", re.I)
UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND, "d": 86400 * SECOND}
DATE_FORMS = [
    "%a, %d %b %Y %H:%M:%S", "%A, %d-%b-%y %H:%M:%S", "%a %b %d %H:%M:%S %Y", "%a %b %d %Y %H:%M:%S",
]  # fmt: skip


def capped(number: Fraction | int) -> int:
    return max(0, min(MOST, ceil(number)))


def number_of(text: str) -> Fraction | None:
    return Fraction(text) if NUMBER.fullmatch(text) else None


def date_of(text: str) -> int | None:
    """Nanoseconds since 1970."""
    if re.match(r"\d{4}-", text, re.A):
        if not re.fullmatch(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?\s*(Z|[+-]\d\d:?\d\d)?", text, re.A):
            return None
        text = re.sub(r"(:\d\d)\.(\d+)", lambda match: f"{match[1]}.{match[2]:0<6.6}", text.replace(" ", "T", 1))
        try:
            found = datetime.fromisoformat(text.replace("Z", "+00:00"))
        except ValueError:
            return None
        return nanos_of(found if found.tzinfo else found.replace(tzinfo=timezone.utc))
    text = re.sub(r"\s*\([^()]*\)$", "", text)
    text = re.sub(r"\s*(GMT|UTC)(?=[+-]|$)", "", text)
    zone = re.search(r"\s*([+-]\d{4})$", text)
    if zone:
        text = text[: zone.start()]
    for form in DATE_FORMS:
        try:
            found = datetime.strptime(text, form).replace(tzinfo=timezone.utc)
        except ValueError:
            continue
        if zone:
            sign, digits = zone[1][0], zone[1][1:]
            ahead = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
            found -= ahead if sign == "+" else -ahead
        return nanos_of(found)
    return None


def nanos_of(moment: datetime) -> int:
    return capped((moment - EPOCH) // timedelta(microseconds=1) * 1000)


def time_of(text: str, unit: str) -> tuple[str, int] | None:
    """A time as ("after", nanoseconds) or ("at", nanoseconds since 1970)."""
    number = number_of(text)
    if number is not None:
        if unit == "auto":
            unit = "epoch_milliseconds" if number >= 10**11 else "epoch_seconds" if number >= 10**9 else "seconds"
        factor = 10**6 if unit.endswith("milliseconds") else SECOND
        return "at" if unit.startswith("epoch") else "after", capped(number * factor)
    duration = DURATION.fullmatch(text)
    if duration:
        parts = re.findall(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|[smhd])", duration[2], re.I)
        total = sum(ceil(Fraction(count) * UNITS[unit.lower()]) for count, unit in parts)
        return "after", 0 if duration[1] else capped(total)
    date = date_of(text)
    return None if date is None else ("at", date)


def items(value: str) -> Iterator[str]:
    parts = value.split(",")
    while parts:
        part = parts.pop(0)
        if parts and DAY.fullmatch(part):
            part += "," + parts.pop(0)
        if part.strip():
            yield part.strip()


STRING, TOKEN = r'"(?:[^"\\]|\\.)*"', r"[A-Za-z*][-!#$%&'*+.^_`|~:/\w]*"
BARE = rf"(?:{STRING}|-?\d+(?:\.\d+)?|{TOKEN}|:[^:]*:|\?[01])"
PARAMETERS = rf"(?:\s*;\s*{TOKEN}(?:={BARE})?)*"
MEMBER = rf"(?:{TOKEN}={BARE}|{STRING}|-?\d+(?:\.\d+)?|{TOKEN}){PARAMETERS}"
FIELD = re.compile(rf"{MEMBER}(?:\s*,\s*{MEMBER})*", re.A)


def structured(value: str) -> Iterator[tuple[str, str, Fraction]]:
    """Yields (policy, parameter, number); nothing if the field is malformed."""
    value = value.strip()
    if not FIELD.fullmatch(value):
        return
    for member in re.finditer(MEMBER, value, re.A):
        head, *parameters = re.split(r"\s*;\s*", member[0])
        policy = ""
        if re.fullmatch(rf"{TOKEN}=.*", head, re.A):
            parameters.insert(0, head)
        elif number_of(head) is not None:
            policy = head
            parameters.insert(0, f"q={head}")
        else:
            policy = head.strip('"')
        for parameter in parameters:
            name, _, text = parameter.partition("=")
            number = number_of(text)
            if number is not None:
                yield policy, name, number
