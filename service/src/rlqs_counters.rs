//! The metrics of the rate limit quota service.

use core::fmt::Write as _;
use std::sync::{Arc, OnceLock, Weak};

use tokio::sync::Semaphore;

use crate::counters::Counter;

/// Counts since the service started, and the streams and buckets at present.
#[derive(Debug, Default)]
pub(crate) struct RlqsCounters {
    /// Reports of a bucket.
    pub(crate) reports: Counter,
    /// Token buckets that were assigned or confirmed.
    pub(crate) token_buckets: Counter,
    allowed: Counter,
    denied: Counter,
    /// Buckets that proxies were told to forget.
    pub(crate) abandoned: Counter,
    streams: OnceLock<Used>,
    buckets: OnceLock<Used>,
}

/// Permits that are taken.
#[derive(Debug)]
struct Used {
    free: Weak<Semaphore>,
    all: usize,
}

impl Used {
    fn get(used: &OnceLock<Self>) -> Option<usize> {
        let used = used.get()?;
        Some(used.all.saturating_sub(used.free.upgrade()?.available_permits()))
    }
}

impl RlqsCounters {
    /// Shows how many permits of these are taken, of how many.
    pub(crate) fn watch(
        &self,
        streams: (&Arc<Semaphore>, usize),
        buckets: (&Arc<Semaphore>, usize),
    ) {
        let used = |(free, all): (&Arc<Semaphore>, usize)| Used { free: Arc::downgrade(free), all };
        // Nobody has set them before.
        _ = self.streams.set(used(streams));
        _ = self.buckets.set(used(buckets));
    }

    /// Counts an answer that is the same for all requests.
    pub(crate) fn count_blanket(&self, allows: bool) {
        if allows { &self.allowed } else { &self.denied }.increment();
    }

    /// The metrics in the text format of Prometheus; nothing if the service is not served.
    pub(crate) fn text(&self) -> String {
        let (Some(streams), Some(buckets)) = (Used::get(&self.streams), Used::get(&self.buckets))
        else {
            return String::new();
        };
        let mut text = String::new();
        let mut family = |name: &str, kind: &str, help: &str, samples: &[(&str, u64)]| {
            // Writing to a string cannot fail.
            _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
            for (labels, value) in samples {
                _ = writeln!(text, "{name}{labels} {value}");
            }
        };
        let help = "Streams of proxies that are assigned quotas.";
        family("tidegate_rlqs_streams", "gauge", help, &[("", streams as u64)]);
        let help = "Buckets of all streams.";
        family("tidegate_rlqs_buckets", "gauge", help, &[("", buckets as u64)]);
        let help = "Reports of the use of a bucket.";
        family("tidegate_rlqs_reports_total", "counter", help, &[("", self.reports.get())]);
        let actions = [
            ("{action=\"token_bucket\"}", self.token_buckets.get()),
            ("{action=\"allow_all\"}", self.allowed.get()),
            ("{action=\"deny_all\"}", self.denied.get()),
            ("{action=\"abandon\"}", self.abandoned.get()),
        ];
        let help = "Answers about a bucket, by action.";
        family("tidegate_rlqs_actions_total", "counter", help, &actions);
        text
    }
}
