//! An operation on shared buckets, checked and ready to be sent.

use std::sync::Arc;

use tidegate_core::{Cost, Limit, Operation, admit};

use crate::error::Error;
use crate::keys::RedisKeys;

/// An operation on shared buckets.
#[derive(Debug)]
pub struct Request {
    pub(crate) keys: RedisKeys,
    pub(crate) limits: Arc<[Limit]>,
    pub(crate) operation: Operation,
}

impl Request {
    /// An operation on the buckets of `keys`, one key that holds all tiers or one for each.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for keys of another number, or two that are the same: in
    /// one bucket of two tiers one would overwrite the other. [`Error::CostTooLarge`]: no
    /// server is asked for what can never be.
    pub fn new(
        keys: impl Into<RedisKeys>,
        limits: Arc<[Limit]>,
        operation: Operation,
    ) -> Result<Self, Error> {
        let keys = keys.into();
        let tiers = limits.len();
        if keys.len() != 1 && keys.len() != tiers {
            let message = format!("one key or {tiers} are needed, but {} were given", keys.len());
            return Err(Error::argument("key", message));
        }
        if (1..keys.len()).any(|at| keys[..at].contains(&keys[at])) {
            return Err(Error::argument("key", "two limits cannot share one key's bucket"));
        }
        admit(&limits, &operation).map_err(Error::from_engine)?;
        Ok(Self { keys, limits, operation })
    }

    /// The keys.
    pub fn keys(&self) -> &[Vec<u8>] {
        &self.keys
    }

    /// What a check or a peek of one bucket that holds all tiers may charge: a peek charges
    /// nothing. `None` for any other request.
    #[inline]
    pub(crate) fn plain_charge(&self) -> Option<Cost> {
        match self.operation {
            Operation::Check { cost } if self.keys.len() == 1 => Some(cost),
            Operation::Peek { .. } if self.keys.len() == 1 => Some(Cost::default()),
            _ => None,
        }
    }
}
