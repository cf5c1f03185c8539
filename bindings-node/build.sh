#!/usr/bin/env bash
# Builds dist/: the native addon, the in-memory engine of ../bindings-wasm/js, and the JavaScript
# around them. Does nothing when dist/ is newer than everything it is made from.
# CARGO_TARGET_DIR is respected.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

MEMORY=../bindings-wasm/js
# shellcheck source=bindings-wasm/js/commonjs.sh
. "$MEMORY/commonjs.sh"
STAMP=dist/.built

main() {
    "$MEMORY/build.sh"
    if up_to_date; then
        say "dist is up to date"
        return
    fi
    rm -rf dist
    mkdir -p dist/memory
    touch "$STAMP.begun" # what is edited from here on is newer than this build
    say "compiling the native addon"
    cargo build --release --locked --package tidegate-node
    cp "$(addon_artifact)" dist/tidegate.node
    # Symbols for debuggers are nine tenths of it.
    ! command -v strip >/dev/null || strip -S dist/tidegate.node
    cp "$MEMORY"/dist/*.js dist/memory/
    cp lib/*.js dist/
    bundle_as_commonjs dist/index.js dist/index.cjs
    rm dist/*.js dist/memory/*.js # these are in the bundle
    wrap_for_import dist/index.cjs >dist/index.js
    cp "$MEMORY"/dist/*.d.ts "$MEMORY"/dist/*.d.cts dist/memory/
    cp lib/index.d.ts dist/
    sed 's#memory/index\.js#memory/index.cjs#' lib/index.d.ts >dist/index.d.cts
    cp ../LICENSE-* .
    mv "$STAMP.begun" "$STAMP"
    say "dist is built"
}

up_to_date() {
    [ -e "$STAMP" ] && [ -e LICENSE-MIT ] && [ -z "$(find build.sh build.rs Cargo.toml src lib ../core/Cargo.toml ../core/src \
        ../runtime/Cargo.toml ../runtime/src ../runtime/protocol/Cargo.toml ../runtime/protocol/src \
        ../Cargo.toml ../Cargo.lock "$MEMORY/dist/.built" \
        -newer "$STAMP" -type f -print -quit)" ]
}

addon_artifact() {
    local folder="${CARGO_TARGET_DIR:-../target}/release" name
    for name in libtidegate_node.so libtidegate_node.dylib tidegate_node.dll; do
        if [ -e "$folder/$name" ]; then
            echo "$folder/$name"
            return
        fi
    done
    say "cargo left no addon in $folder" >&2
    return 1
}

say() {
    printf 'bindings-node: %s\n' "$*"
}

main
