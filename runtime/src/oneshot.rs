//! A channel for one answer, on which a thread waits: for the blocking methods, and for bindings
//! that look for interrupts in between.

use core::time::Duration;
use std::sync::Arc;

use tidegate_protocol::lock::{Condvar, Mutex};

use crate::Error;
use crate::answer::lost;

/// The end that waits for the answer.
///
/// The standard library's channels are not used, because their receivers spin before they sleep,
/// which takes the processor from the I/O thread that is to answer.
pub struct OneshotReceiver<T>(Arc<Slot<T>>);

/// The end that gives the answer. If it is dropped without, the receiver gets an error.
pub struct OneshotSender<T>(Arc<Slot<T>>);

struct Slot<T> {
    answer: Mutex<Option<Result<T, Error>>>,
    answered: Condvar,
}

/// Both ends of a new channel.
pub fn oneshot<T>() -> (OneshotSender<T>, OneshotReceiver<T>) {
    let slot = Arc::new(Slot { answer: Mutex::new(None), answered: Condvar::new() });
    (OneshotSender(Arc::clone(&slot)), OneshotReceiver(slot))
}

impl<T> OneshotReceiver<T> {
    /// Waits for the answer without a bound of its own: a store's calls end with its timeout.
    pub fn wait(self) -> Result<T, Error> {
        let mut answer = self.0.answer.lock();
        loop {
            match answer.take() {
                Some(answer) => return answer,
                None => answer = self.0.answered.wait(answer),
            }
        }
    }

    /// The answer, if it has come.
    pub fn try_recv(&self) -> Option<Result<T, Error>> {
        self.0.answer.lock().take()
    }

    /// The answer, if it comes within `timeout`. It may return earlier without one.
    pub fn wait_for(&self, timeout: Duration) -> Option<Result<T, Error>> {
        let mut answer = self.0.answer.lock();
        if answer.is_none() {
            answer = self.0.answered.wait_for(answer, timeout);
        }
        answer.take()
    }
}

impl<T> OneshotSender<T> {
    /// Wakes the waiting thread with its answer.
    pub fn send(self, answer: Result<T, Error>) {
        *self.0.answer.lock() = Some(answer);
    }
}

impl<T> Drop for OneshotSender<T> {
    fn drop(&mut self) {
        self.0.answer.lock().get_or_insert_with(|| Err(lost()));
        self.0.answered.notify_one();
    }
}
