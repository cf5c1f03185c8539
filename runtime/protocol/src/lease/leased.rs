//! What a process has leased of one bucket: a slice, or a budget while calls have a cost for each limit.

use std::sync::Arc;

use tidegate_core::{Budget, Cost, Decision, Next, Operation, Slice, SpendResult, TieredDecision};

use super::LeasePlan;
use crate::lock::Mutex;

/// A key's slice or budget, or the wish for one.
pub(super) struct Leased {
    pub(super) key: Box<[u8]>,
    pub(super) state: Mutex<State>,
}

pub(super) struct State {
    pub(super) slice: Slice,
    /// `None` until a call has a cost for each limit, and again when such calls have stopped.
    pub(super) budget: Option<Box<Budget>>,
    /// A guard of the closing limiter, as long as a request of the slice is still unanswered. The grant
    /// then goes straight back.
    pub(super) closing: Option<Arc<OnDrop>>,
    /// The same guard, as long as a request of the budget is still unanswered.
    closing_budget: Option<Arc<OnDrop>>,
}

impl Leased {
    pub(super) fn new(key: &[u8], plan: &LeasePlan, now: u64) -> Self {
        let slice = Slice::new(*plan.terms(), now);
        let state = State { slice, budget: None, closing: None, closing_budget: None };
        Self { key: key.into(), state: Mutex::new(state) }
    }

    /// The last request of the slice was not answered.
    pub(super) fn slice_failed(&self) {
        self.state.lock().slice.failed();
    }

    /// The last request of the budget was not answered.
    pub(super) fn budget_failed(&self) {
        let mut state = self.state.lock();
        if let Some(budget) = &mut state.budget {
            budget.failed();
        }
        let closing = state.closing_budget.take();
        drop(state);
        // The callback of `closing` runs without the lock.
        drop(closing);
    }
}

impl State {
    /// The decision of a check, if a slice or a budget takes it, and whether the keeper should look at
    /// this key at once.
    pub(super) fn spend(
        &mut self,
        plan: &LeasePlan,
        now: u64,
        cost: &Cost,
    ) -> (Option<Decision>, bool) {
        match plan.tokens(cost) {
            Some(tokens) if !self.uses_budget(now) => {
                let spent = self.slice.spend(now, tokens);
                let is_allowed = matches!(spent, SpendResult::Allowed { .. });
                (plan.decision(spent), !is_allowed && self.slice.is_urgent(now))
            }
            _ => {
                let budget = self.budget.get_or_insert_with(|| Box::new(plan.budget(now)));
                let paid = budget.spend(now, cost).and_then(|spend| plan.paid(&spend));
                let is_urgent = budget.is_urgent(now);
                (paid, is_urgent || self.has_slice_to_leave())
            }
        }
    }

    /// The decision that [`spend`](Self::spend) would take.
    pub(super) fn peek(&self, plan: &LeasePlan, now: u64, cost: &Cost) -> Option<Decision> {
        match plan.tokens(cost) {
            Some(tokens) if !self.uses_budget(now) => plan.decision(self.slice.peek(now, tokens)),
            _ => plan.paid(&self.budget.as_ref()?.peek(now, cost)?),
        }
    }

    pub(super) fn answered_directly(
        &mut self,
        plan: &LeasePlan,
        now: u64,
        cost: &Cost,
        answer: Option<&TieredDecision>,
    ) {
        match (&mut self.budget, plan.tokens(cost)) {
            (Some(budget), _) if budget.is_used(now) => budget.answered_directly(now, cost, answer),
            (_, Some(tokens)) => {
                let allowed = answer.is_some_and(|answer| answer.allowed);
                self.slice.answered_directly(now, tokens, allowed);
            }
            _ => {}
        }
    }

    /// The operation to run for the budget, if any.
    pub(super) fn next_of_budget(&mut self, now: u64) -> Option<Operation> {
        let budget = self.budget.as_mut()?;
        let operation = budget.ask(now);
        if budget.is_over(now) {
            self.budget = None;
        }
        operation
    }

    /// What to do for the slice. It is given up while a budget is used: together they would hold twice
    /// what the calls need.
    pub(super) fn next(&mut self, now: u64) -> Next {
        if self.uses_budget(now) {
            return if self.has_slice_to_leave() { Next::Leave } else { Next::Nothing };
        }
        match self.slice.next(now) {
            Next::Forget if self.budget.is_some() => Next::Nothing,
            next => next,
        }
    }

    /// Takes the answer to the budget's request. Answers what to give back, and who waits for that.
    pub(super) fn take_budget(
        &mut self,
        now: u64,
        answer: Option<&TieredDecision>,
        closing: Option<Arc<OnDrop>>,
    ) -> (Option<Cost>, Option<Arc<OnDrop>>) {
        let surplus = self.budget.as_mut().and_then(|budget| budget.answered(now, answer));
        (surplus, closing.or_else(|| self.closing_budget.take()))
    }

    /// Ends the budget, and answers the operation that precedes giving it back. Where a request is still
    /// unanswered, that follows its answer.
    pub(super) fn close_budget(&mut self, now: u64, closing: &Arc<OnDrop>) -> Option<Operation> {
        let budget = self.budget.as_mut()?;
        budget.close();
        if budget.is_asking() {
            self.closing_budget = Some(Arc::clone(closing));
        }
        budget.ask(now)
    }

    fn uses_budget(&self, now: u64) -> bool {
        self.budget.as_ref().is_some_and(|budget| budget.is_used(now))
    }

    fn has_slice_to_leave(&self) -> bool {
        self.slice.has_asked() && !self.slice.is_asking()
    }
}

/// Runs a callback when the last holder lets go.
pub(super) struct OnDrop(pub(super) Option<Box<dyn FnOnce() + Send + Sync>>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            done();
        }
    }
}
