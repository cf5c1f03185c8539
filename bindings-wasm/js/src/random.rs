use wasm_bindgen::prelude::wasm_bindgen;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = Math, js_name = random)]
    fn math_random() -> f64;
}

/// A number by chance, not for secrets.
pub(crate) fn random() -> u64 {
    let half = || (math_random() * 4_294_967_296.0) as u32;
    u64::from(half()) << 32 | u64::from(half())
}
