//! Leases keep from a failing store as calls do.

use tidegate_core::{Attempt, Grant};

use super::{GuardedStore, OfNode};
use crate::error::Error;
use crate::store::{Host as _, Store, Way as _};

/// Slices of one node are being asked for.
pub struct LeaseAttempt {
    of_node: OfNode,
    attempt: Attempt,
}

impl<S: Store> GuardedStore<S> {
    /// Whether slices of the bucket under these keys may be asked for now, with others of its
    /// node. Whether a server is back is for a caller's own call to find out.
    ///
    /// # Errors
    /// [`Error::Store`] if not; nothing is then to be sent.
    pub fn attempt_lease(&self, keys: &[Vec<u8>]) -> Result<LeaseAttempt, Error> {
        let of_node = self.store.way().ok().and_then(|way| way.breaker_of_node(keys));
        let breaker = self.breaker(&of_node);
        let attempt = breaker.attempt(S::Host::now)?;
        if attempt.is_probe {
            breaker.abandoned(attempt);
            return Err(Error::Store("not asked before a call has found it well".into()));
        }
        Ok(LeaseAttempt { of_node, attempt })
    }

    /// Tells the breaker what came of it: once, as the questions travelled together.
    pub fn leased(&self, lease: LeaseAttempt, answers: &[Result<Grant, Error>]) {
        let LeaseAttempt { of_node, attempt } = lease;
        let failure = answers.iter().find_map(|answer| match answer {
            Err(error @ (Error::Store(_) | Error::StoreTimeout { .. })) => Some(error),
            _ => None,
        });
        match failure {
            Some(error) => self.failed(&of_node, attempt, error),
            None => self.breaker(&of_node).succeeded(attempt),
        }
    }
}
