# shellcheck shell=bash
# Runs commands so that nothing they start outlives them. To be sourced after project.sh.
#
# run_supervised <command...>
#   Runs the command in a process group of its own, without input. When this script gets INT, TERM or
#   HUP, it ends everything that the command has started, and then itself.
#
# run_logged <label> <log file> <command...>
#   Does the same with the output in <log file>. The console shows it without routine lines, and a
#   line every 15 s that says that the command is still running.
#
# end_leftovers
#   Ends what the last of these commands left running. The status is 1 if there was anything.
#
# A server that makes itself a daemon leaves its process group and its parent. So on Linux the script
# becomes the parent of such orphans (a child subreaper, which bash can only become through another
# program), and finds everything that the command started among its descendants. Elsewhere it only
# finds the process group.

HEARTBEAT_SECONDS=15
CONSOLE_LINES=300
LEFT_PROCESSES=70 # the status of a command that succeeded but left something running

OWN_GROUP=""
current_group=""
heartbeat_group=""

trap 'end_on_signal INT 130' INT
trap 'end_on_signal TERM 143' TERM
trap 'end_on_signal HUP 129' HUP

run_supervised() {
    local status=0
    start_in_own_group "$@"
    wait "$current_group" || status=$?
    return "$status"
}

run_logged() {
    local label=$1 log=$2 pipe_folder console status=0
    shift 2
    mkdir -p "$(dirname "$log")"
    : >"$log"
    pipe_folder=$(mktemp -d)
    mkfifo "$pipe_folder/output"

    show_output "$label" "$log" <"$pipe_folder/output" &
    console=$!
    start_in_own_group "$@" >"$pipe_folder/output" 2>&1
    start_heartbeat "$label" "$log"
    rm -rf "$pipe_folder"

    wait "$current_group" || status=$?
    if [ "${LEFTOVERS_FAIL:-0}" = 1 ] && ! end_leftovers >>"$log" 2>&1; then
        printf '%s | left processes running; they were ended, see %s\n' "$label" "$log"
        [ "$status" -ne 0 ] || status=$LEFT_PROCESSES
    fi
    # The console follows until the last writer has closed the pipe.
    wait "$console" || true
    end_heartbeat
    return "$status"
}

end_leftovers() {
    local group=$current_group pid
    wait_until_ended "$group" 30 && return 0
    echo "these processes were still running and have been ended:"
    for pid in $(processes_of_run "$group"); do
        ps -o pid=,args= -p "$pid" || echo "$pid"
    done
    end_processes "$group"
    return 1
}

start_in_own_group() {
    # Job control gives the command a group of its own. It is on only during the start, so that this
    # script keeps the terminal and its Ctrl-C.
    set -m
    (
        set +m
        trap - INT TERM HUP
        "$@"
    ) </dev/null &
    current_group=$!
    set +m
}

end_on_signal() {
    trap '' INT TERM HUP
    [ -z "$current_group" ] || end_processes "$current_group"
    end_heartbeat
    complain "stopped by SIG$1"
    exit "$2"
}

# Sends TERM, waits up to 8 s, then sends KILL.
end_processes() {
    local group=$1
    signal_processes TERM "$group"
    wait_until_ended "$group" 80 || signal_processes KILL "$group"
}

signal_processes() {
    local pid
    for pid in $(processes_of_run "$2"); do
        kill -"$1" "$pid" 2>/dev/null || true
    done
}

# Waits up to $2 tenths of a second, and fails if something of group $1 still runs.
wait_until_ended() {
    local tenths=$2
    while [ -n "$(processes_of_run "$1")" ]; do
        [ "$tenths" -gt 0 ] || return 1
        tenths=$((tenths - 1))
        sleep 0.1
    done
}

# Prints the members of process group $1 and the descendants of this script, without its own helpers.
processes_of_run() {
    process_table | awk -v group="$1" -v script=$$ -v own="$OWN_GROUP" -v heartbeat="${heartbeat_group:-0}" '
        { parent[$1] = $2; group_of[$1] = $3 }
        END {
            for (pid in parent) {
                if (group_of[pid] == own || group_of[pid] == heartbeat) continue
                for (up = pid; up in parent && up != script && up != 1; up = parent[up]);
                if (group_of[pid] == group || up == script) print pid
            }
        }'
}

# Prints one line for each live process: its id, its parent, its group.
process_table() {
    if [ -r /proc/self/stat ]; then
        # The name in parentheses may contain anything.
        { cat /proc/[0-9]*/stat 2>/dev/null || true; } |
            sed -n 's/^\([0-9]*\) (.*) [^ZX] \([0-9]*\) \([0-9]*\) .*/\1 \2 \3/p'
    else
        ps -axo pid=,ppid=,pgid=
    fi
}

# Starts this script again as the parent of its orphans. Without Python, as on a machine that is being
# set up, the script just goes on.
adopt_orphans() {
    OWN_GROUP=$(process_table | awk -v script=$$ '$1 == script { print $3 }')
    [ "$(uname)" = Linux ] && [ "${TIDEGATE_ADOPTER:-}" != $$ ] && have python3 || return 0
    # The process keeps its id through both exec calls.
    TIDEGATE_ADOPTER=$$ exec python3 -c '
import ctypes, os, sys
PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
os.execvp("bash", ["bash", *sys.argv[1:]])' "$@"
}

start_heartbeat() {
    set -m
    heartbeat "$1" "$2" </dev/null &
    heartbeat_group=$!
    set +m
}

end_heartbeat() {
    [ -n "$heartbeat_group" ] || return 0
    kill -- "-$heartbeat_group" 2>/dev/null || true
    wait "$heartbeat_group" 2>/dev/null || true
    heartbeat_group=""
}

heartbeat() {
    local label=$1 log=$2 started=$SECONDS last
    trap - INT TERM HUP
    while sleep "$HEARTBEAT_SECONDS"; do
        last=$(tail -n 1 "$log" | tr -d '\r' | cut -c 1-100)
        printf '%s | ... %d s, at: %s\n' "$label" $((SECONDS - started)) "$last"
    done
}

show_output() {
    local label=$1 log=$2 line shown=0
    while IFS= read -r line || [ -n "$line" ]; do
        printf '%s\n' "$line" >>"$log"
        ! is_routine "$line" || continue
        shown=$((shown + 1))
        if [ "$shown" -le "$CONSOLE_LINES" ]; then
            printf '%s | %s\n' "$label" "${line:0:200}"
        elif [ "$shown" -eq $((CONSOLE_LINES + 1)) ]; then
            printf '%s | (the rest is in %s)\n' "$label" "$log"
        fi
    done
}

# Whether a line only goes to the log: those for each crate, package or passed test.
is_routine() {
    case "$1" in
    *"not ok "*) false ;;
    "   Compiling "* | "    Checking "* | "  Downloaded "* | " Documenting "* | "       Fresh "*) true ;;
    "test "*" ... ok" | "running "*" test"*) true ;;
    "ok "* | "    "*"ok "[0-9]* | "# Subtest: "* | "    "*"# Subtest: "* | *"  ---" | *"  ...") true ;;
    *"  duration_ms: "* | *"  type: '"*"'" | *"    1.."* | "TAP version "*) true ;;
    "✔ "* | *"  ✔ "*) true ;;
    "Get:"* | "Hit:"* | "Selecting "* | "Preparing "* | "Unpacking "* | "(Reading "*) true ;;
    "Collecting "* | "Ignoring "* | "Looking in "* | "Requirement already satisfied"*) true ;;
    "  Downloading "* | "  Using cached "* | "") true ;;
    *) false ;;
    esac
}
