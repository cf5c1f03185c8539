#!/usr/bin/env bash
# Checks the documentation: the API docs build without a warning, every link of a Markdown file to a
# file of this project leads somewhere, and the files that ARCHITECTURE.md and CONTRIBUTING.md name
# exist.
set -euo pipefail
# shellcheck source=scripts/project.sh
. "$(dirname "${BASH_SOURCE[0]}")/project.sh"
use_venv

status=0
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked || status=1
find . \( -name target -o -name node_modules -o -name '.?*' \) -prune -o -name '*.md' -print0 |
    xargs -0 python "$SCRIPTS/check_links.py" || status=1

# A document with a fault of each kind shows that the check is not blind.
faulty="$PROJECT_ROOT/.build/check-docs/ARCHITECTURE.md"
mkdir -p "$(dirname "$faulty")"
# shellcheck disable=SC2016 # code spans of Markdown
printf '%s\n' '[a file](missing.md), [a heading](#missing), `core/src/missing.rs`, `runtime/missing`, `core/src/gcra.rs`' >"$faulty"
found=$(python "$SCRIPTS/check_links.py" "$faulty" 2>&1) || true
[[ $found == *"1 files, 4 broken"* ]] ||
    { complain "check_links.py is blind; of 4 faults it found: $found"; status=1; }
exit "$status"
