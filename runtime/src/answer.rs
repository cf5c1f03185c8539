//! Where one thread waits for one answer of a store: the blocking methods, and the
//! bindings, which look for interrupts in between.

use core::time::Duration;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::error::Error;

type Answer<T> = Result<T, Error>;

/// The waiting end.
///
/// A channel of the standard library would do, but it spins before it sleeps,
/// which takes the processor from the I/O thread that is to answer.
pub struct Awaited<T>(Arc<Slot<T>>);

/// The answering end; if it is lost, the waiting thread gets an error.
pub struct Answerer<T>(Arc<Slot<T>>);

struct Slot<T> {
    state: Mutex<State<T>>,
    answered: Condvar,
}

enum State<T> {
    Awaited,
    Answered(Answer<T>),
    /// Taken, or given up.
    Over,
}

/// Both ends.
pub fn awaited<T>() -> (Answerer<T>, Awaited<T>) {
    let slot = Arc::new(Slot { state: Mutex::new(State::Awaited), answered: Condvar::new() });
    (Answerer(Arc::clone(&slot)), Awaited(slot))
}

impl<T> Awaited<T> {
    /// The answer, whenever it comes. It comes: a store's calls end with its timeout.
    pub fn wait(self) -> Answer<T> {
        let mut state = self.0.state.lock();
        loop {
            match state.take() {
                Some(answer) => return answer,
                None => self.0.answered.wait(&mut state),
            }
        }
    }

    /// The answer, if it comes in time.
    pub fn within(&self, timeout: Duration) -> Option<Answer<T>> {
        let mut state = self.0.state.lock();
        if matches!(*state, State::Awaited) {
            self.0.answered.wait_for(&mut state, timeout);
        }
        state.take()
    }

    /// Waits no longer; the answer if it has come meanwhile. One that comes later goes
    /// back to whoever brings it.
    pub fn give_up(self) -> Option<Answer<T>> {
        let mut state = self.0.state.lock();
        let answer = state.take();
        *state = State::Over;
        answer
    }
}

impl<T> State<T> {
    fn take(&mut self) -> Option<Answer<T>> {
        match core::mem::replace(self, Self::Over) {
            Self::Answered(answer) => Some(answer),
            still => {
                *self = still;
                None
            }
        }
    }
}

impl<T> Answerer<T> {
    /// Wakes the waiting thread with its answer.
    ///
    /// # Errors
    /// The answer, when nobody waits for it any more.
    pub fn answer(self, answer: Answer<T>) -> Result<(), Answer<T>> {
        let mut state = self.0.state.lock();
        if matches!(*state, State::Over) {
            return Err(answer);
        }
        *state = State::Answered(answer);
        Ok(())
    }
}

impl<T> Drop for Answerer<T> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        if matches!(*state, State::Awaited) {
            *state = State::Answered(Err(Error::Store("the answer was lost".into())));
        }
        drop(state);
        self.0.answered.notify_one();
    }
}
