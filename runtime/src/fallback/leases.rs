//! Leases keep from a failing store as calls do.

use tidegate_core::{Attempt, Grant};

use super::{GuardedStore, OfNode};
use crate::answer::lost;
use crate::error::Error;
use crate::redis::LeaseCall;

impl GuardedStore {
    /// Whether leases can be renewed.
    pub(crate) fn is_leasable(&self) -> bool {
        self.store.is_leasable()
    }

    /// Sends what slices are asked for, but where the breaker is open.
    pub(crate) async fn lease(&self, calls: Vec<LeaseCall>) -> Vec<Result<Grant, Error>> {
        let mut answers: Vec<_> = calls.iter().map(|_| Err(lost())).collect();
        let (mut sent, mut guards) = (Vec::new(), Vec::new());
        for (place, call) in calls.into_iter().enumerate() {
            let of_node = self.store.breaker_of_node(&call.keys);
            match self.attempt_lease(&of_node) {
                Ok(attempt) => {
                    guards.push((place, of_node, attempt));
                    sent.push(call);
                }
                Err(error) => answers[place] = Err(error),
            }
        }
        for ((place, of_node, attempt), answer) in
            guards.into_iter().zip(self.store.lease(sent).await)
        {
            self.leased(&of_node, attempt, &answer);
            answers[place] = answer;
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
            Err(error @ (Error::Store(_) | Error::StoreTimeout { .. })) => {
                self.failed(of_node, attempt, error);
            }
            _ => self.breaker(of_node).succeeded(attempt),
        }
    }
}
