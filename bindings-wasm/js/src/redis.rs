//! Shared buckets over a client of the host's: the runtime's own parts, but for its links.

use core::time::Duration;
use std::sync::Arc;

use tidegate_core::{Decision, Grant, Limit, Operation, Outcome};

use self::deny_cache::forgetting;
use crate::breaker::StoreBreaker;
use crate::error::Error;
use crate::keys::RedisKeys;

#[path = "../../../runtime/src/redis/courier.rs"]
#[allow(dead_code, unreachable_pub, reason = "other bindings use more of it")]
mod courier;
#[path = "../../../runtime/src/redis/deny_cache.rs"]
mod deny_cache;
#[path = "../../../runtime/src/redis/protocol/mod.rs"]
#[allow(dead_code, unused_imports, unreachable_pub, reason = "the native client uses more of it")]
mod protocol;

pub(crate) use courier::{Carriage, Courier, Errand, Outbox, Trip};
pub(crate) use protocol::{LeaseCall, Part, Reply, Request};

/// Who waits for an answer.
pub(crate) type Done = Box<dyn FnOnce(Result<Outcome, Error>) + Send>;

/// Keys, what is asked of them, and who wants to know.
pub(crate) type Ask<D> = (RedisKeys, Operation, D);

/// A Redis that limiters share.
#[derive(Clone)]
pub(crate) struct RedisStore {
    carriage: Arc<Carriage>,
    timeout: Duration,
    keep_refusals: Duration,
}

impl RedisStore {
    pub(crate) fn carried(carriage: Arc<Carriage>, timeout: Duration) -> Self {
        Self { carriage, timeout, keep_refusals: Duration::ZERO }
    }

    pub(crate) fn keeping_refusals(self, keep_refusals: Duration) -> Self {
        Self { keep_refusals, ..self }
    }

    pub(crate) const fn way(&self) -> Way<'_> {
        Way(self)
    }

    pub(crate) const fn breakers_of_nodes(&self) -> Vec<Arc<StoreBreaker>> {
        Vec::new()
    }

    pub(crate) async fn ping(&self) -> Result<(), Error> {
        Ok(())
    }

    pub(crate) const fn is_leasable(&self) -> bool {
        true
    }

    pub(crate) const fn lane_of(&self, _: &LeaseCall) -> u16 {
        0
    }

    pub(crate) async fn lease(&self, _: Vec<LeaseCall>) -> Vec<Result<Grant, Error>> {
        Vec::new()
    }
}

/// The way there, for the operations of one call.
pub(crate) struct Way<'a>(&'a RedisStore);

impl Way<'_> {
    pub(crate) fn run(
        &self,
        keys: RedisKeys,
        limits: &Arc<[Limit]>,
        operation: Operation,
        done: impl FnOnce(Result<Outcome, Error>) + Send + 'static,
    ) {
        self.run_all(limits, core::iter::once((keys, operation, done)));
    }

    pub(crate) fn run_all<D: FnOnce(Result<Outcome, Error>) + Send + 'static>(
        &self,
        limits: &Arc<[Limit]>,
        asked: impl IntoIterator<Item = Ask<D>>,
    ) {
        let RedisStore { carriage, timeout, .. } = self.0;
        let mut ready = Vec::new();
        for (keys, operation, done) in asked {
            let done = forgetting(carriage.refused(), &keys, &operation, done);
            match Request::new(keys, Arc::clone(limits), operation) {
                Ok(request) => ready.push((request, done)),
                Err(error) => done(Err(error)),
            }
        }
        carriage.send(ready.into_iter(), *timeout);
    }

    pub(crate) fn refuse(
        &self,
        keys: &[Vec<u8>],
        limits: &Arc<[Limit]>,
        operation: &Operation,
    ) -> Option<Decision> {
        let RedisStore { carriage, keep_refusals, .. } = self.0;
        match (operation, keys) {
            _ if keep_refusals.is_zero() => None,
            (&Operation::Check { cost: cost @ 1.. }, [key]) => {
                carriage.refused().refuse(key, limits, cost, *keep_refusals)
            }
            _ => None,
        }
    }

    /// A client finds its own way: its nodes are not known here.
    pub(crate) const fn breaker_of_node(&self, _: &[Vec<u8>]) -> Option<Arc<StoreBreaker>> {
        None
    }
}
