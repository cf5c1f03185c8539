//! How messages come to the function: the source, the queue with its pollers, and the queue of the function itself.

use super::SECOND;
use super::World;
use super::batches::Origin;
use super::events::Event;
use super::ledger::{Loss, State};
use crate::scenario::{Arrivals, Jitter, Pattern, Pollers};

/// The documented wait before a function that failed is called again, and double that before the next time.
const ERROR_WAIT: u64 = 60 * SECOND;

/// A receiver of the event source.
#[derive(Clone, Debug, Default)]
pub(super) struct Poller {
    /// What it has received and offers.
    batch: Vec<u32>,
    /// When it stops to offer it, because the messages become visible again.
    until: u64,
}

impl World<'_> {
    pub(super) fn begin_source(&mut self) {
        let first = match self.scenario.source.pattern {
            Pattern::Trace => self.scenario.source.times.first().map_or(0, |time| time.0),
            Pattern::Burst | Pattern::Rate | Pattern::Spike => 0,
        };
        self.events.add(first, Event::Produce);
    }

    /// Produces all messages of this moment, so that who receives meanwhile does not find only the first of a burst.
    pub(super) fn produce(&mut self) {
        loop {
            let message = self.ledger.produce(self.now);
            self.recorder.second(self.now).produced += 1;
            self.ideal.add(self.now);
            if self.scenario.async_queue.is_some() {
                self.offer(message);
            } else {
                self.show(message);
            }
            if self.ledger.produced == self.scenario.source.messages {
                return;
            }
            let next = self.next_arrival();
            if next > self.now {
                self.events.add(next, Event::Produce);
                return;
            }
        }
    }

    fn next_arrival(&mut self) -> u64 {
        let source = &self.scenario.source;
        let mean = source.rate.map_or(0, |rate| rate.between);
        let wait = match source.arrivals {
            Arrivals::Even => mean,
            Arrivals::Random => self.arrivals.exponential(mean),
        };
        let next = self.now + wait;
        match source.pattern {
            Pattern::Burst => self.now,
            Pattern::Rate => next,
            Pattern::Trace => {
                let at = source.times.get(self.ledger.produced as usize);
                at.map_or(self.now, |time| time.0.max(self.now))
            }
            Pattern::Spike => {
                let every = source.every.map_or(u64::MAX, |every| every.0);
                let start = self.now / every * every;
                if next < start + source.spike.0 {
                    next
                } else {
                    // Without a next spike all others arrive never: after the end of every run.
                    start.saturating_add(every)
                }
            }
        }
    }

    /// A message can be received.
    pub(super) fn show(&mut self, message: u32) {
        self.visible.push_back(message);
        if let Some(poller) = self.parked.pop() {
            let receive = self.pollers_terms().receive.0;
            self.events.add(self.now + receive, Event::Poll(poller));
        }
        self.wake_one();
    }

    pub(super) fn reappear(&mut self, message: u32, receives: u32) {
        let found = *self.ledger.message(message);
        if found.state == State::InFlight && found.receives == receives {
            self.ledger.queue(message);
            self.show(message);
        }
    }

    /// Receives the first message that is visible; the queue hides it for a while.
    pub(super) fn receive(&mut self) -> Option<u32> {
        let queue = self.scenario.queue.as_ref()?;
        loop {
            let message = self.visible.pop_front()?;
            if self.ledger.state(message) != State::Queued {
                continue;
            }
            if self.ledger.message(message).receives >= queue.max_receives {
                self.lose(message, Loss::Received);
                continue;
            }
            self.ledger.take(message);
            self.ledger.message(message).receives += 1;
            self.recorder.receives += 1;
            let receives = self.ledger.message(message).receives;
            let until = self.now + queue.visibility.0;
            self.events.add(until, Event::Reappear { message, receives });
            return Some(message);
        }
    }

    pub(super) fn lose(&mut self, message: u32, loss: Loss) {
        self.ledger.lose(message, loss);
        self.recorder.second(self.now).lost += 1;
    }

    pub(super) fn begin_pollers(&mut self) {
        let Some(terms) = &self.scenario.pollers else { return };
        for _ in 0..terms.start {
            self.add_poller();
        }
        if terms.most > terms.start && terms.per_minute > 0 {
            self.events.add(60 * SECOND / u64::from(terms.per_minute), Event::Ramp);
        }
    }

    fn add_poller(&mut self) {
        let receive = self.pollers_terms().receive.0;
        self.events.add(self.now + receive, Event::Poll(self.pollers.len() as u32));
        self.pollers.push(Poller::default());
    }

    pub(super) fn ramp(&mut self) {
        let terms = self.pollers_terms();
        if self.ledger.queued > 0 {
            self.add_poller();
        }
        if (self.pollers.len() as u32) < terms.most {
            self.events.add(self.now + 60 * SECOND / u64::from(terms.per_minute), Event::Ramp);
        }
    }

    pub(super) fn poll(&mut self, poller: u32) {
        let mut batch = Vec::new();
        while batch.len() < self.scenario.function.batch as usize
            && let Some(message) = self.receive()
        {
            batch.push(message);
        }
        if batch.is_empty() {
            self.parked.push(poller);
            return;
        }
        let visibility = self.scenario.queue.as_ref().map_or(0, |queue| queue.visibility.0);
        self.pollers[poller as usize] = Poller { batch, until: self.now + visibility };
        self.try_batch(poller);
    }

    pub(super) fn try_batch(&mut self, poller: u32) {
        let terms = self.pollers_terms();
        let held = &mut self.pollers[poller as usize];
        if self.now >= held.until {
            held.batch.clear();
            self.poll_again(poller);
        } else if self.running < self.scenario.function.concurrency {
            let batch = core::mem::take(&mut held.batch);
            self.start(batch, Origin::Poller(poller));
        } else {
            self.recorder.throttles += 1;
            let retry = terms.retry.0;
            let wait = retry / 2 + self.retries.below(retry / 2 + 1);
            let next = (self.now + wait).min(self.pollers[poller as usize].until);
            self.events.add(next, Event::Try(poller));
        }
    }

    /// A poller receives again.
    pub(super) fn poll_again(&mut self, poller: u32) {
        self.events.add(self.now + self.pollers_terms().receive.0, Event::Poll(poller));
    }

    fn pollers_terms(&self) -> Pollers {
        self.scenario.pollers.clone().unwrap_or_default()
    }

    pub(super) fn offer(&mut self, message: u32) {
        let Some(terms) = &self.scenario.async_queue else { return };
        if self.ledger.state(message) != State::Queued {
            return;
        }
        if self.running < self.scenario.function.concurrency {
            self.ledger.take(message);
            self.start(vec![message], Origin::Async);
            return;
        }
        self.recorder.throttles += 1;
        let found = self.ledger.message(message);
        let born = found.born;
        let doublings = found.throttles.min(40);
        found.throttles += 1;
        let most = terms.first.0.saturating_mul(1 << doublings).min(terms.most.0);
        let wait = match terms.jitter {
            Jitter::Full => self.retries.below(most + 1),
            Jitter::Equal => most / 2 + self.retries.below(most / 2 + 1),
            Jitter::None => most,
        };
        if self.now + wait - born > terms.gives_up.0 {
            self.lose(message, Loss::GivenUp);
        } else {
            self.events.add(self.now + wait, Event::Offer(message));
        }
    }

    /// A message whose function failed goes back to the queue of the function.
    pub(super) fn offer_after_error(&mut self, message: u32) {
        let Some(terms) = &self.scenario.async_queue else { return };
        let errors = self.ledger.message(message).errors;
        self.ledger.message(message).errors += 1;
        if errors >= terms.error_retries {
            self.lose(message, Loss::Failed);
        } else {
            self.ledger.queue(message);
            self.events.add(self.now + ERROR_WAIT * (u64::from(errors) + 1), Event::Offer(message));
        }
    }
}
