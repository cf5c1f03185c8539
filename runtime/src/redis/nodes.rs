//! The nodes of a cluster fail one by one, and calls are kept from each by its own breaker.

use std::sync::Arc;

use super::{Connected, Reach, RedisStore};
use crate::breaker::StoreBreaker;

impl RedisStore {
    /// The breaker of the node that serves the keys; none where the store is one server.
    pub(crate) fn breaker_of_node(&self, keys: &[Vec<u8>]) -> Option<Arc<StoreBreaker>> {
        match &self.reach {
            Reach::Connected(store) if store.0.address.is_of_a_cluster() => {
                let slot = store.0.address.slot(keys.first()?);
                store.live().ok()?.link.breaker_of_node(slot)
            }
            Reach::Connected(_) | Reach::Carried { .. } => None,
        }
    }

    /// Those of all nodes that this process knows.
    pub(crate) fn breakers_of_nodes(&self) -> Vec<Arc<StoreBreaker>> {
        match &self.reach {
            Reach::Connected(store) => store.breakers_of_nodes(),
            Reach::Carried { .. } => Vec::new(),
        }
    }
}

impl Connected {
    fn breakers_of_nodes(&self) -> Vec<Arc<StoreBreaker>> {
        let live = self.0.live.load();
        let own = live.as_ref().filter(|live| live.process == std::process::id());
        own.map_or_else(Vec::new, |live| live.link.breakers_of_nodes())
    }
}
