#!/usr/bin/env bash
# Checks the features of the crate `tidegate`: every combination compiles without a warning, and a
# build for memory alone has few dependencies.
set -euo pipefail
# shellcheck source=scripts/project.sh
. "$(dirname "${BASH_SOURCE[0]}")/project.sh"

# The crates of a build without features, tidegate's own three among them.
MOST_CRATES=25

main() {
    local features
    check_crates
    for features in "" redis shm redis,shm; do
        cargo clippy --quiet --locked -p tidegate --no-default-features --features "$features" -- -D warnings ||
            { complain "tidegate does not build with the features '$features'"; exit 1; }
        say "tidegate builds with the features '$features'"
    done
}

check_crates() {
    local crates count
    crates=$(cargo tree --locked -p tidegate --no-default-features -e normal --prefix none --no-dedupe | sort -u)
    count=$(wc -l <<<"$crates")
    if [ "$count" -gt "$MOST_CRATES" ] || grep -qE '^(redis|rustls|ring|mio) ' <<<"$crates"; then
        complain "tidegate without features has $count crates, at most $MOST_CRATES are allowed and none for a network:"
        printf '%s\n' "$crates" >&2
        exit 1
    fi
    say "tidegate without features has $count crates, with its default features $(cargo tree --locked \
        -p tidegate -e normal --prefix none --no-dedupe | sort -u | wc -l)"
}

main "$@"
