use std::sync::Arc;

use tidegate_core::{Decision, LeaseAsk, LeaseTerms, Limit, Source, SpendResult};

use super::LeaseCall;
use crate::keys::Keys;

/// What does not change about a limiter's leases.
#[derive(Debug)]
pub struct Contract {
    limits: Arc<[Limit]>,
    terms: LeaseTerms,
    prefix: String,
}

impl Contract {
    /// The most keys of a limiter that are watched, and leased where they are asked for often
    /// enough. Others are checked at the bucket each time.
    pub const MAX_KEYS: usize = 4_096;

    /// For a limiter with these limits, and the prefix of its keys.
    pub const fn new(limits: Arc<[Limit]>, terms: LeaseTerms, prefix: String) -> Self {
        Self { limits, terms, prefix }
    }

    /// How slices are lent.
    pub const fn terms(&self) -> &LeaseTerms {
        &self.terms
    }

    /// Whether a slice may spend `cost`: one that it never spends at once is the bucket's to
    /// refuse, and so is a look.
    pub fn covers(&self, cost: u64) -> bool {
        cost > 0 && self.limits.iter().all(|limit| cost <= limit.burst())
    }

    /// The decision that a slice has taken; none where the bucket must be asked.
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

    /// What the node `id` asks the bucket of `key` for.
    pub fn call(&self, id: u64, key: &[u8], ask: &LeaseAsk) -> LeaseCall {
        let stored = Keys::One(key).in_redis(&self.prefix).into_first();
        LeaseCall::new(&stored, &self.limits, &self.terms, id, ask)
    }
}
