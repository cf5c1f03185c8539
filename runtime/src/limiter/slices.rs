//! Slices for nodes that this process speaks for, of buckets in any store.

use std::collections::HashMap;

use tidegate_core::{
    Cells, Clock as _, Grant, LeaseAsk, LeaseTerms, LeasedBucket, Limit, NodeRecord, Operation,
    StoredKey, TierDecision, Timeline, grant_lease,
};
use tidegate_protocol::{LeasePlan, lease_once};
use tokio::sync::oneshot;

use super::{Buckets, Limiter, RedisBuckets};
use crate::answer::{lost, tiered};
use crate::clock::FastClock;
use crate::lock::Mutex;
use crate::{Error, Keys};

/// The nodes that hold slices of buckets in memory, by the bucket's key. Redis keeps such records beside the
/// bucket.
#[derive(Default)]
pub(super) struct SliceRecords(Mutex<HashMap<Box<[u8]>, Vec<Held>>>);

#[derive(Clone, Copy)]
struct Held {
    node: u64,
    until: u64,
    record: NodeRecord,
}

#[doc(hidden)]
impl Limiter {
    /// The limits that a slice takes its tokens from: all but `unlimited`. Empty if the limiter has no
    /// buckets.
    pub fn sliced_limits(&self) -> &[Limit] {
        match &self.0.buckets {
            Buckets::WithoutUnlimited(rest) => rest.limiter().sliced_limits(),
            Buckets::Fixed(_) => &[],
            _ => &self.0.limits,
        }
    }

    /// Takes, renews or gives back the slice of a node. In memory the bucket is read and charged in two steps, so
    /// that calls in between can make it owe what they have taken; time pays for that.
    ///
    /// # Errors
    /// The errors of the store.
    pub async fn lease_slice(
        &self,
        key: &str,
        terms: &LeaseTerms,
        node: u64,
        ask: LeaseAsk,
    ) -> Result<Grant, Error> {
        match &self.0.buckets {
            Buckets::WithoutUnlimited(rest) => {
                Box::pin(rest.limiter().lease_slice(key, terms, node, ask)).await
            }
            Buckets::Fixed(_) => Ok(Grant::default()),
            Buckets::Redis(redis) => self.lease_in_redis(redis, key, terms, node, &ask).await,
            Buckets::Memory(_) | Buckets::Plan(_) | Buckets::Shm(_) => {
                self.lease_in_memory(key, terms, node, &ask)
            }
        }
    }

    async fn lease_in_redis(
        &self,
        redis: &RedisBuckets,
        key: &str,
        terms: &LeaseTerms,
        node: u64,
        ask: &LeaseAsk,
    ) -> Result<Grant, Error> {
        let plan = LeasePlan::new(self.0.limits.clone(), *terms, self.0.prefix.clone());
        let stored = StoredKey::new(key.as_bytes());
        let store = redis.guarded.guarded_store();
        let send = || {
            let (sender, receiver) = oneshot::channel();
            let call = plan.call(node, stored.as_bytes(), ask);
            let sent = lease_once(store, call, |grant| _ = sender.send(grant));
            sent.map(|()| receiver)
        };
        let receiver = match send() {
            Ok(receiver) => receiver,
            Err(_) => {
                // Only an ordinary call finds out whether a store that has failed is well again.
                _ = self.peek_async(key, 0).await;
                send()?
            }
        };
        receiver.await.unwrap_or_else(|_| Err(lost()))
    }

    fn lease_in_memory(
        &self,
        key: &str,
        terms: &LeaseTerms,
        node: u64,
        ask: &LeaseAsk,
    ) -> Result<Grant, Error> {
        let now = FastClock::new().now();
        let mut records = self.0.slices.0.lock();
        let peek = Operation::Peek { cost: 0.into() };
        let held = tiered(self.run_and_wait(key, peek))?;
        let limits: &[Limit] = &self.0.limits;
        let mut cells = Cells::default();
        for ((cell, limit), tier) in cells.iter_mut().zip(limits).zip(held.tiers()) {
            *cell = cell_owing(limit, debt(limit, tier), now);
        }
        let holders = records.entry(key.as_bytes().into()).or_default();
        holders.retain(|held| held.until > now && held.node != node);
        let others: Vec<NodeRecord> = holders.iter().map(|held| held.record).collect();
        let bucket = LeasedBucket { limits, cells: &mut cells, others: &others };
        let (grant, record) = grant_lease(bucket, terms, now, ask).map_err(Error::from_engine)?;
        if record.want > 0 {
            holders.push(Held { node, until: now.saturating_add(terms.ttl()), record });
        } else if holders.is_empty() {
            records.remove(key.as_bytes());
        }
        // Returned tokens would shorten a hold.
        let returned = if grant.hold > 0 { 0 } else { ask.returned };
        if grant.tokens != returned {
            let settle =
                Operation::Settle { charged: returned.into(), actual: grant.tokens.into() };
            self.run_and_wait(Keys::from(key), settle)?;
        }
        Ok(grant)
    }
}

/// What a tier owes, in the units of its timeline.
fn debt(limit: &Limit, tier: &TierDecision) -> u64 {
    match limit.timeline() {
        Timeline::Smooth { .. } => tier.reset_after,
        Timeline::Stepped { .. } if tier.remaining > 0 => {
            limit.burst().saturating_sub(tier.remaining)
        }
        // Within a step it makes no difference.
        Timeline::Stepped { tokens, period } => {
            tier.reset_after.div_ceil(period).saturating_mul(tokens).max(limit.burst())
        }
    }
}

fn cell_owing(limit: &Limit, debt: u64, now: u64) -> u64 {
    limit.timeline().position(now).saturating_add(debt)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn ask(want: u64) -> LeaseAsk {
        LeaseAsk { want, is_new: true, ..LeaseAsk::default() }
    }

    /// In memory the future is ready at once.
    fn lease(
        limiter: &Limiter,
        terms: &LeaseTerms,
        node: u64,
        ask: LeaseAsk,
    ) -> Result<Grant, Error> {
        let mut context = core::task::Context::from_waker(core::task::Waker::noop());
        let future = core::pin::pin!(limiter.lease_slice("key", terms, node, ask));
        match future.poll(&mut context) {
            core::task::Poll::Ready(grant) => grant,
            core::task::Poll::Pending => Err(lost()),
        }
    }

    #[test]
    fn slices_are_divided_and_charged_to_the_bucket_that_checks_use() -> Result<(), Error> {
        let limiter = Limiter::builder().limit("100/s burst 300").build()?;
        let terms = LeaseTerms::for_quotas(limiter.sliced_limits(), 2 * SECOND);
        let terms = terms.map_err(|error| Error::Store(error.to_string().into()))?;
        let first = lease(&limiter, &terms, 1, ask(200_000))?;
        assert_eq!((first.pace, first.tokens), (100_000, 200));
        assert!(limiter.peek("key", 0)?.remaining <= 101);
        let second = lease(&limiter, &terms, 2, ask(200_000))?;
        assert_eq!(second.pace, 0);
        let renewed = LeaseAsk { want: 200_000, returned: 100, held: 100, ..LeaseAsk::default() };
        let first = lease(&limiter, &terms, 1, renewed)?;
        assert_eq!(first.pace / 1_000, 52);
        let second = lease(&limiter, &terms, 2, ask(200_000))?;
        assert_eq!((second.pace / 1_000, second.tokens), (52, 104));
        for (node, returned) in [(1, 100), (2, 104)] {
            let leaving = LeaseAsk { returned, ..LeaseAsk::default() };
            lease(&limiter, &terms, node, leaving)?;
        }
        assert!(limiter.peek("key", 0)?.remaining >= 290);
        assert!(limiter.0.slices.0.lock().is_empty());
        Ok(())
    }

    #[test]
    fn a_held_bucket_grants_nothing() -> Result<(), Error> {
        let limiter = Limiter::builder().limit("100/s window").limit("unlimited").build()?;
        let terms = LeaseTerms::for_quotas(limiter.sliced_limits(), 2 * SECOND);
        let terms = terms.map_err(|error| Error::Store(error.to_string().into()))?;
        limiter.hold("key", core::time::Duration::from_secs(30))?;
        let grant = lease(&limiter, &terms, 1, ask(100_000))?;
        assert!(grant.tokens == 0 && grant.hold > 20 * SECOND, "{grant:?}");
        Ok(())
    }
}
