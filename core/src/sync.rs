//! What the table takes from the platform. The loom models compile the table
//! against a module of the same names.

pub(crate) use core::hint::spin_loop;
pub(crate) use core::sync::atomic::{AtomicU64, Ordering, fence};

/// How often a call looks again at another's unfinished insertion before it
/// takes its author for dead.
pub(crate) const PATIENCE: u32 = 128;
