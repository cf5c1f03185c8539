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
    echo "export const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));" >>dist/module-bytes.js
    cp lib/*.js lib/index.d.ts dist/
    cp lib/index.d.ts dist/index.d.cts
    bundle_as_commonjs dist/index.js dist/index.cjs
    wrap_for_import dist/index.cjs >dist/node.js
    build_memory "$bindgen"
    cp ../../LICENSE-* .
    mv "$STAMP.begun" "$STAMP"
    say "dist is built ($(wc -c <"dist/${NAME}_bg.wasm") bytes of WebAssembly)"
}

# Builds dist/memory: the engine without Redis and signals, as small as it gets. All of it is one file, which bundlers
# leave out as a whole if nothing of it is used.
build_memory() {
    local bindgen=$1 parts
    say "compiling the engine for memory alone to WebAssembly"
    wasm_cargo_build "$PACKAGE" std,panic_abort --locked --no-default-features --config 'profile.wasm.opt-level="z"'
    parts=$(mktemp -d dist/.parts.XXXXXX)
    cp lib/*.js "$parts/"
    cp -r lib/memory "$parts/"
    "$bindgen" --target web --omit-default-module-path --no-typescript --remove-name-section \
        --remove-producers-section --out-dir "$parts" "$(wasm_artifact "$PACKAGE")"
    echo "export { runtime } from '#memory-runtime';" >"$parts/runtime.js"
    mkdir dist/memory
    mv "$parts/${NAME}_bg.wasm" dist/memory/
    cp lib/memory/runtime-*.js lib/memory/index.d.ts dist/memory/
    sed 's#\.\./index\.js#../index.cjs#' lib/memory/index.d.ts >dist/memory/index.d.cts
    embed "dist/memory/${NAME}_bg.wasm" >dist/memory/module-bytes.js
    echo "export const bytes = () => Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));" >>dist/memory/module-bytes.js
    node_modules/.bin/esbuild "$parts/memory/api.js" --bundle --format=esm --target=es2022 --log-level=warning \
        --external:'#memory-runtime' --outfile=dist/memory/index.js
    bundle_as_commonjs dist/memory/index.js dist/memory/index.cjs
    wrap_for_import dist/memory/index.cjs >dist/memory/node.js
    rm -r "$parts"
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
}

say() {
    printf 'bindings-wasm/js: %s\n' "$*"
}

main
