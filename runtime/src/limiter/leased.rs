//! Checks of a limiter that leases its buckets.

use core::sync::atomic::Ordering;

use tidegate_core::{Decision, Source};

use super::Limiter;
use crate::error::Error;
use crate::keys::{Keys, MAX_KEY};
use crate::lease::one_key;

impl Limiter {
    /// Whether checks may be decided by a slice of this process.
    #[doc(hidden)]
    pub fn is_leased(&self) -> bool {
        self.0.leases.is_some()
    }

    /// The decision of a check that a slice of this process takes at once; none where the
    /// store must be asked. For bindings, which would otherwise prepare to wait.
    #[doc(hidden)]
    pub fn check_leased<'k>(&self, keys: impl Into<Keys<'k>>, cost: u64) -> Option<Decision> {
        self.0.leases.as_ref()?;
        let key = one_key(keys.into()).filter(|key| (1..=MAX_KEY).contains(&key.len()))?;
        if self.0.closed.load(Ordering::Acquire) {
            return None;
        }
        self.spend_leased(key, cost)
    }

    /// The same for a key that is no mistake.
    #[inline]
    pub(super) fn spend_leased(&self, key: &[u8], cost: u64) -> Option<Decision> {
        self.0.leases.as_ref()?.spend(key, cost)
    }

    /// Tells the leases what the bucket has answered without them.
    pub(super) fn note_direct(&self, keys: Keys<'_>, cost: u64, answer: &Result<Decision, Error>) {
        let of_bucket = |decision: &Decision| decision.allowed && decision.source == Source::Redis;
        if let (Some(leases), Some(key), true) = (&self.0.leases, one_key(keys), cost > 0) {
            leases.answered_directly(key, cost, answer.as_ref().is_ok_and(of_bucket));
        }
    }

    /// [`note_direct`](Self::note_direct) for an answer that is still to come.
    pub(super) fn noting(
        &self,
        keys: Keys<'_>,
        cost: u64,
    ) -> impl FnOnce(&Result<Decision, Error>) + Send + 'static {
        let noted = self.0.leases.is_some().then(|| (self.clone(), keys.to_owned()));
        move |answer| {
            if let Some((limiter, keys)) = noted {
                keys.lend(|keys| limiter.note_direct(keys, cost, answer));
            }
        }
    }
}
