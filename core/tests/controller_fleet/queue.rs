//! A vendor with so many servers, before which calls queue; a backlog of calls keeps as many of them
//! under way as the controller's concurrency allows.

use core::cmp::Reverse;
use std::collections::BinaryHeap;

use tidegate_core::{ControlPolicy, ControlReport, Controller};

use super::{MILLI, Random, SECOND};

pub(crate) struct Queue {
    pub(crate) seed: u64,
    pub(crate) servers: usize,
    /// The time that a server takes for a call; each call up to a tenth more or less.
    pub(crate) service: u64,
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Busy {
    pub(crate) done: u64,
    /// The most calls that were under way.
    pub(crate) under_way: u64,
    /// The concurrency at the end of the second.
    pub(crate) limit: u64,
}

impl Queue {
    /// Runs for `seconds`, in each of which the servers are `slower` by a factor.
    pub(crate) fn run(&self, seconds: u64, slower: impl Fn(u64) -> u64) -> Vec<Busy> {
        let policy = ControlPolicy::DEFAULT;
        let mut random = Random(self.seed);
        let mut controller = Controller::new();
        let start = 1_764_000_000 * SECOND;
        let mut free_at = vec![start; self.servers];
        let mut under_way = BinaryHeap::new();
        let mut busy = vec![Busy::default(); seconds as usize];
        let (mut now, mut told_at) = (start, start);
        let mut report = ControlReport::default();
        loop {
            let second = (now - start) / SECOND;
            if second >= seconds {
                return busy;
            }
            while (under_way.len() as u64) < controller.limit(&policy) {
                let spread = random.below(self.service / 5);
                let service = (self.service * 9 / 10 + spread) * slower(second);
                let server = free_at.iter_mut().min().unwrap();
                *server = now.max(*server) + service;
                under_way.push(Reverse((*server, now)));
            }
            let seen = &mut busy[second as usize];
            seen.under_way = seen.under_way.max(under_way.len() as u64);
            seen.limit = controller.limit(&policy);
            let Some(Reverse((done_at, sent))) = under_way.pop() else { return busy };
            now = done_at;
            seen.done += 1;
            report.ok += 1;
            report.latency += now - sent;
            if now - told_at >= 100 * MILLI {
                told_at = now;
                controller.report(&policy, now, &core::mem::take(&mut report));
            }
        }
    }
}
