//! The part of leasing that stays the same while a limiter lives.

use std::sync::Arc;

use tidegate_core::{Cost, Decision, LeaseAsk, LeaseTerms, Limit, Source, SpendResult};

use super::LeaseCall;
use crate::keys::Keys;

/// The limits, terms and key prefix under which a limiter leases its buckets.
#[derive(Clone, Debug)]
pub struct LeasePlan {
    limits: Arc<[Limit]>,
    terms: LeaseTerms,
    /// The terms for calls that have a cost for each limit; `None` for a single limit.
    for_budgets: Option<LeaseTerms>,
    prefix: String,
}

impl LeasePlan {
    /// The most keys of a limiter that are watched, and leased when they are asked for often
    /// enough. Checks of any other key go to the bucket.
    pub const MAX_KEYS: usize = 4_096;

    /// The plan of a limiter with these limits and this prefix of its keys.
    pub fn new(limits: Arc<[Limit]>, terms: LeaseTerms, prefix: String) -> Self {
        let for_budgets = terms.for_budgets(&limits);
        Self { limits, terms, for_budgets, prefix }
    }

    /// The terms on which slices are granted.
    pub const fn terms(&self) -> &LeaseTerms {
        &self.terms
    }

    /// The number of tokens of every limit, if the cost is one for all limits.
    pub fn same(&self, cost: &Cost) -> Option<u64> {
        let is_only = cost.numbers().len() == 1 && self.limits.len() == 1;
        cost.uniform().or_else(|| is_only.then(|| cost.of_tier(0)))
    }

    /// Whether a slice may decide a check of `cost`. The bucket itself decides a cost that no
    /// slice spends at once, and a look.
    pub fn covers(&self, cost: u64) -> bool {
        cost > 0 && self.limits.iter().all(|limit| cost <= limit.burst())
    }

    /// The terms on which a slice may decide a check with these costs, one for each limit. The bucket
    /// itself decides a check that costs nothing of the limit that sets the pace, or more than a
    /// slice spends of it at once.
    pub fn for_budgets(&self, cost: &Cost) -> Option<&LeaseTerms> {
        let terms = self.for_budgets.as_ref()?;
        let paced = cost.of_tier(usize::from(terms.tier()));
        let mut fits =
            cost.numbers().iter().zip(&*self.limits).map(|(cost, limit)| *cost <= limit.burst());
        let is_whole = cost.numbers().len() == self.limits.len() && fits.all(|fits| fits);
        (is_whole && (1..=terms.most_at_once()).contains(&paced)).then_some(terms)
    }

    /// The decision of a slice on these terms; `None` where the bucket must be asked.
    pub fn decision(&self, terms: &LeaseTerms, spent: SpendResult) -> Option<Decision> {
        let tier = terms.tier();
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
        let for_budgets = self.for_budgets.as_ref().filter(|_| ask.budgets.is_some());
        LeaseCall::new(&stored, &self.limits, for_budgets.unwrap_or(&self.terms), id, ask)
    }
}
