"""Runs the vectors of tests/vectors, which are the semantics as data, on this binding."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from fractions import Fraction
from math import ceil, inf, nextafter
from pathlib import Path
from typing import Any

import pytest

import tidegate
from tidegate import (
    Decision,
    FakeClock,
    InvalidLimit,
    Limit,
    Limiter,
    Limits,
    Reservation,
    TidegateError,
    TierDecision,
)

VECTORS = Path(__file__).resolve().parents[2] / "tests" / "vectors"


def load(name: str) -> dict[str, Any]:
    vectors: dict[str, Any] = json.loads((VECTORS / name).read_text(encoding="utf-8"))
    assert vectors["version"] == 1
    return vectors


TRACES = load("decide.json")["traces"]
OPERATIONS, CHANGES = [], []
for _trace in load("operations.json")["traces"]:
    _changes = any(step["op"] == "change" for step in _trace["steps"])
    (CHANGES if _changes else OPERATIONS).append(_trace)
FIXED = load("fixed.json")["traces"]
GRAMMAR = load("grammar.json")
ERRORS = load("errors.json")["errors"]
SURFACE = {
    name: described
    for name, described in load("surface.json")["classes"].items()
    if "python" in described.get("languages", ["python"])
} | load("surface.json")["python_only"]
FUNCTIONS = load("surface.json")["functions"]
# The methods that Python has beyond surface.json: it holds what a `with` block needs.
METHODS_BEYOND = {"Limiter": {"reserving"}}
TIER_FIELDS = ("limit", "remaining", "retry_after", "reset_after", "tier")
# What makes an asyncio twin of a limiter.
ASYNC_ONLY = {"Limiter": {"of"}}
# The parameter of every method on a key that Python has beyond it.
PARAMETER_BEYOND = "limits"
ERRORS_BY_CODE = {error["code"]: getattr(tidegate, error["class"]) for error in ERRORS}


def test_there_are_vectors() -> None:
    assert TRACES and OPERATIONS and all(trace["steps"] for trace in TRACES + OPERATIONS)
    assert GRAMMAR["valid"] and GRAMMAR["invalid"] and ERRORS and SURFACE


@pytest.mark.parametrize("trace", TRACES, ids=[trace["name"] for trace in TRACES])
def test_decide(trace: dict[str, Any]) -> None:
    clock = FakeClock()
    # A limit is named by its place, so that a decision's limit_name shows its tier.
    limits = [Limit(text, name=str(tier)) for tier, text in enumerate(trace["limits"])]
    limiter = Limiter(*limits, clock=clock)
    for number, step in enumerate(trace["steps"]):
        clock.set(int(step["at"]))
        key = step.get("key", "k")
        if "error" in step:
            with pytest.raises(ERRORS_BY_CODE[step["error"]]):
                limiter.check(key, step["cost"])
            continue
        decision = limiter.check(key, cost=step["cost"])
        expect = step["expect"]
        assert described(decision) == in_seconds(expect), f"step {number} of {trace['name']}"
        assert bool(decision) is expect["allowed"]
        assert decision.source == "memory"


@pytest.mark.parametrize("form", ["one key", "a key per limit"])
@pytest.mark.parametrize("trace", OPERATIONS + FIXED, ids=lambda trace: trace["name"])
def test_operations(trace: dict[str, Any], form: str) -> None:
    clock = FakeClock()
    limits = named(trace["limits"])
    limiter = Limiter(*limits, clock=clock)
    key = "k" if form == "one key" else ["user", b"org", "region", "all"][: len(limits)]
    run_trace(trace, limiter, key, clock, None)


@pytest.mark.parametrize("form", ["one key", "a key per limit"])
@pytest.mark.parametrize("trace", OPERATIONS + FIXED + CHANGES, ids=lambda trace: trace["name"])
def test_operations_under_the_limits_of_calls(trace: dict[str, Any], form: str) -> None:
    clock = FakeClock()
    limiter = Limiter("none", clock=clock)
    limits = named(trace["limits"])
    # With another number of keys the buckets would be others.
    is_each = form == "a key per limit" and trace not in CHANGES
    key = ["user", b"org", "region", "all"][: len(limits)] if is_each else "k"
    run_trace(trace, limiter, key, clock, Limits(*limits))


def named(texts: Sequence[str]) -> list[Limit]:
    """Limits that are named by their place, so that a decision's limit_name shows its tier."""
    return [Limit(text, name=str(tier)) for tier, text in enumerate(texts)]


def run_trace(
    trace: dict[str, Any], limiter: Limiter, key: Any, clock: FakeClock, limits: Limits | None
) -> None:
    reservations: dict[str, Reservation] = {}
    for number, given in enumerate(trace["steps"]):
        step = given
        if "at" in step:
            clock.set(int(step["at"]))
        place = f"step {number} of {trace['name']}"
        if step["op"] == "change":
            limits = Limits(*named(step["limits"]))
            if "expect" not in step:
                continue
            step = {**given, "op": "peek", "cost": 0}
        if "error" in step:
            with pytest.raises(ERRORS_BY_CODE[step["error"]]):
                operate(limiter, key, step, reservations, limits)
            continue
        answer = operate(limiter, key, step, reservations, limits)
        if step["op"] == "reset":
            assert answer["remaining"] == answer["limit"], place
        else:
            assert answer == in_seconds(step["expect"]), place


def in_seconds(expect: dict[str, Any]) -> dict[str, Any]:
    """An answer of the vectors with its durations in seconds, and what each limit says."""
    if "restored" in expect:
        return expect
    durations = expect.keys() & {"retry_after", "reset_after", "delay"}
    read = {**expect, **{name: seconds(expect[name]) for name in durations}}
    if "allowed" not in expect:
        return read
    # A single limit says what the decision does.
    tiers = expect.get("tiers", [{name: expect[name] for name in TIER_FIELDS}])
    return {**read, "tiers": [in_seconds(tier) for tier in tiers]}


def seconds(nanos: str) -> float:
    """A duration of the vectors; the largest value stands for ever."""
    if int(nanos) == 2**64 - 1:
        return inf
    read = int(nanos) / 1e9
    while int(nanos) >= 2**52 and (ceil(read * 1e9) < int(nanos) or Fraction(read) * 10**9 < int(nanos)):
        read = nextafter(read, inf)
    return read


def operate(
    limiter: Limiter,
    key: Any,
    step: dict[str, Any],
    reservations: dict[str, Reservation],
    limits: Limits | None = None,
) -> dict[str, Any]:
    """The answer of a step's operation, in the words of the vectors."""
    match step["op"]:
        case "check":
            return described(limiter.check(key, step["cost"], limits=limits))
        case "settle":
            return described(limiter.settle(key, step["charged"], step["actual"], limits=limits))
        case "peek":
            return described(limiter.peek(key, step["cost"], limits=limits))
        case "credit":
            return described(limiter.credit(key, step["tokens"], limits=limits))
        case "hold":
            return described(limiter.hold(key, int(step["wait"]) / 1e9, limits=limits))
        case "reset":
            return described(limiter.reset(key, limits=limits))
        case "cancel":
            return {"restored": reservations.pop(step["reservation"]).cancel()}
        case "reserve":
            wait = int(step["max_wait"])
            # The largest value stands for ever, and no float is exactly it.
            max_wait = None if wait == 2**64 - 1 else wait / 1e9
            reservation = limiter.reserve(key, step["cost"], max_wait=max_wait, limits=limits)
            cost = step["cost"]
            assert reservation.cost == (tuple(cost) if isinstance(cost, list) and len(cost) > 1 else cost)
            assert bool(reservation) is reservation.allowed is reservation.decision.allowed
            if not reservation:
                assert reservation.delay == inf
                return described(reservation.decision)
            if "reservation" in step:
                reservations[step["reservation"]] = reservation
            return {**described(reservation.decision), "delay": reservation.delay}
    raise AssertionError(step)


def described(decision: Decision) -> dict[str, Any]:
    return {
        "allowed": decision.allowed,
        **said_by(decision),
        "tiers": [said_by(tier) for tier in decision.tiers],
    }


def said_by(said: Decision | TierDecision) -> dict[str, Any]:
    return {
        "limit": said.limit,
        "remaining": said.remaining,
        "retry_after": said.retry_after,
        "reset_after": said.reset_after,
        "tier": int(said.limit_name),
    }


@pytest.mark.parametrize("valid", GRAMMAR["valid"], ids=[v["text"] for v in GRAMMAR["valid"]])
def test_grammar_valid(valid: dict[str, Any]) -> None:
    limit = Limit(valid["text"])
    assert limit.tokens == valid["tokens"]
    assert limit.period == seconds(valid["period"])
    assert limit.burst == valid["burst"]
    assert limit.shape == valid["shape"]
    assert (str(limit), limit.name) == (valid["canonical"], valid["text"].strip())
    assert Limit(str(limit), name=limit.name) == limit == eval(repr(limit), {"Limit": Limit})
    assert Limit(str(limit)).name == str(limit)
    assert Limiter(valid["text"]).check("k", 0).limit_name == limit.name


@pytest.mark.parametrize("invalid", GRAMMAR["invalid"], ids=[v["text"] for v in GRAMMAR["invalid"]])
def test_grammar_invalid(invalid: dict[str, Any]) -> None:
    for refuse in (Limit, Limiter):
        with pytest.raises(InvalidLimit) as caught:
            refuse(invalid["text"])
        assert caught.value.reason == invalid["reason"]
        assert caught.value.code == "invalid_limit"
        assert str(caught.value).endswith(f" {invalid['write']}" if "write" in invalid else "")


@pytest.mark.parametrize("error", ERRORS, ids=[error["class"] for error in ERRORS])
def test_error_classes(error: dict[str, Any]) -> None:
    found = getattr(tidegate, error["class"])
    assert found.code == error["code"]
    base = Exception if error["base"] is None else getattr(tidegate, error["base"])
    assert found.__bases__[0] is base
    assert found.__module__ == "tidegate"


def test_no_other_errors() -> None:
    exported = (getattr(tidegate, name) for name in tidegate.__all__)
    classes = {found.__name__ for found in exported if is_error(found)}
    assert classes == {error["class"] for error in ERRORS}


def is_error(found: object) -> bool:
    return isinstance(found, type) and issubclass(found, TidegateError)


@pytest.mark.parametrize("name", SURFACE)
def test_surface(name: str) -> None:
    described = SURFACE[name]
    found = getattr(tidegate, name)
    public = {member: getattr(found, member) for member in dir(found) if member[0] != "_"}
    methods = {member: method for member, method in public.items() if callable(method)}

    if "constructor" in described:
        assert list(inspect.signature(found).parameters) == described["constructor"]
    if "fields" in described:
        assert set(public) - set(methods) == set(described["fields"])
    assert set(methods) == set(described.get("methods", {})) | METHODS_BEYOND.get(name, set())
    for method, parameters in described.get("methods", {}).items():
        assert parameters_of(methods[method]) == parameters


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str) -> None:
    assert parameters_of(getattr(tidegate, name)) == FUNCTIONS[name]


@pytest.mark.parametrize("name", ["Limiter", "Reservation", "Outbound", "Call"])
def test_the_async_twin_has_the_same_surface(name: str) -> None:
    described = SURFACE[name]
    blocking, found = getattr(tidegate, name), getattr(tidegate, f"Async{name}")
    if "constructor" in described:
        assert inspect.signature(found).parameters.keys() == inspect.signature(blocking).parameters.keys()
    public = {member for member in dir(found) if member[0] != "_"} - ASYNC_ONLY.get(name, set())
    assert public == {member for member in dir(blocking) if member[0] != "_"}
    for method in described["methods"]:
        twin = getattr(found, method)
        assert parameters_of(twin) == described["methods"][method]
        assert kinds_of(twin) == kinds_of(getattr(blocking, method))
        # The line and the table of hosts are in the process, and a block is awaited when it is entered.
        assert inspect.iscoroutinefunction(twin) == (method not in {"waiting", "at", "call"})
    for method in METHODS_BEYOND.get(name, set()):
        twin = getattr(found, method)
        assert parameters_of(twin) == parameters_of(getattr(blocking, method))
        assert kinds_of(twin) == kinds_of(getattr(blocking, method))


def test_a_charge_has_an_async_twin() -> None:
    public = {name for name in dir(tidegate.Charge) if name[0] != "_"}
    assert public == {"decision", "cost", "settle", "cancel"}
    assert public == {name for name in dir(tidegate.AsyncCharge) if name[0] != "_"}


def kinds_of(method: Any) -> list[tuple[Any, Any]]:
    parameters = inspect.signature(method).parameters.values()
    return [(each.kind, each.default) for each in parameters if each.name != "self"]


def parameters_of(method: Any) -> list[str]:
    return [name for name in inspect.signature(method).parameters if name not in ("self", PARAMETER_BEYOND)]
