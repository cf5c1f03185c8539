//! A limiter with buckets in Redis, reached over a client of the host's.

use core::time::Duration;
use std::sync::Arc;

use tidegate_core::{
    AnyLimit, BreakerState, BucketTiers, Cost, Fixed, Limit, Operation, Outcome, Source, admit,
};
use tidegate_protocol::{
    Error, Host as _, Keys, LeaseOptions, LeasePlan, LineOptions, OnStoreError, PrefixHold,
    RedisKeys,
};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::client::{Client, LimiterAnswers};
use crate::completion::{Completion, LeasedCheck};
use crate::cost_room::CostRoom;
use crate::engine::{
    FAILED, Slot, in_nanos, no_such_correction, numbers_of, parse_lines, rates_of,
};
use crate::failure::Failure;
use crate::host::{Guarded, GuardedStore, JavaScript, LeaseKeeper, in_millis};
use crate::shared_lines::SharedLines;

/// The buckets of one limiter in Redis.
///
/// A call gets the bytes of its keys, one key after the other, and their lengths: one key for all
/// limits, or one for each. Its answer comes to the [`Client`] under the number `id`, at once or
/// when its batch is answered.
#[wasm_bindgen]
pub struct SharedBuckets {
    /// The limits of the buckets: all but `unlimited` and `none`.
    limits: Arc<[Limit]>,
    tiers: BucketTiers,
    /// The number of all limits.
    count: usize,
    /// The answers if no bucket could change them.
    fixed: Option<Fixed>,
    costs: CostRoom,
    prefix: String,
    /// The part in the default prefix of a limiter that is given none, until it is closed.
    default_prefix: Option<Arc<PrefixHold>>,
    answers: LimiterAnswers,
    guarded: Option<Guarded>,
    leases: Option<Arc<LeaseKeeper>>,
    lines: Option<Arc<SharedLines>>,
    failure: Option<Failure>,
}

/// The options of [`SharedBuckets`].
#[wasm_bindgen]
pub struct SharedOptions {
    limits: Box<[AnyLimit]>,
    prefix: String,
    is_prefix_given: bool,
    timeout_ms: u32,
    on_store_error: OnStoreError,
    keep_refusals: Duration,
    lease: Option<(u32, f64)>,
    max_waiting: u32,
    failure: Option<Failure>,
}

#[wasm_bindgen]
impl SharedOptions {
    /// The options for these limits, given as canonical texts, one per line. At most `max_waiting`
    /// callers of a key wait at a time.
    #[wasm_bindgen(constructor)]
    pub fn new(limits: &str, prefix: String, timeout_ms: u32, max_waiting: u32) -> Self {
        let (limits, failure) = match parse_lines(limits) {
            Ok(limits) => (limits, None),
            Err(failure) => (Box::default(), Some(failure)),
        };
        let (on_store_error, keep_refusals) = (OnStoreError::Raise, Duration::ZERO);
        Self {
            limits,
            prefix,
            is_prefix_given: true,
            timeout_ms,
            on_store_error,
            keep_refusals,
            lease: None,
            max_waiting,
            failure,
        }
    }

    /// Says that the prefix was not given and is the default one, which limiters with other limits then
    /// cannot have by default.
    pub fn prefix_is_default(&mut self) {
        self.is_prefix_given = false;
    }

    /// Sets the policy for the time in which Redis fails, and the number of processes among which it
    /// divides the limits then.
    pub fn on_store_error(&mut self, policy: &str, peers: Option<u32>) {
        match OnStoreError::parse(policy, peers.map(u64::from)) {
            Ok(policy) => self.on_store_error = policy,
            Err(error) => self.failure = Some(error.into()),
        }
    }

    /// Sets the longest time for which a refusal is kept.
    pub fn deny_cache(&mut self, longest_ms: u32) {
        self.keep_refusals = Duration::from_millis(longest_ms.into());
    }

    /// Sets the terms on which buckets are leased.
    pub fn lease(&mut self, ttl_ms: u32, max_share: f64) {
        self.lease = Some((ttl_ms, max_share));
    }
}

#[wasm_bindgen]
impl SharedBuckets {
    /// The buckets that a client reaches. Check for [`take_failure`](Self::take_failure) before use.
    #[wasm_bindgen(constructor)]
    pub fn new(client: &mut Client, options: SharedOptions) -> Self {
        let SharedOptions { limits, prefix, timeout_ms, on_store_error, .. } = options;
        let all = limits;
        let tiers = BucketTiers::new(&all).unwrap_or_default();
        let limits: Arc<[Limit]> = tiers.rates(&all).collect();
        let answers = LimiterAnswers::new(client.answers(), tiers);
        let mut this = Self {
            limits: Arc::clone(&limits),
            tiers,
            count: all.len(),
            fixed: Fixed::new(&all),
            costs: CostRoom::new(all.len(), tiers),
            prefix,
            default_prefix: None,
            answers: answers.clone(),
            guarded: None,
            leases: None,
            lines: None,
            failure: options.failure,
        };
        if this.failure.is_none() && this.fixed.is_none() {
            let store = client.store(timeout_ms);
            let opened = this
                .leases_of(&store, options.lease)
                .and_then(|leases| {
                    this.leases = leases;
                    if !options.is_prefix_given {
                        this.default_prefix = Some(client.hold_default_prefix(&limits)?);
                    }
                    let store = store.keeping_refusals(options.keep_refusals);
                    Guarded::new(store, limits, on_store_error)
                })
                .map(|guarded| {
                    let most = options.max_waiting as usize;
                    let lines = LineOptions::new(&rates_of(&this.limits), Source::Redis, most);
                    this.lines = Some(SharedLines::new(lines, guarded.clone(), answers));
                    this.guarded = Some(guarded);
                });
            this.failure = opened.err().map(Failure::from);
        }
        this
    }

    /// The address at which the costs of a call are to be written that has one for each limit, as for
    /// [`Engine`](crate::engine::Engine).
    pub fn costs_pointer(&self) -> *const f64 {
        self.costs.pointer()
    }

    /// Checks that `cost` is within every burst, and spends nothing. Returns 0, or `u32::MAX` if it
    /// is not; then [`take_failure`](Self::take_failure) has the reason.
    pub fn check_cost(&mut self, cost: f64) -> u32 {
        match self.admit(&Operation::Check { cost: self.costs.cost(cost) }) {
            Ok(()) => 0,
            Err(error) => {
                self.failure = Some(error.into());
                FAILED
            }
        }
    }

    /// The failure of the constructor, or of the last [`check_cost`](Self::check_cost).
    pub fn take_failure(&mut self) -> Option<Failure> {
        self.failure.take()
    }

    /// The state of the circuit breaker: 0 closed, 1 open, 2 half open.
    pub fn health_state(&self) -> u32 {
        match self.guarded.as_ref().map(|guarded| guarded.health().state) {
            Some(BreakerState::Open) => 1,
            Some(BreakerState::HalfOpen) => 2,
            _ => 0,
        }
    }

    /// The number of calls that failed, of all limiters that share the client and the timeout.
    pub fn failures(&self) -> f64 {
        self.guarded.as_ref().map_or(0.0, |guarded| guarded.health().failures as f64)
    }

    /// The number of calls that this limiter has answered itself.
    pub fn fallbacks(&self) -> f64 {
        self.guarded.as_ref().map_or(0.0, |guarded| guarded.health().fallbacks as f64)
    }

    /// The last failure of a call; nothing if no call has failed.
    pub fn last_error(&self) -> Option<Failure> {
        self.guarded.as_ref()?.health().last_error.map(Failure::from)
    }

    /// For how many milliseconds the store has been closed, or not closed.
    pub fn since_ms(&self) -> f64 {
        self.guarded.as_ref().map_or(0.0, |guarded| in_millis(guarded.health().since))
    }

    /// Asks the store whether it serves this limiter. The answer is that of a cancel, with everything
    /// given back.
    pub fn ping(&self, id: u32) {
        let (answers, served) = (self.answers.clone(), Outcome::Cancelled(true));
        match &self.guarded {
            // No bucket could change the answers, so that no store is needed.
            None => answers.put(id, Ok(served)),
            Some(guarded) => {
                guarded.ping(Keys::One(b"ping").in_redis(&self.prefix), move |answer| {
                    answers.put(id, answer.map(|()| served));
                })
            }
        }
    }

    /// Spends `cost` tokens if every limit allows. A leased slice decides if it can, without a round
    /// trip.
    pub fn check(&self, keys: &[u8], lengths: &[u32], cost: f64, id: u32) {
        let cost = self.costs.cost(cost);
        let Some(leases) = self.leases.as_ref().filter(|_| lengths.len() == 1) else {
            return self.run(keys, lengths, Operation::Check { cost }, id);
        };
        if let Some(decision) = leases.spend(keys, &cost) {
            return self.answers.put(id, Ok(Outcome::Decision(decision.into())));
        }
        let (leases, key) = (Arc::clone(leases), keys.to_vec());
        let check = LeasedCheck { leases, key, cost, answers: self.answers.clone(), id };
        let completion = Completion::Leased(Box::new(check));
        self.run_then(keys, lengths, Operation::Check { cost }, completion);
    }

    /// [`check`](Self::check) for one key that is a text.
    pub fn check_text(&self, key: &str, cost: f64, id: u32) {
        self.check(key.as_bytes(), &[key.len() as u32], cost, id);
    }

    /// The decision that [`check`](Self::check) would take; nothing is spent.
    pub fn peek(&self, keys: &[u8], lengths: &[u32], cost: f64, id: u32) {
        let cost = self.costs.cost(cost);
        let leases = self.leases.as_ref().filter(|_| lengths.len() == 1);
        match leases.and_then(|leases| leases.peek(keys, &cost)) {
            Some(decision) => self.answers.put(id, Ok(Outcome::Decision(decision.into()))),
            None => self.run(keys, lengths, Operation::Peek { cost }, id),
        }
    }

    /// Takes the next slot for `cost` tokens if it is at most the given wait away.
    pub fn reserve(
        &self,
        keys: &[u8],
        lengths: &[u32],
        cost: f64,
        max_wait_millis: f64,
        max_wait_nanos: u32,
        id: u32,
    ) {
        let max_wait = in_nanos(max_wait_millis, max_wait_nanos);
        let cost = self.costs.cost(cost);
        self.run(keys, lengths, Operation::Reserve { cost, max_wait, min_wait: 0 }, id);
    }

    /// Cancels a reservation. `words` are those that were at [`Client::slot_pointer`], of which the
    /// first is now the delay that is left. Those who wait get the slot, or the bucket.
    pub fn cancel(&self, keys: &[u8], lengths: &[u32], words: &[u64], id: u32) {
        let slot = Slot::read(words).unwrap_or_default();
        let operation = Operation::Cancel(slot.charge());
        if let Some(lines) = self.lines.as_ref().filter(|lines| !lines.is_empty())
            && let Ok(keys) = self.checked_keys(keys, lengths, &operation)
            && lines.adopt(&keys, slot.delay(), slot.charge())
        {
            return self.answers.put(id, Ok(Outcome::Cancelled(true)));
        }
        self.run(keys, lengths, operation, id);
    }

    /// Makes a correction: its number, and what it is given, as [`Operation::correction`] has them.
    #[allow(clippy::too_many_arguments, reason = "numbers only cross the border")]
    pub fn correct(
        &self,
        keys: &[u8],
        lengths: &[u32],
        correction: u32,
        first: f64,
        second: f64,
        wait_millis: f64,
        wait_nanos: u32,
        id: u32,
    ) {
        let (first, second) = (self.costs.cost(first), self.costs.actual(second));
        let wait = in_nanos(wait_millis, wait_nanos);
        match Operation::correction(correction, first, second, wait) {
            Some(operation) if operation.changes_hold() => {
                self.run_for_lines(keys, lengths, operation, id);
            }
            Some(operation) => self.run(keys, lengths, operation, id),
            None => self.answers.put(id, Err(no_such_correction())),
        }
    }

    /// Corrects the charge of a reservation to `actual` tokens. `words` are those that were at
    /// [`Client::slot_pointer`].
    pub fn settle_slot(&self, keys: &[u8], lengths: &[u32], words: &[u64], actual: f64, id: u32) {
        let charged = Slot::read(words).unwrap_or_default().charge().cost;
        let actual = self.costs.actual(actual);
        self.run(keys, lengths, Operation::Settle { charged, actual }, id);
    }

    /// A caller wants `cost` tokens, at least 1, within the given wait: a leased slice gives them if
    /// it can and nobody waits, and otherwise the caller joins the line. Returns the line's number;
    /// `u32::MAX` if it is not in a line.
    ///
    /// [`tick`](Self::tick) is to be called when [`due_in`](Self::due_in) says so.
    pub fn arrive(
        &self,
        keys: &[u8],
        lengths: &[u32],
        cost: f64,
        max_wait_millis: f64,
        max_wait_nanos: u32,
        id: u32,
    ) -> u32 {
        let (cost, max_wait) = (self.costs.cost(cost), in_nanos(max_wait_millis, max_wait_nanos));
        let in_redis = self.checked_keys(keys, lengths, &Operation::Check { cost });
        if let (Some(fixed), Ok(_)) = (&self.fixed, &in_redis) {
            self.answers.put(id, Ok(Outcome::Decision(fixed.check_tiers(&cost))));
            return FAILED;
        }
        match (&self.lines, in_redis) {
            (Some(lines), Ok(in_redis)) => {
                let has_waiters = lines.has_waiters(&in_redis);
                if has_waiters || !self.acquire_from_slice(keys, lengths, &cost, id) {
                    return lines.arrive(in_redis, cost, max_wait, id);
                }
            }
            (_, Err(error)) => self.answers.put(id, Err(error)),
            (None, _) => self.answers.put(id, Err(not_open())),
        }
        FAILED
    }

    /// What [`arrive`](Self::arrive) does first, for a runtime in which callers share no line: a
    /// leased slice gives `cost` tokens if it can, and answers. Returns whether it has; if not, the
    /// call `id` gets no answer.
    pub fn acquire_leased(&self, keys: &[u8], lengths: &[u32], cost: f64, id: u32) -> bool {
        self.acquire_from_slice(keys, lengths, &self.costs.cost(cost), id)
    }

    /// The caller of the call `id`, in this line, does not wait any more.
    pub fn leave(&self, number: u32, id: u32) {
        if let Some(lines) = &self.lines {
            lines.leave(number, id);
        }
    }

    /// Hands out all tokens whose time has come.
    pub fn tick(&self) {
        if let Some(lines) = &self.lines {
            lines.tick();
        }
    }

    /// The milliseconds until [`tick`](Self::tick) is to be called; nothing while there is nothing
    /// to wait for.
    pub fn due_in(&self) -> Option<f64> {
        self.lines.as_ref()?.due_in()
    }

    /// Whether there is a line.
    pub fn has_lines(&self) -> bool {
        self.lines.as_ref().is_some_and(|lines| !lines.is_empty())
    }

    /// The callers that wait for the keys: their number, the tokens that they wait for, and the
    /// milliseconds until the last of them is served.
    pub fn waiting(&self, keys: &[u8], lengths: &[u32]) -> Vec<f64> {
        let keys = self.checked_keys(keys, lengths, &Operation::Reset);
        let lines = self.lines.as_ref();
        let waiting = lines.zip(keys.ok()).map(|(lines, keys)| lines.waiting(&keys));
        numbers_of(waiting.unwrap_or_default())
    }

    /// Answers all who wait that the limiter is closed, and makes the requests that give their slots
    /// back. They then wait at the [`Client`].
    pub fn close(&mut self) {
        self.default_prefix = None;
        if let Some(lines) = &self.lines {
            lines.close(&Error::Store("the limiter is closed".into()));
        }
    }

    /// The milliseconds until [`renew`](Self::renew) is to be called; nothing while no key is
    /// watched.
    pub fn renew_in(&self) -> Option<f64> {
        self.leases.as_ref()?.renew_in().map(in_millis)
    }

    /// Makes the requests for the slices that are due. They then wait at the [`Client`].
    pub fn renew(&self) {
        if let Some(leases) = &self.leases {
            leases.renew();
        }
    }

    /// Makes the requests that give all slices back. They then wait at the [`Client`].
    pub fn give_back(&self) {
        if let Some(leases) = &self.leases {
            leases.give_back(|| ());
        }
    }
}

impl SharedBuckets {
    fn leases_of(
        &self,
        store: &GuardedStore,
        lease: Option<(u32, f64)>,
    ) -> Result<Option<Arc<LeaseKeeper>>, Error> {
        let Some((ttl_ms, max_share)) = lease else { return Ok(None) };
        let terms = LeaseOptions::new(Duration::from_millis(ttl_ms.into()))
            .max_share(max_share)
            .terms(&self.limits)?;
        let plan = LeasePlan::new(Arc::clone(&self.limits), terms, self.prefix.clone());
        // The keeper needs no wake-up, because JavaScript calls `renew_in` after each check.
        Ok(Some(LeaseKeeper::new(store.clone(), plan, JavaScript::now, || ())))
    }

    fn acquire_from_slice(&self, keys: &[u8], lengths: &[u32], cost: &Cost, id: u32) -> bool {
        let leases = self.leases.as_ref().filter(|_| lengths.len() == 1);
        let decision = leases.and_then(|leases| leases.acquire(keys, cost));
        decision
            .map(|decision| self.answers.put(id, Ok(Outcome::Decision(decision.into()))))
            .is_some()
    }

    fn run(&self, keys: &[u8], lengths: &[u32], operation: Operation, id: u32) {
        let completion = Completion::Answer(self.answers.clone(), id);
        self.run_then(keys, lengths, operation, completion);
    }

    /// Runs an operation of which those who wait are told, here and in other processes.
    fn run_for_lines(&self, keys: &[u8], lengths: &[u32], operation: Operation, id: u32) {
        // The tokens of a budget were taken before.
        if let Some(leases) = self.leases.as_ref().filter(|_| lengths.len() == 1) {
            leases.discard_budget(keys);
        }
        match (&self.lines, self.checked_keys(keys, lengths, &operation)) {
            (_, Ok(_)) if self.fixed.is_some() => self.run(keys, lengths, operation, id),
            (Some(lines), Ok(keys)) => lines.run(keys, operation, id),
            (_, Err(error)) => self.answers.put(id, Err(error)),
            (None, _) => self.answers.put(id, Err(not_open())),
        }
    }

    fn run_then(&self, keys: &[u8], lengths: &[u32], operation: Operation, completion: Completion) {
        let checked = self.checked_keys(keys, lengths, &operation);
        if let (Some(fixed), Ok(_)) = (&self.fixed, &checked) {
            return completion.complete(Ok(fixed.answer(&operation)));
        }
        let Some(guarded) = &self.guarded else {
            return completion.complete(Err(not_open()));
        };
        match checked {
            Ok(keys) => {
                let lines = self.lines.as_ref().filter(|lines| !lines.is_empty());
                let operation = match lines {
                    Some(lines) => lines.share_returned(&keys, operation),
                    None => operation,
                };
                completion.run(guarded, keys, operation);
            }
            Err(error) => completion.complete(Err(error)),
        }
    }

    /// Checks the keys and the operation of a call, and returns the keys under which Redis has its
    /// buckets.
    fn checked_keys(
        &self,
        bytes: &[u8],
        lengths: &[u32],
        operation: &Operation,
    ) -> Result<RedisKeys, Error> {
        self.admit(operation)?;
        let mut rest = bytes;
        let mut keys = Vec::with_capacity(lengths.len());
        for &length in lengths {
            let (key, others) = rest.split_at_checked(length as usize).unwrap_or((rest, &[]));
            keys.push(key);
            rest = others;
        }
        let keys = match keys[..] {
            [key] => Keys::One(key),
            _ => Keys::Each(&keys),
        };
        let picked: Vec<_>;
        let keys = match keys.checked(self.count)? {
            Keys::Each(keys) => {
                picked = self.tiers.pick(keys).copied().collect();
                if let [only] = picked[..] { Keys::One(only) } else { Keys::Each(&picked) }
            }
            one => one,
        };
        Ok(keys.in_redis(&self.prefix))
    }

    /// Refuses an operation that can never be allowed.
    fn admit(&self, operation: &Operation) -> Result<(), Error> {
        match self.fixed {
            // It has an answer to any cost.
            Some(_) => Ok(()),
            None => admit(&self.limits, operation).map_err(Error::from_engine),
        }
    }
}

fn not_open() -> Error {
    Error::Store("the limiter is not open".into())
}
