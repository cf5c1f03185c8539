"""Plants errors in copies of the lock-free table, one at a time, and runs the loom models on each.

    python3 scripts/loom_mutants.py [name...]

Prints for each planted error which model found it, or that it survived. The status is 1 if one
survives or does not compile. The sources themselves are not touched.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

# The name, the file of core/src/table, the text that is replaced, and what is planted instead.
PLANTED = [
    ("charge-without-rescue", "charge.rs",
     "if entry.word.state() == State::Leaving && !entry.become_state(State::Live) {",
     "if false {"),
    ("charge-without-second-look", "charge.rs",
     "if !entry.is_unchanged() {", "if false {"),
    ("freeze-without-leaving", "insert.rs",
     "if !self.become_state(State::Leaving) {", "if false {"),
    ("freeze-changes-nothing", "insert.rs",
     "(cell < position).then(|| cell + 1)", "(cell < position).then_some(cell)"),
    ("no-fence", "insert.rs", "        fence(Ordering::SeqCst);\n", ""),
    ("both-inserters-stay", "insert.rs", "if !withdrawn {", "if false {"),
    ("inserted-meanwhile-is-refused", "insert.rs",
     "_ if self.find(fingerprint).is_some() => return Ok(None),", ""),
    ("version-stands-still", "word.rs",
     "let version = (self.version() + 1) & VERSION_MASK;", "let version = self.version();"),
    ("insertion-never-withdrawn", "mod.rs",
     "        self.advance(self.word.vacated());\n    }\n}", "    }\n}"),
    ("charge-without-last-look", "charge.rs",
     "swap(&self.slot[CELL], before, after) && self.is_same_stay()",
     "swap(&self.slot[CELL], before, after)"),
    ("read-without-second-look", "charge.rs",
     "entry.is_unchanged().then_some((entry, cell))", "Some((entry, cell))"),
    ("read-live-slots-only", "mod.rs", "None => self.read_any(fingerprint),", "None => 0,"),
    ("charge-although-leaving", "mod.rs",
     "                if entry.word.is_live_of(fingerprint) {",
     "                if entry.word.is_of(fingerprint) && entry.word.has_bucket() {"),
    ("give-back-to-the-next-key", "charge.rs",
     "if !entry.is_same_stay() {", "if false {"),
    ("give-back-what-others-charged", "charge.rs",
     "cell.saturating_sub(charge.saturating_sub(elapsed))",
     "{ let _ = (charge, elapsed); before }"),
    ("tiers-give-nothing-back", "tiers.rs",
     "            self.give_back(&receipts, clock.now());\n", "            let _ = clock;\n"),
    ("tiers-give-back-to-another-tier", "tiers.rs",
     "receipts[charged] = entries[charged].map(", "receipts[charged] = entries[tier].map("),
    ("tiers-forget-what-was-charged-as-seen", "tiers.rs",
     "for charged in 0..tier {", "for charged in 0..0 {"),
    ("tiers-charge-again-what-was-charged", "tiers.rs",
     "let mut attempts = ATTEMPTS;", "let mut attempts = ATTEMPTS;\n        first = 0;"),
    ("cancel-whatever-is-there", "operations.rs",
     "(cell == *after).then_some(*before)", "(cell >= *before).then_some(*before)"),
]
TIMEOUT_SECONDS = 300

ROOT = Path(__file__).resolve().parents[1]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "loom-mutants"


def main(names: list[str]) -> None:
    known = [name for name, *_ in PLANTED]
    unknown = set(names) - set(known)
    if unknown:
        sys.exit(f"no such planted error: {', '.join(sorted(unknown))} (there are: {' '.join(known)})")
    survived = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        copy_workspace(copy)
        if not compiles(copy) or killer(copy):
            sys.exit("the models fail without a planted error")
        for name, file, there, planted in PLANTED:
            if names and name not in names:
                continue
            source = copy / "core/src/table" / file
            text = source.read_text()
            if text.count(there) != 1:
                sys.exit(f"{name}: the text to replace is {text.count(there)} times in {file}, not once")
            source.write_text(text.replace(there, planted))
            if not compiles(copy):
                sys.exit(f"{name}: does not compile")
            killed_by = killer(copy)
            source.write_text(text)
            survived += not killed_by
            print(f"{name}: {f'killed by {killed_by}' if killed_by else 'survived'}", flush=True)
    sys.exit(f"{survived} survived" if survived else 0)


def copy_workspace(copy: Path) -> None:
    # tests/loom compiles files of the first two.
    for folder in ("core/src", "runtime/src", "tests/loom"):
        shutil.copytree(ROOT / folder, copy / folder)
    shutil.copy(ROOT / "Cargo.lock", copy)
    manifest = (ROOT / "Cargo.toml").read_text()
    manifest = re.sub(r"^default-members = .*\n", "", manifest, flags=re.M)
    manifest = re.sub(r"^members = \[.*?^\]", 'members = ["tests/loom"]', manifest, flags=re.M | re.S)
    (copy / "Cargo.toml").write_text(manifest)


def killer(copy: Path) -> str | None:
    """The first model that fails, or what else ended the models; None if all hold."""
    with start(copy) as models:
        late = threading.Timer(TIMEOUT_SECONDS, stop, [models])
        late.start()
        output = []
        try:
            for line in models.stdout:
                output.append(line)
                if failed := re.fullmatch(r"test models::(\S+) \.\.\. FAILED\n", line):
                    return failed[1]
                # Loom ends the whole process if a loop has no end.
                if "exceeded maximum number of branches" in line:
                    return "a loop without end"
            if models.wait() == 0:
                return None
            if not late.is_alive():
                return "the time limit"
        finally:
            late.cancel()
            stop(models)
        sys.exit(f"the models ended with {models.returncode}, and none has failed:\n{''.join(output)}")


def start(copy: Path, *options: str) -> subprocess.Popen[str]:
    command = ["cargo", "test", "--package", "tidegate-loom", "--lib", *options]
    env = {**os.environ, "CARGO_TARGET_DIR": str(TARGET), "RUST_BACKTRACE": "0"}
    return subprocess.Popen(command, cwd=copy, env=env, text=True, start_new_session=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def stop(models: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(models.pid, signal.SIGKILL)


def compiles(copy: Path) -> bool:
    with start(copy, "--no-run") as build:
        build.communicate()
    return build.returncode == 0


if __name__ == "__main__":
    main(sys.argv[1:])
