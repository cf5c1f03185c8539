//! What will happen, in the order of time.

use core::cmp::Reverse;
use std::collections::BinaryHeap;

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// The source produces its next message.
    Produce,
    /// The queue of the function offers a message.
    Offer(u32),
    /// The visibility timeout of a message has passed since its `receives`-th receive.
    Reappear { message: u32, receives: u32 },
    /// A poller receives.
    Poll(u32),
    /// A poller offers its batch to the function.
    Try(u32),
    /// Another poller begins.
    Ramp,
    /// The calls of a batch begin.
    Begin(BatchId),
    /// A call has its slot.
    Leave(CallId),
    /// A call reaches the vendor.
    Arrive(CallId),
    /// The answer to a call.
    Answer { call: CallId, reply: Reply },
    /// The time of a batch is over.
    TimeOut(BatchId),
    /// A node looks for something to do.
    Wake(u32),
    /// A node's slot has come.
    Slot(u32),
    /// A fault begins.
    Fault(u32),
}

/// A batch: its place, and a number that tells it from earlier ones there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BatchId {
    pub(super) place: u32,
    pub(super) number: u32,
}

/// A call: its batch, and its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CallId {
    pub(super) batch: BatchId,
    pub(super) index: u32,
}

/// What the vendor says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reply {
    /// The call succeeded.
    Success,
    /// The call failed.
    Failure,
    /// The status 429, with `Retry-After` in seconds, or 0 without.
    Refusal { retry_after: u32 },
}

/// The events to come. Of two at the same time, the one that was added first comes first.
#[derive(Debug, Default)]
pub(super) struct Events {
    heap: BinaryHeap<Reverse<(u64, u64, Event)>>,
    added: u64,
}

impl Events {
    pub(super) fn add(&mut self, at: u64, event: Event) {
        self.added += 1;
        self.heap.push(Reverse((at, self.added, event)));
    }

    pub(super) fn next(&mut self) -> Option<(u64, Event)> {
        self.heap.pop().map(|Reverse((at, _, event))| (at, event))
    }
}
