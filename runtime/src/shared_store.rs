//! A Redis that limiters share.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::time::Duration;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tidegate_protocol::PrefixHold;

use crate::default_prefix::DefaultPrefix;
use crate::host::GuardedStore;
use crate::redis::RedisStore;

/// A Redis behind its breaker, for all limiters that use it.
pub(crate) struct SharedStore {
    pub(crate) guarded: GuardedStore,
    /// Tidegate's own connections; `None` over a client of the program's own.
    pub(crate) native: Option<Arc<RedisStore>>,
    /// The limits that have the default prefix of this Redis.
    pub(crate) default_prefix: Arc<DefaultPrefix>,
    /// The number of limiters that are open.
    limiters: AtomicUsize,
}

/// A limiter's part in a store. With the last one, the connections are closed.
pub(crate) struct StoreUse {
    store: Arc<SharedStore>,
    has_ended: AtomicBool,
    /// `None` for a limiter with a prefix of its own, and once the use has ended.
    default_prefix: ArcSwapOption<PrefixHold>,
}

impl SharedStore {
    pub(crate) const fn new(
        guarded: GuardedStore,
        native: Option<Arc<RedisStore>>,
        default_prefix: Arc<DefaultPrefix>,
    ) -> Self {
        Self { guarded, native, default_prefix, limiters: AtomicUsize::new(0) }
    }

    /// Counts another limiter, with its part in the default prefix if it has no prefix of its own.
    pub(crate) fn use_by_a_limiter(
        self: &Arc<Self>,
        default_prefix: Option<Arc<PrefixHold>>,
    ) -> StoreUse {
        self.limiters.fetch_add(1, Ordering::AcqRel);
        let (has_ended, default_prefix) = (AtomicBool::new(false), default_prefix.into());
        StoreUse { store: Arc::clone(self), has_ended, default_prefix }
    }
}

impl fmt::Display for SharedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.native {
            Some(native) => native.address().fmt(f),
            None => f.write_str("a Redis client of the program's own"),
        }
    }
}

impl StoreUse {
    /// The longest that a thread may wait for an answer, if that has to be bounded; see
    /// [`RedisStore::longest_wait`].
    pub(crate) fn longest_wait(&self) -> Option<Duration> {
        self.store.native.as_ref()?.longest_wait()
    }

    /// See [`RedisStore::look_at_eviction`]. A client of the program's own is not asked.
    pub(crate) fn look_at_eviction(&self) {
        if let Some(native) = &self.store.native {
            native.look_at_eviction();
        }
    }

    /// Whether it is a client of the program's own.
    pub(crate) fn is_client(&self) -> bool {
        self.store.native.is_none()
    }

    /// Ends the use, once. A limiter that is used all the same connects again.
    pub(crate) fn end(&self) {
        if self.has_ended.swap(true, Ordering::AcqRel) {
            return;
        }
        self.default_prefix.store(None);
        let is_last = self.store.limiters.fetch_sub(1, Ordering::AcqRel) == 1;
        if let Some(native) = self.store.native.as_ref().filter(|_| is_last) {
            native.disconnect();
        }
    }
}

impl Drop for StoreUse {
    fn drop(&mut self) {
        self.end();
    }
}
