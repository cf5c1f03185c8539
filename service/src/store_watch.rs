//! Decides which failures of the store are logged.

use core::time::Duration;
use std::sync::{Mutex, PoisonError};

/// The outage of the store, if there is one, and how much of it has been logged, so that an outage
/// does not flood the log.
///
/// Times are since a fixed moment, the same for all calls.
#[derive(Debug, Default)]
pub(crate) struct StoreWatch(Mutex<Option<Outage>>);

#[derive(Clone, Copy, Debug)]
struct Outage {
    last_failure: Duration,
    last_reported: Duration,
    unreported: u64,
}

impl StoreWatch {
    /// The interval of reports during an outage.
    const REPORT_EVERY: Duration = Duration::from_secs(10);
    /// The time without a failure after which the outage is over.
    const QUIET: Duration = Duration::from_secs(1);

    /// Records a failure. Returns the number of failures to report, this one included, when a
    /// report is due.
    pub(crate) fn failed(&self, now: Duration) -> Option<u64> {
        let mut outage = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(outage) = outage.as_mut() else {
            *outage = Some(Outage { last_failure: now, last_reported: now, unreported: 0 });
            return Some(1);
        };
        outage.last_failure = now;
        outage.unreported += 1;
        if now.saturating_sub(outage.last_reported) < Self::REPORT_EVERY {
            return None;
        }
        outage.last_reported = now;
        Some(core::mem::take(&mut outage.unreported))
    }

    /// Records an answer. Returns whether it ends an outage.
    pub(crate) fn answered(&self, now: Duration) -> bool {
        let mut outage = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let over = outage.is_some_and(|it| now.saturating_sub(it.last_failure) >= Self::QUIET);
        if over {
            *outage = None;
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_reported_at_its_start_every_ten_seconds_and_at_its_end() {
        let at = Duration::from_millis;
        let watch = StoreWatch::default();
        assert!(!watch.answered(at(0)));
        assert_eq!(watch.failed(at(1)), Some(1));
        assert_eq!(watch.failed(at(2)), None);
        assert!(!watch.answered(at(3)), "others may still fail");
        assert_eq!(watch.failed(at(10_000)), None);
        assert_eq!(watch.failed(at(10_001)), Some(3));
        assert!(!watch.answered(at(11_000)));
        assert!(watch.answered(at(11_001)));
        assert!(!watch.answered(at(11_002)));
        assert_eq!(watch.failed(at(11_003)), Some(1));
    }
}
