//! What core/src/sync.rs takes from the platform, from loom.

use std::cell::Cell;

pub(crate) use loom::sync::atomic::{Ordering, fence};

/// Every loop of the table ends by its own steps, whatever the others have left
/// behind. So nothing yields: a loop that waits for another thread fails its model.
pub(crate) fn spin_loop() {}

pub(crate) const PATIENCE: u32 = 1;

/// What a load may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loads {
    /// The newest value: threads are interleaved, step by step.
    Newest,
    /// Any value that its order allows.
    Allowed,
}

std::thread_local! {
    // The threads of a model are coroutines of one thread.
    static LOADS: Cell<Loads> = const { Cell::new(Loads::Newest) };
}

pub(crate) fn model_loads(loads: Loads) {
    LOADS.set(loads);
}

/// Loom's atomic, accessed so that loom misses no order.
///
/// Loom remembers only the last access of an atomic when it looks for orders worth
/// running (its issues 166 and 392). A thread that loads a word and then swaps it
/// hides by its own load that another had loaded the word before: the order in which
/// the swap comes first is then never run. Of read-modify-writes it forgets none.
/// So a load of the newest value is one; for other loads, every access is announced
/// by one of a second atomic, relaxed, which leaves old values as they are.
#[derive(Debug, Default)]
pub struct AtomicU64 {
    announced: loom::sync::atomic::AtomicU8,
    value: loom::sync::atomic::AtomicU64,
}

impl AtomicU64 {
    pub(crate) fn load(&self, order: Ordering) -> u64 {
        match LOADS.get() {
            Loads::Newest => self.value.fetch_or(0, order),
            Loads::Allowed => {
                self.announce();
                self.value.load(order)
            }
        }
    }

    pub(crate) fn store(&self, value: u64, order: Ordering) {
        self.announce();
        self.value.store(value, order);
    }

    pub(crate) fn compare_exchange(
        &self,
        from: u64,
        to: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        self.announce();
        self.value.compare_exchange(from, to, success, failure)
    }

    fn announce(&self) {
        if LOADS.get() == Loads::Allowed {
            self.announced.fetch_or(0, Ordering::Relaxed);
        }
    }
}
