//! What is known of the rules file: whether it could be used when it was last read.

use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::counters::Counter;

/// The reloads so far, and the error of the last one.
#[derive(Debug, Default)]
pub(crate) struct RulesStatus {
    /// Reloads that have put rules in force.
    pub(crate) ok: Counter,
    /// Reloads of a file that could not be used.
    pub(crate) failed: Counter,
    /// When rules were last put in force, in seconds since the Unix epoch.
    loaded_at: AtomicU64,
    error: Mutex<Option<String>>,
}

impl RulesStatus {
    /// The status after the start, at which rules were read.
    pub(crate) fn started() -> Self {
        Self { loaded_at: AtomicU64::new(unix_time()), ..Self::default() }
    }

    /// Notes that rules are put in force.
    pub(crate) fn loaded(&self) {
        self.ok.increment();
        self.loaded_at.store(unix_time(), Ordering::Relaxed);
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Notes that the file cannot be used.
    pub(crate) fn refused(&self, message: String) {
        self.failed.increment();
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(message);
    }

    /// When rules were last put in force, in seconds since the Unix epoch.
    pub(crate) fn loaded_at(&self) -> u64 {
        self.loaded_at.load(Ordering::Relaxed)
    }

    /// Why the file cannot be used, in one line; `None` while the rules in force are those of the file. The
    /// lines of the file that a message may cite are left out.
    pub(crate) fn error(&self) -> Option<String> {
        let error = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        error.as_ref().map(|message| message.lines().next().unwrap_or_default().to_owned())
    }
}

#[expect(clippy::disallowed_methods, reason = "the time of a reload is shown to people")]
fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
