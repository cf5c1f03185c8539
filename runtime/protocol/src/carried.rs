//! A Redis that is reached over a client of the program's own, as a store.

use core::marker::PhantomData;
use core::time::Duration;
use std::sync::Arc;

use crate::courier::Carriage;
use crate::deny_cache::DenyCache;
use crate::error::Error;
use crate::store::{Host, Ready, Store, Way};

/// A carriage, for all limiters that would wait equally long.
pub struct Carried<H> {
    carriage: Arc<Carriage>,
    timeout: Duration,
    host: PhantomData<fn() -> H>,
}

impl<H> Carried<H> {
    /// A store whose callers want to wait for `timeout`.
    pub const fn new(carriage: Arc<Carriage>, timeout: Duration) -> Self {
        Self { carriage, timeout, host: PhantomData }
    }
}

impl<H> Clone for Carried<H> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.carriage), self.timeout)
    }
}

impl<H: Host> Store for Carried<H> {
    type Host = H;
    type Way<'s> = &'s Self;

    fn way(&self) -> Result<&Self, Error> {
        Ok(self)
    }
}

impl<H: Host> Way for &Carried<H> {
    fn refused(&self) -> &Arc<DenyCache> {
        self.carriage.refused()
    }

    fn send(&self, requests: impl IntoIterator<Item = Ready>) {
        let requests = requests.into_iter().map(|(_, request, done)| (request, done));
        self.carriage.send(requests, self.timeout, H::now());
    }
}
