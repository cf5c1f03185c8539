//! Passes the linker what only the WebAssembly module needs.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("wasm32") {
        // Nothing here recurses, and the largest frame is under 16 KiB: a configuration, and its copies.
        println!("cargo::rustc-link-arg-cdylib=-zstack-size=131072");
    }
}
