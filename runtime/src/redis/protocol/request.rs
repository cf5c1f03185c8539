use std::sync::Arc;

use tidegate_core::{Limit, Operation};

use crate::error::Error;

/// An operation on shared buckets.
#[derive(Debug)]
pub struct Request {
    pub(super) keys: Vec<Vec<u8>>,
    pub(super) limits: Arc<[Limit]>,
    pub(super) operation: Operation,
}

impl Request {
    /// An operation on the buckets of `keys`, one key that holds all tiers or one for each.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for keys of another number, or two that are the same: in
    /// one bucket of two tiers one would overwrite the other. [`Error::CostTooLarge`]: no
    /// server is asked for what can never be.
    pub fn new(
        keys: Vec<Vec<u8>>,
        limits: Arc<[Limit]>,
        operation: Operation,
    ) -> Result<Self, Error> {
        let tiers = limits.len();
        if keys.len() != 1 && keys.len() != tiers {
            let message = format!("one key or {tiers} are needed, but {} were given", keys.len());
            return Err(Error::argument("key", message));
        }
        if (1..keys.len()).any(|at| keys[..at].contains(&keys[at])) {
            return Err(Error::argument("key", "two limits cannot share one key's bucket"));
        }
        if let Operation::Check { cost } | Operation::Reserve { cost, .. } = operation {
            let burst = limits.iter().map(Limit::burst).min().unwrap_or(0);
            if cost > burst {
                return Err(Error::CostTooLarge { cost, burst });
            }
        }
        Ok(Self { keys, limits, operation })
    }

    /// The keys.
    pub fn keys(&self) -> &[Vec<u8>] {
        &self.keys
    }

    /// The cost of a check of one bucket that holds all tiers.
    pub(super) fn plain_check(&self) -> Option<u64> {
        match self.operation {
            Operation::Check { cost } if self.keys.len() == 1 => Some(cost),
            _ => None,
        }
    }
}
