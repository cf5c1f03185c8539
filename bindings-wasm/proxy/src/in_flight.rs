//! Calls to the service that have not ended, and the requests that wait for them.

use tidegate_core::Attempt;

use crate::id_map::{IdMap, MAX_IDS};

/// The most calls of one worker that may be in flight at once.
pub(crate) const MAX_IN_FLIGHT: usize = MAX_IDS;

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

impl EndedCall {
    /// Whether the call told what was used: it was made for no request, and asked for nothing.
    pub(crate) fn is_report(&self) -> bool {
        !self.has_request && self.asks == NO_ASKS
    }
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
        self.calls.len() >= MAX_IN_FLIGHT
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
        if self.waiting.len() > 0 {
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

#[cfg(test)]
mod tests {
    use tidegate_core::Attempt;

    use super::{EndedCall, InFlight, MAX_IN_FLIGHT, NO_ASKS, PendingCall};

    fn attempt(generation: u32) -> Attempt {
        Attempt { generation, is_probe: false }
    }

    fn add(calls: &mut InFlight, call: u32, root: u32, stream: u32) -> bool {
        calls.add(call, root, stream, attempt(call + 100), NO_ASKS).is_ok()
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
