//! One call to a vendor, from its slot to its end: what is done next after each event. A host only
//! carries the steps out.

use crate::retry::{Failure, GiveUp, Retry, RetryBudget, RetryPolicy};
use crate::signal::{HoldScope, Signal, SignalKind};

/// What is known of a call before it is made. Times are in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallTerms {
    /// How often it is repeated.
    pub policy: RetryPolicy,
    /// When it is worth nothing any more, on the clock of the host; [`u64::MAX`] for never. No step
    /// of the call lasts longer.
    pub deadline: u64,
    /// How long one attempt may take; [`u64::MAX`] for as long as the deadline allows.
    pub attempt_timeout: u64,
    /// Whether each attempt needs a concurrency permit.
    pub needs_permit: bool,
    /// Whether the same request can be sent again. A body that is a stream can't.
    pub is_repeatable: bool,
    /// Whether the call may take effect twice. It decides about failures after which nobody knows
    /// whether it took effect: a response that tells of a fault, and a connection that broke.
    pub is_idempotent: bool,
}

impl CallTerms {
    /// An idempotent call without a deadline, which needs no permit.
    pub const DEFAULT: Self = Self {
        policy: RetryPolicy::DEFAULT,
        deadline: u64::MAX,
        attempt_timeout: u64::MAX,
        needs_permit: false,
        is_repeatable: true,
        is_idempotent: true,
    };

    /// Whether a request with this method may take effect twice: by what the method means (RFC 9110),
    /// or because it has a key by which the vendor tells repetitions, such as `Idempotency-Key`.
    pub const fn is_idempotent_method(method: &str, has_key: bool) -> bool {
        has_key
            || method.eq_ignore_ascii_case("GET")
            || method.eq_ignore_ascii_case("HEAD")
            || method.eq_ignore_ascii_case("OPTIONS")
            || method.eq_ignore_ascii_case("TRACE")
            || method.eq_ignore_ascii_case("PUT")
            || method.eq_ignore_ascii_case("DELETE")
            || method.eq_ignore_ascii_case("QUERY")
    }
}

/// What became of the last step of an [`OutboundCall`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallEvent<'a> {
    /// The tokens, or the permit, are there.
    Granted,
    /// The tokens, or the permit, will not be there within the wait of the step.
    Denied,
    /// The vendor responded.
    Response(&'a Signal<'a>),
    /// There is no response.
    Failed(TransportFailure),
    /// The hold is stored, the permit given back, or the sleep over.
    Done,
    /// The caller left, whatever the last step was.
    Cancelled,
}

/// Why there is no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransportFailure {
    /// The request did not leave: no connection could be made.
    NotSent,
    /// The time for the attempt passed. The vendor may have carried the call out.
    TimedOut,
    /// The connection broke. The vendor may have carried the call out.
    Broken,
    /// It would fail again in the same way, such as a certificate that is not trusted.
    Permanent,
}

impl TransportFailure {
    /// The failure of this name, in the spelling of `as_str`; `None` if there is none.
    pub fn parse(name: &str) -> Option<Self> {
        let all = [Self::NotSent, Self::TimedOut, Self::Broken, Self::Permanent];
        all.into_iter().find(|failure| failure.as_str() == name)
    }

    /// The name that every binding uses: `"not_sent"`, `"timed_out"`, `"broken"` or `"permanent"`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::TimedOut => "timed_out",
            Self::Broken => "broken",
            Self::Permanent => "permanent",
        }
    }
}

/// What the host of an [`OutboundCall`] does next, and the event that it then reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallStep {
    /// Enter the concurrency limit, waiting at most `max_wait`: `Granted` or `Denied`.
    Permit {
        /// In nanoseconds; [`u64::MAX`] for any time.
        max_wait: u64,
    },
    /// Take the call's tokens, waiting at most `max_wait`: `Granted` or `Denied`.
    Acquire {
        /// In nanoseconds; [`u64::MAX`] for any time.
        max_wait: u64,
    },
    /// Send the request: `Response` or `Failed`.
    Send {
        /// How long the attempt may take, in nanoseconds; [`u64::MAX`] for any time.
        timeout: u64,
    },
    /// Store the hold where all who call the vendor see it: `Done`, also if that failed, because the
    /// call itself obeys the hold anyway.
    Hold {
        /// What is held.
        scope: HoldScope,
        /// For how long from now, in nanoseconds.
        duration: u64,
    },
    /// Give the permit back: `Done`.
    Release,
    /// Wait for this time in nanoseconds: `Done`.
    Sleep(u64),
    /// The end: hand the last response to the caller. A permit of the call goes back when the
    /// response's body has ended.
    Return,
    /// The end: hand the last response, or the last failure, to the caller. The call holds no permit.
    GiveUp(GiveUp),
}

impl CallStep {
    /// Whether this is the call's last step.
    pub const fn is_end(self) -> bool {
        matches!(self, Self::Return | Self::GiveUp(_))
    }
}

/// A call to a vendor as a pure state machine: permit, tokens, request, response, hold, wait, and
/// again. Time and random bits are arguments.
///
/// - Each attempt takes tokens of its own, just before it is sent. A call that the vendor refused has
///   cost its tokens, because vendors count it.
/// - The permit comes before the tokens: tokens that waited for a permit would be sent together
///   later, and that is more than the limit allows in its window. It goes back before a wait.
/// - A hold that a response asks for is stored before anything else, also when the call has succeeded
///   or gives up.
/// - Nothing is taken and nothing is sent at the deadline or after it.
/// - An event that does not answer the last step ends the call as if it was cancelled.
///
/// ```
/// use tidegate_core::{
///     CallEvent, CallStep, CallTerms, HoldScope, OutboundCall, Profile, RetryBudget, Signal,
/// };
/// let budget = RetryBudget::default();
/// let mut call = OutboundCall::new(CallTerms::DEFAULT);
/// let second = 1_000_000_000;
/// assert_eq!(call.start(0), CallStep::Acquire { max_wait: u64::MAX });
/// assert_eq!(call.next(CallEvent::Granted, 0, 0, &budget), CallStep::Send { timeout: u64::MAX });
/// let refused = Signal::parse(429, [("Retry-After", "2")], &Profile::GENERIC, 0);
/// let hold = CallStep::Hold { scope: HoldScope::Credential, duration: 2 * second };
/// assert_eq!(call.next(CallEvent::Response(&refused), second, 0, &budget), hold);
/// assert_eq!(call.next(CallEvent::Done, second, 0, &budget), CallStep::Sleep(2 * second));
/// assert_eq!(
///     call.next(CallEvent::Done, 3 * second, 0, &budget),
///     CallStep::Acquire { max_wait: u64::MAX }
/// );
/// call.next(CallEvent::Granted, 3 * second, 0, &budget);
/// let ok = Signal::parse(200, [("a", "b")], &Profile::GENERIC, 0);
/// assert_eq!(call.next(CallEvent::Response(&ok), 4 * second, 0, &budget), CallStep::Return);
/// ```
#[derive(Clone, Debug)]
pub struct OutboundCall {
    terms: CallTerms,
    retry: Retry,
    sends: u32,
    has_permit: bool,
    last: Option<CallStep>,
    /// What follows once a hold is stored and a permit given back.
    after: After,
}

/// What a call does once its attempt is over.
#[derive(Clone, Copy, Debug)]
enum After {
    Return,
    GiveUp(GiveUp),
    /// To begin the next attempt at this time.
    RetryAt(u64),
}

impl OutboundCall {
    /// A call that has not begun.
    pub const fn new(terms: CallTerms) -> Self {
        Self {
            terms,
            retry: Retry::new(terms.policy, terms.deadline),
            sends: 0,
            has_permit: false,
            last: None,
            after: After::GiveUp(GiveUp::Cancelled),
        }
    }

    /// The first step. Once begun, the step that the call is at.
    pub fn start(&mut self, now: u64) -> CallStep {
        match self.last {
            Some(step) => step,
            None => {
                let step = self.begin_attempt(now);
                self.took(step)
            }
        }
    }

    /// The next step, after what became of the last one at `now`. `random` is a number of 64 random
    /// bits; it counts after a response or a failure. `budget` is shared with the other calls.
    pub fn next(
        &mut self,
        event: CallEvent<'_>,
        now: u64,
        random: u64,
        budget: &RetryBudget,
    ) -> CallStep {
        let step = match (self.last, event) {
            (Some(end @ (CallStep::Return | CallStep::GiveUp(_))), _) => end,
            (Some(CallStep::Permit { .. }), CallEvent::Granted) => {
                self.has_permit = true;
                self.acquire(now)
            }
            (Some(CallStep::Acquire { .. }), CallEvent::Granted) => self.send(now, budget),
            (Some(CallStep::Permit { .. } | CallStep::Acquire { .. }), CallEvent::Denied) => {
                self.give_up(GiveUp::Slot)
            }
            (Some(CallStep::Send { .. }), CallEvent::Response(signal)) => {
                self.after = self.after_response(signal, now, random, budget);
                if signal.hold > 0 {
                    CallStep::Hold { scope: signal.scope, duration: signal.hold }
                } else {
                    self.after_hold(now)
                }
            }
            (Some(CallStep::Send { .. }), CallEvent::Failed(failure)) => {
                self.after = self.after_failure(failure, now, random, budget);
                self.after_hold(now)
            }
            (Some(CallStep::Hold { .. }), CallEvent::Done) => self.after_hold(now),
            (Some(CallStep::Release), CallEvent::Done) => self.after_release(now),
            (Some(CallStep::Sleep(_)), CallEvent::Done) => self.begin_attempt(now),
            (
                _,
                CallEvent::Granted
                | CallEvent::Denied
                | CallEvent::Response(_)
                | CallEvent::Failed(_)
                | CallEvent::Done
                | CallEvent::Cancelled,
            ) => self.give_up(GiveUp::Cancelled),
        };
        self.took(step)
    }

    /// The times that the request was sent.
    pub const fn sends(&self) -> u32 {
        self.sends
    }

    /// Whether the call holds a permit, which goes back when the response's body has ended.
    pub const fn has_permit(&self) -> bool {
        self.has_permit
    }

    const fn took(&mut self, step: CallStep) -> CallStep {
        self.last = Some(step);
        step
    }

    const fn begin_attempt(&mut self, now: u64) -> CallStep {
        if now >= self.terms.deadline {
            self.give_up(GiveUp::Deadline)
        } else if self.terms.needs_permit {
            CallStep::Permit { max_wait: self.left(now) }
        } else {
            self.acquire(now)
        }
    }

    const fn acquire(&mut self, now: u64) -> CallStep {
        if now >= self.terms.deadline {
            return self.give_up(GiveUp::Deadline);
        }
        CallStep::Acquire { max_wait: self.left(now) }
    }

    fn send(&mut self, now: u64, budget: &RetryBudget) -> CallStep {
        if now >= self.terms.deadline {
            return self.give_up(GiveUp::Deadline);
        }
        if self.sends == 0 {
            budget.call();
        }
        self.sends = self.sends.saturating_add(1);
        CallStep::Send { timeout: self.left(now).min(self.terms.attempt_timeout) }
    }

    fn after_response(
        &mut self,
        signal: &Signal<'_>,
        now: u64,
        random: u64,
        budget: &RetryBudget,
    ) -> After {
        if !signal.should_retry {
            return After::Return;
        }
        let has_effect = match signal.kind {
            SignalKind::Ok | SignalKind::Fault => true,
            SignalKind::Rate
            | SignalKind::Concurrency
            | SignalKind::Quota
            | SignalKind::Overload
            | SignalKind::Abuse
            | SignalKind::Auth
            | SignalKind::Refused => false,
        };
        self.after_attempt(signal.into(), has_effect, now, random, budget)
    }

    fn after_failure(
        &mut self,
        failure: TransportFailure,
        now: u64,
        random: u64,
        budget: &RetryBudget,
    ) -> After {
        let (should_retry, has_effect) = match failure {
            TransportFailure::NotSent => (true, false),
            TransportFailure::TimedOut | TransportFailure::Broken => (true, true),
            TransportFailure::Permanent => (false, false),
        };
        let failure = Failure::without_response(should_retry);
        self.after_attempt(failure, has_effect, now, random, budget)
    }

    /// What follows an attempt that failed, and that may have had an effect.
    fn after_attempt(
        &mut self,
        failure: Failure,
        has_effect: bool,
        now: u64,
        random: u64,
        budget: &RetryBudget,
    ) -> After {
        let may_repeat = self.terms.is_repeatable && (self.terms.is_idempotent || !has_effect);
        if failure.should_retry && !may_repeat {
            return After::GiveUp(GiveUp::Unrepeatable);
        }
        match self.retry.failed(failure, now, random, budget) {
            Ok(wait) => After::RetryAt(now.saturating_add(wait)),
            Err(reason) => After::GiveUp(reason),
        }
    }

    const fn after_hold(&mut self, now: u64) -> CallStep {
        match self.after {
            After::Return => CallStep::Return,
            After::GiveUp(_) | After::RetryAt(_) if self.has_permit => self.release(),
            After::GiveUp(_) | After::RetryAt(_) => self.after_release(now),
        }
    }

    /// Storing the hold and giving the permit back took a part of the wait.
    const fn after_release(&mut self, now: u64) -> CallStep {
        match self.after {
            After::Return => CallStep::Return,
            After::GiveUp(reason) => CallStep::GiveUp(reason),
            After::RetryAt(at) => match at.saturating_sub(now) {
                0 => self.begin_attempt(now),
                wait => CallStep::Sleep(wait),
            },
        }
    }

    const fn give_up(&mut self, reason: GiveUp) -> CallStep {
        if self.has_permit {
            self.after = After::GiveUp(reason);
            return self.release();
        }
        CallStep::GiveUp(reason)
    }

    const fn release(&mut self) -> CallStep {
        self.has_permit = false;
        CallStep::Release
    }

    /// How long until the deadline; any time if there is none.
    const fn left(&self, now: u64) -> u64 {
        match self.terms.deadline {
            u64::MAX => u64::MAX,
            deadline => deadline.saturating_sub(now),
        }
    }
}
