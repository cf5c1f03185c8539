# Makes the CommonJS files of both JavaScript packages; meant to be sourced, in bash. Sets MEMORY_PACKAGE.
#
# In Node, `import` gives the classes of the CommonJS file too. With two builds, a program that imports here and
# requires there would have two of each class and two of each shared store.

MEMORY_PACKAGE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# Bundles the ES module $1 and all that it imports into the CommonJS file $2.
bundle_as_commonjs() {
    local esbuild="$MEMORY_PACKAGE/node_modules/.bin/esbuild"
    if [ ! -x "$esbuild" ]; then
        echo "installing esbuild with npm, into $MEMORY_PACKAGE/node_modules" >&2
        npm --prefix "$MEMORY_PACKAGE" ci --no-progress >&2 || return
    fi
    "$esbuild" "$1" --bundle --platform=node --format=cjs --target=node20.19 --log-level=warning --outfile="$2"
}

# Prints an ES module that exports each name of the CommonJS file $1, which lies in the same folder.
wrap_for_import() {
    # shellcheck disable=SC2016 # a program of JavaScript
    node --input-type=commonjs --eval '
        const { basename, resolve } = require("node:path");
        const file = process.argv[1];
        console.log("/** The entry point for `import` in Node: the classes that `require` gives. */\n");
        console.log(`import api from "./${basename(file)}";\n`);
        console.log(`export const { ${Object.keys(require(resolve(file))).sort().join(", ")} } = api;`);' "$1"
}
