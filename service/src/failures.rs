//! Counts what could not be decided, by reason and rule, and bounds how much of it is logged.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::metrics::escaped_label;

/// The failures of all requests and descriptors. Nothing is written here while all goes well.
///
/// Times are since a fixed moment, the same for all calls.
#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<BTreeMap<(&'static str, String), Count>>);

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    total: u64,
    logged: u64,
    last_logged: Option<Duration>,
}

impl Failures {
    /// The interval of log lines of one reason and rule. A client that makes its requests fail can
    /// so write no more than that.
    const LOG_EVERY: Duration = Duration::from_secs(10);

    /// Counts a failure. Returns the number of failures that a log line is to report, this one
    /// included, when a line is due. `rule` is empty when no rule is known.
    pub(crate) fn count(&self, reason: &'static str, rule: &str, now: Duration) -> Option<u64> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry((reason, rule.to_owned())).or_default();
        count.total += 1;
        if count.last_logged.is_some_and(|last| now.saturating_sub(last) < Self::LOG_EVERY) {
            return None;
        }
        count.last_logged = Some(now);
        Some(count.total - core::mem::replace(&mut count.logged, count.total))
    }

    /// The labels and the number of each kind of failure, as samples of Prometheus. They are
    /// escaped, because people name rules.
    pub(crate) fn samples(&self) -> Vec<(String, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let labels = |reason: &str, rule: &str| {
            format!("{{reason=\"{reason}\",rule=\"{}\"}}", escaped_label(rule))
        };
        counts.iter().map(|((reason, rule), count)| (labels(reason, rule), count.total)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_is_counted_and_one_line_in_ten_seconds_is_logged() {
        let failures = Failures::default();
        let at = |seconds| Duration::from_secs(seconds);
        assert_eq!(failures.count("store_error", "rules[0]", at(1)), Some(1));
        assert_eq!(failures.count("store_error", "rules[0]", at(2)), None);
        assert_eq!(failures.count("undecodable", "", at(2)), Some(1));
        assert_eq!(failures.count("store_error", "rules[0]", at(10)), None);
        assert_eq!(failures.count("store_error", "rules[0]", at(11)), Some(3));
        let samples = [
            ("{reason=\"store_error\",rule=\"rules[0]\"}".to_owned(), 4),
            ("{reason=\"undecodable\",rule=\"\"}".to_owned(), 1),
        ];
        assert_eq!(failures.samples(), samples);
    }
}
