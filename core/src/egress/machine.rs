//! `Egress`: the state machine between a queue and a vendor.

use super::action::{DeadReason, EgressAction};
use super::held::{EgressMessage, Ending, HeldMessage, Phase};
use super::partition::{EgressPartition, Stage};
use super::response::EgressResponse;
use super::terms::{EgressOrder, EgressTerms};

/// The state machine between a queue and a vendor that limits its callers.
///
/// It is pure: the host gives it what has happened, with the time, and then asks with
/// [`poll`](Self::poll) what to do, until the answer is `None`. [`wake_at`](Self::wake_at) says when
/// to ask again if nothing happens. Times are in nanoseconds, on any clock that does not step back.
///
/// A permit comes before a receive, so that no message is received to wait for others. A message is
/// then checked against its deadline, and only then asks for a token, so that a stale message costs
/// nothing. It leaves with its token while the gate is open. Every message ends once, by an
/// [`Ack`](EgressAction::Ack) or a [`DeadLetter`](EgressAction::DeadLetter); until then it may return
/// to the queue.
///
/// It holds messages and partitions in slots that the host provides, and never allocates.
///
/// ```
/// use tidegate_core::{
///     Egress, EgressAction, EgressMessage, EgressOrder, EgressResponse, EgressTerms, HeldMessage,
/// };
/// const S: u64 = 1_000_000_000;
/// let terms = EgressTerms {
///     concurrency: 1, batch: 1, ahead: 1, max_attempts: 5, visibility: 30 * S,
///     max_visibility: 43_200 * S, keep: 0, jitter: 0, blind_hold: S, back_off: S,
///     max_back_off: 60 * S, interval: S, order: EgressOrder::None,
/// };
/// let mut egress = Egress::new(terms, [HeldMessage::FREE; 1], []);
/// assert_eq!(egress.poll(0), Some(EgressAction::AcquirePermits(1)));
/// egress.permits_granted(0, 1);
/// assert_eq!(egress.poll(0), Some(EgressAction::Receive(1)));
/// let message = EgressMessage {
///     id: 7, received_at: 0, sent_at: 0, deadline: u64::MAX, attempts: 1, key: 0, random: 0,
///     partition: 0, offset: 0, generation: 0,
/// };
/// egress.message(0, message);
/// egress.received(0, 1);
/// assert_eq!(egress.poll(0), Some(EgressAction::Acquire(7)));
/// egress.granted(S, 7);
/// assert_eq!(egress.poll(S), Some(EgressAction::Dispatch(7)));
/// egress.response(S, 7, EgressResponse::Done);
/// assert_eq!(egress.poll(S), Some(EgressAction::Ack(7)));
/// ```
#[derive(Clone, Debug)]
pub struct Egress<S, P> {
    terms: EgressTerms,
    slots: S,
    partitions: P,
    now: u64,
    /// Counts arrivals.
    seq: u64,
    permits: u32,
    /// Permits that were asked for and have not come.
    permits_asked: u32,
    /// The most messages that the receive under way may bring; `None` while there is none.
    receiving: Option<u32>,
    /// Whether the last receive brought nothing.
    is_queue_empty: bool,
    held_until: u64,
    /// How many calls the breaker lets through; `None` for all.
    probes: Option<u32>,
    is_store_up: bool,
    /// The time since which nothing may leave, for a time that nobody knows.
    blocked_since: Option<u64>,
    /// The end of a hold that the fleet must be told.
    hold_to_tell: Option<u64>,
    is_stopping: bool,
    /// An estimate of the median time of a call that succeeds.
    p50: u64,
    counts: EgressCounts,
}

/// How a message that was offered was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Admission {
    /// It is in hand.
    Held,
    /// It is in hand already, or finished: the host forgets it.
    Duplicate,
    /// The assignment is over: the host forgets the record.
    Fenced,
    /// There is no permit or no slot for it. The host returns it to its queue; a record comes again,
    /// because the partition is read again from it.
    NotTaken,
}

/// What an [`Egress`] has counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct EgressCounts {
    /// Messages that were taken in hand.
    pub received: u64,
    /// Calls, which is how many tokens were used.
    pub dispatched: u64,
    /// Messages that were done.
    pub acked: u64,
    /// Messages that went back to the queue, or to the broker by a seek.
    pub returned: u64,
    /// Messages that were forgotten because another process has them by now.
    pub dropped: u64,
    /// Responses that asked for a hold, or refused the number of calls at a time.
    pub throttled: u64,
    /// Responses that were failures.
    pub failed: u64,
    /// Messages dead-lettered as stale.
    pub stale: u64,
    /// Messages dead-lettered as permanent failures.
    pub permanent: u64,
    /// Messages dead-lettered after their last attempt.
    pub exhausted: u64,
}

/// What an [`Egress`] is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EgressGauges {
    /// Messages in hand whose calls have not begun.
    pub waiting: u32,
    /// Messages whose calls are under way.
    pub in_flight: u32,
    /// Permits that the host has.
    pub permits: u32,
    /// The time at which the oldest message in hand was put into the queue.
    pub oldest: Option<u64>,
    /// The end of the hold, while there is one.
    pub held_until: Option<u64>,
    /// Whether nothing may leave: a hold, a breaker that is open, or a store that is down.
    pub is_blocked: bool,
    /// The median time of a call that succeeds, as far as it is known; 0 before the first.
    pub p50: u64,
}

impl<S, P> Egress<S, P>
where
    S: AsRef<[HeldMessage]> + AsMut<[HeldMessage]>,
    P: AsRef<[EgressPartition]> + AsMut<[EgressPartition]>,
{
    /// An egress with nothing in hand. `slots` bound what is in hand, with the records that are
    /// finished before an earlier one of their partition is. `partitions` bound what may be assigned.
    pub const fn new(mut terms: EgressTerms, slots: S, partitions: P) -> Self {
        if matches!(terms.order, EgressOrder::Partition) {
            // A record stays with its assignment.
            terms.visibility = 0;
        }
        Self {
            terms,
            slots,
            partitions,
            now: 0,
            seq: 0,
            permits: 0,
            permits_asked: 0,
            receiving: None,
            is_queue_empty: false,
            held_until: 0,
            probes: None,
            is_store_up: true,
            blocked_since: None,
            hold_to_tell: None,
            is_stopping: false,
            p50: 0,
            counts: EgressCounts {
                received: 0,
                dispatched: 0,
                acked: 0,
                returned: 0,
                dropped: 0,
                throttled: 0,
                failed: 0,
                stale: 0,
                permanent: 0,
                exhausted: 0,
            },
        }
    }

    // --- what has happened --------------------------------------------------------------------

    /// The host has `count` permits more. They may be fewer than were asked for, never more.
    pub fn permits_granted(&mut self, now: u64, count: u32) {
        self.advance(now);
        let count = count.min(self.permits_asked);
        self.permits_asked -= count;
        self.permits += count;
    }

    /// The host has lost `count` permits, or gave up on asking for them: their time ran out, or their
    /// store is down. `asked` says which.
    pub fn permits_lost(&mut self, now: u64, count: u32, asked: bool) {
        self.advance(now);
        let from = if asked { &mut self.permits_asked } else { &mut self.permits };
        *from = from.saturating_sub(count);
    }

    /// A message was delivered.
    pub fn message(&mut self, now: u64, mut message: EgressMessage) -> Admission {
        let now = self.advance(now);
        if self.terms.order == EgressOrder::Partition {
            match self.record(&message) {
                Admission::Held => {}
                other => return other,
            }
        }
        let has_permit = self.in_hand() < self.permits;
        let free = self.slots.as_ref().iter().position(|slot| slot.phase == Phase::Free);
        let Some(free) = free.filter(|_| has_permit) else {
            if let Some(partition) = self.partition_of(message.partition) {
                partition.next = message.offset;
                partition.must_seek = true;
            }
            return Admission::NotTaken;
        };
        if let Some(partition) = self.partition_of(message.partition) {
            partition.next = message.offset.saturating_add(1);
            if let Some((offset, attempts)) = partition.failed
                && offset == message.offset
            {
                message.attempts = message.attempts.max(attempts.saturating_add(1));
            }
        }
        let visible_at = match self.terms.visibility {
            0 => u64::MAX,
            visibility => message.received_at.saturating_add(visibility),
        };
        let seq = self.seq;
        self.seq += 1;
        self.counts.received += 1;
        self.slots.as_mut()[free] = HeldMessage {
            message,
            phase: Phase::Waiting,
            seq,
            visible_at,
            not_before: 0,
            dispatched_at: 0,
            has_asked: false,
        };
        if message.attempts > self.terms.max_attempts {
            self.end(free, Ending::Bury(DeadReason::Exhausted));
        } else if self.is_stale(now, free, self.waiting_before(free)) {
            self.end(free, Ending::Bury(DeadReason::Stale));
        }
        Admission::Held
    }

    /// The receive is over; it brought `count` messages, which were offered before.
    pub fn received(&mut self, now: u64, count: u32) {
        self.advance(now);
        self.receiving = None;
        self.is_queue_empty = count == 0;
    }

    /// The message's token has come. False says that the message does not want it any more, so the
    /// host gives it back.
    pub fn granted(&mut self, now: u64, id: u64) -> bool {
        self.advance(now);
        let Some(index) = self.find(id, |phase| phase == Phase::Asked) else { return false };
        self.slots.as_mut()[index].phase = Phase::Granted;
        true
    }

    /// What became of the message's call. A message whose call is not made yet can be
    /// [`Done`](EgressResponse::Done) too, if a record says that an earlier delivery was.
    pub fn response(&mut self, now: u64, id: u64, response: EgressResponse) {
        let now = self.advance(now);
        if response == EgressResponse::Done
            && let Some(index) = self
                .find(id, |phase| matches!(phase, Phase::Waiting | Phase::Asked | Phase::Granted))
        {
            self.finish(index);
            return;
        }
        let Some(index) = self.find(id, |phase| matches!(phase, Phase::Sent | Phase::Fenced))
        else {
            return;
        };
        let slot = self.slots.as_ref()[index];
        let message = slot.message;
        match response {
            EgressResponse::Done => self.learn(now.saturating_sub(slot.dispatched_at)),
            EgressResponse::Held { .. } | EgressResponse::Busy => self.counts.throttled += 1,
            EgressResponse::Failed { .. } | EgressResponse::Refused => self.counts.failed += 1,
        }
        if let EgressResponse::Held { hold } = response {
            self.hold_until(now.saturating_add(self.hold_or_blind(hold)));
        }
        if slot.phase == Phase::Fenced {
            self.end(index, Ending::Drop);
            return;
        }
        match response {
            EgressResponse::Done => self.finish(index),
            EgressResponse::Refused => self.end(index, Ending::Bury(DeadReason::Permanent)),
            EgressResponse::Held { hold } => {
                let hold = self.hold_or_blind(hold);
                let delay = hold.saturating_add(part(&message, self.terms.jitter));
                if hold <= self.terms.keep {
                    self.wait_in_hand(index, now.saturating_add(delay));
                } else {
                    self.give_back(now, index, delay, false);
                }
            }
            EgressResponse::Busy => {
                let delay = self.back_off(&message);
                self.give_back(now, index, delay, false);
            }
            EgressResponse::Failed { .. } if message.attempts >= self.terms.max_attempts => {
                self.end(index, Ending::Bury(DeadReason::Exhausted));
            }
            EgressResponse::Failed { retry: Some(wait) } => {
                self.slots.as_mut()[index].message.attempts += 1;
                self.wait_in_hand(index, now.saturating_add(wait));
            }
            EgressResponse::Failed { retry: None } => {
                let delay = self.back_off(&message);
                self.give_back(now, index, delay, true);
            }
        }
    }

    /// Whether the message has reached the dead-letter queue. One that has not returns.
    pub fn dead_lettered(&mut self, now: u64, id: u64, is_there: bool) {
        let now = self.advance(now);
        let Some(index) = self.find(id, |phase| phase == Phase::Burying) else { return };
        if !is_there {
            let delay = self.back_off(&self.slots.as_ref()[index].message);
            self.give_back(now, index, delay, false);
        } else if self.terms.order == EgressOrder::Partition {
            self.finish(index);
        } else {
            self.slots.as_mut()[index] = HeldMessage::FREE;
        }
    }

    /// Nobody may call before `until`. The latest of several holds counts, in any order.
    pub fn held(&mut self, now: u64, until: u64) {
        self.advance(now);
        self.held_until = self.held_until.max(until);
    }

    /// How many calls the breaker lets through from now on: `None` for all, 0 while it is open, and
    /// the number of probes while it is half-open.
    pub fn breaker(&mut self, now: u64, probes: Option<u32>) {
        let now = self.advance(now);
        self.probes = probes;
        self.note_block(now);
    }

    /// Whether the store of the limits answers. While it does not, no message leaves.
    pub fn store(&mut self, now: u64, is_up: bool) {
        let now = self.advance(now);
        self.is_store_up = is_up;
        self.note_block(now);
    }

    /// A partition is assigned, to be read from `position`; the generation is that of the
    /// assignment. The client has forgotten any pause of it. False says that no slot is free.
    pub fn assign(&mut self, now: u64, partition: u32, generation: u64, position: u64) -> bool {
        self.advance(now);
        self.fence(partition);
        let slots = self.partitions.as_mut();
        let of_it =
            slots.iter().position(|slot| slot.stage != Stage::Free && slot.partition == partition);
        let free = of_it.or_else(|| slots.iter().position(|slot| slot.stage == Stage::Free));
        let Some(free) = free else { return false };
        slots[free] = EgressPartition {
            stage: Stage::Assigned,
            partition,
            generation,
            next: position,
            committed: position,
            ..EgressPartition::FREE
        };
        true
    }

    /// A partition is taken away. What is finished is committed once more; what waits is dropped,
    /// and the outcome of what was sent means nothing any more.
    pub fn revoke(&mut self, now: u64, partition: u32) {
        self.advance(now);
        let Some(slot) = self.partition_of(partition) else { return };
        let (generation, next) = (slot.generation, slot.next);
        let last = self.first_unfinished(partition, generation, next);
        if let Some(slot) = self.partition_of(partition) {
            slot.stage = Stage::Revoked;
            slot.next = last;
        }
        self.fence(partition);
    }

    /// Nothing new is received. What waits returns at once, and what was sent ends as it does.
    pub fn stop(&mut self, now: u64) {
        self.advance(now);
        self.is_stopping = true;
    }

    /// The time between two tokens, which a controller may change.
    pub fn set_interval(&mut self, interval: u64) {
        self.terms.interval = interval;
    }

    // --- what to do ---------------------------------------------------------------------------

    /// The next thing to do; `None` when there is nothing at this time.
    pub fn poll(&mut self, now: u64) -> Option<EgressAction> {
        let now = self.advance(now);
        let blocked = self.is_blocked(now);
        self.end_what_waits(now);
        self.tell_hold(now)
            .or_else(|| self.take_unused_token())
            .or_else(|| self.take_ending())
            .or_else(|| self.commit())
            .or_else(|| self.seek())
            .or_else(|| self.pause_or_resume(now, blocked))
            .or_else(|| self.extend(now))
            .or_else(|| if blocked { self.take_token_back() } else { self.dispatch(now) })
            .or_else(|| self.release_permits())
            .or_else(|| if blocked || self.is_stopping { None } else { self.ask(now) })
    }

    /// When to poll again if nothing happens before; `None` if there is no need.
    pub fn wake_at(&self) -> Option<u64> {
        let now = self.now;
        let mut at = u64::MAX;
        let mut consider = |time: u64| {
            if time > now {
                at = at.min(time);
            }
        };
        consider(self.held_until);
        if let Some(since) = self.blocked_since {
            consider(since.saturating_add(self.terms.keep));
        }
        for slot in self.slots.as_ref() {
            if !slot.is_waiting() && !matches!(slot.phase, Phase::Sent | Phase::Burying) {
                continue;
            }
            consider(slot.visible_at.saturating_sub(self.terms.visibility / 2));
            if slot.is_waiting() {
                consider(slot.visible_at);
                consider(slot.not_before);
                if slot.message.deadline != u64::MAX {
                    consider(slot.message.deadline.saturating_sub(self.p50).saturating_add(1));
                }
            }
        }
        for partition in self.partitions.as_ref().iter().filter(|each| each.is_assigned()) {
            consider(partition.resume_at);
        }
        (at != u64::MAX).then_some(at)
    }

    /// Whether nothing is in hand, no receive is under way and every permit is given back: after
    /// [`stop`](Self::stop), the host may end.
    pub fn is_idle(&self) -> bool {
        self.in_hand() == 0 && self.receiving.is_none() && self.permits == 0
    }

    /// What was counted.
    pub const fn counts(&self) -> EgressCounts {
        self.counts
    }

    /// What it is doing.
    pub fn gauges(&self) -> EgressGauges {
        let held = || self.slots.as_ref().iter().filter(|slot| slot.is_in_hand());
        let count = |found: usize| u32::try_from(found).unwrap_or(u32::MAX);
        let blocked = self.is_blocked(self.now);
        EgressGauges {
            waiting: self.waiting(),
            in_flight: count(held().filter(|slot| slot.phase == Phase::Sent).count()),
            permits: self.permits,
            oldest: held().map(|slot| slot.message.sent_at).min(),
            held_until: (self.held_until > self.now).then_some(self.held_until),
            is_blocked: blocked,
            p50: self.p50,
        }
    }

    /// The time in which `backlog` messages of the queue, and those in hand, will have left, at the
    /// interval of the tokens and after the hold.
    pub fn drain_time(&self, backlog: u64) -> u64 {
        let hold = self.held_until.saturating_sub(self.now);
        let messages = backlog.saturating_add(u64::from(self.waiting()));
        hold.saturating_add(messages.saturating_mul(self.terms.interval))
    }

    // --- admission ----------------------------------------------------------------------------

    /// Whether a record is new.
    fn record(&mut self, message: &EgressMessage) -> Admission {
        let (partition, offset) = (message.partition, message.offset);
        let in_hand = self.slots.as_ref().iter().any(|slot| {
            (slot.is_unfinished() || slot.phase == Phase::Done)
                && slot.message.partition == partition
                && slot.message.offset == offset
                && slot.message.generation == message.generation
        });
        let Some(slot) = self.partition_of(partition) else { return Admission::Fenced };
        if slot.generation != message.generation {
            return Admission::Fenced;
        }
        if slot.must_seek {
            return Admission::NotTaken;
        }
        if in_hand || offset < slot.next {
            slot.next = slot.next.max(offset.saturating_add(1));
            return Admission::Duplicate;
        }
        Admission::Held
    }

    // --- how messages end ---------------------------------------------------------------------

    /// Ends what waits and cannot go on waiting.
    fn end_what_waits(&mut self, now: u64) {
        for index in 0..self.slots.as_ref().len() {
            let slot = &self.slots.as_ref()[index];
            if !slot.is_waiting() {
                continue;
            }
            let message = slot.message;
            let is_broker_done = self.terms.visibility > 0 && self.is_at_cap(slot);
            if now >= slot.visible_at {
                self.counts.dropped += 1;
                self.end(index, Ending::Drop);
            } else if self.is_stale(now, index, 0) {
                self.end(index, Ending::Bury(DeadReason::Stale));
            } else if self.is_stopping
                || (is_broker_done
                    && now >= slot.visible_at.saturating_sub(self.terms.visibility / 2))
            {
                self.give_back(now, index, 0, false);
            } else if self.terms.order != EgressOrder::Partition {
                let hold = self.held_until.saturating_sub(now);
                let gives_up = self
                    .blocked_since
                    .is_some_and(|since| now >= since.saturating_add(self.terms.keep));
                if hold > self.terms.keep {
                    let jitter = part(&message, self.terms.jitter);
                    self.give_back(now, index, hold.saturating_add(jitter), false);
                } else if gives_up {
                    let delay = self.back_off(&message);
                    self.give_back(now, index, delay, false);
                }
            }
        }
    }

    /// Whether the answer would come after the deadline, if `before` messages leave first.
    fn is_stale(&self, now: u64, index: usize, before: u32) -> bool {
        let slot = &self.slots.as_ref()[index];
        let ready = now.max(slot.not_before).max(self.held_until);
        let leaves = ready.saturating_add(self.terms.interval.saturating_mul(before.into()));
        leaves.saturating_add(self.p50) > slot.message.deadline
    }

    fn end(&mut self, index: usize, ending: Ending) {
        self.slots.as_mut()[index].phase = Phase::Ending(ending);
    }

    /// The message succeeded, or is in the dead-letter queue.
    fn finish(&mut self, index: usize) {
        if self.terms.order != EgressOrder::Partition {
            self.end(index, Ending::Ack);
            return;
        }
        if self.slots.as_ref()[index].phase != Phase::Burying {
            self.counts.acked += 1;
        }
        self.slots.as_mut()[index].phase = Phase::Done;
    }

    /// Keeps a message in hand for another call, for which it needs another token.
    fn wait_in_hand(&mut self, index: usize, not_before: u64) {
        let slot = &mut self.slots.as_mut()[index];
        slot.phase = Phase::Waiting;
        slot.not_before = not_before;
    }

    /// Sends a message back to its queue, with those that must stay behind it.
    fn give_back(&mut self, now: u64, index: usize, delay: u64, counted: bool) {
        let HeldMessage { message, seq, .. } = self.slots.as_ref()[index];
        self.counts.returned += 1;
        if self.terms.order == EgressOrder::Partition {
            self.end(index, Ending::Drop);
            let Some(partition) = self.partition_of(message.partition) else { return };
            if message.offset < partition.next {
                partition.next = message.offset;
                partition.must_seek = true;
            }
            partition.resume_at = partition.resume_at.max(now.saturating_add(delay));
            let is_first = partition
                .failed
                .is_none_or(|(offset, _)| message.offset <= offset || offset < partition.committed);
            if counted && is_first {
                partition.failed = Some((message.offset, message.attempts));
            }
            for other in self.slots.as_mut() {
                if other.is_waiting()
                    && other.message.partition == message.partition
                    && other.message.offset > message.offset
                {
                    other.phase = Phase::Ending(Ending::Drop);
                }
            }
            return;
        }
        self.end(index, Ending::Return { delay, counted });
        if self.terms.order == EgressOrder::Key && message.key != 0 {
            for other in self.slots.as_mut() {
                if other.is_waiting() && other.message.key == message.key && other.seq > seq {
                    self.counts.returned += 1;
                    other.phase = Phase::Ending(Ending::Return { delay, counted: false });
                }
            }
        }
    }

    /// Ends what waits of a partition, and makes the outcome of what was sent mean nothing.
    fn fence(&mut self, partition: u32) {
        if self.terms.order != EgressOrder::Partition {
            return;
        }
        for slot in self.slots.as_mut().iter_mut().filter(|s| s.message.partition == partition) {
            match slot.phase {
                Phase::Waiting
                | Phase::Asked
                | Phase::Granted
                | Phase::Burying
                | Phase::Ending(_) => slot.phase = Phase::Ending(Ending::Drop),
                Phase::Sent => slot.phase = Phase::Fenced,
                Phase::Done if slot.has_asked => slot.phase = Phase::Ending(Ending::Drop),
                Phase::Done => *slot = HeldMessage::FREE,
                Phase::Free | Phase::Fenced => {}
            }
        }
    }

    /// Gives up the token of a message that will not be dispatched.
    fn take_unused_token(&mut self) -> Option<EgressAction> {
        let index = self.oldest(|slot| slot.has_asked && !slot.is_waiting())?;
        let slot = &mut self.slots.as_mut()[index];
        slot.has_asked = false;
        Some(EgressAction::GiveBack(slot.message.id))
    }

    /// Tells how the oldest message that ends does.
    fn take_ending(&mut self) -> Option<EgressAction> {
        let index = self.oldest(|slot| matches!(slot.phase, Phase::Ending(_)))?;
        let slot = &mut self.slots.as_mut()[index];
        let Phase::Ending(ending) = slot.phase else { return None };
        let id = slot.message.id;
        let Ending::Bury(reason) = ending else {
            *slot = HeldMessage::FREE;
            return Some(match ending {
                Ending::Ack => {
                    self.counts.acked += 1;
                    EgressAction::Ack(id)
                }
                Ending::Return { delay, counted } => EgressAction::Return { id, delay, counted },
                Ending::Drop | Ending::Bury(_) => EgressAction::Drop(id),
            });
        };
        slot.phase = Phase::Burying;
        match reason {
            DeadReason::Stale => self.counts.stale += 1,
            DeadReason::Permanent => self.counts.permanent += 1,
            DeadReason::Exhausted => self.counts.exhausted += 1,
        }
        Some(EgressAction::DeadLetter { id, reason })
    }

    // --- partitions ---------------------------------------------------------------------------

    fn partition_of(&mut self, partition: u32) -> Option<&mut EgressPartition> {
        if self.terms.order != EgressOrder::Partition {
            return None;
        }
        let slots = self.partitions.as_mut().iter_mut();
        slots.into_iter().find(|slot| slot.is_assigned() && slot.partition == partition)
    }

    /// The first offset of a partition that is not finished.
    fn first_unfinished(&self, partition: u32, generation: u64, next: u64) -> u64 {
        let unfinished = self.slots.as_ref().iter().filter(|slot| {
            slot.is_unfinished()
                && slot.message.partition == partition
                && slot.message.generation == generation
        });
        unfinished.map(|slot| slot.message.offset).fold(next, u64::min)
    }

    fn commit(&mut self) -> Option<EgressAction> {
        for index in 0..self.partitions.as_ref().len() {
            let EgressPartition { stage, partition, generation, next, committed, .. } =
                self.partitions.as_ref()[index];
            let offset = match stage {
                Stage::Free => continue,
                Stage::Assigned => self.first_unfinished(partition, generation, next),
                Stage::Revoked => next,
            };
            let slot = &mut self.partitions.as_mut()[index];
            if stage == Stage::Revoked {
                *slot = EgressPartition::FREE;
            }
            if offset <= committed {
                continue;
            }
            slot.committed = offset;
            for slot in self.slots.as_mut() {
                if slot.phase == Phase::Done
                    && slot.message.partition == partition
                    && slot.message.offset < offset
                {
                    *slot = HeldMessage::FREE;
                }
            }
            return Some(EgressAction::Commit { partition, offset });
        }
        None
    }

    fn seek(&mut self) -> Option<EgressAction> {
        let mut slots = self.partitions.as_mut().iter_mut();
        let slot = slots.find(|slot| slot.is_assigned() && slot.must_seek)?;
        slot.must_seek = false;
        Some(EgressAction::Seek { partition: slot.partition, offset: slot.next })
    }

    fn pause_or_resume(&mut self, now: u64, blocked: bool) -> Option<EgressAction> {
        let (waiting, in_hand) = (self.waiting(), self.in_hand());
        let has_slot = self.slots.as_ref().iter().any(|slot| slot.phase == Phase::Free);
        let is_open = !blocked && !self.is_stopping && has_slot && in_hand < self.permits;
        let has_room = is_open && waiting < self.terms.ahead;
        // A client loses what it has fetched when it pauses, so it resumes for more than one record.
        let has_much_room = is_open && waiting <= self.terms.ahead / 2;
        for slot in self.partitions.as_mut().iter_mut().filter(|slot| slot.is_assigned()) {
            let is_due = now >= slot.resume_at;
            if slot.is_paused && is_due && has_much_room {
                slot.is_paused = false;
                return Some(EgressAction::Resume(slot.partition));
            }
            if !slot.is_paused && (!is_due || !has_room) {
                slot.is_paused = true;
                return Some(EgressAction::Pause(slot.partition));
            }
        }
        None
    }

    // --- calls --------------------------------------------------------------------------------

    fn tell_hold(&mut self, now: u64) -> Option<EgressAction> {
        let until = self.hold_to_tell.take()?;
        (until > now).then(|| EgressAction::Hold(until - now))
    }

    fn extend(&mut self, now: u64) -> Option<EgressAction> {
        let visibility = self.terms.visibility;
        if visibility == 0 {
            return None;
        }
        let index = self.oldest(|slot| {
            (slot.is_waiting() || matches!(slot.phase, Phase::Sent | Phase::Burying))
                && now < slot.visible_at
                && now >= slot.visible_at.saturating_sub(visibility / 2)
                && !self.is_at_cap(slot)
        })?;
        let cap = self.cap(&self.slots.as_ref()[index]);
        let slot = &mut self.slots.as_mut()[index];
        slot.visible_at = now.saturating_add(visibility).min(cap);
        Some(EgressAction::Extend { id: slot.message.id, by: slot.visible_at - now })
    }

    /// Gives up the token of a message that cannot leave.
    fn take_token_back(&mut self) -> Option<EgressAction> {
        let index = self.oldest(|slot| slot.has_asked && slot.is_waiting())?;
        let slot = &mut self.slots.as_mut()[index];
        slot.has_asked = false;
        slot.phase = Phase::Waiting;
        Some(EgressAction::GiveBack(slot.message.id))
    }

    fn dispatch(&mut self, now: u64) -> Option<EgressAction> {
        if self.in_hand() > self.permits {
            return None;
        }
        let index = self.oldest(|slot| slot.phase == Phase::Granted)?;
        self.probes = self.probes.map(|probes| probes.saturating_sub(1));
        self.note_block(now);
        self.counts.dispatched += 1;
        let slot = &mut self.slots.as_mut()[index];
        slot.phase = Phase::Sent;
        slot.has_asked = false;
        slot.dispatched_at = now;
        Some(EgressAction::Dispatch(slot.message.id))
    }

    /// Asks for a token, for permits or for messages.
    fn ask(&mut self, now: u64) -> Option<EgressAction> {
        let ready = self.oldest(|slot| {
            slot.phase == Phase::Waiting && slot.not_before <= now && self.is_first_of_key(slot)
        });
        if let Some(index) = ready {
            let slot = &mut self.slots.as_mut()[index];
            slot.phase = Phase::Asked;
            slot.has_asked = true;
            return Some(EgressAction::Acquire(slot.message.id));
        }
        let missing = self.wanted_permits().saturating_sub(self.permits + self.permits_asked);
        if missing > 0 {
            self.permits_asked += missing;
            return Some(EgressAction::AcquirePermits(missing));
        }
        let free = self.slots.as_ref().iter().filter(|slot| slot.phase == Phase::Free).count();
        let count = self
            .terms
            .batch
            .min(self.permits.saturating_sub(self.in_hand()))
            .min(self.terms.ahead.saturating_sub(self.waiting()))
            .min(u32::try_from(free).unwrap_or(u32::MAX));
        if count == 0 || self.receiving.is_some() {
            return None;
        }
        self.receiving = Some(count);
        Some(EgressAction::Receive(count))
    }

    fn release_permits(&mut self) -> Option<EgressAction> {
        let receiving = self.receiving.unwrap_or(0);
        let keeps = match (self.is_stopping, self.is_queue_empty) {
            (true, _) => self.in_hand() + receiving,
            (false, true) => self.wanted_permits().max(self.in_hand() + receiving),
            (false, false) => return None,
        };
        let count = self.permits.saturating_sub(keeps);
        self.permits -= count;
        (count > 0).then_some(EgressAction::ReleasePermits(count))
    }

    /// How many permits there is use for: those of what is in hand, and those of the next receive.
    /// An empty queue needs one, so that an idle worker does not keep permits from a busy one.
    fn wanted_permits(&self) -> u32 {
        let room = self.terms.ahead.saturating_sub(self.waiting()).min(self.terms.batch);
        let next = if self.is_queue_empty { room.min(1) } else { room };
        self.in_hand().saturating_add(next).min(self.terms.concurrency)
    }

    /// Whether nothing of the same key came before the message and is still in hand.
    fn is_first_of_key(&self, slot: &HeldMessage) -> bool {
        let message = &slot.message;
        let is_before = |other: &HeldMessage| {
            other.is_in_hand()
                && other.seq < slot.seq
                && other.message.key == message.key
                && (self.terms.order == EgressOrder::Key
                    || other.message.partition == message.partition)
        };
        self.terms.order == EgressOrder::None
            || message.key == 0
            || !self.slots.as_ref().iter().any(is_before)
    }

    // --- the gate -----------------------------------------------------------------------------

    fn is_blocked(&self, now: u64) -> bool {
        self.held_until > now || self.is_shut()
    }

    /// Whether nothing may leave, for a time that nobody knows.
    fn is_shut(&self) -> bool {
        !self.is_store_up || self.probes == Some(0)
    }

    fn note_block(&mut self, now: u64) {
        self.blocked_since =
            if self.is_shut() { Some(self.blocked_since.unwrap_or(now)) } else { None };
    }

    fn hold_until(&mut self, until: u64) {
        self.held_until = self.held_until.max(until);
        self.hold_to_tell = Some(self.held_until);
    }

    const fn hold_or_blind(&self, hold: u64) -> u64 {
        if hold == 0 { self.terms.blind_hold } else { hold }
    }

    // --- sums ---------------------------------------------------------------------------------

    /// The machine's time, which does not step back.
    fn advance(&mut self, now: u64) -> u64 {
        self.now = self.now.max(now);
        self.now
    }

    /// Moves the estimate of the median by a sixteenth towards a call's time.
    fn learn(&mut self, took: u64) {
        self.p50 = match self.p50 {
            0 => took,
            p50 if took > p50 => p50.saturating_add((p50 / 16).max(1)),
            p50 if took < p50 => p50 - (p50 / 16).max(1),
            p50 => p50,
        };
    }

    /// The wait before a failed message is tried again: half of a bound that doubles with each
    /// attempt, and a random part of the other half.
    fn back_off(&self, message: &EgressMessage) -> u64 {
        let doublings = message.attempts.saturating_sub(1).min(63);
        let bound = self.terms.back_off.saturating_mul(1 << doublings).min(self.terms.max_back_off);
        bound / 2 + part(message, bound - bound / 2)
    }

    fn cap(&self, slot: &HeldMessage) -> u64 {
        slot.message.received_at.saturating_add(self.terms.max_visibility)
    }

    fn is_at_cap(&self, slot: &HeldMessage) -> bool {
        slot.visible_at >= self.cap(slot)
    }

    fn in_hand(&self) -> u32 {
        let count = self.slots.as_ref().iter().filter(|slot| slot.is_in_hand()).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    fn waiting(&self) -> u32 {
        let count = self.slots.as_ref().iter().filter(|slot| slot.is_waiting()).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// How many messages that wait came before one.
    fn waiting_before(&self, index: usize) -> u32 {
        let seq = self.slots.as_ref()[index].seq;
        let before = |slot: &&HeldMessage| slot.is_waiting() && slot.seq < seq;
        u32::try_from(self.slots.as_ref().iter().filter(before).count()).unwrap_or(u32::MAX)
    }

    fn find(&self, id: u64, is_phase: impl Fn(Phase) -> bool) -> Option<usize> {
        let is_it = |slot: &HeldMessage| slot.message.id == id && is_phase(slot.phase);
        self.slots.as_ref().iter().position(is_it)
    }

    fn oldest(&self, is_wanted: impl Fn(&HeldMessage) -> bool) -> Option<usize> {
        let slots = self.slots.as_ref().iter().enumerate();
        let wanted = slots.filter(|(_, slot)| is_wanted(slot));
        wanted.min_by_key(|(_, slot)| slot.seq).map(|(index, _)| index)
    }
}

/// A random part of `most`, from 0 to all of it, which each attempt of a message chooses anew.
fn part(message: &EgressMessage, most: u64) -> u64 {
    let random = message.random.rotate_left(message.attempts.wrapping_mul(13) % 64);
    let part = (u128::from(random) * (u128::from(most) + 1)) >> 64;
    u64::try_from(part).unwrap_or(most)
}
