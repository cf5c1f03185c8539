//! Converts between Python's seconds and the limiter's whole nanoseconds.

use core::time::Duration;

use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt};

use crate::arguments::wrong_type;
use crate::errors::invalid_argument;

const NANOS_PER_SECOND: f64 = 1e9;
const NANO_DIGITS: usize = 9;

/// Durations below this many nanoseconds (52 days) are the nearest float: two roundings of it and of
/// the product with 1e9 lose less than a nanosecond together, which rounding up gives back.
const NEAREST_IS_ENOUGH: u64 = 1 << 52;

/// A duration in seconds, as the nearest float that is enough: neither it nor its product with 1e9,
/// rounded up, is ever less than `nanos`. It is infinite for the largest value, which is never.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn from_nanos(nanos: u64) -> f64 {
    let seconds = nanos as f64 / NANOS_PER_SECOND;
    match nanos {
        0..NEAREST_IS_ENOUGH => seconds,
        u64::MAX => f64::INFINITY,
        _ => enough(seconds, nanos),
    }
}

/// The first float from `seconds` on that is at least `nanos`, exactly and as a product in floats.
/// `seconds` is at least 2^22, so it is a multiple of 2^-30.
#[cold]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "they are positive")]
fn enough(mut seconds: f64, nanos: u64) -> f64 {
    let nanos = u128::from(nanos);
    let is_enough = |seconds: f64| {
        let parts = (seconds * f64::from(1 << 30)) as u128;
        parts * 1_000_000_000 >= nanos << 30 && (seconds * NANOS_PER_SECOND).ceil() as u128 >= nanos
    };
    while !is_enough(seconds) {
        seconds = seconds.next_up();
    }
    seconds
}

/// A duration in nanoseconds; the longest that they can say, 584 years, for a longer one.
pub(crate) fn saturating_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Reads a duration of a decision, rounded to the nearest nanosecond; infinite is the largest value.
pub(crate) fn nanos_of(name: &'static str, seconds: &Bound<'_, PyAny>) -> PyResult<u64> {
    let read = read(name, seconds)?;
    if read.is_infinite() && read > 0.0 {
        return Ok(u64::MAX);
    }
    Duration::try_from_secs_f64(read).map(saturating_nanos).map_err(|_| {
        let message = format!("it must be a number of seconds, at least 0, but is {read}");
        invalid_argument(seconds.py(), name, message)
    })
}

/// Reads a number of seconds or a timedelta; an integer too large for a float is read as infinite.
pub(crate) fn read(name: &'static str, seconds: &Bound<'_, PyAny>) -> PyResult<f64> {
    let seconds = &number_of_seconds(seconds)?;
    if seconds.is_instance_of::<PyBool>() {
        return Err(wrong_type(name, "a number of seconds", seconds));
    }
    match seconds.extract::<f64>() {
        Err(error) if error.is_instance_of::<PyOverflowError>(seconds.py()) => {
            Ok(if seconds.lt(0)? { f64::NEG_INFINITY } else { f64::INFINITY })
        }
        Err(_) => Err(wrong_type(name, "a number of seconds", seconds)),
        read => read,
    }
}

/// Reads a number of seconds as nanoseconds, in signed decimal digits; an error if that is not a
/// whole number. A float stands for the shortest decimal that prints it: 0.1 is a tenth. The
/// limiter checks size and sign.
pub(crate) fn exact_nanos(name: &'static str, seconds: &Bound<'_, PyAny>) -> PyResult<String> {
    let refused = || {
        let message = format!("it must be a whole number of nanoseconds, but is {seconds} s");
        invalid_argument(seconds.py(), name, message)
    };
    let seconds = &number_of_seconds(seconds)?;
    let is_number = seconds.is_instance_of::<PyInt>() || seconds.is_instance_of::<PyFloat>();
    if !is_number || seconds.is_instance_of::<PyBool>() {
        return Err(wrong_type(name, "a number of seconds", seconds));
    }
    let decimal = match seconds.cast::<PyFloat>() {
        Ok(float) => float.extract::<f64>()?.to_string(),
        Err(_) => seconds.str()?.to_string(),
    };
    shift_decimal(&decimal).ok_or_else(refused)
}

/// The seconds of a timedelta, and any other object as it is.
fn number_of_seconds<'py>(given: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    if given.is_instance_of::<PyFloat>() || given.is_instance_of::<PyInt>() {
        return Ok(given.clone());
    }
    match given.getattr_opt("total_seconds")? {
        Some(total_seconds) => total_seconds.call0(),
        None => Ok(given.clone()),
    }
}

/// Moves the point of a decimal number to the right by nine digits; `None` if digits are left
/// behind the point, or if it is not a number.
fn shift_decimal(decimal: &str) -> Option<String> {
    let (sign, digits) = match decimal.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", decimal),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction = fraction.trim_end_matches('0');
    let is_decimal = whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
    if !is_decimal || fraction.len() > NANO_DIGITS {
        return None;
    }
    let shifted = format!("{whole}{fraction:0<NANO_DIGITS$}");
    let trimmed = shifted.trim_start_matches('0');
    Some(format!("{sign}{}", if trimmed.is_empty() { "0" } else { trimmed }))
}
