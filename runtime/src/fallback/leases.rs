//! Leases keep from a failing store as calls do.

use tidegate_core::{Attempt, Grant};

use super::GuardedStore;
use crate::error::Error;
use crate::redis::LeaseCall;

impl GuardedStore {
    /// Whether leases can be renewed.
    pub(crate) fn is_leasable(&self) -> bool {
        self.store.is_leasable()
    }

    /// Sends what slices are asked for, unless the breaker is open. Whether the store is back
    /// is for a caller's own call to find out.
    pub(crate) async fn lease(&self, calls: Vec<LeaseCall>) -> Vec<Result<Grant, Error>> {
        let attempt = match self.attempt_lease() {
            Ok(attempt) => attempt,
            Err(error) => return calls.iter().map(|_| Err(error.clone())).collect(),
        };
        let answers = self.store.lease(calls).await;
        self.leased(attempt, &answers);
        answers
    }

    /// Whether slices may be asked for now.
    pub(crate) fn attempt_lease(&self) -> Result<Attempt, Error> {
        let attempt = self.breaker.attempt()?;
        if attempt.is_probe {
            self.breaker.abandoned(attempt);
            return Err(Error::Store("not asked before a call has found it well".into()));
        }
        Ok(attempt)
    }

    /// Tells the breaker what came of it.
    pub(crate) fn leased(&self, attempt: Attempt, answers: &[Result<Grant, Error>]) {
        let failure = answers.iter().find_map(|answer| match answer {
            Err(error @ (Error::Store(_) | Error::StoreTimeout { .. })) => Some(error),
            _ => None,
        });
        match failure {
            Some(error) => self.breaker.failed(attempt, error),
            None => self.breaker.succeeded(attempt),
        }
    }
}
