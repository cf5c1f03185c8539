//! What must be there before a call: a token of the message, a permit, an open gate. Kept apart from
//! the machine, from what the host told it.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_core::{Egress, EgressPartition, HeldMessage};

use super::random::Random;

pub(crate) type Machine = Egress<Vec<HeldMessage>, Vec<EgressPartition>>;

#[derive(Default)]
pub(crate) struct Keys {
    pub(crate) held_until: u64,
    pub(crate) is_store_down: bool,
    pub(crate) probes: Option<u32>,
    /// Whether the token of each message that was asked for has come.
    pub(crate) tokens: BTreeMap<u64, bool>,
    pub(crate) permits: u32,
    pub(crate) permits_asked: u32,
    pub(crate) in_hand: BTreeSet<u64>,
    pub(crate) receiving: Option<u32>,
    pub(crate) spent: u64,
    /// Whether permits ran out while they were in use, so that more may be in hand than there are.
    pub(crate) has_lost_permits: bool,
}

impl Keys {
    pub(crate) fn is_blocked(&self, now: u64) -> bool {
        now < self.held_until || self.is_store_down || self.probes == Some(0)
    }

    pub(crate) fn asks_for_permits(&mut self, now: u64, count: u32, concurrency: u32) {
        assert!(!self.is_blocked(now), "asks for permits behind a closed gate");
        self.permits_asked += count;
        assert!(self.permits + self.permits_asked <= concurrency, "permits_within_concurrency");
    }

    pub(crate) fn releases_permits(&mut self, count: u32) {
        assert!(count <= self.permits);
        self.permits -= count;
        let needed = self.in_hand.len() as u32 + self.receiving.unwrap_or(0);
        assert!(self.has_lost_permits || needed <= self.permits, "permit_before_receive");
    }

    pub(crate) fn receives(&mut self, now: u64, count: u32) {
        assert!(!self.is_blocked(now), "receive_only_through_an_open_gate");
        assert!(self.receiving.is_none(), "one_receive_at_a_time");
        assert!(self.in_hand.len() as u32 + count <= self.permits, "permit_before_receive");
        self.receiving = Some(count);
    }

    pub(crate) fn asks_for_token(&mut self, now: u64, id: u64) {
        assert!(!self.is_blocked(now), "no_token_behind_a_closed_gate");
        assert!(self.in_hand.contains(&id), "no_token_without_a_message");
        assert_eq!(self.tokens.insert(id, false), None, "one_token_for_each_call");
    }

    pub(crate) fn gives_token_back(&mut self, id: u64) {
        assert!(self.tokens.remove(&id).is_some(), "tokens_are_conserved");
    }

    pub(crate) fn dispatches(&mut self, now: u64, id: u64) {
        assert!(self.in_hand.contains(&id), "no_dispatch_of_what_is_gone");
        assert_eq!(self.tokens.remove(&id), Some(true), "no_dispatch_without_a_token");
        assert!(!self.is_blocked(now), "no_dispatch_through_a_closed_gate");
        assert!(self.in_hand.len() as u32 <= self.permits, "no_dispatch_without_a_permit");
        self.probes = self.probes.map(|probes| probes - 1);
        self.spent += 1;
    }

    /// The message has left the hand.
    pub(crate) fn leaves(&mut self, id: u64) {
        assert!(self.in_hand.remove(&id), "one_end_for_each_delivery");
        assert!(!self.tokens.contains_key(&id), "tokens_are_conserved");
    }

    /// What the store and the gate do by themselves.
    pub(crate) fn something_happens(
        &mut self,
        now: u64,
        machine: &mut Machine,
        random: &mut Random,
    ) {
        match random.up_to(13) {
            0..=6 => self.a_token_comes(now, machine, random),
            7..=9 => self.permits_come(now, machine),
            10 => {
                self.is_store_down = !self.is_store_down;
                machine.store(now, !self.is_store_down);
            }
            11 => {
                let until = now + random.up_to(400);
                self.held_until = self.held_until.max(until);
                machine.held(now, until);
            }
            12 => {
                self.probes = [None, None, Some(0), Some(1)][random.index(4)];
                machine.breaker(now, self.probes);
            }
            _ if random.one_in(4) => {
                let lost = (random.up_to(1) as u32).min(self.permits);
                self.permits -= lost;
                self.has_lost_permits |= lost > 0;
                machine.permits_lost(now, lost, false);
            }
            _ => {}
        }
    }

    pub(crate) fn all_is_well(&mut self, now: u64, machine: &mut Machine) {
        self.is_store_down = false;
        machine.store(now, true);
        self.probes = None;
        machine.breaker(now, None);
        self.permits_come(now, machine);
    }

    pub(crate) fn permits_come(&mut self, now: u64, machine: &mut Machine) {
        machine.permits_granted(now, self.permits_asked);
        self.permits += self.permits_asked;
        self.permits_asked = 0;
    }

    pub(crate) fn every_token_comes(&mut self, now: u64, machine: &mut Machine) {
        for (id, has_come) in &mut self.tokens {
            if !*has_come {
                *has_come = true;
                assert!(machine.granted(now, *id), "a token was asked for");
            }
        }
    }

    fn a_token_comes(&mut self, now: u64, machine: &mut Machine, random: &mut Random) {
        let asked: Vec<_> =
            self.tokens.iter().filter(|(_, has_come)| !**has_come).map(|(id, _)| *id).collect();
        if !asked.is_empty() {
            let id = asked[random.index(asked.len())];
            self.tokens.insert(id, true);
            assert!(machine.granted(now, id), "a token was asked for");
        }
    }
}
