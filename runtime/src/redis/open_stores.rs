//! The Redis stores that are open in this process: limiters on one URL share one of them.

use core::time::Duration;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;
use tidegate_protocol::{Host as _, StoreChange, StoreNotice};
use tokio::runtime::{Handle, Id};

use super::RedisStore;
use crate::Error;
use crate::host::{GuardedStore, NativeHost};
use crate::shared_store::SharedStore;

/// The open stores of the process. They are not behind a lock, so that a forked child can use what it
/// inherits: its new limiters share the stores of the inherited ones.
static OPEN: ArcSwapOption<OpenStores> = ArcSwapOption::const_empty();

type OpenStores = HashMap<Opened, Weak<SharedStore>>;

/// What limiters must have in common to share a store. All other options are in the URL.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Opened {
    url: Box<str>,
    timeout: Duration,
    runtime: Option<Id>,
}

/// The store that is open for this URL, timeout and runtime, or a new one.
pub(crate) fn open(
    url: &str,
    timeout: Duration,
    runtime: Option<&Handle>,
) -> Result<Arc<SharedStore>, Error> {
    let wanted = Opened { url: url.into(), timeout, runtime: runtime.map(Handle::id) };
    let find = |stores: &Option<Arc<OpenStores>>| stores.as_ref()?.get(&wanted)?.upgrade();
    if let Some(open) = find(&OPEN.load()) {
        return Ok(open);
    }
    let native = Arc::new(RedisStore::open(url, timeout, runtime)?);
    let unverified = native.address().accepts_anybody();
    let guarded = GuardedStore::new(Arc::clone(&native) as _, timeout);
    // Stores that differ in the timeout are the same Redis.
    let stores = OPEN.load_full();
    let same_url = stores.iter().flat_map(|stores| &**stores).filter(|(at, _)| *at.url == *url);
    let default_prefix = same_url.filter_map(|(_, store)| store.upgrade()).next();
    let default_prefix = default_prefix.map(|store| Arc::clone(&store.default_prefix));
    let new = Arc::new(SharedStore::new(guarded, Some(native), default_prefix.unwrap_or_default()));
    let mut open = Arc::clone(&new);
    OPEN.rcu(|stores| {
        // Another thread may have opened it meanwhile.
        open = find(stores).unwrap_or_else(|| Arc::clone(&new));
        let others = stores.iter().flat_map(|stores| &**stores);
        let others = others.filter(|(_, store)| store.strong_count() > 0);
        let mut stores: OpenStores =
            others.map(|(at, store)| (at.clone(), store.clone())).collect();
        stores.insert(wanted.clone(), Arc::downgrade(&open));
        Some(Arc::new(stores))
    });
    if unverified && Arc::ptr_eq(&open, &new) {
        NativeHost::store_changed(StoreChange::noticed(open.to_string(), StoreNotice::Unverified));
    }
    Ok(open)
}
