//! What a limiter reports about its store.

use core::fmt;
use core::time::Duration;

use tidegate_core::BreakerState;

use crate::error::Error;

/// How a limiter's store has done so far; of memory, which cannot fail, nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreHealth {
    /// What becomes of calls: they are sent, or answered at once because the store fails. In a
    /// cluster each node has a state of its own; this is the worst among those that serve slots.
    pub state: BreakerState,
    /// Calls that failed, of all limiters that share the store.
    pub failures: u64,
    /// Calls that this limiter has answered itself, as its
    /// [`OnStoreError`](crate::OnStoreError) says.
    pub fallbacks: u64,
    /// The last failure of a call, also after the store has recovered; `None` if no call failed.
    /// Calls that were not sent are no failures. Without passwords.
    pub last_error: Option<Error>,
    /// For how long the store has been so: closed without a break, or not closed, where `Open` and
    /// `HalfOpen` are one outage. Counted from the first use in this process; zero for memory.
    pub since: Duration,
}

/// A store has begun to be left alone because it keeps failing, or is asked again, or has a setting
/// that an operator should know of. There is one for each such change and not one for each call, so it
/// is what to log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreChange {
    /// The store, without user, password and options: its URL, in a cluster the node's host and port,
    /// or what is known of a client of the program's own.
    pub store: String,
    /// The failure at which the store was left alone; `None` if it has recovered, or with a notice.
    pub error: Option<Error>,
    /// How long the store had failed when it recovered; zero otherwise.
    pub lasted: Duration,
    /// The setting that an operator should know of; `None` if the store has failed or recovered.
    pub notice: Option<StoreNotice>,
}

/// A setting of a store that an operator should know of, because it weakens what a limiter promises.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreNotice {
    /// The store's URL says `verify=none`: connections are encrypted, but may lead to anybody.
    Unverified,
    /// It evicts keys by this `maxmemory-policy`, so that a flood of keys can evict a bucket that owes,
    /// which is then full again. Found by a ping.
    Evicts(String),
}

impl StoreChange {
    /// A store has this setting.
    #[doc(hidden)]
    pub const fn noticed(store: String, notice: StoreNotice) -> Self {
        Self { store, error: None, lasted: Duration::ZERO, notice: Some(notice) }
    }

    /// Whether it is a warning, and not the good news that the store answers again.
    pub const fn is_warning(&self) -> bool {
        self.notice.is_some() || self.error.is_some()
    }
}

/// The most characters of an error in a line of the log. What a server or a client says may be long.
const MAX_WORDS: usize = 300;

/// The change as one line for a log.
impl fmt::Display for StoreChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let store = &self.store;
        match (&self.notice, &self.error) {
            (Some(StoreNotice::Unverified), _) => {
                write!(f, "{store} was opened with verify=none: its certificate is not checked")
            }
            (Some(StoreNotice::Evicts(policy)), _) => write!(
                f,
                "{store} evicts keys by maxmemory-policy {policy}: a flood of keys can evict a bucket \
                 that owes, which is then full again; use noeviction or volatile-ttl"
            ),
            (None, Some(error)) => {
                let words = error.to_string();
                let printable = |letter: char| if letter.is_control() { ' ' } else { letter };
                let line: String = words.chars().take(MAX_WORDS).map(printable).collect();
                let rest = if words.chars().count() > MAX_WORDS { "…" } else { "" };
                write!(f, "{store} keeps failing and is asked only now and then: {line}{rest}")
            }
            (None, None) => {
                // Whole numbers, because the code that writes a float would be a tenth of the module
                // for JavaScript.
                let tenths = (self.lasted.as_millis() + 50) / 100;
                let (seconds, rest) = (tenths / 10, tenths % 10);
                write!(f, "{store} answers again, after {seconds}.{rest} s of failures")
            }
        }
    }
}

impl StoreHealth {
    /// The health of memory, which does not fail.
    #[doc(hidden)]
    pub const NEVER_FAILED: Self = Self {
        state: BreakerState::Closed,
        failures: 0,
        fallbacks: 0,
        last_error: None,
        since: Duration::ZERO,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_one_short_line() {
        let said = format!("ERR \u{1b}[31m\r\n{}", "ü".repeat(10_000));
        let (store, error) = ("redis://db:6379/0".to_owned(), Some(Error::Store(said.into())));
        let line = StoreChange { store, error, lasted: Duration::ZERO, notice: None }.to_string();
        assert!(line.starts_with("redis://db:6379/0 keeps failing") && line.ends_with("ü…"));
        assert!(line.chars().count() < 400 && !line.chars().any(char::is_control), "{line}");
        let (store, lasted) = ("a:1".to_owned(), Duration::from_millis(1_260));
        let line = StoreChange { store, error: None, lasted, notice: None }.to_string();
        assert_eq!(line, "a:1 answers again, after 1.3 s of failures");
    }
}
