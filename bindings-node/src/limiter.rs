//! The limiter on Redis and on `shm://`, as JavaScript calls it.

use core::time::Duration;

use napi::Either;
use napi::bindgen_prelude::{Float64ArraySlice, Utf16String};
use napi_derive::napi;
use tidegate::bindings::{CancelOnDrop, decision};
use tidegate::{
    Decision, Keys, LeaseOptions, Limiter, OnStoreError, Operation, Pressure, Reservation,
    StoreHealth,
};

use crate::answer::{Answer, Failure, Reply};
use crate::completions::Completions;
use crate::keys::{KeyOrKeys, Lent};

const NANOS_PER_MILLI: u64 = 1_000_000;

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
    /// What to answer while the store fails.
    pub on_store_error: Option<String>,
    /// How many equal shares each limit then has; this process goes on with one of them.
    pub peers: Option<u32>,
    /// How long a refusal may be kept.
    pub deny_cache_ms: Option<u32>,
    /// How buckets are leased.
    pub lease: Option<LeaseFields>,
}

/// How buckets are leased.
#[napi(object)]
pub struct LeaseFields {
    /// How long a slice lives.
    pub ttl_ms: u32,
    /// The largest part of the rate that this process takes.
    pub max_share: Option<f64>,
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
    if let Some(millis) = options.deny_cache_ms {
        builder = builder.deny_cache(Duration::from_millis(millis.into()));
    }
    if let Some(lease) = &options.lease {
        let options = LeaseOptions::new(Duration::from_millis(lease.ttl_ms.into()));
        builder = builder.lease(options.max_share(lease.max_share.unwrap_or(1.0)));
    }
    let policy = options.on_store_error.as_deref().unwrap_or("raise");
    let built = OnStoreError::parse(policy, options.peers.map(u64::from))
        .and_then(|policy| builder.on_store_error(policy).build());
    match built {
        Ok(limiter) => Either::A(NativeLimiter(limiter)),
        Err(error) => Either::B(Failure::from(&error)),
    }
}

/// What a store could not keep.
#[napi(object)]
pub struct PressureCounts {
    /// Buckets that were dropped although they owed something.
    pub evicted: f64,
    /// Calls that were refused for want of room.
    pub denied: f64,
}

/// How the store has done.
#[napi(object, object_from_js = false)]
pub struct StoreHealthCounts {
    /// What becomes of calls.
    pub state: &'static str,
    /// Calls that failed.
    pub failures: f64,
    /// Calls that the limiter has answered itself.
    pub fallbacks: f64,
}

/// One check among many.
#[napi(object)]
pub struct CheckInput {
    /// One key for all limits, or one for each.
    pub key: KeyOrKeys,
    /// Tokens to spend.
    pub cost: f64,
}

/// Each operation is started, and its answer comes to `completions` under the number `id`.
/// Costs and other counts are whole numbers; waits are milliseconds, which may be infinite.
#[napi]
impl NativeLimiter {
    /// Whether answers come later, by the I/O thread; if not, they are there when the
    /// call returns.
    #[napi(getter)]
    pub fn is_remote(&self) -> bool {
        self.0.is_remote()
    }

    /// What the store could not keep for want of room.
    #[napi(getter)]
    pub fn pressure(&self) -> PressureCounts {
        let Pressure { evicted, denied, .. } = self.0.pressure();
        PressureCounts { evicted: evicted as f64, denied: denied as f64 }
    }

    /// How the store has done.
    #[napi(getter)]
    pub fn store_health(&self) -> StoreHealthCounts {
        let StoreHealth { state, failures, fallbacks, .. } = self.0.store_health();
        let (failures, fallbacks) = (failures as f64, fallbacks as f64);
        StoreHealthCounts { state: state.as_str(), failures, fallbacks }
    }

    /// Answers with a decision.
    #[napi]
    pub fn check(&self, key: KeyOrKeys, cost: f64, completions: &Completions, id: u32) {
        let ticket = completions.ticket(id);
        let done = move |answer: Result<_, _>| ticket.settle(answer.map(Reply::Decision));
        self.0.check_then(&Lent::from(&key), cost as u64, done);
    }

    /// The same for checks that came in one turn of the event loop, each answered by itself.
    /// `keys` are their keys, one after the other; `asked` has for each the number under which
    /// it is answered, how many units of UTF-16 its key has, and its cost.
    #[napi]
    pub fn check_gathered(
        &self,
        keys: Utf16String,
        asked: Float64ArraySlice<'_>,
        completions: &Completions,
    ) {
        let (mut text, mut units) = (String::with_capacity(keys.len()), keys.iter().copied());
        let checks = asked.chunks_exact(3).map(|asked| {
            let (id, length, cost) = (asked[0] as u32, asked[1] as usize, asked[2] as u64);
            let start = text.len();
            let units = units.by_ref().take(length);
            let decoded = char::decode_utf16(units);
            text.extend(decoded.map(|decoded| decoded.unwrap_or(char::REPLACEMENT_CHARACTER)));
            (start..text.len(), cost, completions.ticket(id))
        });
        let checks: Vec<_> = checks.collect();
        self.0.check_each_then(checks.into_iter().map(|(key, cost, ticket)| {
            let done = move |answer: Result<_, _>| ticket.settle(answer.map(Reply::Decision));
            (&text.as_bytes()[key], cost, done)
        }));
    }

    /// Checks on this thread, for a limiter that is not remote. The numbers are twice the
    /// tier, plus one if allowed, and an [`Answer`](crate::Answer)'s `remaining`,
    /// `retry_after_ms` and `reset_after_ms`: an object with names takes longer than the check.
    #[napi]
    pub fn check_local(&self, key: KeyOrKeys, cost: f64) -> Either<Vec<f64>, Failure> {
        match self.0.check(&Lent::from(&key), cost as u64) {
            Ok(decision) => Either::A(as_numbers(&decision)),
            Err(error) => Either::B(Failure::from(&error)),
        }
    }

    /// The same for a check that a slice of this process decides; nothing where the store must
    /// be asked.
    #[napi]
    pub fn check_leased(&self, key: KeyOrKeys, cost: f64) -> Option<Vec<f64>> {
        self.0.check_leased(&Lent::from(&key), cost as u64).as_ref().map(as_numbers)
    }

    /// Answers with a decision for each.
    #[napi]
    pub fn check_many(&self, checks: Vec<CheckInput>, completions: &Completions, id: u32) {
        let ticket = completions.ticket(id);
        let lent: Vec<_> =
            checks.iter().map(|check| (Lent::from(&check.key), check.cost as u64)).collect();
        let checks = lent.iter().map(|(lent, cost)| (Keys::from(lent), *cost));
        let done = move |answer: Result<_, _>| ticket.settle(answer.map(Reply::Decisions));
        self.0.check_many_then(checks, done);
    }

    /// Answers with a reservation.
    #[napi]
    pub fn reserve(
        &self,
        key: KeyOrKeys,
        cost: f64,
        max_wait_ms: f64,
        completions: &Completions,
        id: u32,
    ) {
        let ticket = completions.ticket(id);
        let max_wait = Duration::from_nanos(in_nanos(max_wait_ms));
        let done = move |answer: Result<Reservation, _>| {
            ticket.settle(answer.map(|made| Reply::Reservation(CancelOnDrop::from(made))));
        };
        self.0.reserve_then(&Lent::from(&key), cost as u64, Some(max_wait), done);
    }

    /// Answers with a decision.
    #[napi]
    pub fn settle(
        &self,
        key: KeyOrKeys,
        charged: f64,
        actual: f64,
        completions: &Completions,
        id: u32,
    ) {
        let operation = Operation::Settle { charged: charged as u64, actual: actual as u64 };
        self.run(&key, operation, completions, id);
    }

    /// Answers with a decision.
    #[napi]
    pub fn credit(&self, key: KeyOrKeys, tokens: f64, completions: &Completions, id: u32) {
        self.run(&key, Operation::Credit { tokens: tokens as u64 }, completions, id);
    }

    /// Answers with a decision.
    #[napi]
    pub fn hold(&self, key: KeyOrKeys, wait_ms: f64, completions: &Completions, id: u32) {
        self.run(&key, Operation::Hold { wait: in_nanos(wait_ms) }, completions, id);
    }

    /// Answers with a decision.
    #[napi]
    pub fn reset(&self, key: KeyOrKeys, completions: &Completions, id: u32) {
        self.run(&key, Operation::Reset, completions, id);
    }

    /// Checks on this thread, and says only whether the cost was charged. Here to
    /// be measured: the least that a native engine for memory could take.
    #[napi]
    pub fn is_allowed_blocking(&self, key: String, cost: f64) -> bool {
        self.0.check(&key, cost as u64).is_ok_and(|decision| decision.allowed)
    }

    /// Lets go of the limiter: later calls fail.
    #[napi]
    pub fn close(&self) {
        self.0.close();
    }
}

impl NativeLimiter {
    fn run(&self, key: &KeyOrKeys, operation: Operation, completions: &Completions, id: u32) {
        let ticket = completions.ticket(id);
        let done = move |outcome| ticket.settle(decision(outcome).map(Reply::Decision));
        self.0.run(&Lent::from(key), operation, done);
    }
}

fn as_numbers(decision: &Decision) -> Vec<f64> {
    let Answer { allowed, tier, remaining, retry_after_ms, reset_after_ms, .. } =
        Answer::from(decision);
    let status = f64::from(tier * 2 + u8::from(allowed));
    vec![status, remaining, retry_after_ms, reset_after_ms]
}

/// To the nearest nanosecond; the end of 64 bits when it is beyond.
fn in_nanos(millis: f64) -> u64 {
    let whole = millis.floor();
    let beyond = ((millis - whole) * NANOS_PER_MILLI as f64).round();
    (whole as u64).saturating_mul(NANOS_PER_MILLI).saturating_add(beyond as u64)
}
