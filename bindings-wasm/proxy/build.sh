#!/usr/bin/env bash
# Builds the filter into dist/tidegate_proxy.wasm, checks what it imports and exports,
# and prints its size. Arguments go to cargo (`--locked`, `-j 2`).
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=scripts/wasm-toolchain.sh
. "$here/../../scripts/wasm-toolchain.sh"

# Names of functions are a fifth of the module; a panic logs its file and line anyway.
export CARGO_PROFILE_WASM_STRIP=symbols
wasm_cargo_build tidegate-proxy core "$@"
module="$(wasm_artifact tidegate-proxy)"
python3 "$here/check_module.py" "$module"
mkdir -p "$here/dist"
cp "$module" "$here/dist/tidegate_proxy.wasm"
