//! The hits of a descriptor: what is to be done to its bucket.

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitRequest;
use tidegate::{AnyLimit, Decision, Error, Limiter, Shape, Source};

/// The most hits of one descriptor: what a bucket can owe at most.
const MOST: u64 = 1 << 53;

/// What a descriptor asks of its bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hits {
    /// To be spent if all of them are there.
    Spend(u64),
    /// To be given back.
    GiveBack(u64),
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
        reports: bool,
    ) -> Result<Decision, Error> {
        match self {
            Self::GiveBack(hits) => limiter.credit_async(key, hits).await,
            Self::Spend(hits) if hits == 0 || reports => {
                let held = match hits {
                    0 => limiter.peek_async(key, 0).await?,
                    hits => limiter.settle_async(key, 0, hits).await?,
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
                    Decision { allowed: false, retry_after: excess, ..held }
                })
            }
            Self::Spend(hits) => limiter.check_async(key, hits).await,
        }
    }
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
        let reported = Hits::Spend(reported).apply(&limiter, "k", true).await?;
        let decision = Hits::Spend(0).apply(&limiter, "k", false).await?;
        assert_eq!(reported, decision, "both say what the bucket holds");
        Ok((decision.allowed, decision.retry_after))
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
