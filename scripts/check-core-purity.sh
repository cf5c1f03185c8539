#!/usr/bin/env bash
# Checks that tidegate-core has no dependencies and uses neither std nor alloc.
#
# The crate is built for wasm32-unknown-unknown in a place where only `core` can be found. Copies of
# the crate that name alloc or std must not build there, which shows each time that the check can fail.
set -euo pipefail
# shellcheck source=scripts/project.sh
. "$(dirname "${BASH_SOURCE[0]}")/project.sh"

WASM_TARGET=wasm32-unknown-unknown
WORK="$PROJECT_ROOT/.build/core-purity"
export CARGO_TARGET_DIR="$WORK/target"

main() {
    rm -rf "$WORK"
    mkdir -p "$WORK"
    check_no_dependencies
    leave_only_core
    check_builds "$PROJECT_ROOT" "tidegate-core"
    check_builds "$(copy_of_core unchanged)" "an unchanged copy of it"
    check_does_not_build alloc
    check_does_not_build std
}

check_no_dependencies() {
    local tree
    tree=$(cargo tree --locked -p tidegate-core -e normal)
    if [ "$(printf '%s\n' "$tree" | wc -l)" -ne 1 ]; then
        complain "tidegate-core must have no dependencies, but cargo tree prints:"
        printf '%s\n' "$tree" >&2
        exit 1
    fi
    say "tidegate-core has no dependencies"
}

# Hides alloc and std from the compiler. A target that rustup installed has them, so the compiler gets
# a folder without them. Where the standard library is built from its sources, only `core` is built.
leave_only_core() {
    local libraries only_core="$WORK/sysroot/lib/rustlib/$WASM_TARGET/lib"
    libraries=$(rustc --print target-libdir --target "$WASM_TARGET")
    [ -d "$libraries" ] || return 0
    mkdir -p "$only_core"
    ln -s "$libraries"/libcore-* "$libraries"/libcompiler_builtins-* "$only_core/"
    export CARGO_ENCODED_RUSTFLAGS="--sysroot=$WORK/sysroot" # RUSTFLAGS would split at spaces
}

check_builds() {
    if build_core_in "$1" >"$WORK/build.log" 2>&1; then
        say "$2 builds for $WASM_TARGET with nothing but core"
    else
        complain "$2 does not build for $WASM_TARGET with nothing but core:"
        cat "$WORK/build.log" >&2
        exit 1
    fi
}

check_does_not_build() {
    local crate=$1 copy
    copy=$(copy_of_core "with-$crate")
    printf '\nextern crate %s;\n' "$crate" >>"$copy/core/src/lib.rs"
    if build_core_in "$copy" >"$WORK/build.log" 2>&1; then
        complain "this check is blind: a copy of tidegate-core that names $crate builds as well"
        exit 1
    elif ! grep -q "can't find crate for \`$crate\`" "$WORK/build.log"; then
        complain "a copy of tidegate-core that names $crate fails, but not for that reason:"
        cat "$WORK/build.log" >&2
        exit 1
    fi
    say "a copy that names $crate does not build"
}

# Runs in a subshell, because the toolchain works on the workspace that its own script lies in.
build_core_in() (
    # shellcheck source=scripts/wasm-toolchain.sh
    . "$1/scripts/wasm-toolchain.sh"
    cd "$1"
    wasm_cargo_build tidegate-core core
)

# Makes a workspace with only the core, without its test dependencies, and prints its folder.
copy_of_core() {
    local copy="$WORK/$1"
    mkdir -p "$copy/core" "$copy/scripts"
    cp -R core/src core/README.md "$copy/core/"
    awk '/^\[/ { keep = !/^\[dev-dependencies/ } keep' core/Cargo.toml >"$copy/core/Cargo.toml"
    awk '/^(default-)?members *=/ { inside = 1 } !inside; /\]/ { inside = 0 }
         /^\[workspace\]/ { print "members = [\"core\"]" }' Cargo.toml >"$copy/Cargo.toml"
    cp scripts/wasm-toolchain.sh "$copy/scripts/"
    echo "$copy"
}

main "$@"
