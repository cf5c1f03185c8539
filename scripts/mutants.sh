#!/usr/bin/env bash
# Tests the engine by mutation: changes every operator, comparison, constant and match arm of
# tidegate-core, one at a time; the crate's tests must fail each time. If they do not, and the change
# is in the lock-free table, a loom model must fail, because some errors need a second thread.
#
#   scripts/mutants.sh [arguments of cargo mutants...]     such as --file core/src/gcra.rs
#   SHARD=0/8 scripts/mutants.sh                           the first of eight equal parts, k/n from 0/n on
#   CRATE=tidegate-protocol SHARD=0/8 scripts/mutants.sh   of another crate
#
# .cargo/mutants.toml lists the mutants that no test can tell apart, with the reasons. The results are
# in .build/mutants.out, those of the models in .build/models. A run takes an hour on two cores that do
# nothing else. On busy ones set CARGO_MUTANTS_MINIMUM_TEST_TIMEOUT=60 (seconds), or a test that is
# only slow counts as a hang.
set -euo pipefail
# shellcheck source=scripts/project.sh
. "$(dirname "${BASH_SOURCE[0]}")/project.sh"

VERSION=27.1.0
ROOT="${XDG_CACHE_HOME:-$HOME/.cache}/tidegate/cargo-mutants-$VERSION"
# The status of cargo mutants when mutants hang. A hang is noticed too, so it is no failure.
STATUS_TIMEOUTS=3

TABLE='^core/src/table/'

main() {
    local missed=.build/mutants.out/missed.txt
    if [ ! -x "$ROOT/bin/cargo-mutants" ]; then
        say "building cargo-mutants $VERSION, once (a few minutes); it goes to $ROOT"
        cargo install cargo-mutants --version "=$VERSION" --locked --root "$ROOT"
    fi
    mutate --output .build "$@" -- --tests && return
    [ -s "$missed" ] || return
    if grep -v "$TABLE" "$missed"; then
        say "no test fails on these"
        return 1
    fi
    say "the loom models, on the mutants of the table that are left"
    mkdir -p .build/models
    SHARD='' mutate --output .build/models --test-package tidegate-loom --timeout 900 \
        --file 'core/src/table/*.rs' --re "$(any_of <"$missed")" -- --lib
}

# Runs cargo mutants. Each mutant is built in a copy with a target directory of its own. Failures are
# not shrunk. With a little optimization the tests take a tenth of the time and the builds hardly
# longer; run-time checks such as overflow checks stay on.
mutate() {
    local status=0
    [ -z "${SHARD:-}" ] || set -- --shard "$SHARD" "$@"
    env -u CARGO_TARGET_DIR PROPTEST_MAX_SHRINK_ITERS=0 CARGO_PROFILE_DEV_OPT_LEVEL=1 \
        CARGO_PROFILE_DEV_DEBUG=false "$ROOT/bin/cargo-mutants" mutants \
        --package "${CRATE:-tidegate-core}" --jobs "$(getconf _NPROCESSORS_ONLN)" --colors never \
        --cargo-arg=--locked "$@" || status=$?
    [ "$status" -eq 0 ] || [ "$status" -eq "$STATUS_TIMEOUTS" ]
}

# Prints a pattern that matches exactly the lines of its input.
any_of() {
    # shellcheck disable=SC2016 # the dollar signs are the pattern's
    sed 's/[][\\.*^$()+?{}|]/\\&/g; s/.*/^&$/' | paste -sd '|'
}

main "$@"
