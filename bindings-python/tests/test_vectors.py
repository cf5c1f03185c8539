"""The semantics as data: this binding against tests/vectors."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest

import tidegate
from tidegate import FakeClock, InvalidLimit, Limit, Limiter, TidegateError

VECTORS = Path(__file__).resolve().parents[2] / "tests" / "vectors"


def load(name: str) -> dict[str, Any]:
    vectors: dict[str, Any] = json.loads((VECTORS / name).read_text(encoding="utf-8"))
    assert vectors["version"] == 1
    return vectors


TRACES = load("decide.json")["traces"]
GRAMMAR = load("grammar.json")
ERRORS = load("errors.json")["errors"]
SURFACE = load("surface.json")["classes"]
ERRORS_BY_CODE = {error["code"]: getattr(tidegate, error["class"]) for error in ERRORS}


def test_there_are_vectors() -> None:
    assert TRACES and all(trace["steps"] for trace in TRACES)
    assert GRAMMAR["valid"] and GRAMMAR["invalid"] and ERRORS and SURFACE


@pytest.mark.parametrize("trace", TRACES, ids=[trace["name"] for trace in TRACES])
def test_decide(trace: dict[str, Any]) -> None:
    clock = FakeClock()
    # Named by their place, so that a decision's limit_name shows its tier.
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
        seen = {
            "allowed": decision.allowed,
            "limit": decision.limit,
            "remaining": decision.remaining,
            "retry_after": decision.retry_after,
            "reset_after": decision.reset_after,
            "tier": int(decision.limit_name),
        }
        for duration in ("retry_after", "reset_after"):
            expect = {**expect, duration: int(expect[duration]) / 1e9}
        assert seen == expect, f"step {number} of {trace['name']}"
        assert bool(decision) is expect["allowed"]
        assert decision.source == "memory"


@pytest.mark.parametrize("valid", GRAMMAR["valid"], ids=[v["text"] for v in GRAMMAR["valid"]])
def test_grammar_valid(valid: dict[str, Any]) -> None:
    limit = Limit(valid["text"])
    assert limit.tokens == valid["tokens"]
    assert limit.period == int(valid["period"]) / 1e9
    assert limit.burst == valid["burst"]
    assert limit.shape == valid["shape"]
    assert str(limit) == limit.name == valid["canonical"]
    assert Limit(str(limit)) == limit


@pytest.mark.parametrize("invalid", GRAMMAR["invalid"], ids=[v["text"] for v in GRAMMAR["invalid"]])
def test_grammar_invalid(invalid: dict[str, Any]) -> None:
    for refuse in (Limit, Limiter):
        with pytest.raises(InvalidLimit) as caught:
            refuse(invalid["text"])
        assert caught.value.reason == invalid["reason"]
        assert caught.value.code == "invalid_limit"


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
    assert set(methods) == set(described.get("methods", {}))
    for method, parameters in described.get("methods", {}).items():
        assert parameters_of(methods[method]) == parameters


def test_the_async_limiter_has_the_same_surface() -> None:
    described = SURFACE["Limiter"]
    found = tidegate.AsyncLimiter
    assert inspect.signature(found).parameters.keys() == inspect.signature(Limiter).parameters.keys()
    public = {member for member in dir(found) if member[0] != "_"}
    assert public == {member for member in dir(Limiter) if member[0] != "_"}
    for method, parameters in described["methods"].items():
        assert parameters_of(getattr(found, method)) == parameters
        assert inspect.iscoroutinefunction(getattr(found, method))


def parameters_of(method: Any) -> list[str]:
    return [name for name in inspect.signature(method).parameters if name != "self"]
