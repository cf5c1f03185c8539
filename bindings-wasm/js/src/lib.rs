//! Tidegate for browsers, edge runtimes and Node, in WebAssembly
