//! `HeldMessage`: a message in hand, in a slot that the host provides.

use super::action::DeadReason;

/// A message as the queue delivered it. Times are in nanoseconds, on the clock of the machine's `now`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EgressMessage {
    /// The name of this delivery, chosen by the host. No two in hand have the same.
    pub id: u64,
    /// The time of the receive, from which the broker counts the visibility.
    pub received_at: u64,
    /// The time at which the message was put into the queue, for the gauge of the oldest age.
    pub sent_at: u64,
    /// The time by which the answer must be there; `u64::MAX` if the message does not age.
    pub deadline: u64,
    /// How often the message has been delivered, this one included.
    pub attempts: u32,
    /// A hash of what must stay in order; 0 for a message that is on its own.
    pub key: u64,
    /// 64 random bits, from which the message's jitter comes.
    pub random: u64,
    /// The partition of a record.
    pub partition: u32,
    /// The offset of a record in its partition.
    pub offset: u64,
    /// The generation of the assignment under which a record was delivered.
    pub generation: u64,
}

/// A slot for a message in hand. The host provides as many as it wants to allow, each as
/// [`FREE`](Self::FREE).
#[derive(Clone, Copy, Debug)]
pub struct HeldMessage {
    pub(super) message: EgressMessage,
    pub(super) phase: Phase,
    /// The order of arrival.
    pub(super) seq: u64,
    /// The time until which the broker keeps the message from others; `u64::MAX` for always.
    pub(super) visible_at: u64,
    /// The time before which no token is asked for.
    pub(super) not_before: u64,
    pub(super) dispatched_at: u64,
    /// Whether a token was asked for that no call has used.
    pub(super) has_asked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Free,
    Waiting,
    Asked,
    Granted,
    Sent,
    /// The host must be told how the message leaves the hand.
    Ending(Ending),
    /// The host is sending it to the dead-letter queue.
    Burying,
    /// A finished record that the commit has not passed.
    Done,
    /// A call of an assignment that is over; its outcome means nothing.
    Fenced,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Ack,
    Return { delay: u64, counted: bool },
    Bury(DeadReason),
    Drop,
}

impl HeldMessage {
    /// A slot without a message.
    pub const FREE: Self = Self {
        message: EgressMessage {
            id: 0,
            received_at: 0,
            sent_at: 0,
            deadline: 0,
            attempts: 0,
            key: 0,
            random: 0,
            partition: 0,
            offset: 0,
            generation: 0,
        },
        phase: Phase::Free,
        seq: 0,
        visible_at: 0,
        not_before: 0,
        dispatched_at: 0,
        has_asked: false,
    };

    /// Whether the message has not been dispatched, and nothing ends it.
    pub(super) const fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::Waiting | Phase::Asked | Phase::Granted)
    }

    /// Whether the message takes a permit.
    pub(super) const fn is_in_hand(&self) -> bool {
        !matches!(self.phase, Phase::Free | Phase::Done)
    }

    /// Whether the message's record is neither finished nor given up.
    pub(super) const fn is_unfinished(&self) -> bool {
        match self.phase {
            Phase::Waiting | Phase::Asked | Phase::Granted | Phase::Sent | Phase::Burying => true,
            Phase::Ending(Ending::Drop) | Phase::Free | Phase::Done | Phase::Fenced => false,
            Phase::Ending(Ending::Ack | Ending::Return { .. } | Ending::Bury(_)) => true,
        }
    }
}
