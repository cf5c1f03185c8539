//! Which failures of the store are logged.

use core::time::Duration;
use std::sync::{Mutex, PoisonError};

/// Decides which store failures are worth a log line, so that an outage of the
/// store does not become a flood of logs.
///
/// Times are since any fixed moment, the same for all calls.
#[derive(Debug, Default)]
pub(crate) struct StoreWatch(Mutex<Option<Outage>>);

#[derive(Clone, Copy, Debug)]
struct Outage {
    last_failure: Duration,
    last_reported: Duration,
    unreported: u64,
}

impl StoreWatch {
    /// How often an outage that goes on is reported.
    const REPORT_EVERY: Duration = Duration::from_secs(10);
    /// How long no check may have failed for the outage to be over.
    const QUIET: Duration = Duration::from_secs(1);

    /// Notes a failure. Answers how many have not been reported, this one
    /// included, when it is time to.
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

    /// Notes an answer. Says whether it ended an outage.
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
