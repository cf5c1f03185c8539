//! Concurrency permits: the options with which they open, and their operations.

use core::time::Duration;
use std::sync::Arc;

use napi::Either;
use napi::bindgen_prelude::Uint8Array;
use napi_derive::napi;
use tidegate::bindings::PermitWaiter;
use tidegate::{Concurrency, OnStoreError, Permit};

use crate::answer::Failure;
use crate::completions::{Completions, Reply};
use crate::millis::{in_millis, in_nanos};

/// Permits of the crate `tidegate`.
#[napi]
pub struct NativeConcurrency(Concurrency);

/// A caller that waits for a permit, by which it can leave.
#[napi]
pub struct NativePermitWaiter(PermitWaiter);

/// A permit. It is given back when JavaScript drops it.
#[napi]
pub struct NativePermit(Arc<Permit>);

/// The options of [`open_concurrency`].
#[napi(object)]
pub struct ConcurrencyFields {
    /// The number of permits; a whole number.
    pub limit: f64,
    /// How long a permit lasts unless it is renewed.
    pub ttl_ms: Option<f64>,
    /// The store's URL.
    pub store: String,
    /// The beginning of all keys in the store.
    pub prefix: Option<String>,
    /// The longest time that a call may take.
    pub store_timeout_ms: Option<u32>,
    /// The name of the policy for the time in which the store fails.
    pub on_store_error: Option<String>,
    /// The most callers of a key that may wait at a time.
    pub max_waiting: Option<u32>,
}

/// The answer to a caller that has got a permit.
#[napi(object, object_from_js = false)]
pub struct Entered {
    /// The permit.
    pub permit: NativePermit,
}

impl From<Permit> for Entered {
    fn from(permit: Permit) -> Self {
        Self { permit: NativePermit(Arc::new(permit)) }
    }
}

/// Opens permits; does no I/O. Failures are returned, not thrown, so that they keep their code.
#[napi]
pub fn open_concurrency(options: ConcurrencyFields) -> Either<NativeConcurrency, Failure> {
    let mut builder = Concurrency::builder().limit(options.limit as u64).store_url(&options.store);
    if let Some(millis) = options.ttl_ms {
        builder = builder.ttl(Duration::from_nanos(in_nanos(millis)));
    }
    if let Some(prefix) = &options.prefix {
        builder = builder.prefix(prefix);
    }
    if let Some(millis) = options.store_timeout_ms {
        builder = builder.store_timeout(Duration::from_millis(millis.into()));
    }
    if let Some(most) = options.max_waiting {
        builder = builder.max_waiting(most as usize);
    }
    let policy = options.on_store_error.as_deref().unwrap_or("raise");
    // The number of peers is only there so that "local" is refused for what it is.
    let peers = (policy == "local").then_some(1);
    let built = OnStoreError::parse(policy, peers)
        .and_then(|policy| builder.on_store_error(policy).build());
    match built {
        Ok(concurrency) => Either::A(NativeConcurrency(concurrency)),
        Err(error) => Either::B(Failure::from(&error)),
    }
}

#[napi]
impl NativeConcurrency {
    /// The number of permits.
    #[napi(getter)]
    pub fn limit(&self) -> f64 {
        self.0.limit() as f64
    }

    /// How long a permit lasts unless it is renewed.
    #[napi(getter)]
    pub fn ttl_ms(&self) -> f64 {
        in_millis(u64::try_from(self.0.ttl().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Changes the number of permits. Returns the reason why it could not.
    #[napi]
    pub fn set_limit(&self, limit: f64) -> Option<Failure> {
        self.0.set_limit(limit as u64).err().map(|error| Failure::from(&error))
    }

    /// Answers with a permit. A timeout of 0 does not wait for others.
    #[napi]
    pub fn acquire(
        &self,
        key: Either<String, Uint8Array>,
        timeout_ms: f64,
        completions: &Completions,
        id: u32,
    ) -> NativePermitWaiter {
        let ticket = completions.ticket(id);
        let timeout = timeout_ms.is_finite().then(|| Duration::from_nanos(in_nanos(timeout_ms)));
        let asked = self.0.clone();
        NativePermitWaiter(self.0.acquire_then(bytes(&key), timeout, move |answer| {
            ticket.settle(match answer {
                Ok(Some(permit)) => Ok(Reply::Permit(permit)),
                Ok(None) => Err(asked.no_permit(timeout)),
                Err(error) => Err(error),
            });
        }))
    }

    /// Answers with the number of permits that are held.
    #[napi]
    pub fn in_flight(&self, key: Either<String, Uint8Array>, completions: &Completions, id: u32) {
        let ticket = completions.ticket(id);
        self.0.in_flight_then(bytes(&key), |live| ticket.settle(live.map(Reply::InFlight)));
    }

    /// The number of callers of this process that wait.
    #[napi]
    pub fn waiting(&self, key: Either<String, Uint8Array>) -> f64 {
        self.0.waiting(bytes(&key)) as f64
    }

    /// Closes it.
    #[napi]
    pub fn close(&self) {
        self.0.close();
    }
}

#[napi]
impl NativePermitWaiter {
    /// Stops waiting. Does nothing once the caller has been answered.
    #[napi]
    pub fn leave(&self) {
        self.0.leave();
    }
}

#[napi]
impl NativePermit {
    /// Whether it has expired before it could be renewed.
    #[napi(getter)]
    pub fn lost(&self) -> bool {
        self.0.is_lost()
    }

    /// Where it was counted.
    #[napi(getter)]
    pub fn source(&self) -> &'static str {
        self.0.source().as_str()
    }

    /// Gives it back, and answers when the store has heard of it.
    #[napi]
    pub fn release(&self, completions: &Completions, id: u32) {
        let ticket = completions.ticket(id);
        self.0.release_then(|| ticket.settle(Ok(Reply::Served)));
    }

    /// Gives it back without an answer.
    #[napi]
    pub fn abandon(&self) {
        self.0.release_then(|| ());
    }
}

fn bytes(key: &Either<String, Uint8Array>) -> &[u8] {
    match key {
        Either::A(text) => text.as_bytes(),
        Either::B(bytes) => bytes,
    }
}
