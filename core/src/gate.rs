//! A gate before a vendor: the hold that the vendor asked for, and a circuit breaker on an error
//! budget, as one state for a whole fleet.

use crate::bounds::MAX_SPAN;
use crate::signal::SignalKind;

/// The longest time that a gate counts with, in microseconds: 2^53 nanoseconds, which is 104 days.
const LONGEST: u64 = MAX_SPAN / 1_000;

/// The latest time that a gate knows, in microseconds since 1970. With [`LONGEST`] added a double
/// still counts it exactly.
const LATEST: u64 = 1 << 52;

/// The most calls that a window counts.
const MOST_CALLS: u64 = 1 << 30;

/// The weights of a window that is half gone are sixteenths.
const SIXTEENTHS: u64 = 16;

/// The share of the rate with which a ramp begins, in thousandths.
const FIRST_SHARE: u64 = 100;

/// The whole rate, in thousandths.
pub const FULL_SHARE: u64 = 1_000;

/// When a [`Gate`] closes the way, for how long, and how it lets calls through again. Times are in
/// microseconds. Each field is brought within its bounds, so every policy can be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GatePolicy {
    /// The share of faults among the calls of the window that opens the breaker, in percent; 0
    /// counts as 1, and with 101 or more the breaker never opens.
    pub fault_percent: u64,
    /// The calls that the window must have before their share says anything; 0 counts as 1.
    pub least_calls: u64,
    /// The length of the sliding window that calls are counted in; 0 counts as 1 second.
    pub window: u64,
    /// For how long the breaker opens at first; 0 counts as 1 microsecond.
    pub open_for: u64,
    /// The bound of the times that the breaker is open, which double until they reach it; a value
    /// below `open_for` counts as `open_for`.
    pub longest_open: u64,
    /// The probes that must succeed, one after the other, before the breaker closes; 0 counts as 1.
    pub probes: u64,
    /// How long a probe may take. Without an outcome by then it is given up, and another may
    /// follow, so that a probe of a process that has crashed does not keep the gate shut. 0 counts
    /// as 1 microsecond.
    pub probe_timeout: u64,
    /// After a hold one call is let through. The others follow when it has been answered, but at
    /// the latest after this time, because the vendor itself has said when to come back.
    pub resume_wait: u64,
    /// The time in which the rate rises from a tenth to all of it after a hold or an outage; with 0
    /// it does not rise step by step.
    pub ramp: u64,
}

impl GatePolicy {
    /// Opens at half of at least 20 calls in 30 seconds, for 5 seconds at first and for 5 minutes
    /// at most; one probe, which may take 30 seconds. After a hold the others follow within a
    /// second. No ramp.
    pub const DEFAULT: Self = Self {
        fault_percent: 50,
        least_calls: 20,
        window: 30_000_000,
        open_for: 5_000_000,
        longest_open: 300_000_000,
        probes: 1,
        probe_timeout: 30_000_000,
        resume_wait: 1_000_000,
        ramp: 0,
    };

    /// The policy with each field within its bounds.
    #[must_use]
    pub fn bounded(self) -> Self {
        let open_for = self.open_for.clamp(1, LONGEST);
        Self {
            fault_percent: self.fault_percent.clamp(1, 101),
            least_calls: self.least_calls.clamp(1, MOST_CALLS),
            window: if self.window == 0 { 1_000_000 } else { self.window.min(LONGEST) },
            open_for,
            longest_open: self.longest_open.clamp(open_for, LONGEST),
            probes: self.probes.clamp(1, MOST_CALLS),
            probe_timeout: self.probe_timeout.clamp(1, LONGEST),
            resume_wait: self.resume_wait.min(LONGEST),
            ramp: self.ramp.min(LONGEST),
        }
    }

    /// For how long the breaker opens after `opened` openings in a row.
    fn open_time(&self, opened: u64) -> u64 {
        if opened >= 20 {
            self.longest_open
        } else {
            self.longest_open.min(self.open_for << opened)
        }
    }
}

impl Default for GatePolicy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What a call says about the health of the vendor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallOutcome {
    /// The vendor answered, perhaps that the call itself is wrong.
    Ok,
    /// The vendor failed, was overloaded, or did not answer in time.
    Fault,
    /// The vendor refused for a limit. It is alive, so that is no fault.
    Throttled,
    /// The call was not made after all, so nothing was learned.
    NotMade,
}

impl CallOutcome {
    /// What a response of this kind says. A limit that was reached is no fault, nor is a call that
    /// is wrong.
    pub const fn of(kind: SignalKind) -> Self {
        match kind {
            SignalKind::Ok | SignalKind::Auth | SignalKind::Refused => Self::Ok,
            SignalKind::Fault | SignalKind::Overload => Self::Fault,
            SignalKind::Rate | SignalKind::Concurrency | SignalKind::Quota | SignalKind::Abuse => {
                Self::Throttled
            }
        }
    }

    /// The name that every binding uses: `"ok"`, `"fault"`, `"throttled"` or `"not_made"`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Fault => "fault",
            Self::Throttled => "throttled",
            Self::NotMade => "not_made",
        }
    }
}

/// What became of calls, as counts, so that a process may report many at once. The outcome of a
/// probe comes in `probe` and not in the counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct GateReport {
    /// The calls with the outcome [`CallOutcome::Ok`].
    pub ok: u64,
    /// The calls with the outcome [`CallOutcome::Fault`].
    pub faults: u64,
    /// For how long to let no call through from now, in microseconds, because the vendor said so;
    /// 0 for no hold.
    pub hold: u64,
    /// The number of a probe, and its outcome.
    pub probe: Option<(u64, CallOutcome)>,
}

impl GateReport {
    /// One call that was no probe, and the hold that its response asked for, in microseconds.
    pub const fn of(outcome: CallOutcome, hold: u64) -> Self {
        let ok = matches!(outcome, CallOutcome::Ok) as u64;
        let faults = matches!(outcome, CallOutcome::Fault) as u64;
        Self { ok, faults, hold, probe: None }
    }
}

/// Whether a call may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "a call may be made only if the gate lets it through"]
pub enum GateAnswer {
    /// The call may be made.
    Pass,
    /// The call may be made at a part of the usual rate.
    Ramp {
        /// The part, in thousandths.
        share: u64,
    },
    /// This call alone may be made, in the whole fleet. Its outcome is reported with the number.
    Probe {
        /// The number of the probe.
        number: u64,
        /// The time at which it is given up, in microseconds.
        until: u64,
    },
    /// No call may be made now.
    Wait {
        /// The earliest time at which it is worth asking again, in microseconds. While a probe is
        /// under way that is when it would be given up; its outcome may come sooner.
        until: u64,
    },
}

/// Keeps a fleet's calls from a vendor that has asked for a pause, or that fails.
///
/// *A hold* is a register that only rises: of several holds the latest end counts, in whatever
/// order and however often they are told, so every worker may pass on what it was told. At its end
/// one call is let through. The others follow when that has been answered, or after
/// [`GatePolicy::resume_wait`].
///
/// *The breaker* counts the calls of a sliding window, of the whole fleet. When the share of faults
/// among them reaches its bound, it opens and lets no call through for a time. Then it is half-open:
/// one call of the fleet is let through, the probe. A probe that succeeds closes the breaker, one
/// that fails opens it for twice as long, and one that has no outcome in time is replaced by
/// another. If it opens again within a window of its closing, the times go on doubling. A refusal
/// for a limit is no fault; after a refused probe the breaker waits as long as before.
///
/// The window counts in two parts of its length, the present one and the one before, which counts
/// for the part of it that is still within the window, as if its calls had come evenly.
///
/// The state is [`WORDS`](Self::WORDS) integers below 2^53 that can be kept in a store, of which
/// all zeros are a gate that nothing has happened to. Times are in microseconds.
///
/// ```
/// use tidegate_core::{CallOutcome, Gate, GateAnswer, GatePolicy, GateReport};
/// let (policy, second) = (GatePolicy::DEFAULT, 1_000_000);
/// let mut gate = Gate::new();
/// assert_eq!(gate.admit(&policy, 10 * second), GateAnswer::Pass);
///
/// // The vendor answers 429 with `Retry-After: 5`, to two workers.
/// gate.report(&policy, 10 * second, &GateReport::of(CallOutcome::Throttled, 5 * second));
/// gate.report(&policy, 10 * second, &GateReport::of(CallOutcome::Throttled, 5 * second));
/// assert_eq!(gate.admit(&policy, 11 * second), GateAnswer::Wait { until: 15 * second });
///
/// // One call at the hold's end; the others when it has been answered.
/// let GateAnswer::Probe { number, .. } = gate.admit(&policy, 15 * second) else { unreachable!() };
/// assert_eq!(gate.admit(&policy, 15 * second), GateAnswer::Wait { until: 16 * second });
/// let answered = GateReport { probe: Some((number, CallOutcome::Ok)), ..GateReport::default() };
/// gate.report(&policy, 15 * second + 80_000, &answered);
/// assert_eq!(gate.admit(&policy, 15 * second + 80_000), GateAnswer::Pass);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Gate {
    /// The end of the latest hold.
    hold: u64,
    /// The end of the hold after which a call has been let through.
    resumed: u64,
    /// The time from which the rate rises; 0 before the first hold and outage.
    ramp_from: u64,
    /// The number of the last probe.
    probe: u64,
    /// The time at which the probe under way is given up; 0 when there is none.
    probe_until: u64,
    /// The probes that have succeeded since the breaker opened.
    probes_ok: u64,
    /// The time until which the breaker is open, after which it is half-open; 0 while closed.
    open_until: u64,
    /// The openings in a row.
    opened: u64,
    /// The time at which the breaker closed.
    closed_at: u64,
    /// The beginning of the present part of the window.
    part_from: u64,
    ok: u64,
    faults: u64,
    ok_before: u64,
    faults_before: u64,
}

impl Gate {
    /// The number of integers of a gate's state.
    pub const WORDS: usize = 14;

    /// A gate that lets calls through.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The gate's state as integers, each below 2^53.
    pub const fn words(&self) -> [u64; Self::WORDS] {
        [
            self.hold,
            self.resumed,
            self.ramp_from,
            self.probe,
            self.probe_until,
            self.probes_ok,
            self.open_until,
            self.opened,
            self.closed_at,
            self.part_from,
            self.ok,
            self.faults,
            self.ok_before,
            self.faults_before,
        ]
    }

    /// The gate with this state; `None` for one that no gate can have.
    pub fn from_words(words: [u64; Self::WORDS]) -> Option<Self> {
        let [
            hold,
            resumed,
            ramp_from,
            probe,
            probe_until,
            probes_ok,
            open_until,
            opened,
            closed_at,
            part_from,
            ok,
            faults,
            ok_before,
            faults_before,
        ] = words;
        let counts = [probes_ok, opened, ok, faults, ok_before, faults_before];
        let in_bounds = words.iter().all(|word| *word < MAX_SPAN)
            && counts.iter().all(|count| *count <= MOST_CALLS);
        in_bounds.then_some(Self {
            hold,
            resumed,
            ramp_from,
            probe,
            probe_until,
            probes_ok,
            open_until,
            opened,
            closed_at,
            part_from,
            ok,
            faults,
            ok_before,
            faults_before,
        })
    }

    /// Whether a call may be made at `now`. A probe that is answered is under way from then on.
    pub fn admit(&mut self, policy: &GatePolicy, now: u64) -> GateAnswer {
        let policy = policy.bounded();
        let now = now.min(LATEST);
        let answer = self.answer(&policy, now);
        if let GateAnswer::Probe { number, until } = answer {
            self.probe = number;
            self.probe_until = until;
            self.resumed = self.hold;
            if self.open_until == 0 {
                self.ramp_from = now;
            }
        }
        answer
    }

    /// What [`admit`](Self::admit) would answer at `now`, without letting a call through.
    pub fn look(&self, policy: &GatePolicy, now: u64) -> GateAnswer {
        self.answer(&policy.bounded(), now.min(LATEST))
    }

    /// Records at `now` what became of calls.
    pub fn report(&mut self, policy: &GatePolicy, now: u64, report: &GateReport) {
        let policy = policy.bounded();
        let now = now.min(LATEST);
        if report.hold > 0 {
            self.hold = self.hold.max(now + report.hold.min(LONGEST));
        }
        let was_closed = self.open_until == 0;
        let (mut ok, mut faults) = (report.ok.min(MOST_CALLS), report.faults.min(MOST_CALLS));
        if let Some((number, outcome)) = report.probe {
            ok += u64::from(outcome == CallOutcome::Ok);
            faults += u64::from(outcome == CallOutcome::Fault);
            if number == self.probe && self.probe_until != 0 {
                self.probe_until = 0;
                self.probed(&policy, now, outcome);
            }
        }
        // Calls that were made before the breaker opened say nothing about the present.
        if was_closed && ok + faults > 0 {
            self.count(&policy, now, ok, faults);
        }
    }

    /// The end of the latest hold, in microseconds; 0 if there has been none.
    pub const fn held_until(&self) -> u64 {
        self.hold
    }

    /// The time until which the breaker is open, in microseconds; from then on it is half-open.
    /// `None` while it is closed.
    pub const fn open_until(&self) -> Option<u64> {
        match self.open_until {
            0 => None,
            until => Some(until),
        }
    }

    /// The time from which the state may be forgotten if nobody has called since `now`.
    pub fn forgotten_at(&self, policy: &GatePolicy, now: u64) -> u64 {
        let policy = policy.bounded();
        let busy = self.hold.max(self.open_until).max(self.probe_until).max(now.min(LATEST));
        busy + policy.longest_open.max(policy.ramp).max(policy.window.saturating_mul(2))
    }

    fn answer(&self, policy: &GatePolicy, now: u64) -> GateAnswer {
        let until = self.hold.max(self.open_until).max(self.probe_until);
        if now < until {
            return GateAnswer::Wait { until };
        }
        let number = self.probe + 1;
        if self.open_until != 0 {
            return GateAnswer::Probe { number, until: now + policy.probe_timeout };
        }
        if self.hold != self.resumed {
            return GateAnswer::Probe { number, until: now + policy.resume_wait };
        }
        match self.share(policy, now) {
            FULL_SHARE => GateAnswer::Pass,
            share => GateAnswer::Ramp { share },
        }
    }

    fn share(&self, policy: &GatePolicy, now: u64) -> u64 {
        let gone = now.saturating_sub(self.ramp_from);
        if self.ramp_from == 0 || gone >= policy.ramp {
            return FULL_SHARE;
        }
        FIRST_SHARE + gone * (FULL_SHARE - FIRST_SHARE) / policy.ramp
    }

    /// Acts on the outcome of the probe under way.
    fn probed(&mut self, policy: &GatePolicy, now: u64, outcome: CallOutcome) {
        if self.open_until == 0 {
            // The first call after a hold. If it was not made, the next call is the first.
            if outcome == CallOutcome::NotMade {
                self.resumed = 0;
            }
            return;
        }
        match outcome {
            CallOutcome::Ok => {
                self.probes_ok += 1;
                if self.probes_ok >= policy.probes {
                    self.open_until = 0;
                    self.closed_at = now;
                    self.ramp_from = now;
                }
            }
            CallOutcome::Fault => self.open(policy, now),
            CallOutcome::Throttled => {
                self.open_until = now + policy.open_time(self.opened.saturating_sub(1));
            }
            CallOutcome::NotMade => {}
        }
    }

    fn count(&mut self, policy: &GatePolicy, now: u64, ok: u64, faults: u64) {
        let age = now.saturating_sub(self.part_from);
        if age >= policy.window * 2 {
            (self.ok_before, self.faults_before, self.ok, self.faults) = (0, 0, 0, 0);
            self.part_from = now;
        } else if age >= policy.window {
            (self.ok_before, self.faults_before) = (self.ok, self.faults);
            (self.ok, self.faults) = (0, 0);
            self.part_from += policy.window;
        }
        self.ok = MOST_CALLS.min(self.ok + ok);
        self.faults = MOST_CALLS.min(self.faults + faults);
        let gone = now.saturating_sub(self.part_from) * SIXTEENTHS / policy.window;
        let weight = SIXTEENTHS - gone;
        let oks = self.ok_before * weight + self.ok * SIXTEENTHS;
        let faults = self.faults_before * weight + self.faults * SIXTEENTHS;
        let calls = oks + faults;
        if calls >= policy.least_calls * SIXTEENTHS && faults * 100 >= calls * policy.fault_percent
        {
            if now >= self.closed_at + policy.window {
                self.opened = 0;
            }
            self.open(policy, now);
        }
    }

    fn open(&mut self, policy: &GatePolicy, now: u64) {
        self.open_until = now + policy.open_time(self.opened);
        self.opened = MOST_CALLS.min(self.opened + 1);
        self.probe_until = 0;
        self.probes_ok = 0;
        (self.ok, self.faults, self.ok_before, self.faults_before) = (0, 0, 0, 0);
    }
}
