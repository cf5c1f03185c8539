//! Giving answers: all of a batch before anybody is woken, and what an answer must be.

use core::cell::RefCell;

use tidegate_core::{Decision, Outcome};

use crate::Error;

/// What runs once all answers of a batch have been given.
type Waking = Vec<Box<dyn FnOnce()>>;

thread_local! {
    static WAKING: RefCell<Option<Waking>> = const { RefCell::new(None) };
}

/// Gives the answers of one batch. What they have put off with [`after_batch`] runs at the end.
pub(crate) fn batch(give_answers: impl FnOnce()) {
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            let waking = WAKING.take();
            waking.into_iter().flatten().for_each(|wake| wake());
        }
    }
    WAKING.set(Some(Vec::new()));
    let _end = End;
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
