"""The vectors keep their schemas, and their generator writes the very same files."""

import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*.json"))


def test_every_vector_file_is_seen() -> None:
    assert [path.name for path in FILES] == [
        "controller.json", "decide.json", "egress.json", "errors.json", "fixed.json", "gate.json", "grammar.json", "keys.json", "operations.json", "permits.json", "redis.json", "retries.json", "signals.json", "surface.json", "waiting.json",
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_keeps_its_schema(path: Path) -> None:
    document = json.loads(path.read_text())
    schema = json.loads((HERE / document["$schema"]).read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(document, schema, cls=jsonschema.Draft202012Validator)


def test_traces_are_what_the_oracle_says() -> None:
    subprocess.run([sys.executable, HERE / "generate.py", "--check"], check=True)


@pytest.mark.parametrize("name", ["decide.json", "egress.json", "operations.json", "permits.json", "fixed.json", "retries.json", "gate.json", "controller.json"])
def test_names_are_unique(name: str) -> None:
    names = [trace["name"] for trace in json.loads((HERE / name).read_text())["traces"]]
    assert len(names) == len(set(names))


def test_signals_have_every_vendor_and_every_way_to_go_wrong() -> None:
    cases = json.loads((HERE / "signals.json").read_text())["cases"]
    names = [case["name"] for case in cases]
    assert len(names) == len(set(names))
    core = (HERE.parents[1] / "core" / "src" / "signal" / "profiles.rs").read_text()
    built_in = set(re.findall(r'plain\("(\w+)"\)', core)) | {"generic"}
    used = {case["profile"] for case in cases if isinstance(case["profile"], str)}
    # What these say is nothing but the usual names, which other profiles have too.
    assert built_in - used == {"groq", "okta"}
    assert used <= built_in
    assert {case["expect"]["kind"] for case in cases} == {
        "ok", "rate", "concurrency", "quota", "overload", "abuse", "auth", "fault", "refused",
    }  # fmt: skip
    assert {case["expect"]["scope"] for case in cases} == {"vendor", "credential", "bucket"}


def test_scenarios_of_waiting_are_whole() -> None:
    scenarios = json.loads((HERE / "waiting.json").read_text())["scenarios"]
    names = [scenario["name"] for scenario in scenarios]
    assert len(names) == len(set(names))
    for scenario in scenarios:
        arrived = [id for event in scenario["events"] if event["do"] == "arrive" for id in event["ids"]]
        assert len(arrived) == len(set(arrived)), scenario["name"]
        assert set(arrived) == set(scenario["outcomes"]), scenario["name"]
        # JavaScript counts in milliseconds.
        assert all(int(event["at"]) % 10**6 == 0 for event in scenario["events"]), scenario["name"]
    # Every rule of waiting has a scenario, and there are enough that can be run in real time.
    assert {name[:2] for name in names if name[0] == "A"} == {"A1", "A2", "A3", "A4", "A7", "A8"}
    assert sum(scenario["real_time"] for scenario in scenarios) >= 30
