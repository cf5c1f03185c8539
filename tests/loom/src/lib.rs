//! Compiles the sources of core's table and of the runtime's answer queue over loom's atomics and
//! locks, so that the models in `models/` run every interleaving of a few threads up to a bound of
//! preemptions.
//!
//! Nothing here is published; `cargo test -p tidegate-loom` runs the models.
#![cfg(test)]
#![allow(dead_code, unused_imports, unreachable_pub)]

mod sync;

/// The module of locks of the runtime's crate.
mod lock {
    pub(crate) use crate::sync::Mutex;
}

#[path = "../../../runtime/src/answer_queue.rs"]
mod answer_queue;
#[path = "../../../core/src/bounds.rs"]
mod bounds;
#[path = "../../../core/src/clock.rs"]
mod clock;
#[path = "../../../core/src/cost.rs"]
mod cost;
#[path = "../../../core/src/credit.rs"]
mod credit;
#[path = "../../../core/src/decision.rs"]
mod decision;
#[path = "../../../core/src/error.rs"]
mod error;
#[path = "../../../core/src/gcra.rs"]
mod gcra;
#[path = "../../../core/src/grammar.rs"]
mod grammar;
#[path = "../../../core/src/hold.rs"]
mod hold;
#[path = "../../../core/src/limit.rs"]
mod limit;
#[path = "../../../core/src/operation.rs"]
mod operation;
#[path = "../../../core/src/reservation.rs"]
mod reservation;
#[path = "../../../core/src/settle.rs"]
mod settle;
#[path = "../../../core/src/spelling.rs"]
mod spelling;
#[path = "../../../core/src/table/mod.rs"]
mod table;
#[path = "../../../core/src/tiers.rs"]
mod tiers;
#[path = "../../../core/src/timeline.rs"]
mod timeline;

pub use bounds::{MAX_SPAN, MAX_TIERS};
pub use clock::{Clock, ManualClock};
pub use credit::{credit, reset};
pub use decision::{Decision, Source, TierDecision, TieredDecision};
pub use error::Error;
pub use gcra::decide;
pub use hold::hold;
pub use limit::{Limit, Shape};
pub use operation::{Operation, Outcome, apply};
pub use reservation::{Reservation, Reserved, cancel, reserve};
pub use settle::settle;
pub use table::{OnFull, Segments, Slot, Table, TableFull, apply_tables, check_tables};
pub use tiers::{Cells, decide_tiers};

mod models;
