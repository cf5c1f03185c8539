//! The atomics that the table uses. The loom models compile the table against a module of the same
//! name, in `tests/loom/src/sync.rs`.

pub(crate) use core::hint::spin_loop;
pub(crate) use core::sync::atomic::{AtomicU64, Ordering, fence};

/// A call looks this many times at another call's unfinished insertion before it assumes that the
/// thread has died.
pub(crate) const PATIENCE: u32 = 128;
