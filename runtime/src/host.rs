//! What the protocol of shared buckets needs from the operating system.

#![expect(clippy::disallowed_types, reason = "this is the room of randomness")]

use core::hash::BuildHasher as _;
use std::hash::RandomState;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use once_cell::race::OnceBox;
use tidegate_core::Clock as _;
use tidegate_protocol::{Host, StoreChange};

use crate::clock::MonotonicClock;

/// A store behind its breaker.
pub(crate) type GuardedStore = tidegate_protocol::GuardedStore<NativeHost>;

/// One limiter's buckets in a store.
pub(crate) type Guarded = tidegate_protocol::Guarded<NativeHost>;

/// The operating system's clock and randomness, and the identity of this process.
pub(crate) enum NativeHost {}

impl Host for NativeHost {
    fn now() -> u64 {
        clock().now()
    }

    fn random() -> u64 {
        // A forked child inherits what the hash is made of, but neither the number nor the time.
        RandomState::new().hash_one((std::process::id(), Self::now()))
    }

    fn process() -> u32 {
        crate::generation()
    }

    fn store_changed(change: StoreChange) {
        if let Some(hook) = &*HOOK.load() {
            hook(&change);
        }
    }
}

type Hook = Box<dyn Fn(&StoreChange) + Send + Sync>;

/// The process's hook. It is not behind a lock, so that a forked child can use what it inherits.
static HOOK: ArcSwapOption<Hook> = ArcSwapOption::const_empty();

/// See [`Store::on_change`](crate::Store::on_change).
pub(crate) fn set_store_hook(hook: impl Fn(&StoreChange) + Send + Sync + 'static) {
    HOOK.store(Some(Arc::new(Box::new(hook))));
}

fn clock() -> &'static MonotonicClock {
    static CLOCK: OnceBox<MonotonicClock> = OnceBox::new();
    CLOCK.get_or_init(|| Box::new(MonotonicClock::new()))
}
