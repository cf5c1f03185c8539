//! Workers that take a permit and a slot of the limit before they receive a message.

use super::batches::Origin;
use super::events::Event;
use super::ledger::{Loss, State};
use super::limiter::Answer;
use super::{SECOND, World};
use crate::scenario::Place;

/// A process with its permits.
#[derive(Clone, Debug)]
pub(super) struct Node {
    permits: u32,
    /// Permits in use.
    used: u32,
    /// Whether it has a slot that has not come yet, or waits to ask for one again.
    has_slot: bool,
    is_waiting: bool,
}

impl World<'_> {
    pub(super) fn begin_nodes(&mut self) {
        let Some(terms) = &self.scenario.limiter else { return };
        if terms.place != Place::BeforeReceive {
            return;
        }
        let concurrency = self.scenario.function.concurrency;
        for node in 0..terms.nodes {
            let permits = concurrency / terms.nodes + u32::from(node < concurrency % terms.nodes);
            self.nodes.push(Node { permits, used: 0, has_slot: false, is_waiting: false });
            self.events.add(0, Event::Wake(node));
        }
    }

    /// What a node waited for has come.
    pub(super) fn wake(&mut self, node: u32) {
        self.nodes[node as usize].is_waiting = false;
        self.look(node);
    }

    /// A node asks for a slot, if there is a message for it and a permit.
    fn look(&mut self, node: u32) {
        let this = &self.nodes[node as usize];
        if this.has_slot || this.is_waiting || this.used == this.permits {
            return;
        }
        self.put_aside_stale();
        if self.ledger.queued <= self.open_slots {
            return;
        }
        let Some(limiter) = &mut self.limiter else { return };
        if limiter.held_until > self.now {
            let until = limiter.held_until;
            self.wait_until(node, until);
            return;
        }
        match limiter.ask(self.now) {
            Answer::Slot(at) => {
                self.nodes[node as usize].has_slot = true;
                self.open_slots += 1;
                self.events.add(at, Event::Slot(node));
            }
            Answer::StoreDown | Answer::TooFar => {
                self.recorder.store_errors += 1;
                self.wait_until(node, self.now + SECOND);
            }
        }
    }

    /// The slot of a node has come: now it receives.
    pub(super) fn slot(&mut self, node: u32) {
        self.nodes[node as usize].has_slot = false;
        self.open_slots -= 1;
        let is_held = self
            .limiter
            .as_ref()
            .is_some_and(|limiter| limiter.held_until > self.now && !limiter.is_down(self.now));
        self.put_aside_stale();
        if !is_held && let Some(message) = self.receive() {
            self.nodes[node as usize].used += 1;
            self.start(vec![message], Origin::Node(node));
        }
        self.look(node);
    }

    /// A permit of a node is free again.
    pub(super) fn is_free(&mut self, node: u32) {
        self.nodes[node as usize].used -= 1;
        self.look(node);
    }

    /// A worker gives a message back, which is visible again when the vendor takes calls again.
    pub(super) fn give_back(&mut self, message: u32) {
        let receives = self.ledger.message(message).receives;
        let at = self.held_until().max(self.now + SECOND);
        self.events.add(at, Event::Reappear { message, receives });
    }

    /// When the vendor takes calls again, as far as it has said.
    pub(super) fn held_until(&self) -> u64 {
        self.limiter.as_ref().map_or(0, |limiter| limiter.held_until)
    }

    /// A message is there: the first node that could take it looks.
    pub(super) fn wake_one(&mut self) {
        let can_look = |node: &Node| !node.has_slot && !node.is_waiting && node.used < node.permits;
        if let Some(node) = self.nodes.iter().position(can_look) {
            self.wait_until(node as u32, self.now);
        }
    }

    fn wait_until(&mut self, node: u32, at: u64) {
        self.nodes[node as usize].is_waiting = true;
        self.events.add(at, Event::Wake(node));
    }

    /// Messages that are older than the deadline cost no slot.
    fn put_aside_stale(&mut self) {
        let Some(deadline) = self.scenario.source.deadline else { return };
        while let Some(message) = self.visible.front().copied() {
            let found = *self.ledger.message(message);
            if found.state == State::Queued {
                if self.now.saturating_sub(found.born) <= deadline.0 {
                    return;
                }
                self.lose(message, Loss::Stale);
            }
            self.visible.pop_front();
        }
    }
}
