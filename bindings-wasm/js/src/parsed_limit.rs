//! Parsed limits, whose properties JavaScript reads.

use tidegate_core::{Limit, Shape};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::failure::Failure;

/// The limit that a text describes, or the failure to parse the text.
#[wasm_bindgen]
#[derive(Debug)]
pub struct ParsedLimit {
    limit: Option<Limit>,
    failure: Option<Failure>,
}

#[wasm_bindgen]
impl ParsedLimit {
    /// Parses a limit's text. Check for [`take_failure`](Self::take_failure) before anything else.
    #[wasm_bindgen(constructor)]
    pub fn new(text: &str) -> Self {
        match Limit::parse(text) {
            Ok(limit) => Self { limit: Some(limit), failure: None },
            Err(error) => Self { limit: None, failure: Some(Failure::of_limit(text, error)) },
        }
    }

    /// The failure, which says where the text leaves the grammar or which bound the limit breaks.
    pub fn take_failure(&mut self) -> Option<Failure> {
        self.failure.take()
    }

    /// Tokens per period.
    #[wasm_bindgen(getter)]
    pub fn tokens(&self) -> u64 {
        self.limit.map_or(0, |limit| limit.tokens())
    }

    /// The period, in nanoseconds.
    #[wasm_bindgen(getter)]
    pub fn period(&self) -> u64 {
        self.limit.map_or(0, |limit| limit.period())
    }

    /// The most tokens that can be spent at once.
    #[wasm_bindgen(getter)]
    pub fn burst(&self) -> u64 {
        self.limit.map_or(0, |limit| limit.burst())
    }

    /// Whether tokens come back all at once, at multiples of the period.
    #[wasm_bindgen(getter)]
    pub fn stepped(&self) -> bool {
        self.limit.is_some_and(|limit| limit.shape() == Shape::Stepped)
    }

    /// The canonical text.
    #[wasm_bindgen(getter)]
    pub fn text(&self) -> String {
        self.limit.map_or_else(String::new, |limit| limit.to_string())
    }
}
