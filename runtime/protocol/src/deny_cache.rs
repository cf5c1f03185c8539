//! Keys that were refused a moment ago, and are refused again without asking.
//!
//! What a bucket owes only grows, but for what is given back. So until its time has come, a
//! refused check would be refused again, and the engine can say so from the cells that were
//! seen. The clock goes on from when the question was sent, which is no later than when it
//! was answered: a key is never refused past its time.
//!
//! What this process gives back (credit, cancel, settle, reset) is known at once; what
//! others give back shows after at most the time a refusal may be kept.

use core::hash::BuildHasher as _;
use core::time::Duration;
use std::sync::Arc;

use foldhash::fast::RandomState;
use tidegate_core::{Decision, Limit, Operation, Outcome, Source, decide_tiers};

use crate::call::Refusal;
use crate::error::Error;
use crate::lock::Mutex;
use crate::nanos::nanos;
use crate::store::Done;

/// One place for each of so many keys; of two that share one, the later refusal is kept.
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
    /// The refusal of a check, if it follows from one that is not older than `keep`. The time
    /// is only asked for where there is one.
    pub fn refuse(
        &self,
        key: &[u8],
        limits: &Arc<[Limit]>,
        cost: u64,
        keep: Duration,
        now: impl FnOnce() -> u64,
    ) -> Option<Decision> {
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
        let decision = decide_tiers(limits, &mut { refusal.cells }, now, cost).ok()?;
        (!decision.allowed).then_some(Decision { source: Source::Redis, ..decision })
    }

    /// Keeps what was refused to a question that was sent then.
    pub fn keep(&self, refusal: Refusal, sent: u64) {
        let mut place = self.place(&refusal.key).lock();
        *place = Some(Refused { refusal, sent });
    }

    /// Forgets a key to which something may have been given back.
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

/// Forgets the keys of an operation that may give something back: now, and again before its
/// caller is told, as a trip that was under way may have brought a refusal meanwhile.
pub(crate) fn forgetting(
    refused: &Arc<DenyCache>,
    keys: &[Vec<u8>],
    operation: &Operation,
    done: impl FnOnce(Result<Outcome, Error>) + Send + 'static,
) -> Done {
    if !gives_back(operation) {
        return Box::new(done);
    }
    let (refused, keys) = (Arc::clone(refused), keys.to_vec());
    keys.iter().for_each(|key| refused.forget(key));
    Box::new(move |outcome| {
        keys.iter().for_each(|key| refused.forget(key));
        done(outcome);
    })
}

/// Whether an operation may leave a bucket owing less than it did.
fn gives_back(operation: &Operation) -> bool {
    match operation {
        Operation::Check { .. } | Operation::Reserve { .. } | Operation::Hold { .. } => false,
        Operation::Settle { charged, actual } => actual < charged,
        Operation::Cancel(_) | Operation::Credit { .. } | Operation::Reset => true,
    }
}
