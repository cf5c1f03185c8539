//! When to stop asking what does not answer, and when to ask again.

/// When a [`Breaker`] opens, and how long it then waits. Times are in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BreakerPolicy {
    /// Failures in a row that open it; 0 counts as 1.
    pub failures: u32,
    /// The longest wait before the first probe; 0 counts as 1.
    pub first_wait: u64,
    /// What the waits double up to; one below `first_wait` counts as that.
    pub longest_wait: u64,
    /// How long a probe may take: one that has not been heard of by then is given up, and
    /// another may follow.
    pub patience: u64,
}

/// Keeps calls from something that fails, so that they need not wait for it to fail again.
///
/// *Closed*, it lets every call through. So many failures in a row as its policy says *open*
/// it: no call is let through until a wait has passed. Then one is, the *probe*; while it is
/// under way no other is. A probe that fails doubles the wait. One that succeeds closes the
/// breaker, on trial: the next failure opens it again where it was, until so many calls have
/// succeeded as failures would open it. So what answers only now and then is not asked more
/// often than what is dead.
///
/// Calls that were under way together when one of them failed count as one failure: what breaks
/// a connection fails them all.
///
/// Failures in a row, and not their share of all calls, because a share needs a window of time
/// and a least number of calls before it says anything; what is dead or hung fails every call
/// from the first, and while part of the calls are answered an open breaker would lose them.
///
/// Each wait lies between half of its bound and all of it, as `random` says, so that the
/// members of a fleet do not come back as one.
///
/// ```
/// use tidegate_core::{Breaker, BreakerPolicy};
/// let policy = BreakerPolicy { failures: 2, first_wait: 100, longest_wait: 1_000, patience: 50 };
/// let mut breaker = Breaker::new(policy);
/// for _ in 0..2 {
///     let attempt = breaker.attempt(7).unwrap();
///     breaker.failed(attempt, 7, u64::MAX);
/// }
/// assert_eq!(breaker.attempt(106).unwrap_err(), 107); // asked again then, not before
/// let probe = breaker.attempt(107).unwrap();
/// assert!(breaker.attempt(107).is_err()); // one at a time
/// breaker.succeeded(probe);
/// assert!(breaker.attempt(108).is_ok());
/// ```
#[derive(Clone, Debug)]
pub struct Breaker {
    policy: BreakerPolicy,
    phase: Phase,
    /// Counts changes of state, and failures.
    generation: u32,
    failing_since: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// `trial` successes are needed before one failure is no longer too many; `wait` is then
    /// the last one's bound.
    Closed { failures: u32, trial: u32, wait: u64 },
    /// No attempt before `until`.
    Open { wait: u64, until: u64 },
    /// One attempt is under way, and given up at `deadline`.
    Probing { wait: u64, deadline: u64 },
}

/// What a [`Breaker`] does with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// All are let through.
    Closed,
    /// None is.
    Open,
    /// One is under way, to find out.
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

/// A call that has been let through: tell the breaker what came of it, once.
///
/// While the breaker [is sound](Breaker::is_sound) all attempts are equal, and a host may keep
/// one to make others of, so that calls need not meet at the breaker.
#[must_use = "the breaker learns from what became of it"]
#[derive(Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Told apart by it, outcomes of attempts made before the last failure, or before the
    /// breaker's last change of state, count for nothing: they tell what was, not what is.
    pub generation: u32,
    /// Whether it is the one call that finds out if an open breaker may close.
    pub is_probe: bool,
}

impl Breaker {
    /// A closed one.
    pub const fn new(policy: BreakerPolicy) -> Self {
        let phase = Phase::Closed { failures: 0, trial: 0, wait: 0 };
        Self { policy, phase, generation: 0, failing_since: None }
    }

    /// Lets a call through at `now`, or says when the next may be.
    ///
    /// # Errors
    /// The time before which no call is let through. That of a probe under way is when it
    /// would be given up; it may end sooner.
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

    /// The call was answered.
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

    /// The call failed at `now`. Where that opens the breaker, `random`, any number with all
    /// of its bits by chance, chooses the wait.
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

    /// The call was not made after all: nothing is known, and another may find out.
    pub const fn abandoned(&mut self, attempt: Attempt) {
        if attempt.generation != self.generation {
            return;
        }
        if let Phase::Probing { wait, .. } = self.phase {
            self.enter(Phase::Open { wait, until: 0 });
        }
    }

    /// What it does with calls; a wait that has passed ends with the next call.
    pub const fn state(&self) -> BreakerState {
        match self.phase {
            Phase::Closed { .. } => BreakerState::Closed,
            Phase::Open { .. } => BreakerState::Open,
            Phase::Probing { .. } => BreakerState::HalfOpen,
        }
    }

    /// Whether a failure would be the first of a row, and not one too many.
    pub const fn is_sound(&self) -> bool {
        matches!(self.phase, Phase::Closed { failures: 0, trial: 0, .. })
    }

    /// Before when no call is let through; none while all are.
    pub const fn retry_at(&self) -> Option<u64> {
        match self.phase {
            Phase::Closed { .. } => None,
            Phase::Open { until: at, .. } | Phase::Probing { deadline: at, .. } => Some(at),
        }
    }

    /// When the first failure since the last success was.
    pub const fn failing_since(&self) -> Option<u64> {
        self.failing_since
    }

    const fn failures_to_open(&self) -> u32 {
        if self.policy.failures == 0 { 1 } else { self.policy.failures }
    }

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
