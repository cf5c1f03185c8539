#!/usr/bin/env bash
# Plants errors in copies of the table, one at a time, and runs the loom models on each.
#
#   scripts/loom-mutants.sh [name...]
#
# Prints "killed" or "survived" for each planted error and fails when one survives or does not
# compile. The sources themselves are not touched.
set -euo pipefail
# shellcheck source=scripts/project.sh
. "$(dirname "${BASH_SOURCE[0]}")/project.sh"

exec python3 - "$PROJECT_ROOT" "$@" <<'PYTHON'
import contextlib, os, pathlib, re, shutil, signal, subprocess, sys, tempfile, threading

# Name, file of core/src/table, what is there once, what is planted instead.
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


def main(root, names):
    known = [name for name, *_ in PLANTED]
    unknown = set(names) - set(known)
    if unknown:
        sys.exit(f"no such planted error: {', '.join(sorted(unknown))} (there are: {' '.join(known)})")
    survived = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder)
        copy_workspace(root, copy)
        if not compiles(copy) or killer(copy):
            sys.exit("the models fail without a planted error")
        for name, file, there, planted in PLANTED:
            if names and name not in names:
                continue
            source = copy / "core/src/table" / file
            text = source.read_text()
            if text.count(there) != 1:
                sys.exit(f"{name}: what it replaces in {file} is there {text.count(there)} times, not once")
            source.write_text(text.replace(there, planted))
            if not compiles(copy):
                sys.exit(f"{name}: does not compile")
            killed_by = killer(copy)
            source.write_text(text)
            survived += not killed_by
            print(f"{name}: {f'killed by {killed_by}' if killed_by else 'survived'}", flush=True)
    sys.exit(f"{survived} survived" if survived else 0)


def copy_workspace(root, copy):
    shutil.copytree(root / "core/src", copy / "core/src")
    shutil.copytree(root / "tests/loom", copy / "tests/loom")
    shutil.copy(root / "Cargo.lock", copy)
    manifest = (root / "Cargo.toml").read_text()
    manifest = re.sub(r"^default-members = .*\n", "", manifest, flags=re.M)
    manifest = re.sub(r"^members = \[.*?^\]", 'members = ["tests/loom"]', manifest, flags=re.M | re.S)
    (copy / "Cargo.toml").write_text(manifest)


def killer(copy):
    """The first model that fails, or how else the models end; None when all hold."""
    with start(copy) as models:
        late = threading.Timer(TIMEOUT_SECONDS, stop, [models])
        late.start()
        output = []
        try:
            for line in models.stdout:
                output.append(line)
                if failed := re.fullmatch(r"test models::(\S+) \.\.\. FAILED\n", line):
                    return failed[1]
                # Loom ends the whole process where a loop has no end.
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


def start(copy, *options):
    command = ["cargo", "test", "--package", "tidegate-loom", "--lib", *options]
    env = {**os.environ, "CARGO_TARGET_DIR": str(target), "RUST_BACKTRACE": "0"}
    return subprocess.Popen(command, cwd=copy, env=env, text=True, start_new_session=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def stop(models):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(models.pid, signal.SIGKILL)


def compiles(copy):
    with start(copy, "--no-run") as build:
        build.communicate()
    return build.returncode == 0


root = pathlib.Path(sys.argv[1])
target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", root / "target")) / "loom-mutants"
main(root, sys.argv[2:])
PYTHON
