//! The bounds of a limiter's options, and the errors for values outside of them.
//!
//! The errors take the value as text, because a binding may have read one that the option's type
//! cannot hold, such as a negative number of seconds.

use core::fmt::Display;
use core::time::Duration;

use crate::Error;

/// The most keys that memory, shared or not, can have room for.
pub(crate) const MAX_KEYS: usize = 100_000_000;

/// The most checks of one `check_many`. They are read, planned and answered in one go, which takes up to
/// 2 µs each over Redis: more of them would hold up an event loop, and pass the store timeout.
pub const MAX_CHECKS: usize = 10_000;

const MIN_STORE_TIMEOUT: Duration = Duration::from_millis(1);
const MAX_STORE_TIMEOUT: Duration = Duration::from_secs(60);
const MAX_DENY_CACHE: Duration = Duration::from_secs(60);
const MAX_WAITING: usize = 1_000_000;

pub(crate) fn check_store_timeout(timeout: Duration) -> Result<(), Error> {
    if (MIN_STORE_TIMEOUT..=MAX_STORE_TIMEOUT).contains(&timeout) {
        return Ok(());
    }
    Err(invalid_store_timeout(format_args!("{timeout:?}")))
}

/// The error for a store timeout that is out of bounds.
pub fn invalid_store_timeout(found: impl Display) -> Error {
    Error::argument("store_timeout", format!("it must be 1 ms to 60 s, but is {found}"))
}

/// The error for more checks than one call may make.
pub fn too_many_checks() -> Error {
    let message = format!("there may be at most {MAX_CHECKS} in one call; make several calls");
    Error::argument("checks", message)
}

pub(crate) fn check_deny_cache(longest: Duration) -> Result<Duration, Error> {
    if longest <= MAX_DENY_CACHE {
        return Ok(longest);
    }
    Err(invalid_deny_cache(format_args!("{longest:?}")))
}

/// The error for a time to keep refusals that is out of bounds.
pub fn invalid_deny_cache(found: impl Display) -> Error {
    Error::argument("deny_cache", format!("it must be 0 to 60 s, but is {found}"))
}

pub(crate) fn check_max_keys(max_keys: usize) -> Result<usize, Error> {
    if (1..=MAX_KEYS).contains(&max_keys) {
        return Ok(max_keys);
    }
    Err(invalid_max_keys(max_keys))
}

/// The error for a number of keys that is out of bounds.
pub fn invalid_max_keys(found: impl Display) -> Error {
    Error::argument("max_keys", format!("it must be 1 to {MAX_KEYS}, but is {found}"))
}

pub(crate) fn check_max_waiting(max_waiting: usize) -> Result<usize, Error> {
    if (1..=MAX_WAITING).contains(&max_waiting) {
        return Ok(max_waiting);
    }
    Err(invalid_max_waiting(max_waiting))
}

/// The error for a number of waiting callers that is out of bounds.
pub fn invalid_max_waiting(found: impl Display) -> Error {
    Error::argument("max_waiting", format!("it must be 1 to {MAX_WAITING}, but is {found}"))
}
