//! A node that spends its slice elsewhere, in a token bucket of its own, and reports what it has spent: a
//! proxy that asks for quotas (Envoy's rate limit quota service).
//!
//! A [`Slice`](super::Slice) sees each call. Here only counts come, some hundred milliseconds late, and
//! the answer is the configuration of a token bucket. Proxies start a token bucket anew when its
//! configuration changes, and then keep only the whole tokens of what it held. So a configuration is kept
//! while it is near enough.

use super::grant::{Grant, LeaseAsk, ShareKind};
use super::rate::milli_tokens;
use super::rate_meter::RateMeter;
use super::terms::LeaseTerms;
use crate::bounds::NANOS_PER_SECOND;

/// The most requests that a report counts. Nobody sends more, and sums of these do not overflow.
const MOST_REPORTED: u64 = 1 << 40;

/// A node that has all that it wants may spend this many tokens at once, as far as it may spend them in a
/// second: requests do not come evenly.
const AT_ONCE: u64 = 6;

/// A node asks for up to this much more than requests need that come evenly: 4 tokens per second, in
/// thousandths, and no more than a hundredth of the limit.
const UNEVEN: u64 = 4_000;

/// A node whose share is smaller than this many tokens in a second may spend one at a time only. Otherwise many
/// small nodes could together spend a good deal more in a second than the limit gives.
const SMALL: u64 = 16;

/// A rate is known once requests have been counted for this long. Until then a node is given its fair share
/// whatever it has asked for.
const LEAST_MEASURED: u64 = NANOS_PER_SECOND / 4;

/// Nothing is leased for a node that has not reported for this long, or for two ttls if that is longer. Envoy
/// reports every 5 s.
const SILENT: u64 = 15 * NANOS_PER_SECOND;

/// The longest time, in seconds, in which a whole number of tokens is looked for.
const LONGEST_FILL: u64 = 128;

/// What a node reports about a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaReport {
    /// Requests allowed since the last report.
    pub allowed: u64,
    /// Requests denied since the last report.
    pub denied: u64,
    /// The time since the last report, in nanoseconds, as the node says; 0 if it does not know. Some nodes
    /// round it down to whole seconds, so it counts only where it is longer than what is measured here.
    pub elapsed: u64,
}

/// What a node is assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// A token bucket of its own.
    Bucket {
        /// The most tokens that it holds; at least 1.
        max_tokens: u32,
        /// How it is refilled.
        refill: RefillRate,
    },
    /// No request is to be allowed.
    Nothing,
}

/// The rate of a token bucket: these tokens in each such time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefillRate {
    /// At least 1.
    pub tokens: u32,
    /// At least 1. Whole seconds, because some nodes take no others.
    pub seconds: u32,
}

/// One node's quota of one shared bucket, on the side of the service that assigns it.
///
/// A host feeds it the node's [reports](Self::report), and asks it regularly whether a lease call
/// [is due](Self::is_due). It does no I/O. Times are in nanoseconds on the host's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct QuotaMember {
    terms: LeaseTerms,
    /// Requests, allowed or not.
    demand: RateMeter,
    /// Requests that were allowed.
    spending: RateMeter,
    /// Whether any report has told a rate.
    is_measured: bool,
    /// The rate at which requests have come, in thousandths per second.
    want: u64,
    /// When the last report came, and before that the time of the first one.
    reported_at: u64,
    /// When the last request was reported.
    used_at: u64,
    /// Tokens taken from the bucket and not reported as spent yet.
    held: u64,
    /// Tokens that were reported as spent and not taken from the bucket yet.
    owed: u64,
    /// When the last lease call was made; 0 if none was.
    asked_at: u64,
    /// Whether a report has changed what should be asked for.
    is_changed: bool,
    lapses_at: u64,
    share: ShareKind,
    /// The most tokens in a second that the last grant allows, and the one before it did.
    most: u64,
    most_before: u64,
    /// When `most` became lower than `most_before`.
    lowered_at: u64,
    /// What is assigned, and its rate in thousandths per second.
    quota: Option<Quota>,
    pace: u64,
    has_shrunk: bool,
}

impl QuotaMember {
    /// A member whose first report comes at `now`.
    pub fn new(terms: LeaseTerms, now: u64, first: &QuotaReport) -> Self {
        let began = now.saturating_sub(first.elapsed.min(terms.ttl()));
        let mut member = Self {
            terms,
            demand: RateMeter::starting(began, terms.ttl()),
            spending: RateMeter::starting(began, terms.ttl()),
            is_measured: false,
            want: terms.max_rate(),
            reported_at: began,
            used_at: now,
            held: 0,
            owed: 0,
            asked_at: 0,
            is_changed: true,
            lapses_at: 0,
            share: ShareKind::Whole,
            most: 0,
            most_before: 0,
            lowered_at: 0,
            quota: None,
            pace: 0,
            has_shrunk: false,
        };
        member.report(now, first);
        member
    }

    /// Takes a report that comes at `now`.
    pub fn report(&mut self, now: u64, report: &QuotaReport) {
        let measured = now.saturating_sub(self.reported_at);
        let elapsed = measured.max(report.elapsed);
        // The requests of a longer time count by the part of it that is measured here.
        let of_measured = |requests: u64| {
            let all = u128::from(requests.min(MOST_REPORTED));
            (all * u128::from(measured) / u128::from(elapsed.max(1))) as u64
        };
        let (allowed, denied) = match measured {
            0 => (report.allowed.min(MOST_REPORTED), report.denied.min(MOST_REPORTED)),
            _ => (of_measured(report.allowed), of_measured(report.denied)),
        };
        let began = self.reported_at;
        self.demand.count_since(began, now, allowed + denied);
        self.spending.count_since(began, now, allowed);
        if report.allowed > 0 || report.denied > 0 {
            self.used_at = now;
        }
        let of_held = allowed.min(self.held);
        self.held -= of_held;
        // What was spent before this is a matter of the past: the bucket has been refilled since.
        let most_owed = milli_tokens(self.terms.rate(), self.terms.ttl()) / 1_000;
        self.owed = (self.owed + allowed - of_held).min(most_owed);
        self.reported_at = now;
        self.is_measured |= self.demand.age(now) >= LEAST_MEASURED;
        if self.is_measured {
            let want = self.demand.exact_rate(now).min(self.terms.rate() * 2);
            let matters = (self.want / 8).max(self.terms.rate() / 64);
            self.is_changed |= want.abs_diff(self.want) > matters;
            self.want = want;
        }
    }

    /// How long no request has been reported.
    pub const fn idle_for(&self, now: u64) -> u64 {
        now.saturating_sub(self.used_at)
    }

    /// Whether the node has been silent for so long that nothing should be leased for it.
    pub fn is_silent(&self, now: u64) -> bool {
        now >= self.reported_at.saturating_add(self.terms.ttl().saturating_mul(2).max(SILENT))
    }

    /// Whether a lease call should be made at `now`. A host asks this after each report, and at least
    /// every sixteenth of a ttl.
    pub fn is_due(&self, now: u64) -> bool {
        let since = match self.asked_at {
            0 => return true,
            asked_at => now.saturating_sub(asked_at),
        };
        let ttl = self.terms.ttl();
        if since < ttl / 20 || self.is_silent(now) {
            return false;
        }
        since
            >= match self.share {
                _ if self.is_changed => 0,
                ShareKind::Whole => ttl / 3,
                ShareKind::Fair => ttl / 8,
                ShareKind::Short | ShareKind::None => 0,
            }
    }

    /// Whether it holds tokens that its quota does not need, so that it should ask at once and give
    /// them back. To be called after [`granted`](Self::granted).
    pub fn has_surplus(&self, now: u64) -> bool {
        let held = self.held.saturating_sub(self.unreported(now));
        held > self.useful() + self.useful() / 8 + 2
    }

    /// Whether the last grant has reduced the quota, so that others may have more. To be called after
    /// [`granted`](Self::granted).
    pub const fn has_shrunk(&self) -> bool {
        self.has_shrunk
    }

    /// Whether the node has less than it wants.
    pub fn is_short(&self) -> bool {
        self.share != ShareKind::Whole
    }

    /// Whether others have to give something up, for this node to have its fair share.
    pub fn needs_others(&self) -> bool {
        self.share == ShareKind::Short
    }

    /// The lease call to make at `now`.
    pub fn ask(&mut self, now: u64) -> LeaseAsk {
        let is_new = now >= self.lapses_at;
        if is_new {
            // These tokens no longer belong to the node, and the node has dropped its quota.
            (self.held, self.pace, self.quota) = (0, 0, None);
        }
        let held = self.held.saturating_sub(self.unreported(now));
        let returned = held.saturating_sub(self.useful());
        self.held -= returned;
        // Requests do not come evenly: with just what it needs, a node would deny some of them.
        let spare = self.want / 32 + (self.want / 4).min(self.terms.rate() / 100).min(UNEVEN);
        let want = (self.want + spare).clamp(1, self.terms.rate() * 2);
        let since = now.saturating_sub(self.reported_at);
        let spent = self.spending.last_second(self.reported_at);
        let unreported = milli_tokens(self.pace, since.min(NANOS_PER_SECOND)).div_ceil(1_000);
        let lowered_lately = now < self.lowered_at.saturating_add(NANOS_PER_SECOND);
        let most = if lowered_lately { self.most.max(self.most_before) } else { self.most };
        let bound = most.min(spent.saturating_add(unreported).saturating_add(1));
        let spent = self.spending.exact_rate(self.reported_at);
        (self.asked_at, self.is_changed) = (now, false);
        LeaseAsk { want, spent, is_new, held: held - returned, returned, bound }
    }

    /// Takes the grant that answers the last lease call, and answers what to assign to the node.
    pub fn granted(&mut self, now: u64, grant: &Grant) -> Quota {
        let paid = self.owed.min(grant.tokens);
        self.owed -= paid;
        self.held = self.held.saturating_add(grant.tokens - paid);
        self.share = grant.share;
        self.lapses_at = self.asked_at.saturating_add(self.terms.ttl());
        if grant.most < self.most {
            if now >= self.lowered_at.saturating_add(NANOS_PER_SECOND) {
                self.most_before = self.most;
            }
            self.lowered_at = now;
        }
        self.most = grant.most;
        let before = self.pace;
        let quota = if grant.share == ShareKind::None || grant.hold > 0 {
            self.held = 0;
            self.pace = 0;
            Quota::Nothing
        } else {
            self.next_quota(now, grant)
        };
        self.has_shrunk = self.pace < before - before / 16;
        self.quota = Some(quota);
        quota
    }

    /// What is assigned; `None` before the first grant.
    pub const fn current(&self) -> Option<Quota> {
        self.quota
    }

    /// The last lease call was not answered. The quota stays until it lapses.
    pub fn failed(&mut self) {
        self.share = ShareKind::Short;
    }

    /// For how many whole seconds from `now` a quota may be used; 0 if it has lapsed.
    pub const fn seconds_left(&self, now: u64) -> u64 {
        self.lapses_at.saturating_sub(now) / NANOS_PER_SECOND
    }

    /// The lease call that gives the slice back; `None` if there is none.
    pub fn leave(&mut self, now: u64) -> Option<LeaseAsk> {
        if now >= self.lapses_at {
            return None;
        }
        let returned = self.held.saturating_sub(self.unreported(now));
        self.lapses_at = 0;
        self.held = 0;
        Some(LeaseAsk { returned, ..LeaseAsk::default() })
    }

    /// The tokens that the node may have spent since its last report.
    fn unreported(&self, now: u64) -> u64 {
        let since = now.saturating_sub(self.reported_at);
        self.held.min(milli_tokens(self.pace, since).div_ceil(1_000))
    }

    /// The tokens that the node can use in a ttl.
    fn useful(&self) -> u64 {
        let burst = match self.quota {
            Some(Quota::Bucket { max_tokens, .. }) => u64::from(max_tokens),
            Some(Quota::Nothing) | None => 0,
        };
        milli_tokens(self.want.min(self.pace), self.terms.ttl()).div_ceil(1_000) + burst + 1
    }

    fn next_quota(&mut self, now: u64, grant: &Grant) -> Quota {
        // The tokens that it holds must last until more can be taken: for a third of a ttl.
        let held = self.held.saturating_sub(self.unreported(now));
        let third = self.terms.ttl() / 3;
        let covered = u128::from(held) * 1_000 * u128::from(NANOS_PER_SECOND) / u128::from(third);
        let pace = grant.pace.min(u64::try_from(covered).unwrap_or(u64::MAX));
        // A node is never left without any token while the bucket is not paused.
        let least = 1_000 * NANOS_PER_SECOND / self.terms.ttl();
        let (burst, pace) = split(grant.most, pace.max(least.max(1)), self.want, grant.share);
        if let Some(Quota::Bucket { max_tokens, .. }) = self.quota
            && pace <= self.pace + self.pace / 32
            && pace >= self.pace - self.pace / 64
            && u64::from(max_tokens).abs_diff(burst) <= burst / 4
            && let Some(quota) = self.quota
        {
            return quota;
        }
        let max_tokens = u32::try_from(burst).unwrap_or(u32::MAX);
        let mut refill = RefillRate::new(pace);
        if let Some(Quota::Bucket { max_tokens: max_before, refill: before }) = self.quota
            && (max_before, before.tokens) == (max_tokens, refill.tokens)
            && before.seconds != refill.seconds
        {
            // Some nodes compare everything but the seconds with what they have.
            refill.tokens = refill.tokens.saturating_mul(2);
            refill.seconds = refill.seconds.saturating_mul(2);
        }
        self.pace = pace;
        Quota::Bucket { max_tokens, refill }
    }
}

impl RefillRate {
    /// The rate that is nearest below `rate` thousandths of a token per second, within a 128th where the
    /// rate is at least a token in eight seconds.
    pub fn new(rate: u64) -> Self {
        let rate = rate.max(1);
        let mut best = (u64::from(u32::MAX), 1, 1_000_u64.div_ceil(rate));
        for seconds in 1..=LONGEST_FILL {
            let milli = rate.saturating_mul(seconds);
            let tokens = milli / 1_000;
            if tokens == 0 {
                continue;
            }
            let lost = (milli - tokens * 1_000).saturating_mul(1_000_000) / milli;
            if lost < best.0 {
                best = (lost, tokens, seconds);
            }
            if lost <= 1_000_000 / 128 {
                break;
            }
        }
        let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Self { tokens: narrow(best.1), seconds: narrow(best.2) }
    }
}

/// Divides the tokens that a node may spend in a second into those that it may spend at once, and the
/// rate at which they come back: a token bucket gives both in its first second.
fn split(most: u64, pace: u64, want: u64, share: ShareKind) -> (u64, u64) {
    if share == ShareKind::Whole || pace > want + want / 64 {
        // As much as it needs, and the rest at once.
        let needed = (want + want / 64).min(pace);
        let burst = most.saturating_sub(needed.div_ceil(1_000)).min(AT_ONCE.max(most / 26));
        let burst = burst.max(if most >= 4 { 2 } else { 1 });
        let left = most.saturating_sub(burst).saturating_mul(1_000);
        return (burst, pace.min(left.max(needed)));
    }
    // It denies requests all the time, so its bucket is hardly ever full.
    let burst = if most >= SMALL { (most / 40).max(2) } else { 1 };
    let left = most.saturating_sub(burst / 2).max(1).saturating_mul(1_000);
    (burst, pace.min(left))
}
