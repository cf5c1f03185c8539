#!/usr/bin/env bash
# Runs the tests, all stages or the named ones, after setting up and building what they need.
#
#   scripts/test.sh [stage...]
#
#   lint        formatting, and the lints of every language
#   core        tidegate-core needs neither std nor alloc nor a dependency
#   vectors     the vectors are what the oracle says, and fit their schemas
#   rust        the Rust tests, and that the benchmarks run
#   fuzz        each fuzz target for 20 s
#   python      the Python package
#   wasm        the WebAssembly package, also in a browser
#   node        the Node package
#   javascript  both JavaScript packages as npm would publish them: test runners, edge runtimes, bundlers
#   envoy       the filter and the quota service, with a real Envoy
#   end-to-end  fleets of real processes on real stores
#   bench       that the benchmarks of shared buckets and of Envoy run, and every contender answers right
#   docs        the API documentation, links, and the file names in the documents
#
# A failed stage does not stop the others. A stage fails if no test ran or if one was skipped. The
# output of a stage is in .build/logs/<stage>.log, and nothing that it started outlives it. The last
# line is "N passed, N failed".
set -euo pipefail
# shellcheck source=scripts/project.sh
. "$(dirname "${BASH_SOURCE[0]}")/project.sh"
# shellcheck source=scripts/supervise.sh
. "$SCRIPTS/supervise.sh"
# shellcheck source=scripts/count-tests.sh
. "$SCRIPTS/count-tests.sh"
adopt_orphans "$SCRIPT_PATH" "$@"

ALL_STAGES="lint core vectors rust fuzz python wasm node javascript envoy end-to-end bench docs"
SUMMARY="$PROJECT_ROOT/.build/test-summary.txt"
export LEFTOVERS_FAIL=1 # a server that a test leaves running is a failure of its stage

total_passed=0
total_failed=0
table=""
failures=""

main() {
    local stage
    rm -f "$SUMMARY"
    # shellcheck disable=SC2086 # a list of words
    [ $# -gt 0 ] || set -- $ALL_STAGES
    for stage in "$@"; do
        case " $ALL_STAGES " in
        *" $stage "*) ;;
        *) complain "no such stage: $stage (there are: $ALL_STAGES)"; exit 2 ;;
        esac
    done

    run_preparation setup "$SCRIPTS/setup.sh" "$(needs_of_all setup "$@")"
    run_preparation build "$SCRIPTS/build.sh" "$(needs_of_all build "$@")"
    use_venv
    for stage in "$@"; do
        run_stage "$stage"
    done
    print_table
    printf '%s' "$failures"
    printf '%d passed, %d failed\n' "$total_passed" "$total_failed" | tee "$SUMMARY"
    [ "$total_failed" -eq 0 ]
}

# --- the stages --------------------------------------------------------------------------------

stage_lint() {
    local status=0
    cargo fmt --all --check || status=1
    cargo fmt --manifest-path fuzz/Cargo.toml --check || status=1
    cargo clippy --workspace --all-targets --locked -- -D warnings || status=1
    cargo-deny --locked check licenses bans sources || status=1
    "$SCRIPTS/check-features.sh" || status=1
    "$SCRIPTS/check-rust-version.sh" || status=1
    ruff check . || status=1
    tests/node_modules/.bin/biome lint --colors=off --error-on-warnings . || status=1
    shell_scripts | xargs -0 shellcheck --external-sources --shell=bash || status=1
    python "$SCRIPTS/check_comments.py" || status=1
    return "$status"
}

shell_scripts() {
    find . \( -name target -o -name node_modules -o -name '.?*' \) -prune -o -name '*.sh' -print0
    printf '.ci/run\0'
}

stage_core() {
    "$SCRIPTS/check-core-purity.sh"
}

stage_vectors() {
    run_pytest tests/vectors
}

stage_rust() {
    local status=0
    cargo test --locked --no-fail-fast || status=1
    # This tests only that they run: a benchmark is not a timed test.
    cargo test --locked -p tidegate-bench || status=1
    return "$status"
}

stage_fuzz() {
    # The inputs are the same each time, so this tests a change; `make fuzz` searches for new ones.
    FUZZ_SEED=1 "$SCRIPTS/fuzz.sh"
}

stage_python() {
    run_pytest bindings-python/tests
}

stage_wasm() {
    run_node_tests bindings-wasm/js
}

stage_node() {
    run_node_tests bindings-node
}

stage_javascript() {
    run_node_tests tests/javascript
}

stage_envoy() {
    run_pytest tests/envoy
}

stage_end_to_end() {
    run_pytest tests/end_to_end
}

stage_bench() {
    # This tests only that they run and that every contender answers right.
    "$SCRIPTS/bench-acquire.sh" --quick && "$SCRIPTS/bench-redis.sh" --quick && "$SCRIPTS/bench-envoy.sh" --quick
}

stage_docs() {
    "$SCRIPTS/check-docs.sh"
}

run_pytest() {
    python -m pytest --color=no -ra --tb=short \
        -o asyncio_default_fixture_loop_scope=function "$@"
}

run_node_tests() {
    npm --prefix "$1" test
}

# Prints the parts of setup.sh or of build.sh that a stage needs.
needs_of() {
    case "$1:$2" in
    setup:lint) echo rust node python lint-tools ;;
    setup:core) echo rust wasm ;;
    setup:vectors) echo python ;;
    setup:rust) echo rust redis ;;
    setup:fuzz) echo rust ;;
    setup:python) echo rust redis python ;;
    setup:wasm) echo rust wasm redis node python chromium ;;
    setup:node) echo rust wasm redis node python ;;
    setup:javascript) echo rust wasm redis node chromium ;;
    setup:envoy) echo rust wasm redis python envoy ;;
    setup:end-to-end) echo rust wasm redis node python envoy faketime ;;
    setup:bench) echo rust wasm redis node python go envoy wrk ;;
    setup:docs) echo rust python ;;
    build:python) echo python ;;
    build:wasm) echo wasm-js ;;
    build:node) echo wasm-js node ;;
    build:javascript) echo wasm-js node javascript-tests ;;
    build:envoy) echo cli wasm-proxy ;;
    build:end-to-end) echo cli caller python wasm-js node wasm-proxy ;;
    build:bench) echo python wasm-js node cli wasm-proxy ;;
    esac
}

# Whether a stage counts as one check. In the others, the test runner counts.
is_one_check() {
    case "$1" in
    lint | core | bench | docs) true ;;
    *) false ;;
    esac
}

# --- running and counting ----------------------------------------------------------------------

needs_of_all() {
    local kind=$1 stage
    shift
    for stage in "$@"; do
        needs_of "$kind" "$stage"
    done | tr ' ' '\n' | awk 'NF && !seen[$0]++' | tr '\n' ' '
}

run_preparation() {
    local name=$1 script=$2 parts=$3 started=$SECONDS status=0
    [ -n "$parts" ] || return 0
    heading "$name" "$parts"
    # shellcheck disable=SC2086 # a list of words
    run_supervised "$script" $parts || status=$?
    record_one_check "$name" "$status" $((SECONDS - started))
}

run_stage() {
    local stage=$1 log="$LOGS/$1.log" started=$SECONDS status=0
    heading "$stage"
    run_logged "$stage" "$log" "stage_${stage//-/_}" || status=$?
    if is_one_check "$stage"; then
        record_one_check "$stage" "$status" $((SECONDS - started))
    else
        record_counted_tests "$stage" "$status" $((SECONDS - started)) "$log"
    fi
}

record_one_check() {
    if [ "$2" -eq 0 ]; then
        record "$1" 1 0 "$3" ""
    else
        record "$1" 0 1 "$3" "$(how_it_ended "$2")"
    fi
}

record_counted_tests() {
    local stage=$1 status=$2 seconds=$3 passed failed skipped remark=""
    read -r passed failed skipped <<<"$(count_tests "$4")"
    if [ "$skipped" -gt 0 ]; then
        failed=$((failed + skipped))
        remark="$skipped skipped"
    fi
    if [ "$failed" -eq 0 ] && [ "$status" -ne 0 ]; then
        failed=1
        remark=$(how_it_ended "$status")
    elif [ $((passed + failed)) -eq 0 ]; then
        failed=1
        remark="no test ran"
    fi
    record "$stage" "$passed" "$failed" "$seconds" "$remark"
    if [ "$failed" -gt 0 ]; then
        failures="$failures$(failed_tests "$4" | sed "s/^/$stage: /")
"
    fi
}

how_it_ended() {
    if [ "$1" -eq "$LEFT_PROCESSES" ]; then echo "left processes running"; else echo "ended with status $1"; fi
}

record() {
    local name=$1 passed=$2 failed=$3 seconds=$4 remark=$5
    total_passed=$((total_passed + passed))
    total_failed=$((total_failed + failed))
    table="$table$name|$passed|$failed|$seconds|$remark
"
    printf '%s: %d passed, %d failed in %d s%s\n' "$name" "$passed" "$failed" "$seconds" "${remark:+ ($remark)}"
}

heading() {
    printf '\n=== %s%s  [%d min %02d s]\n' "$1" "${2:+: $2}" $((SECONDS / 60)) $((SECONDS % 60))
}

print_table() {
    local name passed failed seconds remark
    printf '\n%-12s %7s %7s %8s\n' stage passed failed seconds
    while IFS='|' read -r name passed failed seconds remark; do
        [ -z "$name" ] || printf '%-12s %7d %7d %8d  %s\n' "$name" "$passed" "$failed" "$seconds" "$remark"
    done <<<"$table"
    printf '%-12s %7d %7d %8d\n' all "$total_passed" "$total_failed" "$SECONDS"
}

main "$@"
