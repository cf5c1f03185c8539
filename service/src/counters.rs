//! Counters of the requests that the service has answered.

use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use crate::failures::Failures;
use crate::rlqs_counters::RlqsCounters;

/// Counts since the service started; logged when it stops.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Requests answered with OK.
    pub(crate) ok: Counter,
    /// Requests answered with OVER_LIMIT.
    pub(crate) over_limit: Counter,
    /// Requests answered with a gRPC error.
    pub(crate) errors: Counter,
    /// Descriptors that no rule matched.
    pub(crate) unmatched: Counter,
    /// Descriptors that a shadow rule would have refused.
    pub(crate) shadow_refused: Counter,
    /// Descriptors that a shadow rule could not check.
    pub(crate) shadow_errors: Counter,
    /// What could not be decided as it was, by reason and rule.
    pub(crate) failures: Failures,
    /// The counters of the rate limit quota service.
    pub(crate) rlqs: Arc<RlqsCounters>,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
