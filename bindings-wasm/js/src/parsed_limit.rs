//! Parsed limits, whose properties JavaScript reads.

use tidegate_core::AnyLimit;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::engine::in_count;
use crate::failure::Failure;

/// The limit that a text describes, or the failure to parse the text.
#[wasm_bindgen]
#[derive(Debug)]
pub struct ParsedLimit {
    limit: Option<AnyLimit>,
    failure: Option<Failure>,
}

#[wasm_bindgen]
impl ParsedLimit {
    /// Parses a limit's text. Check for [`take_failure`](Self::take_failure) before anything else.
    #[wasm_bindgen(constructor)]
    pub fn new(text: &str) -> Self {
        match AnyLimit::parse(text) {
            Ok(limit) => Self { limit: Some(limit), failure: None },
            Err(error) => Self { limit: None, failure: Some(Failure::of_limit(text, error)) },
        }
    }

    /// The failure, which says where the text leaves the grammar or which bound the limit breaks.
    pub fn take_failure(&mut self) -> Option<Failure> {
        self.failure.take()
    }

    /// Tokens per period; infinite for `unlimited`.
    #[wasm_bindgen(getter)]
    pub fn tokens(&self) -> f64 {
        self.limit.map_or(0.0, |limit| in_count(limit.tokens()))
    }

    /// The period, in nanoseconds.
    #[wasm_bindgen(getter)]
    pub fn period(&self) -> u64 {
        self.limit.map_or(0, |limit| limit.period())
    }

    /// The most tokens that can be spent at once; infinite for `unlimited`.
    #[wasm_bindgen(getter)]
    pub fn burst(&self) -> f64 {
        self.limit.map_or(0.0, |limit| in_count(limit.burst()))
    }

    /// The name of how tokens come back.
    #[wasm_bindgen(getter)]
    pub fn shape(&self) -> String {
        self.limit.map_or_else(String::new, |limit| limit.shape_name().to_owned())
    }

    /// The canonical text.
    #[wasm_bindgen(getter)]
    pub fn text(&self) -> String {
        self.limit.map_or_else(String::new, |limit| limit.to_string())
    }
}
