//! Reads the arguments that Python gives. Each error names the argument and its bound.

use core::time::Duration;
use std::sync::Arc;

use pyo3::IntoPyObjectExt as _;
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyInt, PyMapping, PyMemoryView, PySequence, PyString, PyTuple,
};
use tidegate::bindings::{
    MAX_CHECKS, invalid_deny_cache, invalid_max_keys, invalid_max_waiting, invalid_store_timeout,
    too_many_checks,
};
use tidegate::{Cost, LeaseOptions, ManualClock, OnFull};

use crate::clients::ClientConnection;
use crate::clock::FakeClock;
use crate::errors::{exception, invalid_argument};
use crate::seconds;

const KEY_TYPES: &str = "str or bytes, or a sequence of them";
const MAX_TOKENS: i64 = i64::MAX;
const WHOLE: &str = "a whole number, or a sequence of one for each limit";

/// The `key` argument: one key for all limits, borrowed from a `str` or `bytes`, or a sequence of
/// one key per limit. The limiter checks their number and lengths.
pub(crate) enum Keys<'a> {
    One(&'a [u8]),
    Each(Vec<Vec<u8>>),
}

impl<'a, 'py> FromPyObject<'a, 'py> for Keys<'a> {
    type Error = PyErr;

    #[inline]
    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        match one_key(object)? {
            Some(key) => Ok(Self::One(key)),
            None => key_per_limit(&object),
        }
    }
}

#[inline(never)]
pub(crate) fn key_per_limit<'a>(object: &Bound<'_, PyAny>) -> PyResult<Keys<'a>> {
    // A bytearray or a memoryview is a sequence of numbers.
    let has_numbers =
        object.is_instance_of::<PyByteArray>() || object.is_instance_of::<PyMemoryView>();
    let Some(keys) = object.cast::<PySequence>().ok().filter(|_| !has_numbers) else {
        return Err(wrong_key("key", KEY_TYPES, object));
    };
    let each = keys.try_iter()?.map(|key| {
        let key = key?;
        match one_key(key.as_borrowed())? {
            Some(bytes) => Ok(bytes.to_vec()),
            None => Err(wrong_key("each of key", "str or bytes", &key)),
        }
    });
    each.collect::<PyResult<_>>().map(Keys::Each)
}

impl Keys<'_> {
    /// Calls `use_them` with the keys in the limiter's form.
    pub(crate) fn lend<R>(&self, use_them: impl FnOnce(tidegate::Keys<'_>) -> R) -> R {
        match self {
            Self::One(key) => use_them(tidegate::Keys::One(key)),
            Self::Each(_) => use_them(tidegate::Keys::Each(&self.each())),
        }
    }

    fn each(&self) -> Vec<&[u8]> {
        match self {
            Self::One(_) => Vec::new(),
            Self::Each(keys) => keys.iter().map(|key| &**key).collect(),
        }
    }
}

/// The bytes of a `str` or `bytes`; `None` for any other object.
#[inline]
pub(crate) fn one_key<'a>(object: Borrowed<'a, '_, PyAny>) -> PyResult<Option<&'a [u8]>> {
    if object.is_instance_of::<PyString>() {
        return utf8("key", object).map(|text| Some(text.as_bytes()));
    }
    match object.extract::<&[u8]>() {
        Ok(bytes) if object.is_instance_of::<PyBytes>() => Ok(Some(bytes)),
        _ => Ok(None),
    }
}

/// The `checks` argument of `check_many`: each is a key or a tuple of a key and a cost.
pub(crate) struct Checks<'py>(Vec<(Bound<'py, PyAny>, Cost)>);

impl<'a, 'py> FromPyObject<'a, 'py> for Checks<'py> {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        let text = object.is_instance_of::<PyString>() || object.is_instance_of::<PyBytes>();
        let Some(checks) = object.try_iter().ok().filter(|_| !text) else {
            return Err(wrong_type("checks", "an iterable of keys or (key, cost)", &object));
        };
        let read = |check: PyResult<Bound<'py, PyAny>>| {
            let check = check?;
            let Ok(tuple) = check.cast::<PyTuple>() else {
                return Ok((check, Cost::same(1)));
            };
            if tuple.len() != 2 {
                check_keys(tuple)?;
                return Ok((check, Cost::same(1)));
            }
            let pair = tuple;
            let second = pair.get_item(1)?;
            // A tuple of two keys is one key per limit.
            if one_key(second.as_borrowed())?.is_some() {
                return Ok((check, Cost::same(1)));
            }
            Ok((pair.get_item(0)?, cost(&second)?))
        };
        // No more are read, because an iterator may have no end.
        let read: Vec<_> = checks.map(read).take(MAX_CHECKS + 1).collect::<PyResult<_>>()?;
        if read.len() > MAX_CHECKS {
            return Err(exception(object.py(), &too_many_checks()));
        }
        Ok(Self(read))
    }
}

/// Refuses a tuple with a number, which is meant as a key with several costs and would be read as a key
/// for each limit.
fn check_keys(tuple: &Bound<'_, PyTuple>) -> PyResult<()> {
    if tuple.iter().any(|part| part.is_instance_of::<PyInt>()) {
        let message = "each of checks must be a key, (key, cost) or a tuple of keys, one for each \
                       limit; several costs are (key, (1, 2))";
        return Err(PyTypeError::new_err(message));
    }
    Ok(())
}

impl Checks<'_> {
    /// Calls `use_them` with the checks in the limiter's form.
    pub(crate) fn lend<R>(
        &self,
        use_them: impl FnOnce(Vec<(tidegate::Keys<'_>, Cost)>) -> R,
    ) -> PyResult<R> {
        let read = self.0.iter().map(|(key, _)| key.extract::<Keys<'_>>());
        let keys = read.collect::<PyResult<Vec<_>>>()?;
        let each: Vec<Vec<&[u8]>> = keys.iter().map(Keys::each).collect();
        let checks = keys.iter().zip(&each).zip(&self.0).map(|((keys, each), (_, cost))| {
            let keys = match keys {
                Keys::One(key) => tidegate::Keys::One(key),
                Keys::Each(_) => tidegate::Keys::Each(each),
            };
            (keys, *cost)
        });
        Ok(use_them(checks.collect()))
    }
}

/// An argument that Python code checks; `None` only when it is left out.
#[allow(clippy::unnecessary_wraps)] // PyO3 asks for a Result
pub(crate) fn given(object: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
    Ok(Some(object.clone().unbind()))
}

/// A cost in tokens: a whole number, but not a `bool`, or a sequence of one for each limit.
pub(crate) fn cost(object: &Bound<'_, PyAny>) -> PyResult<Cost> {
    tokens_of("cost", object)
}

/// The number of tokens that were charged.
pub(crate) fn charged(object: &Bound<'_, PyAny>) -> PyResult<Cost> {
    tokens_of("charged", object)
}

/// The number of tokens that were used.
pub(crate) fn actual(object: &Bound<'_, PyAny>) -> PyResult<Cost> {
    tokens_of("actual", object)
}

/// The number of tokens to give back.
pub(crate) fn tokens(object: &Bound<'_, PyAny>) -> PyResult<Cost> {
    tokens_of("tokens", object)
}

#[inline]
fn tokens_of(name: &'static str, object: &Bound<'_, PyAny>) -> PyResult<Cost> {
    // Most costs are one number.
    if object.is_exact_instance_of::<PyInt>() || object.cast::<PySequence>().is_err() {
        return whole_tokens(name, object, WHOLE).map(Cost::same);
    }
    tokens_of_each(name, object)
}

#[cold]
#[inline(never)]
fn tokens_of_each(name: &'static str, object: &Bound<'_, PyAny>) -> PyResult<Cost> {
    // The elements of bytes are numbers, which nobody means as costs.
    let is_binary = [object.is_instance_of::<PyBytes>(), object.is_instance_of::<PyByteArray>()];
    if object.is_instance_of::<PyString>() || is_binary.contains(&true) || is_memory_view(object)? {
        return Err(wrong_type(name, WHOLE, object));
    }
    let numbers = object.try_iter()?.map(|number| whole_tokens(name, &number?, "whole numbers"));
    let numbers = numbers.collect::<PyResult<Vec<_>>>()?;
    Cost::each(&numbers).map_err(|_| {
        let message = format!("it must be one number for each limit, but has {}", numbers.len());
        invalid_argument(object.py(), name, message)
    })
}

fn is_memory_view(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(object.get_type().name()? == "memoryview")
}

/// The numbers of a cost as Python has them: an `int`, or a tuple with one for each limit.
pub(crate) fn cost_object<'py>(py: Python<'py>, cost: &Cost) -> PyResult<Bound<'py, PyAny>> {
    match cost.uniform() {
        Some(tokens) => tokens.into_bound_py_any(py),
        None => Ok(PyTuple::new(py, cost.numbers())?.into_any()),
    }
}

fn whole_tokens(name: &'static str, object: &Bound<'_, PyAny>, expected: &str) -> PyResult<u64> {
    let py = object.py();
    if object.is_instance_of::<PyBool>() {
        return Err(wrong_type(name, expected, object));
    }
    let out_of_bounds = || {
        let message = format!("it must be 0 to {MAX_TOKENS}, but is {object}");
        invalid_argument(py, name, message)
    };
    match object.extract::<i64>() {
        Ok(tokens) => u64::try_from(tokens).map_err(|_| out_of_bounds()),
        Err(error) if error.is_instance_of::<PyOverflowError>(py) => {
            let message = format!("it must be 0 to {MAX_TOKENS}, but has more than 64 bits");
            Err(invalid_argument(py, name, message))
        }
        Err(_) => Err(wrong_type(name, expected, object)),
    }
}

/// The longest wait that a caller accepts; `None` for any wait.
pub(crate) fn max_wait(object: &Bound<'_, PyAny>) -> PyResult<Option<Duration>> {
    optional_wait("max_wait", object)
}

/// The longest wait that a caller accepts; `None` for any wait.
pub(crate) fn timeout(object: &Bound<'_, PyAny>) -> PyResult<Option<Duration>> {
    optional_wait("timeout", object)
}

fn optional_wait(name: &'static str, object: &Bound<'_, PyAny>) -> PyResult<Option<Duration>> {
    if object.is_none() { Ok(None) } else { wait_of(name, object).map(Some) }
}

/// How long to pause, in seconds.
pub(crate) fn wait(object: &Bound<'_, PyAny>) -> PyResult<Duration> {
    wait_of("wait", object)
}

fn wait_of(name: &'static str, object: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let seconds = seconds::read(name, object)?;
    if seconds >= 0.0 {
        // A wait that a Duration cannot hold counts as the longest one.
        return Ok(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX));
    }
    let message = format!("it must be 0 seconds or more, but is {seconds}");
    Err(invalid_argument(object.py(), name, message))
}

/// Where buckets live.
pub(crate) enum StoreChoice {
    Url(String),
    Client(Py<ClientConnection>),
}

/// The `store` argument: a URL, or a Redis client.
pub(crate) fn store(object: &Bound<'_, PyAny>) -> PyResult<StoreChoice> {
    if object.is_instance_of::<PyString>() {
        return text("store", object).map(|url| StoreChoice::Url(url.to_owned()));
    }
    ClientConnection::of(object).map(StoreChoice::Client)
}

/// The prefix of all keys of a limiter; the default one for None.
pub(crate) fn prefix(object: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    if object.is_none() {
        return Ok(None);
    }
    text("prefix", object).map(|prefix| Some(prefix.to_owned()))
}

/// The store timeout, given in seconds. The limiter checks its bounds.
pub(crate) fn store_timeout(object: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let seconds = seconds::read("store_timeout", object)?;
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| exception(object.py(), &invalid_store_timeout(format_args!("{seconds} s"))))
}

/// How long a refusal may be kept, given in seconds. The limiter checks its bounds.
pub(crate) fn deny_cache(object: &Bound<'_, PyAny>) -> PyResult<Option<Duration>> {
    if object.is_none() {
        return Ok(None);
    }
    let seconds = seconds::read("deny_cache", object)?;
    Duration::try_from_secs_f64(seconds)
        .map(Some)
        .map_err(|_| exception(object.py(), &invalid_deny_cache(format_args!("{seconds} s"))))
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

/// How many keys memory has room for. The limiter checks its bounds.
pub(crate) fn max_keys(object: &Bound<'_, PyAny>) -> PyResult<Option<usize>> {
    if object.is_none() {
        return Ok(None);
    }
    let number = whole_number("max_keys", object)?;
    let refused = |found: &str| Err(exception(object.py(), &invalid_max_keys(found)));
    let Some(keys) = number else { return refused("a number of more than 64 bits") };
    usize::try_from(keys).map_or_else(|_| refused(&keys.to_string()), |keys| Ok(Some(keys)))
}

/// How many callers may wait for a key. The limiter checks its bounds.
pub(crate) fn max_waiting(object: &Bound<'_, PyAny>) -> PyResult<Option<usize>> {
    if object.is_none() {
        return Ok(None);
    }
    let number = whole_number("max_waiting", object)?;
    let refused = |found: &str| Err(exception(object.py(), &invalid_max_waiting(found)));
    let Some(callers) = number else { return refused("a number of more than 64 bits") };
    usize::try_from(callers).map_or_else(|_| refused(&callers.to_string()), |it| Ok(Some(it)))
}

/// Whether each script call over a client has a single key.
pub(crate) fn per_key_calls(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    match object.cast::<PyBool>() {
        Ok(given) => Ok(given.is_true()),
        Err(_) => Err(wrong_type("per_key_calls", "True or False", object)),
    }
}

/// Whether a store has no script calls, so that options of them have no effect.
pub(crate) fn has_no_calls(url: &str) -> bool {
    url.starts_with("memory://") || url.starts_with("shm://")
}

/// The answer while the store fails. The limiter checks its name.
pub(crate) fn on_store_error(object: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    if object.is_none() {
        Ok(None)
    } else {
        text("on_store_error", object).map(|it| Some(it.to_owned()))
    }
}

/// How many processes share the limits. The limiter checks its bounds.
pub(crate) fn peers(object: &Bound<'_, PyAny>) -> PyResult<Option<u64>> {
    if object.is_none() {
        return Ok(None);
    }
    // The limiter refuses 0, and so a negative number, and the largest one.
    let number = whole_number("peers", object)?;
    Ok(Some(number.map_or(u64::MAX, |peers| u64::try_from(peers).unwrap_or(0))))
}

/// A whole number for an option, but not a `bool`; `None` for one of more than 64 bits.
fn whole_number(name: &'static str, object: &Bound<'_, PyAny>) -> PyResult<Option<i64>> {
    if object.is_instance_of::<PyBool>() {
        return Err(wrong_type(name, "a whole number or None", object));
    }
    match object.extract::<i64>() {
        Ok(number) => Ok(Some(number)),
        Err(error) if error.is_instance_of::<PyOverflowError>(object.py()) => Ok(None),
        Err(_) => Err(wrong_type(name, "a whole number or None", object)),
    }
}

/// How buckets are leased: a dict with "ttl" and optionally "max_share". The limiter checks their
/// bounds.
pub(crate) fn lease(object: &Bound<'_, PyAny>) -> PyResult<Option<LeaseOptions>> {
    if object.is_none() {
        return Ok(None);
    }
    let Ok(fields) = object.cast::<PyMapping>() else {
        return Err(wrong_type("lease", "a dict with \"ttl\", or None", object));
    };
    let refused = |message: String| Err(invalid_argument(object.py(), "lease", message));
    let (mut ttl, mut max_share) = (None, 1.0);
    for name in fields.keys()? {
        let value = fields.get_item(&name)?;
        match name.extract::<&str>() {
            Ok("ttl") => ttl = Some(seconds::read("lease", &value)?),
            Ok("max_share") => max_share = share(&value)?,
            _ => return refused(format!("it has \"ttl\" and \"max_share\", not {name}")),
        }
    }
    let Some(ttl) = ttl else { return refused("it needs a \"ttl\", in seconds".to_owned()) };
    // The conversion rounds to the nearest nanosecond, so that 0.3 is the whole number of milliseconds
    // that it must be. The limiter refuses zero, which also stands for what a Duration cannot hold.
    let ttl = Duration::try_from_secs_f64(ttl).unwrap_or_default();
    Ok(Some(LeaseOptions::new(ttl).max_share(max_share)))
}

fn share(object: &Bound<'_, PyAny>) -> PyResult<f64> {
    if object.is_instance_of::<PyBool>() {
        return Err(wrong_type("max_share", "a number", object));
    }
    object.extract().map_err(|_| wrong_type("max_share", "a number", object))
}

/// The treatment of a new key when there is no room.
pub(crate) fn on_full(object: &Bound<'_, PyAny>) -> PyResult<Option<OnFull>> {
    if object.is_none() {
        return Ok(None);
    }
    let name = text("on_full", object)?;
    OnFull::parse(name).map(Some).ok_or_else(|| {
        let message = format!("it must be \"evict_idlest\" or \"deny\", but is {name:?}");
        invalid_argument(object.py(), "on_full", message)
    })
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

/// The error for what is no key. A number could be written in several ways, so it is not a key.
fn wrong_key(name: &str, expected: &str, object: &Bound<'_, PyAny>) -> PyErr {
    if object.is_exact_instance_of::<PyInt>() {
        let message = format!("{name} must be {expected}, not int; str(key) makes a key of it");
        return PyTypeError::new_err(message);
    }
    wrong_type(name, expected, object)
}

/// The TypeError for an argument of a wrong type.
pub(crate) fn wrong_type(name: &str, expected: &str, object: &Bound<'_, PyAny>) -> PyErr {
    match object.get_type().name() {
        Ok(found) => PyTypeError::new_err(format!("{name} must be {expected}, not {found}")),
        Err(error) => error,
    }
}
