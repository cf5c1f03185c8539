#!/usr/bin/env bash
# Builds Tidegate, all of it or the named parts. scripts/setup.sh installs what that needs.
#
#   scripts/build.sh [part...]     parts: cli caller python wasm-js node javascript-tests wasm-proxy
#
# The native parts use one cargo profile and one target directory (CARGO_TARGET_DIR, or target/), so
# that common dependencies are compiled once.
set -euo pipefail
# shellcheck source=scripts/project.sh
. "$(dirname "${BASH_SOURCE[0]}")/project.sh"
# shellcheck source=scripts/supervise.sh
. "$SCRIPTS/supervise.sh"
adopt_orphans "$SCRIPT_PATH" "$@"
use_venv

ALL_PARTS="cli caller python wasm-js node javascript-tests wasm-proxy"

main() {
    local part failed=""
    # shellcheck disable=SC2086 # a list of words
    [ $# -gt 0 ] || set -- $ALL_PARTS
    for part in "$@"; do
        case " $ALL_PARTS " in
        *" $part "*) ;;
        *) complain "no such part: $part (there are: $ALL_PARTS)"; exit 2 ;;
        esac
    done
    # A part may need those before it in ALL_PARTS, so that order is kept.
    for part in $ALL_PARTS; do
        case " $* " in
        *" $part "*) build_part "$part" || failed="$failed $part" ;;
        esac
    done
    [ -z "$failed" ] || { complain "not built:$failed"; exit 1; }
}

build_part() {
    local part=$1 log="$LOGS/build-$1.log" started=$SECONDS
    say "building $part"
    if run_logged "build $part" "$log" "build_${part//-/_}"; then
        say "$part built in $((SECONDS - started)) s"
    else
        complain "building $part failed after $((SECONDS - started)) s; its output is in $log"
        return 1
    fi
}

build_cli() {
    cargo build --release --locked -p tidegate-cli
}

# The Rust process of the end-to-end tests.
build_caller() {
    cargo build --release --locked -p tidegate-caller
}

build_python() {
    maturin develop --release --locked --manifest-path bindings-python/Cargo.toml
}

build_wasm_js() {
    npm_packages_of bindings-wasm/js && bindings-wasm/js/build.sh
}

build_node() {
    npm_packages_of bindings-node && npm --prefix bindings-node run build
}

# The bundlers, test runners and runtimes with which the packages are tested.
build_javascript_tests() {
    npm_packages_of tests/javascript
}

build_wasm_proxy() {
    bindings-wasm/proxy/build.sh --locked
}

main "$@"
