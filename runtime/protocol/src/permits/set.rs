//! The permits of one key, and the line before them, in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tidegate_core::{PermitAnswer, PermitStanding, PermitState, decide_permit};

use super::{PermitReply, PermitStep, PermitTerms};

/// The permits of one key, and the callers that wait for one.
#[derive(Clone, Debug, Default)]
pub struct PermitSet {
    held: Expiring,
    waiting: Expiring,
    /// The place of each caller that waits.
    orders: HashMap<String, u64>,
    line: BTreeMap<u64, String>,
}

/// Names with the time at which each expires.
#[derive(Clone, Debug, Default)]
struct Expiring {
    until: HashMap<String, u64>,
    by_time: BTreeSet<(u64, String)>,
}

impl PermitSet {
    /// Takes the steps of a call at `now`, one after the other, and forgets what has expired.
    pub fn run(&mut self, terms: &PermitTerms, steps: &[PermitStep], now: u64) -> PermitReply {
        while self.held.pop_expired(now).is_some() {}
        while let Some(id) = self.waiting.pop_expired(now) {
            self.leave_line(&id);
        }
        let answers = steps.iter().map(|step| self.step(terms, step, now)).collect();
        let first = [self.held.first(), self.waiting.first()].into_iter().flatten().min();
        PermitReply {
            live: self.held.until.len() as u64,
            line: self.line.len() as u64,
            next: first.filter(|until| *until < u64::MAX).map(|until| until.saturating_sub(now)),
            answers,
        }
    }

    /// Whether nobody holds a permit and nobody waits.
    pub fn is_empty(&self) -> bool {
        self.held.until.is_empty() && self.line.is_empty()
    }

    fn step(&mut self, terms: &PermitTerms, step: &PermitStep, now: u64) -> PermitAnswer {
        let PermitStep { ask, id } = step;
        let state = self.state(id);
        let answer = decide_permit(&state, terms.limit, terms.max_line, *ask);
        match answer {
            PermitAnswer::Entered => {
                self.leave_line(id);
                self.waiting.remove(id);
                self.held.extend(id, now.saturating_add(terms.ttl));
            }
            PermitAnswer::Waiting { .. } => {
                if state.standing == PermitStanding::Absent {
                    let order = self.line.last_key_value().map_or(1, |(last, _)| last + 1);
                    self.line.insert(order, id.clone());
                    self.orders.insert(id.clone(), order);
                }
                self.waiting.extend(id, now.saturating_add(terms.wait));
            }
            PermitAnswer::Left { .. } => {
                self.leave_line(id);
                self.waiting.remove(id);
                self.held.remove(id);
            }
            PermitAnswer::Full | PermitAnswer::Lost => {}
        }
        answer
    }

    fn state(&self, id: &str) -> PermitState {
        let (live, line) = (self.held.until.len() as u64, self.line.len() as u64);
        if self.held.until.contains_key(id) {
            return PermitState { live, line, ahead: line, standing: PermitStanding::Held };
        }
        match self.orders.get(id) {
            Some(order) => {
                let ahead = self.line.range(..order).count() as u64;
                PermitState { live, line, ahead, standing: PermitStanding::Waiting }
            }
            None => PermitState { live, line, ahead: line, standing: PermitStanding::Absent },
        }
    }

    fn leave_line(&mut self, id: &str) {
        if let Some(order) = self.orders.remove(id) {
            self.line.remove(&order);
        }
    }
}

impl Expiring {
    /// The earliest time at which one expires.
    fn first(&self) -> Option<u64> {
        self.by_time.first().map(|(until, _)| *until)
    }

    fn pop_expired(&mut self, now: u64) -> Option<String> {
        self.first().filter(|until| *until <= now)?;
        let (_, id) = self.by_time.pop_first()?;
        self.until.remove(&id);
        Some(id)
    }

    /// Lets a name last until then, or longer if it did: the clock may have stepped back.
    fn extend(&mut self, id: &str, until: u64) {
        let until = self.remove(id).map_or(until, |before| before.max(until));
        self.until.insert(id.to_owned(), until);
        self.by_time.insert((until, id.to_owned()));
    }

    fn remove(&mut self, id: &str) -> Option<u64> {
        let until = self.until.remove(id)?;
        self.by_time.remove(&(until, id.to_owned()));
        Some(until)
    }
}

#[cfg(test)]
impl PermitSet {
    /// The callers that hold permits.
    pub(crate) fn holders(&self) -> Vec<tidegate_core::PermitHolder<String>> {
        let holder = |(id, until): (&String, &u64)| tidegate_core::PermitHolder {
            id: id.clone(),
            until: *until,
        };
        self.held.until.iter().map(holder).collect()
    }

    /// The callers that wait, in order.
    pub(crate) fn waiters(&self) -> Vec<tidegate_core::PermitWaiter<String>> {
        let waiter = |(order, id): (&u64, &String)| tidegate_core::PermitWaiter {
            id: id.clone(),
            order: *order,
            until: self.waiting.until.get(id).copied().unwrap_or_default(),
        };
        self.line.iter().map(waiter).collect()
    }
}
