//! A node's slice of a shared bucket: tokens that belong to the node for a time, and the pace at
//! which it spends them.

use super::grant::{Grant, LeaseAsk, ShareKind};
use super::rate::{RATE_NANOS, milli_tokens};
use super::rate_meter::{MANY, RateMeter};
use super::sliding_second::SlidingSecond;
use super::terms::LeaseTerms;
use crate::bounds::NANOS_PER_SECOND;

/// How long calls may lag behind the pace and still catch up at once: 30 ms. That is enough for a
/// scheduler's hiccup, and below a twentieth of the second in which the excess would show.
const LAG: u64 = 30_000_000;

/// Calls may always catch up this many tokens at once, also where a token takes longer than
/// [`LAG`].
const CATCH_UP: u64 = 5;

/// A demand that differs from what was asked for by a quarter and by more than this (10 tokens per
/// second, in thousandths) is worth another request, however large the limit is. With a threshold
/// that only grows with the limit, a slice taken for less demand would refuse what the bucket
/// would allow.
const MATTERS: u64 = 10_000;

/// A key gets a slice from this many tokens in two ttls on, once it has been watched for a 20th of
/// a ttl, or at once from [`MANY`] tokens on.
const WARM: u64 = 2;

/// One node's slice of one shared bucket.
///
/// A host asks it about each check, and regularly whether to renew it. It does no I/O. Times are
/// in nanoseconds on the node's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Slice {
    terms: LeaseTerms,
    /// The tokens that calls have asked for.
    demand: RateMeter,
    /// The tokens that were spent from the slice.
    spending: RateMeter,
    /// Tokens taken from the bucket and not spent yet.
    held: u64,
    /// Nanoseconds for each token; 0 while none may be spent.
    gap: u64,
    /// The time up to which the pace is used up.
    paced_until: u64,
    /// When the slice lapses: the tokens then no longer belong to the node. 0 without a slice.
    lapses_at: u64,
    /// The end of the pause that the last grant reported.
    paused_until: u64,
    share: ShareKind,
    /// Whether the pace has just grown by more than a 16th, so that it may grow further.
    is_growing: bool,
    /// The most tokens that the last grant lets the node spend in a second.
    most: u64,
    /// The most tokens in a second that the node's record holds until the node asks again: it had
    /// them, and may have spent them.
    promised: u64,
    /// Whether a call was refused for want of tokens since the last request.
    is_dry: bool,
    /// When the node last asked for a slice; 0 if it never has.
    asked_at: u64,
    /// Whether the answer to the last request is still to come.
    is_asking: bool,
    /// The rate that was asked for last.
    want: u64,
    /// The tokens spent in the last second, from the slice and from the bucket directly.
    second: SlidingSecond,
    /// Tokens that the bucket gave directly since the last new slice began.
    direct: u64,
    /// Tokens that calls have asked the bucket for while there was no slice, and that it has not
    /// answered yet.
    unanswered: u64,
    /// When a call last asked the bucket while there was no slice.
    sent_at: u64,
}

/// How a slice answers a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpendResult {
    /// The tokens were spent from the slice.
    Allowed {
        /// Whole tokens that can still be spent at once.
        remaining: u64,
        /// Nanoseconds until the slice can spend as much at once as it ever can.
        reset_after: u64,
    },
    /// The pace does not allow it now, or the slice has too few tokens.
    Refused {
        /// Whole tokens that could be spent at once.
        remaining: u64,
        /// Nanoseconds until the same check may be allowed.
        retry_after: u64,
        /// Nanoseconds until the slice can spend as much at once as it ever can.
        reset_after: u64,
    },
    /// There is no slice, or the cost is more than it ever spends at once: ask the bucket.
    Outside,
}

/// What a host has to do for a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing now.
    Nothing,
    /// Take or renew the slice, with [`Slice::ask`].
    Ask,
    /// Give the slice back, with [`Slice::leave`]: the key is not used any more.
    Leave,
    /// Drop this value: it holds no slice, and nothing was asked for in the last two ttls.
    Forget,
}

impl Slice {
    /// A value that holds no slice yet, for a key first seen at `now`.
    pub fn new(terms: LeaseTerms, now: u64) -> Self {
        Self {
            terms,
            demand: RateMeter::starting(now, terms.ttl()),
            spending: RateMeter::starting(now, terms.ttl()),
            held: 0,
            gap: 0,
            paced_until: 0,
            lapses_at: 0,
            paused_until: 0,
            share: ShareKind::Whole,
            is_growing: false,
            most: 0,
            promised: 0,
            is_dry: false,
            asked_at: 0,
            is_asking: false,
            want: 0,
            second: SlidingSecond::empty(),
            direct: 0,
            unanswered: 0,
            sent_at: 0,
        }
    }

    /// Spends `cost` tokens of the slice if it has them and the pace allows it.
    pub fn spend(&mut self, now: u64, cost: u64) -> SpendResult {
        if cost == 0 {
            return SpendResult::Outside;
        }
        if now >= self.lapses_at {
            self.demand.count(now, cost);
            self.unanswered = self.unanswered_at(now).saturating_add(cost);
            self.sent_at = now;
            return SpendResult::Outside;
        }
        let slack = self.slack();
        let charge = cost.saturating_mul(self.gap);
        if charge > slack.saturating_add(self.gap) || cost > self.most_ever() {
            return SpendResult::Outside;
        }
        self.demand.count(now, cost);
        let ahead = self.paced_until.saturating_sub(now);
        let late = (ahead + charge).saturating_sub(slack + self.gap);
        let late = late.max(self.second.full_for(now, cost));
        let pause = self.paused_until.saturating_sub(now);
        if self.gap > 0 && pause == 0 && late == 0 && cost <= self.held {
            self.held -= cost;
            self.paced_until = now.saturating_add(ahead + charge);
            self.second.spend(now, cost);
            self.spending.count(now, cost);
            return SpendResult::Allowed {
                remaining: self.at_once(now),
                reset_after: ahead + charge,
            };
        }
        self.is_dry |= cost > self.held;
        let needs_more = cost > self.held || self.gap == 0;
        let refresh = if needs_more { self.due().saturating_sub(now) } else { 0 };
        let retry_after = late.max(pause).max(refresh).max(1);
        SpendResult::Refused {
            remaining: self.at_once(now),
            retry_after,
            reset_after: ahead.max(pause),
        }
    }

    /// What [`spend`](Self::spend) would answer. Nothing is spent, and nothing counts as demand.
    pub fn peek(&self, now: u64, cost: u64) -> SpendResult {
        { *self }.spend(now, cost)
    }

    /// Counts the bucket's answer to a check of `tokens` tokens for which [`spend`](Self::spend)
    /// answered [`SpendResult::Outside`].
    ///
    /// Tokens that the bucket gave count in the second in which the answer comes. Tokens given
    /// while there was no slice also count against the pace of the first one, unless that grants
    /// all that is wanted.
    pub fn answered_directly(&mut self, now: u64, tokens: u64, allowed: bool) {
        self.unanswered = self.unanswered.saturating_sub(tokens);
        if allowed {
            self.direct = self.direct.saturating_add(tokens);
            self.second.spend(now, tokens);
        }
    }

    /// The tokens that the bucket may still give. After a second without another direct check no
    /// caller waits for an answer any more.
    fn unanswered_at(&self, now: u64) -> u64 {
        if now >= self.sent_at.saturating_add(NANOS_PER_SECOND) { 0 } else { self.unanswered }
    }

    /// When to renew the slice at the latest.
    fn due(&self) -> u64 {
        self.asked_at.saturating_add(match self.share {
            _ if self.is_shrinking() => self.least_interval(),
            ShareKind::Whole => self.terms.ttl() / 2,
            ShareKind::Fair if !self.is_growing => self.terms.ttl() / 6,
            ShareKind::Fair | ShareKind::Short | ShareKind::None => self.least_interval(),
        })
    }

    /// What the host has to do at `now`. It asks this every [`tick`](LeaseTerms::tick), and whenever it
    /// [is urgent](Self::is_urgent).
    pub fn next(&mut self, now: u64) -> Next {
        if self.is_asking {
            return Next::Nothing;
        }
        let may_ask = self.may_ask(now);
        if now >= self.lapses_at {
            return if may_ask && self.is_warm(now) {
                Next::Ask
            } else if self.demand.total(now) == 0 {
                Next::Forget
            } else {
                Next::Nothing
            };
        }
        if now >= self.due() || may_ask && (self.is_dry || self.has_changed(now)) {
            return if now > self.demand.last().saturating_add(2 * self.terms.ttl()) {
                Next::Leave
            } else {
                Next::Ask
            };
        }
        Next::Nothing
    }

    /// Whether the host should ask for the [`next`](Self::next) thing to do before the next
    /// [`tick`](LeaseTerms::tick). To be called after a check that was not allowed: there may be no
    /// slice, or it may have run dry.
    pub fn is_urgent(&mut self, now: u64) -> bool {
        let needed = if now < self.lapses_at { self.is_dry } else { self.is_warm(now) };
        needed && !self.is_asking && self.may_ask(now)
    }

    /// Whether the key is asked for often enough to be worth a slice.
    fn is_warm(&mut self, now: u64) -> bool {
        let tokens = self.demand.total(now);
        tokens >= MANY || tokens >= WARM && self.demand.age(now) >= self.least_interval()
    }

    fn may_ask(&self, now: u64) -> bool {
        self.asked_at == 0 || now >= self.asked_at.saturating_add(self.least_interval())
    }

    /// Whether demand differs so much from what was asked for that shares should change.
    fn has_changed(&mut self, now: u64) -> bool {
        let rate = self.demand.rate(now);
        let matters = (self.want / 4).max((self.terms.rate() / 32).min(MATTERS));
        if rate.abs_diff(self.want) <= matters {
            return false;
        }
        // A node with less than it wants gains nothing by asking for more.
        rate < self.want || self.share == ShareKind::Whole
    }

    /// The shortest time between two requests, whatever happens: a twentieth of the ttl.
    fn least_interval(&self) -> u64 {
        self.terms.ttl() / 20
    }

    /// The request to send to the bucket at `now`. Tokens that it gives back leave the slice at
    /// once.
    pub fn ask(&mut self, now: u64) -> LeaseAsk {
        let lapsed = now >= self.lapses_at;
        let want = self.demand.rate(now).clamp(1, self.terms.rate() * 2);
        if lapsed {
            (self.held, self.most) = (0, 0);
            self.second.allow(0);
        }
        let pace = RATE_NANOS.checked_div(u128::from(self.gap)).unwrap_or(0) as u64;
        let useful = milli_tokens(want.min(pace), self.terms.ttl()).div_ceil(1_000) + 1;
        let is_new = lapsed;
        let bound = self.promise(now, want);
        let spent = self.spending.average(now);
        let returned = self.held.saturating_sub(useful);
        self.held -= returned;
        (self.asked_at, self.want, self.is_asking, self.is_dry) = (now, want, true, false);
        LeaseAsk { want, spent, is_new, held: self.held, returned, bound }
    }

    /// Takes the grant that answers the last request. Its ttl counts from the time of
    /// [`ask`](Self::ask).
    pub fn granted(&mut self, now: u64, grant: &Grant) {
        self.is_asking = false;
        if now >= self.lapses_at {
            self.held = 0;
            self.paced_until = 0;
        }
        if grant.share == ShareKind::None {
            self.lapses_at = 0;
            self.asked_at = now.saturating_add(self.terms.ttl());
            return;
        }
        let first = self.lapses_at == 0 || now >= self.lapses_at;
        self.held = self.held.saturating_add(grant.tokens);
        self.lapses_at = self.asked_at.saturating_add(self.terms.ttl());
        self.share = grant.share;
        self.change_pace(now, grant);
        self.change_most(grant);
        if first {
            // A new slice has saved up no slack. Tokens that were spent directly count against
            // its pace if other nodes want them too.
            let direct = if grant.share == ShareKind::Whole { 0 } else { self.direct };
            let spent = direct.saturating_mul(self.gap).saturating_add(self.slack());
            self.paced_until = now.saturating_add(spent.min(self.terms.ttl()));
            self.direct = 0;
        }
        if grant.hold > 0 {
            // The held tokens were taken before the pause and must not be spent after it.
            self.held = 0;
            self.paused_until = self.paused_until.max(now.saturating_add(grant.hold));
        }
    }

    /// Whether the answer to the last request is still to come.
    pub const fn is_asking(&self) -> bool {
        self.is_asking
    }

    /// Whether the bucket has ever been asked for a slice.
    pub const fn has_asked(&self) -> bool {
        self.asked_at > 0
    }

    /// The last request was not answered: the slice is spent until it lapses.
    pub fn failed(&mut self) {
        self.is_asking = false;
        self.share = ShareKind::Fair;
    }

    /// Gives up the slice, and answers how many tokens to give back to the bucket.
    pub fn leave(&mut self, now: u64) -> u64 {
        let returned = if now < self.lapses_at { self.held } else { 0 };
        *self = Self::new(self.terms, now);
        returned
    }

    fn change_pace(&mut self, now: u64, grant: &Grant) {
        let pace = grant.pace;
        let before = RATE_NANOS.checked_div(u128::from(self.gap)).unwrap_or(0);
        self.is_growing = u128::from(pace) > before + before / 16;
        let gap = if pace == 0 { 0 } else { RATE_NANOS.div_ceil(u128::from(pace)) as u64 };
        let ahead = self.paced_until.saturating_sub(now);
        if gap > 0 && self.gap > 0 {
            // The pace stays ahead by the same number of tokens.
            let moved = u128::from(ahead) * u128::from(gap) / u128::from(self.gap);
            self.paced_until = now.saturating_add(u64::try_from(moved).unwrap_or(u64::MAX));
        }
        self.gap = gap;
    }

    /// The most tokens that any second will hold until the answer has come: as many as the last
    /// second holds or, if that is more, as the last grant allows and demand still needs. The node
    /// keeps to it from now on.
    fn promise(&mut self, now: u64, want: u64) -> u64 {
        let useful = milli_tokens(want + want / 8, NANOS_PER_SECOND) / 1_000 + 1;
        let bound = self.second.spent(now).max(self.most.min(useful));
        let bound = bound.saturating_add(self.unanswered_at(now));
        self.second.allow(bound);
        bound
    }

    /// Takes the granted number of tokens in a second. A node that has all that it wants may still
    /// spend up to the number that its record holds: its calls should not wait because it now
    /// wants less.
    fn change_most(&mut self, grant: &Grant) {
        self.most = grant.most;
        self.promised = self.second.most();
        let kept = if grant.share == ShareKind::Whole { self.promised } else { 0 };
        self.second.allow(grant.most.max(kept));
    }

    /// The most tokens that the slice ever spends within a second, even if other nodes still own
    /// some of them now.
    fn most_ever(&self) -> u64 {
        let paced = RATE_NANOS.checked_div(u128::from(self.gap)).unwrap_or(0) as u64 / 1_000;
        self.second.most().max(paced).max(1)
    }

    /// Whether the record still holds a good deal more than the grant allows in a second, so that
    /// other nodes wait for the difference.
    fn is_shrinking(&self) -> bool {
        self.promised > self.most + self.most / 16 + 1
    }

    /// How far ahead of the pace spending may get, beyond one token.
    fn slack(&self) -> u64 {
        LAG.max(self.gap * CATCH_UP)
    }

    /// The tokens that can be spent at `now`.
    fn at_once(&mut self, now: u64) -> u64 {
        if self.gap == 0 || now < self.paused_until {
            return 0;
        }
        let ahead = self.paced_until.saturating_sub(now);
        let paced = (self.slack() + self.gap).saturating_sub(ahead) / self.gap;
        paced.min(self.held).min(self.second.room(now))
    }
}
