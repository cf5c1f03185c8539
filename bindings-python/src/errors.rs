//! Makes Python exceptions from the limiter's errors.

use core::error::Error as _;

use pyo3::PyErrArguments;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyType};
use tidegate::Error;

use crate::decision::Decision;

/// The exception for an error of the limiter, of the class that `tests/vectors/errors.json` gives
/// for its code. A client's exception from which the error follows becomes its `__cause__`.
pub(crate) fn exception(py: Python<'_>, error: &Error) -> PyErr {
    let exception = of_class(py, error);
    if let Some(cause) = error.source().and_then(|source| source.downcast_ref::<PyErr>()) {
        exception.set_cause(py, Some(cause.clone_ref(py)));
    }
    exception
}

fn of_class(py: Python<'_>, error: &Error) -> PyErr {
    let message = error.to_string();
    match error {
        Error::InvalidLimit { .. } => {
            raise(py, "InvalidLimit", (message, error.reason().unwrap_or_default()))
        }
        Error::InvalidArgument { .. } => raise(py, "InvalidArgument", (message,)),
        Error::CostTooLarge { cost, burst } => raise(py, "CostTooLarge", (message, *cost, *burst)),
        Error::NoPermit { limit, .. } => raise(py, "NoPermit", (message, *limit)),
        Error::StoreTimeout { .. } => raise(py, "StoreTimeout", (message,)),
        Error::CorruptBucket { .. } => raise(py, "CorruptBucket", (message,)),
        _ => raise(py, "StoreError", (message,)),
    }
}

/// The InvalidArgument for an argument that is out of its bounds, worded as the limiter's own.
pub(crate) fn invalid_argument(py: Python<'_>, name: &'static str, message: String) -> PyErr {
    exception(py, &Error::InvalidArgument { name, message })
}

/// The RateLimited that `acquire` raises for tokens that come too late. Of one key per limit, it
/// names that of the limit that bound the decision.
pub(crate) fn rate_limited(
    decision: Py<Decision>,
    key: &Bound<'_, PyAny>,
    decided: &tidegate::Decision,
) -> PyErr {
    let is_one = key.is_instance_of::<PyString>() || key.extract::<&[u8]>().is_ok();
    let bound = if is_one { Ok(key.clone()) } else { key.get_item(decided.tier) };
    let message = Error::RateLimited { decision: *decided, key: String::new() }.to_string();
    match bound {
        Ok(bound) => raise(key.py(), "RateLimited", (message, decision, bound.unbind())),
        Err(error) => error,
    }
}

// The classes are written in Python, because a class from Rust cannot have two bases.
fn raise<A>(py: Python<'_>, class: &str, arguments: A) -> PyErr
where
    A: PyErrArguments + Send + Sync + 'static,
{
    let found = py.import("tidegate._errors").and_then(|module| module.getattr(class));
    match found.and_then(|class| Ok(class.cast_into::<PyType>()?)) {
        Ok(class) => PyErr::from_type(class, arguments),
        Err(error) => error,
    }
}
