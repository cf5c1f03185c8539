//! A call that the breaker has let through, and that tells it how it ended.

use super::guarded_store::{CallAttempt, GuardedStore};
use crate::error::Error;
use crate::store::Host;

/// A call until it has ended. Dropped before, it counts as unanswered.
pub(crate) struct OpenCall<H: Host> {
    store: GuardedStore<H>,
    attempt: Option<CallAttempt>,
}

impl<H: Host> OpenCall<H> {
    pub(crate) fn new(store: &GuardedStore<H>, attempt: CallAttempt) -> Self {
        Self { store: store.clone(), attempt: Some(attempt) }
    }

    /// Tells the breaker of the answer, or of the error that came instead.
    pub(crate) fn end(&mut self, error: Option<&Error>) {
        self.tell(error, true);
    }

    fn tell(&mut self, error: Option<&Error>, answered: bool) {
        let failure =
            error.filter(|error| matches!(error, Error::Store(_) | Error::StoreTimeout { .. }));
        if let Some(attempt) = self.attempt.take() {
            self.store.ended(attempt, failure, answered);
        }
    }
}

impl<H: Host> Drop for OpenCall<H> {
    fn drop(&mut self) {
        self.tell(None, false);
    }
}
