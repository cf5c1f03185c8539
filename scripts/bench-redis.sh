#!/usr/bin/env bash
# Measures shared buckets beside their peers on one redis-server of its own.
#
#   scripts/bench-redis.sh [--quick | --full] [part of a case's name]
#
# About six minutes; --quick only shows that all of it runs; --full takes half an hour.
set -euo pipefail
# shellcheck source=scripts/project.sh
. "$(dirname "${BASH_SOURCE[0]}")/project.sh"

"$SCRIPTS/setup.sh" rust wasm redis node python go
"$SCRIPTS/build.sh" python wasm-js node
benches/redis/setup.sh
cargo build --release --locked -p tidegate-bench --bin redis
use_venv
exec python3 benches/redis/compare.py "$@"
