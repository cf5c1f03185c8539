//! This process, as the protocol of shared buckets asks for it.

use core::hash::BuildHasher as _;
use std::hash::RandomState;
use std::time::Instant;

use once_cell::race::OnceBox;
use tidegate_core::Clock as _;
use tidegate_protocol::Host;

use crate::clock::MonotonicClock;

/// The operating system's clock and chance.
pub(crate) enum NativeHost {}

impl Host for NativeHost {
    fn now() -> u64 {
        clock().now()
    }

    fn random() -> u64 {
        RandomState::new().hash_one(0)
    }

    fn process() -> u32 {
        crate::generation()
    }
}

/// What [`NativeHost::now`] said, or says, at that moment.
pub(crate) fn at(moment: Instant) -> u64 {
    clock().at(moment)
}

fn clock() -> &'static MonotonicClock {
    static CLOCK: OnceBox<MonotonicClock> = OnceBox::new();
    CLOCK.get_or_init(|| Box::new(MonotonicClock::new()))
}
