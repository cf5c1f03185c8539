#!/usr/bin/env bash
# Builds dist/: the engine as a WebAssembly module, its glue, and the JavaScript around them, as ES modules and as one
# CommonJS file.
# Does nothing when dist/ is newer than everything it is made from. CARGO_TARGET_DIR is respected.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=scripts/wasm-toolchain.sh
. ../../scripts/wasm-toolchain.sh
# shellcheck source=bindings-wasm/js/commonjs.sh
. ./commonjs.sh

PACKAGE=tidegate-wasm
NAME=tidegate_wasm
STAMP=dist/.built

main() {
    if up_to_date; then
        say "dist is up to date"
        return
    fi
    rm -rf dist
    mkdir dist
    touch "$STAMP.begun" # what is edited from here on is newer than this build
    local bindgen
    bindgen=$(wasm_bindgen)
    say "compiling the engine to WebAssembly"
    wasm_cargo_build "$PACKAGE" std,panic_abort --locked --config 'profile.wasm.package.tidegate-core.opt-level=2'
    "$bindgen" --target web --omit-default-module-path --no-typescript --remove-name-section \
        --remove-producers-section --out-dir dist "$(wasm_artifact "$PACKAGE")"
    embed "dist/${NAME}_bg.wasm" >dist/module-bytes.js
    cp lib/*.js lib/index.d.ts dist/
    cp lib/index.d.ts dist/index.d.cts
    bundle_as_commonjs dist/index.js dist/index.cjs
    wrap_for_import dist/index.cjs >dist/node.js
    cp ../../LICENSE-* .
    mv "$STAMP.begun" "$STAMP"
    say "dist is built ($(wc -c <"dist/${NAME}_bg.wasm") bytes of WebAssembly)"
}

up_to_date() {
    [ -e "$STAMP" ] && [ -e LICENSE-MIT ] && [ -z "$(find build.sh commonjs.sh package-lock.json Cargo.toml src lib ../../core/Cargo.toml ../../core/src \
        ../../runtime/protocol/Cargo.toml ../../runtime/protocol/src \
        ../../Cargo.toml ../../Cargo.lock ../../scripts/wasm-toolchain.sh -newer "$STAMP" -type f -print -quit)" ]
}

# Prints the path of the wasm-bindgen command of the very version that the crate is pinned to;
# builds it, once for all checkouts, if need be.
wasm_bindgen() {
    local version root
    version=$(sed -n 's/^wasm-bindgen = "=\(.*\)"$/\1/p' Cargo.toml)
    root="${XDG_CACHE_HOME:-$HOME/.cache}/tidegate/wasm-bindgen-$version"
    if [ ! -x "$root/bin/wasm-bindgen" ]; then
        say "building wasm-bindgen $version, once (a few minutes); it goes to $root" >&2
        cargo install wasm-bindgen-cli --version "=$version" --no-default-features --root "$root" \
            --bin wasm-bindgen >&2 || return
    fi
    echo "$root/bin/wasm-bindgen"
}

# The module as JavaScript, so that it loads at once wherever modules may be compiled.
embed() {
    printf "const base64 =\n  '%s';\n" "$(base64 <"$1" | tr -d '\n')"
    echo
    echo "export const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));"
}

say() {
    printf 'bindings-wasm/js: %s\n' "$*"
}

main
