//! Keeps the rules in force as their file says: reads it again on SIGHUP, and when it has changed.
//!
//! The file is read once in `--rules-poll`, and its content compared. That also sees a symbolic link that is
//! swapped, as Kubernetes does with ConfigMaps, files on network disks, and changes within the resolution of
//! the time of modification; notifications of the system miss the first two, or need watches of each directory
//! on the way. A file has at most a few hundred kilobytes, so reading it costs next to nothing.

use core::time::Duration;
use std::path::PathBuf;
use std::sync::Arc;

use tidegate::Limiter;
use tokio::signal::unix::Signal;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::current_rules::CurrentRules;
use crate::rules::{RuleSet, read_file};
use crate::rules_status::RulesStatus;
use crate::store_options::StoreOptions;

/// The text of the file, or why it cannot be read.
type FileText = Result<String, String>;

/// The rules file, and the rules in force that are read from it.
pub(crate) struct RulesWatch {
    pub(crate) path: PathBuf,
    pub(crate) store_options: StoreOptions,
    pub(crate) current: Arc<CurrentRules>,
    pub(crate) status: Arc<RulesStatus>,
    /// How long requests may still be decided by rules that are replaced.
    pub(crate) request_timeout: Duration,
    /// The text that was last put in force or refused.
    pub(crate) tried: FileText,
}

impl RulesWatch {
    /// Watches for ever. An interval of 0 looks only on SIGHUP.
    pub(crate) async fn run(mut self, every: Duration, mut hangup: Signal) {
        let mut timer = tokio::time::interval(every.max(Duration::from_millis(1)));
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = self.tried.clone();
        loop {
            tokio::select! {
                _ = hangup.recv() => {
                    seen = self.read().await;
                    self.try_text(seen.clone());
                }
                _ = timer.tick(), if !every.is_zero() => {
                    let text = self.read().await;
                    // A file that is just being written is read again: half of it may be valid rules.
                    let is_settled = text == seen;
                    seen = text;
                    if is_settled && seen != self.tried {
                        self.try_text(seen.clone());
                    }
                }
            }
        }
    }

    /// Reads the file on a thread that may wait for a disk.
    async fn read(&self) -> FileText {
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || read_file(&path)).await;
        read.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// Puts the rules of this text in force. Those from before stay when it cannot be used.
    fn try_text(&mut self, text: FileText) {
        self.tried = text;
        let text = self.tried.as_ref().map_err(String::clone);
        let read = text.and_then(|text| RuleSet::of_file(&self.path, text, &self.store_options));
        let mut rules = match read {
            Ok(rules) => rules,
            Err(message) => {
                warn!(error = message, "the rules are not reloaded: they stay as they are");
                return self.status.refused(message);
            }
        };
        let count = rules.len();
        let unused = rules.take_over(&self.current.get());
        let before = self.current.replace(rules);
        self.status.loaded();
        info!(rules = count, replaced = unused.len(), "the rules are reloaded");
        // Requests that are being decided may still use the old ones.
        let longest = self.request_timeout + Duration::from_secs(1);
        tokio::spawn(async move {
            tokio::time::sleep(longest).await;
            drop(before);
            // On a thread of its own, because closing waits until leases are given back.
            std::thread::spawn(move || unused.iter().for_each(Limiter::close));
        });
    }
}
