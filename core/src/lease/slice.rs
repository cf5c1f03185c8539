//! A node's slice: tokens that are its own for a time, and the pace to spend them at.

use super::demand::{Demand, MANY};
use super::grant::{Grant, LeaseAsk, Part};
use super::second::Second;
use super::{LeaseTerms, RATE_NANOS, milli_tokens};

/// How far arrivals may lag behind the pace and catch up, where a token takes less: enough
/// for a scheduler's hiccup, and less than a twentieth of the second in which it would show.
const LAG: u64 = 30_000_000;

const SECOND: u64 = 1_000_000_000;

/// How many tokens late arrivals may catch up at once.
const CATCH_UP: u64 = 5;

/// A change of demand by so much always matters, however large the limit is: by then a slice
/// that was taken for less refuses what the bucket would allow.
const MATTERS: u64 = 10_000;

/// A key that is asked for so many tokens within a ttl gets a slice, once it has been watched for
/// long enough to see how many it will be, or they are many.
const WARM: u64 = 2;

/// One node's slice of one shared bucket.
///
/// It is asked about each check, and when a refresh is due; it does no I/O. Times are in
/// nanoseconds on the node's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Slice {
    terms: LeaseTerms,
    demand: Demand,
    /// What was spent of it.
    spent: Demand,
    /// Tokens taken from the bucket and not spent yet.
    held: u64,
    /// Nanoseconds for each token; 0 while none may be spent.
    gap: u64,
    /// The time up to which the pace is used up.
    paced: u64,
    /// Until when the tokens are its own.
    until: u64,
    /// The far side's pause, which the bucket has told about.
    hold: u64,
    part: Part,
    /// Its share has just grown, and may have more to grow.
    is_moving: bool,
    /// The most tokens of a second that are to be its own.
    most: u64,
    /// The most that are its own until it asks again: it had them, and may have spent them.
    promised: u64,
    /// Somebody was refused for want of tokens since the last refresh.
    is_dry: bool,
    /// When it last asked, if ever, and whether the answer is still to come.
    asked: u64,
    is_asking: bool,
    /// The rate that was asked for last.
    want: u64,
    /// What no second may hold too much of.
    second: Second,
    /// Tokens spent from the bucket directly since there has been no slice.
    direct: u64,
    /// Tokens that the bucket has been asked for directly and has not answered, and when last.
    unanswered: u64,
    sent: u64,
}

/// What becomes of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// Its tokens were in the slice, which has so many more to be spent at once.
    Allowed {
        /// Whole tokens.
        remaining: u64,
        /// Nanoseconds until the slice can spend as much at once as it ever can.
        reset_after: u64,
    },
    /// Not at this pace, or not from this slice.
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

/// What is to be done for a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing now.
    Nothing,
    /// Take or renew it: [`Slice::ask`].
    Ask,
    /// Nobody wants it any more: give it back, [`Slice::leave`].
    Leave,
    /// There is none, and too little demand for one.
    Forget,
}

impl Slice {
    /// No slice yet, for a key first seen at `now`.
    pub fn new(terms: LeaseTerms, now: u64) -> Self {
        Self {
            terms,
            demand: Demand::starting(now, terms.ttl()),
            spent: Demand::starting(now, terms.ttl()),
            held: 0,
            gap: 0,
            paced: 0,
            until: 0,
            hold: 0,
            part: Part::Whole,
            is_moving: false,
            most: 0,
            promised: 0,
            is_dry: false,
            asked: 0,
            is_asking: false,
            want: 0,
            second: Second::empty(),
            direct: 0,
            unanswered: 0,
            sent: 0,
        }
    }

    /// Spends `cost` tokens of the slice if they are there and the pace allows.
    pub fn spend(&mut self, now: u64, cost: u64) -> Spent {
        if cost == 0 {
            return Spent::Outside;
        }
        if now >= self.until {
            self.demand.offer(now, cost);
            self.unanswered = self.unanswered_at(now).saturating_add(cost);
            self.sent = now;
            return Spent::Outside;
        }
        let slack = self.slack();
        let charge = cost.saturating_mul(self.gap);
        if charge > slack.saturating_add(self.gap) || cost > self.most_ever() {
            return Spent::Outside;
        }
        self.demand.offer(now, cost);
        let ahead = self.paced.saturating_sub(now);
        let late = (ahead + charge).saturating_sub(slack + self.gap);
        let late = late.max(self.second.full_for(now, cost));
        let pause = self.hold.saturating_sub(now);
        if self.gap > 0 && pause == 0 && late == 0 && cost <= self.held {
            self.held -= cost;
            self.paced = now.saturating_add(ahead + charge);
            self.second.spend(now, cost);
            self.spent.offer(now, cost);
            return Spent::Allowed { remaining: self.at_once(now), reset_after: ahead + charge };
        }
        self.is_dry |= cost > self.held;
        let needs_more = cost > self.held || self.gap == 0;
        let refresh = if needs_more { self.due().saturating_sub(now) } else { 0 };
        let retry_after = late.max(pause).max(refresh).max(1);
        Spent::Refused { remaining: self.at_once(now), retry_after, reset_after: ahead.max(pause) }
    }

    /// Counts what the bucket has answered to a check of so many tokens that was not the
    /// slice's. Those it gave count in their second; and where there was no slice yet, in the
    /// pace of the first one, unless that is all that was wanted.
    pub fn answered_directly(&mut self, now: u64, tokens: u64, allowed: bool) {
        self.unanswered = self.unanswered.saturating_sub(tokens);
        if allowed {
            self.direct = self.direct.saturating_add(tokens);
            self.second.spend(now, tokens);
        }
    }

    /// What the bucket may still give. To what is a second old nobody waits for the answer.
    fn unanswered_at(&self, now: u64) -> u64 {
        if now >= self.sent.saturating_add(SECOND) { 0 } else { self.unanswered }
    }

    /// When to ask again at the latest.
    fn due(&self) -> u64 {
        self.asked.saturating_add(match self.part {
            _ if self.is_shrinking() => self.least_interval(),
            Part::Whole => self.terms.ttl() / 2,
            Part::Fair if !self.is_moving => self.terms.ttl() / 6,
            Part::Fair | Part::Short | Part::None => self.least_interval(),
        })
    }

    /// What is to be done at `now`. Whoever keeps the slice asks this at least every
    /// [`tick`](Self::tick), and when it [is urgent](Self::is_urgent).
    pub fn next(&mut self, now: u64) -> Next {
        if self.is_asking {
            return Next::Nothing;
        }
        let may_ask = self.may_ask(now);
        if now >= self.until {
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

    /// Whether to ask sooner than at the next [`tick`](Self::tick), after a check that was not
    /// allowed: there is no slice, or it has run dry.
    pub fn is_urgent(&mut self, now: u64) -> bool {
        let needed = if now < self.until { self.is_dry } else { self.is_warm(now) };
        needed && !self.is_asking && self.may_ask(now)
    }

    fn is_warm(&mut self, now: u64) -> bool {
        let tokens = self.demand.total(now);
        tokens >= MANY || tokens >= WARM && self.demand.age(now) >= self.least_interval()
    }

    fn may_ask(&self, now: u64) -> bool {
        self.asked == 0 || now >= self.asked.saturating_add(self.least_interval())
    }

    /// Whether the demand is so different from what was asked for that shares should be.
    fn has_changed(&mut self, now: u64) -> bool {
        let rate = self.demand.rate(now);
        let matters = (self.want / 4).max((self.terms.rate() / 32).min(MATTERS));
        if rate.abs_diff(self.want) <= matters {
            return false;
        }
        // More than its fair part it has asked for already.
        rate < self.want || self.part == Part::Whole
    }

    /// Refreshes are at least so far apart, whatever happens: a twentieth of the ttl.
    fn least_interval(&self) -> u64 {
        self.terms.ttl() / 20
    }

    /// How often to ask for the [`next`](Self::next) thing to be done: a sixteenth of the ttl.
    pub const fn tick(&self) -> u64 {
        self.terms.ttl() / 16
    }

    /// What to ask the bucket for at `now`. What is given back leaves the slice at once.
    pub fn ask(&mut self, now: u64) -> LeaseAsk {
        let lapsed = now >= self.until;
        let want = self.demand.rate(now).clamp(1, self.terms.rate() * 2);
        if lapsed {
            (self.held, self.most) = (0, 0);
            self.second.allow(0);
        }
        let pace = RATE_NANOS.checked_div(u128::from(self.gap)).unwrap_or(0) as u64;
        let useful = milli_tokens(want.min(pace), self.terms.ttl()).div_ceil(1_000) + 1;
        let is_new = lapsed;
        let bound = self.promise(now, want);
        let spent = self.spent.average(now);
        let returned = self.held.saturating_sub(useful);
        self.held -= returned;
        (self.asked, self.want, self.is_asking, self.is_dry) = (now, want, true, false);
        LeaseAsk { want, spent, is_new, held: self.held, returned, bound }
    }

    /// Takes what the bucket has given to what was asked at the time of [`ask`](Self::ask),
    /// from which its life counts.
    pub fn granted(&mut self, now: u64, grant: &Grant) {
        self.is_asking = false;
        if now >= self.until {
            self.held = 0;
            self.paced = 0;
        }
        if grant.part == Part::None {
            self.until = 0;
            self.asked = now.saturating_add(self.terms.ttl());
            return;
        }
        let first = self.until == 0 || now >= self.until;
        self.held = self.held.saturating_add(grant.tokens);
        self.until = self.asked.saturating_add(self.terms.ttl());
        self.part = grant.part;
        self.change_pace(now, grant);
        self.change_most(grant);
        if first {
            // No pause has been saved up, and what was spent directly counts where others want
            // it too.
            let direct = if grant.part == Part::Whole { 0 } else { self.direct };
            let spent = direct.saturating_mul(self.gap).saturating_add(self.slack());
            self.paced = now.saturating_add(spent.min(self.terms.ttl()));
            self.direct = 0;
        }
        if grant.hold > 0 {
            // What is held was taken before the pause, and is not for after it.
            self.held = 0;
            self.hold = self.hold.max(now.saturating_add(grant.hold));
        }
    }

    /// Whether the bucket has ever been asked for it.
    pub const fn has_asked(&self) -> bool {
        self.asked > 0
    }

    /// No answer came: what is held is spent until it lapses.
    pub fn failed(&mut self) {
        self.is_asking = false;
        self.part = Part::Fair;
    }

    /// Gives up the slice, and answers how many tokens go back.
    pub fn leave(&mut self, now: u64) -> u64 {
        let returned = if now < self.until { self.held } else { 0 };
        *self = Self::new(self.terms, now);
        returned
    }

    fn change_pace(&mut self, now: u64, grant: &Grant) {
        let pace = grant.pace;
        let before = RATE_NANOS.checked_div(u128::from(self.gap)).unwrap_or(0);
        self.is_moving = u128::from(pace) > before + before / 16;
        let gap = if pace == 0 { 0 } else { RATE_NANOS.div_ceil(u128::from(pace)) as u64 };
        let ahead = self.paced.saturating_sub(now);
        if gap > 0 && self.gap > 0 {
            // The same tokens ahead, at the new pace.
            let moved = u128::from(ahead) * u128::from(gap) / u128::from(self.gap);
            self.paced = now.saturating_add(u64::try_from(moved).unwrap_or(u64::MAX));
        }
        self.gap = gap;
    }

    /// The most tokens that any second will hold until the answer has come: what this one holds,
    /// or may by the last answer if there is still use for that. More are given back.
    fn promise(&mut self, now: u64, want: u64) -> u64 {
        let useful = milli_tokens(want + want / 8, SECOND) / 1_000 + 1;
        let bound = self.second.spent(now).max(self.most.min(useful));
        let bound = bound.saturating_add(self.unanswered_at(now));
        self.second.allow(bound);
        bound
    }

    /// Takes the most that a second may hold from now on. Who has all that it wants may go on
    /// with what it has promised, which it is not to wait for although it now wants less.
    fn change_most(&mut self, grant: &Grant) {
        self.most = grant.most;
        self.promised = self.second.most();
        let kept = if grant.part == Part::Whole { self.promised } else { 0 };
        self.second.allow(grant.most.max(kept));
    }

    /// The most tokens that it ever spends within a second, also if others still have them now.
    fn most_ever(&self) -> u64 {
        let paced = RATE_NANOS.checked_div(u128::from(self.gap)).unwrap_or(0) as u64 / 1_000;
        self.second.most().max(paced).max(1)
    }

    /// Whether others still wait for a good part of what it has spent within a second.
    fn is_shrinking(&self) -> bool {
        self.promised > self.most + self.most / 16 + 1
    }

    /// How far ahead of the pace spending may get, beyond one token.
    fn slack(&self) -> u64 {
        LAG.max(self.gap * CATCH_UP)
    }

    fn at_once(&mut self, now: u64) -> u64 {
        if self.gap == 0 || now < self.hold {
            return 0;
        }
        let ahead = self.paced.saturating_sub(now);
        let paced = (self.slack() + self.gap).saturating_sub(ahead) / self.gap;
        paced.min(self.held).min(self.second.room(now))
    }
}
