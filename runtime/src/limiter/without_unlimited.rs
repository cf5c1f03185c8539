//! Limiters with `unlimited` among other limits, which is as if it were not there.

use tidegate_core::{
    BucketTiers, Cost, Decision, MAX_TIERS, Operation, OperationKind, Outcome, Reserved,
    TieredDecision,
};

use super::Limiter;
use crate::answer::Answer;
use crate::{Error, Keys};

/// A limiter of the other limits, and their places among all limits: keys that are given one for
/// each limit lose those of `unlimited`, and decisions name the limits as the caller counts them.
pub(super) struct WithoutUnlimited {
    limiter: Limiter,
    tiers: BucketTiers,
}

/// A callback of one type: this limiter calls methods that call it, and each would otherwise wrap
/// the callback's type in another.
type Done<T> = Box<dyn FnOnce(Result<T, Error>) + Send>;

impl WithoutUnlimited {
    /// `limiter` has the limits of `tiers` only.
    pub(super) const fn new(limiter: Limiter, tiers: BucketTiers) -> Self {
        Self { limiter, tiers }
    }

    pub(super) const fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    /// [`Limiter::acquire_leased`] of the other limits.
    pub(super) fn acquire_leased(&self, keys: Keys<'_>, cost: Cost) -> Option<Decision> {
        let cost = self.tiers.pick_cost(&cost);
        let decision = self.with_keys(keys, |keys| self.limiter.acquire_leased(keys, cost));
        decision.map(|decision| decision.placed(&self.tiers))
    }

    /// [`Limiter::dispatch`] of the other limits. The lines are those of the limiter of all.
    pub(super) fn dispatch(&self, keys: Keys<'_>, operation: Operation, done: Done<Outcome>) {
        let (limiter, done) = (&self.limiter, self.placing(&operation, done));
        let operation = self.pick_costs(operation);
        self.with_keys(keys, |keys| match operation.kind() {
            // A lease may decide these.
            OperationKind::Check(cost) => limiter.start_check(keys, cost, decided(done)),
            OperationKind::Peek(cost) => limiter.start_peek(keys, cost, decided(done)),
            OperationKind::Reserve { .. }
            | OperationKind::Cancel(_)
            | OperationKind::Correction(_) => limiter.dispatch(keys, operation, done),
        });
    }

    /// [`Limiter::dispatch_on_marker`] of the other limits.
    pub(super) fn dispatch_on_marker(
        &self,
        keys: Keys<'_>,
        operation: Operation,
        done: Done<Outcome>,
    ) {
        let (done, operation) = (self.placing(&operation, done), self.pick_costs(operation));
        self.with_keys(keys, |keys| self.limiter.dispatch_on_marker(keys, operation, done));
    }

    /// [`Limiter::check_many`] with keys that have been checked.
    pub(super) fn check_many<A: Answer>(
        &self,
        checks: &[(Keys<'_>, Cost)],
    ) -> Result<Vec<A>, Error> {
        let picked = self.pick_all(checks);
        let answer = self.limiter.check_many_as(self.with_picked(checks, &picked));
        answer.map(|decisions| place_all(self.tiers, decisions))
    }

    /// [`Limiter::start_check_many`] with keys that have been checked.
    pub(super) fn start_check_many<A: Answer>(
        &self,
        checks: &[(Keys<'_>, Cost)],
        done: Done<Vec<A>>,
    ) {
        let (tiers, picked) = (self.tiers, self.pick_all(checks));
        self.limiter.start_check_many(self.with_picked(checks, &picked), move |answer| {
            done(answer.map(|answers: Vec<A>| place_all(tiers, answers)));
        });
    }

    /// The operation without the costs of the limits that are not there.
    pub(super) fn pick_costs(&self, operation: Operation) -> Operation {
        operation.map_costs(|cost| self.tiers.pick_cost(cost))
    }

    /// A callback that names the limits, and has the costs, as the caller counts them.
    fn placing(
        &self,
        operation: &Operation,
        done: Done<Outcome>,
    ) -> impl FnOnce(Result<Outcome, Error>) + Send + use<> {
        let (tiers, operation) = (self.tiers, *operation);
        move |outcome| {
            done(outcome.map(|outcome| {
                let mut outcome = outcome.map_decision(|decision| tiers.place_all(&decision));
                if let Outcome::Reserved(Reserved::Slot(slot)) = &mut outcome
                    && let Operation::Reserve { cost, .. } = operation
                    && !slot.charge.cost.is_zero()
                {
                    slot.charge.cost = cost;
                }
                outcome
            }));
        }
    }

    pub(super) fn with_keys<R>(&self, keys: Keys<'_>, call: impl FnOnce(Keys<'_>) -> R) -> R {
        let picked = self.pick(keys);
        call(self.picked_of(keys, &picked))
    }

    /// The keys of the tiers, where there is one for each limit.
    fn pick<'k>(&self, keys: Keys<'k>) -> [&'k [u8]; MAX_TIERS] {
        let mut picked: [&[u8]; MAX_TIERS] = Default::default();
        if let Keys::Each(keys) = keys {
            for (place, key) in picked.iter_mut().zip(self.tiers.pick(keys)) {
                *place = key;
            }
        }
        picked
    }

    fn picked_of<'k>(&self, keys: Keys<'k>, picked: &'k [&'k [u8]; MAX_TIERS]) -> Keys<'k> {
        match keys {
            Keys::One(key) => Keys::One(key),
            // With one limit both forms mean the same bucket.
            Keys::Each(_) if self.tiers.count() == 1 => Keys::One(picked[0]),
            Keys::Each(_) => Keys::Each(picked.get(..self.tiers.count()).unwrap_or(picked)),
        }
    }

    fn pick_all<'k>(&self, checks: &[(Keys<'k>, Cost)]) -> Vec<[&'k [u8]; MAX_TIERS]> {
        checks.iter().map(|(keys, _)| self.pick(*keys)).collect()
    }

    fn with_picked<'k>(
        &self,
        checks: &'k [(Keys<'k>, Cost)],
        picked: &'k [[&'k [u8]; MAX_TIERS]],
    ) -> impl Iterator<Item = (Keys<'k>, Cost)> {
        let checks = checks.iter().zip(picked);
        checks.map(|((keys, cost), picked)| {
            (self.picked_of(*keys, picked), self.tiers.pick_cost(cost))
        })
    }
}

/// A callback for a decision that is an outcome.
fn decided(
    done: impl FnOnce(Result<Outcome, Error>) + Send,
) -> impl FnOnce(Result<TieredDecision, Error>) + Send {
    move |answer| done(answer.map(Outcome::Decision))
}

/// The answers, with the places of their limits among all limits.
fn place_all<A: Answer>(tiers: BucketTiers, answers: Vec<A>) -> Vec<A> {
    answers.into_iter().map(|answer| answer.placed(&tiers)).collect()
}
