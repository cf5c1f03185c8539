//! Answers on their way to an event loop: no wake-up is lost, so every answer is delivered.

use std::collections::VecDeque;

use loom::sync::{Arc, Mutex};
use loom::thread;

use super::{Outcomes, PREEMPTIONS_OF_MORE, in_every_order};
use crate::answer_queue::{AnswerQueue, Pushed};

const DELIVERED: &str = "every answer is delivered";
const LOST: &str = "an answer waits for ever";

/// A queue of answers, the event loop that is to take them, and whether that loop is to run.
struct EventLoop<Q> {
    queue: Q,
    /// Wake-ups that come before the loop runs are one.
    is_woken: Mutex<bool>,
    push: fn(&Q, u32) -> bool,
    take: fn(&Q) -> Vec<u32>,
}

impl<Q> EventLoop<Q> {
    /// An I/O thread gives the answers of one batch, and wakes the loop afterwards, as
    /// `answer::after_batch` does.
    fn give_batch(&self, answers: [u32; 2]) {
        let wakes = answers.map(|answer| (self.push)(&self.queue, answer));
        if wakes.contains(&true) {
            *self.is_woken.lock().unwrap() = true;
        }
    }

    /// One turn of the loop: it takes answers only when it has been woken.
    fn turn(&self) -> Vec<u32> {
        let is_woken = core::mem::take(&mut *self.is_woken.lock().unwrap());
        if is_woken { (self.take)(&self.queue) } else { Vec::new() }
    }
}

/// What comes of two batches that two threads give, while this one, the event loop, turns.
fn outcomes<Q: Sync + Send + 'static>(
    new: fn() -> Q,
    push: fn(&Q, u32) -> bool,
    take: fn(&Q) -> Vec<u32>,
) -> Outcomes {
    let outcomes = Outcomes::default();
    let note = outcomes.clone();
    in_every_order(PREEMPTIONS_OF_MORE, move || {
        let is_woken = Mutex::new(false);
        let event_loop = Arc::new(EventLoop { queue: new(), is_woken, push, take });
        let threads = [[1, 2], [3, 4]].map(|answers| {
            let event_loop = Arc::clone(&event_loop);
            thread::spawn(move || event_loop.give_batch(answers))
        });
        let mut taken = event_loop.turn();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        taken.extend(event_loop.turn());
        taken.sort_unstable();
        note.note(if taken == [1, 2, 3, 4] { DELIVERED } else { LOST });
    });
    outcomes
}

#[test]
fn every_answer_wakes_the_loop_that_takes_it() {
    let push = |queue: &AnswerQueue<u32>, answer| matches!(queue.push(answer), Pushed::First);
    outcomes(AnswerQueue::new, push, AnswerQueue::take).assert_all(&[DELIVERED]);
}

/// The fault that the queue's rule prevents: answers in two lists that are emptied one after the
/// other, and a wake-up only for the first answer of both.
#[derive(Default)]
struct EmptiedInTwoSteps(Mutex<[VecDeque<u32>; 2]>);

#[test]
fn the_model_sees_that_emptying_in_two_steps_loses_answers() {
    let push = |queue: &EmptiedInTwoSteps, answer: u32| {
        let mut lists = queue.0.lock().unwrap();
        lists[answer as usize % 2].push_back(answer);
        lists[0].len() + lists[1].len() == 1
    };
    let take = |queue: &EmptiedInTwoSteps| {
        let mut taken: Vec<_> = queue.0.lock().unwrap()[0].drain(..).collect();
        taken.extend(queue.0.lock().unwrap()[1].drain(..));
        taken
    };
    outcomes(EmptiedInTwoSteps::default, push, take).assert_all(&[LOST, DELIVERED]);
}

/// A loop that closes takes what has come, and whoever comes later has the answer back: each
/// answer is somewhere, none is left in the queue.
#[test]
fn a_closed_queue_keeps_no_answer() {
    in_every_order(PREEMPTIONS_OF_MORE, || {
        let queue = Arc::new(AnswerQueue::new());
        let others = Arc::clone(&queue);
        let pusher = thread::spawn(move || {
            let pushed = [1, 2].map(|answer| others.push(answer));
            pushed.into_iter().filter(|pushed| matches!(pushed, Pushed::Closed(_))).count()
        });
        let taken = queue.close().len();
        assert_eq!(taken + pusher.join().unwrap(), 2);
        assert!(queue.take().is_empty());
    });
}
