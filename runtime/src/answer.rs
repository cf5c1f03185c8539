//! Where one thread waits for one answer of a store: `Limiter::check`, and the
//! bindings, which look for interrupts in between.

use core::time::Duration;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use tidegate_core::Decision;

use crate::error::Error;

type Answer = Result<Decision, Error>;

/// The waiting end.
///
/// A channel of the standard library would do, but it spins before it sleeps,
/// which takes the processor from the I/O thread that is to answer.
pub struct Awaited(Arc<Slot>);

/// The answering end; if it is lost, the waiting thread gets an error.
pub struct Answerer(Arc<Slot>);

#[derive(Default)]
struct Slot {
    answer: Mutex<Option<Answer>>,
    answered: Condvar,
}

/// Both ends.
pub fn awaited() -> (Answerer, Awaited) {
    let slot = Arc::new(Slot::default());
    (Answerer(Arc::clone(&slot)), Awaited(slot))
}

impl Awaited {
    /// The answer, whenever it comes. It comes: a store's calls end with its timeout.
    pub fn wait(self) -> Answer {
        let mut answer = self.0.answer.lock();
        loop {
            match answer.take() {
                Some(answer) => return answer,
                None => self.0.answered.wait(&mut answer),
            }
        }
    }

    /// The answer, if it comes in time.
    pub fn within(&self, timeout: Duration) -> Option<Answer> {
        let mut answer = self.0.answer.lock();
        if answer.is_none() {
            self.0.answered.wait_for(&mut answer, timeout);
        }
        answer.take()
    }
}

impl Answerer {
    /// Wakes the waiting thread with its answer.
    pub fn answer(self, answer: Answer) {
        *self.0.answer.lock() = Some(answer);
    }
}

impl Drop for Answerer {
    fn drop(&mut self) {
        self.0.answer.lock().get_or_insert_with(|| Err(Error::Store("the check was lost".into())));
        self.0.answered.notify_one();
    }
}
