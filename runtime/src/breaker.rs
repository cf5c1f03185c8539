//! One breaker for all threads that use a server: a store's, or in a cluster a node's.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::sync::OnceLock;

use parking_lot::Mutex;
use tidegate_core::{Attempt, Breaker, BreakerPolicy, BreakerState, Clock as _};

use crate::clock::MonotonicClock;
use crate::error::Error;
use crate::random::random;

/// Failures in a row after which calls are no longer made to wait for the next. Few, as each
/// may have taken the whole store timeout; more than one, as one may be an accident.
const FAILURES: u32 = 3;
const MILLI: u64 = 1_000_000;
const FIRST_WAIT: u64 = 100 * MILLI;
/// Short of a second, so that within one all is as before once the store is back.
const LONGEST_WAIT: u64 = 500 * MILLI;

pub(crate) struct StoreBreaker {
    /// The generation of attempts while the breaker is sound, which is nearly always: calls
    /// then take no lock. [`TROUBLED`] otherwise.
    sound: AtomicU64,
    troubles: Mutex<Troubles>,
}

struct Troubles {
    breaker: Breaker,
    last: String,
}

/// A time in which a server fails, by the breakers' clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outage {
    pub(crate) began: u64,
    pub(crate) now: u64,
    /// Until the server is asked again.
    pub(crate) retry_in: u64,
}

/// The time of all breakers of a process.
pub(crate) fn now() -> u64 {
    static CLOCK: OnceLock<MonotonicClock> = OnceLock::new();
    CLOCK.get_or_init(MonotonicClock::new).now()
}

/// No generation: those have 32 bits.
const TROUBLED: u64 = u64::MAX;

impl StoreBreaker {
    pub(crate) fn new(timeout: Duration) -> Self {
        let timeout = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        let breaker = Breaker::new(BreakerPolicy {
            failures: FAILURES,
            first_wait: FIRST_WAIT,
            longest_wait: LONGEST_WAIT,
            // Every call is heard of within its timeout, but in the child of a fork.
            patience: timeout.saturating_add(LONGEST_WAIT),
        });
        let this = Self {
            sound: AtomicU64::new(TROUBLED),
            troubles: Mutex::new(Troubles { breaker, last: String::new() }),
        };
        this.publish(&mut this.troubles.lock().breaker);
        this
    }

    /// Lets a call through to the server.
    ///
    /// # Errors
    /// [`Error::Store`] while the breaker is open; nothing is then sent.
    pub(crate) fn attempt(&self) -> Result<Attempt, Error> {
        if let Ok(generation) = u32::try_from(self.sound.load(Ordering::Acquire)) {
            return Ok(Attempt { generation, is_probe: false });
        }
        let now = now();
        let mut troubles = self.troubles.lock();
        troubles.breaker.attempt(now).map_err(|until| {
            // Rounded up, as a wait that is too short is worse.
            let wait = until.saturating_sub(now).div_ceil(MILLI);
            let last = &troubles.last;
            Error::Store(format!("not asked, as it keeps failing ({last}); again in {wait} ms"))
        })
    }

    #[inline]
    pub(crate) fn succeeded(&self, attempt: Attempt) {
        if self.sound.load(Ordering::Acquire) != u64::from(attempt.generation) {
            self.ended(attempt, Breaker::succeeded);
        }
    }

    /// The call was not made after all.
    pub(crate) fn abandoned(&self, attempt: Attempt) {
        self.ended(attempt, Breaker::abandoned);
    }

    pub(crate) fn failed(&self, attempt: Attempt, error: &Error) {
        let mut troubles = self.troubles.lock();
        troubles.last = match error {
            Error::Store(message) => message.clone(),
            error => error.to_string(),
        };
        let now = now();
        troubles.breaker.failed(attempt, now, random());
        self.publish(&mut troubles.breaker);
    }

    pub(crate) fn state(&self) -> BreakerState {
        self.troubles.lock().breaker.state()
    }

    /// Whether the last call that counts has failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.sound.load(Ordering::Acquire) == TROUBLED
            && self.troubles.lock().breaker.failing_since().is_some()
    }

    /// The present failure; one that is over already began just now.
    pub(crate) fn outage(&self) -> Outage {
        let troubles = self.troubles.lock();
        let now = now();
        let began = troubles.breaker.failing_since().unwrap_or(now);
        // Before it opens, the next call would ask: but not this one again at once.
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
