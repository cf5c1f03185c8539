//! Leases keep from a failing store as calls do.

use tidegate_core::Grant;

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
        let attempt = match self.breaker.attempt() {
            Ok(attempt) if attempt.is_probe => {
                self.breaker.abandoned(attempt);
                let error = Error::Store("not asked before a call has found it well".into());
                return calls.iter().map(|_| Err(error.clone())).collect();
            }
            Ok(attempt) => attempt,
            Err(error) => return calls.iter().map(|_| Err(error.clone())).collect(),
        };
        let answers = self.store.lease(calls).await;
        let failure = answers.iter().find_map(|answer| match answer {
            Err(error @ (Error::Store(_) | Error::StoreTimeout { .. })) => Some(error),
            _ => None,
        });
        match failure {
            Some(error) => self.breaker.failed(attempt, error),
            None => self.breaker.succeeded(attempt),
        }
        answers
    }
}
