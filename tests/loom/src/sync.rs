//! The names of core/src/sync.rs, and the mutex of the runtime's lock module, over loom's.

use std::cell::Cell;

pub(crate) use loom::sync::atomic::{Ordering, fence};

/// Does not yield. Every loop of the table must end by its own steps, whatever other threads have
/// left behind; a loop that waits for another thread fails its model.
pub(crate) fn spin_loop() {}

pub(crate) const PATIENCE: u32 = 1;

/// The values that a load may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loads {
    /// The newest value: threads are interleaved, step by step.
    Newest,
    /// Any value that its order allows.
    Allowed,
}

std::thread_local! {
    // The threads of a model are coroutines of one thread, so they share this.
    static LOADS: Cell<Loads> = const { Cell::new(Loads::Newest) };
}

pub(crate) fn model_loads(loads: Loads) {
    LOADS.set(loads);
}

/// Loom's atomic, accessed in a way that makes loom run every order.
///
/// When loom looks for orders worth running, it remembers only the last access of an atomic (its
/// issues 166 and 392). If a thread loads a word and then swaps it, its own load hides that another
/// thread had loaded the word before, and the order in which the swap comes first is never run.
/// Loom forgets no read-modify-write. So a load of the newest value is made as one. For other
/// loads, every access is announced by a relaxed read-modify-write of a second atomic, which leaves
/// old values visible.
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

/// Loom's mutex with the interface of the runtime's, which knows no poison: a panic in a model
/// ends the model.
#[derive(Debug)]
pub struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
        self.0.lock().unwrap()
    }
}
