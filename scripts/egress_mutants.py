"""Plants errors in copies of the egress machine, one at a time, and runs its random histories on each.

    python3 scripts/egress_mutants.py [name...]

Prints for each planted error whether a history found it. The status is 1 if one survives or does not
compile. The sources themselves are not touched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# The name, the text of core/src/egress/machine.rs that is replaced, and what is planted instead.
PLANTED = [
    ("dispatch-behind-the-gate",
     "|| if blocked { self.take_token_back() } else { self.dispatch(now) }",
     "|| self.dispatch(now)"),
    ("dispatch-without-token",
     "let index = self.oldest(|slot| slot.phase == Phase::Granted)?;",
     "let index = self.oldest(HeldMessage::is_waiting)?;"),
    ("dispatch-without-permit", "if self.in_hand() > self.permits {", "if false {"),
    ("receive-without-permit", ".min(self.permits.saturating_sub(self.in_hand()))", ".min(self.permits)"),
    ("two-receives", "if count == 0 || self.receiving.is_some() {", "if count == 0 {"),
    ("more-ahead", ".min(self.terms.ahead.saturating_sub(self.waiting()))", ".min(self.terms.ahead)"),
    ("token-is-kept",
     "let index = self.oldest(|slot| slot.has_asked && !slot.is_waiting())?;",
     "let index = self.oldest(|_| false)?;"),
    ("stale-without-median",
     "leaves.saturating_add(self.p50) > slot.message.deadline",
     "leaves > slot.message.deadline"),
    ("stale-too-early",
     "leaves.saturating_add(self.p50) > slot.message.deadline",
     "leaves.saturating_add(self.p50).saturating_add(200) > slot.message.deadline"),
    ("one-attempt-more",
     "if message.attempts >= self.terms.max_attempts =>",
     "if message.attempts > self.terms.max_attempts =>"),
    ("one-attempt-less",
     "if message.attempts > self.terms.max_attempts {",
     "if message.attempts >= self.terms.max_attempts {"),
    ("extension-too-late",
     "&& now >= slot.visible_at.saturating_sub(visibility / 2)",
     "&& now >= slot.visible_at.saturating_sub(visibility / 8)"),
    ("extension-above-the-cap",
     "slot.visible_at = now.saturating_add(visibility).min(cap);",
     "slot.visible_at = now.saturating_add(visibility);"),
    ("lapsed-stays", "if now >= slot.visible_at {", "if false {"),
    ("hold-forgets",
     "self.held_until = self.held_until.max(until);\n        self.hold_to_tell",
     "self.held_until = until;\n        self.hold_to_tell"),
    ("hold-untold", "self.hold_to_tell = Some(self.held_until);", ""),
    ("returns-before-the-hold",
     "let delay = hold.saturating_add(part(&message, self.terms.jitter));",
     "let delay = hold / 2;"),
    ("hold-is-an-attempt",
     ("self.give_back(now, index, delay, false);\n                }\n"
     "            }\n            EgressResponse::Busy"),
     "self.give_back(now, index, delay, true);\n                }\n            }\n            EgressResponse::Busy"),
    ("back-off-stands-still", "let doublings = message.attempts.saturating_sub(1).min(63);", "let doublings = 0;"),
    ("keys-without-order", "|| message.key == 0\n", "|| message.key == 0 || true\n"),
    ("only-one-of-a-key-returns", "if self.terms.order == EgressOrder::Key && message.key != 0 {", "if false {"),
    ("commit-past-a-hole",
     "unfinished.map(|slot| slot.message.offset).fold(next, u64::min)",
     "{ let _ = unfinished; next }"),
    ("no-seek",
     ("            if message.offset < partition.next {\n                partition.next = message.offset;\n"
     "                partition.must_seek = true;"),
     "            if message.offset < partition.next {\n                partition.next = message.offset;"),
    ("finished-leaves-again", "if in_hand || offset < slot.next {", "if offset < slot.next {"),
    ("no-fence", "if slot.generation != message.generation {", "if false {"),
    ("fenced-calls-count", "Phase::Sent => slot.phase = Phase::Fenced,", "Phase::Sent => {}"),
    ("resumes-too-early", "let is_due = now >= slot.resume_at;", "let is_due = true;"),
    ("no-pause", "if !slot.is_paused && (!is_due || !has_room) {", "if false {"),
    ("stop-keeps-permits", "(true, _) => self.in_hand() + receiving,", "(true, _) => return None,"),
    ("probes-without-end", "self.probes = self.probes.map(|probes| probes.saturating_sub(1));", ""),
]
TIMEOUT_SECONDS = 300

ROOT = Path(__file__).resolve().parents[1]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "egress-mutants"


def main(names: list[str]) -> None:
    unknown = set(names) - {name for name, *_ in PLANTED}
    if unknown:
        sys.exit(f"no such planted error: {', '.join(sorted(unknown))}")
    survived = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        # The workspace's members must be there, but only the core is built.
        for entry in ROOT.iterdir():
            if entry.name == "core":
                shutil.copytree(entry, copy / "core")
            elif entry.name not in {"target", ".git", ".build", ".venv"}:
                (copy / entry.name).symlink_to(entry)
        machine = copy / "core" / "src" / "egress" / "machine.rs"
        source = machine.read_text()
        for name, before, after in PLANTED:
            if names and name not in names:
                continue
            if source.count(before) != 1:
                sys.exit(f"{name}: its text is {source.count(before)} times in the machine")
            machine.write_text(source.replace(before, after))
            found = verdict(copy)
            survived += found != "found"
            print(f"{name}: {found}", flush=True)
    sys.exit(1 if survived else 0)


def verdict(copy: Path) -> str:
    command = ["cargo", "test", "-q", "-p", "tidegate-core", "--locked", "--test", "egress"]
    environment = {**os.environ, "CARGO_TARGET_DIR": str(TARGET), "RUST_BACKTRACE": "0"}
    quiet = {"cwd": copy, "env": environment, "capture_output": True}
    if subprocess.run([*command, "--no-run"], check=False, **quiet).returncode:
        return "does not compile"
    try:
        ended = subprocess.run(command, check=False, timeout=TIMEOUT_SECONDS, **quiet)
    except subprocess.TimeoutExpired:
        return "found"
    return "found" if ended.returncode else "SURVIVED"


if __name__ == "__main__":
    main(sys.argv[1:])
