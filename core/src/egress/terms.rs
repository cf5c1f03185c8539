//! `EgressTerms`: what an egress is set to.

/// What an [`Egress`](super::Egress) is set to. Times are in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EgressTerms {
    /// The most messages that are in hand at a time: the most permits that are asked for.
    pub concurrency: u32,
    /// The most messages of one receive.
    pub batch: u32,
    /// The most messages that wait in hand for their tokens. It is at least 2 in practice: a
    /// vendor's limit without a burst loses what nobody waits for, so the next message must wait
    /// when a token comes.
    pub ahead: u32,
    /// The deliveries after which a message that fails is dead-lettered, at least 1.
    pub max_attempts: u32,
    /// For how long the broker keeps a message from others after a receive or an extension; 0 if
    /// it keeps it for as long as the connection lasts. An extension is due at half of it.
    pub visibility: u64,
    /// The longest time for which extensions can keep a message, from its receive: 12 hours for SQS.
    pub max_visibility: u64,
    /// The longest hold that a message waits out in hand; for a longer one it goes back to the
    /// broker. 0 returns every message.
    pub keep: u64,
    /// The most that is added at random to the delay of a message that returns because of a hold, so
    /// that a fleet's messages do not come back all at once.
    pub jitter: u64,
    /// The hold of a response that refuses the rate and says no time.
    pub blind_hold: u64,
    /// The back-off of the first failure; it doubles with each attempt. Half of it is random.
    pub back_off: u64,
    /// The bound of the back-off.
    pub max_back_off: u64,
    /// The time between two tokens, with which the wait of a message is predicted; 0 if unknown.
    pub interval: u64,
    /// Which order is kept.
    pub order: EgressOrder,
}

/// Which order an [`Egress`](super::Egress) keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EgressOrder {
    /// Every message is on its own.
    None,
    /// Messages of one key leave one after the other. When one returns, those behind it that are in
    /// hand return too; the broker keeps their order, as SQS does for a message group.
    Key,
    /// As [`Key`](Self::Key), and messages are records of partitions, as in Kafka: what is finished
    /// is committed as a contiguous prefix, and a record returns by a seek.
    Partition,
}

impl EgressOrder {
    /// The order of the name that every binding uses: `"none"`, `"key"` or `"partition"`.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::None, Self::Key, Self::Partition].into_iter().find(|order| order.as_str() == name)
    }

    /// The name that every binding uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Key => "key",
            Self::Partition => "partition",
        }
    }
}
