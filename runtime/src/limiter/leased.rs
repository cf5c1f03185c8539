//! Checks of a limiter that leases its buckets.

use core::sync::atomic::Ordering;

use tidegate_core::{Cost, Decision, Outcome, Source, StoredKey};

use super::Limiter;
use crate::lease::one_key;
use crate::{Error, Keys};

impl Limiter {
    /// Whether a lease of this process may decide checks.
    pub(super) fn has_leases(&self) -> bool {
        self.0.leases.is_some()
    }

    /// The decision of a check that a lease of this process can take at once; `None` if the store
    /// must be asked. Bindings call this before they prepare to wait.
    pub(super) fn decide_leased<'k>(
        &self,
        keys: impl Into<Keys<'k>>,
        cost: Cost,
    ) -> Option<Decision> {
        let key = self.leased_key(keys.into())?;
        self.spend_leased(key.as_bytes(), cost.uniform()?)
    }

    /// The decision of an `acquire` whose tokens a lease of this process has now; `None` if the
    /// caller must join the line.
    pub(super) fn acquire_leased(&self, keys: Keys<'_>, cost: Cost) -> Option<Decision> {
        let key = self.leased_key(keys)?;
        self.0.leases.as_ref()?.acquire(key.as_bytes(), cost.uniform()?)
    }

    /// The decision that [`decide_leased`](Self::decide_leased) would take; nothing is spent.
    pub(super) fn peek_leased(&self, keys: Keys<'_>, cost: Cost) -> Option<Decision> {
        let key = self.leased_key(keys)?;
        self.0.leases.as_ref()?.peek(key.as_bytes(), cost.uniform()?)
    }

    /// The key whose slice may decide a call on `keys`.
    fn leased_key<'k>(&self, keys: Keys<'k>) -> Option<StoredKey<'k>> {
        self.0.leases.as_ref()?;
        let key = one_key(keys)?;
        (!self.0.closed.load(Ordering::Acquire)).then(|| StoredKey::new(key))
    }

    /// [`decide_leased`](Self::decide_leased) for a key as the store keeps it.
    #[inline]
    pub(super) fn spend_leased(&self, key: &[u8], cost: u64) -> Option<Decision> {
        self.0.leases.as_ref()?.spend(key, cost)
    }

    /// A callback that tells the leases what the bucket has answered to a check that no lease
    /// could decide.
    pub(super) fn noting(
        &self,
        keys: Keys<'_>,
        cost: Cost,
    ) -> impl FnOnce(&Result<Outcome, Error>) + Send + 'static {
        // A slice has one number of tokens for all limits, so it decides no costs that differ.
        let cost = cost.uniform().unwrap_or(0);
        let leased = self.0.leases.is_some() && cost > 0;
        let own = |key| Box::<[u8]>::from(StoredKey::new(key).as_bytes());
        let noted = leased.then(|| one_key(keys).map(|key| (self.clone(), own(key))));
        move |outcome| {
            let Some((limiter, key)) = noted.flatten() else { return };
            let allowed = matches!(outcome, Ok(Outcome::Decision(decision))
                if decision.allowed && decision.source == Source::Redis);
            if let Some(leases) = &limiter.0.leases {
                leases.answered_directly(&key, cost, allowed);
            }
        }
    }
}
