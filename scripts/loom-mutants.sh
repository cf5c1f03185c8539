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
import os, pathlib, re, shutil, subprocess, sys, tempfile

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
    ("tiers-give-nothing-back", "tiers.rs",
     "table.give_back(receipt, self.cost * timeline.width(), elapsed);", "let _ = (table, elapsed, receipt);"),
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
        if run(copy, "--no-run").returncode or run(copy).returncode:
            sys.exit("the models fail without a planted error")
        for name, file, there, planted in PLANTED:
            if names and name not in names:
                continue
            source = copy / "core/src/table" / file
            text = source.read_text()
            if text.count(there) != 1:
                sys.exit(f"{name}: what it replaces in {file} is there {text.count(there)} times, not once")
            source.write_text(text.replace(there, planted))
            if run(copy, "--no-run").returncode:
                sys.exit(f"{name}: does not compile")
            killers = failed_models(copy)
            source.write_text(text)
            survived += not killers
            verdict = f"killed by {', '.join(killers)}" if killers else "survived"
            print(f"{name}: {verdict}", flush=True)
    sys.exit(f"{survived} survived" if survived else 0)


def copy_workspace(root, copy):
    shutil.copytree(root / "core/src", copy / "core/src")
    shutil.copytree(root / "tests/loom", copy / "tests/loom")
    shutil.copy(root / "Cargo.lock", copy)
    manifest = (root / "Cargo.toml").read_text()
    manifest = re.sub(r"^default-members = .*\n", "", manifest, flags=re.M)
    manifest = re.sub(r"^members = \[.*?^\]", 'members = ["tests/loom"]', manifest, flags=re.M | re.S)
    (copy / "Cargo.toml").write_text(manifest)


def failed_models(copy):
    try:
        result = run(copy)
    except subprocess.TimeoutExpired:
        return ["the time limit"]
    failed = re.findall(r"^test models::(\w+) \.\.\. FAILED$", result.stdout, flags=re.M)
    # Loom ends the whole process where a loop has no end.
    endless = "exceeded maximum number of branches" in result.stdout
    if result.returncode and not failed and not endless:
        sys.exit(f"the models ended with {result.returncode}, and none has failed:\n{result.stdout}")
    return failed or (["a loop without end"] if endless else [])


def run(copy, *options):
    command = ["cargo", "test", "--package", "tidegate-loom", "--lib", *options]
    env = {**os.environ, "CARGO_TARGET_DIR": str(target), "RUST_BACKTRACE": "0"}
    return subprocess.run(command, cwd=copy, env=env, timeout=TIMEOUT_SECONDS, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


root = pathlib.Path(sys.argv[1])
target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", root / "target")) / "loom-mutants"
main(root, sys.argv[2:])
PYTHON
