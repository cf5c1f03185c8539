#!/usr/bin/env bash
# Runs the fuzz targets of fuzz/, each for a bounded time, as many at once as there are cores.
#
#   scripts/fuzz.sh [seconds per target] [target...]     default: 20 s, all targets
#
# It needs neither cargo-fuzz nor a nightly compiler: libfuzzer-sys links libFuzzer in, and any rustc
# can count coverage. The first inputs are made from tests/vectors. Inputs that reach new code stay in
# .build/fuzz/corpus, so each run goes on where the last one ended. An input that crashes a target is
# kept in .build/fuzz/crashes. FUZZ_SEED=N makes a run on a new clone repeatable.
# The last line is "N passed, N failed".
set -euo pipefail
# shellcheck source=scripts/project.sh
. "$(dirname "${BASH_SOURCE[0]}")/project.sh"
# shellcheck source=scripts/supervise.sh
. "$SCRIPTS/supervise.sh"
adopt_orphans "$SCRIPT_PATH" "$@"

ALL_TARGETS="grammar steps operations value signal filter_config usage"
WORK="$PROJECT_ROOT/.build/fuzz"
# The ordinary builds have another directory, because here everything is built with coverage.
TARGET_DIR="$CARGO_TARGET_DIR/fuzz"
LONGEST_INPUT=4096
SLOWEST_INPUT_SECONDS=10
# 0 means a random seed.
SEED=${FUZZ_SEED:-0}

main() {
    local seconds=20 target
    case "${1:-}" in
    [0-9]*) seconds=$1; shift ;;
    esac
    # shellcheck disable=SC2086 # a list of words
    [ $# -gt 0 ] || set -- $ALL_TARGETS
    for target in "$@"; do
        case " $ALL_TARGETS " in
        *" $target "*) ;;
        *) complain "no such target: $target (there are: $ALL_TARGETS)"; exit 2 ;;
        esac
    done
    have c++ || { complain "a C++ compiler (c++) is missing; this brings it: apt-get install -y g++"; exit 1; }

    run_supervised build
    BINARIES="$TARGET_DIR/$(host_triple)/debug"
    rm -rf "$WORK/seeds" "$WORK/results"
    mkdir -p "$WORK/results"
    run_supervised "$BINARIES/seeds" "$WORK/seeds"
    say "$# targets for $seconds s each"
    run_supervised run_targets "$seconds" "$@"
    report "$@"
}

build() {
    local host
    host=$(host_triple)
    # With an explicit --target, the flags do not apply to build scripts and macros.
    RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module $(llvm_arguments \
        -sanitizer-coverage-level=4 -sanitizer-coverage-inline-8bit-counters \
        -sanitizer-coverage-pc-table -sanitizer-coverage-trace-compares)" \
        cargo build --locked --manifest-path fuzz/Cargo.toml --target "$host" --target-dir "$TARGET_DIR"
}

llvm_arguments() {
    printf -- '-Cllvm-args=%s ' "$@"
}

host_triple() {
    rustc --version --verbose | sed -n 's/^host: //p'
}

run_targets() {
    local seconds=$1 at_once
    shift
    at_once=$(getconf _NPROCESSORS_ONLN)
    for target in "$@"; do
        while [ "$(jobs -rp | wc -l)" -ge "$at_once" ]; do
            wait -n || true
        done
        run_target "$target" "$seconds" &
    done
    wait
}

# Writes "passed" or "failed" into the target's result file.
run_target() {
    local target=$1 seconds=$2 log="$LOGS/fuzz-$1.log" result=failed
    mkdir -p "$WORK/corpus/$target" "$WORK/crashes/$target"
    if "$BINARIES/$target" "$WORK/corpus/$target" "$WORK/seeds/$target" \
        -max_total_time="$seconds" -max_len="$LONGEST_INPUT" -timeout="$SLOWEST_INPUT_SECONDS" -seed="$SEED" \
        -artifact_prefix="$WORK/crashes/$target/" >"$log" 2>&1 && runs_of "$log" | grep -q '^[1-9]'; then
        result=passed
    fi
    echo "$result" >"$WORK/results/$target"
}

runs_of() {
    sed -n 's/^Done \([0-9]*\) runs in .*/\1/p' "$1"
}

report() {
    local target passed=0 failed=0
    for target in "$@"; do
        if [ "$(cat "$WORK/results/$target" 2>/dev/null)" = passed ]; then
            passed=$((passed + 1))
            say "$target: $(runs_of "$LOGS/fuzz-$target.log") inputs, nothing found"
        else
            failed=$((failed + 1))
            report_crash "$target"
        fi
    done
    printf '%d passed, %d failed\n' "$passed" "$failed"
    [ "$failed" -eq 0 ]
}

report_crash() {
    local target=$1 log="$LOGS/fuzz-$1.log" input
    complain "$target failed; its output is in $log"
    grep -a -A 3 -E 'panicked at|^==[0-9]+== ERROR' "$log" | head -n 12 >&2 || tail -n 12 "$log" >&2
    input=$(sed -n "s/.*Test unit written to //p" "$log" | tail -n 1)
    [ -n "$input" ] || return 0
    complain "the input is:"
    RUST_LIBFUZZER_DEBUG_PATH="$WORK/results/$target.input" "$BINARIES/$target" "$input" >/dev/null 2>&1 || true
    head -c 4000 "$WORK/results/$target.input" >&2 || true
    complain "to see it again: $BINARIES/$target $input"
}

main "$@"
