#!/usr/bin/env bash
# Mutation testing of the engine: every operator, comparison, constant and match arm of
# tidegate-core is changed, one at a time, and its tests must fail.
#
#   scripts/mutants.sh [arguments of cargo mutants...]     such as --file core/src/gcra.rs
#
# Mutants that no test can tell apart are listed, with the reason, in .cargo/mutants.toml. The
# results are in .build/mutants.out. Some five minutes on two cores.
set -euo pipefail
# shellcheck source=scripts/project.sh
. "$(dirname "${BASH_SOURCE[0]}")/project.sh"

VERSION=27.1.0
ROOT="${XDG_CACHE_HOME:-$HOME/.cache}/tidegate/cargo-mutants-$VERSION"
# A mutant that hangs has been noticed too.
STATUS_TIMEOUTS=3

main() {
    local status=0
    if [ ! -x "$ROOT/bin/cargo-mutants" ]; then
        say "building cargo-mutants $VERSION, once (a few minutes); it goes to $ROOT"
        cargo install cargo-mutants --version "=$VERSION" --locked --root "$ROOT"
    fi
    # Every mutant is built in a copy with a target directory of its own; a failure need not be
    # made small.
    env -u CARGO_TARGET_DIR PROPTEST_MAX_SHRINK_ITERS=0 "$ROOT/bin/cargo-mutants" mutants \
        --package tidegate-core --jobs "$(getconf _NPROCESSORS_ONLN)" --colors never \
        --output .build --cargo-arg=--locked "$@" -- --tests || status=$?
    [ "$status" -eq 0 ] || [ "$status" -eq "$STATUS_TIMEOUTS" ]
}

main "$@"
