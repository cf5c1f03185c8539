//! The hits of a descriptor: what is to be done to its bucket.

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitRequest;
use tidegate::{
    AnyLimit, Cost, Decision, Error, Limiter, Shape, Source, TierDecision, TieredDecision,
};

/// The most hits of one descriptor: what a bucket can owe at most.
const MOST: u64 = 1 << 53;

/// What a descriptor asks of its bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hits {
    /// Tokens to spend, if all of them are there.
    Spend(u64),
    /// Tokens to give back.
    GiveBack(u64),
}

/// What the hits of a rule cost under each of its limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Costs(
    /// For each limit, what every request takes of it, or `None` for its hits. Empty if it is the hits
    /// for all of them.
    Box<[Option<u64>]>,
);

impl Costs {
    /// The costs of limits that take these numbers of each request, or its hits.
    pub(crate) fn new(of_limits: impl IntoIterator<Item = Option<u64>>) -> Self {
        let of_limits: Box<[_]> = of_limits.into_iter().collect();
        if of_limits.iter().all(Option::is_none) { Self::default() } else { Self(of_limits) }
    }

    /// For each of a rule's `count` limits, what every request takes of it, or `None` for its hits.
    pub(crate) fn of_each_limit(&self, count: usize) -> impl Iterator<Item = Option<u64>> {
        (0..count).map(|index| self.0.get(index).copied().flatten())
    }

    /// What this many hits take.
    fn of(&self, hits: u64) -> Cost {
        self.each(hits, |of_request| of_request)
    }

    /// What comes back when this many hits are given back: no request was fewer for it.
    fn of_return(&self, hits: u64) -> Cost {
        self.each(hits, |_| 0)
    }

    fn each(&self, hits: u64, fixed: impl Fn(u64) -> u64) -> Cost {
        let costs: Vec<u64> = self.0.iter().map(|cost| cost.map_or(hits, &fixed)).collect();
        if costs.is_empty() {
            hits.into()
        } else {
            Cost::each(&costs).unwrap_or_else(|_| hits.into())
        }
    }
}

impl Hits {
    /// The descriptor's own hits, else those of the request, or 1 if that is 0.
    pub(crate) fn of(request: &RateLimitRequest, descriptor: &RateLimitDescriptor) -> Self {
        let hits = match (&descriptor.hits_addend, request.hits_addend) {
            (Some(own), _) => own.value.min(MOST),
            (None, 0) => 1,
            (None, hits) => u64::from(hits),
        };
        if descriptor.is_negative_hits { Self::GiveBack(hits) } else { Self::Spend(hits) }
    }

    /// Does it to the bucket of `key`. With `reports`, hits are what has been used already: they are
    /// charged also when they do not fit, and the decision says whether they did.
    ///
    /// # Errors
    /// [`Error::CostTooLarge`] unless they are reports, and the errors of the store.
    pub(crate) async fn apply(
        self,
        limiter: &Limiter,
        key: &str,
        costs: &Costs,
        reports: bool,
    ) -> Result<TieredDecision, Error> {
        match self {
            Self::GiveBack(hits) => {
                Ok(alone(limiter.credit_async(key, costs.of_return(hits)).await?))
            }
            Self::Spend(hits) if hits == 0 || reports => {
                let held = match hits {
                    0 => limiter.peek_tiers_async(key, 0).await?,
                    hits => alone(limiter.settle_async(key, 0, costs.of(hits)).await?),
                };
                let mut excess = excess(limiter, &held);
                // With several limits, `held` is of the first that holds nothing, and another one
                // may owe more: the one for whose next token the wait is longest.
                if excess == 0 && held.remaining == 0 && limiter.limits().len() > 1 {
                    excess = self::excess(limiter, &limiter.peek_async(key, 1).await?);
                }
                Ok(if excess == 0 {
                    held
                } else {
                    let refusal = Decision { allowed: false, retry_after: excess, ..*held };
                    TieredDecision::new(refusal, held.tiers().iter().copied())
                })
            }
            Self::Spend(hits) => limiter.check_tiers_async(key, costs.of(hits)).await,
        }
    }
}

/// A decision that says only what the limit says that binds.
fn alone(decision: Decision) -> TieredDecision {
    TieredDecision::new(decision, [TierDecision::from(&decision)])
}

/// The time, in nanoseconds, for which a bucket owes more than it can hold: until no more than the
/// burst has to come back. 0 if it does not owe so much.
fn excess(limiter: &Limiter, held: &Decision) -> u64 {
    let bound = limiter.limits().get(usize::from(held.tier)).map(|named| named.limit);
    let Some(AnyLimit::Rate(limit)) = bound.filter(|_| held.source != Source::Fallback) else {
        return 0;
    };
    let time_of_burst = match limit.shape() {
        Shape::Smooth => limit.span(),
        Shape::Stepped => limit.burst().div_ceil(limit.tokens()).saturating_mul(limit.period()),
    };
    held.reset_after.saturating_sub(time_of_burst)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidegate::ManualClock;

    use super::*;

    /// Reports hits; answers what 0 hits are told then.
    async fn after(limits: &[&str], reported: u64) -> Result<(bool, u64), Error> {
        let clock = Arc::new(ManualClock::new(1_764_000_000_000_000_000));
        let builder = Limiter::builder().clock(clock);
        let limiter = limits.iter().fold(builder, |builder, limit| builder.limit(limit)).build()?;
        let costs = Costs::default();
        let reported = Hits::Spend(reported).apply(&limiter, "k", &costs, true).await?;
        let decision = Hits::Spend(0).apply(&limiter, "k", &costs, false).await?;
        assert_eq!(reported.decision(), decision.decision(), "both say what the bucket holds");
        Ok((decision.allowed, decision.retry_after))
    }

    #[tokio::test]
    async fn a_limit_may_count_requests_and_another_one_their_hits() -> Result<(), Error> {
        let limiter = Limiter::builder().limit("3/d").limit("1000/d").build()?;
        let costs = Costs::new([Some(1), None]);
        let spend = async |hits| Hits::Spend(hits).apply(&limiter, "k", &costs, false).await;
        let (first, second) = (spend(400).await?, spend(400).await?);
        assert!(first.allowed && second.allowed);
        let refused = spend(400).await?;
        assert_eq!((refused.allowed, refused.tier), (false, 1), "1000 hits were not there");
        // Hits come back, the request does not.
        Hits::GiveBack(300).apply(&limiter, "k", &costs, false).await?;
        assert!(spend(400).await?.allowed);
        let refused = spend(1).await?;
        assert_eq!((refused.allowed, refused.tier), (false, 0), "three requests were made");
        assert!(matches!(spend(1001).await, Err(Error::CostTooLarge { burst: 1000, .. })));
        Ok(())
    }

    #[tokio::test]
    async fn no_hits_are_refused_while_the_bucket_owes_more_than_it_holds() -> Result<(), Error> {
        let second = 1_000_000_000;
        for limit in ["100/100s", "100/100s window", "100/100s burst 100 stepped"] {
            assert_eq!(after(&[limit], 0).await?, (true, 0), "{limit}");
            assert_eq!(after(&[limit], 100).await?, (true, 0), "{limit}");
        }
        assert_eq!(after(&["100/100s"], 101).await?, (false, second));
        assert_eq!(after(&["100/100s"], 130).await?, (false, 30 * second));
        // The moment of the test is a multiple of the period.
        assert_eq!(after(&["100/100s window"], 101).await?, (false, 100 * second));
        assert_eq!(after(&["100/100s window"], 201).await?, (false, 200 * second));
        assert_eq!(after(&["unlimited"], 1 << 50).await?, (true, 0));
        assert_eq!(after(&["130/130s", "100/100s"], 130).await?, (false, 30 * second));
        Ok(())
    }
}
