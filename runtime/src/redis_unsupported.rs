//! The substitute for stores in Redis that are named by URL, in builds without the feature `redis`.

use core::time::Duration;
use std::sync::Arc;

use tidegate_protocol::{Route, Store};
use tokio::runtime::Handle;

use crate::Error;
use crate::shared_store::SharedStore;

/// The address of a Redis, of which this build knows only the scheme.
pub(crate) enum Address {}

/// A Redis. There is none in this build.
pub(crate) enum RedisStore {}

impl Address {
    pub(crate) fn has_scheme(scheme: &str) -> bool {
        ["redis", "rediss", "valkey", "valkeys"]
            .contains(&scheme.split_once('+').map_or(scheme, |(family, _)| family))
    }
}

/// Refuses to open a store.
pub(crate) fn open(_: &str, _: Duration, _: Option<&Handle>) -> Result<Arc<SharedStore>, Error> {
    Err(Error::argument("store", "a Redis needs the feature \"redis\" of the crate tidegate"))
}

impl RedisStore {
    pub(crate) fn address(&self) -> &str {
        match *self {}
    }

    pub(crate) fn disconnect(&self) {
        match *self {}
    }

    pub(crate) fn longest_wait(&self) -> Option<Duration> {
        match *self {}
    }

    pub(crate) fn look_at_eviction(&self) {
        match *self {}
    }

    pub(crate) async fn ping(&self) -> Result<(), Error> {
        match *self {}
    }
}

impl Store for RedisStore {
    fn name(&self) -> String {
        match *self {}
    }

    fn route(&self) -> Result<&dyn Route, Error> {
        match *self {}
    }
}
