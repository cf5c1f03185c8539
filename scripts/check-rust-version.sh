#!/usr/bin/env bash
# Checks that one minimum version of Rust is declared everywhere, and that the dependencies agree.
#
# The version is `rust-version` in Cargo.toml. Clippy refuses standard library items that are newer,
# and the other stages build with that version where it is the one installed, as in CI.
set -euo pipefail
# shellcheck source=scripts/project.sh
. "$(dirname "${BASH_SOURCE[0]}")/project.sh"

status=0

main() {
    local declared
    declared=$(declared_in Cargo.toml)
    [ -n "$declared" ] || { complain "Cargo.toml declares no rust-version"; exit 1; }
    expect "$declared" "fuzz/Cargo.toml" "$(declared_in fuzz/Cargo.toml)"
    expect "$declared" "scripts/setup.sh" "$(bash -c "$(grep '^RUST_VERSION=' scripts/setup.sh); echo \"\$RUST_VERSION\"")"
    expect "$declared" "CONTRIBUTING.md" "$(mentioned_in CONTRIBUTING.md)"
    expect "$declared" "service/README.md" "$(mentioned_in service/README.md)"
    check_dependencies "$declared"
    [ "$status" -ne 0 ] || say "Rust $declared is declared everywhere"
    exit "$status"
}

declared_in() {
    sed -n 's/^rust-version = "\([0-9.]*\)".*/\1/p' "$1"
}

# The versions in "Rust 1.2 or newer", one a line if they differ.
mentioned_in() {
    sed -n 's/.*Rust \([0-9.]*\) or newer.*/\1/p' "$1" | sort -u
}

expect() {
    [ "$3" = "$1" ] || { complain "$2 says Rust '$3', but Cargo.toml declares $1"; status=1; }
}

# Cargo builds with an older compiler only if no dependency declares a newer one.
check_dependencies() {
    local newest
    newest=$(cargo metadata --locked --format-version 1 |
        python3 -c 'import json, sys
packages = json.load(sys.stdin)["packages"]
print("\n".join(p["rust_version"] for p in packages if p["rust_version"]))' | sort -V | tail -n 1)
    version_at_least "$1" "$newest" ||
        { complain "a dependency needs Rust $newest, but Cargo.toml declares $1"; status=1; }
}

main "$@"
