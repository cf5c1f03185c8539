//! A node's budget of a shared bucket: tokens of each limit that the node has paid for ahead, for calls
//! that cost a number of tokens of each limit.

use crate::bounds::MAX_TIERS;
use crate::cost::Cost;
use crate::decision::TieredDecision;
use crate::limit::Limit;
use crate::operation::Operation;
use crate::timeline::Timeline;

use super::rate::milli_tokens;
use super::spending_window::{SpendingWindow, TTL_BINS};
use super::terms::{LeaseTerms, rate_of};

/// A budget is renewed, or looked at, this many bins after it was last taken.
const RENEWED_AFTER: u64 = 5;

/// A budget is spent for at most this many bins after it was last taken. What is left goes back within
/// a bin more. Together with the bins of the window that is less than a ttl, on which the bound of
/// the fleet rests; see [`Budget`].
const SPENT_FOR: u64 = 6;

/// A node that has spent nothing for this many bins gives its budget back.
const IDLE_AFTER: u64 = 3;

/// A budget is taken only if it pays for this many calls of the usual cost. A smaller one would save
/// no round trips, and the bucket is scarce then.
const FEWEST_CALLS: u64 = 4;

/// A node takes up to this part of the tokens that the bucket had at its last answer.
const PART_OF_FREE: u64 = 4;

/// A budget is renewed early when less than this part of it is left.
const LOW_PART: u64 = 4;

/// Two requests are at least this part of a ttl apart.
const LEAST_INTERVAL_PART: u64 = 20;

/// Tokens that one node has taken from a shared bucket ahead of its calls, one number for each limit.
///
/// The node pays for a budget by an ordinary check with a cost for each limit, spends it without a pace,
/// and gives back what is left by a credit. A budget refuses nobody: a call that it cannot pay asks
/// the bucket.
///
/// A node never holds more tokens than it has spent within the last ttl. So what all budgets hold is at
/// most what the fleet has spent within a ttl. Let `E` be the tokens that bucket and budgets have
/// together beyond the burst. Then `E(now) <= spent` and `E(now) <= E(a ttl ago) + rate * ttl - spent`,
/// and so `E` never exceeds `rate * ttl`. Within any stretch `X` the fleet spends at most
/// `burst + rate * (X + ttl)` tokens of each limit.
///
/// A host asks it about each check, and regularly what to send. It does no I/O. Times are in
/// nanoseconds on the node's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    ttl: u64,
    /// The number of limits.
    tiers: usize,
    /// The most tokens of each limit that the node may hold: its largest share of what comes in a ttl.
    most: [u64; MAX_TIERS],
    /// How long each limit takes to refill, in nanoseconds; or a ttl, for which slices may be taken
    /// ahead, if that is longer. A bucket that owes more is paused.
    refill: [u64; MAX_TIERS],
    spent: SpendingWindow,
    held: [u64; MAX_TIERS],
    /// What the budget held when it was last taken.
    taken: [u64; MAX_TIERS],
    /// From then on nothing is spent.
    lapses_at: u64,
    /// What the last answer of the bucket said, and when it came; 0 before the first.
    bucket: [Known; MAX_TIERS],
    known_at: u64,
    request: Option<Request>,
    /// When the last request was made; 0 before the first.
    asked_at: u64,
    /// Whether a call has gone to the bucket since the last time that the host was told to be quick.
    has_missed: bool,
    /// When a call with a cost for each limit last came.
    last_apart: u64,
    is_closing: bool,
}

/// What the bucket has said of one limit.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    free: u64,
    /// The time until the limit is full, counted from the answer.
    reset_after: u64,
}

/// A request to which the answer is still to come.
#[derive(Clone, Copy, Debug)]
struct Request {
    /// The tokens that it takes.
    tokens: [u64; MAX_TIERS],
    /// What the budget is to hold at most afterwards; the rest goes back.
    kept: [u64; MAX_TIERS],
    /// Whether the budget was dropped meanwhile, so that nothing of the answer is kept.
    is_void: bool,
}

/// How a budget has paid for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetSpend {
    /// The limit that the call costs something and of which the fewest tokens are left, counted from
    /// 0; the first on a tie.
    pub tier: u8,
    /// The tokens of that limit that the budget has left.
    pub remaining: u64,
    /// The time until the bucket is full in that limit, as far as this node knows, in nanoseconds.
    pub reset_after: u64,
}

impl Budget {
    /// An empty budget of a bucket with these limits, for a key whose calls cost a number of tokens of
    /// each limit from `now` on.
    pub fn new(terms: &LeaseTerms, limits: &[Limit], now: u64) -> Self {
        let (mut most, mut refill) = ([0; MAX_TIERS], [0; MAX_TIERS]);
        for ((most, refill), limit) in most.iter_mut().zip(&mut refill).zip(limits) {
            let share = u128::from(milli_tokens(rate_of(limit), terms.ttl()))
                * u128::from(terms.max_share())
                / 1_000_000;
            *most = u64::try_from(share).unwrap_or(u64::MAX);
            *refill = match limit.timeline() {
                Timeline::Smooth { .. } => limit.span().max(terms.ttl()),
                Timeline::Stepped { tokens, period } => {
                    limit.burst().div_ceil(tokens).saturating_mul(period)
                }
            };
        }
        Self {
            ttl: terms.ttl(),
            tiers: limits.len().min(MAX_TIERS),
            most,
            refill,
            spent: SpendingWindow::starting(now, terms.ttl()),
            held: [0; MAX_TIERS],
            taken: [0; MAX_TIERS],
            lapses_at: 0,
            bucket: [Known::default(); MAX_TIERS],
            known_at: 0,
            request: None,
            asked_at: 0,
            has_missed: false,
            last_apart: now,
            is_closing: false,
        }
    }

    /// Whether calls with a cost for each limit still come: one has come within the last two ttls. The
    /// budget then pays for all calls on the key, and there is no slice beside it.
    pub const fn is_used(&self, now: u64) -> bool {
        now < self.last_apart.saturating_add(2 * self.ttl)
    }

    /// Whether this value can be dropped: it holds nothing, waits for nothing, and is not used.
    pub fn is_over(&self, now: u64) -> bool {
        !self.is_used(now) && self.request.is_none() && self.holds_nothing()
    }

    /// Pays for a call of `cost`, within the bursts and with as many numbers as limits. `None` if the
    /// bucket must be asked.
    pub fn spend(&mut self, now: u64, cost: &Cost) -> Option<BudgetSpend> {
        if cost.uniform().is_none() {
            self.last_apart = self.last_apart.max(now);
        }
        let Some(spend) = self.peek(now, cost) else {
            self.has_missed = true;
            return None;
        };
        for (tier, held) in self.held.iter_mut().enumerate().take(self.tiers) {
            *held -= cost.of_tier(tier);
        }
        self.spent.count(now, cost);
        Some(spend)
    }

    /// What [`spend`](Self::spend) would answer, with nothing spent.
    pub fn peek(&self, now: u64, cost: &Cost) -> Option<BudgetSpend> {
        if now >= self.lapses_at || self.is_closing {
            return None;
        }
        let mut least: Option<BudgetSpend> = None;
        for (number, tier) in (0u8..).zip(0..self.tiers) {
            let tokens = cost.of_tier(tier);
            if tokens == 0 {
                continue;
            }
            let remaining = self.held[tier].checked_sub(tokens)?;
            if least.is_none_or(|least| remaining < least.remaining) {
                let passed = now.saturating_sub(self.known_at);
                let reset_after = self.bucket[tier].reset_after.saturating_sub(passed);
                least = Some(BudgetSpend { tier: number, remaining, reset_after });
            }
        }
        least
    }

    /// Notes the bucket's own answer to a call that this budget has not paid; `None` if it gave none.
    pub fn answered_directly(&mut self, now: u64, cost: &Cost, answer: Option<&TieredDecision>) {
        let Some(answer) = answer else { return };
        self.note(now, answer);
        if self.is_paused(answer) {
            self.discard();
        } else if answer.allowed {
            self.spent.count(now, cost);
        }
    }

    /// Whether the host should call [`ask`](Self::ask) before the next
    /// [`tick`](LeaseTerms::tick). To be called after each call on the key.
    pub fn is_urgent(&mut self, now: u64) -> bool {
        if self.request.is_some() || !self.may_ask(now) {
            return false;
        }
        let has_missed = core::mem::take(&mut self.has_missed);
        (has_missed || self.is_low(&self.taken))
            && self.wanted(now).is_some_and(|wanted| self.is_low(&wanted))
    }

    /// The operation to run on the bucket at `now`, if any: a check that takes tokens, or a peek. Its
    /// answer goes to [`answered`](Self::answered). A host calls this every
    /// [`tick`](LeaseTerms::tick), and whenever it [is urgent](Self::is_urgent).
    pub fn ask(&mut self, now: u64) -> Option<Operation> {
        if self.request.is_some() {
            return None;
        }
        let wanted = if self.is_closing || !self.is_used(now) { None } else { self.wanted(now) };
        let Some(kept) = wanted else {
            // Before tokens go back the bucket is looked at: they would shorten a hold.
            let is_left = now >= self.lapses_at || self.is_closing || self.is_idle(now);
            return (is_left && !self.holds_nothing()).then(|| self.look(now, [0; MAX_TIERS]));
        };
        let is_due = now >= self.asked_at.saturating_add(RENEWED_AFTER * self.ttl / TTL_BINS);
        if !self.may_ask(now) || !is_due && !self.is_low(&kept) {
            return None;
        }
        let tokens: [u64; MAX_TIERS] =
            core::array::from_fn(|tier| kept[tier].saturating_sub(self.held[tier]));
        match Cost::each(&tokens[..self.tiers]) {
            Ok(cost) if !cost.is_zero() => {
                self.asked_at = now;
                self.request = Some(Request { tokens, kept, is_void: false });
                Some(Operation::Check { cost })
            }
            _ => Some(self.look(now, kept)),
        }
    }

    /// Takes the bucket's answer to the last request, `None` if it gave none. Answers what to give back
    /// by a credit.
    pub fn answered(&mut self, now: u64, answer: Option<&TieredDecision>) -> Option<Cost> {
        let Request { tokens, kept, is_void } = self.request.take()?;
        let takes = tokens != [0; MAX_TIERS];
        let Some(answer) = answer else {
            // Tokens that were taken all the same are lost, and time pays for them.
            if !takes {
                self.discard();
            }
            return None;
        };
        self.note(now, answer);
        if is_void || self.is_paused(answer) {
            self.discard();
            return None;
        }
        if takes && !answer.allowed {
            return if self.is_closing { self.give_back([0; MAX_TIERS]) } else { None };
        }
        for (held, tokens) in self.held.iter_mut().zip(tokens) {
            *held = held.saturating_add(tokens);
        }
        if self.is_closing {
            return self.give_back([0; MAX_TIERS]);
        }
        if kept != [0; MAX_TIERS] {
            self.lapses_at = self.asked_at.saturating_add(SPENT_FOR * self.ttl / TTL_BINS);
            self.taken = kept;
        }
        self.give_back(kept)
    }

    /// Whether the answer to the last request is still to come.
    pub const fn is_asking(&self) -> bool {
        self.request.is_some()
    }

    /// The last request was not answered.
    pub fn failed(&mut self) {
        self.answered(0, None);
    }

    /// Drops the tokens, which were taken before the bucket was held or reset: they are not spent, and
    /// not given back, because that would shorten the hold.
    pub fn discard(&mut self) {
        (self.held, self.taken, self.lapses_at) = ([0; MAX_TIERS], [0; MAX_TIERS], 0);
        // What the bucket said before is not true any more.
        self.known_at = 0;
        if let Some(request) = &mut self.request {
            request.is_void = true;
        }
    }

    /// Ends the budget: nothing is spent any more, and what it holds goes back by
    /// [`ask`](Self::ask) and [`answered`](Self::answered).
    pub const fn close(&mut self) {
        self.is_closing = true;
    }

    /// What the node is to hold: what it has spent of late, as far as the bucket is not scarce. `None` if
    /// that would pay for too few calls, or if no calls come.
    fn wanted(&mut self, now: u64) -> Option<[u64; MAX_TIERS]> {
        let is_known = self.known_at > 0 && now < self.known_at.saturating_add(self.ttl);
        let (mut spent, calls) = self.spent.totals(now);
        // A cost for all limits also has numbers for those that are not there.
        spent[self.tiers..].fill(0);
        if !is_known || calls < FEWEST_CALLS || self.is_idle(now) {
            return None;
        }
        let mut most = spent;
        let mut payable = calls;
        for (tier, most) in most.iter_mut().enumerate() {
            if spent[tier] > 0 {
                let free = self.bucket[tier].free / PART_OF_FREE;
                *most = spent[tier].min(free).min(self.most[tier]);
                payable = payable.min(scaled(*most, calls, spent[tier]));
            }
        }
        if payable < FEWEST_CALLS {
            return None;
        }
        // The limit that pays for the fewest calls says how many: more of another is of no use.
        Some(core::array::from_fn(|tier| scaled(spent[tier], payable, calls).min(most[tier])))
    }

    fn is_low(&self, wanted: &[u64; MAX_TIERS]) -> bool {
        let mut both = self.held.iter().zip(wanted);
        both.any(|(held, wanted)| *wanted > 0 && held.saturating_mul(LOW_PART) < *wanted)
    }

    fn is_idle(&self, now: u64) -> bool {
        now >= self.spent.last().saturating_add(IDLE_AFTER * self.ttl / TTL_BINS)
    }

    fn holds_nothing(&self) -> bool {
        self.held == [0; MAX_TIERS]
    }

    fn may_ask(&self, now: u64) -> bool {
        self.asked_at == 0 || now >= self.asked_at.saturating_add(self.ttl / LEAST_INTERVAL_PART)
    }

    const fn look(&mut self, now: u64, kept: [u64; MAX_TIERS]) -> Operation {
        self.asked_at = now;
        self.request = Some(Request { tokens: [0; MAX_TIERS], kept, is_void: false });
        Operation::Peek { cost: Cost::same(0) }
    }

    /// Gives back what the budget holds beyond `kept`.
    fn give_back(&mut self, kept: [u64; MAX_TIERS]) -> Option<Cost> {
        let mut surplus = [0; MAX_TIERS];
        for ((surplus, held), kept) in surplus.iter_mut().zip(&mut self.held).zip(kept) {
            *surplus = held.saturating_sub(kept);
            *held -= *surplus;
        }
        Cost::each(&surplus[..self.tiers]).ok().filter(|cost| !cost.is_zero())
    }

    fn note(&mut self, now: u64, answer: &TieredDecision) {
        // An answer for the binding limit alone says nothing of the others.
        if answer.tiers().len() == self.tiers {
            for (known, tier) in self.bucket.iter_mut().zip(answer.tiers()) {
                *known = Known { free: tier.remaining, reset_after: tier.reset_after };
            }
            self.known_at = now;
        }
    }

    /// Whether the bucket owes more than calls can make it owe: it is held, or has reserved slots.
    fn is_paused(&self, answer: &TieredDecision) -> bool {
        let refill = |tier: u8| self.refill.get(usize::from(tier)).copied().unwrap_or(0);
        answer.tiers().iter().any(|tier| tier.reset_after > refill(tier.tier))
    }
}

/// `tokens * part / whole`, rounded down.
fn scaled(tokens: u64, part: u64, whole: u64) -> u64 {
    let product = u128::from(tokens) * u128::from(part);
    u64::try_from(product / u128::from(whole.max(1))).unwrap_or(u64::MAX)
}
