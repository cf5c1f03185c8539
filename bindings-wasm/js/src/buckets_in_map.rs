//! Buckets by key in the memory of the module, in a map alone.

use std::rc::Rc;
use std::sync::Arc;

use tidegate_core::{Cost, Decision, Error, Limit, MAX_TIERS, OnFull, Operation, Outcome};
use tidegate_protocol::BucketMap;

use crate::border::Border;
use crate::key_room::Keys;

/// The buckets of one limiter, by key.
///
/// The map decides as the tables do. A check takes longer and a key more memory, and the module is a fraction
/// of the size.
pub(crate) struct Buckets {
    limits: Arc<[Limit]>,
    map: Rc<BucketMap>,
    border: &'static Border,
}

impl Buckets {
    pub(crate) fn new(limits: &[Limit], max_keys: usize, on_full: OnFull) -> Self {
        let map = Rc::new(BucketMap::new(max_keys, on_full));
        Self { limits: limits.into(), map, border: Border::of_the_module() }
    }

    /// The same buckets for calls under other limits.
    pub(crate) fn under(&self, limits: &[Limit]) -> Self {
        Self { limits: limits.into(), map: Rc::clone(&self.map), border: self.border }
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.map.evicted()
    }

    pub(crate) fn denied(&self) -> u64 {
        self.map.denied()
    }

    /// `None`: a check goes by the path of all operations.
    pub(crate) fn check(&self, _: &[u8], _: u64, _: Cost) -> Option<Result<Decision, Error>> {
        None
    }

    /// Runs any operation.
    #[inline(never)]
    pub(crate) fn apply(
        &self,
        keys: &Keys<'_>,
        now: u64,
        operation: Operation,
    ) -> Result<Outcome, Error> {
        let fingerprints = self.border.seed.borrow().fingerprints(keys);
        let count = match keys {
            Keys::One(_) => 1,
            Keys::Each(_) => self.limits.len().min(MAX_TIERS),
        };
        self.map.run(&fingerprints[..count], &self.limits, now, operation, |_| None)
    }
}
