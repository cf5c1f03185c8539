"""Runs egress.json on the machine of the package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tidegate._tidegate import _Egress

VECTORS = Path(__file__).resolve().parents[2] / "tests" / "vectors" / "egress.json"
TRACES: list[dict[str, Any]] = json.loads(VECTORS.read_text(encoding="utf-8"))["traces"]


def test_every_trace() -> None:
    assert len(TRACES) > 20
    assert [difference for trace in TRACES for difference in differences(trace)] == []


def differences(trace: dict[str, Any]) -> list[str]:
    terms = {name: value if name == "order" else int(value) for name, value in trace["terms"].items()}
    machine = _Egress(**terms, slots=trace["slots"], partitions=2)
    found = []
    for number, step in enumerate(trace["steps"]):
        now = int(step["at"])
        admission = happen(machine, now, step)
        actions = [[each if isinstance(each, bool) else str(each) for each in action] for action in machine.poll(now)]
        wake = machine.wake_at()
        is_right = actions == step["expect"] and admission == step.get("admission")
        if not is_right or ("wake" in step and int(step["wake"]) != wake):
            found.append(f"{trace['name']}, step {number}: {admission}, {actions}, wakes at {wake}")
    return found


def happen(machine: _Egress, now: int, step: dict[str, Any]) -> str | bool | None:
    match step["do"]:
        case "permits":
            machine.permits_granted(now, step["count"])
        case "message":
            return machine.message(
                now, step["id"], received_at=now, sent_at=now,
                deadline=int(step["deadline"]) if "deadline" in step else None,
                attempts=step.get("attempts", 1), key=step.get("key", 0), random=int(step.get("random", 0)),
                partition=step.get("partition", 0), offset=step.get("offset", 0), generation=step.get("generation", 1),
            )  # fmt: skip
        case "received":
            machine.received(now, step["count"])
        case "granted":
            return machine.granted(now, step["id"])
        case "response":
            retry = step.get("retry")
            machine.response(
                now, step["id"], step["response"], int(step.get("hold", 0)), None if retry is None else int(retry)
            )
        case "dead_lettered":
            machine.dead_lettered(now, step["id"], step["is_there"])
        case "held":
            machine.held(now, int(step["until"]))
        case "breaker":
            machine.breaker(now, step["probes"])
        case "store":
            machine.store(now, step["is_up"])
        case "assign":
            machine.assign(now, step["partition"], step["generation"], step["position"])
        case "revoke":
            machine.revoke(now, step["partition"])
        case "stop":
            machine.stop(now)
        case other:
            assert other == "poll"
    return None
