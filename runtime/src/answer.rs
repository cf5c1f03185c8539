//! Giving answers: all of a batch before anybody is woken, and what an answer must be.

use core::cell::RefCell;

use tidegate_core::{Decision, Outcome};

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
    match outcome? {
        Outcome::Decision(decision) => Ok(decision),
        _ => Err(unexpected()),
    }
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
