//! Parsed limits, as JavaScript reads them.

use tidegate_core::{Limit, Shape};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::failure::Failure;

/// What the grammar makes of a limit's text, for JavaScript to look at.
#[wasm_bindgen]
#[derive(Debug)]
pub struct ParsedLimit {
    limit: Option<Limit>,
    failure: Option<Failure>,
}

#[wasm_bindgen]
impl ParsedLimit {
    /// Reads a limit's text. Check for [`take_failure`](Self::take_failure) first.
    #[wasm_bindgen(constructor)]
    pub fn new(text: &str) -> Self {
        match Limit::parse(text) {
            Ok(limit) => Self { limit: Some(limit), failure: None },
            Err(error) => Self { limit: None, failure: Some(Failure::of_limit(text, error)) },
        }
    }

    /// Where the text stops making sense, or which bound the limit breaks.
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

    /// Whether tokens come back in steps.
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
