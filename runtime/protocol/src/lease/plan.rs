//! The part of leasing that stays the same while a limiter lives.

use std::sync::Arc;

use tidegate_core::{
    Budget, BudgetSpend, Cost, Decision, LeaseAsk, LeaseTerms, Limit, Operation, Source,
    SpendResult,
};

use super::LeaseCall;
use crate::error::Error;
use crate::keys::{Keys, RedisKeys};
use crate::request::Request;

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

    /// Whether a slice or a budget may decide a check of `cost`. The bucket itself decides a cost that
    /// it never allows, and a look.
    pub fn covers(&self, cost: &Cost) -> bool {
        let has_all = cost.uniform().is_some() || cost.numbers().len() == self.limits.len();
        let mut tiers = self.limits.iter().enumerate();
        !cost.is_zero() && has_all && tiers.all(|(tier, limit)| cost.of_tier(tier) <= limit.burst())
    }

    /// The tokens of a cost that is the same for every limit, which a slice can pay.
    pub fn tokens(&self, cost: &Cost) -> Option<u64> {
        if self.limits.len() == 1 { Some(cost.of_tier(0)) } else { cost.uniform() }
    }

    /// An empty budget for a key whose calls have a cost for each limit.
    pub fn budget(&self, now: u64) -> Budget {
        Budget::new(&self.terms, &self.limits, now)
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

    /// The decision of a budget that has paid for a call.
    pub fn paid(&self, spend: &BudgetSpend) -> Option<Decision> {
        let BudgetSpend { tier, remaining, reset_after } = *spend;
        let limit = self.limits.get(usize::from(tier))?.burst();
        let source = Source::Lease;
        Some(Decision {
            allowed: true,
            limit,
            remaining,
            retry_after: 0,
            reset_after,
            tier,
            source,
        })
    }

    /// The key of a bucket in Redis.
    pub fn stored(&self, key: &[u8]) -> RedisKeys {
        Keys::One(key).in_redis(&self.prefix)
    }

    /// An operation of a budget on the bucket under these keys.
    ///
    /// # Errors
    /// As [`Request::new`].
    pub fn request(&self, keys: RedisKeys, operation: Operation) -> Result<Request, Error> {
        Request::new(keys, Arc::clone(&self.limits), operation)
    }

    /// The call in which the process `id` asks the bucket of `key`.
    pub fn call(&self, id: u64, key: &[u8], ask: &LeaseAsk) -> LeaseCall {
        let stored = self.stored(key).into_first();
        LeaseCall::new(&stored, &self.limits, &self.terms, id, ask)
    }
}
