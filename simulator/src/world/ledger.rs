//! What has become of each message. Every message is in one state, and the states add up.

/// Where a message is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// The message is not produced yet.
    #[default]
    Unborn,
    /// It waits: in the queue, or until it is offered again.
    Queued,
    /// It was received, and is neither handled nor visible again.
    InFlight,
    /// Its call succeeded, and it is deleted.
    Done,
    /// It was put aside.
    Lost,
}

/// Why a message was put aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    Received,
    GivenUp,
    Failed,
    Stale,
}

/// A message.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Message {
    pub(super) state: State,
    pub(super) born: u64,
    pub(super) receives: u32,
    /// The refusals for want of room, which make its back-off longer.
    pub(super) throttles: u32,
    pub(super) errors: u32,
    /// Whether its first call has left.
    pub(super) was_called: bool,
    /// Whether a call for it has succeeded, also if the batch was ended before it could be deleted.
    pub(super) has_succeeded: bool,
}

/// All messages, and how many are in each state.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) messages: Vec<Message>,
    pub(super) produced: u32,
    pub(super) queued: u32,
    pub(super) in_flight: u32,
    pub(super) done: u32,
    pub(super) lost: [u32; 4],
}

impl Ledger {
    pub(super) fn new(messages: u32) -> Self {
        Self {
            messages: vec![Message::default(); messages as usize],
            produced: 0,
            queued: 0,
            in_flight: 0,
            done: 0,
            lost: [0; 4],
        }
    }

    pub(super) fn message(&mut self, message: u32) -> &mut Message {
        &mut self.messages[message as usize]
    }

    pub(super) fn state(&self, message: u32) -> State {
        self.messages[message as usize].state
    }

    pub(super) fn produce(&mut self, now: u64) -> u32 {
        let message = self.produced;
        self.produced += 1;
        self.message(message).born = now;
        self.change(message, State::Queued);
        message
    }

    pub(super) fn queue(&mut self, message: u32) {
        self.change(message, State::Queued);
    }

    pub(super) fn take(&mut self, message: u32) {
        self.change(message, State::InFlight);
    }

    /// Whether it was neither done nor lost before.
    pub(super) fn finish(&mut self, message: u32) -> bool {
        let is_new = !matches!(self.state(message), State::Done | State::Lost);
        if is_new {
            self.change(message, State::Done);
        }
        is_new
    }

    pub(super) fn lose(&mut self, message: u32, loss: Loss) {
        self.change(message, State::Lost);
        self.lost[loss as usize] += 1;
    }

    pub(super) fn all_lost(&self) -> u32 {
        self.lost.iter().sum()
    }

    /// Whether every message has come to its end.
    pub(super) fn is_over(&self) -> bool {
        (self.done + self.all_lost()) as usize == self.messages.len()
    }

    /// Whether what was produced is all somewhere, by the counts.
    pub(super) fn is_balanced(&self) -> bool {
        self.queued + self.in_flight + self.done + self.all_lost() == self.produced
    }

    /// Whether the counts are those of the messages.
    pub(super) fn is_counted(&self) -> bool {
        let of =
            |state| self.messages.iter().filter(|message| message.state == state).count() as u32;
        of(State::Queued) == self.queued
            && of(State::InFlight) == self.in_flight
            && of(State::Done) == self.done
            && of(State::Lost) == self.all_lost()
            && of(State::Unborn) + self.produced == self.messages.len() as u32
    }

    fn change(&mut self, message: u32, to: State) {
        let from = core::mem::replace(&mut self.message(message).state, to);
        match from {
            State::Unborn | State::Lost => {}
            State::Queued => self.queued -= 1,
            State::InFlight => self.in_flight -= 1,
            State::Done => self.done -= 1,
        }
        match to {
            State::Unborn | State::Lost => {}
            State::Queued => self.queued += 1,
            State::InFlight => self.in_flight += 1,
            State::Done => self.done += 1,
        }
    }
}
