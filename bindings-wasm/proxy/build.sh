#!/usr/bin/env bash
# Builds the filter into dist/tidegate_proxy.wasm, makes it smaller with wasm-opt if that is there, checks
# what it imports and exports, and prints its size. Arguments go to cargo (`--locked`, `-j 2`).
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=scripts/wasm-toolchain.sh
. "$here/../../scripts/wasm-toolchain.sh"

# Names of functions are a fifth of the module; a panic logs its file and line anyway.
export CARGO_PROFILE_WASM_STRIP=symbols
# Calls to the proxy take most of the filter's time, so size comes first.
export CARGO_PROFILE_WASM_OPT_LEVEL=z
wasm_cargo_build tidegate-proxy core "$@"
module="$here/dist/tidegate_proxy.wasm"
mkdir -p "$here/dist"
if command -v wasm-opt >/dev/null; then
    # These are the features that the compiler uses and that every proxy has.
    # Nothing is at the lowest addresses but the end of the stack.
    wasm-opt --low-memory-unused --merge-similar-functions -Oz --converge \
        --enable-bulk-memory --enable-sign-ext --enable-mutable-globals --enable-nontrapping-float-to-int \
        "$(wasm_artifact tidegate-proxy)" -o "$module"
    python3 "$here/check_module.py" "$module"
else
    cp "$(wasm_artifact tidegate-proxy)" "$module"
    python3 "$here/check_module.py" --not-optimized "$module"
fi
