//! One breaker for all threads that use a server: a store's, or in a cluster a node's.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use tidegate_core::{Attempt, Breaker, BreakerPolicy, BreakerState};

use crate::error::Error;
use crate::lock::Mutex;
use crate::nanos::nanos;

/// The number of failures in a row that open the breaker. It is small, because each of them may have
/// taken the whole store timeout, and above one, because a single failure may be an accident.
const FAILURES: u32 = 3;
const MILLI: u64 = 1_000_000;
const FIRST_WAIT: u64 = 100 * MILLI;
/// The longest wait between two probes. It is less than a second, so that calls reach the store within
/// a second of its return.
const LONGEST_WAIT: u64 = 500 * MILLI;

/// What is known of a server's failures, by a clock that does not step back.
pub struct StoreBreaker {
    /// The generation of attempts while the breaker is sound, which is nearly always, so that calls take
    /// no lock. [`TROUBLED`] otherwise.
    sound: AtomicU64,
    troubles: Mutex<Troubles>,
    /// The node of a cluster whose breaker it is; `None` for a store's.
    node: Option<Box<str>>,
}

struct Troubles {
    breaker: Breaker,
    last: String,
    /// Whether the breaker has opened and not closed since: half-open is a part of that.
    is_down: bool,
    /// When `is_down` changed last; 0 if it never has.
    changed: u64,
}

/// A time in which a server fails, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Outage {
    /// When it began.
    pub began: u64,
    /// The present.
    pub now: u64,
    /// The time until the server is asked again.
    pub retry_in: u64,
}

/// The value of `sound` that is no generation, because generations have 32 bits.
const TROUBLED: u64 = u64::MAX;

impl StoreBreaker {
    /// The breaker of a node of a cluster, which is named in what is told of it.
    pub fn of_node(timeout: Duration, node: &str) -> Self {
        Self { node: Some(node.into()), ..Self::new(timeout) }
    }

    /// The breaker of a server whose calls each end within `timeout`.
    pub fn new(timeout: Duration) -> Self {
        let breaker = Breaker::new(BreakerPolicy {
            failures: FAILURES,
            first_wait: FIRST_WAIT,
            longest_wait: LONGEST_WAIT,
            // Every call ends within its timeout. A probe without an outcome by then is given up, and
            // another call becomes the probe.
            patience: nanos(timeout).saturating_add(LONGEST_WAIT),
        });
        let this = Self {
            sound: AtomicU64::new(TROUBLED),
            troubles: Mutex::new(Troubles {
                breaker,
                last: String::new(),
                is_down: false,
                changed: 0,
            }),
            node: None,
        };
        this.publish(&mut this.troubles.lock().breaker);
        this
    }

    /// Lets a call through to the server. The time is only asked for where it matters.
    ///
    /// # Errors
    /// [`Error::Store`] while the breaker is open; nothing is then sent.
    #[inline]
    pub fn attempt(&self, now: impl FnOnce() -> u64) -> Result<Attempt, Error> {
        match u32::try_from(self.sound.load(Ordering::Acquire)) {
            Ok(generation) => Ok(Attempt { generation, is_probe: false }),
            Err(_) => self.attempt_in_trouble(now()),
        }
    }

    #[cold]
    fn attempt_in_trouble(&self, now: u64) -> Result<Attempt, Error> {
        let mut troubles = self.troubles.lock();
        troubles.breaker.attempt(now).map_err(|until| {
            // The wait is rounded up, because one that is too short is worse.
            let wait = until.saturating_sub(now).div_ceil(MILLI);
            let last = &troubles.last;
            let why = format!("not asked, as it keeps failing ({last}); again in {wait} ms");
            Error::Store(why.into())
        })
    }

    /// Notes that the call was answered. If that closes the breaker, answers for how many nanoseconds
    /// it was not closed.
    #[inline]
    pub fn succeeded(&self, attempt: Attempt, now: impl FnOnce() -> u64) -> Option<u64> {
        if self.sound.load(Ordering::Acquire) == u64::from(attempt.generation) {
            return None;
        }
        self.succeeded_in_trouble(attempt, now())
    }

    #[cold]
    fn succeeded_in_trouble(&self, attempt: Attempt, now: u64) -> Option<u64> {
        let mut troubles = self.troubles.lock();
        troubles.breaker.succeeded(attempt);
        self.publish(&mut troubles.breaker);
        let is_closed = troubles.breaker.state() == BreakerState::Closed;
        (is_closed && core::mem::replace(&mut troubles.is_down, false))
            .then(|| now.saturating_sub(core::mem::replace(&mut troubles.changed, now)))
    }

    /// Notes that the call was not made after all.
    pub fn abandoned(&self, attempt: Attempt) {
        self.ended(attempt, Breaker::abandoned);
    }

    /// Notes that the call failed at `now`. `random` spreads the time of the next probe. Answers whether
    /// the failure has opened a breaker that was closed.
    pub fn failed(&self, attempt: Attempt, error: &Error, now: u64, random: u64) -> bool {
        let mut troubles = self.troubles.lock();
        troubles.last = match error {
            Error::Store(failure) => failure.message.clone(),
            error => error.to_string(),
        };
        troubles.breaker.failed(attempt, now, random);
        self.publish(&mut troubles.breaker);
        let is_open = troubles.breaker.state() == BreakerState::Open;
        let opens = is_open && !core::mem::replace(&mut troubles.is_down, true);
        if opens {
            troubles.changed = now;
        }
        opens
    }

    /// The node whose breaker it is; `None` for a store's.
    pub(crate) fn node(&self) -> Option<&str> {
        self.node.as_deref()
    }

    /// The breaker's state.
    pub fn state(&self) -> BreakerState {
        self.troubles.lock().breaker.state()
    }

    /// The breaker's state, and when it last opened or closed again; 0 if it never has.
    pub(crate) fn state_and_change(&self) -> (BreakerState, u64) {
        let troubles = self.troubles.lock();
        (troubles.breaker.state(), troubles.changed)
    }

    /// Whether the last call that counts has failed.
    pub fn is_failing(&self) -> bool {
        self.sound.load(Ordering::Acquire) == TROUBLED
            && self.troubles.lock().breaker.failing_since().is_some()
    }

    /// The present failure; one that is over already began just now.
    pub fn outage(&self, now: u64) -> Outage {
        let troubles = self.troubles.lock();
        let began = troubles.breaker.failing_since().unwrap_or(now);
        // Before the breaker opens the next call would be sent, but a caller should not try again at once.
        let retry_in = troubles.breaker.retry_at().map_or(FIRST_WAIT, |at| at.saturating_sub(now));
        Outage { began, now, retry_in: retry_in.max(1) }
    }

    #[cold]
    fn ended(&self, attempt: Attempt, how: fn(&mut Breaker, Attempt)) {
        let mut troubles = self.troubles.lock();
        how(&mut troubles.breaker, attempt);
        self.publish(&mut troubles.breaker);
    }

    fn publish(&self, breaker: &mut Breaker) {
        let attempt = if breaker.is_sound() { breaker.attempt(0).ok() } else { None };
        let sound = attempt.map_or(TROUBLED, |attempt| attempt.generation.into());
        self.sound.store(sound, Ordering::Release);
    }
}
