//! What renews slices: a task on the I/O thread while there are any, which never keeps a
//! check waiting.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use futures_util::future::join_all;
use tidegate_core::{Clock as _, Grant, LeaseAsk, Next};

use super::{Leased, Lender, Node};
use crate::Error;
use crate::oneshot::oneshot;
use crate::redis::{LeaseCall, io};

/// Starts to tend a node's slices, until there are none.
pub(super) fn start(node: &Arc<Node>, lender: &Arc<Lender>) -> Result<(), Error> {
    let io = io::handle()?;
    io.spawn(tend(Arc::downgrade(node), Arc::clone(lender)));
    Ok(())
}

async fn tend(node: Weak<Node>, lender: Arc<Lender>) {
    let Some(wake) = node.upgrade().map(|node| Arc::clone(&node.wake)) else { return };
    let mut last_round = None;
    loop {
        let Some(node) = node.upgrade() else { return };
        let tick = lender.tick(&node);
        let now = node.clock.now();
        let mut due: Vec<Arc<Leased>> = core::mem::take(&mut *node.urgent.lock());
        if last_round.is_none_or(|last| now >= last + tick) {
            last_round = Some(now);
            let slices = node.slices.read();
            due = slices.by_key.values().map(Arc::clone).collect();
        }
        let calls = due.into_iter().filter_map(|leased| lender.next(&node, leased, now));
        for lane in lender.by_lane(calls) {
            tokio::spawn(ask(Arc::clone(&node), Arc::clone(&lender), lane));
        }
        if !node.is_tended_further() {
            return;
        }
        drop(node);
        let rest =
            Duration::from_nanos(last_round.map_or(0, |last| last + tick - now.min(last + tick)));
        _ = tokio::time::timeout(rest, wake.notified()).await;
    }
}

/// A question, and whose answer it is; nobody's, if the slice was given up.
struct Asking {
    call: LeaseCall,
    leased: Option<Arc<Leased>>,
}

impl Lender {
    /// How often slices are looked at, a little apart from other processes.
    fn tick(&self, node: &Node) -> u64 {
        let tick = self.contract.terms().ttl() / 16;
        tick - node.id % (tick / 8)
    }

    /// What there is to ask for a slice, if anything.
    fn next(&self, node: &Node, leased: Arc<Leased>, now: u64) -> Option<Asking> {
        let mut slice = leased.slice.lock();
        match slice.next(now) {
            Next::Nothing => None,
            Next::Ask => {
                let ask = slice.ask(now);
                drop(slice);
                let call = self.contract.call(node.id, &leased.key, &ask);
                Some(Asking { call, leased: Some(leased) })
            }
            Next::Leave => {
                let returned = slice.leave(now);
                drop(slice);
                self.leave(node, &leased, returned)
            }
            Next::Forget => {
                drop(slice);
                node.slices.write().by_key.remove(&leased.key);
                None
            }
        }
    }

    /// All that is due travels together, as far as it can: what goes to one server of a cluster
    /// does not wait for another.
    fn by_lane(&self, askings: impl Iterator<Item = Asking>) -> impl Iterator<Item = Vec<Asking>> {
        let mut lanes: BTreeMap<u16, Vec<Asking>> = BTreeMap::new();
        for asking in askings {
            lanes.entry(self.store.store().lane_of(&asking.call)).or_default().push(asking);
        }
        lanes.into_values()
    }

    fn leave(&self, node: &Node, leased: &Leased, returned: u64) -> Option<Asking> {
        let ask = LeaseAsk { returned, ..LeaseAsk::default() };
        Some(Asking { call: self.contract.call(node.id, &leased.key, &ask), leased: None })
    }

    /// Sends what slices are asked for, all of one lane, but where the breaker is open.
    async fn ask(&self, calls: Vec<LeaseCall>) -> Vec<Result<Grant, Error>> {
        let keys = calls.first().map_or(&[][..], |call| &call.keys);
        let attempt = match self.store.attempt_lease(keys) {
            Ok(attempt) => attempt,
            Err(error) => return calls.iter().map(|_| Err(error.clone())).collect(),
        };
        let answers = self.store.store().lease(calls).await;
        self.store.leased(attempt, &answers);
        answers
    }
}

impl Node {
    /// Whether there is anything left to tend; if not, the next key starts it again.
    fn is_tended_further(&self) -> bool {
        if !self.slices.read().by_key.is_empty() {
            return true;
        }
        let mut slices = self.slices.write();
        slices.is_tended = !slices.by_key.is_empty();
        slices.is_tended
    }
}

async fn ask(node: Arc<Node>, lender: Arc<Lender>, askings: Vec<Asking>) {
    let (calls, whose): (Vec<_>, Vec<_>) =
        askings.into_iter().map(|asking| (asking.call, asking.leased)).unzip();
    let mut answers = lender.ask(calls).await.into_iter();
    for leased in whose {
        let answer = answers.next();
        if let Some(leased) = leased {
            leased.take(&node, answer);
        }
    }
}

impl Leased {
    fn take(&self, node: &Node, answer: Option<Result<Grant, Error>>) {
        let mut slice = self.slice.lock();
        match answer {
            Some(Ok(grant)) => slice.granted(node.clock.now(), &grant),
            // A check that finds no slice asks the bucket, and is told.
            Some(Err(_)) | None => slice.failed(),
        }
    }
}

/// Gives all slices up, and waits for the store unless that would keep it from answering.
pub(super) fn give_back(node: &Arc<Node>, lender: &Arc<Lender>) {
    let leased: Vec<Arc<Leased>> =
        node.slices.write().by_key.drain().map(|(_, leased)| leased).collect();
    let now = node.clock.now();
    let leave = |leased: Arc<Leased>| {
        let mut slice = leased.slice.lock();
        let was_asked = slice.has_asked();
        let returned = slice.leave(now);
        drop(slice);
        if was_asked { lender.leave(node, &leased, returned) } else { None }
    };
    let lanes: Vec<_> = lender.by_lane(leased.into_iter().filter_map(leave)).collect();
    let Ok(io) = io::handle() else { return };
    if lanes.is_empty() {
        return;
    }
    let (sender, receiver) = oneshot();
    let (node, lender) = (Arc::clone(node), Arc::clone(lender));
    io.spawn(async move {
        let asked = lanes.into_iter().map(|lane| ask(Arc::clone(&node), Arc::clone(&lender), lane));
        join_all(asked).await;
        sender.send(Ok(()));
    });
    if tokio::runtime::Handle::try_current().is_err() {
        _ = receiver.wait();
    }
}
