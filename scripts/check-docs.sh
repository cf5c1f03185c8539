#!/usr/bin/env bash
# Checks the documentation: the API docs build without a warning, and every link of a Markdown
# file to a file of this project leads somewhere.
set -euo pipefail
# shellcheck source=scripts/project.sh
. "$(dirname "${BASH_SOURCE[0]}")/project.sh"
use_venv

status=0
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked || status=1
find . \( -name target -o -name node_modules -o -name '.?*' \) -prune -o -name '*.md' -print0 |
    xargs -0 python "$SCRIPTS/check_links.py" || status=1
exit "$status"
