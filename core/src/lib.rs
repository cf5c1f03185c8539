#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod clock;
mod decision;
mod error;
mod gcra;
mod grammar;
mod limit;
mod store;
mod sync;
mod table;
mod tiers;
mod timeline;

pub use clock::{Clock, ManualClock};
pub use decision::{Decision, Source};
pub use error::{Error, Field};
pub use gcra::decide;
pub use limit::{Limit, MAX_RATE_PER_SECOND, MAX_SPAN, Shape};
pub use store::Store;
pub use table::{
    OnFull, Receipt, Segments, Slot, Table, TableError, TableFull, WINDOW, check_tables,
};
pub use tiers::{Cells, MAX_TIERS, decide_tiers};
pub use timeline::Timeline;
