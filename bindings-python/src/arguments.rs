//! Reading what Python gives: each reader names its argument and the bound.

use core::time::Duration;
use std::sync::Arc;

use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyString};
use tidegate::ManualClock;

use crate::clock::FakeClock;
use crate::errors::invalid_argument;
use crate::seconds;

const MAX_COST: i64 = i64::MAX;

/// The bytes of a key, borrowed from a `str` or `bytes`; its length is the
/// limiter's to check.
pub(crate) struct Key<'a>(pub(crate) &'a [u8]);

impl<'a, 'py> FromPyObject<'a, 'py> for Key<'a> {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        if object.is_instance_of::<PyString>() {
            return utf8("key", object).map(|text| Key(text.as_bytes()));
        }
        match object.extract::<&[u8]>() {
            Ok(bytes) if object.is_instance_of::<PyBytes>() => Ok(Key(bytes)),
            _ => Err(wrong_type("key", "str or bytes", &object)),
        }
    }
}

/// A cost in tokens: a whole number, but not a `bool`.
pub(crate) fn cost(object: &Bound<'_, PyAny>) -> PyResult<u64> {
    let py = object.py();
    if object.is_instance_of::<PyBool>() {
        return Err(wrong_type("cost", "a whole number", object));
    }
    let out_of_bounds = || {
        let message = format!("it must be 0 to {MAX_COST}, but is {object}");
        invalid_argument(py, "cost", message)
    };
    match object.extract::<i64>() {
        Ok(cost) => u64::try_from(cost).map_err(|_| out_of_bounds()),
        Err(error) if error.is_instance_of::<PyOverflowError>(py) => {
            let message = format!("it must be 0 to {MAX_COST}, but has more than 64 bits");
            Err(invalid_argument(py, "cost", message))
        }
        Err(_) => Err(wrong_type("cost", "a whole number", object)),
    }
}

/// A store's URL.
pub(crate) fn store(object: &Bound<'_, PyAny>) -> PyResult<String> {
    text("store", object).map(str::to_owned)
}

/// A prefix of keys.
pub(crate) fn prefix(object: &Bound<'_, PyAny>) -> PyResult<String> {
    text("prefix", object).map(str::to_owned)
}

/// A store timeout in seconds; its bounds are the limiter's to check.
pub(crate) fn store_timeout(object: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let seconds = seconds::read("store_timeout", object)?;
    Duration::try_from_secs_f64(seconds).map_err(|_| {
        let message = format!("it must be 0.001 to 60 seconds, but is {seconds}");
        invalid_argument(object.py(), "store_timeout", message)
    })
}

/// The clock of a limiter in memory.
pub(crate) fn clock(object: &Bound<'_, PyAny>) -> PyResult<Option<Arc<ManualClock>>> {
    if object.is_none() {
        return Ok(None);
    }
    let clock = object.cast::<FakeClock>();
    clock
        .map(|clock| Some(Arc::clone(&clock.get().0)))
        .map_err(|_| wrong_type("clock", "a FakeClock or None", object))
}

/// The UTF-8 of a `str` argument.
pub(crate) fn text<'a>(name: &'static str, object: &'a Bound<'_, PyAny>) -> PyResult<&'a str> {
    if !object.is_instance_of::<PyString>() {
        return Err(wrong_type(name, "str", object));
    }
    utf8(name, object.as_borrowed())
}

fn utf8<'a>(name: &'static str, object: Borrowed<'a, '_, PyAny>) -> PyResult<&'a str> {
    object.extract::<&str>().map_err(|_| {
        let message = "it must be text that UTF-8 can encode, without lone surrogates";
        invalid_argument(object.py(), name, message.to_owned())
    })
}

/// An argument of a type that cannot be meant.
pub(crate) fn wrong_type(name: &str, expected: &str, object: &Bound<'_, PyAny>) -> PyErr {
    match object.get_type().name() {
        Ok(found) => PyTypeError::new_err(format!("{name} must be {expected}, not {found}")),
        Err(error) => error,
    }
}
