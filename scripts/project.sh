# shellcheck shell=bash
# Says where the project's parts are, and defines what its scripts share. To be sourced, by bash.

PROJECT_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
SCRIPTS="$PROJECT_ROOT/scripts"
SCRIPT_NAME="$(basename "$0" .sh)"
SCRIPT_PATH="$(cd "$(dirname "$0")" && pwd)/$(basename "$0")"
LOGS="$PROJECT_ROOT/.build/logs"
VENV="$PROJECT_ROOT/.venv"
# One target directory for every cargo build, so that the command, the Python module and the Node
# module compile their common dependencies once.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PROJECT_ROOT/target}"
export SCRIPTS SCRIPT_PATH VENV

cd "$PROJECT_ROOT" || exit
mkdir -p "$LOGS"

# Logs are plain text without colours, because scripts/count-tests.sh reads them too.
unset FORCE_COLOR CLICOLOR_FORCE MAKEFLAGS MAKELEVEL
export NO_COLOR=1 CARGO_TERM_COLOR=never CARGO_TERM_PROGRESS_WHEN=never PY_COLORS=0
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 npm_config_fund=false npm_config_audit=false \
    npm_config_update_notifier=false

# Puts the virtual environment's commands first: its python3, and what pip installed.
use_venv() {
    export VIRTUAL_ENV="$VENV" PATH="$VENV/bin:$PATH"
}

say() {
    printf '%s: %s\n' "$SCRIPT_NAME" "$*"
}

complain() {
    printf '%s: %s\n' "$SCRIPT_NAME" "$*" >&2
}

have() {
    command -v "$1" >/dev/null 2>&1
}

# Installs what folder $1's package-lock.json pins, unless exactly that is installed.
npm_packages_of() {
    local folder=$1
    [ -f "$folder/package-lock.json" ] ||
        { complain "$folder/package-lock.json is missing; npm install in $folder writes it"; return 1; }
    cmp -s "$folder/package-lock.json" "$folder/node_modules/.installed-package-lock.json" && return
    npm --prefix "$folder" ci --no-progress && mkdir -p "$folder/node_modules" &&
        cp "$folder/package-lock.json" "$folder/node_modules/.installed-package-lock.json"
}

# Whether version $1 is at least version $2.
version_at_least() {
    [ "$(printf '%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}
