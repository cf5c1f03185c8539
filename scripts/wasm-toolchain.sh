# Builds a crate of this workspace for wasm32-unknown-unknown, with whichever compiler of this machine
# can do it. To be sourced, by bash:
#
#   . scripts/wasm-toolchain.sh
#   wasm_cargo_build tidegate-proxy core --locked
#   ls "$(wasm_artifact tidegate-proxy)"
#
# wasm_cargo_build <package> <std components> [cargo arguments...]
#   Builds <package> with the workspace's `wasm` profile. <std components> is what the crate needs of
#   the standard library if that has to be built too: `core` for a no_std crate, `std,panic_abort` for
#   any other. CARGO_TARGET_DIR is respected. It tries, in this order:
#     1. the compiler in use, if it has the target;
#     2. `rustup target add wasm32-unknown-unknown`;
#     3. Debian's newer compiler with its sources, which builds the standard library:
#        packages rustc-web, cargo-web, rust-web-src and lld-19.
#   If none works, it fails with one sentence that names what is missing.
#
# wasm_artifact <package>
#   Prints the path of the module that a build made.

_wasm_target=wasm32-unknown-unknown
_wasm_workspace="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
_wasm_debian_prefix=/usr
_wasm_debian_linker=wasm-ld-19
_wasm_debian_packages="rustc-web cargo-web rust-web-src lld-19"

wasm_cargo_build() {
    local package=$1 components=$2 missing
    shift 2
    set -- --manifest-path "$_wasm_workspace/Cargo.toml" --package "$package" \
        --profile wasm --target "$_wasm_target" "$@"

    if _wasm_target_installed || _wasm_target_added; then
        cargo build "$@"
    elif missing=$(_wasm_debian_missing) && [ -z "$missing" ]; then
        RUSTC="$_wasm_debian_prefix/bin/rustc" \
        RUSTC_BOOTSTRAP=1 \
        RUSTFLAGS="${RUSTFLAGS:-} -C linker=$_wasm_debian_linker -C linker-flavor=wasm-ld" \
            "$_wasm_debian_prefix/bin/cargo" build -Z build-std="$components" "$@"
    else
        echo "error: no compiler here can build for $_wasm_target: rustup could not add the target" \
            "(run \`rustup target add $_wasm_target\` to see why), and Debian's compiler lacks $missing" \
            "(\`apt-get install -y $_wasm_debian_packages\` brings it)." >&2
        return 1
    fi
}

wasm_artifact() {
    # Cargo names the file after the library, which has underscores for hyphens.
    printf '%s/%s/wasm/%s.wasm\n' "${CARGO_TARGET_DIR:-$_wasm_workspace/target}" \
        "$_wasm_target" "${1//-/_}"
}

_wasm_target_installed() {
    local libraries
    libraries=$(cd "$_wasm_workspace" && rustc --print target-libdir --target "$_wasm_target" 2>/dev/null) &&
        [ -d "$libraries" ]
}

_wasm_target_added() {
    command -v rustup >/dev/null || return 1
    (cd "$_wasm_workspace" && rustup --quiet target add "$_wasm_target") >/dev/null 2>&1 &&
        _wasm_target_installed
}

# Prints what Debian's compiler lacks, in words; nothing if all of it is installed.
_wasm_debian_missing() {
    local rustc="$_wasm_debian_prefix/bin/rustc" wanted found
    wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$_wasm_workspace/Cargo.toml")
    if [ ! -x "$rustc" ] || [ ! -x "$_wasm_debian_prefix/bin/cargo" ]; then
        echo "$rustc and cargo $wanted or newer"
        return
    fi
    found=$("$rustc" --version | cut -d ' ' -f 2)
    if [ "$(printf '%s\n' "$wanted" "$found" | sort -V | head -n 1)" != "$wanted" ]; then
        echo "a $rustc of version $wanted or newer (it is $found)"
    elif [ ! -f "$("$rustc" --print sysroot)/lib/rustlib/src/rust/library/Cargo.toml" ]; then
        echo "the sources of the standard library"
    elif ! command -v "$_wasm_debian_linker" >/dev/null; then
        echo "the linker $_wasm_debian_linker"
    fi
}
