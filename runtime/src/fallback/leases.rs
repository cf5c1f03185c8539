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

    /// Calls of one lane travel together, and fail together; others do not wait for them.
    pub(crate) fn lane_of(&self, call: &LeaseCall) -> u16 {
        self.store.lane_of(call)
    }

    /// Sends what slices are asked for, all of one lane, unless the breaker is open. Whether the
    /// store is back is for a caller's own call to find out.
    pub(crate) async fn lease(&self, calls: Vec<LeaseCall>) -> Vec<Result<Grant, Error>> {
        let of_node = calls.first().and_then(|call| self.store.way().breaker_of_node(&call.keys));
        let breaker = self.breaker(&of_node);
        let attempt = match breaker.attempt() {
            Ok(attempt) if attempt.is_probe => {
                breaker.abandoned(attempt);
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
            Some(error) => self.failed(&of_node, attempt, error),
            None => breaker.succeeded(attempt),
        }
        answers
    }
}
