//! The nodes of a cluster fail one by one, and calls are kept from each by its own breaker.

use std::sync::Arc;

use tidegate_protocol::StoreBreaker;

use super::{Connected, Live};

impl Connected {
    /// The breaker of the node that serves the keys; none where the store is one server.
    pub(super) fn breaker_of_node(
        &self,
        live: &Live,
        keys: &[Vec<u8>],
    ) -> Option<Arc<StoreBreaker>> {
        let address = &self.0.address;
        if !address.is_of_a_cluster() {
            return None;
        }
        live.link.breaker_of_node(address.slot(keys.first()?))
    }

    /// Those of all nodes that this process knows.
    pub(super) fn breakers_of_nodes(&self) -> Vec<Arc<StoreBreaker>> {
        self.0.live.get().map_or_else(Vec::new, |live| live.link.breakers_of_nodes())
    }
}
