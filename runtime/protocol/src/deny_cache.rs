//! Keys that were refused a moment ago, and are refused again without asking.
//!
//! A bucket's debt only grows, unless something is given back. Until a refused check's time has
//! come it would be refused again, and the engine can say so from the cells that the refusal
//! showed. The clock goes on from when the request was sent, which is no later than when it was
//! answered, so a key is never refused past its time.
//!
//! What this process does to a bucket (reserve, hold, settle, credit, cancel, reset) is known at once,
//! and so is that it has written the bucket under other limits. What others do shows after at most the time that a
//! refusal may be kept.

use core::hash::BuildHasher as _;
use core::time::Duration;
use std::sync::Arc;

use foldhash::fast::RandomState;
use tidegate_core::{Cost, Limit, Source, TieredDecision, decide_each_tier};

use crate::call::Refusal;
use crate::lock::Mutex;
use crate::nanos::nanos;

/// The number of refusals that are kept. Of two keys with the same place, the later one stays.
const PLACES: usize = 1024;

/// The refusals of a store.
pub struct DenyCache {
    hash: RandomState,
    places: Box<[Mutex<Option<Refused>>]>,
}

struct Refused {
    refusal: Refusal,
    /// When the question was sent, by the program's clock.
    sent: u64,
}

impl Default for DenyCache {
    fn default() -> Self {
        let places = (0..PLACES).map(|_| Mutex::default()).collect();
        Self { hash: RandomState::default(), places }
    }
}

impl DenyCache {
    /// The refusal of a check, if it follows from an earlier refusal that is not older than
    /// `keep`. The clock is read only if there is one.
    pub fn refuse(
        &self,
        key: &[u8],
        limits: &Arc<[Limit]>,
        cost: Cost,
        keep: Duration,
        now: impl FnOnce() -> u64,
    ) -> Option<TieredDecision> {
        let mut place = self.place(key).lock();
        let Refused { refusal, sent } = place.as_ref()?;
        if refusal.key != key || !Arc::ptr_eq(&refusal.limits, limits) {
            return None;
        }
        let passed = now().saturating_sub(*sent);
        if passed >= nanos(keep) {
            *place = None;
            return None;
        }
        let now = refusal.now.saturating_add(passed);
        let decision = decide_each_tier(limits, &mut { refusal.cells }, now, cost).ok()?;
        (!decision.allowed).then_some(decision.from_source(Source::Redis))
    }

    /// Keeps a refusal that answers a request sent at `sent`.
    pub fn keep(&self, refusal: Refusal, sent: u64) {
        let mut place = self.place(&refusal.key).lock();
        *place = Some(Refused { refusal, sent });
    }

    /// Forgets a key whose bucket may have changed, or whose limits have.
    pub fn forget(&self, key: &[u8]) {
        let mut place = self.place(key).lock();
        if place.as_ref().is_some_and(|refused| refused.refusal.key == key) {
            *place = None;
        }
    }

    fn place(&self, key: &[u8]) -> &Mutex<Option<Refused>> {
        #[expect(clippy::cast_possible_truncation, reason = "any bits of a hash do")]
        let hash = self.hash.hash_one(key) as usize;
        &self.places[hash % PLACES]
    }
}
