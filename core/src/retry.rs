//! When to make a failed call again: full-jitter exponential back-off, within a deadline and a budget
//! that all calls share.

use crate::signal::{Signal, SignalKind};
use crate::sync::{AtomicU64, Ordering};

/// How often a failed call is made again, and how long it waits before. Times are in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RetryPolicy {
    /// The attempts of a call, the first included; 0 counts as 1.
    pub attempts: u32,
    /// The bound of the wait before the first retry. It doubles with every further one.
    pub base: u64,
    /// The most that the bound of a wait grows to. A hold of the vendor is not bounded by it.
    pub longest: u64,
}

impl RetryPolicy {
    /// Four attempts, with bounds of 0.5, 1 and 2 s.
    pub const DEFAULT: Self = Self { attempts: 4, base: SECOND / 2, longest: 20 * SECOND };
}

const SECOND: u64 = 1_000_000_000;

/// What a failure says about a retry. A [`Signal`] becomes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Failure {
    /// Whether the same call may succeed when it is made again.
    pub should_retry: bool,
    /// The wait that the vendor asks for, in nanoseconds.
    pub hold: u64,
    /// Whether the vendor only refused the call for a limit, and said when to come back. Such a
    /// retry costs the budget nothing: the hold and the limiter pace it, and under a budget a
    /// single refusal that many calls meet would lose most of them.
    pub is_refusal: bool,
}

impl Failure {
    /// A failure of the connection, or another one without a response.
    pub const fn without_response(should_retry: bool) -> Self {
        Self { should_retry, hold: 0, is_refusal: false }
    }
}

impl From<&Signal<'_>> for Failure {
    fn from(signal: &Signal<'_>) -> Self {
        let is_limit = match signal.kind {
            SignalKind::Rate | SignalKind::Concurrency | SignalKind::Quota => true,
            SignalKind::Ok
            | SignalKind::Overload
            | SignalKind::Abuse
            | SignalKind::Auth
            | SignalKind::Fault
            | SignalKind::Refused => false,
        };
        Self {
            should_retry: signal.should_retry,
            hold: signal.hold,
            is_refusal: is_limit && signal.hold > 0,
        }
    }
}

/// Counts the retries of one call, and says when the next begins.
///
/// The wait before a retry is the vendor's hold, and a random part of a bound that doubles (*full
/// jitter*), so that callers that failed together do not come back together.
///
/// ```
/// use tidegate_core::{GiveUp, Profile, Retry, RetryBudget, RetryPolicy, Signal};
/// let second = 1_000_000_000;
/// let policy = RetryPolicy { attempts: 3, base: second, longest: 20 * second };
/// let budget = RetryBudget::new(10, 5);
/// let deadline = 60 * second;
/// budget.call();
/// let mut retry = Retry::new(policy, deadline);
/// let signal = Signal::parse(429, [("Retry-After", "2")], &Profile::GENERIC, 0);
/// let random = u64::MAX / 2; // of 64 random bits
/// assert_eq!(retry.failed(&signal, 0, random, &budget), Ok(2_500_000_000));
/// let refused = Signal::parse(400, [("a", "b")], &Profile::GENERIC, 0);
/// assert_eq!(retry.failed(&refused, 3 * second, random, &budget), Err(GiveUp::Permanent));
/// ```
#[derive(Clone, Debug)]
pub struct Retry {
    policy: RetryPolicy,
    deadline: u64,
    retries: u32,
}

/// Why a call is not made, or not made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GiveUp {
    /// The same call cannot succeed.
    Permanent,
    /// The call may not be repeated: its body can't be sent twice, or it may have had an effect.
    Unrepeatable,
    /// It has been made as often as the policy allows.
    Attempts,
    /// It would begin at its deadline or later.
    Deadline,
    /// Too many of the calls of late were retries.
    Budget,
    /// The tokens, or the permit, would come after the deadline.
    Slot,
    /// The caller left.
    Cancelled,
}

impl GiveUp {
    /// The name that every binding uses: `"permanent"`, `"unrepeatable"`, `"attempts"`,
    /// `"deadline"`, `"budget"`, `"slot"` or `"cancelled"`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Permanent => "permanent",
            Self::Unrepeatable => "unrepeatable",
            Self::Attempts => "attempts",
            Self::Deadline => "deadline",
            Self::Budget => "budget",
            Self::Slot => "slot",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Retry {
    /// A call that has not been made, and that is worth nothing from `deadline` on.
    pub const fn new(policy: RetryPolicy, deadline: u64) -> Self {
        Self { policy, deadline, retries: 0 }
    }

    /// Answers how long to wait before the call is made again, after it failed at `now`. `random` is
    /// a number of 64 random bits. Only a retry that is answered here costs the budget anything.
    ///
    /// # Errors
    /// The reason to give up.
    pub fn failed(
        &mut self,
        failure: impl Into<Failure>,
        now: u64,
        random: u64,
        budget: &RetryBudget,
    ) -> Result<u64, GiveUp> {
        let failure = failure.into();
        if !failure.should_retry {
            return Err(GiveUp::Permanent);
        }
        if self.retries + 1 >= self.policy.attempts.max(1) {
            return Err(GiveUp::Attempts);
        }
        let wait = failure.hold.saturating_add(self.jitter(random));
        if now.saturating_add(wait) >= self.deadline {
            return Err(GiveUp::Deadline);
        }
        if !failure.is_refusal && !budget.take() {
            return Err(GiveUp::Budget);
        }
        self.retries += 1;
        Ok(wait)
    }

    /// The retries so far.
    pub const fn retries(&self) -> u32 {
        self.retries
    }

    /// A random part of the bound, from nothing to all of it.
    fn jitter(&self, random: u64) -> u64 {
        let doubled = self.policy.base.saturating_mul(1 << self.retries.min(63));
        let bound = doubled.min(self.policy.longest);
        let part = (u128::from(random) * (u128::from(bound) + 1)) >> 64;
        u64::try_from(part).unwrap_or(bound)
    }
}

/// Bounds the retries of all calls to a part of the calls, so that a vendor that fails is not asked
/// several times as often as one that works.
///
/// Each call saves a part of a retry, and each retry spends a whole one. So that the first calls have
/// retries too, a budget begins with a reserve. That is lent: the first calls save nothing until they
/// have paid for it. N calls make at most `max(reserve, N * percent / 100)` retries, whatever
/// fails. Threads may share it.
///
/// ```
/// use tidegate_core::RetryBudget;
/// let budget = RetryBudget::new(10, 2);
/// assert_eq!(budget.retries(), 2);
/// (0..20).for_each(|_| budget.call()); // they pay for the reserve
/// assert_eq!(budget.retries(), 2);
/// ```
#[derive(Debug)]
pub struct RetryBudget {
    /// In hundredths of a retry.
    saved: AtomicU64,
    /// What the calls have yet to pay of the reserve, in hundredths of a retry.
    lent: AtomicU64,
    most: u64,
    percent: u64,
}

/// The hundredths of a retry.
const WHOLE: u64 = 100;

impl RetryBudget {
    /// The percent of calls that may be repeated, unless told otherwise.
    pub const DEFAULT_PERCENT: u32 = 10;
    /// The retries that a budget begins with, unless told otherwise.
    pub const DEFAULT_RESERVE: u32 = 10;

    /// A budget of `percent` retries for a hundred calls, which has `reserve` retries at first and
    /// saves at most that many; at least one, because none could be spent otherwise.
    pub fn new(percent: u32, reserve: u32) -> Self {
        let reserve = u64::from(reserve) * WHOLE;
        Self {
            saved: AtomicU64::new(reserve),
            lent: AtomicU64::new(reserve),
            most: reserve.max(WHOLE),
            percent: u64::from(percent),
        }
    }

    /// Counts a call that is made for the first time.
    pub fn call(&self) {
        // Each count is exact by itself, and orders nothing else.
        let pay = |lent: u64| Some(lent.saturating_sub(self.percent));
        let lent = match self.lent.load(Ordering::Relaxed) {
            0 => 0,
            _ => self
                .lent
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay)
                .unwrap_or_default(),
        };
        let rest = self.percent.saturating_sub(lent);
        if rest > 0 {
            let more = |saved: u64| Some((saved + rest).min(self.most));
            let _ = self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        }
    }

    /// The retries that could be spent now.
    pub fn retries(&self) -> u64 {
        self.saved.load(Ordering::Relaxed) / WHOLE
    }

    /// Spends a retry, if one is saved.
    fn take(&self) -> bool {
        let less = |saved: u64| saved.checked_sub(WHOLE);
        self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

impl Default for RetryBudget {
    /// Retries of a tenth of the calls, the first ten lent.
    fn default() -> Self {
        Self::new(Self::DEFAULT_PERCENT, Self::DEFAULT_RESERVE)
    }
}
