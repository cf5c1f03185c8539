//! A node's slice of a shared bucket for calls that cost a number of tokens of each limit.

use super::grant::{BudgetAsk, Grant, LeaseAsk, ShareKind};
use super::rate_meter::RateMeter;
use super::slice::{Next, Slice, SpendResult};
use super::terms::LeaseTerms;
use crate::bounds::MAX_TIERS;
use crate::cost::Cost;

/// A [`Slice`] of the limit that sets the pace, and a budget of each other limit. A call is paid by
/// all of them or by none.
///
/// The budgets are not paced: they hold what the calls cost that the slice allows. Where one has too
/// little for a call, the bucket decides that call.
#[derive(Clone, Copy, Debug)]
pub struct BudgetSlice {
    terms: LeaseTerms,
    paced: Slice,
    /// One for each limit. That of the limit that sets the pace is not used.
    budgets: [Budget; MAX_TIERS],
}

#[derive(Clone, Copy, Debug)]
struct Budget {
    /// The tokens that calls have asked for.
    demand: RateMeter,
    /// Tokens taken from the bucket and not spent yet.
    held: u64,
}

impl BudgetSlice {
    /// A value that holds no slice yet, for a key first seen at `now`. The terms are those of
    /// [`LeaseTerms::for_budgets`].
    pub fn new(terms: LeaseTerms, now: u64) -> Self {
        let budget = Budget { demand: RateMeter::starting(now, terms.ttl()), held: 0 };
        Self { terms, paced: Slice::new(terms, now), budgets: [budget; MAX_TIERS] }
    }

    /// Spends the cost of each limit if the slice has all of them and the pace allows it.
    pub fn spend(&mut self, now: u64, cost: &Cost) -> SpendResult {
        let paced = self.paced_part(cost);
        let is_live = self.paced.is_live(now);
        if is_live
            && self.is_short(cost)
            && matches!(self.paced.peek(now, paced), SpendResult::Allowed { .. })
        {
            self.paced.pass_on(now, paced);
            self.count(now, cost);
            return SpendResult::Outside;
        }
        let spent = self.paced.spend(now, paced);
        if !is_live || spent != SpendResult::Outside {
            self.count(now, cost);
        }
        if let SpendResult::Allowed { .. } = spent {
            for (tier, budget) in self.budgets.iter_mut().enumerate() {
                if tier != usize::from(self.terms.tier()) {
                    budget.held = budget.held.saturating_sub(cost.of_tier(tier));
                }
            }
        }
        spent
    }

    /// What [`spend`](Self::spend) would answer. Nothing is spent, and nothing counts as demand.
    pub fn peek(&self, now: u64, cost: &Cost) -> SpendResult {
        match self.paced.peek(now, self.paced_part(cost)) {
            SpendResult::Allowed { .. } if self.is_short(cost) => SpendResult::Outside,
            spent => spent,
        }
    }

    /// As [`Slice::answered_directly`].
    pub fn answered_directly(&mut self, now: u64, cost: &Cost, allowed: bool) {
        self.paced.answered_directly(now, self.paced_part(cost), allowed);
    }

    /// As [`Slice::next`].
    pub fn next(&mut self, now: u64) -> Next {
        self.paced.next(now)
    }

    /// As [`Slice::is_urgent`].
    pub fn is_urgent(&mut self, now: u64) -> bool {
        self.paced.is_urgent(now)
    }

    /// As [`Slice::ask`].
    pub fn ask(&mut self, now: u64) -> LeaseAsk {
        if !self.paced.is_live(now) {
            self.drop_budgets();
        }
        let ask = self.paced.ask(now);
        let (calls, useful) = (self.paced.demanded(now), self.paced.useful(ask.want));
        let mut budgets = [BudgetAsk::default(); MAX_TIERS];
        for (tier, (budget, asked)) in self.budgets.iter_mut().zip(&mut budgets).enumerate() {
            if tier != usize::from(self.terms.tier()) {
                let tokens = budget.demand.total(now);
                let ratio = tokens.saturating_mul(1_000).div_ceil(calls.max(1));
                let ratio = ratio.min(self.terms.max_ratio());
                let needed = useful.saturating_mul(ratio).div_ceil(1_000);
                let returned = budget.held.saturating_sub(needed);
                budget.held -= returned;
                *asked = BudgetAsk { ratio, held: budget.held, returned };
            }
        }
        LeaseAsk { budgets: Some(budgets), ..ask }
    }

    /// As [`Slice::granted`].
    pub fn granted(&mut self, now: u64, grant: &Grant) {
        if !self.paced.is_live(now) {
            self.drop_budgets();
        }
        self.paced.granted(now, grant);
        if grant.share != ShareKind::None {
            for (budget, tokens) in self.budgets.iter_mut().zip(grant.budgets) {
                budget.held = budget.held.saturating_add(tokens);
            }
        }
        if grant.hold > 0 {
            // As those of the slice, they were taken before the pause.
            self.drop_budgets();
        }
    }

    /// As [`Slice::is_asking`].
    pub const fn is_asking(&self) -> bool {
        self.paced.is_asking()
    }

    /// As [`Slice::has_asked`].
    pub const fn has_asked(&self) -> bool {
        self.paced.has_asked()
    }

    /// As [`Slice::failed`].
    pub fn failed(&mut self) {
        self.paced.failed();
    }

    /// Gives up the slice, and answers the request that gives its tokens back to the bucket.
    pub fn leave(&mut self, now: u64) -> LeaseAsk {
        let is_live = self.paced.is_live(now);
        let returned = self.paced.leave(now);
        let budgets = self.budgets.map(|Budget { held, .. }| BudgetAsk {
            returned: if is_live { held } else { 0 },
            ..BudgetAsk::default()
        });
        *self = Self::new(self.terms, now);
        LeaseAsk { returned, budgets: Some(budgets), ..LeaseAsk::default() }
    }

    fn paced_part(&self, cost: &Cost) -> u64 {
        cost.of_tier(usize::from(self.terms.tier()))
    }

    /// Whether a budget has too few tokens.
    fn is_short(&self, cost: &Cost) -> bool {
        let is_short = |(tier, budget): (usize, &Budget)| {
            tier != usize::from(self.terms.tier()) && cost.of_tier(tier) > budget.held
        };
        self.budgets.iter().enumerate().any(is_short)
    }

    fn count(&mut self, now: u64, cost: &Cost) {
        for (tier, budget) in self.budgets.iter_mut().enumerate() {
            if tier != usize::from(self.terms.tier()) && cost.of_tier(tier) > 0 {
                budget.demand.count(now, cost.of_tier(tier));
            }
        }
    }

    fn drop_budgets(&mut self) {
        for budget in &mut self.budgets {
            budget.held = 0;
        }
    }
}
