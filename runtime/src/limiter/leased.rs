//! Checks of a limiter that leases its buckets.

use core::sync::atomic::Ordering;

use tidegate_core::{Cost, Decision, Outcome, Source, StoredKey};

use super::{Buckets, Limiter};
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
        self.0.leases.as_ref()?.spend(key.as_bytes(), &cost)
    }

    /// The decision of an `acquire` whose tokens a lease of this process has now; `None` if the
    /// caller must join the line.
    pub(super) fn acquire_leased(&self, keys: Keys<'_>, cost: Cost) -> Option<Decision> {
        let key = self.leased_key(keys)?;
        self.0.leases.as_ref()?.acquire(key.as_bytes(), &cost)
    }

    /// The decision that [`decide_leased`](Self::decide_leased) would take; nothing is spent.
    pub(super) fn peek_leased(&self, keys: Keys<'_>, cost: Cost) -> Option<Decision> {
        let key = self.leased_key(keys)?;
        self.0.leases.as_ref()?.peek(key.as_bytes(), &cost)
    }

    /// The key whose slice may decide a call on `keys`.
    fn leased_key<'k>(&self, keys: Keys<'k>) -> Option<StoredKey<'k>> {
        self.0.leases.as_ref()?;
        let key = one_key(keys)?;
        (!self.0.closed.load(Ordering::Acquire)).then(|| StoredKey::new(key))
    }

    /// A callback that tells the leases what the bucket has answered to a check that no lease
    /// could decide.
    pub(super) fn noting(
        &self,
        keys: Keys<'_>,
        cost: Cost,
    ) -> impl FnOnce(&Result<Outcome, Error>) + Send + 'static {
        let leased = self.0.leases.is_some() && !cost.is_zero();
        let own = |key| Box::<[u8]>::from(StoredKey::new(key).as_bytes());
        let noted = leased.then(|| one_key(keys).map(|key| (self.clone(), own(key))));
        move |outcome| {
            let Some((limiter, key)) = noted.flatten() else { return };
            let answer = match outcome {
                Ok(Outcome::Decision(decision)) if decision.source == Source::Redis => {
                    Some(decision)
                }
                _ => None,
            };
            if let Some(leases) = &limiter.0.leases {
                leases.answered_directly(&key, &cost, answer);
            }
        }
    }

    /// Drops the budget of a key whose bucket is about to be held or reset, or has been: its tokens were
    /// taken before that.
    pub(super) fn discard_budget(&self, keys: Keys<'_>) {
        // Calls with limits of their own use the same buckets, and no budget.
        if let Ok(base) = self.base() {
            base.discard_own_budget(keys);
        }
    }

    fn discard_own_budget(&self, keys: Keys<'_>) {
        if let Buckets::WithoutUnlimited(rest) = &self.0.buckets {
            return rest.with_keys(keys, |keys| rest.limiter().discard_own_budget(keys));
        }
        if let (Some(leases), Some(key)) = (&self.0.leases, one_key(keys)) {
            leases.discard_budget(StoredKey::new(key).as_bytes());
        }
    }
}
