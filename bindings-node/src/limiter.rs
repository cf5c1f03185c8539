//! Limiters over a store (`shm://`, Redis): the options with which they open, and their operations.

use core::time::Duration;

use napi::Either;
use napi::bindgen_prelude::{Float64ArraySlice, Utf16String};
use napi_derive::napi;
use tidegate::bindings::{CancelOnDrop, Granted, Waiter, tiered};
use tidegate::{
    Error, Keys, LeaseOptions, Limiter, OnStoreError, Operation, Pressure, Reservation,
    StoreHealth, Waiting,
};

use crate::answer::{Failure, local_record, local_record_of_tiers};
use crate::completions::{Completions, Reply};
use crate::keys::{KeyBytes, KeyOrKeys};
use crate::millis::{in_millis, in_nanos};
use crate::tokens::{TokensInput, tokens};

/// A limiter of the crate `tidegate`.
#[napi]
pub struct NativeLimiter(Limiter);

/// The options of [`open_limiter`].
#[napi(object)]
pub struct OpenOptions {
    /// One to four limits.
    pub limits: Vec<LimitText>,
    /// The store's URL.
    pub store: String,
    /// The beginning of all keys in the store.
    pub prefix: Option<String>,
    /// The longest time that a call may take.
    pub store_timeout_ms: Option<u32>,
    /// The name of the policy for the time in which the store fails.
    pub on_store_error: Option<String>,
    /// The number of processes among which that policy divides each limit.
    pub peers: Option<u32>,
    /// The longest time for which a refusal is kept.
    pub deny_cache_ms: Option<u32>,
    /// The most callers of a key that may wait at a time.
    pub max_waiting: Option<u32>,
    /// The terms of leases; absent if buckets are not leased.
    pub lease: Option<LeaseFields>,
}

/// The terms on which buckets are leased.
#[napi(object)]
pub struct LeaseFields {
    /// The lifetime of a slice.
    pub ttl_ms: u32,
    /// The largest share of the rate that this process takes.
    pub max_share: Option<f64>,
}

/// A limit by its text.
#[napi(object)]
pub struct LimitText {
    /// The name by which decisions report it.
    pub name: String,
    /// The text of the limit, in the grammar.
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
    if let Some(most) = options.max_waiting {
        builder = builder.max_waiting(most as usize);
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

/// Counts of what a store could not keep.
#[napi(object)]
pub struct PressureCounts {
    /// Buckets that were dropped although they owed something.
    pub evicted: f64,
    /// Calls that were refused because the store was full.
    pub denied: f64,
}

/// The state of the store, and counts of its failures.
#[napi(object, object_from_js = false)]
pub struct StoreHealthCounts {
    /// The state of the circuit breaker.
    pub state: &'static str,
    /// Calls that failed.
    pub failures: f64,
    /// Calls that the policy for a failing store answered.
    pub fallbacks: f64,
    /// The last failure of a call; absent if no call has failed.
    pub last_error: Option<Failure>,
    /// The time since the breaker opened, or closed again.
    pub since_ms: f64,
}

/// The callers that wait for a key.
#[napi(object, object_from_js = false)]
pub struct WaitingCounts {
    /// The number of callers.
    pub callers: f64,
    /// The tokens that they wait for.
    pub tokens: f64,
    /// The time until the last of them is served.
    pub until_ms: f64,
}

/// A caller that waits.
#[napi]
pub struct NativeWaiter(Waiter);

#[napi]
impl NativeWaiter {
    /// Leaves the line, so that those behind move up. Does nothing once the caller has been answered.
    #[napi]
    pub fn leave(&self) {
        self.0.leave();
    }

    /// Gives tokens that an answer has granted, and that will not be spent, to the next.
    #[napi]
    pub fn hand_on(&self) {
        self.0.hand_on();
    }
}

/// One check among many.
#[napi(object)]
pub struct CheckInput {
    /// One key for all limits, or one for each.
    pub key: KeyOrKeys,
    /// Tokens to spend.
    pub cost: TokensInput,
}

/// Each operation is started, and its answer comes to `completions` under the number `id`. If the
/// limiter is not remote, the answer is there when the call returns. Costs and other counts are
/// whole numbers; waits are milliseconds, which may be infinite.
#[napi]
impl NativeLimiter {
    /// Whether answers come later, from the I/O thread.
    #[napi(getter)]
    pub fn is_remote(&self) -> bool {
        self.0.is_remote()
    }

    /// Counts of what the store could not keep because it was full.
    #[napi(getter)]
    pub fn pressure(&self) -> PressureCounts {
        let Pressure { evicted, denied, .. } = self.0.pressure();
        PressureCounts { evicted: evicted as f64, denied: denied as f64 }
    }

    /// The state of the store, and counts of its failures.
    #[napi(getter)]
    pub fn store_health(&self) -> StoreHealthCounts {
        let StoreHealth { state, failures, fallbacks, last_error, since, .. } =
            self.0.store_health();
        StoreHealthCounts {
            state: state.as_str(),
            failures: failures as f64,
            fallbacks: fallbacks as f64,
            last_error: last_error.as_ref().map(Failure::from),
            since_ms: in_millis(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)),
        }
    }

    /// Answers with a decision.
    #[napi]
    pub fn check(&self, key: KeyOrKeys, cost: TokensInput, completions: &Completions, id: u32) {
        let ticket = completions.ticket(id);
        let done = move |answer: Result<_, _>| ticket.settle(answer.map(Reply::Decision));
        self.0.check_then(&KeyBytes::from(&key), tokens(&cost), done);
    }

    /// Makes the checks of one turn of the event loop, and answers each with a decision. `keys` are
    /// their keys, one after the other. `checks` has three numbers for each check: its id, the
    /// length of its key in units of UTF-16, and its cost.
    #[napi]
    pub fn check_batch(
        &self,
        keys: Utf16String,
        checks: Float64ArraySlice<'_>,
        completions: &Completions,
    ) {
        let (mut text, mut units) = (String::with_capacity(keys.len()), keys.iter().copied());
        let checks = checks.chunks_exact(3).map(|check| {
            let (id, length, cost) = (check[0] as u32, check[1] as usize, check[2] as u64);
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

    /// Checks on this thread, for a limiter that is not remote. Returns the numbers of
    /// `answer::local_record`, because an object with names takes longer to make than the check; of a
    /// limiter with several limits those of `answer::local_record_of_tiers`.
    #[napi]
    pub fn check_local(&self, key: KeyOrKeys, cost: TokensInput) -> Either<Vec<f64>, Failure> {
        let (key, cost) = (KeyBytes::from(&key), tokens(&cost));
        let numbers = match self.has_tiers() {
            true => self.0.check_tiers(&key, cost).map(|tiered| local_record_of_tiers(&tiered)),
            false => self.0.check(&key, cost).map(|decision| local_record(&decision).into()),
        };
        match numbers {
            Ok(numbers) => Either::A(numbers),
            Err(error) => Either::B(Failure::from(&error)),
        }
    }

    /// Checks on this thread against a slice that this process has leased. Returns the numbers of
    /// `answer::local_record`, or nothing if the store must be asked.
    #[napi]
    pub fn check_leased(&self, key: KeyOrKeys, cost: TokensInput) -> Option<Vec<f64>> {
        let decision = self.0.check_leased(&KeyBytes::from(&key), tokens(&cost))?;
        Some(local_record(&decision).into())
    }

    /// Answers with the decision that a check would take.
    #[napi]
    pub fn peek(&self, key: KeyOrKeys, cost: TokensInput, completions: &Completions, id: u32) {
        let ticket = completions.ticket(id);
        let done = move |answer: Result<_, _>| ticket.settle(answer.map(Reply::Decision));
        self.0.peek_then(&KeyBytes::from(&key), tokens(&cost), done);
    }

    /// Answers with a decision for each.
    #[napi]
    pub fn check_many(&self, checks: Vec<CheckInput>, completions: &Completions, id: u32) {
        let ticket = completions.ticket(id);
        let checks: Vec<_> =
            checks.iter().map(|check| (KeyBytes::from(&check.key), tokens(&check.cost))).collect();
        let checks = checks.iter().map(|(key, cost)| (Keys::from(key), *cost));
        let done = move |answer: Result<_, _>| ticket.settle(answer.map(Reply::Decisions));
        self.0.check_many_then(checks, done);
    }

    /// Spends tokens that are there now and that nobody waits for, on this thread. Returns the
    /// numbers that [`check_local`](Self::check_local) would, or nothing if the caller must wait.
    #[napi]
    pub fn acquire_now(
        &self,
        key: KeyOrKeys,
        cost: TokensInput,
    ) -> Option<Either<Vec<f64>, Failure>> {
        let (key, cost) = (KeyBytes::from(&key), tokens(&cost));
        let numbers = match self.has_tiers() {
            true => {
                let answer = self.0.acquire_now(&key, cost);
                answer.map(|tiered| tiered.map(|tiered| local_record_of_tiers(&tiered)))
            }
            false => {
                let answer = self.0.acquire_now(&key, cost);
                answer.map(|decision| decision.map(|decision| local_record(&decision).into()))
            }
        };
        match numbers {
            Ok(numbers) => numbers.map(Either::A),
            Err(error) => Some(Either::B(Failure::from(&error))),
        }
    }

    /// A caller joins the line of a key. Answers with a decision, also if the limiter is not remote
    /// later than the call returns. The answer to a caller that has left is a failure.
    #[napi]
    pub fn acquire(
        &self,
        key: KeyOrKeys,
        cost: TokensInput,
        timeout_ms: f64,
        completions: &Completions,
        id: u32,
    ) -> NativeWaiter {
        let ticket = completions.ticket(id);
        let timeout = Duration::from_nanos(in_nanos(timeout_ms));
        let done = move |answer: Result<Granted, Error>| {
            ticket.settle(match answer {
                Ok(granted) => Ok(Reply::Granted(granted)),
                // JavaScript makes the error, which has the decision.
                Err(Error::RateLimited { decision, .. }) => {
                    Ok(Reply::Decisions(vec![decision.into()]))
                }
                Err(error) => Err(error),
            });
        };
        NativeWaiter(self.0.acquire_then(&KeyBytes::from(&key), tokens(&cost), Some(timeout), done))
    }

    /// The callers that wait for a key, or the reason why that is not known.
    #[napi]
    pub fn waiting(&self, key: KeyOrKeys) -> Either<WaitingCounts, Failure> {
        match self.0.waiting(&KeyBytes::from(&key)) {
            Ok(Waiting { callers, tokens: waiting, until, .. }) => Either::A(WaitingCounts {
                callers: callers as f64,
                tokens: waiting as f64,
                until_ms: in_millis(until),
            }),
            Err(error) => Either::B(Failure::from(&error)),
        }
    }

    /// Answers with a reservation.
    #[napi]
    pub fn reserve(
        &self,
        key: KeyOrKeys,
        cost: TokensInput,
        max_wait_ms: f64,
        completions: &Completions,
        id: u32,
    ) {
        let ticket = completions.ticket(id);
        let max_wait = Duration::from_nanos(in_nanos(max_wait_ms));
        let done = move |answer: Result<Reservation, _>| {
            ticket.settle(answer.map(|made| Reply::Reservation(CancelOnDrop::from(made))));
        };
        self.0.reserve_then(&KeyBytes::from(&key), tokens(&cost), Some(max_wait), done);
    }

    /// Makes a correction: its number, and what it is given, as [`Operation::correction`] has them.
    /// Answers with a decision.
    #[napi]
    #[allow(clippy::too_many_arguments, reason = "they only cross the border")]
    pub fn correct(
        &self,
        key: KeyOrKeys,
        correction: u32,
        first: TokensInput,
        second: TokensInput,
        wait_ms: f64,
        completions: &Completions,
        id: u32,
    ) {
        let ticket = completions.ticket(id);
        let (first, second) = (tokens(&first), tokens(&second));
        match Operation::correction(correction, first, second, in_nanos(wait_ms)) {
            Some(operation) => {
                let done = move |outcome| ticket.settle(tiered(outcome).map(Reply::Decision));
                self.0.run(&KeyBytes::from(&key), operation, done);
            }
            None => ticket.settle(Err(Error::Store("there is no such correction".into()))),
        }
    }

    /// Asks the store whether it serves this limiter.
    #[napi]
    pub fn ping(&self, completions: &Completions, id: u32) {
        let ticket = completions.ticket(id);
        self.0.ping_then(move |answer| ticket.settle(answer.map(|()| Reply::Served)));
    }

    /// Checks on this thread, and says only whether the cost was charged. `bench/memory-engine.mjs`
    /// measures it as the least time that a native engine for memory could take.
    #[napi]
    pub fn is_allowed_blocking(&self, key: String, cost: f64) -> bool {
        self.0.check(&key, cost as u64).is_ok_and(|decision| decision.allowed)
    }

    /// Closes the limiter: later calls fail.
    #[napi]
    pub fn close(&self) {
        self.0.close();
    }
}

impl NativeLimiter {
    /// Whether an answer has more to say than what its binding limit says.
    fn has_tiers(&self) -> bool {
        self.0.limits().len() > 1
    }
}
