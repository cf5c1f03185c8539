"""The traces of gate.json and controller.json: what is told to a gate or a controller, and what it answers."""

import json
import random

from gates_oracle import SECOND, Controller, Gate

START = 1_764_000_000 * SECOND
GATE = {
    "fault_percent": 50, "least_calls": 20, "window": 30 * SECOND, "open_for": 5 * SECOND, "longest_open": 300 * SECOND,
    "probes": 1, "probe_timeout": 30 * SECOND, "resume_wait": SECOND, "ramp": 0,
}  # fmt: skip
CONTROL = {
    "min_rate": 10, "max_rate": 10**7, "first_rate": 10**4, "min_limit": 1, "max_limit": 1000, "first_limit": 10,
    "epoch": SECOND, "calls_per_refusal": 250,
}  # fmt: skip


def gate_trace(name: str, policy: dict, steps: list[tuple]) -> dict:
    """Steps are a time in milliseconds from the start, and what is told; without that a call asks."""
    policy = GATE | policy
    gate = Gate(policy)
    written = []
    for at, *told in steps:
        now = START + at * 1000
        step: dict = {"at": now}
        if told:
            step |= {"report": told[0], "expect": gate.report(now, **told[0])}
        else:
            step["expect"] = gate.admit(now)
        written.append(step)
    return {"name": name, "policy": policy, "steps": written}


def gate_traces() -> list[dict]:
    five = {"hold": 5 * SECOND}
    traces = [
        gate_trace("a hold, one call at its end, and the others when it is answered", {}, [
            (0,), (0, five), (0,), (4999,), (5000,), (5000,), (5080, {"probe": [1, "ok"]}), (5080,)]),
        gate_trace("simultaneous refusals of ten workers are one hold", {}, [(0, five)] * 10 + [(0,), (5000,), (5000,)]),
        gate_trace("of two holds the later end counts, in any order", {}, [
            (0, {"hold": 9 * SECOND}), (1000, {"hold": SECOND}), (2500,), (9000,)]),
        gate_trace("the others do not wait long for the first call after a hold", {}, [(0, five), (5000,), (5999,), (6000,)]),
        gate_trace("a first call that was not made leaves its place to the next", {}, [
            (0, five), (5000,), (5001, {"probe": [1, "not_made"]}), (5001,)]),
        gate_trace("a ramp after a hold", {"ramp": 10 * SECOND}, [
            (0, five), (5000,), (5010, {"probe": [1, "ok"]}), (5010,), (7000,), (10000,), (14999,), (15000,)]),
        gate_trace("half of twenty calls opens, and one probe that succeeds closes", {}, [
            (0, {"ok": 10, "faults": 9}), (10,), (20, {"faults": 1}), (20,), (5019,), (5020,), (5020,),
            (5100, {"probe": [1, "ok"]}), (5100,)]),
        gate_trace("probes that fail double the time, to its bound", {"longest_open": 30 * SECOND}, [
            (0, {"faults": 20}), (5000,), (5000, {"probe": [1, "fault"]}), (15000,), (15000, {"probe": [2, "fault"]}),
            (35000,), (35000, {"probe": [3, "fault"]}), (64999,), (65000,)]),
        gate_trace("a probe without an outcome is given up", {}, [
            (0, {"faults": 20}), (5000,), (34999,), (35000,), (35001, {"probe": [1, "ok"]}), (35002,),
            (35003, {"probe": [2, "ok"]}), (35003,)]),
        gate_trace("a probe refused for a limit waits as long as before, and obeys", {}, [
            (0, {"faults": 20}), (5000,), (5100, {"probe": [1, "throttled"], "hold": 2 * SECOND}), (5200,), (10100,)]),
        gate_trace("three probes must succeed", {"probes": 3}, [
            (0, {"faults": 20}), (5000,), (5001, {"probe": [1, "ok"]}), (5001,), (5002, {"probe": [2, "ok"]}), (5002,),
            (5003, {"probe": [3, "ok"]}), (5003,)]),
        gate_trace("opening again soon takes longer, and later does not", {}, [
            (0, {"faults": 20}), (5000,), (5001, {"probe": [1, "ok"]}), (6000, {"faults": 20}), (6000,), (16000,),
            (16001, {"probe": [2, "ok"]}), (46001, {"faults": 20}), (46001,)]),
        gate_trace("faults leave the window part by part", {}, [
            (0, {"faults": 19}), (45000, {"faults": 9}), (45000,), (59000, {"faults": 9}), (59000,)]),
        gate_trace("it never opens with more than a hundred percent", {"fault_percent": 101}, [(0, {"faults": 1000}), (0,)]),
        gate_trace("what was called before it opened says nothing", {}, [
            (0, {"faults": 20}), (1, {"ok": 1000}), (1,), (5000,), (5000, {"faults": 50}), (5001, {"probe": [1, "ok"]}), (5001,)]),
    ]  # fmt: skip
    for number in range(40):
        rng = random.Random(number)
        policy = {
            "fault_percent": rng.choice([1, 33, 50, 100]), "least_calls": rng.randint(1, 30),
            "window": rng.randint(1, 40 * SECOND), "open_for": rng.randint(1, 9 * SECOND),
            "longest_open": rng.randint(9 * SECOND, 90 * SECOND), "probes": rng.randint(1, 3),
            "probe_timeout": rng.randint(1, 20 * SECOND), "resume_wait": rng.randint(0, 2 * SECOND),
            "ramp": rng.choice([0, rng.randint(1, 30 * SECOND)]),
        }  # fmt: skip
        steps, at, probes = [], 0, 0
        for _ in range(60):
            at += rng.choice([0, rng.randint(0, 900), rng.randint(0, 20_000)])
            what = rng.random()
            if what < 0.5:
                steps.append((at,))
                probes += 1
            elif what < 0.75:
                outcome = rng.choice(["ok", "ok", "fault", "throttled", "not_made"])
                # The number of a probe that there may have been, often the last one.
                steps.append((at, {"probe": [rng.randint(1, max(1, probes // 4)), outcome]}))
            elif what < 0.95:
                steps.append((at, {"ok": rng.randint(0, 9), "faults": rng.randint(0, 9)}))
            else:
                steps.append((at, {"hold": rng.randint(1, 9 * SECOND)}))
        traces.append(gate_trace(f"random {number}", policy, steps))
    return traces


def control_trace(name: str, policy: dict, steps: list[tuple[int, dict]]) -> dict:
    policy = CONTROL | policy
    controller = Controller(policy)
    written = []
    for at, told in steps:
        now = START + at * 1000
        written.append({"at": now, "report": told, "expect": controller.report(now, **told)})
    return {"name": name, "policy": policy, "steps": written}


def control_traces() -> list[dict]:
    def used(calls: int, latency: int = 50_000) -> dict:
        return {"ok": calls, "latency": calls * latency}

    traces = [
        control_trace("a rate that is made use of rises by half until a refusal", {}, [
            (0, {}), (1000, used(10)), (2000, used(15)), (3000, used(22)), (4000, used(33) | {"throttled": 4})]),
        control_trace("a rate that is not made use of stays", {}, [(0, {})] + [(1000 * at, used(5)) for at in range(1, 9)]),
        control_trace("fifty refusals of one epoch are one decrease", {}, [
            (0, {}), (1000, used(10)), (2000, used(14) | {"throttled": 1})] + [(2000 + at, {"throttled": 7}) for at in range(50)]),
        control_trace("calls pay for a refusal before the rate rises", {"calls_per_refusal": 30}, [
            (0, {}), (1000, used(10)), (1500, used(7) | {"throttled": 1})] + [(2500 + 1000 * at, used(14)) for at in range(8)]),
        control_trace("a hold is one epoch", {}, [
            (0, {}), (1000, used(10)), (1500, {"throttled": 3, "hold": 9 * SECOND}), (3000, {"throttled": 1}),
            (9000, {"throttled": 1}), (12000, {"throttled": 1}), (20000, used(100))]),
        control_trace("a limit that the vendor names is the rate, and bounds it", {}, [
            (0, {}), (500, {"seen_limit": 6000, "seen_window": 60 * SECOND}), (1500, used(98)), (2500, used(99))]),
        control_trace("refusals for the rate have no part in the concurrency", {}, [(1000 * at, {"throttled": 1000}) for at in range(20)]),
        control_trace("the concurrency rises while calls do not queue, and falls when they do", {"first_rate": 10**6}, [
            (0, {})] + [(1000 * at, used(100, 100_000)) for at in range(1, 9)] + [(8000 + 1000 * at, used(100, 400_000)) for at in range(1, 6)]),
        control_trace("a latency that stays high is measured anew", {}, [
            (0, {}), (1000, used(100, 100_000))] + [(1000 * at, used(50, 300_000)) for at in range(2, 30)]),
        control_trace("dropped calls lower the concurrency once in an epoch, never below 1", {"first_limit": 9}, [
            (400 * at, {"dropped": 3}) for at in range(40)]),
    ]  # fmt: skip
    for number in range(40):
        rng = random.Random(number)
        policy = {
            "min_rate": rng.choice([1, 500]), "first_rate": rng.randint(500, 10**5), "max_rate": rng.randint(10**5, 10**8),
            "first_limit": rng.randint(1, 40), "max_limit": rng.randint(40, 200),
            "epoch": rng.choice([10**5, SECOND, 10 * SECOND]), "calls_per_refusal": rng.randint(1, 300),
        }  # fmt: skip
        steps, at = [], 0
        for _ in range(60):
            at += rng.choice([rng.randint(0, 300), 1000, rng.randint(0, 20_000)])
            told: dict = {}
            if rng.random() < 0.8:
                told = used(rng.randint(0, 400), rng.randint(1, 10**6))
            if rng.random() < 0.2:
                told["throttled"] = rng.randint(1, 30)
            if rng.random() < 0.1:
                told["dropped"] = rng.randint(1, 30)
            if rng.random() < 0.1:
                told["other"] = rng.randint(1, 300)
            if rng.random() < 0.1:
                told["hold"] = rng.randint(1, 9 * SECOND)
            if rng.random() < 0.05:
                told |= {"seen_limit": rng.randint(1, 5000), "seen_window": rng.choice([SECOND, 60 * SECOND])}
            steps.append((at, told))
        traces.append(control_trace(f"random {number}", policy, steps))
    return traces


def text_of(trace: dict) -> str:
    head = json.dumps({key: trace[key] for key in ("name", "policy")})
    steps = ",\n".join(f"      {json.dumps(step)}" for step in trace["steps"])
    return f'{head[:-1]}, "steps": [\n{steps}\n    ]}}'
