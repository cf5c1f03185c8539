//! Calls to the service that have not been answered, and the requests that wait.

/// How many calls may be unanswered at once, per worker.
pub(crate) const MAX_IN_FLIGHT: usize = 4096;
/// Twice as many places keep the probes short.
const PLACES: usize = 2 * MAX_IN_FLIGHT;

/// An answered call: whose filter made it, and which request still waits for it,
/// if the client has not gone meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) root: u32,
    pub(crate) stream: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Call {
    stream: u32,
    root: u32,
}

/// A call is bound to the filter's root context, not to the request's, so that it
/// is answered even when the client has gone: the breaker wants to know.
pub(crate) struct InFlight {
    calls: IdMap<Call>,
    /// Streams that wait, each for one call.
    waiting: IdMap<()>,
}

impl InFlight {
    pub(crate) const EMPTY: Self =
        Self { calls: IdMap::empty(Call { stream: 0, root: 0 }), waiting: IdMap::empty(()) };

    pub(crate) fn is_full(&self) -> bool {
        self.calls.len >= MAX_IN_FLIGHT
    }

    /// Says `false` when there is no room.
    #[must_use]
    pub(crate) fn add(&mut self, call: u32, root: u32, stream: u32) -> bool {
        if !self.calls.insert(call, Call { stream, root }) {
            return false;
        }
        let added = self.waiting.insert(stream, ());
        if !added {
            self.calls.remove(call);
        }
        added
    }

    pub(crate) fn answered(&mut self, call: u32) -> Option<Answered> {
        let Call { stream, root } = self.calls.remove(call)?;
        let waits = self.waiting.remove(stream).is_some();
        Some(Answered { root, stream: waits.then_some(stream) })
    }

    pub(crate) fn stream_gone(&mut self, stream: u32) {
        if self.waiting.len > 0 {
            self.waiting.remove(stream);
        }
    }

    /// The host cancels the calls of a root context that goes: nobody will answer.
    pub(crate) fn root_gone(&mut self, root: u32) {
        while let Some((call, stream)) = self.calls.find(|call| call.root == root) {
            self.calls.remove(call);
            self.waiting.remove(stream.stream);
        }
    }
}

/// A map from ids to small values: open addressing with linear probing, at most
/// half full. All zero is empty.
struct IdMap<V> {
    len: usize,
    /// The id plus one, so that zero is no id, and its value.
    places: [(u32, V); PLACES],
}

impl<V: Copy> IdMap<V> {
    const fn empty(filler: V) -> Self {
        Self { len: 0, places: [(0, filler); PLACES] }
    }

    /// Says `false` when the map is full, or has the id.
    fn insert(&mut self, id: u32, value: V) -> bool {
        let Some(mark) = id.checked_add(1).filter(|_| self.len < MAX_IN_FLIGHT) else {
            return false;
        };
        let mut at = home(mark);
        loop {
            match self.places.get_mut(at) {
                Some(place) if place.0 == 0 => {
                    *place = (mark, value);
                    self.len += 1;
                    return true;
                }
                Some(place) if place.0 == mark => return false,
                _ => at = (at + 1) % PLACES,
            }
        }
    }

    fn remove(&mut self, id: u32) -> Option<V> {
        let mark = id.checked_add(1)?;
        let mut hole = home(mark);
        let value = loop {
            match self.places.get(hole) {
                Some(&(found, value)) if found == mark => break value,
                Some(&(0, _)) => return None,
                _ => hole = (hole + 1) % PLACES,
            }
        };
        // Move back whatever the hole would cut off from its home.
        let mut at = hole;
        loop {
            at = (at + 1) % PLACES;
            let moved = *self.places.get(at)?;
            if moved.0 == 0 {
                break;
            }
            if distance(home(moved.0), at) >= distance(hole, at) {
                *self.places.get_mut(hole)? = moved;
                hole = at;
            }
        }
        self.places.get_mut(hole)?.0 = 0;
        self.len -= 1;
        Some(value)
    }

    fn find(&self, wanted: impl Fn(&V) -> bool) -> Option<(u32, V)> {
        if self.len == 0 {
            return None;
        }
        self.places
            .iter()
            .find(|(mark, value)| *mark != 0 && wanted(value))
            .map(|(m, v)| (m - 1, *v))
    }
}

fn home(mark: u32) -> usize {
    // Fibonacci hashing: ids come in sequence, some hosts skipping every other.
    mark.wrapping_mul(0x9E37_79B9) as usize >> 19 & (PLACES - 1)
}

fn distance(from: usize, to: usize) -> usize {
    (to + PLACES - from) % PLACES
}

#[cfg(test)]
mod tests {
    use super::{Answered, Call, IdMap, InFlight, MAX_IN_FLIGHT};
    use std::collections::HashMap;

    #[test]
    fn agrees_with_a_hash_map() {
        let mut map = Box::new(IdMap::empty(0_u64));
        let mut model = HashMap::new();
        let mut random: u64 = 1;
        for step in 0..200_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let id = (random >> 40) as u32 % 6000;
            if random >> 63 == 0 {
                let fits = model.len() < MAX_IN_FLIGHT && !model.contains_key(&id);
                assert_eq!(map.insert(id, step), fits);
                if fits {
                    model.insert(id, step);
                }
            } else {
                assert_eq!(map.remove(id), model.remove(&id));
            }
            assert_eq!(map.len, model.len());
        }
        assert!(model.len() > 1000, "the map was in use");
        for (id, value) in model {
            assert_eq!(map.remove(id), Some(value));
        }
        assert!(map.find(|_| true).is_none());
    }

    #[test]
    fn an_answer_finds_the_stream_unless_it_went() {
        let mut calls = Box::new(InFlight::EMPTY);
        assert!(calls.add(1, 7, 10) && calls.add(3, 7, 12) && calls.add(5, 8, 14));
        calls.stream_gone(12);
        calls.stream_gone(99);
        assert_eq!(calls.answered(1), Some(Answered { root: 7, stream: Some(10) }));
        assert_eq!(calls.answered(3), Some(Answered { root: 7, stream: None }));
        assert_eq!(calls.answered(3), None);
        assert!(calls.add(9, 7, 16));
        calls.root_gone(7);
        assert_eq!(calls.answered(9), None);
        assert_eq!(calls.answered(5), Some(Answered { root: 8, stream: Some(14) }));
    }

    #[test]
    fn a_full_house_takes_no_more() {
        let mut calls = Box::new(InFlight::EMPTY);
        for id in 0..MAX_IN_FLIGHT as u32 {
            assert!(!calls.is_full());
            assert!(calls.add(id, 1, id));
        }
        assert!(calls.is_full() && !calls.add(u32::MAX - 1, 1, 77_777));
        assert!(calls.calls.find(|call| *call == Call { stream: 77_777, root: 1 }).is_none());
    }
}
