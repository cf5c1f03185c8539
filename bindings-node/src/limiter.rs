use core::time::Duration;

use napi::Either;
use napi::bindgen_prelude::Uint8Array;
use napi_derive::napi;
use tidegate::Limiter;

use crate::answer::Failure;
use crate::completions::Completions;

/// A limiter of the crate `tidegate`.
#[napi]
pub struct NativeLimiter(Limiter);

/// What [`open_limiter`] takes.
#[napi(object)]
pub struct OpenOptions {
    /// One to four limits.
    pub limits: Vec<LimitText>,
    /// The store's URL.
    pub store: String,
    /// What keys in the store begin with.
    pub prefix: Option<String>,
    /// How long a check may take.
    pub store_timeout_ms: Option<u32>,
}

/// A limit by its text.
#[napi(object)]
pub struct LimitText {
    /// What decisions report it as.
    pub name: String,
    /// Its text in the grammar.
    pub text: String,
}

/// Opens a limiter; does no I/O. Failures are returned, not thrown, so that they
/// keep their code and reason.
#[napi]
pub fn open_limiter(options: OpenOptions) -> Either<NativeLimiter, Failure> {
    let mut builder = Limiter::builder().store_url(&options.store);
    for limit in &options.limits {
        builder = builder.named_limit(&limit.name, &limit.text);
    }
    if let Some(prefix) = &options.prefix {
        builder = builder.prefix(prefix);
    }
    if let Some(millis) = options.store_timeout_ms {
        builder = builder.store_timeout(Duration::from_millis(millis.into()));
    }
    match builder.build() {
        Ok(limiter) => Either::A(NativeLimiter(limiter)),
        Err(error) => Either::B(Failure::from(&error)),
    }
}

#[napi]
impl NativeLimiter {
    /// Checks; the answer comes to `completions` under the number `id`. `cost` is
    /// a whole number.
    #[napi]
    pub fn check(
        &self,
        key: Either<String, Uint8Array>,
        cost: f64,
        completions: &Completions,
        id: u32,
    ) {
        let ticket = completions.ticket(id);
        self.0.check_then(bytes(&key), cost as u64, move |outcome| ticket.settle(outcome));
    }

    /// Checks on this thread, and says only whether the cost was charged. Here to
    /// be measured: the least that a native engine for memory could take.
    #[napi]
    pub fn is_allowed_blocking(&self, key: String, cost: f64) -> bool {
        self.0.check(&key, cost as u64).is_ok_and(|decision| decision.allowed)
    }

    /// Lets go of the limiter: later checks fail.
    #[napi]
    pub fn close(&self) {
        self.0.close();
    }
}

fn bytes(key: &Either<String, Uint8Array>) -> &[u8] {
    match key {
        Either::A(text) => text.as_bytes(),
        Either::B(bytes) => bytes,
    }
}
