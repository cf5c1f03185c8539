//! The room into which JavaScript writes the costs of a call that has one for each limit.

use tidegate_core::{BucketTiers, Cost, MAX_TIERS};

use crate::border::Border;

/// Room for the costs of a call, of which a settlement has two.
///
/// A cost crosses the border as one number: itself if it is for every limit. Otherwise it is the
/// negated count of numbers that have been written here.
pub(crate) struct CostRoom {
    border: &'static Border,
    tiers: BucketTiers,
    /// The number of all limits.
    limits: usize,
}

impl CostRoom {
    /// `tiers` are the limits that have buckets: only their costs are read.
    pub(crate) fn new(limits: usize, tiers: BucketTiers) -> Self {
        Self { border: Border::of_the_module(), tiers, limits }
    }

    pub(crate) fn pointer(&self) -> *const f64 {
        self.border.costs.borrow().as_ptr()
    }

    /// The cost of a call.
    #[inline]
    pub(crate) fn cost(&self, number: f64) -> Cost {
        if number >= 0.0 { Cost::same(number as u64) } else { self.each(0, number) }
    }

    /// The tokens that were used, beside those that were charged.
    pub(crate) fn actual(&self, number: f64) -> Cost {
        if number >= 0.0 { Cost::same(number as u64) } else { self.each(MAX_TIERS, number) }
    }

    #[cold]
    fn each(&self, from: usize, number: f64) -> Cost {
        let count = -number as usize;
        let written = self.border.costs.borrow();
        let written = written.iter().skip(from).take(count.min(MAX_TIERS));
        let numbers: Vec<u64> = written.map(|tokens| *tokens as u64).collect();
        let cost = Cost::each(&numbers).unwrap_or_default();
        // The operation refuses another number of costs than of limits.
        // Answers that are fixed need the costs of limits without buckets.
        let picks = count == self.limits && self.tiers.count() > 0;
        if picks { self.tiers.pick_cost(&cost) } else { cost }
    }
}
