//! `EgressAction`: what an egress tells its host to do.

/// What an [`Egress`](super::Egress) tells its host to do. Times are in nanoseconds; `id` is the name
/// that the host gave to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EgressAction {
    /// Get so many permits, each by itself, and say when they have come.
    AcquirePermits(u32),
    /// Give so many permits back.
    ReleasePermits(u32),
    /// Receive at most so many messages from the queue, and say when that is over.
    Receive(u32),
    /// Get a token for the message, and say when it has come.
    Acquire(u64),
    /// Cancel the request for the message's token; if it has come, give it back.
    GiveBack(u64),
    /// Make the message's call, and tell the response.
    Dispatch(u64),
    /// The message is done: delete it from the queue.
    Ack(u64),
    /// The message goes back to the queue, for another attempt after the delay. It is not in hand
    /// any more.
    Return {
        /// The message.
        id: u64,
        /// The earliest time from now at which it may come again.
        delay: u64,
        /// Whether this was an attempt that failed. A message that a hold sends back has not failed,
        /// so a broker that can leaves it uncounted.
        counted: bool,
    },
    /// Send the message to the dead-letter queue, delete it from the queue, and say whether that
    /// went well.
    DeadLetter {
        /// The message.
        id: u64,
        /// Why it is not tried again.
        reason: DeadReason,
    },
    /// Forget the message without telling the broker. Another process has it by now, or the broker
    /// delivers it again after a seek.
    Drop(u64),
    /// Ask the broker to keep the message from others for so long from now.
    Extend {
        /// The message.
        id: u64,
        /// For how long, from now.
        by: u64,
    },
    /// Tell the fleet to make no calls for so long.
    Hold(u64),
    /// All records of the partition before the offset are finished.
    Commit {
        /// The partition.
        partition: u32,
        /// The first offset that is not finished.
        offset: u64,
    },
    /// Read the partition on from the offset. It is done before the next record is offered.
    Seek {
        /// The partition.
        partition: u32,
        /// The next offset to deliver.
        offset: u64,
    },
    /// Deliver no records of the partition, but keep polling.
    Pause(u32),
    /// Deliver records of the partition again.
    Resume(u32),
}

/// Why a message is dead-lettered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeadReason {
    /// The deadline has passed, or would before the answer is there.
    Stale,
    /// The vendor says that the call is wrong.
    Permanent,
    /// It failed in each of the attempts that it may have.
    Exhausted,
}

impl DeadReason {
    /// The name that every binding uses: `"stale"`, `"permanent"` or `"exhausted"`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::Permanent => "permanent",
            Self::Exhausted => "exhausted",
        }
    }
}
