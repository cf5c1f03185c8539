//! The Tidegate filter for Envoy (proxy-wasm)
