#!/usr/bin/env bash
# Runs the demo on a fresh machine: installs what is missing, builds, and shows five processes on one
# bucket. The status is non-zero if the limit was broken. Ctrl-C leaves nothing running.
set -euo pipefail
# shellcheck source=scripts/project.sh
. "$(dirname "${BASH_SOURCE[0]}")/project.sh"
# shellcheck source=scripts/supervise.sh
. "$SCRIPTS/supervise.sh"
adopt_orphans "$SCRIPT_PATH" "$@"

run_supervised "$SCRIPTS/setup.sh" rust wasm redis node python envoy
run_supervised "$SCRIPTS/build.sh"

status=0
run_supervised "$VENV/bin/python" tests/end_to_end/demo.py "$@" || status=$?
if ! end_leftovers >"$LOGS/demo-leftovers.log"; then
    complain "the demo left processes running; they were ended, see $LOGS/demo-leftovers.log"
    [ "$status" -ne 0 ] || status=$LEFT_PROCESSES
fi
exit "$status"
