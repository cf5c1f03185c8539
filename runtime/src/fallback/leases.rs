//! Leases keep from a failing store as calls do.

use tidegate_core::{Attempt, Grant};

use super::{GuardedStore, OfNode};
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

    /// Sends what slices are asked for, all of one lane, but where the breaker is open.
    pub(crate) async fn lease(&self, calls: Vec<LeaseCall>) -> Vec<Result<Grant, Error>> {
        let of_node = calls.first().and_then(|call| self.store.way().breaker_of_node(&call.keys));
        let attempt = match self.attempt_lease(&of_node) {
            Ok(attempt) => attempt,
            Err(error) => return calls.iter().map(|_| Err(error.clone())).collect(),
        };
        let answers = self.store.lease(calls).await;
        let failed = answers.iter().find(|answer| is_failure(answer));
        if let Some(answer) = failed.or(answers.first()) {
            self.leased(&of_node, attempt, answer);
        }
        answers
    }

    /// Whether a slice may be asked for now. Whether a server is back is for a caller's own call
    /// to find out.
    pub(crate) fn attempt_lease(&self, of_node: &OfNode) -> Result<Attempt, Error> {
        let breaker = self.breaker(of_node);
        let attempt = breaker.attempt()?;
        if attempt.is_probe {
            breaker.abandoned(attempt);
            return Err(Error::Store("not asked before a call has found it well".into()));
        }
        Ok(attempt)
    }

    /// Tells the breaker what came of it.
    pub(crate) fn leased(&self, of_node: &OfNode, attempt: Attempt, answer: &Result<Grant, Error>) {
        match answer {
            Err(error) if is_failure(answer) => self.failed(of_node, attempt, error),
            _ => self.breaker(of_node).succeeded(attempt),
        }
    }
}

fn is_failure(answer: &Result<Grant, Error>) -> bool {
    matches!(answer, Err(Error::Store(_) | Error::StoreTimeout { .. }))
}
