#!/usr/bin/env bash
# Installs the peers of `make bench-redis` at their pinned versions: Python's into
# .build/bench-redis/venv, Node's into benches/redis/node_modules, and the Go file with redis_rate's
# scripts, which is only read, into .build/bench-redis.
set -euo pipefail
# shellcheck source=scripts/project.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/project.sh"

FOLDER="$PROJECT_ROOT/.build/bench-redis"
HERE="$PROJECT_ROOT/benches/redis"
REDIS_RATE=github.com/go-redis/redis_rate/v10@v10.0.1
REDIS_RATE_SUM=h1:calPxi7tVlxojKunJwQ72kwfozdy25RjA0bCj1h0MUo=

mkdir -p "$FOLDER"

if ! cmp -s "$HERE/requirements.txt" "$FOLDER/venv/installed-requirements.txt"; then
    say "installing the peers of Python"
    rm -rf "$FOLDER/venv"
    python3 -m venv "$FOLDER/venv"
    "$FOLDER/venv/bin/python" -m pip install -q -r "$HERE/requirements.txt"
    cp "$HERE/requirements.txt" "$FOLDER/venv/installed-requirements.txt"
fi

if ! cmp -s "$HERE/package-lock.json" "$HERE/node_modules/.installed-package-lock.json"; then
    say "installing the peers of Node"
    npm --prefix "$HERE" ci --no-progress
    cp "$HERE/package-lock.json" "$HERE/node_modules/.installed-package-lock.json"
fi

if [ ! -s "$FOLDER/redis_rate.go" ]; then
    say "fetching $REDIS_RATE"
    downloaded=$(cd "$FOLDER" && go mod download -json "$REDIS_RATE")
    grep -qF "\"Sum\": \"$REDIS_RATE_SUM\"" <<<"$downloaded" ||
        { complain "$REDIS_RATE is not what it was"; exit 1; }
    cp "$(sed -n 's/^.*"Dir": "\(.*\)",$/\1/p' <<<"$downloaded")/lua.go" "$FOLDER/redis_rate.go"
    chmod u+w "$FOLDER/redis_rate.go"
fi
