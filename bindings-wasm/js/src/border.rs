//! The memory through which JavaScript and an engine exchange numbers and keys.

use core::cell::{Cell, RefCell};

use tidegate_core::{MAX_KEY, MAX_TIERS};

use crate::engine::{Answer, Slot, Tiers};
use crate::seed::Seed;

/// The memory that JavaScript reads and writes around a call of any engine.
///
/// One serves all limiters, because a call reads what it needs before it returns, and JavaScript reads
/// the answer before it makes another call. A limiter of its own memory would be three times as large.
/// The addresses stay the same for as long as the module lives.
#[derive(Default)]
pub(crate) struct Border {
    /// The keys, each of which begins `MAX_KEY` bytes after the one before it.
    pub(crate) keys: RefCell<KeyBytes>,
    pub(crate) key_lengths: RefCell<[u32; MAX_TIERS]>,
    /// The costs of a call that has one for each limit, and the tokens that were used beside them.
    pub(crate) costs: RefCell<[f64; 2 * MAX_TIERS]>,
    pub(crate) answer: RefCell<Answer>,
    /// What each limit says, beside the answer.
    pub(crate) tiers: RefCell<Tiers>,
    pub(crate) slot: RefCell<Slot>,
    /// The random key of the hash of bucket keys, the same for all limiters.
    pub(crate) seed: RefCell<Seed>,
}

/// The bytes of one key for each of the most limits.
pub(crate) struct KeyBytes(pub(crate) [u8; MAX_TIERS * MAX_KEY]);

impl Default for KeyBytes {
    fn default() -> Self {
        Self([0; MAX_TIERS * MAX_KEY])
    }
}

impl Border {
    /// The border of the module.
    pub(crate) fn of_the_module() -> &'static Self {
        thread_local! {
            static BORDER: Cell<Option<&'static Border>> = const { Cell::new(None) };
        }
        BORDER.get().unwrap_or_else(|| {
            let border: &'static Self = Box::leak(Box::default());
            BORDER.set(Some(border));
            border
        })
    }
}
