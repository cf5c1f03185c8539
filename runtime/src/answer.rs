//! Where one thread waits for one answer of a store: the blocking methods, and the
//! bindings, which look for interrupts in between. And what an answer must be.

use core::cell::RefCell;
use core::time::Duration;
use std::sync::Arc;

use tidegate_core::{Decision, Outcome};
use tidegate_protocol::lock::{Condvar, Mutex};

use crate::Error;

pub use crate::reservation::Unclaimed;

type Answer<T> = Result<T, Error>;

/// The waiting end.
///
/// A channel of the standard library would do, but it spins before it sleeps,
/// which takes the processor from the I/O thread that is to answer.
pub struct Awaited<T>(Arc<Slot<T>>);

/// The answering end; if it is lost, the waiting thread gets an error.
pub struct Answerer<T>(Arc<Slot<T>>);

struct Slot<T> {
    answer: Mutex<Option<Answer<T>>>,
    answered: Condvar,
}

/// Both ends.
pub fn awaited<T>() -> (Answerer<T>, Awaited<T>) {
    let slot = Arc::new(Slot { answer: Mutex::new(None), answered: Condvar::new() });
    (Answerer(Arc::clone(&slot)), Awaited(slot))
}

impl<T> Awaited<T> {
    /// The answer, whenever it comes. It comes: a store's calls end with its timeout.
    pub fn wait(self) -> Answer<T> {
        let mut answer = self.0.answer.lock();
        loop {
            match answer.take() {
                Some(answer) => return answer,
                None => answer = self.0.answered.wait(answer),
            }
        }
    }

    /// The answer, if it has come.
    pub fn now(&self) -> Option<Answer<T>> {
        self.0.answer.lock().take()
    }

    /// The answer, if it comes in time.
    pub fn within(&self, timeout: Duration) -> Option<Answer<T>> {
        let mut answer = self.0.answer.lock();
        if answer.is_none() {
            answer = self.0.answered.wait_for(answer, timeout);
        }
        answer.take()
    }
}

impl<T> Answerer<T> {
    /// Wakes the waiting thread with its answer.
    pub fn answer(self, answer: Answer<T>) {
        *self.0.answer.lock() = Some(answer);
    }
}

impl<T> Drop for Answerer<T> {
    fn drop(&mut self) {
        self.0.answer.lock().get_or_insert_with(|| Err(lost()));
        self.0.answered.notify_one();
    }
}

/// What is to be done once all answers of a trip are given.
type Waking = Vec<Box<dyn FnOnce()>>;

thread_local! {
    static WAKING: RefCell<Option<Waking>> = const { RefCell::new(None) };
}

/// Gives the answers of one trip; what they put off with [`after_batch`] runs at the end.
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

/// Runs `wake` when the trip whose answers this thread is giving has given them all, so
/// that one wake-up serves them; at once, if it is not giving any.
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
/// Those of the operation, and [`Error::Store`] when its answer is of another kind.
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
