#!/usr/bin/env bash
# Measures acquire in memory, where no wait is needed, beside aiolimiter and beside check.
#
#   scripts/bench-acquire.sh [--quick]
#
# About half a minute; --quick only shows that all of it runs.
set -euo pipefail
# shellcheck source=scripts/project.sh
. "$(dirname "${BASH_SOURCE[0]}")/project.sh"

PEER="$PROJECT_ROOT/.build/bench-acquire"
REQUIREMENTS="$PROJECT_ROOT/benches/acquire/requirements.txt"

"$SCRIPTS/setup.sh" rust wasm node python
"$SCRIPTS/build.sh" python wasm-js node
use_venv
if ! cmp -s "$REQUIREMENTS" "$PEER/installed-requirements.txt"; then
    say "installing the peer of acquire"
    rm -rf "$PEER"
    python3 -m pip install -q --target "$PEER" -r "$REQUIREMENTS"
    cp "$REQUIREMENTS" "$PEER/installed-requirements.txt"
fi
PYTHONPATH="$PEER" exec python3 "$PROJECT_ROOT/benches/acquire/compare.py" "$@"
