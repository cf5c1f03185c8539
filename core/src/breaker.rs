//! A circuit breaker: stops calls to something that fails, and probes when it may be back.

/// When a [`Breaker`] opens, and how long it then waits. Times are in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BreakerPolicy {
    /// Failures in a row that open the breaker; 0 counts as 1.
    pub failures: u32,
    /// The longest wait before the first probe; 0 counts as 1.
    pub first_wait: u64,
    /// The bound of the waits, which double until they reach it; a value below `first_wait`
    /// counts as `first_wait`.
    pub longest_wait: u64,
    /// How long a probe may take. A probe without an outcome by then is given up, and another may
    /// follow.
    pub patience: u64,
}

/// Keeps calls from something that fails, so that they need not wait for it to fail again.
///
/// A *closed* breaker lets every call through. The number of failures in a row that its policy
/// names *opens* it: it lets no call through until a wait has passed. Then it is *half-open*: it
/// lets one call through, the *probe*, and no other until that has an outcome. A probe that fails
/// doubles the wait. A probe that succeeds closes the breaker on trial: until as many calls have
/// succeeded as failures open it, the next failure opens it again with a doubled wait. So something
/// that answers only now and then is not asked more often than something that is dead.
///
/// Calls that were under way together when one of them failed count as one failure, because a
/// broken connection fails them all.
///
/// The breaker counts failures in a row and not their share of all calls. A share needs a window of
/// time and a least number of calls before it says anything, whereas something that is dead or hung
/// fails every call from the first. And while part of the calls are answered, an open breaker would
/// lose those.
///
/// Each wait lies between half of its bound and all of it, chosen by `random`, so that the nodes of
/// a fleet do not come back all at once.
///
/// ```
/// use tidegate_core::{Breaker, BreakerPolicy};
/// let policy = BreakerPolicy { failures: 2, first_wait: 100, longest_wait: 1_000, patience: 50 };
/// let mut breaker = Breaker::new(policy);
/// for _ in 0..2 {
///     let attempt = breaker.attempt(7).unwrap();
///     breaker.failed(attempt, 7, u64::MAX);
/// }
/// assert_eq!(breaker.attempt(106).unwrap_err(), 107); // the time of the next attempt
/// let probe = breaker.attempt(107).unwrap();
/// assert!(breaker.attempt(107).is_err()); // one at a time
/// breaker.succeeded(probe);
/// assert!(breaker.attempt(108).is_ok());
/// ```
#[derive(Clone, Debug)]
pub struct Breaker {
    policy: BreakerPolicy,
    phase: Phase,
    /// Counts changes of state, and failures. Outcomes of attempts of an earlier generation are
    /// ignored.
    generation: u32,
    failing_since: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// On trial, `trial` more successes are needed before a single failure no longer opens the
    /// breaker, and `wait` is the bound of the last wait.
    Closed { failures: u32, trial: u32, wait: u64 },
    /// No attempt before `until`.
    Open { wait: u64, until: u64 },
    /// One attempt is under way; it is given up at `deadline`.
    Probing { wait: u64, deadline: u64 },
}

/// Which calls a [`Breaker`] lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// All calls are let through.
    Closed,
    /// No call is let through.
    Open,
    /// One call is under way, the probe; no other is let through.
    HalfOpen,
}

impl BreakerState {
    /// The name that every binding uses: `"closed"`, `"open"` or `"half_open"`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// A call that has been let through. The host tells the breaker its outcome once, with
/// [`Breaker::succeeded`], [`Breaker::failed`] or [`Breaker::abandoned`].
///
/// While the breaker [is sound](Breaker::is_sound) all attempts are equal. A host may then build
/// them from one that it keeps, so that its calls need not share a lock on the breaker.
#[must_use = "the breaker learns from the outcome of the call"]
#[derive(Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The breaker's generation when it let the call through. The outcome of an attempt made before
    /// the last failure, or before the last change of state, says nothing about the present and is
    /// ignored.
    pub generation: u32,
    /// Whether this is the probe, which decides whether an open breaker closes.
    pub is_probe: bool,
}

impl Breaker {
    /// A closed breaker.
    pub const fn new(policy: BreakerPolicy) -> Self {
        let phase = Phase::Closed { failures: 0, trial: 0, wait: 0 };
        Self { policy, phase, generation: 0, failing_since: None }
    }

    /// Lets a call through at `now`, or answers when the next may be let through.
    ///
    /// # Errors
    /// The earliest time of the next attempt. While a probe is under way, that is the time at which
    /// it would be given up; it may end sooner.
    pub const fn attempt(&mut self, now: u64) -> Result<Attempt, u64> {
        match self.phase {
            Phase::Closed { .. } => Ok(Attempt { generation: self.generation, is_probe: false }),
            Phase::Open { until, .. } if now < until => Err(until),
            Phase::Probing { deadline, .. } if now < deadline => Err(deadline),
            Phase::Open { wait, .. } | Phase::Probing { wait, .. } => {
                let deadline = now.saturating_add(self.policy.patience);
                self.enter(Phase::Probing { wait, deadline });
                Ok(Attempt { generation: self.generation, is_probe: true })
            }
        }
    }

    /// Records that the call was answered.
    pub const fn succeeded(&mut self, attempt: Attempt) {
        if attempt.generation != self.generation {
            return;
        }
        self.failing_since = None;
        match self.phase {
            Phase::Closed { trial, wait, .. } => {
                let trial = trial.saturating_sub(1);
                self.phase = Phase::Closed { failures: 0, trial, wait };
            }
            Phase::Open { wait, .. } | Phase::Probing { wait, .. } => {
                let trial = self.failures_to_open();
                self.enter(Phase::Closed { failures: 0, trial, wait });
            }
        }
    }

    /// Records that the call failed at `now`. If that opens the breaker, `random`, a number of 64
    /// random bits, chooses the wait.
    pub const fn failed(&mut self, attempt: Attempt, now: u64, random: u64) {
        if attempt.generation != self.generation {
            return;
        }
        if self.failing_since.is_none() {
            self.failing_since = Some(now);
        }
        match self.phase {
            Phase::Closed { trial: 1.., wait, .. }
            | Phase::Open { wait, .. }
            | Phase::Probing { wait, .. } => self.open(wait.saturating_mul(2), now, random),
            Phase::Closed { failures, .. } if failures + 1 >= self.failures_to_open() => {
                self.open(self.policy.first_wait, now, random);
            }
            Phase::Closed { failures, .. } => {
                self.enter(Phase::Closed { failures: failures + 1, trial: 0, wait: 0 });
            }
        }
    }

    /// Records that the call was not made after all: nothing was learned, and another call may
    /// probe.
    pub const fn abandoned(&mut self, attempt: Attempt) {
        if attempt.generation != self.generation {
            return;
        }
        if let Phase::Probing { wait, .. } = self.phase {
            self.enter(Phase::Open { wait, until: 0 });
        }
    }

    /// The breaker's state. An open breaker whose wait has passed stays open until the next call.
    pub const fn state(&self) -> BreakerState {
        match self.phase {
            Phase::Closed { .. } => BreakerState::Closed,
            Phase::Open { .. } => BreakerState::Open,
            Phase::Probing { .. } => BreakerState::HalfOpen,
        }
    }

    /// Whether the breaker is closed, without failures since the last success, and not on trial.
    pub const fn is_sound(&self) -> bool {
        matches!(self.phase, Phase::Closed { failures: 0, trial: 0, .. })
    }

    /// The earliest time of the next attempt; `None` while closed.
    pub const fn retry_at(&self) -> Option<u64> {
        match self.phase {
            Phase::Closed { .. } => None,
            Phase::Open { until: at, .. } | Phase::Probing { deadline: at, .. } => Some(at),
        }
    }

    /// The time of the first failure since the last success.
    pub const fn failing_since(&self) -> Option<u64> {
        self.failing_since
    }

    const fn failures_to_open(&self) -> u32 {
        if self.policy.failures == 0 { 1 } else { self.policy.failures }
    }

    /// Opens the breaker for a random time from half of `wait` to all of it, with `wait` brought
    /// within the policy's bounds.
    const fn open(&mut self, wait: u64, now: u64, random: u64) {
        let least = at_least(self.policy.first_wait, 1);
        let most = at_least(self.policy.longest_wait, least);
        let wait = at_least(if wait < most { wait } else { most }, least);
        let half = wait / 2;
        let rest = (random as u128 * (wait - half + 1) as u128) >> 64;
        self.enter(Phase::Open { wait, until: now.saturating_add(half + rest as u64) });
    }

    const fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.generation = self.generation.wrapping_add(1);
    }
}

const fn at_least(number: u64, least: u64) -> u64 {
    if number < least { least } else { number }
}
