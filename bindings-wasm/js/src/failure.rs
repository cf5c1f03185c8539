//! Errors in the form in which JavaScript reads them.

use tidegate_core::{Error, Quoted};
use wasm_bindgen::prelude::wasm_bindgen;

/// An error of the engine. JavaScript turns it into an instance of the class of its code.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Failure {
    code: &'static str,
    reason: Option<&'static str>,
    message: String,
}

#[wasm_bindgen]
impl Failure {
    /// The stable code of the error's class.
    #[wasm_bindgen(getter)]
    pub fn code(&self) -> String {
        self.code.to_owned()
    }

    /// The stable name of the bound that an invalid limit broke.
    #[wasm_bindgen(getter)]
    pub fn reason(&self) -> Option<String> {
        self.reason.map(str::to_owned)
    }

    /// The message, in words.
    #[wasm_bindgen(getter)]
    pub fn message(&self) -> String {
        self.message.clone()
    }
}

impl Failure {
    /// The failure of a limit's text.
    pub(crate) fn of_limit(text: &str, error: Error) -> Self {
        Self {
            message: format!("invalid limit {}: {}", Quoted(text), error.in_text(text)),
            ..Self::from(error)
        }
    }
}

impl From<tidegate_protocol::Error> for Failure {
    fn from(error: tidegate_protocol::Error) -> Self {
        let (code, reason) = (error.code(), error.reason());
        Self { code, reason, message: error.to_string() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let reason = match error {
            Error::CostTooLarge { .. } => None,
            _ => Some(error.reason()),
        };
        Self { code: error.code(), reason, message: error.to_string() }
    }
}
