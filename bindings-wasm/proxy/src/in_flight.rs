//! Calls to the service that have not ended, and the requests that wait for them.

use tidegate_core::Attempt;

/// The most calls of one worker that may be in flight at once.
pub(crate) const MAX_IN_FLIGHT: usize = 4096;
/// Twice as many places as calls keep probe sequences short.
const PLACES: usize = 2 * MAX_IN_FLIGHT;

/// The most descriptors of one call whose tokens are leased.
pub(crate) const MAX_ASKS: usize = 4;

/// What a call asks of one leased descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ask {
    /// The key's fingerprint.
    pub(crate) fingerprint: u64,
    /// The tokens that are asked for; 0 for an unused element.
    pub(crate) tokens: u32,
    /// The place of the descriptor in the message.
    pub(crate) position: u8,
    /// Whether the tokens are taken ahead, and not for one request.
    pub(crate) is_ahead: bool,
}

/// What a call asks of its leased descriptors.
pub(crate) type Asks = [Ask; MAX_ASKS];

/// A call that has been answered or has failed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EndedCall {
    /// The root context of the plugin that made it.
    pub(crate) root: u32,
    /// The request that waits for it; `None` when the client has gone.
    pub(crate) stream: Option<u32>,
    /// The breaker's attempt that the call is.
    pub(crate) attempt: Attempt,
    pub(crate) asks: Asks,
    /// Whether the call was made for a request that waited for it.
    pub(crate) has_request: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PendingCall {
    stream: u32,
    root: u32,
    /// All that a breaker needs of an [`Attempt`] to learn what became of it.
    generation: u32,
    asks: Asks,
}

/// No request: hosts count contexts from 1.
pub(crate) const NO_STREAM: u32 = 0;

const NO_ASK: Ask = Ask { fingerprint: 0, tokens: 0, position: 0, is_ahead: false };
pub(crate) const NO_ASKS: Asks = [NO_ASK; MAX_ASKS];

/// The calls in flight and the streams that wait for them.
///
/// A call is bound to the plugin's root context, not to the request's, so that its
/// outcome reaches the breaker even when the client has gone.
pub(crate) struct InFlight {
    calls: IdMap<PendingCall>,
    /// Streams that wait, each for one call.
    waiting: IdMap<()>,
}

impl InFlight {
    pub(crate) const EMPTY: Self = Self {
        calls: IdMap::empty(PendingCall { stream: 0, root: 0, generation: 0, asks: NO_ASKS }),
        waiting: IdMap::empty(()),
    };

    pub(crate) fn is_full(&self) -> bool {
        self.calls.len >= MAX_IN_FLIGHT
    }

    /// Adds the call `call`, which the plugin of `root` has made for `stream`, or for no request.
    ///
    /// # Errors
    /// The attempt, when there is no room, or the call or the stream is there already.
    pub(crate) fn add(
        &mut self,
        call: u32,
        root: u32,
        stream: u32,
        attempt: Attempt,
        asks: Asks,
    ) -> Result<(), Attempt> {
        let pending = PendingCall { stream, root, generation: attempt.generation, asks };
        if !self.calls.insert(call, pending) {
            return Err(attempt);
        }
        if stream != NO_STREAM && !self.waiting.insert(stream, ()) {
            self.calls.remove(call);
            return Err(attempt);
        }
        Ok(())
    }

    /// Removes a call that has ended; `None` when there is none of this id.
    pub(crate) fn end(&mut self, call: u32) -> Option<EndedCall> {
        let PendingCall { stream, root, generation, asks } = self.calls.remove(call)?;
        let has_request = stream != NO_STREAM;
        let waits = has_request && self.waiting.remove(stream).is_some();
        let attempt = Attempt { generation, is_probe: false };
        Some(EndedCall { root, stream: waits.then_some(stream), attempt, asks, has_request })
    }

    /// Forgets that a stream waits; its call stays in flight.
    pub(crate) fn stream_gone(&mut self, stream: u32) {
        if self.waiting.len > 0 {
            self.waiting.remove(stream);
        }
    }

    /// Removes the calls of a root context that is gone: the host cancels them and
    /// reports no outcome.
    pub(crate) fn root_gone(&mut self, root: u32) {
        while let Some((id, call)) = self.calls.find(|call| call.root == root) {
            self.calls.remove(id);
            self.waiting.remove(call.stream);
        }
    }
}

/// A hash map from ids to small values: open addressing with linear probing, at most
/// half full. A map of zero bytes is empty.
struct IdMap<V> {
    len: usize,
    /// The id plus one, so that zero is no id, and its value.
    places: [(u32, V); PLACES],
}

impl<V: Copy> IdMap<V> {
    const fn empty(filler: V) -> Self {
        Self { len: 0, places: [(0, filler); PLACES] }
    }

    /// Returns `false` when the map is full or contains the id.
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
        // Backward-shift deletion: move every entry that the hole would cut off from its home.
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
    // Fibonacci hashing: ids are consecutive, and some hosts use only every other one.
    mark.wrapping_mul(0x9E37_79B9) as usize >> 19 & (PLACES - 1)
}

fn distance(from: usize, to: usize) -> usize {
    (to + PLACES - from) % PLACES
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tidegate_core::Attempt;

    use super::{EndedCall, IdMap, InFlight, MAX_IN_FLIGHT, NO_ASKS, PendingCall};

    fn attempt(generation: u32) -> Attempt {
        Attempt { generation, is_probe: false }
    }

    fn add(calls: &mut InFlight, call: u32, root: u32, stream: u32) -> bool {
        calls.add(call, root, stream, attempt(call + 100), NO_ASKS).is_ok()
    }

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
    fn an_ended_call_has_its_stream_and_its_attempt_unless_the_stream_has_gone() {
        let mut calls = Box::new(InFlight::EMPTY);
        let ended = |root, stream, generation| {
            Some(EndedCall {
                root,
                stream,
                attempt: attempt(generation),
                asks: NO_ASKS,
                has_request: true,
            })
        };
        for (call, root, stream) in [(1, 7, 10), (3, 7, 12), (5, 8, 14)] {
            assert!(add(&mut calls, call, root, stream));
        }
        calls.stream_gone(12);
        calls.stream_gone(99);
        assert_eq!(calls.end(1), ended(7, Some(10), 101));
        assert_eq!(calls.end(3), ended(7, None, 103));
        assert_eq!(calls.end(3), None);
        assert!(add(&mut calls, 9, 7, 16));
        calls.root_gone(7);
        assert_eq!(calls.end(9), None);
        assert_eq!(calls.end(5), ended(8, Some(14), 105));
    }

    #[test]
    fn a_full_map_takes_no_more_and_a_refused_call_leaves_nothing() {
        let mut calls = Box::new(InFlight::EMPTY);
        for id in 0..MAX_IN_FLIGHT as u32 {
            assert!(!calls.is_full());
            assert!(add(&mut calls, id, 1, id));
        }
        assert!(calls.is_full());
        assert_eq!(calls.add(90_000, 1, 77_777, attempt(7), NO_ASKS), Err(attempt(7)));
        assert!(calls.calls.find(|call: &PendingCall| call.stream == 77_777).is_none());
    }
}
