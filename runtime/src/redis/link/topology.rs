//! The topology of a cluster: which server serves which slot.

use core::time::Duration;
use std::sync::Arc;

use ::redis::Value;
use tidegate_protocol::{SLOTS, StoreBreaker};

use super::address::Place;
use super::server::Server;

const NOBODY: u16 = u16::MAX;

/// The node that serves each slot, as far as is known.
#[derive(Clone)]
pub(super) struct Topology {
    owners: Vec<Node>,
    /// For each slot, the index of its owner in `owners`.
    slots: Vec<u16>,
    /// The breaker of the slots without a known owner.
    unserved: Arc<StoreBreaker>,
}

#[derive(Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) server: Server,
    /// The node's breaker; calls to other nodes go on while it is open.
    pub(super) breaker: Arc<StoreBreaker>,
}

/// The slots from `first` to `last`, and the place of their master.
#[derive(Debug, PartialEq)]
pub(super) struct Range {
    first: u16,
    last: u16,
    master: Place,
}

impl Topology {
    /// A topology without owners. Calls take `timeout` at most.
    pub(super) fn empty(timeout: Duration) -> Self {
        let unserved = Arc::new(StoreBreaker::new(timeout));
        Self { owners: Vec::new(), slots: vec![NOBODY; usize::from(SLOTS)], unserved }
    }

    pub(super) fn nodes(&self) -> &[Node] {
        &self.owners
    }

    pub(super) fn owner(&self, slot: u16) -> Option<&Node> {
        let owner = self.slots.get(usize::from(slot))?;
        self.owners.get(usize::from(*owner))
    }

    /// The breaker of the slot's owner.
    pub(super) fn breaker(&self, slot: u16) -> &Arc<StoreBreaker> {
        self.owner(slot).map_or(&self.unserved, |node| &node.breaker)
    }

    pub(super) fn breakers(&self) -> impl Iterator<Item = &Arc<StoreBreaker>> {
        self.owners.iter().map(|node| &node.breaker).chain([&self.unserved])
    }

    pub(super) fn at(&self, place: &Place) -> Option<&Node> {
        self.owners.iter().find(|node| node.place == *place)
    }

    /// Gives `slots` to `node`.
    pub(super) fn assign(&mut self, slots: core::ops::RangeInclusive<u16>, node: Node) {
        let known = self.owners.iter().position(|other| other.place == node.place);
        let at = known.unwrap_or_else(|| {
            self.owners.push(node);
            self.owners.len() - 1
        });
        let (first, last) = (usize::from(*slots.start()), usize::from(*slots.end()));
        if let (Ok(at), Some(slots)) = (u16::try_from(at), self.slots.get_mut(first..=last)) {
            slots.fill(at);
        }
    }
}

impl Node {
    /// A node that has not failed yet. Calls to it take `timeout` at most.
    pub(super) fn new(place: &Place, server: Server, timeout: Duration) -> Self {
        let breaker = Arc::new(StoreBreaker::of_node(timeout, &place.to_string()));
        Self { place: place.clone(), server, breaker }
    }
}

impl Range {
    pub(super) fn slots(&self) -> core::ops::RangeInclusive<u16> {
        self.first..=self.last
    }

    pub(super) fn master(&self) -> &Place {
        &self.master
    }
}

/// Reads the answer to `CLUSTER SLOTS`; `None` if it has another form. A node that does not know its
/// own host is at the place where it was `asked`.
pub(super) fn read_slots(answer: &Value, asked: &Place) -> Option<Vec<Range>> {
    let Value::Array(ranges) = answer else { return None };
    ranges.iter().map(|range| read_range(range, asked)).collect()
}

fn read_range(range: &Value, asked: &Place) -> Option<Range> {
    let Value::Array(parts) = range else { return None };
    let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = parts.as_slice() else {
        return None;
    };
    let [host, Value::Int(port), ..] = master.as_slice() else { return None };
    let host = match host {
        Value::BulkString(host) => core::str::from_utf8(host).ok()?,
        Value::SimpleString(host) => host,
        Value::Nil => "",
        _ => return None,
    };
    let (first, last) = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?);
    let master = place(host, u16::try_from(*port).ok()?, asked)?;
    (first <= last && last < SLOTS).then_some(Range { first, last, master })
}

/// The place in an error such as `MOVED 3999 127.0.0.1:6381`.
pub(super) fn read_place(text: &str, asked: &Place) -> Option<Place> {
    let (host, port) = text.rsplit_once(':')?;
    place(host, port.parse().ok()?, asked)
}

fn place(host: &str, port: u16, asked: &Place) -> Option<Place> {
    match (host, asked) {
        ("" | "?", Place::Tcp { host, .. }) => Some(Place::tcp(host, port)),
        ("" | "?", Place::Socket(_)) => None,
        (host, _) => Some(Place::tcp(host, port)),
    }
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "a test may stop")]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn range(first: i64, last: i64, host: Value, port: i64) -> Value {
        let master = vec![host, Value::Int(port), text("id"), Value::Array(vec![])];
        Value::Array(vec![Value::Int(first), Value::Int(last), Value::Array(master)])
    }

    #[test]
    fn ranges_are_read_and_a_host_that_is_not_known_is_the_one_that_was_asked() {
        let asked = Place::tcp("seed", 7000);
        let answer = Value::Array(vec![
            range(0, 100, text("10.0.0.1"), 7001),
            range(101, 200, text(""), 7002),
            range(201, 16383, Value::Nil, 7003),
        ]);
        let read: Vec<_> = read_slots(&answer, &asked)
            .expect("ranges")
            .iter()
            .map(|range| (range.slots(), range.master().clone()))
            .collect();
        let expected = [
            (0..=100, Place::tcp("10.0.0.1", 7001)),
            (101..=200, Place::tcp("seed", 7002)),
            (201..=16383, Place::tcp("seed", 7003)),
        ];
        assert_eq!(read, expected);
    }

    #[test]
    fn what_is_no_range_is_none() {
        let asked = Place::tcp("seed", 7000);
        for wrong in [
            range(0, 16384, text("h"), 1),
            range(-1, 5, text("h"), 1),
            range(7, 6, text("h"), 1),
            range(0, 1, text("h"), 65536),
            range(0, 1, Value::Int(3), 1),
            Value::Array(vec![Value::Int(0), Value::Int(1)]),
            Value::Nil,
        ] {
            let shown = format!("{wrong:?}");
            assert_eq!(read_slots(&Value::Array(vec![wrong]), &asked), None, "{shown}");
        }
        assert_eq!(read_slots(&Value::Nil, &asked), None);
    }

    #[test]
    fn a_redirection_may_leave_the_host_out() {
        let asked = Place::tcp("::1", 7000);
        assert_eq!(read_place("10.0.0.1:7001", &asked), Some(Place::tcp("10.0.0.1", 7001)));
        assert_eq!(read_place("::1:7001", &asked), Some(Place::tcp("::1", 7001)));
        assert_eq!(read_place(":7001", &asked), Some(Place::tcp("::1", 7001)));
        for wrong in ["10.0.0.1", "10.0.0.1:", "10.0.0.1:x", ""] {
            assert_eq!(read_place(wrong, &asked), None, "{wrong}");
        }
    }
}
