//! The queue in which the I/O thread leaves answers for an event loop.
//!
//! An event loop is woken once for many answers, so a push has to know whether a wake-up is
//! already on its way. The rule: the push that finds the queue empty wakes the loop, and the loop
//! empties the whole queue in one step. So while the queue is not empty, a wake-up is pending,
//! and every answer is taken. A loop that emptied the queue in two steps would break this: a push
//! between the steps would find answers in the queue, leave the wake-up to an earlier push, and
//! wait for ever. `tests/loom` runs every interleaving of pushes and takes over this file.

use crate::lock::Mutex;

/// Answers from any thread to one event loop.
pub struct AnswerQueue<T> {
    /// `None` once closed.
    answers: Mutex<Option<Vec<T>>>,
}

/// What [`AnswerQueue::push`] has done, and what is left to its caller.
#[must_use = "an answer that nobody wakes the event loop for is never delivered"]
#[derive(Debug)]
pub enum Pushed<T> {
    /// The queue was empty: the caller has to wake the event loop.
    First,
    /// An earlier push has woken the event loop, or is about to, and the loop has not yet taken
    /// its answers.
    Behind,
    /// The queue is closed: the caller has its answer back.
    Closed(T),
}

impl<T> AnswerQueue<T> {
    /// An open and empty queue.
    pub fn new() -> Self {
        Self { answers: Mutex::new(Some(Vec::new())) }
    }

    /// Adds an answer.
    pub fn push(&self, answer: T) -> Pushed<T> {
        match &mut *self.answers.lock() {
            None => Pushed::Closed(answer),
            Some(answers) => {
                answers.push(answer);
                if answers.len() == 1 { Pushed::First } else { Pushed::Behind }
            }
        }
    }

    /// All answers, in the order of their pushes. The next push wakes the event loop again.
    pub fn take(&self) -> Vec<T> {
        self.answers.lock().as_mut().map(core::mem::take).unwrap_or_default()
    }

    /// Closes the queue, and returns the answers that nobody has taken.
    pub fn close(&self) -> Vec<T> {
        self.answers.lock().take().unwrap_or_default()
    }
}

impl<T> Default for AnswerQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}
