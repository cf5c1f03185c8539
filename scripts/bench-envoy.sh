#!/usr/bin/env bash
# Measures what limiting costs an Envoy: the Tidegate filter beside Envoy's own filters.
#
#   scripts/bench-envoy.sh [--quick] [part of a variant's name]
#
# About five minutes; --quick only shows that all of it runs.
set -euo pipefail
# shellcheck source=scripts/project.sh
. "$(dirname "${BASH_SOURCE[0]}")/project.sh"

"$SCRIPTS/setup.sh" rust wasm python envoy wrk
"$SCRIPTS/build.sh" cli wasm-proxy
use_venv
exec python3 "$PROJECT_ROOT/benches/envoy/compare.py" "$@"
