#!/usr/bin/env bash
# Mutation testing of the engine: every operator, comparison, constant and match arm of
# tidegate-core is changed, one at a time, and its tests must fail. Where they do not, and it is
# the lock-free table that was changed, a loom model must: some errors take a second thread.
#
#   scripts/mutants.sh [arguments of cargo mutants...]     such as --file core/src/gcra.rs
#
# Mutants that no test can tell apart are listed, with the reason, in .cargo/mutants.toml. The
# results are in .build/mutants.out, those of the models in .build/models. An hour on two
# cores that do nothing else; on busy ones set CARGO_MUTANTS_MINIMUM_TEST_TIMEOUT=60 (seconds), or
# tests that are only slow are taken to hang.
set -euo pipefail
# shellcheck source=scripts/project.sh
. "$(dirname "${BASH_SOURCE[0]}")/project.sh"

VERSION=27.1.0
ROOT="${XDG_CACHE_HOME:-$HOME/.cache}/tidegate/cargo-mutants-$VERSION"
# A mutant that hangs has been noticed too.
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
    mutate --output .build/models --test-package tidegate-loom --timeout 900 \
        --file 'core/src/table/*.rs' --re "$(any_of <"$missed")" -- --lib
}

# Every mutant is built in a copy with a target directory of its own; a failure need not be made
# small. A little optimized, the tests take a tenth of the time, and the builds hardly longer; what
# the machine checks at run time stays checked.
mutate() {
    local status=0
    env -u CARGO_TARGET_DIR PROPTEST_MAX_SHRINK_ITERS=0 CARGO_PROFILE_DEV_OPT_LEVEL=1 \
        CARGO_PROFILE_DEV_DEBUG=false "$ROOT/bin/cargo-mutants" mutants \
        --package tidegate-core --jobs "$(getconf _NPROCESSORS_ONLN)" --colors never \
        --cargo-arg=--locked "$@" || status=$?
    [ "$status" -eq 0 ] || [ "$status" -eq "$STATUS_TIMEOUTS" ]
}

# Prints a pattern that matches exactly the lines of its input.
any_of() {
    # shellcheck disable=SC2016 # the dollar signs are the pattern's
    sed 's/[][\\.*^$()+?{}|]/\\&/g; s/.*/^&$/' | paste -sd '|'
}

main "$@"
