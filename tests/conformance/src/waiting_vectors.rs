//! `waiting.json`: who waits for one key, and what becomes of everybody.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::vectors::nanos;

/// All scenarios.
#[derive(Deserialize)]
pub struct WaitingVectors {
    /// The scenarios.
    pub scenarios: Vec<Scenario>,
}

/// What happens to the callers of one key, and what becomes of them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What the scenario shows.
    pub name: String,
    /// Texts of the limits.
    pub limits: Vec<String>,
    /// How many callers may wait, if that is not the default.
    pub max_waiting: Option<usize>,
    /// Whether no outcome changes when each event comes up to 25 ms late.
    pub real_time: bool,
    /// What happens, in order.
    pub events: Vec<Timed>,
    /// What becomes of each caller.
    pub outcomes: BTreeMap<String, Fate>,
}

/// An event and its time.
#[derive(Deserialize)]
pub struct Timed {
    /// The time, in nanoseconds.
    pub at: String,
    /// The answer of an event that has one.
    pub expect: Option<Value>,
    /// What happens.
    #[serde(flatten)]
    pub event: Event,
}

/// What happens.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Event {
    /// Callers come one after the other.
    Arrive {
        /// The callers' names.
        ids: Vec<String>,
        /// The tokens that each wants.
        cost: u64,
        /// The longest wait in nanoseconds.
        timeout: Option<String>,
    },
    /// Callers leave one after the other. Those that have been answered change nothing.
    Leave {
        /// The callers' names.
        ids: Vec<String>,
    },
    /// Somebody looks who waits.
    Waiting,
    /// A charge is corrected.
    Settle {
        /// The tokens that were charged.
        charged: u64,
        /// The tokens that were used.
        actual: u64,
    },
    /// Tokens are given back.
    Credit {
        /// How many.
        tokens: u64,
    },
    /// The bucket is held.
    Hold {
        /// For how many nanoseconds.
        wait: String,
    },
    /// The bucket is made full.
    Reset,
    /// Somebody reserves a slot, and does not wait.
    Reserve {
        /// The name for a later `Cancel`.
        name: String,
        /// The tokens.
        cost: u64,
        /// The longest acceptable delay in nanoseconds.
        max_wait: String,
    },
    /// A reservation is given up.
    Cancel {
        /// The name of the reservation.
        name: String,
    },
    /// Somebody checks, and does not wait.
    Check {
        /// The tokens.
        cost: u64,
    },
    /// The limiter is closed.
    Close,
}

/// What becomes of a caller, at a time in nanoseconds.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(untagged, deny_unknown_fields)]
pub enum Fate {
    /// It gets its tokens.
    Served {
        /// When.
        served: String,
    },
    /// The tokens would come too late, or too many callers wait.
    Refused {
        /// When it is told.
        refused: String,
        /// How much longer it would have had to wait.
        retry_after: String,
    },
    /// It does not wait any more.
    Left {
        /// When.
        left: String,
    },
    /// The limiter is closed.
    Closed {
        /// When it is told.
        closed: String,
    },
}

impl Timed {
    /// The time in nanoseconds.
    pub fn now(&self) -> u64 {
        nanos(&self.at)
    }
}

impl Fate {
    /// What becomes of the caller, without the time.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Served { .. } => "served",
            Self::Refused { .. } => "refused",
            Self::Left { .. } => "left",
            Self::Closed { .. } => "closed",
        }
    }
}
