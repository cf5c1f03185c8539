//! What a limiter answers while its Redis fails, as an option.

use core::num::NonZeroU32;

use crate::error::Error;

/// The most members that a fleet can have.
const MAX_PEERS: u32 = 1_000_000;

/// What a limiter answers while its Redis cannot be reached, does not answer in time, or
/// refuses what it is asked. A bucket that holds something else than a bucket
/// ([`Error::CorruptBucket`]) and mistakes in the arguments are errors whatever this says.
///
/// Answers that the store has not given have the source [`Fallback`](tidegate_core::Source::Fallback).
///
/// ```
/// use tidegate::{Limiter, OnStoreError, Source};
/// let limiter = Limiter::builder()
///     .limit("100/s")
///     .store_url("redis://127.0.0.1:1") // where none is
///     .on_store_error(OnStoreError::Deny)
///     .build()?;
/// let decision = limiter.check("user:42", 1)?;
/// assert!(!decision.allowed && decision.source == Source::Fallback);
/// # Ok::<(), tidegate::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnStoreError {
    /// The store's error.
    #[default]
    Raise,
    /// Everything is allowed, as from a bucket never used, and nothing is charged anywhere.
    Allow,
    /// Everything is refused, until the store is asked again.
    Deny,
    /// This process goes on with a share of each limit, in its own memory: of as many equal
    /// shares as the fleet has members. The share's bucket is empty when the failure begins;
    /// what is spent of it is charged to the store when it is back.
    Local {
        /// How many processes share the limits: 1 to 1,000,000.
        peers: u32,
    },
}

impl OnStoreError {
    /// Reads the names that every binding uses, `"raise"`, `"allow"`, `"deny"` or `"local"`,
    /// and the number of peers, which `"local"` needs and no other takes.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`].
    pub fn parse(name: &str, peers: Option<u64>) -> Result<Self, Error> {
        let policy = match (name, peers) {
            ("local", Some(peers)) => {
                // What 32 bits do not hold is out of bounds as well.
                let peers = u32::try_from(peers).unwrap_or(u32::MAX);
                return checked_peers(peers).map(|_| Self::Local { peers });
            }
            ("local", None) => {
                let message = "on_store_error \"local\" needs the number of processes that share \
                               the limits";
                return Err(Error::argument("peers", message));
            }
            ("raise", _) => Self::Raise,
            ("allow", _) => Self::Allow,
            ("deny", _) => Self::Deny,
            (other, _) => {
                let message = format!(
                    "it must be \"raise\", \"allow\", \"deny\" or \"local\", but is {other:?}"
                );
                return Err(Error::argument("on_store_error", message));
            }
        };
        match peers {
            None => Ok(policy),
            Some(_) => Err(Error::argument("peers", "it is for on_store_error \"local\" only")),
        }
    }
}

impl OnStoreError {
    /// Checks what does not depend on the limits, for a store that cannot fail and so needs no policy.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a number of peers out of bounds.
    #[doc(hidden)]
    pub fn check(self) -> Result<(), Error> {
        match self {
            Self::Local { peers } => checked_peers(peers).map(drop),
            Self::Raise | Self::Allow | Self::Deny => Ok(()),
        }
    }
}

pub(super) fn checked_peers(peers: u32) -> Result<NonZeroU32, Error> {
    NonZeroU32::new(peers).filter(|peers| peers.get() <= MAX_PEERS).ok_or_else(|| {
        Error::argument("peers", format!("it must be 1 to {MAX_PEERS}, but is {peers}"))
    })
}
