//! The waiting line of one bucket in one process: who waits for tokens, and the slots that they have
//! been reserved.

mod action;
mod slots;
#[cfg(test)]
mod tests;
mod tokens;

use std::collections::VecDeque;

use tidegate_core::{Charge, Cost, Decision, MAX_SPAN, Operation, Reserved, TieredDecision};

use crate::error::Error;
use slots::{Brought, Slot, Slots};
use tokens::Tokens;

pub use action::{Action, Asked, Cancelled, LineOptions, Waiting};

/// A look at the bucket is made when nothing has been heard of it for this long before a slot: a
/// `hold` of another process reaches waiters within this time.
pub const LOOK_INTERVAL: u64 = 100_000_000;

/// How long before a slot the look at the bucket is made, so that the slot need not wait for the
/// answer.
const LOOK_AHEAD: u64 = 25_000_000;

/// First come, first served, among callers that may leave.
///
/// Slots and waiters are apart. A slot is a charge of the store's bucket for a time to come, made by
/// [`Operation::Reserve`](tidegate_core::Operation::Reserve); when its time has come, its tokens go
/// to whoever is first then. So a waiter that leaves lets all others move up, and what is left over
/// is the last slot: it is cancelled in the store if that is exact, and otherwise kept for the next
/// caller until its time has passed.
///
/// The line is a pure machine. It gets the time and what has happened, and says through
/// [`next_action`](Self::next_action) what its driver must do; every call takes the time in
/// nanoseconds on one clock that does not step back. After each call the driver must take all
/// actions, and call [`tick`](Self::tick) when [`due`](Self::due) says so.
///
/// The tokens of a smooth limit come one by one: a slot for five is five slots for one, of which the
/// last has the time that the store named.
///
/// Bound: tokens are handed out at the time of their slot or later, never earlier. They are kept
/// beyond it only while the first waiter needs more, and never more than the burst: the bucket owes
/// all that time, so it could have kept them itself. With several processes a stretch of time can
/// therefore have up to the largest cost less one more than the bucket's bound for each process, and
/// nothing more where all costs are 1. Under several limits that holds with one process too, and where
/// their costs differ it is the burst instead of the largest cost: tokens of one limit may wait for
/// those of another. Tokens that come back ([`returned`](Self::returned)) are
/// handed out at once, with the bound of [`credit`](tidegate_core::credit).
#[derive(Debug)]
pub struct Line {
    options: LineOptions,
    waiters: VecDeque<Waiter>,
    slots: Slots,
    /// Tokens whose time has come, for the first waiter.
    in_hand: Tokens,
    /// Tokens of reservations that have not been answered yet.
    asked: Tokens,
    /// The sum of the waiters' costs.
    wanted: Tokens,
    /// Whether a waiter may be without a slot of its own: it counts on a reservation that was made
    /// for another, whose delay is not known yet.
    is_unsure: bool,
    /// Charges that are being cancelled.
    cancelling: usize,
    /// The bucket gives nothing before this time.
    held_until: u64,
    /// When that was learned.
    held_since: u64,
    /// When the last look was sent that has been answered.
    looked_at: u64,
    is_looking: bool,
    /// The bucket as the last reservation left it.
    latest: Option<TieredDecision>,
    last_id: u64,
    /// Whether a caller has had costs that differ from limit to limit. Tokens of one limit could then
    /// come long before those of another, so no slot is asked for that comes before the last one.
    is_mixed: bool,
    /// The last caller for whom tokens were asked. In a mixed line those behind have yet to be.
    last_asked: u64,
    actions: VecDeque<Action>,
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    cost: Tokens,
    /// The latest acceptable time; [`u64::MAX`] if any is.
    deadline: u64,
}

impl Line {
    /// A line in which nobody waits.
    pub const fn new(options: LineOptions) -> Self {
        Self {
            options,
            waiters: VecDeque::new(),
            slots: Slots::new(),
            in_hand: Tokens::NONE,
            asked: Tokens::NONE,
            wanted: Tokens::NONE,
            is_unsure: false,
            cancelling: 0,
            held_until: 0,
            held_since: 0,
            looked_at: 0,
            is_looking: false,
            latest: None,
            last_id: 0,
            is_mixed: false,
            last_asked: 0,
            actions: VecDeque::new(),
        }
    }

    /// Gives callers numbers above `last`, so that none is that of a caller of an earlier line.
    #[must_use]
    pub const fn numbered_after(mut self, last: u64) -> Self {
        self.last_id = last;
        self
    }

    /// The number of the caller that came last.
    pub const fn last_id(&self) -> u64 {
        self.last_id
    }

    /// A caller wants tokens within `max_wait`: at least 1 of one limit, and at most its burst of
    /// each. The number it gets names it in [`Action::Answer`] and [`leave`](Self::leave).
    pub fn arrive(&mut self, now: u64, cost: impl Into<Cost>, max_wait: u64) -> u64 {
        let cost = self.options.tokens(&cost.into());
        self.tick(now);
        self.last_id += 1;
        let id = self.last_id;
        let is_full = self.waiters.len() >= self.options.max_waiting
            || self.wanted.plus(cost).most() > MAX_SPAN;
        if is_full {
            // The wait is not known while all reservations are under way; a refusal never says "at once".
            let wait = self.slots.last().map_or(0, |last| last.at.saturating_sub(now)).max(1);
            self.refuse(id, wait, wait);
            return id;
        }
        self.is_mixed |= self.options.cost(cost).uniform().is_none();
        self.waiters.push_back(Waiter { id, cost, deadline: now.saturating_add(max_wait) });
        self.wanted = self.wanted.plus(cost);
        let missing = self.missing();
        if self.is_mixed && self.is_asking() {
            // This caller's slot comes after that of the reservation under way.
            self.is_unsure = true;
        } else if !missing.is_none() {
            self.ask(now, id, missing);
        } else {
            // Slots that others have left are enough.
            self.is_unsure |= self.is_asking();
            self.refuse_last_if_late(now);
        }
        self.serve();
        id
    }

    /// A caller does not wait any more. Nothing happens if it has been answered.
    pub fn leave(&mut self, now: u64, id: u64) {
        if self.remove(id).is_some() {
            self.tick(now);
            self.cancel_surplus(now);
        }
    }

    /// A caller was answered that it may spend `tokens`, and the answer did not reach it: they go to
    /// the next. Answers how many nobody waits for; those are to be credited to the store. During a
    /// hold they are lost, because a credit would shorten it.
    pub fn unclaimed(&mut self, now: u64, tokens: impl Into<Cost>) -> Cost {
        let tokens = tokens.into();
        if now < self.held_until {
            return Cost::default();
        }
        let taken = self.returned(now, tokens);
        let left = self.options.tokens(&tokens).without(self.options.tokens(&taken));
        self.options.cost(left)
    }

    /// The answer to [`Action::Reserve`], which was sent at the time `sent`.
    pub fn reserved(&mut self, now: u64, sent: u64, asked: Asked, answer: Result<Reserved, Error>) {
        let tokens = self.options.tokens(&asked.cost);
        self.asked = self.asked.without(tokens);
        match answer {
            Ok(Reserved::Slot(slot)) => {
                self.latest = Some(slot.decision);
                let at = now.saturating_add(slot.delay);
                let charge = slot.charge;
                let is_before_hold = sent < self.held_since;
                let own = Slot { at, tokens, charge, made: sent, is_fixed: false, is_before_hold };
                let starts_at = own.starts_at(self.options.width);
                // An earlier slot than others goes to an earlier waiter.
                self.is_unsure |= !self.slots.insert(own);
                if starts_at < self.held_until {
                    if sent < self.held_since {
                        // The reservation was made before the hold, and answered after it.
                        self.hold_until(now, self.held_until);
                    } else {
                        // Tokens that came back have shortened the hold, or a reset has ended it.
                        self.held_until = starts_at;
                    }
                }
            }
            Ok(Reserved::TooFar(decision)) => self.not_reserved(asked.id, Ok(decision)),
            Err(error) => self.not_reserved(asked.id, Err(error)),
        }
        if self.is_unsure {
            self.refuse_late(now);
            self.is_unsure = self.is_asking();
        }
        self.ask_for_missing(now);
        // Before `tick`, which drops slots that have come: if all waiters have left meanwhile, the
        // charge is cancelled instead.
        self.cancel_surplus(now);
        self.tick(now);
        self.cancel_surplus(now);
    }

    /// The answer to [`Action::Cancel`]: whether all of the charge came back. If the store has
    /// failed that is not known, and the slot counts as gone.
    pub fn cancelled(&mut self, now: u64, cancelled: Cancelled, answer: Result<bool, Error>) {
        self.cancelling -= 1;
        let Cancelled(slot) = cancelled;
        let stays = self.options.cancels_whole && slot.at > now && slot.at >= self.held_until;
        if stays && matches!(answer, Ok(false)) {
            let mut slot = Slot { is_fixed: true, ..slot };
            slot.remove_before(self.held_until, self.options.width);
            self.slots.insert(slot);
        }
    }

    /// The answer to [`Action::Look`], which was sent at the time `sent`: how long the bucket was
    /// still held then. A failure tells nothing, and slots keep their time.
    pub fn looked(&mut self, now: u64, sent: u64, answer: Result<u64, Error>) {
        self.is_looking = false;
        self.looked_at = self.looked_at.max(sent);
        if let Ok(held) = answer
            && held > 0
        {
            self.held(now, sent.saturating_add(held));
        }
        self.tick(now);
    }

    /// The bucket is held until this time: tokens before it are void, and their waiters are reserved
    /// others after it.
    pub fn held(&mut self, now: u64, until: u64) {
        if until <= self.held_until {
            return;
        }
        self.held_until = until;
        self.held_since = now;
        self.hold_until(now, until);
        self.tick(now);
        self.cancel_surplus(now);
    }

    /// The bucket has been made full: all waiters are reserved new slots.
    pub fn restarted(&mut self, now: u64) {
        self.held_until = 0;
        self.slots.clear();
        self.is_unsure |= self.is_asking();
        self.ask_for_missing(now);
    }

    /// An operation that was sent at the time `sent` has been done to the bucket.
    pub fn told(&mut self, now: u64, sent: u64, operation: &Operation) {
        match operation {
            Operation::Hold { wait } => self.held(now, sent.saturating_add(*wait)),
            Operation::Reset => self.restarted(now),
            // See `Operation::changes_hold`.
            _ => {}
        }
    }

    /// Tokens of a charge that were not used come back. Answers how many of them the line hands to
    /// its waiters; the rest is for the store.
    pub fn returned(&mut self, now: u64, tokens: impl Into<Cost>) -> Cost {
        self.tick(now);
        if now < self.held_until {
            return Cost::default();
        }
        let tokens = self.options.tokens(&tokens.into());
        let taken = tokens.min(self.wanted.without(self.in_hand));
        self.in_hand = self.in_hand.plus(taken);
        // With tokens of a slot that has come in part, they may be enough for the first.
        self.tick(now);
        self.cancel_surplus(now);
        self.options.cost(taken)
    }

    /// A reservation of the same bucket is given up, `delay` before its slot. Answers whether the
    /// line takes the slot; otherwise the charge is to be cancelled in the store.
    pub fn adopt(&mut self, now: u64, delay: u64, tokens: impl Into<Cost>, charge: Charge) -> bool {
        self.tick(now);
        let tokens = self.options.tokens(&tokens.into());
        if self.waiters.is_empty() || tokens.is_none() {
            return false;
        }
        let at = now.saturating_add(delay);
        if at < self.held_until {
            return false;
        }
        let is_before_hold = now < self.held_until;
        let mut slot = Slot { at, tokens, charge, made: 0, is_fixed: false, is_before_hold };
        slot.remove_before(self.held_until, self.options.width);
        self.slots.insert(slot);
        self.tick(now);
        self.cancel_surplus(now);
        true
    }

    /// Answers all waiters with an error, and gives all slots back.
    pub fn close(&mut self, now: u64, error: &Error) {
        self.tick(now);
        for Waiter { id, .. } in self.waiters.drain(..) {
            self.actions.push_back(Action::Answer { id, answer: Err(error.clone()) });
        }
        self.wanted = Tokens::NONE;
        self.in_hand = Tokens::NONE;
        self.cancel_surplus(now);
    }

    /// Hands out all tokens whose time has come.
    pub fn tick(&mut self, now: u64) {
        // A first waiter that has left may have kept tokens for those behind it.
        self.serve();
        self.refuse_expired(now);
        while let Some((at, tokens)) = self.next_tokens() {
            if self.must_look(at) && now.saturating_add(LOOK_AHEAD) >= at {
                if !self.is_looking {
                    self.is_looking = true;
                    self.actions.push_back(Action::Look);
                }
                return;
            }
            if at > now {
                return;
            }
            self.slots.take_first(tokens);
            self.in_hand = self.in_hand.plus(tokens);
            self.serve();
            let bursts = Tokens(self.options.bursts);
            if !bursts.covers(self.in_hand) {
                // A bucket never holds more than its burst.
                self.in_hand = self.in_hand.min(bursts);
                self.refuse_late(now);
                self.ask_for_missing(now);
            }
        }
    }

    /// When [`tick`](Self::tick) is to be called next; `None` while there is nothing to wait for.
    pub fn due(&self) -> Option<u64> {
        let next = self.next_tokens().and_then(|(at, _)| match self.must_look(at) {
            false => Some(at),
            true => (!self.is_looking).then(|| at.saturating_sub(LOOK_AHEAD)),
        });
        let expiry = self.first_expiry();
        next.map_or(expiry, |at| Some(expiry.map_or(at, |expiry| at.min(expiry))))
    }

    /// The callers of a mixed line for whom nothing has been asked yet.
    fn queued(&self) -> impl Iterator<Item = &Waiter> {
        let waiters = self.waiters.iter().rev();
        waiters.take_while(|waiter| self.is_mixed && waiter.id > self.last_asked)
    }

    /// When the first of them must be refused.
    fn first_expiry(&self) -> Option<u64> {
        let deadlines = self.queued().map(|waiter| waiter.deadline);
        deadlines.min().filter(|at| *at < u64::MAX).map(|at| at + 1)
    }

    /// Refuses the callers whose time was over before anything could be asked for them.
    fn refuse_expired(&mut self, now: u64) {
        if self.first_expiry().is_none_or(|at| at > now) {
            return;
        }
        let late = self.queued().filter(|waiter| waiter.deadline < now).map(|waiter| waiter.id);
        let wait = self.slots.last().map_or(0, |last| last.at.saturating_sub(now)).max(1);
        for id in late.collect::<Vec<_>>().into_iter().rev() {
            self.remove(id);
            self.refuse(id, wait, wait);
        }
    }

    /// The tokens of the first slot that the first waiter needs, and when they come.
    fn next_tokens(&self) -> Option<(u64, Tokens)> {
        let slot = self.slots.first()?;
        let tokens = match self.waiters.front() {
            Some(first) => first.cost.without(self.in_hand).min(slot.tokens),
            // Without waiters, a slot is cancelled once no reservation is under way.
            None if self.is_asking() && !slot.is_fixed => return None,
            None => slot.tokens,
        };
        // A slot of other limits than the first waiter needs comes whole.
        let tokens = if tokens.is_none() { slot.tokens } else { tokens };
        Some((slot.time_of(tokens, self.options.width), tokens))
    }

    /// What the driver must do next.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The callers, as others can see them.
    pub fn waiting(&self, now: u64) -> Waiting {
        if self.waiters.is_empty() {
            return Waiting::default();
        }
        let until = self.slots.covering(self.wanted.without(self.in_hand), self.options.width);
        Waiting {
            callers: self.waiters.len(),
            tokens: self.wanted.most(),
            until: until.map_or(0, |at| at.saturating_sub(now)),
        }
    }

    /// Whether nobody waits and nothing is left to be done, so that the line can be forgotten.
    pub fn is_idle(&self) -> bool {
        self.waiters.is_empty()
            && self.slots.is_empty()
            && self.actions.is_empty()
            && !self.is_asking()
            && self.cancelling == 0
            && !self.is_looking
    }

    /// Whether the store has yet to answer a reservation.
    pub fn is_asking(&self) -> bool {
        !self.asked.is_none()
    }

    /// Whether somebody waits.
    pub fn has_waiters(&self) -> bool {
        !self.waiters.is_empty()
    }

    /// Whether a hold of another process may have been missed at the time `at` of the first slot.
    fn must_look(&self, at: u64) -> bool {
        let made = self.slots.first().map_or(0, |slot| slot.made);
        self.options.is_shared
            && !self.waiters.is_empty()
            && self.looked_at.max(made).saturating_add(LOOK_INTERVAL) < at
    }

    /// Serves waiters from the tokens in hand, first come, first served.
    fn serve(&mut self) {
        while let Some(first) = self.waiters.front() {
            if !self.in_hand.covers(first.cost) {
                break;
            }
            let Waiter { id, cost, .. } = *first;
            self.waiters.pop_front();
            self.in_hand = self.in_hand.without(cost);
            self.wanted = self.wanted.without(cost);
            let (burst, source) = (self.options.smallest_burst(), self.options.source);
            // Tokens that come back may serve a caller before the store has answered at all.
            let unknown = Decision {
                allowed: true,
                limit: burst,
                remaining: 0,
                retry_after: 0,
                reset_after: 0,
                tier: 0,
                source,
            };
            let answer = Ok(self.latest.unwrap_or_else(|| unknown.into()));
            self.actions.push_back(Action::Answer { id, answer });
        }
        if self.waiters.is_empty() {
            // Tokens whose time has come are lost when nobody waits for them.
            self.in_hand = Tokens::NONE;
        }
    }

    /// The tokens that the waiters need beyond those they have and have asked for.
    fn missing(&self) -> Tokens {
        let have = self.slots.tokens().plus(self.in_hand).plus(self.asked);
        self.wanted.without(have)
    }

    /// A reservation has failed: its waiter is told, unless others have left slots that are enough.
    fn not_reserved(&mut self, id: u64, answer: Result<TieredDecision, Error>) {
        if !self.missing().is_none() && self.remove(id).is_some() {
            self.actions.push_back(Action::Answer { id, answer });
            // Nobody else has lost anything if the others have enough. In a mixed line those behind
            // may not have been judged yet.
            self.is_unsure |= self.is_mixed || !self.missing().is_none();
        } else {
            self.is_unsure = true;
        }
    }

    fn ask(&mut self, now: u64, id: u64, tokens: Tokens) {
        self.last_asked = id;
        let deadline = self.place_of(id).map_or(now, |place| self.waiters[place].deadline);
        let max_wait = if deadline == u64::MAX { u64::MAX } else { deadline.saturating_sub(now) };
        self.asked = self.asked.plus(tokens);
        let cost = self.options.cost(tokens);
        let last = self.slots.last().filter(|_| self.is_mixed);
        let min_wait = last.map_or(0, |last| last.at.saturating_sub(now));
        self.actions.push_back(Action::Reserve(Asked { id, cost, max_wait, min_wait }));
    }

    /// Reserves what is missing, in the order of the waiters: the first have the slots that there
    /// are.
    fn ask_for_missing(&mut self, now: u64) {
        self.refuse_expired(now);
        let mut missing = self.missing();
        let mut from_the_end = Vec::new();
        for waiter in self.waiters.iter().rev() {
            if missing.is_none() {
                break;
            }
            let cost = waiter.cost.min(missing);
            missing = missing.without(cost);
            if !cost.is_none() {
                from_the_end.push((waiter.id, cost));
            }
        }
        if let Some((first, _)) = from_the_end.last() {
            // Slots that were asked for may have been lost since.
            self.last_asked = self.last_asked.min(first - 1);
        }
        // In a mixed line the next is asked for when the first has been answered.
        let most = match self.is_mixed {
            true => usize::from(!self.is_asking()),
            false => from_the_end.len(),
        };
        for (id, cost) in from_the_end.into_iter().rev().take(most) {
            self.ask(now, id, cost);
        }
    }

    fn hold_until(&mut self, now: u64, until: u64) {
        self.slots.hold_until(until, self.options.width);
        self.in_hand = Tokens::NONE;
        self.is_unsure |= self.is_asking();
        self.refuse_late(now);
        self.ask_for_missing(now);
    }

    /// Refuses the last waiter if its tokens come too late for it.
    fn refuse_last_if_late(&mut self, now: u64) {
        let Some(last) = self.waiters.back() else { return };
        let Some(at) = self.slots.covering(self.wanted.without(self.in_hand), self.options.width)
        else {
            return;
        };
        if at > last.deadline {
            let (id, late) = (last.id, at - last.deadline);
            self.remove(id);
            self.refuse(id, late, at - now);
        }
    }

    /// Refuses all waiters whose tokens come too late for them, after slots have been lost. One pass,
    /// because a line may be long.
    fn refuse_late(&mut self, now: u64) {
        let (mut before, mut latest) = (Tokens::NONE, 0);
        let mut brought = Brought::default();
        for waiter in core::mem::take(&mut self.waiters) {
            let had = before.without(self.in_hand);
            let needed = before.plus(waiter.cost).without(self.in_hand);
            // Slots yet to come are not before the end of a hold.
            let covered = self.slots.covering_after(&mut brought, had, needed, self.options.width);
            // Nobody is served before those in front.
            let at = covered.unwrap_or(self.held_until).max(latest);
            if at > waiter.deadline {
                self.wanted = self.wanted.without(waiter.cost);
                self.refuse(waiter.id, at - waiter.deadline, at.saturating_sub(now));
            } else {
                before = before.plus(waiter.cost);
                latest = at;
                self.waiters.push_back(waiter);
            }
        }
    }

    fn refuse(&mut self, id: u64, retry_after: u64, reset_after: u64) {
        let (burst, source) = (self.options.smallest_burst(), self.options.source);
        let (limit, tier) = self.latest.map_or((burst, 0), |latest| (latest.limit, latest.tier));
        let decision = Decision {
            allowed: false,
            limit,
            remaining: 0,
            retry_after,
            reset_after,
            tier,
            source,
        };
        self.actions.push_back(Action::Answer { id, answer: Ok(decision.into()) });
    }

    fn remove(&mut self, id: u64) -> Option<Waiter> {
        let waiter = self.waiters.remove(self.place_of(id)?)?;
        self.wanted = self.wanted.without(waiter.cost);
        Some(waiter)
    }

    fn place_of(&self, id: u64) -> Option<usize> {
        // Ids ascend, because nobody overtakes.
        self.waiters.binary_search_by_key(&id, |waiter| waiter.id).ok()
    }

    /// Cancels the last slots while no waiter needs them. Reservations under way come after them, so
    /// until those are answered no cancel would be exact.
    fn cancel_surplus(&mut self, now: u64) {
        // A charge in several buckets may come back in some of them only, and is then lost.
        let may_fail = !self.options.cancels_whole && self.options.is_shared;
        if self.is_asking() || (may_fail && self.has_waiters()) {
            return;
        }
        if self.waiters.is_empty() {
            self.in_hand = Tokens::NONE;
        }
        while let Some(last) = self.slots.last() {
            let have = self.slots.tokens().plus(self.in_hand);
            if last.is_fixed
                || self.covers_hold(now, last)
                || !have.covers(self.wanted.plus(last.tokens))
            {
                break;
            }
            let Some(slot) = self.slots.remove_last() else { break };
            self.cancelling += 1;
            self.actions.push_back(Action::Cancel(Cancelled(slot)));
        }
    }

    /// Whether cancelling a slot could end the hold: the bucket had it before, and the hold then left
    /// the bucket as it was. A smooth bucket has no token before that of its next slot, so what is
    /// restored there is held too.
    fn covers_hold(&self, now: u64, slot: &Slot) -> bool {
        now < self.held_until && self.options.width == 0 && slot.is_before_hold
    }
}
