//! What a limiter reports about its store.

use tidegate_core::BreakerState;

/// How a limiter's store has done so far; of memory, which cannot fail, nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreHealth {
    /// What becomes of calls: they are sent, or answered at once because the store fails. In a
    /// cluster each node has a state of its own; this is the worst among those that serve slots.
    pub state: BreakerState,
    /// Calls that failed, of all limiters that share the store.
    pub failures: u64,
    /// Calls that this limiter has answered itself, as its
    /// [`OnStoreError`](crate::OnStoreError) says.
    pub fallbacks: u64,
}

impl StoreHealth {
    /// The health of memory, which does not fail.
    #[doc(hidden)]
    pub const NEVER_FAILED: Self = Self { state: BreakerState::Closed, failures: 0, fallbacks: 0 };
}
