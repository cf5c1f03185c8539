//! The function: batches, their calls, and what becomes of their messages.

use super::World;
use super::events::{BatchId, CallId, Event, Reply};
use super::limiter::Answer;
use super::recorder::LogRow;
use crate::scenario::BatchMode;

/// The component that gave a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Poller(u32),
    Async,
    Node(u32),
}

/// A batch that runs, or a place for one.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    messages: Vec<u32>,
    replies: Vec<Option<Reply>>,
    /// The answers that are missing.
    missing: u32,
    origin: Origin,
    instance: u32,
    started: u64,
    number: u32,
    is_running: bool,
}

impl World<'_> {
    /// Starts a batch of messages that were received.
    pub(super) fn start(&mut self, messages: Vec<u32>, origin: Origin) {
        let function = &self.scenario.function;
        self.started += 1;
        self.running += 1;
        self.recorder.max_concurrency = self.recorder.max_concurrency.max(self.running);
        let mut wait = function.overhead.draw(&mut self.durations);
        let instance = self.idle_instances.pop().unwrap_or_else(|| {
            wait += function.cold_start.draw(&mut self.durations);
            self.recorder.instances += 1;
            self.recorder.instances - 1
        });
        let count = messages.len();
        let batch = Batch {
            replies: vec![None; count],
            missing: count as u32,
            messages,
            origin,
            instance,
            started: self.now,
            number: self.started,
            is_running: true,
        };
        let place = match self.free_places.pop() {
            Some(place) => {
                self.batches[place as usize] = batch;
                place
            }
            None => {
                self.batches.push(batch);
                self.batches.len() as u32 - 1
            }
        };
        let id = BatchId { place, number: self.started };
        self.events.add(self.now + function.timeout.0, Event::TimeOut(id));
        if wait == 0 {
            self.begin_calls(id);
        } else {
            self.events.add(self.now + wait, Event::Begin(id));
        }
    }

    pub(super) fn begin_calls(&mut self, id: BatchId) {
        let Some(batch) = self.batch(id) else { return };
        let count = batch.messages.len() as u32;
        let at_once = match self.scenario.function.mode {
            BatchMode::Parallel => count,
            BatchMode::Sequential => count.min(1),
        };
        for index in 0..at_once {
            self.begin_call(CallId { batch: id, index });
        }
    }

    fn begin_call(&mut self, call: CallId) {
        let answer = if self.limits_calls() {
            self.limiter.as_mut().map(|limiter| limiter.ask(self.now))
        } else {
            None
        };
        match answer {
            None => self.leave(call),
            Some(Answer::Slot(at)) => self.events.add(at, Event::Leave(call)),
            Some(Answer::StoreDown | Answer::TooFar) => {
                // The function has failed, and its messages come back.
                self.recorder.store_errors += 1;
                self.events.add(self.now, Event::Answer { call, reply: Reply::Failure });
            }
        }
    }

    pub(super) fn leave(&mut self, call: CallId) {
        let Some(batch) = self.batch(call.batch) else { return };
        let message = batch.messages[call.index as usize];
        let deadline = self.scenario.source.deadline;
        let found = self.ledger.message(message);
        if !found.was_called {
            found.was_called = true;
            let wait = self.now - found.born;
            self.recorder.waits.push(wait);
            self.recorder.late += u32::from(deadline.is_some_and(|deadline| wait > deadline.0));
        }
        let network = self.vendor.network();
        if network == 0 {
            self.arrive(call);
        } else {
            self.events.add(self.now + network, Event::Arrive(call));
        }
    }

    /// The vendor counts a call also if its batch has ended meanwhile.
    pub(super) fn arrive(&mut self, call: CallId) {
        let (reply, took) = self.vendor.call(self.now);
        let now = self.now;
        let recorder = &mut self.recorder;
        recorder.calls += 1;
        recorder.in_second.add(now);
        recorder.in_window.add(now);
        let is_refusal = matches!(reply, Reply::Refusal { .. });
        recorder.refused += u64::from(is_refusal);
        recorder.failed += u64::from(reply == Reply::Failure);
        let second = recorder.second(now);
        second.calls += 1;
        second.refused += u32::from(is_refusal);
        if let Some(batch) = self.batch(call.batch) {
            let message = batch.messages[call.index as usize];
            let row = LogRow {
                id: message,
                sent_at: 0,
                started_at: batch.started,
                batch_id: batch.number,
                cache_id: batch.instance,
                created_at: now,
            };
            let found = self.ledger.message(message);
            let row = LogRow { sent_at: found.born, ..row };
            let was_done = found.has_succeeded;
            found.has_succeeded |= reply == Reply::Success;
            self.recorder.duplicates += u64::from(was_done);
            if let Some(log) = &mut self.recorder.log {
                log.push(row);
            }
        }
        self.events.add(now + took, Event::Answer { call, reply });
    }

    pub(super) fn answer(&mut self, call: CallId, reply: Reply) {
        if let Reply::Refusal { retry_after } = reply
            && let Some(limiter) = &mut self.limiter
        {
            limiter.refused(self.now, retry_after);
        }
        let Some(batch) = self.batch(call.batch) else { return };
        batch.missing -= 1;
        batch.replies[call.index as usize] = Some(reply);
        let (is_last, next) = (batch.missing == 0, call.index + 1);
        if is_last {
            self.end(call.batch);
        } else if self.scenario.function.mode == BatchMode::Sequential {
            self.begin_call(CallId { index: next, ..call });
        }
    }

    /// A batch has all its answers: what succeeded is deleted, the rest comes back.
    fn end(&mut self, id: BatchId) {
        let Some(batch) = self.close(id) else { return };
        for (message, reply) in batch.messages.iter().zip(&batch.replies) {
            match (reply, batch.origin) {
                (Some(Reply::Success), _) => {
                    if self.ledger.finish(*message) {
                        self.recorder.second(self.now).done += 1;
                        self.recorder.done_at.push(self.now);
                    }
                }
                (_, Origin::Async) => self.offer_after_error(*message),
                // A worker gives a refused message back for as long as the vendor asked for.
                (Some(Reply::Refusal { .. }), Origin::Node(_)) => self.give_back(*message),
                (None | Some(Reply::Failure | Reply::Refusal { .. }), _) => {}
            }
        }
        self.idle_instances.push(batch.instance);
        self.go_on(batch.origin);
    }

    pub(super) fn time_out(&mut self, id: BatchId) {
        let Some(batch) = self.close(id) else { return };
        self.recorder.killed += 1;
        if batch.origin == Origin::Async {
            batch.messages.iter().for_each(|message| self.offer_after_error(*message));
        }
        self.go_on(batch.origin);
    }

    /// Ends the batch that has run for the longest.
    pub(super) fn crash_oldest(&mut self) {
        let running = self.batches.iter().enumerate().filter(|(_, batch)| batch.is_running);
        let oldest = running.min_by_key(|(_, batch)| batch.number);
        let Some((place, number)) = oldest.map(|(place, batch)| (place as u32, batch.number))
        else {
            return;
        };
        self.time_out(BatchId { place, number });
    }

    fn go_on(&mut self, origin: Origin) {
        match origin {
            Origin::Poller(poller) => self.poll_again(poller),
            Origin::Async => {}
            Origin::Node(node) => self.is_free(node),
        }
    }

    fn batch(&mut self, id: BatchId) -> Option<&mut Batch> {
        let batch = self.batches.get_mut(id.place as usize)?;
        (batch.is_running && batch.number == id.number).then_some(batch)
    }

    fn close(&mut self, id: BatchId) -> Option<Batch> {
        let batch = self.batch(id)?;
        batch.is_running = false;
        let batch = Batch { messages: core::mem::take(&mut batch.messages), ..batch.clone() };
        self.free_places.push(id.place);
        self.running -= 1;
        Some(batch)
    }
}
