//! Giving answers: all of a batch before anybody is woken, and the forms of an answer.

use core::cell::RefCell;

use tidegate_core::{
    BucketTiers, Clock, Cost, Decision, Fixed, Limit, Outcome, Segments, Source, Table,
    TieredDecision, check_each_table, check_tables,
};

use crate::Error;

/// What runs once all answers of a batch have been given.
type Waking = Vec<Box<dyn FnOnce()>>;

thread_local! {
    static WAKING: RefCell<Option<Waking>> = const { RefCell::new(None) };
}

/// Gives the answers of one batch; the wake-ups that they put off with [`after_batch`] run at the
/// end, even if a receiver of an answer panics. A batch within a batch leaves them to the outer.
pub(crate) fn batch(give_answers: impl FnOnce()) {
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            let waking = WAKING.take();
            waking.into_iter().flatten().for_each(|wake| wake());
        }
    }
    let is_outermost = WAKING.with_borrow_mut(|waking| {
        let is_outermost = waking.is_none();
        waking.get_or_insert_default();
        is_outermost
    });
    let _end = is_outermost.then(|| End);
    give_answers();
}

/// Runs `wake` when this thread has given all answers of the batch that it is giving, so that one
/// wake-up serves all of them. Runs it at once if this thread is giving none.
pub fn after_batch(wake: impl FnOnce() + 'static) {
    let wake = WAKING.with_borrow_mut(|waking| match waking {
        Some(waking) => {
            waking.push(Box::new(wake));
            None
        }
        None => Some(wake),
    });
    if let Some(wake) = wake {
        wake();
    }
}

/// The decision of an operation that answers with one.
///
/// # Errors
/// The operation's own errors, and [`Error::Store`] when the answer is of another kind.
pub fn decision(outcome: Result<Outcome, Error>) -> Result<Decision, Error> {
    tiered(outcome).map(Decision::from)
}

/// [`decision`], with what each limit says.
///
/// # Errors
/// As [`decision`].
pub fn tiered(outcome: Result<Outcome, Error>) -> Result<TieredDecision, Error> {
    match outcome? {
        Outcome::Decision(decision) => Ok(decision),
        _ => Err(unexpected()),
    }
}

/// The form in which a caller wants its decisions: alone, or with what each limit says.
///
/// A check in memory is compiled for each form, so that what each limit says costs nothing where
/// nobody asks for it.
#[allow(unnameable_types, reason = "callers name only its two forms")]
pub trait Answer: From<Decision> + From<TieredDecision> + Send + 'static {
    /// [`check_tables`], in this form.
    ///
    /// # Errors
    /// As [`check_tables`].
    fn check<S: Segments>(
        tables: &[Table<'_, S>],
        limits: &[Limit],
        fingerprints: &[u64],
        clock: &impl Clock,
        cost: Cost,
    ) -> Result<Self, tidegate_core::Error>;

    /// The answer of limits that decide without a bucket.
    fn of_fixed(fixed: &Fixed, cost: &Cost) -> Self;

    /// The same answer, from another source.
    #[must_use]
    fn with_source(self, source: Source) -> Self;

    /// The answer of tiers as that of all limits.
    #[must_use]
    fn placed(self, tiers: &BucketTiers) -> Self;

    /// Whether the call was allowed.
    fn is_allowed(&self) -> bool;
}

impl Answer for Decision {
    #[inline(always)]
    fn check<S: Segments>(
        tables: &[Table<'_, S>],
        limits: &[Limit],
        fingerprints: &[u64],
        clock: &impl Clock,
        cost: Cost,
    ) -> Result<Self, tidegate_core::Error> {
        check_tables(tables, limits, fingerprints, clock, cost)
    }

    fn of_fixed(fixed: &Fixed, cost: &Cost) -> Self {
        fixed.check(cost)
    }

    #[inline(always)]
    fn with_source(self, source: Source) -> Self {
        Self { source, ..self }
    }

    fn placed(self, tiers: &BucketTiers) -> Self {
        Self { tier: tiers.place(self.tier), ..self }
    }

    #[inline(always)]
    fn is_allowed(&self) -> bool {
        self.allowed
    }
}

impl Answer for TieredDecision {
    #[inline(always)]
    fn check<S: Segments>(
        tables: &[Table<'_, S>],
        limits: &[Limit],
        fingerprints: &[u64],
        clock: &impl Clock,
        cost: Cost,
    ) -> Result<Self, tidegate_core::Error> {
        check_each_table(tables, limits, fingerprints, clock, cost)
    }

    fn of_fixed(fixed: &Fixed, cost: &Cost) -> Self {
        fixed.check_tiers(cost)
    }

    #[inline(always)]
    fn with_source(self, source: Source) -> Self {
        self.from_source(source)
    }

    fn placed(self, tiers: &BucketTiers) -> Self {
        tiers.place_all(&self)
    }

    #[inline(always)]
    fn is_allowed(&self) -> bool {
        self.allowed
    }
}

/// The answer of an operation that answers with a decision, in the wanted form.
///
/// # Errors
/// As [`decision`].
pub(crate) fn answer_as<A: Answer>(outcome: Result<Outcome, Error>) -> Result<A, Error> {
    tiered(outcome).map(A::from)
}

#[cold]
pub(crate) fn unexpected() -> Error {
    Error::Store("the store answered another operation".into())
}

#[cold]
pub(crate) fn lost() -> Error {
    Error::Store("the answer was lost".into())
}

#[cfg(test)]
mod tests {
    use core::panic::AssertUnwindSafe;
    use std::panic::{catch_unwind, resume_unwind};
    use std::rc::Rc;

    use super::*;

    /// Wake-ups in the order in which they ran.
    #[derive(Clone, Default)]
    struct Woken(Rc<RefCell<Vec<u32>>>);

    impl Woken {
        fn wake(&self, number: u32) {
            let woken = Rc::clone(&self.0);
            after_batch(move || woken.borrow_mut().push(number));
        }

        fn so_far(&self) -> Vec<u32> {
            self.0.borrow().clone()
        }
    }

    #[test]
    fn a_wake_up_outside_a_batch_is_not_put_off() {
        let woken = Woken::default();
        woken.wake(1);
        assert_eq!(woken.so_far(), [1]);
    }

    #[test]
    fn every_wake_up_of_a_batch_runs_at_its_end() {
        let woken = Woken::default();
        batch(|| {
            woken.wake(1);
            woken.wake(2);
            assert!(woken.so_far().is_empty());
        });
        assert_eq!(woken.so_far(), [1, 2]);
        woken.wake(3);
        assert_eq!(woken.so_far(), [1, 2, 3]);
    }

    #[test]
    fn a_batch_within_a_batch_loses_no_wake_up() {
        let woken = Woken::default();
        batch(|| {
            woken.wake(1);
            batch(|| woken.wake(2));
            woken.wake(3);
            assert!(woken.so_far().is_empty());
        });
        assert_eq!(woken.so_far(), [1, 2, 3]);
    }

    #[test]
    fn a_receiver_that_panics_keeps_no_wake_up_back() {
        let woken = Woken::default();
        let given = catch_unwind(AssertUnwindSafe(|| {
            batch(|| {
                woken.wake(1);
                resume_unwind(Box::new("a receiver of an answer"));
            });
        }));
        assert!(given.is_err());
        assert_eq!(woken.so_far(), [1]);
    }

    #[test]
    fn a_wake_up_may_put_off_another() {
        let woken = Woken::default();
        batch(|| {
            let inner = woken.clone();
            after_batch(move || inner.wake(1));
        });
        assert_eq!(woken.so_far(), [1]);
    }
}
