//! The part of leasing that stays the same while a limiter lives.

use std::sync::Arc;

use tidegate_core::{Decision, LeaseAsk, LeaseTerms, Limit, Source, SpendResult};

use super::LeaseCall;
use crate::keys::Keys;

/// The limits, terms and key prefix under which a limiter leases its buckets.
#[derive(Clone, Debug)]
pub struct LeasePlan {
    limits: Arc<[Limit]>,
    terms: LeaseTerms,
    prefix: String,
}

impl LeasePlan {
    /// The most keys of a limiter that are watched, and leased when they are asked for often
    /// enough. Checks of any other key go to the bucket.
    pub const MAX_KEYS: usize = 4_096;

    /// The plan of a limiter with these limits and this prefix of its keys.
    pub const fn new(limits: Arc<[Limit]>, terms: LeaseTerms, prefix: String) -> Self {
        Self { limits, terms, prefix }
    }

    /// The terms on which slices are granted.
    pub const fn terms(&self) -> &LeaseTerms {
        &self.terms
    }

    /// Whether a slice may decide a check of `cost`. The bucket itself decides a cost that no
    /// slice spends at once, and a look.
    pub fn covers(&self, cost: u64) -> bool {
        cost > 0 && self.limits.iter().all(|limit| cost <= limit.burst())
    }

    /// The decision of a slice; `None` where the bucket must be asked.
    pub fn decision(&self, spent: SpendResult) -> Option<Decision> {
        let tier = self.terms.tier();
        let limit = self.limits.get(usize::from(tier))?.burst();
        let (allowed, remaining, retry_after, reset_after) = match spent {
            SpendResult::Allowed { remaining, reset_after } => (true, remaining, 0, reset_after),
            SpendResult::Refused { remaining, retry_after, reset_after } => {
                (false, remaining, retry_after, reset_after)
            }
            SpendResult::Outside => return None,
        };
        let source = Source::Lease;
        Some(Decision { allowed, limit, remaining, retry_after, reset_after, tier, source })
    }

    /// The call in which the process `id` asks the bucket of `key`.
    pub fn call(&self, id: u64, key: &[u8], ask: &LeaseAsk) -> LeaseCall {
        let stored = Keys::One(key).in_redis(&self.prefix).into_first();
        LeaseCall::new(&stored, &self.limits, &self.terms, id, ask)
    }
}
