"""`retries.json` on the machine that drives `Outbound`."""

from __future__ import annotations

from typing import Any

import pytest
from test_vectors import load

from tidegate import read_signal
from tidegate._tidegate import _OutboundCall, _RetryBudget

TRACES = load("retries.json")["traces"]


@pytest.mark.parametrize("trace", TRACES, ids=lambda trace: trace["name"])
def test_calls_are_made_and_repeated_as_the_oracle_says(trace: dict[str, Any]) -> None:
    budget = _RetryBudget(trace["percent"], trace["reserve"])
    calls: dict[str, _OutboundCall] = {}
    for number, step in enumerate(trace["steps"]):
        if step["event"] == "start":
            calls[step["call"]] = call_of(step["terms"], budget)
        taken = advance(calls[step["call"]], step)
        assert (taken, budget.retries()) == (written(step["step"]), step["saved"]), number


def call_of(terms: dict[str, Any], budget: _RetryBudget) -> _OutboundCall:
    return _OutboundCall(
        budget,
        (terms["attempts"], int(terms["base"]), int(terms["longest"])),
        int(terms["deadline"]),
        int(terms["attempt_timeout"]),
        (terms["permit"], terms["repeatable"], terms["idempotent"]),
    )


def advance(call: _OutboundCall, step: dict[str, Any]) -> tuple[str, int, str]:
    at = int(step["at"])
    if step["event"] == "start":
        return call.start(at)
    if step["event"] == "failed":
        return call.failed(step["kind"], at, int(step["random"]))
    if step["event"] == "response":
        hold = int(step["hold"])
        header = {"retry-after-ms": f"{hold // 10**6}.{hold % 10**6:06}"}
        return call.responded(read_signal(step["status"], header), at, int(step["random"]))
    return call.next(step["event"], at)


def written(step: dict[str, str]) -> tuple[str, int, str]:
    amount = next((int(step[name]) for name in ("max_wait", "timeout", "duration") if name in step), 0)
    return step["do"], amount, step.get("scope", step.get("reason", ""))
