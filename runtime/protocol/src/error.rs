//! The errors of limiters, with codes that are the same in every language.

use core::{fmt, time::Duration};
use std::sync::Arc;

use tidegate_core::{Decision, Quoted};

/// What went wrong. A refusal is not among it, but where a caller was to be made to wait.
///
/// [`code`](Error::code) is stable and the same in every language
/// (`tests/vectors/errors.json`). Messages name the field and its bound, and
/// never contain a password.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A limit's text does not follow the grammar, or the limit breaks a bound.
    InvalidLimit {
        /// The text as given; none where the mistake is not in one limit's text.
        text: Option<String>,
        /// The bound it broke.
        source: tidegate_core::Error,
    },
    /// A store URL, key, or option is not usable.
    InvalidArgument {
        /// The argument's name.
        name: &'static str,
        /// What is wrong with it, and its bound.
        message: String,
    },
    /// The cost is above the burst: the call can never be allowed.
    CostTooLarge {
        /// The cost that was asked for, in tokens.
        cost: u64,
        /// The smallest burst among the limiter's limits, in tokens.
        burst: u64,
    },
    /// The slot is later than the caller would wait; nothing was charged. Only
    /// `Limiter::acquire` and its other form answer this.
    RateLimited {
        /// The refusal. Its `retry_after` is the least wait after which the same call, with
        /// the same timeout, would get a slot if nobody else came.
        decision: Decision,
        /// The key; of one key per limit, that of the limit that bound the decision. The
        /// message does not repeat it.
        key: String,
    },
    /// No concurrency permit came free in time. Only `Concurrency::acquire` and its other form answer
    /// this.
    NoPermit {
        /// The number of permits.
        limit: u64,
        /// How long the caller would wait.
        timeout: Duration,
    },
    /// The store could not be reached, or refused the operation.
    Store(StoreFailure),
    /// The store did not answer in time. The cost may or may not have been charged.
    StoreTimeout {
        /// The store timeout.
        after: Duration,
        /// The error of the client or the operating system that says so, if there is one.
        cause: Cause,
    },
    /// The bucket's key holds a value that Tidegate did not write.
    CorruptBucket {
        /// The key in the store.
        key: String,
    },
}

impl Error {
    /// The stable code of the error's class.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::InvalidLimit { .. } => "invalid_limit",
            Self::InvalidArgument { .. } => "invalid_argument",
            Self::CostTooLarge { .. } => "cost_too_large",
            Self::RateLimited { .. } => "rate_limited",
            Self::NoPermit { .. } => "no_permit",
            Self::Store(_) => "store_error",
            Self::StoreTimeout { .. } => "store_timeout",
            Self::CorruptBucket { .. } => "corrupt_bucket",
        }
    }

    /// The stable name of the bound that an invalid limit broke.
    pub const fn reason(&self) -> Option<&'static str> {
        match self {
            Self::InvalidLimit { source, .. } => Some(source.reason()),
            _ => None,
        }
    }

    /// A store that did not answer within `after`, without another error as the cause.
    #[doc(hidden)]
    pub const fn timeout(after: Duration) -> Self {
        Self::StoreTimeout { after, cause: Cause::NONE }
    }

    /// A mistake in an argument.
    #[doc(hidden)]
    pub fn argument(name: &'static str, message: impl Into<String>) -> Self {
        Self::InvalidArgument { name, message: message.into() }
    }

    /// An error of the engine on a call; `limits` have been checked before.
    #[doc(hidden)]
    pub fn from_engine(error: tidegate_core::Error) -> Self {
        match error {
            error @ tidegate_core::Error::CostCount { .. } => {
                Self::argument("cost", error.to_string())
            }
            tidegate_core::Error::CostTooLarge { cost, burst } => {
                Self::CostTooLarge { cost, burst }
            }
            source => Self::InvalidLimit { text: None, source },
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidLimit { text: None, source } => source.fmt(f),
            Self::InvalidLimit { text: Some(text), source } => {
                write!(f, "invalid limit {}: {}", Quoted(text), source.in_text(text))
            }
            Self::InvalidArgument { name, message } => write!(f, "invalid {name}: {message}"),
            Self::CostTooLarge { cost, burst } => {
                tidegate_core::Error::CostTooLarge { cost: *cost, burst: *burst }.fmt(f)
            }
            Self::RateLimited { decision, .. } => {
                let wait = Duration::from_nanos(decision.retry_after);
                write!(f, "rate limited: no slot within the timeout; try again in {wait:?}")
            }
            Self::NoPermit { limit, timeout } => {
                write!(f, "no permit: none of {limit} came free within {timeout:?}")
            }
            Self::Store(failure) => write!(f, "store error: {failure}"),
            Self::StoreTimeout { after, cause } => {
                write!(f, "the store did not answer within {} ms", after.as_millis())?;
                match cause.get().and_then(|cause| cause.downcast_ref::<AwaitedInVain>()) {
                    Some(unanswered) => write!(f, " ({unanswered})"),
                    None => Ok(()),
                }
            }
            Self::CorruptBucket { key } => {
                write!(f, "corrupt bucket: key {key:?} holds a value that Tidegate did not write")
            }
        }
    }
}

impl core::error::Error for Error {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::InvalidLimit { source, .. } => Some(source),
            Self::Store(StoreFailure { cause, .. }) | Self::StoreTimeout { cause, .. } => {
                cause.get()
            }
            _ => None,
        }
    }
}

/// Why a store could not be reached, or refused an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreFailure {
    /// The reason in words, without passwords. A server's own error begins with its code.
    pub message: String,
    /// The error of the client or the operating system from which it follows, if there is one.
    pub cause: Cause,
}

impl StoreFailure {
    /// A failure that follows from another error.
    pub fn new(
        message: impl Into<String>,
        cause: impl core::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self { message: message.into(), cause: Cause::new(cause) }
    }
}

impl From<String> for StoreFailure {
    fn from(message: String) -> Self {
        Self { message, cause: Cause::NONE }
    }
}

impl From<&str> for StoreFailure {
    fn from(message: &str) -> Self {
        message.to_owned().into()
    }
}

impl fmt::Display for StoreFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The error from which another one follows. It is shared by all callers of a batch, and takes no
/// part in comparisons.
#[derive(Clone, Debug)]
pub struct Cause(Option<Arc<dyn core::error::Error + Send + Sync>>);

impl Cause {
    /// No other error.
    pub const NONE: Self = Self(None);

    /// The error `cause`.
    pub fn new(cause: impl core::error::Error + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(cause)))
    }

    /// What a call waited for that did not come; a timeout's message says it.
    #[doc(hidden)]
    pub fn awaited_in_vain(what: String) -> Self {
        Self::new(AwaitedInVain(what))
    }

    /// The error, if there is one.
    pub fn get(&self) -> Option<&(dyn core::error::Error + 'static)> {
        self.0.as_deref().map(|cause| cause as _)
    }
}

/// What a call waited for that did not come, as far as is known.
#[derive(Debug)]
struct AwaitedInVain(String);

impl fmt::Display for AwaitedInVain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for AwaitedInVain {}

impl PartialEq for Cause {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Cause {}
